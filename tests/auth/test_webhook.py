"""The signature of post-call webhooks: the vendor's SDK as oracle, rotation, tolerance, forgeries."""

from __future__ import annotations

import time

import pytest
from elevenlabs.errors import BadRequestError
from elevenlabs.webhooks_custom import WebhooksClient
from hypothesis import given
from hypothesis import strategies as st

from bridge.auth.webhook import HEADER, TOLERANCE_S, Verifier, sign, signer, verify

SECRET = "wsec_0123456789abcdef"
BODY = b'{"type":"post_call_transcription","event_timestamp":1739537297}'
NOW = 1_739_537_297.5


def header_of(body: bytes = BODY, unix_s: float = NOW, secret: str = SECRET) -> str:
    return sign(secret, body, unix_s)


def test_the_header_is_the_vendors_to_the_letter() -> None:
    # printf '1739537297.{}' | openssl dgst -sha256 -hmac wsec_0123456789abcdef
    assert HEADER == "ElevenLabs-Signature"
    assert sign(SECRET, b"{}", NOW) == f"t=1739537297,v0={VECTOR}"


VECTOR = "adf590b0eb464002c0338243a38f09e865fe9143db05e435add14344cf4d1d64"


def test_the_vendors_sdk_takes_what_we_sign() -> None:
    sdk = WebhooksClient(client_wrapper=None)  # type: ignore[arg-type,unused-ignore]  # construct_event needs none
    body = '{"type":"call.ended","data":{"caller":"Zoë"}}'
    header = sign(SECRET, body.encode(), time.time())
    assert sdk.construct_event(body, header, SECRET) == {"type": "call.ended", "data": {"caller": "Zoë"}}
    with pytest.raises(BadRequestError):
        sdk.construct_event(body + " ", header, SECRET)


def test_pieces_sign_as_the_whole_does() -> None:
    mac = signer(SECRET, NOW)
    for position in range(len(BODY)):
        mac.update(BODY[position : position + 1])
    assert mac.header() == header_of()


def test_a_genuine_event_is_let_in() -> None:
    assert verify([SECRET], header_of(), BODY, NOW) == ""


@pytest.mark.parametrize("cut", range(0, len(BODY), 7))
def test_a_genuine_event_in_two_pieces_is_let_in(cut: int) -> None:
    verifier = Verifier([SECRET], header_of(), NOW)
    assert verifier.problem == ""
    verifier.update(BODY[:cut])
    verifier.update(memoryview(BODY)[cut:])
    assert verifier.finish() == ""


@pytest.mark.parametrize("ring", [[SECRET, "old"], ["old", SECRET], ["", SECRET]])
def test_every_secret_of_the_ring_counts(ring: list[str]) -> None:
    assert verify(ring, header_of(), BODY, NOW) == ""


@pytest.mark.parametrize(
    "form",
    [
        "t={t},v0={v}",
        "v0={v},t={t}",
        " t = {t} , v0 = {v} ",
        "t={t},v0={v},v1=abc",
        "t={t},v0=" + "0" * 64 + ",v0={v}",
        "t={t},v0=short,v0={v}",
        "t={t},v0={V}",
        "scheme,t={t},v0={v},",
    ],
)
def test_the_header_may_be_written_in_many_ways(form: str) -> None:
    digest = header_of().partition("v0=")[2]
    header = form.format(t="1739537297", v=digest, V=digest.upper())
    assert verify([SECRET], header, BODY, NOW) == ""


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (None, "no ElevenLabs-Signature header"),
        ("", "no ElevenLabs-Signature header"),
        ("t=1739537297,v0=" + "a" * 2_000, "the ElevenLabs-Signature header is too long"),
        ("v0=" + "0" * 64, "the ElevenLabs-Signature header has not exactly one time"),
        ("t=1739537297,t=1739537297,v0=" + "0" * 64, "the ElevenLabs-Signature header has not exactly one time"),
        ("t=-1,v0=" + "0" * 64, "the ElevenLabs-Signature header has not exactly one time"),
        ("t=1739537297.5,v0=" + "0" * 64, "the ElevenLabs-Signature header has not exactly one time"),
        ("t=١٧٣٩٥٣٧٢٩٧,v0=" + "0" * 64, "the ElevenLabs-Signature header has not exactly one time"),
        ("t=1739537297", "the ElevenLabs-Signature header has no v0 signature"),
        ("t=1739537297,v0=zz", "the ElevenLabs-Signature header has no v0 signature"),
        ("t=1739537297,v0=ééé", "the ElevenLabs-Signature header has no v0 signature"),
        (
            "t=1739537297" + ",v0=" + ",v0=".join(["0" * 64] * 9),
            "the ElevenLabs-Signature header has too many signatures",
        ),
        (
            "t=1739537297,v0=" + "0" * 64,
            "the signature does not fit: wrong secret, or the body was changed",
        ),
    ],
)
def test_a_bad_header_is_refused_with_its_reason(header: str | None, problem: str) -> None:
    assert verify([SECRET], header, BODY, NOW) == problem


def test_a_changed_body_a_wrong_secret_and_another_time_are_refused() -> None:
    misfit = "the signature does not fit: wrong secret, or the body was changed"
    assert verify([SECRET], header_of(), BODY + b" ", NOW) == misfit
    assert verify(["other"], header_of(), BODY, NOW) == misfit
    assert verify([SECRET], header_of().replace("t=1739537297", "t=1739537298"), BODY, NOW) == misfit


def test_the_tolerance_holds_both_ways() -> None:
    signed_at = 1_739_537_297
    header = header_of(unix_s=signed_at)
    assert TOLERANCE_S == 1800
    assert verify([SECRET], header, BODY, signed_at + 1800) == ""
    assert verify([SECRET], header, BODY, signed_at - 1800) == ""
    assert verify([SECRET], header, BODY, signed_at + 1801) == "the signature is too old"
    future = "the signature is from the future; is this machine's clock right?"
    assert verify([SECRET], header, BODY, signed_at - 1801) == future


def test_bad_time_is_known_before_the_body() -> None:
    assert Verifier([SECRET], header_of(), NOW + 4000).problem == "the signature is too old"


@pytest.mark.parametrize("ring", [[], [""]])
def test_without_a_secret_nothing_is_genuine(ring: list[str]) -> None:
    assert verify(ring, sign("", BODY, NOW), BODY, NOW) == "no secret is set"


@given(st.text(max_size=200))
def test_no_header_breaks_the_verifier(header: str) -> None:
    assert verify([SECRET], header, BODY, NOW) != ""
