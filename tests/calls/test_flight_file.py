"""Flight records as files: they come back whole, and whatever is none is refused with a reason."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.calls import flight_file
from bridge.calls.flight import FlightOptions
from bridge.calls.flight_file import Entry, FlightFileError, decode_flight
from bridge.calls.flight_privacy import Privacy
from tests.kit import convai, twilio
from tests.kit.flights import RecordedLine


def a_file(privacy: Privacy | None = None, *, keep_audio: bool = False) -> bytes:
    line = RecordedLine(flight=FlightOptions(keep_audio=keep_audio))
    line.offer()
    line.activate()
    for _ in range(5):
        line.carrier(twilio.media(b"\x7f" * 160))
        line.run(0.02)
    line.agent(convai.audio(b"\x55" * 1600, 4))
    line.carrier(twilio.dtmf("8"), twilio.STOP)
    return line.file(privacy)


WHOLE = a_file()


def packed(text: bytes) -> bytes:
    """The same bytes every time: they are in the names of tests, which all processes of a run must agree on."""
    return gzip.compress(text, mtime=0)


def lines_of(data: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in gzip.decompress(data).splitlines()]


def test_it_is_gzip_with_a_header_entries_and_an_end() -> None:
    header, *entries, end = lines_of(WHOLE)
    assert (header["flight"], header["provider"], header["call_id"]) == (1, "twilio", "c1")
    assert end == {"t": entries[-1]["t"], "k": "end", "size": len(entries)}
    assert {"t": entries[-1]["t"], "k": "carrier_close", "text": "caller_hangup", "code": 1000} in entries


def test_the_same_call_gives_the_same_bytes() -> None:
    assert a_file() == WHOLE


def test_it_comes_back() -> None:
    log = decode_flight(WHOLE)
    assert log.header.provider == "twilio"
    assert [(entry.size, entry.id) for entry in log.entries if entry.k == "agent_audio_in"] == [(1600, 4)]
    assert [entry.size for entry in log.entries if entry.k == "relayed"] == [160] * 5
    assert [entry.args for entry in log.entries if entry.name == "admit"] == [{}]


def test_one_time_tokens_are_not_in_it() -> None:
    text = gzip.decompress(WHOLE)
    assert b'"token":"[elided]"' in text.replace(b'\\"', b'"')
    assert b"t1" not in text


def test_digits_are_not_in_it_when_they_must_not_nor_is_audio() -> None:
    assert '"digit":"8"' in gzip.decompress(WHOLE).decode().replace('\\"', '"').replace(" ", "")
    log = decode_flight(a_file(Privacy(digits=True), keep_audio=True))
    assert log.header.digits_elided
    assert [entry for entry in log.entries if entry.audio] == []
    assert [json.loads(entry.text)["dtmf"]["digit"] for entry in log.entries if '"dtmf"' in entry.text] == ["0"]


def test_audio_is_in_it_when_it_is_wanted() -> None:
    log = decode_flight(a_file(keep_audio=True))
    assert len([entry for entry in log.entries if entry.audio]) == 6


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it holds no header"),
        (b"RIFF....WAVE", "the file is not packed with gzip"),
        (WHOLE[:20] + b"\0\0\0\0\0\0" + WHOLE[26:], "damaged"),
        (packed(b""), "it holds no header"),
        (packed(b"hello\n"), "its first line is no header"),
        (packed(b"[" * 50_000 + b"\n"), "its first line is no header"),
        (
            packed(b'{"flight":2,"bridge":"9.9.9"}\n'),
            "has format 2, written by bridge '9.9.9'",
        ),
        (packed(b'{"flight":1}\n'), "the header of the flight record cannot be read: .* missing"),
        (packed(gzip.decompress(WHOLE) + b"{}\n"), "cut short|cannot be read"),
        (packed(gzip.decompress(WHOLE).replace(b'{"t"', b'{"u"', 1)), "line 2 of the flight record"),
        (packed(b"x" * (flight_file.MAX_LINE_BYTES + 1) + b"\n"), "it has a line of more than"),
    ],
)
def test_what_is_no_flight_record(data: bytes, words: str) -> None:
    with pytest.raises(FlightFileError, match=words):
        decode_flight(data)


def test_a_file_cut_between_two_lines_is_seen_to_be_cut() -> None:
    lines = gzip.decompress(WHOLE).splitlines(keepends=True)
    with pytest.raises(FlightFileError, match=r"the flight record is cut short after 3 entries; copy the file again"):
        decode_flight(gzip.compress(b"".join(lines[:4])))
    with pytest.raises(FlightFileError, match="cut short after"):
        decode_flight(gzip.compress(b"".join([*lines[:4], lines[-1]])))


def test_a_file_that_unpacks_to_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight_file, "MAX_UNPACKED_BYTES", 10_000)
    with pytest.raises(FlightFileError, match="it unpacks to more than 10000 bytes"):
        decode_flight(zlib.compress(b"\0" * 1_000_000, wbits=31))


@given(cut=st.integers(0, len(WHOLE) - 1))
@settings(deadline=None)
def test_a_truncated_file_is_never_taken_for_whole(cut: int) -> None:
    try:
        log = decode_flight(WHOLE[:cut])
    except FlightFileError:
        return
    assert log == decode_flight(WHOLE), "all lines were there; only the checksum was missing"


@given(data=st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    for file in (data, gzip.compress(data), gzip.compress(b'{"flight":1}\n' + data)):
        with pytest.raises(FlightFileError):
            decode_flight(file)


@given(at=st.integers(0, len(WHOLE) - 1), bit=st.integers(0, 7))
@settings(deadline=None)
def test_a_flipped_bit(at: int, bit: int) -> None:
    broken = bytearray(WHOLE)
    broken[at] ^= 1 << bit
    try:
        log = decode_flight(bytes(broken))
    except FlightFileError:
        return
    assert all(isinstance(entry, Entry) for entry in log.entries)
