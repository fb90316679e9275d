"""Digest authentication as a client: it is understood, takes what is strongest, and gives up in time."""

from __future__ import annotations

from bridge.auth.sip_digest import (
    DigestInput,
    DigestOptions,
    DigestOutcome,
    DigestServer,
    DigestVerdict,
    compute_response,
)
from bridge.auth.sip_digest_client import MAX_REALMS, ChallengeKind, DigestClient, SipAccount
from bridge.auth.sip_digest_header import Algorithm, Qop, parse_credentials

NOW = 1_800_000_000.0
PASSWORDS = {"trunk": "open sesame"}
URI = "sip:+15550100@bridge.example"


def server() -> DigestServer:
    return DigestServer(DigestOptions("bridge.example", nonce_ttl_s=60.0), b"s" * 16)


def challenge(who: DigestServer, now_s: float = NOW, number: int = 0, *, stale: bool = False) -> tuple[str, ...]:
    return who.challenges(now_s, number.to_bytes(8, "big"), stale=stale)


def client() -> DigestClient:
    return DigestClient(SipAccount("trunk", "open sesame"))


def test_our_client_and_our_server_understand_each_other() -> None:
    who, us = server(), client()
    assert us.fields("INVITE", URI, "c1") == ()
    assert us.challenged(ChallengeKind.USER, challenge(who), 0)
    for number, method in enumerate(["INVITE", "BYE", "REFER"], 1):
        ((name, value),) = us.fields(method, URI, f"c{number}", b"body")
        assert name == "Authorization"
        sent = parse_credentials(value)
        assert sent is not None and (sent.nonce_count, sent.algorithm) == (number, Algorithm.SHA_256)
        assert who.check([value], method, PASSWORDS.get, NOW) == DigestVerdict(DigestOutcome.GRANTED, "trunk")


def test_a_stale_nonce_is_replaced() -> None:
    who, us = server(), client()
    us.challenged(ChallengeKind.PROXY, challenge(who), 0)
    ((name, value),) = us.fields("BYE", URI, "c")
    assert name == "Proxy-Authorization"
    assert who.check([value], "BYE", PASSWORDS.get, NOW + 100).outcome is DigestOutcome.STALE
    assert us.challenged(ChallengeKind.PROXY, challenge(who, NOW + 100, 1, stale=True), 1)
    ((_, value),) = us.fields("BYE", URI, "c")
    assert "nc=00000001" in value
    assert who.check([value], "BYE", PASSWORDS.get, NOW + 100).outcome is DigestOutcome.GRANTED


def test_a_wrong_password_is_tried_once() -> None:
    us = client()
    assert us.challenged(ChallengeKind.USER, ['Digest realm="r", nonce="1"'], 0)
    assert not us.challenged(ChallengeKind.USER, ['Digest realm="r", nonce="2"'], 1)


def test_a_later_request_may_be_challenged_anew() -> None:
    us = client()
    assert us.challenged(ChallengeKind.USER, ['Digest realm="r", nonce="1"'], 0)
    assert us.challenged(ChallengeKind.USER, ['Digest realm="r", nonce="2"'], 0)
    assert 'nonce="2"' in us.fields("BYE", URI, "c")[0][1]


def test_one_challenge_after_the_other_on_the_way() -> None:
    us = client()
    assert us.challenged(ChallengeKind.PROXY, ['Digest realm="p", nonce="1"'], 0)
    assert us.challenged(ChallengeKind.USER, ['Digest realm="p", nonce="2"'], 1)
    assert [name for name, _ in us.fields("INVITE", URI, "c")] == ["Proxy-Authorization", "Authorization"]


def test_there_is_an_end_to_stale_nonces() -> None:
    us = client()
    stale = ['Digest realm="r", nonce="1", stale=true']
    assert [us.challenged(ChallengeKind.USER, stale, attempt) for attempt in range(5)] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_nothing_to_answer() -> None:
    us = client()
    assert not us.challenged(ChallengeKind.USER, [], 0)
    assert not us.challenged(ChallengeKind.USER, ['Digest realm="r", nonce="1", algorithm=SHA-512-256'], 0)
    assert us.fields("INVITE", URI, "c") == ()


def test_the_strongest_challenge_of_each_realm_is_answered() -> None:
    us = client()
    values = [
        'Digest realm="a", nonce="1", algorithm=MD5', 'Digest realm="b", nonce="2", algorithm=MD5',
        'Digest realm="a", nonce="3", algorithm=SHA-256', 'Digest realm="a", nonce="4", algorithm=SHA-256',
        'Digest realm="a", nonce="5", algorithm=MD5-sess',
    ]  # fmt: skip
    assert us.challenged(ChallengeKind.USER, values, 0)
    sent = [parse_credentials(value) for _, value in us.fields("INVITE", URI, "c")]
    assert [(one.realm, one.nonce, one.algorithm) for one in sent if one is not None] == [
        ("a", "3", Algorithm.SHA_256),
        ("b", "2", Algorithm.MD5),
    ]


def test_an_old_challenge_is_answered_in_the_old_way() -> None:
    us = client()
    us.challenged(ChallengeKind.USER, ['Digest realm="r", nonce="n", opaque="o"'], 0)
    ((_, value),) = us.fields("BYE", "sip:a", "c")
    response = compute_response(DigestInput(Algorithm.MD5, "trunk", "r", "open sesame", "n", "BYE", "sip:a"))
    assert value == (f'Digest username="trunk", realm="r", nonce="n", uri="sip:a", response="{response}", opaque="o"')


def test_integrity_is_given_where_nothing_else_is_offered() -> None:
    us = client()
    us.challenged(ChallengeKind.USER, ['Digest realm="r", nonce="n", qop="auth-int", algorithm=MD5-sess'], 0)
    ((_, value),) = us.fields("INVITE", "sip:a", "c", b"v=0")
    response = compute_response(
        DigestInput(
            Algorithm.MD5_SESS, "trunk", "r", "open sesame", "n", "INVITE", "sip:a", Qop.AUTH_INT, 1, "c", b"v=0"
        )
    )
    assert f'response="{response}", algorithm=MD5-sess, qop=auth-int, nc=00000001, cnonce="c"' in value


def test_a_session_without_qop_still_says_its_nonce() -> None:
    us = client()
    us.challenged(ChallengeKind.USER, ['Digest realm="r", nonce="n", algorithm=MD5-sess'], 0)
    assert us.fields("INVITE", "sip:a", "c")[0][1].endswith('algorithm=MD5-sess, cnonce="c"')


def test_realms_are_bounded() -> None:
    us = client()
    for number in range(10):
        us.challenged(ChallengeKind.USER, [f'Digest realm="r{number}", nonce="n"'], 0)
    sent = [parse_credentials(value) for _, value in us.fields("BYE", URI, "c")]
    assert len(sent) == MAX_REALMS
    assert [one.realm for one in sent if one is not None] == ["r6", "r7", "r8", "r9"]


def test_where_challenges_and_answers_stand() -> None:
    assert [(kind.value, kind.challenge_header, kind.credentials_header) for kind in ChallengeKind] == [
        (401, "WWW-Authenticate", "Authorization"),
        (407, "Proxy-Authenticate", "Proxy-Authorization"),
    ]


def test_passwords_are_not_shown() -> None:
    assert "open sesame" not in repr(SipAccount("trunk", "open sesame"))
