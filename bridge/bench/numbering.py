"""Numbered audio for pass-through: every 20 ms frame carries its call, turn, number and send time as bytes.

Any byte is legal mu-law and any two are a legal sample of L16, so a server that passes audio through must deliver
these bytes unchanged; it may cut and join them as it likes. The reader treats what arrives as one stream of bytes
and finds the records by their sync word, so loss, reordering, duplication, changed bytes, crosstalk between calls
and inserted silence are all told apart, and every record yields an exact latency: its sender and its receiver share
one clock.

Record, 160 bytes of mu-law (320, 640 or 960 of L16), little-endian: sync word (4), call (2), turn (2), number (4),
number of the turn's first record (4), send time in ns (8), filler (the rest). Pure: no clock, no sockets.
"""

from __future__ import annotations

import binascii
import struct

from bridge.bench.figures import LatencyLog, PathTally

RECORD_BYTES = 160
"""One frame of telephony: 20 ms of 8 kHz mu-law."""

RECORD_MS = 20
LINEAR_SILENCE = 0x00
SYNC = b"\xb7\x1e\x5a\xc3"
_HEADER = struct.Struct("<4sHHIIQ")
FILLER = bytes(range(1, RECORD_BYTES - _HEADER.size + 1))
"""Bytes 1..136: without 0xFF and 0x00, so that silence put in by a server is told from ours, and without the sync
word. Longer records repeat it."""

_SILENCE = 0xFF
MAX_MISSING = 10_000
"""How many missing numbers are remembered for telling reordering from loss; 200 s of audio."""

Record = tuple[bytes, int, int, int, int, int]
"""Sync word, call, turn, number, number of the turn's first record, send time in ns."""


