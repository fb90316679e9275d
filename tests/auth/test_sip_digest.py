"""Digest authentication: the RFCs' figures, and a server that cannot be replayed."""

from __future__ import annotations

import base64
import hashlib

import pytest

from bridge.auth.sip_digest import (
    DigestInput,
    DigestOptions,
    DigestOutcome,
    DigestServer,
    DigestVerdict,
    compute_response,
)
from bridge.auth.sip_digest_header import Algorithm, DigestCredentials, Qop, parse_challenges
from bridge.errors import LocalError

REALM = "bridge.example"
NOW = 1_800_000_000.0
OPTIONS = DigestOptions(REALM, nonce_ttl_s=60.0, book_size=3)
SECRET = b"s" * 16
PASSWORDS = {"trunk": "open sesame", "jürgen": "grün"}
URI = "sip:+15550100@bridge.example"

# RFC 7616 section 3.9.1
NONCE_OF_RFC_7616 = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
CNONCE_OF_RFC_7616 = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


# --- figures ---


def test_the_example_of_rfc_2617() -> None:
    parts = DigestInput(
        Algorithm.MD5, "Mufasa", "testrealm@host.com", "Circle Of Life", "dcd98b7102dd2f0e8b11d0f600bfb0c093", "GET",
        "/dir/index.html", Qop.AUTH, 1, "0a4f113b",
    )  # fmt: skip
    assert compute_response(parts) == "6629fae49393a05397450978507c4ef1"


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        (Algorithm.MD5, "8ca523f5e9506fed4657c9700eebdbec"),
        (Algorithm.SHA_256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_rfc_7616(algorithm: Algorithm, response: str) -> None:
    parts = DigestInput(
        algorithm, "Mufasa", "http-auth@example.org", "Circle of Life", NONCE_OF_RFC_7616, "GET", "/dir/index.html",
        Qop.AUTH, 1, CNONCE_OF_RFC_7616,
    )  # fmt: skip
    assert compute_response(parts) == response


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_without_qop_there_is_no_count() -> None:
    parts = DigestInput(Algorithm.SHA_256, "u", "r", "p", "n", "BYE", "sip:a", None, 7, "c")
    assert compute_response(parts) == sha256(f"{sha256('u:r:p')}:n:{sha256('BYE:sip:a')}")


def test_a_session_covers_the_nonces() -> None:
    parts = DigestInput(Algorithm.SHA_256_SESS, "u", "r", "p", "n", "BYE", "sip:a", Qop.AUTH, 31, "c")
    secret = sha256(f"{sha256('u:r:p')}:n:c")
    assert compute_response(parts) == sha256(f"{secret}:n:0000001f:c:auth:{sha256('BYE:sip:a')}")


def test_integrity_covers_the_body() -> None:
    parts = DigestInput(Algorithm.SHA_256, "u", "r", "p", "n", "INVITE", "sip:a", Qop.AUTH_INT, 1, "c", b"v=0")
    covered = sha256(f"INVITE:sip:a:{sha256('v=0')}")
    assert compute_response(parts) == sha256(f"{sha256('u:r:p')}:n:00000001:c:auth-int:{covered}")


# --- server ---


def server(options: DigestOptions = OPTIONS) -> DigestServer:
    return DigestServer(options, SECRET)


def challenge(who: DigestServer, now_s: float = NOW, number: int = 0, *, stale: bool = False) -> tuple[str, ...]:
    return who.challenges(now_s, number.to_bytes(8, "big"), stale=stale)


def credentials(
    challenge_value: str,
    username: str = "trunk",
    password: str = "open sesame",
    *,
    nonce_count: int = 1,
    method: str = "INVITE",
    uri: str = URI,
) -> str:
    """What a peer answers, computed from the formula of RFC 7616 and not with the code under test's client."""
    asked = parse_challenges([challenge_value])[0]

    def digest(text: str) -> str:
        return hashlib.new(asked.algorithm.hash_name, text.encode()).hexdigest()

    response = digest(
        f"{digest(f'{username}:{asked.realm}:{password}')}:{asked.nonce}:{nonce_count:08x}:cn:auth:{digest(f'{method}:{uri}')}"
    )
    return str(
        DigestCredentials(
            username, asked.realm, asked.nonce, uri, response, asked.algorithm, True, Qop.AUTH, nonce_count, "cn"
        )
    )


def checked(who: DigestServer, *values: str, now_s: float = NOW, method: str = "INVITE") -> DigestOutcome:
    return who.check(values, method, PASSWORDS.get, now_s).outcome


def test_challenges_name_the_stronger_algorithm_first() -> None:
    values = challenge(server())
    assert [parsed.algorithm for parsed in parse_challenges(values)] == [Algorithm.SHA_256, Algorithm.MD5]
    nonce = parse_challenges(values)[0].nonce
    assert values[0] == f'Digest realm="bridge.example", nonce="{nonce}", algorithm=SHA-256, qop="auth"'
    assert challenge(server(), stale=True)[1].endswith(', algorithm=MD5, qop="auth", stale=true')
    assert challenge(server(), number=1) != values


@pytest.mark.parametrize("which", [0, 1])
def test_the_right_password_is_let_in(which: int) -> None:
    who = server()
    value = credentials(challenge(who)[which])
    assert who.check([value], "INVITE", PASSWORDS.get, NOW) == DigestVerdict(DigestOutcome.GRANTED, "trunk")


def test_names_and_passwords_in_utf_8() -> None:
    who = server()
    value = credentials(challenge(who)[0], "jürgen", "grün")
    assert who.check([value], "INVITE", PASSWORDS.get, NOW).username == "jürgen"


def test_wrong_ones_are_refused() -> None:
    who = server()
    asked = challenge(who)[0]
    good = credentials(asked)
    assert checked(who, credentials(asked, password="x")) is DigestOutcome.REFUSED
    assert checked(who, credentials(asked, username="nobody")) is DigestOutcome.REFUSED
    assert checked(who, good, method="BYE") is DigestOutcome.REFUSED
    assert checked(who, good.replace(URI, "sip:other@bridge.example")) is DigestOutcome.REFUSED
    assert checked(who, good.replace("nc=00000001", "nc=00000002")) is DigestOutcome.REFUSED
    assert checked(who, good.replace('cnonce="cn"', 'cnonce="other"')) is DigestOutcome.REFUSED
    assert checked(who, good.replace("SHA-256", "MD5")) is DigestOutcome.REFUSED
    assert checked(who, good.replace('response="', 'response="é')) is DigestOutcome.REFUSED
    assert checked(who, good) is DigestOutcome.GRANTED  # none of these used it up


def test_a_wrong_password_keeps_its_nonce() -> None:
    who = server()
    asked = challenge(who)
    verdict = who.check([credentials(asked[0], password="x")], "INVITE", PASSWORDS.get, NOW)
    assert (verdict.outcome, verdict.nonce in asked[0], len(verdict.nonce)) == (DigestOutcome.REFUSED, True, 43)
    again = who.challenges(NOW + 1, bytes(8), nonce=verdict.nonce)
    assert again == asked, "so that a client sees that the nonce is not to blame"
    assert checked(who, credentials(again[0])) is DigestOutcome.GRANTED
    late = who.check([credentials(asked[0], password="x")], "INVITE", PASSWORDS.get, NOW + 60.0)
    assert late.nonce == ""


def test_an_unknown_user_cannot_guess_the_stand_in_password() -> None:
    who = server()
    stand_in = "no such user: hashed all the same, so that the time taken does not tell users from strangers"
    value = credentials(challenge(who)[0], "nobody", stand_in)
    assert checked(who, value) is DigestOutcome.REFUSED


def test_what_counts_as_no_credentials() -> None:
    who = server()
    good = credentials(challenge(who)[0])
    assert checked(who) is DigestOutcome.MISSING
    assert checked(who, "NoOneKnowsThisScheme opaque-data=here") is DigestOutcome.MISSING  # RFC 4475 section 3.3.7
    assert checked(who, good.replace(REALM + '", nonce', 'other.example", nonce')) is DigestOutcome.MISSING
    assert checked(who, good.replace("qop=auth, ", "")) is DigestOutcome.MISSING
    assert checked(who, good.replace("qop=auth", "qop=auth-int")) is DigestOutcome.MISSING
    assert checked(who, good.replace("nc=00000001", "nc=00000000")) is DigestOutcome.MISSING
    assert checked(who, good.replace("SHA-256", "SHA-256-sess")) is DigestOutcome.MISSING
    assert not DigestOutcome.MISSING.wants_stale and not DigestOutcome.REFUSED.wants_stale


def test_credentials_for_other_realms_are_skipped_up_to_a_number() -> None:
    who = server()
    good = credentials(challenge(who)[0])
    other = good.replace(REALM, "other.example")
    assert checked(who, other, "Basic x", other, good) is DigestOutcome.GRANTED
    again = credentials(challenge(who, number=2)[0])
    assert checked(who, other, other, other, other, again) is DigestOutcome.MISSING


def test_an_algorithm_that_is_not_offered_is_not_taken() -> None:
    strict = server(DigestOptions(REALM, algorithms=(Algorithm.SHA_256,)))
    assert len(challenge(strict)) == 1
    weak = challenge(server())[1]
    assert checked(strict, credentials(weak)) is DigestOutcome.MISSING


def test_a_nonce_works_for_its_time() -> None:
    who = server()
    asked = challenge(who)[0]
    assert checked(who, credentials(asked, nonce_count=1), now_s=NOW + 59.9) is DigestOutcome.GRANTED
    late = checked(who, credentials(asked, nonce_count=2), now_s=NOW + 60.0)
    assert late is DigestOutcome.STALE and late.wants_stale
    assert checked(who, credentials(asked, password="x", nonce_count=2), now_s=NOW + 60.0) is DigestOutcome.REFUSED


def test_a_clock_that_steps_back_opens_nothing() -> None:
    who = server()
    asked = challenge(who)[0]
    used = credentials(asked)
    assert checked(who, used) is DigestOutcome.GRANTED
    assert checked(who, credentials(challenge(who, NOW + 70, 1)[0]), now_s=NOW + 70) is DigestOutcome.GRANTED
    assert checked(who, used, now_s=NOW) is DigestOutcome.STALE


def test_a_nonce_of_the_future_is_stale_beyond_a_small_skew() -> None:
    who = server()
    assert checked(who, credentials(challenge(who, NOW + 5)[0])) is DigestOutcome.GRANTED
    assert checked(who, credentials(challenge(who, NOW + 5.1, 1)[0])) is DigestOutcome.STALE


def test_nonces_that_are_not_ours_are_stale() -> None:
    who = server()
    for stranger in (DigestServer(OPTIONS, b"t" * 16), DigestServer(OPTIONS, SECRET + b"s")):
        assert checked(who, credentials(challenge(stranger)[0])) is DigestOutcome.STALE
    other_realm = DigestServer(DigestOptions("other"), SECRET)
    foreign = challenge(other_realm)[0].replace('realm="other"', f'realm="{REALM}"')
    assert checked(who, credentials(foreign)) is DigestOutcome.STALE
    genuine = parse_challenges(challenge(who))[0].nonce
    later = (
        base64.urlsafe_b64encode(
            (int(NOW * 1000) + 1).to_bytes(8, "big") + base64.urlsafe_b64decode(genuine + "==")[8:]
        )
        .decode()
        .rstrip("=")
    )
    for nonce in ("", "x", "!!!!", "é", genuine[:-4], genuine + "AAAA", later):
        made_up = f'Digest realm="{REALM}", nonce="{nonce}", algorithm=MD5, qop="auth"'
        assert checked(who, credentials(made_up)) is DigestOutcome.STALE


def test_processes_that_share_a_secret_take_each_others_nonces() -> None:
    assert checked(server(), credentials(challenge(server())[0])) is DigestOutcome.GRANTED


def test_a_nonce_count_works_once() -> None:
    who = server()
    asked = challenge(who)[0]
    assert checked(who, credentials(asked)) is DigestOutcome.GRANTED
    replayed = checked(who, credentials(asked))
    assert replayed is DigestOutcome.REPLAYED and replayed.wants_stale
    assert checked(who, credentials(asked, nonce_count=2)) is DigestOutcome.GRANTED
    assert checked(who, credentials(asked, nonce_count=2, method="BYE"), method="BYE") is DigestOutcome.REPLAYED


def test_counts_may_overtake_each_other_within_a_window() -> None:
    who = server()
    asked = challenge(who)[0]
    for count, outcome in [
        (5, "granted"), (3, "granted"), (3, "replayed"), (5, "replayed"), (4, "granted"), (68, "granted"),
        (5, "replayed"), (6, "granted"), (4, "replayed"), (2, "replayed"), (0xFFFFFFFF, "granted"), (68, "replayed"),
        (0xFFFFFFFF - 63, "granted"), (0xFFFFFFFF - 64, "replayed"),
    ]:  # fmt: skip
        assert checked(who, credentials(asked, nonce_count=count)).value == outcome, count


def test_what_a_full_book_forgets_is_stale_and_never_replayable() -> None:
    who = server()
    asked = [challenge(who, NOW + number, number)[0] for number in range(5)]
    used = [credentials(value) for value in asked]
    for value in used[1:4]:
        assert checked(who, value, now_s=NOW + 5) is DigestOutcome.GRANTED
    assert checked(who, used[4], now_s=NOW + 5) is DigestOutcome.GRANTED  # number 1 leaves the book of three
    assert checked(who, used[1], now_s=NOW + 5) is DigestOutcome.STALE
    assert checked(who, used[0], now_s=NOW + 5) is DigestOutcome.STALE  # older than what was forgotten
    assert checked(who, used[2], now_s=NOW + 5) is DigestOutcome.REPLAYED  # still in the book
    assert checked(who, credentials(asked[3], nonce_count=2), now_s=NOW + 5) is DigestOutcome.GRANTED


def test_strangers_take_no_room_in_the_book() -> None:
    who = server()
    asked = challenge(who)[0]
    assert checked(who, credentials(asked)) is DigestOutcome.GRANTED
    for number in range(1, 20):
        assert checked(who, credentials(challenge(who, NOW, number)[0], password="x")) is DigestOutcome.REFUSED
    assert checked(who, credentials(asked, nonce_count=2)) is DigestOutcome.GRANTED


@pytest.mark.parametrize(
    ("options", "secret"),
    [
        (OPTIONS, b"s" * 15),
        (DigestOptions(REALM, algorithms=()), SECRET),
        (DigestOptions(REALM, book_size=0), SECRET),
        (DigestOptions(REALM, algorithms=(Algorithm.MD5_SESS,)), SECRET),
    ],
)
def test_servers_that_cannot_be_made(options: DigestOptions, secret: bytes) -> None:
    with pytest.raises(LocalError, match="^a digest server "):
        DigestServer(options, secret)


def test_what_a_nonce_was_made_with_can_be_read_again() -> None:
    maker = DigestServer(DigestOptions("bridge"), b"0123456789abcdef")
    (challenge, _) = parse_challenges(maker.challenges(1_000.0, b"8 random"))
    assert maker.entropy_of(challenge.nonce) == b"8 random"
    other = DigestServer(DigestOptions("bridge"), b"another secret..")
    assert other.entropy_of(challenge.nonce) is None
    for nonce in ("", "x", "é", challenge.nonce[:-1], "A" * len(challenge.nonce)):
        assert maker.entropy_of(nonce) is None


def test_a_nonce_needs_its_chance() -> None:
    with pytest.raises(LocalError, match="^a nonce needs 8 random bytes, got 7$"):
        server().challenges(NOW, b"1234567")


def test_passwords_are_not_shown() -> None:
    assert "open sesame" not in repr(DigestInput(Algorithm.MD5, "u", "r", "open sesame", "n", "BYE", "sip:a"))
