"""Tokens that carry their claims: genuine, of this call, in time, and short enough for the carrier."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.auth.sealed_tokens import MAX_TOKEN_CHARS, SKEW_S, Sealer
from bridge.auth.tokens import CallClaims, TokenProblem

CLAIMS = CallClaims(
    caller="+15550100", called="+15550199", direction="inbound", call_id="c1", parameters={"forwarded": "é"}
)
ENDS_S = 1_700_000_060.0
TOKEN = "a-random_token"
SEALER = Sealer(("secret",))
SEALED = SEALER.seal(TOKEN, "CA1", CLAIMS, ENDS_S)


def test_what_was_sealed_is_read_by_another_with_the_same_secret() -> None:
    assert Sealer(("secret",)).unseal(SEALED, "CA1", ENDS_S - 60) == CLAIMS


def test_the_token_is_what_is_documented() -> None:
    assert SEALER.seal("t", "CA1", CallClaims(caller="a", called="b", direction="inbound"), 1.5) == (
        "t.WzEuNSx7ImNhbGxlciI6ImEiLCJjYWxsZWQiOiJiIiwiZGlyZWN0aW9uIjoiaW5ib3VuZCJ9XQ.5wxDUoXbs1hI7WNWAz5H2A"
    )


def test_it_shows_the_random_token_first() -> None:
    assert SEALED.startswith(TOKEN + ".")
    assert SEALED.count(".") == 2


@pytest.mark.parametrize(
    ("sealed", "call_sid"),
    [
        (SEALED, "CA2"),
        ("b" + SEALED[1:], "CA1"),
        (SEALED[:-1] + ("A" if SEALED[-1] != "A" else "B"), "CA1"),
        (SEALED.replace(".", "..", 1), "CA1"),
        (SEALED + "=", "CA1"),
        (SEALED + "é", "CA1"),
        (TOKEN, "CA1"),
        ("", "CA1"),
        ("..", "CA1"),
        (SEALED, "\udc80"),
        (SEALED + "A" * MAX_TOKEN_CHARS, "CA1"),
    ],
)
def test_others_are_unknown(sealed: str, call_sid: str) -> None:
    assert SEALER.unseal(sealed, call_sid, ENDS_S - 60) is TokenProblem.UNKNOWN


def test_another_secret_knows_nothing_of_it() -> None:
    assert Sealer(("other",)).unseal(SEALED, "CA1", ENDS_S) is TokenProblem.UNKNOWN
    assert Sealer(("", "")).unseal(SEALED, "CA1", ENDS_S) is TokenProblem.UNKNOWN


def test_while_a_secret_is_rotated_both_are_read_and_the_first_seals() -> None:
    both = Sealer(("new", "secret"))
    assert both.unseal(SEALED, "CA1", ENDS_S) == CLAIMS
    fresh = both.seal(TOKEN, "CA1", CLAIMS, ENDS_S)
    assert Sealer(("new",)).unseal(fresh, "CA1", ENDS_S) == CLAIMS
    assert SEALER.unseal(fresh, "CA1", ENDS_S) is TokenProblem.UNKNOWN


def test_it_ends_when_the_clocks_of_two_machines_allow_no_doubt() -> None:
    assert SEALER.unseal(SEALED, "CA1", ENDS_S + SKEW_S - 0.001) == CLAIMS
    assert SEALER.unseal(SEALED, "CA1", ENDS_S + SKEW_S) is TokenProblem.EXPIRED


def test_without_a_secret_or_with_too_much_to_carry_the_token_is_bare() -> None:
    assert Sealer().seal(TOKEN, "CA1", CLAIMS, ENDS_S) == TOKEN
    long = CallClaims(caller="sip:" + "a" * 300, called="", direction="inbound")
    assert SEALER.seal(TOKEN, "CA1", long, ENDS_S) == TOKEN


def test_a_genuine_one_of_another_version_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.auth.sealed_tokens._Payload", lambda *_fields: ["other"])
    assert SEALER.unseal(SEALER.seal(TOKEN, "CA1", CLAIMS, ENDS_S), "CA1", ENDS_S) is TokenProblem.UNKNOWN


@given(st.text(), st.text())
def test_whatever_comes_is_unknown(sealed: str, call_sid: str) -> None:
    assert SEALER.unseal(sealed, call_sid, ENDS_S) is TokenProblem.UNKNOWN


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_every_claim_survives(caller: str, called: str, call_sid: str) -> None:
    claims = CallClaims(caller=caller, called=called, direction="outbound")
    sealed = SEALER.seal(TOKEN, call_sid, claims, ENDS_S)
    assert sealed == TOKEN or SEALER.unseal(sealed, call_sid, ENDS_S) == claims