def filler(record_bytes: int) -> bytes:
    """What follows the header in records of this size."""
    size_bytes = record_bytes - _HEADER.size
    return (FILLER * -(-size_bytes // len(FILLER)))[:size_bytes]


def build_record(
    call: int, turn: int, number: int, turn_first: int, sent_ns: int, record_bytes: int = RECORD_BYTES
) -> bytes:
    """One record."""
    return _HEADER.pack(SYNC, call, turn, number, turn_first, sent_ns) + filler(record_bytes)


class RecordReader:
    """Finds records in a stream of bytes that may be cut anywhere."""

    __slots__ = ("_carry", "_filler", "_record_bytes", "_silence", "corrupt", "foreign_bytes", "silence_bytes")

    def __init__(self, record_bytes: int = RECORD_BYTES) -> None:
        """Records of mu-law have 160 bytes; all others are L16, which has another silence."""
        self._record_bytes, self._filler = record_bytes, filler(record_bytes)
        self._silence = _SILENCE if record_bytes == RECORD_BYTES else LINEAR_SILENCE
        self._carry = b""
        self.corrupt = 0
        self.foreign_bytes = 0
        self.silence_bytes = 0

    def feed(self, payload: bytes) -> list[Record]:
        """Take the next bytes of the stream; return the records that are complete."""
        data = self._carry + payload if self._carry else payload
        size = len(data)
        position = 0
        records: list[Record] = []
        while size - position >= self._record_bytes:
            end = position + self._record_bytes
            if not data.startswith(SYNC, position):
                position = self._skip(data, position)
            elif data.endswith(self._filler, position, end):
                records.append(_HEADER.unpack_from(data, position))
                position = end
            else:
                self.corrupt += 1
                # A record cut short is followed by the next one's sync word; one with changed bytes is not.
                follower = data.find(SYNC, position + len(SYNC), end)
                position = end if follower < 0 else follower
        self._carry = data[position:]
        return records

    def leftover(self) -> int:
        """Bytes of an unfinished record; 0 at the end of a clean stream."""
        return len(self._carry)

    def reset(self) -> None:
        """Forget an unfinished record: the stream starts afresh after a flush."""
        self._carry = b""

    def _skip(self, data: bytes, start: int) -> int:
        found = data.find(SYNC, start + 1)
        # The last bytes may be the first of a sync word: leave them for the next call.
        end = found if found >= 0 else len(data) - len(SYNC) + 1
        silence = data.count(self._silence, start, end)
        self.silence_bytes += silence
        self.foreign_bytes += end - start - silence
        return end


class NumberedSource:
    """Makes the messages of one direction of one call."""

    __slots__ = (
        "_filler",
        "_filler_base64",
        "_raw",
        "call",
        "number",
        "record_bytes",
        "records_per_message",
        "turn",
        "turn_first",
    )

    def __init__(
        self, call: int, records_per_message: int, *, raw: bool = False, record_bytes: int = RECORD_BYTES
    ) -> None:
        """``raw`` leaves the audio as it is, for wires that carry bytes; others carry base64."""
        self._raw = raw
        self._filler = filler(record_bytes)
        # The header is 24 bytes, a multiple of 3, so header and filler can be encoded apart.
        self._filler_base64 = binascii.b2a_base64(self._filler, newline=False)
        self.record_bytes = record_bytes
        self.call = call
        self.records_per_message = records_per_message
        self.number = 0
        """Number of the next record."""
        self.turn = 0
        self.turn_first = 0

    def message(self, now_ns: int) -> bytes:
        """The next message's audio as the wire carries it, to be sent now."""
        first = self.number
        self.number += self.records_per_message
        if self.records_per_message == 1 and not self._raw:
            header = _HEADER.pack(SYNC, self.call, self.turn, first, self.turn_first, now_ns)
            return binascii.b2a_base64(header, newline=False) + self._filler_base64
        # Parts are joined rather than whole records, because 4000 of these messages a second are made.
        parts: list[bytes] = []
        for number in range(first, self.number):
            parts.append(_HEADER.pack(SYNC, self.call, self.turn, number, self.turn_first, now_ns))
            parts.append(self._filler)
        audio = b"".join(parts)
        return audio if self._raw else binascii.b2a_base64(audio, newline=False)

    def new_turn(self) -> None:
        """Begin a new turn: what follows may overtake what came before."""
        self.turn += 1
        self.turn_first = self.number

    @property
    def sent_ms(self) -> float:
        """Audio made so far."""
        return self.number * RECORD_MS


class NumberedSink:
    """Takes what arrives of one direction of one call, and keeps the books."""

    __slots__ = (
        "_call",
        "_cleared_turn",
        "_expected",
        "_filler",
        "_first",
        "_log",
        "_missing",
        "_reader",
        "_received",
        "_record_bytes",
        "_records",
        "_source",
        "_tally",
        "_turn",
    )

    def __init__(self, source: NumberedSource, log: LatencyLog, first: LatencyLog | None = None) -> None:
        """Latencies go to ``log``, and those of the first record of each turn to ``first`` as well."""
        self._first = first
        self._source = source
        self._call = source.call
        self._records = source.records_per_message
        self._log = log
        self._record_bytes, self._filler = source.record_bytes, filler(source.record_bytes)
        self._reader = RecordReader(source.record_bytes)
        self._tally = PathTally()
        self._received = 0
        self._expected = 0
        self._turn = 0
        self._cleared_turn = 0
        self._missing: set[int] = set()

    def receive(self, payload: bytes, now_ns: int) -> None:
        """Take the audio of one message. Latency counts for the first record of each message sent."""
        if len(payload) == self._record_bytes and self._take_expected(payload, now_ns):
            return
        for _, call, turn, number, turn_first, sent_ns in self._reader.feed(payload):
            if call != self._call:
                self._tally.crosstalk += 1
                continue
            if turn != self._cleared_turn:
                if turn < self._cleared_turn:
                    self._tally.stale_bytes += self._record_bytes
                    continue
                self._tally.early_ms += RECORD_MS
            if turn > self._turn:
                self._begin_turn(turn, turn_first)
            if number == self._expected:
                self._expected += 1
                self._received += 1
            elif not self._note_disorder(number):
                continue
            if number % self._records == 0:
                self._log.note(sent_ns, now_ns)
                if number == turn_first and self._first is not None:
                    self._first.note(sent_ns, now_ns)

    def cleared(self, turn: int) -> None:
        """A flush arrived: audio of turns before ``turn`` must not come any more."""
        self._cleared_turn = turn
        self._reader.reset()

    def tally(self) -> PathTally:
        """Close the books: what the source sent and what came of it."""
        tally, source = self._tally, self._source
        if source.turn > self._turn:
            self._begin_turn(source.turn, source.turn_first)
        tally.sent_ms = source.sent_ms
        tally.received_ms = self._received * RECORD_MS
        tally.lost_ms += (source.number - self._expected + len(self._missing)) * RECORD_MS
        tally.corrupt = self._reader.corrupt
        tally.foreign_bytes = self._reader.foreign_bytes + self._reader.leftover()
        tally.inserted_silence_bytes = self._reader.silence_bytes
        return tally

    def _take_expected(self, payload: bytes, now_ns: int) -> bool:
        """Book the one record that was to come next; False for whatever else it may be.

        The usual case upwards, 20 000 times a second: the load must cost little, or it measures itself.
        """
        sync, call, turn, number, _, sent_ns = _HEADER.unpack_from(payload)
        if (
            number != self._expected
            or turn != self._turn
            or turn != self._cleared_turn
            or call != self._call
            or sync != SYNC
            or not payload.endswith(self._filler)
            or self._reader.leftover()
        ):
            return False
        self._expected = number + 1
        self._received += 1
        if number % self._records == 0:
            self._log.note(sent_ns, now_ns)
        return True

    def _begin_turn(self, turn: int, turn_first: int) -> None:
        # What the old turn still owed was interrupted, not lost.
        self._tally.discarded_ms += (turn_first - self._expected) * RECORD_MS
        self._turn, self._expected = turn, turn_first

    def _note_disorder(self, number: int) -> bool:
        """Book a record that is not the expected one. Returns whether it is news."""
        if number > self._expected:
            self._missing.update(range(self._expected, min(number, self._expected + MAX_MISSING)))
            self._expected = number + 1
        elif number in self._missing:
            self._missing.remove(number)
            self._tally.reordered += 1
        else:
            self._tally.duplicated += 1
            return False
        self._received += 1
        return True
