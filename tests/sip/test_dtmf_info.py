"""Keys in INFO bodies and as tones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import LocalError, RemoteError
from bridge.media.format import Encoding
from bridge.media.g711 import alaw_to_pcm, ulaw_to_pcm
from bridge.media.tones import DtmfDetector
from bridge.sip.dtmf_info import PLAIN, RELAY, build_plain, build_relay, inband_frames, parse_info
from bridge.sip.telephone_event import Digit, SenderOptions


@pytest.mark.parametrize(
    ("content_type", "body", "digit"),
    [
        (RELAY, b"Signal=5\r\nDuration=160\r\n", Digit("5", 160)),
        ("Application/DTMF-Relay; charset=utf-8", b"Signal= 5\nDuration= 160", Digit("5", 160)),
        (RELAY, b"signal=*", Digit("*", 250)),
        (RELAY, b"Signal=10\r\nDuration=100", Digit("*", 100)),
        (RELAY, b"Signal=11\r\nDuration=x", Digit("#", 250)),
        (RELAY, b"Signal=d\r\nDuration=999999999", Digit("D", 5000)),
        (RELAY, b"#", Digit("#", 250)),
        (PLAIN, b"7", Digit("7", 250)),
        (PLAIN, b" 7\r\n", Digit("7", 250)),
        (PLAIN, b"Signal=7\r\nDuration=80", Digit("7", 80)),
    ],
)
def test_keys_are_read(content_type: str, body: bytes, digit: Digit) -> None:
    assert parse_info(content_type, body) == digit


def test_another_media_type_is_none_of_ours() -> None:
    assert parse_info("application/media_control+xml", b"<x/>") is None


@pytest.mark.parametrize("body", [b"", b"Signal=", b"Signal=16", b"Signal=flash", b"123", b"\xff", b"Duration=10"])
def test_what_is_no_key_is_refused_without_being_shown(body: bytes) -> None:
    with pytest.raises(RemoteError) as caught:
        parse_info(RELAY, body)
    assert str(caught.value) == "INFO: the signal is no key"


def test_a_long_body_is_refused() -> None:
    with pytest.raises(RemoteError, match="INFO: a body of 257 bytes is more than 256"):
        parse_info(RELAY, b"x" * 257)


@given(st.binary(max_size=300))
def test_arbitrary_bodies_raise_nothing_else(body: bytes) -> None:
    for content_type in (RELAY, PLAIN):
        try:
            digit = parse_info(content_type, body)
        except RemoteError:
            continue
        assert digit is not None


def test_bodies_are_built() -> None:
    assert build_relay(Digit("#", 160)) == b"Signal=#\r\nDuration=160\r\n"
    assert build_plain(Digit("#", 160)) == b"#"
    assert parse_info(RELAY, build_relay(Digit("A", 90))) == Digit("A", 90)


@pytest.mark.parametrize(("encoding", "decode"), [(Encoding.ULAW, ulaw_to_pcm), (Encoding.ALAW, alaw_to_pcm)])
def test_tones_are_keys_that_a_detector_finds(encoding: Encoding, decode: object) -> None:
    frames = inband_frames("19w#", SenderOptions(tone_ms=90), encoding)
    assert {len(frame) for frame in frames} == {160}
    assert len(frames) == -(-(3 * 190 + 500) // 20)
    assert callable(decode)
    detector = DtmfDetector(8000)
    hits = detector.process(decode(b"".join(frames))) + detector.flush()
    assert [hit.digit for hit in hits] == ["1", "9", "#"]


@pytest.mark.parametrize("digits", ["x", "1" * 129])
def test_what_cannot_be_sent(digits: str) -> None:
    with pytest.raises(LocalError, match="tones: only 0-9"):
        inband_frames(digits, SenderOptions(), Encoding.ULAW)
