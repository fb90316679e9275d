"""API keys: which key may do what, in constant time, and how often a stranger may guess."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.auth.api_keys import (
    MAX_KEY_CHARS,
    Access,
    ApiKey,
    GuessCounter,
    GuessLimits,
    KeyRing,
    Scope,
    parse_keys,
    presented_keys,
    source_of,
)
from bridge.errors import ConfigError, LocalError

RING = KeyRing(parse_keys("read:dashboard-key, admin:operator-key"))


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("only-one", (ApiKey(Scope.ADMIN, "only-one"),)),
        ("read:a", (ApiKey(Scope.READ, "a"),)),
        ("read:a, admin:b ,c", (ApiKey(Scope.READ, "a"), ApiKey(Scope.ADMIN, "b"), ApiKey(Scope.ADMIN, "c"))),
        ("admin:with:colon", (ApiKey(Scope.ADMIN, "with:colon"),)),
        ("read:a,read:a", (ApiKey(Scope.READ, "a"), ApiKey(Scope.READ, "a"))),
    ],
)
def test_keys_of_the_setting(text: str, keys: tuple[ApiKey, ...]) -> None:
    assert parse_keys(text) == keys


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "raed:secret",
            "BRIDGE_API_KEY: key 1 has an unknown scope before its colon; write read:KEY or admin:KEY.",
        ),
        ("read:secret,", "BRIDGE_API_KEY: key 2 is empty; write read:KEY, admin:KEY or KEY."),
        ("admin:", "BRIDGE_API_KEY: key 1 is empty; write read:KEY, admin:KEY or KEY."),
        (
            "sec ret",
            "BRIDGE_API_KEY: key 1 cannot be sent in a header; use up to 512 visible characters.",
        ),
        (
            "secret" + "x" * MAX_KEY_CHARS,
            "BRIDGE_API_KEY: key 1 cannot be sent in a header; use up to 512 visible characters.",
        ),
        (
            "read:secret,admin:secret",
            "BRIDGE_API_KEY: key 2 is there twice with different scopes; remove one of them.",
        ),
    ],
)
def test_a_mistake_in_the_setting_is_named_and_the_key_is_not(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_keys(text)
    assert str(caught.value) == problem
    assert "secret" not in str(caught.value)


def test_a_key_is_not_shown_by_its_repr() -> None:
    assert "operator" not in repr(ApiKey(Scope.ADMIN, "operator-key"))


def test_what_a_key_may_do() -> None:
    read, admin = RING.authorize(["dashboard-key"]), RING.authorize(["operator-key"])
    assert read is not None and admin is not None
    assert (read.scope, admin.scope) == (Scope.READ, Scope.ADMIN)
    assert read.key_id != admin.key_id
    assert len(read.key_id) == 8


@pytest.mark.parametrize("presented", [[], [""], ["dashboard"], ["dashboard-keyy"], ["\udcff"], ["x" * 100_000]])
def test_a_stranger_gets_nothing(presented: list[str]) -> None:
    assert RING.authorize(presented) is None


def test_a_ring_without_keys_lets_nobody_in() -> None:
    ring = KeyRing(())
    assert len(ring) == 0
    assert ring.authorize(["", "a"]) is None


@pytest.mark.parametrize("presented", [["dashboard-key", "operator-key"], ["operator-key", "dashboard-key", "wrong"]])
def test_the_best_of_several_keys_counts(presented: list[str]) -> None:
    access = RING.authorize(presented)
    assert access is not None
    assert access.scope is Scope.ADMIN


def test_old_and_new_key_work_side_by_side() -> None:
    ring = KeyRing(parse_keys("admin:old,admin:new"))
    assert ring.authorize(["old"]) is not None
    assert ring.authorize(["new"]) is not None


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []
    genuine = hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return genuine(one, other)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    for guess in ("operator-key", "dashboard-key", "short", "x" * 5000):
        RING.authorize([guess])
    assert compared == [(32, 32)] * 8  # digests only, and both keys whichever was right


def test_a_key_in_utf_8_is_found_in_a_header_that_was_decoded_as_latin_1() -> None:
    ring = KeyRing(parse_keys("schlüssel€"))
    assert ring.authorize(["schlüssel€".encode().decode("latin-1")]) is not None
    assert ring.authorize(["schlüssel€"]) is not None
    assert ring.authorize(["schlüssel"]) is None


@given(st.lists(st.text(), max_size=4))
def test_nothing_but_a_key_opens(presented: list[str]) -> None:
    access = RING.authorize(presented)
    assert (access is not None) == bool({"dashboard-key", "operator-key"} & set(presented))


@pytest.mark.parametrize(
    ("scope", "needed", "may"),
    [
        (Scope.READ, Scope.READ, True),
        (Scope.READ, Scope.ADMIN, False),
        (Scope.ADMIN, Scope.READ, True),
        (Scope.ADMIN, Scope.ADMIN, True),
    ],
)
def test_scopes(scope: Scope, needed: Scope, may: bool) -> None:
    assert scope.covers(needed) is may


def test_keys_of_the_headers() -> None:
    assert presented_keys(["Bearer a"], ["b"], ["c"]) == ("a", "b", "c")
    assert presented_keys(["bearer  a "], [], []) == ("a",)
    assert presented_keys(["Basic YTpi", "a", "Bearer "], [""], []) == ()
    assert presented_keys([], ["1", "2", "3", "4", "5"], []) == ("1", "2", "3", "4")


def test_access_says_who() -> None:
    assert RING.authorize(["operator-key"]) == Access(Scope.ADMIN, "c9736463")


# --- guesses ---


def counter(sources: int = 100) -> GuessCounter:
    return GuessCounter(GuessLimits(attempts=3, window_s=60.0, sources=sources))


def test_a_source_is_listened_to_until_it_guessed_too_often() -> None:
    guesses = counter()
    waits = []
    for at in (100.0, 110.0, 120.0):
        waits.append(guesses.wait_s("192.0.2.1", at))
        guesses.count("192.0.2.1", at)
    assert waits == [0.0, 0.0, 0.0]
    assert guesses.wait_s("192.0.2.1", 121.0) == 39.0
    assert guesses.wait_s("192.0.2.2", 121.0) == 0.0


def test_a_source_is_listened_to_again_when_its_oldest_guess_is_out_of_the_window() -> None:
    guesses = counter()
    for at in (100.0, 110.0, 120.0):
        guesses.count("192.0.2.1", at)
    assert guesses.wait_s("192.0.2.1", 160.0) == 0.0
    guesses.count("192.0.2.1", 160.0)
    assert guesses.wait_s("192.0.2.1", 161.0) == 9.0


def test_the_table_forgets_who_was_quiet_longest() -> None:
    guesses = counter(sources=2)
    for _ in range(3):
        guesses.count("192.0.2.1", 1.0)
        guesses.count("192.0.2.2", 1.0)
    guesses.count("192.0.2.1", 2.0)
    guesses.count("192.0.2.3", 3.0)
    assert len(guesses) == 2
    assert guesses.wait_s("192.0.2.1", 3.0) > 0
    assert guesses.wait_s("192.0.2.2", 3.0) == 0.0


def test_addresses_of_one_customer_count_together() -> None:
    guesses = counter()
    for host in ("2001:db8::1", "2001:db8::2", "2001:db8::ffff:3"):
        guesses.count(host, 1.0)
    assert guesses.wait_s("2001:db8::4", 2.0) > 0
    assert guesses.wait_s("2001:db8:0:1::4", 2.0) == 0.0


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_what_counts_as_one_source(address: str, source: str) -> None:
    assert source_of(address) == source


@pytest.mark.parametrize("limits", [GuessLimits(attempts=0), GuessLimits(window_s=0.0), GuessLimits(sources=0)])
def test_limits_without_sense_are_refused(limits: GuessLimits) -> None:
    with pytest.raises(LocalError, match="a guess counter needs attempts, a window and room"):
        GuessCounter(limits)
