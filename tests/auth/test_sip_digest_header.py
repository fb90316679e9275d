"""Challenges and credentials as header values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.auth.sip_digest_header import (
    MAX_CHALLENGES,
    MAX_VALUE_CHARS,
    Algorithm,
    DigestChallenge,
    DigestCredentials,
    Qop,
    parse_challenges,
    parse_credentials,
    quoted,
)
from bridge.errors import LocalError


def test_a_challenge() -> None:
    assert parse_challenges(
        ['DIGEST realm="a \\"b\\", c" ,nonce = "n",Algorithm=sha-256, qop="auth-int, auth", opaque="", stale=TRUE, x=y']
    ) == (DigestChallenge('a "b", c', "n", Algorithm.SHA_256, qop=Qop.AUTH, opaque="", stale=True),)


def test_a_challenge_of_rfc_2069() -> None:
    assert parse_challenges(['Digest realm="r",nonce="n"']) == (
        DigestChallenge("r", "n", Algorithm.MD5, algorithm_named=False),
    )


def test_several_challenges_in_several_headers_and_in_one() -> None:
    first, second = 'Digest realm="1", nonce="a", algorithm=SHA-256', 'Digest realm="2", nonce="b", algorithm=MD5-sess'
    wanted = (DigestChallenge("1", "a", Algorithm.SHA_256), DigestChallenge("2", "b", Algorithm.MD5_SESS))
    assert parse_challenges([first, second]) == wanted
    assert parse_challenges([f"{first}, {second}"]) == wanted
    assert parse_challenges([f'Other a="Digest realm=", b=c, {first}', second]) == wanted


@pytest.mark.parametrize(
    "value",
    [
        "", "Digest", 'Digest realm="r"', 'Digest nonce="n"', 'Basic realm="r", nonce="n"', "Negotiate abc==",
        'Digest realm="r", nonce="n", algorithm=SHA-512-256', 'Digest realm="r", nonce="n", qop="token"',
        'Digest realm="r, nonce="n"', "Digest realm=r nonce=n",
        ('Digest realm="r", nonce="' + "n" * MAX_VALUE_CHARS + '"'),
    ],
)  # fmt: skip
def test_challenges_that_cannot_be_answered(value: str) -> None:
    assert parse_challenges([value]) == ()


def test_what_follows_a_broken_parameter_is_not_read() -> None:
    assert parse_challenges(['Digest realm="r", nonce="n", =, stale=true']) == (
        DigestChallenge("r", "n", algorithm_named=False),
    )


def test_the_number_of_challenges_is_bounded() -> None:
    assert len(parse_challenges(['Digest realm="r", nonce="n"'] * 50)) == MAX_CHALLENGES


def test_credentials() -> None:
    value = (
        'Digest username="u@d", realm="r", nonce="n", uri="sip:a@b", response="ABcd", algorithm=MD5, '
        'opaque="o", qop=auth, nc=0000000a, cnonce="c"'
    )
    credentials = parse_credentials(value)
    assert credentials == DigestCredentials(
        "u@d", "r", "n", "sip:a@b", "abcd", Algorithm.MD5, True, Qop.AUTH, 10, "c", "o"
    )
    assert str(credentials) == value.replace("ABcd", "abcd")


def test_credentials_of_rfc_2069() -> None:
    value = 'Digest username="u", realm="r", nonce="n", uri="sip:a@b", response="ab"'
    credentials = parse_credentials(value)
    assert credentials == DigestCredentials("u", "r", "n", "sip:a@b", "ab", algorithm_named=False)
    assert str(credentials) == value


def test_quotes_do_not_matter_where_peers_put_them_or_leave_them() -> None:
    one = 'Digest username="u", realm="r", nonce="n", uri="sip:a", response="ab", qop="auth", nc="1", algorithm="MD5"'
    other = "Digest username=u, realm=r, nonce=n, uri=sip:a, response=ab, qop=AUTH, nc=00000001, algorithm=md5"
    assert parse_credentials(one) == parse_credentials(other) is not None


GOOD = 'Digest username="u", realm="r", nonce="n", uri="s", response="ab"'


@pytest.mark.parametrize(
    "value",
    [
        "", "Digest", "Basic dXNlcjpwYXNz", "NoOneKnowsThisScheme opaque-data=here", GOOD.replace("Digest", "Other"),
        GOOD + ", algorithm=x", GOOD + ", qop=x", GOOD + ", nc=123456789", GOOD + ", nc=x", GOOD + ', nc=""',
        *(GOOD.replace(name, "x") for name in ("username", "realm", "nonce", "uri", "response")),
        GOOD + ", x=" + "y" * MAX_VALUE_CHARS,
    ],
)  # fmt: skip
def test_what_are_no_credentials(value: str) -> None:
    assert parse_credentials(value) is None


def test_the_first_of_a_doubled_parameter_counts() -> None:
    credentials = parse_credentials(GOOD + ', username="other"')
    assert credentials is not None and credentials.username == "u"


@pytest.mark.parametrize("character", ["\r", "\n", "\0", "\x7f"])
def test_no_line_end_gets_into_a_header(character: str) -> None:
    with pytest.raises(LocalError, match="^a control character in digest authentication$"):
        quoted(f"a{character}b")
    with pytest.raises(LocalError):
        str(DigestCredentials(f"u{character}", "r", "n", "s", "ab"))
    with pytest.raises(LocalError):
        str(DigestChallenge(f"r{character}", "n"))


def test_a_challenge_reads_back() -> None:
    challenge = DigestChallenge('r"\\', "n", Algorithm.MD5, qop=Qop.AUTH, opaque="o", stale=True)
    assert str(challenge) == 'Digest realm="r\\"\\\\", nonce="n", algorithm=MD5, qop="auth", opaque="o", stale=true'
    assert parse_challenges([str(challenge)]) == (challenge,)
    assert str(DigestChallenge("r", "n")) == 'Digest realm="r", nonce="n", algorithm=MD5'


TEXTS = st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs"]), max_size=20)


@given(
    st.builds(
        DigestCredentials, TEXTS, TEXTS, TEXTS, TEXTS, st.text("0123456789abcdef", max_size=64),
        st.sampled_from(Algorithm), st.just(True), st.just(Qop.AUTH), st.integers(0, 0xFFFFFFFF), TEXTS,
        st.none() | TEXTS,
    )
)  # fmt: skip
def test_credentials_read_back(credentials: DigestCredentials) -> None:
    assert parse_credentials(str(credentials)) == credentials


@given(st.text() | st.text('Digest realm="n\\,= \t', max_size=60).map("Digest ".__add__))
def test_any_text_is_read_without_an_error(text: str) -> None:
    parse_credentials(text)
    parse_challenges([text, text])
