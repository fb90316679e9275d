"""A flight record as a file: gzip (RFC 1952), inside it JSON lines, one header and then one entry a line. Pure.

What a stranger may not read is taken out here, before anything is written (``bridge.calls.flight_privacy``). The file
does not depend on where or when it was packed: the same call gives the same bytes.

Lines: ``{"flight":1,...}`` (``FlightHeader``), entries in order of time (``Entry``), ``{"t":...,"k":"end","size":N}``
with the number of entries before it, so that a file cut between two lines is seen to be cut.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterator
from typing import Any

import msgspec

from bridge.calls.flight import EVENT, Snapshot, kind_and_size
from bridge.calls.flight_privacy import Privacy
from bridge.calls.flight_steps import plain
from bridge.errors import RemoteError
from bridge.leg import UpgradeRequest

VERSION = 1
"""Of the format; raised when old readers would misread new files."""

MAX_UNPACKED_BYTES = 64 * 1024 * 1024
"""A record of an hour with all of its audio; what unpacks to more is none of ours."""
MAX_LINE_BYTES = 1024 * 1024
"""Longer than any message that is kept."""

_GZIP = 16 + zlib.MAX_WBITS
_LEVEL = 6
_ID = re.compile(r'"event_id"\s*:\s*(-?\d{1,18})')


class FlightFileError(RemoteError):
    """A file is no flight record, or none that this version can read; the text says which and why."""


class FlightRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """The upgrade request of a leg, without what proves who sent it."""

    raw_path: str
    headers: dict[str, str] = {}
    path_values: dict[str, str] = {}


class FlightHeader(msgspec.Struct, kw_only=True):
    """What is needed to replay the entries, and what the call was."""

    flight: int = VERSION
    bridge: str = ""
    """Version that wrote it."""
    call_id: str = ""
    provider: str
    """The carrier in the registry."""
    created_at: float = 0.0
    """Unix seconds."""
    result: str = ""
    reason: str = ""
    detail: str = ""
    opened_s: float
    """When the leg was made, on the clock of the entries."""
    request: FlightRequest
    leg: dict[str, Any] = {}
    """Fields of ``LegOptions``."""
    conversation: dict[str, Any] = {}
    """Fields of ``ConversationOptions``."""
    call: dict[str, Any] = {}
    """Fields of ``CallOptions`` that the call began with."""
    carrier_format: str = ""
    agent_formats: list[str] = []
    """What the agent heard and spoke."""
    digits_elided: bool = False
    """Keys that callers pressed are all 0."""
    numbers_masked: bool = False
    lost: int = 0
    """Entries that had to go; a ``gap`` stands in their place."""


class Entry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One thing that happened."""

    t: float
    """Seconds on the call's clock."""
    k: str
    """Kind: see ``bridge.replay``."""
    text: str = ""
    size: int = 0
    """Bytes of an audio payload coming in, characters of an audio message going out, entries lost in a gap."""
    id: int | None = None
    """Event id of agent audio."""
    audio: str = ""
    """The payload in base64, where audio was kept."""
    cut: int = 0
    """Length of a message that was too long to be kept whole."""
    name: str = ""
    """Of a step or a note."""
    args: dict[str, Any] = {}
    code: int = 0
    """Of a close."""
    request: FlightRequest | None = None


class FlightLog(msgspec.Struct, frozen=True):
    """A whole file."""

    header: FlightHeader
    entries: list[Entry]


# --- writing ---------------------------------------------------------------------------------------------


def encode_flight(snapshot: Snapshot, header: FlightHeader, privacy: Privacy) -> bytes:
    """The file. Takes some 20 ms for a long call: not within the media path."""
    encoder, packer = msgspec.json.Encoder(), zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    header.lost = snapshot.lost
    header.digits_elided, header.numbers_masked = privacy.digits, privacy.numbers
    header = privacy.clean(header, FlightHeader)
    packed, count, now = [packer.compress(encoder.encode(header) + b"\n")], 0, header.opened_s
    for entry in _entries(snapshot, privacy):
        packed.append(packer.compress(encoder.encode(entry) + b"\n"))
        count, now = count + 1, entry.t
    packed.append(packer.compress(encoder.encode(Entry(t=now, k="end", size=count)) + b"\n"))
    return b"".join([*packed, packer.flush()])


def request_of(request: UpgradeRequest, privacy: Privacy) -> FlightRequest:
    """The upgrade request, without secrets."""
    return FlightRequest(
        privacy.path(request.raw_path), privacy.headers(request.headers), dict(sorted(request.path_values.items()))
    )


def _entries(snapshot: Snapshot, privacy: Privacy) -> Iterator[Entry]:
    for number, (times, codes, events) in enumerate(snapshot.pages):
        if number == 1 and snapshot.lost:
            yield Entry(t=times[0] if times else snapshot.pages[0][0][-1], k="gap", size=snapshot.lost)
        happened = iter(events)
        for now, code in zip(times, codes, strict=True):
            if code == EVENT:
                yield _entry(now, next(happened), privacy)
            else:
                kind, size = kind_and_size(code)
                yield Entry(t=now, k=kind, size=size)


def _entry(now: float, event: tuple[Any, ...], privacy: Privacy) -> Entry:
    kind, *rest = event
    if kind.endswith("_whole"):
        return _whole(now, kind.removesuffix("_whole"), rest, privacy)
    match kind:
        case "carrier_in" | "agent_in" | "carrier_out" | "agent_out" | "leg_in":
            text, length = rest
            return Entry(t=now, k=kind, text=privacy.text(text), cut=length if length > len(text) else 0)
        case "agent_audio_in":
            return Entry(t=now, k=kind, size=rest[0], id=_event_id(rest[1]))
        case "carrier_close" | "agent_close":
            return Entry(t=now, k=kind, code=rest[0], text=rest[1])
        case "audio_form":
            return Entry(t=now, k=kind, text=privacy.text(rest[0]))
        case "note":
            return Entry(t=now, k=kind, name=rest[0], text=privacy.text(rest[1]))
        case "step":
            return Entry(
                t=now, k=kind, name=rest[0], args=privacy.members({key: plain(each) for key, each in rest[1].items()})
            )
        case _:
            assert kind == "leg"
            return Entry(t=now, k=kind, request=request_of(rest[0], privacy))


def _whole(now: float, kind: str, rest: list[Any], privacy: Privacy) -> Entry:
    payload, size, *around = rest
    audio = ""
    if not privacy.digits:  # keys are heard in audio
        audio = base64.b64encode(payload).decode() if isinstance(payload, bytes) else payload
    return Entry(t=now, k=kind, size=size, id=_event_id(around[0]) if around else None, audio=audio)


def _event_id(around: str) -> int | None:
    found = _ID.search(around)
    return int(found.group(1)) if found else None


# --- reading ---------------------------------------------------------------------------------------------


def decode_flight(data: bytes) -> FlightLog:
    """Read a file. Raises ``FlightFileError``."""
    lines, is_whole = _unpack(data)
    if not lines:
        raise FlightFileError("this is no flight record: it holds no header")
    header = _header(lines[0])
    entries: list[Entry] = []
    decoder = msgspec.json.Decoder(Entry)
    for number, line in enumerate(lines[1:], 2):
        try:
            entry = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise FlightFileError(f"line {number} of the flight record cannot be read: {str(error)[:200]}") from None
        if entry.k == "end":
            if entry.size != len(entries) or number != len(lines):
                break
            return FlightLog(header, entries)
        entries.append(entry)
    words = "after" if is_whole else "within the entry that follows"
    raise FlightFileError(f"the flight record is cut short {words} {len(entries)} entries; copy the file again")


def _unpack(data: bytes) -> tuple[list[bytes], bool]:
    """Whole lines, and whether the compressed data has its proper end."""
    unpacker = zlib.decompressobj(_GZIP)
    try:
        text = unpacker.decompress(data, MAX_UNPACKED_BYTES)
    except zlib.error as error:
        problem = "damaged" if data[:2] == b"\x1f\x8b" else "not packed with gzip"
        raise FlightFileError(f"this is no flight record: the file is {problem} ({error})") from None
    if unpacker.unconsumed_tail:
        raise FlightFileError(f"this is no flight record: it unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    lines = text.split(b"\n")
    if any(len(line) > MAX_LINE_BYTES for line in lines):
        raise FlightFileError(f"this is no flight record: it has a line of more than {MAX_LINE_BYTES} bytes")
    return lines[:-1], unpacker.eof  # behind the last line end stands nothing, or a line that is not whole


class _Version(msgspec.Struct):
    flight: int
    bridge: str = "unknown"


def _header(line: bytes) -> FlightHeader:
    try:
        version = msgspec.json.decode(line, type=_Version)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise FlightFileError("this is no flight record: its first line is no header") from None
    if version.flight != VERSION:
        raise FlightFileError(
            f"this flight record has format {version.flight}, written by bridge {version.bridge[:40]!r}; this bridge "
            f"reads format {VERSION}: replay it with the version that wrote it"
        )
    try:
        return msgspec.json.decode(line, type=FlightHeader)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise FlightFileError(f"the header of the flight record cannot be read: {str(error)[:200]}") from None
