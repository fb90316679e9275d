"""Keys as RTP events: received packets become one key each, keys to send become packets.

Public: ``EventReceiver``, ``EventSender``, ``SenderOptions``, ``EventPacket``, ``Digit``, ``parse_events``,
``build_event``, ``EVENT_KEYS``.

Source: RFC 4733 sections 2.3 (payload), 2.5.1 (sending: marker and timestamp of the beginning, updates, end three
times, segments of long events), 2.5.2 (receiving), 3.2 (DTMF events 0-15). What it is not: SIP INFO or tones in the
audio (``dtmf_info``), or the RTP around the payload (``rtp``).

Theory of operation, in. A key is known by the timestamp of its beginning, so repeated, doubled and reordered packets
find it again. It is over with the end bit, with the beginning of another one, or ``lost_end_s`` after its last packet
when all packets with the end bit were lost. The timestamps of keys that are over are remembered for a while, so that
late packets do not make them anew. Keys longer than the 16 bits of a duration come in segments, each with a timestamp
of its own that lies where the one before ended: they are one key.

Pure: times are arguments. Keys are secrets (PINs): nothing here shows them in ``repr`` or in errors.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from bridge.errors import LocalError, RemoteError
from bridge.media.format import FRAME_MS
from bridge.sip.rtp import TIMESTAMP_MASK

EVENT_KEYS = "0123456789*#ABCD"
"""Key by event code (RFC 4733 table 3)."""
MAX_DURATION = 0xFFFF
MAX_BLOCKS = 16
"""Events in one payload that are looked at; senders put one."""
REMEMBERED = 16
"""Timestamps of keys that are over: seconds of dialling."""
FORGET_S = 1.0
"""Silence after which a timestamp may come again as a new key: players of recorded keys (SIPp) repeat it."""
_PAYLOAD = struct.Struct("!BBH")
_END = 0x80
_VOLUME = 0x3F
_HALF_RANGE = 1 << 31


class EventBlock(NamedTuple):
    """One event of a payload."""

    event: int
    is_end: bool
    volume: int
    """0 to 63 below 0 dBm0."""
    duration: int
    """In samples, since the beginning that the packet's timestamp names."""


@dataclass(frozen=True, slots=True, repr=False)
class Digit:
    """A key that was pressed."""

    key: str
    """One of ``EVENT_KEYS``."""
    duration_ms: int

    def __repr__(self) -> str:
        return f"Digit(duration_ms={self.duration_ms})"


def parse_events(payload: bytes) -> list[EventBlock]:
    """Read a payload: one event, or several in a row. Raises ``RemoteError`` if it is none."""
    if len(payload) < _PAYLOAD.size:
        raise RemoteError(f"telephone-event: {len(payload)} bytes are too few")
    whole = payload[: min(len(payload) // _PAYLOAD.size, MAX_BLOCKS) * _PAYLOAD.size]
    return [
        EventBlock(event, flags >= _END, flags & _VOLUME, duration)
        for event, flags, duration in _PAYLOAD.iter_unpack(whole)
    ]


def build_event(block: EventBlock) -> bytes:
    """Serialise one event. Raises ``LocalError`` if a field does not fit."""
    if not (0 <= block.event <= 255 and 0 <= block.volume <= _VOLUME and 0 <= block.duration <= MAX_DURATION):
        raise LocalError("telephone-event: a field does not fit")
    return _PAYLOAD.pack(block.event, block.volume | (_END if block.is_end else 0), block.duration)


class EventReceiver:
    """The keys of one call."""

    __slots__ = (
        "_clock_hz",
        "_done",
        "_duration",
        "_event",
        "_heard_at",
        "_last",
        "_lost_end_s",
        "_segment",
        "_start",
        "ignored",
        "malformed",
    )

    def __init__(self, clock_hz: int = 8000, lost_end_s: float = 0.25) -> None:
        """``lost_end_s``: silence after which a key without an end is over; updates come every 20 to 50 ms."""
        self._clock_hz = clock_hz
        self._lost_end_s = lost_end_s
        self._event: int | None = None
        self._start = 0  # of the key
        self._segment = 0  # of its present segment
        self._duration = 0  # since the key's start
        self._heard_at = 0.0
        self._done: deque[int] = deque(maxlen=REMEMBERED)
        self._last = (0, 0)  # where the last key began, and its duration
        self.malformed = 0
        """Packets that could not be read."""
        self.ignored = 0
        """Events that are no keys (flash, fax and modem tones)."""

    @property
    def is_pressed(self) -> bool:
        """Whether a key is held down."""
        return self._event is not None

    def receive(self, timestamp: int, payload: bytes, marker: bool, now: float) -> list[Digit]:
        """Take a packet; returns the keys that are over with it. Never raises on what comes."""
        try:
            blocks = parse_events(payload)
        except RemoteError:
            self.malformed += 1
            return []
        digits: list[Digit] = []
        for block in blocks:
            if block.event < len(EVENT_KEYS):
                self._take(timestamp, block, marker, now, digits)
            else:
                self.ignored += 1
            timestamp = (timestamp + block.duration) & TIMESTAMP_MASK
            marker = False
        return digits

    def tick(self, now: float) -> list[Digit]:
        """Let time pass; returns the key whose end was lost, if any. Cheap: call it with every frame."""
        if self._event is None or now - self._heard_at < self._lost_end_s:
            return []
        return [self._finished()]

    # --- private ---

    def _take(self, timestamp: int, block: EventBlock, marker: bool, now: float, digits: list[Digit]) -> None:
        if self._event is None and now - self._heard_at > FORGET_S:
            self._done.clear()
            self._last = (0, 0)
        if timestamp in self._done or self._is_inside_last(timestamp):
            self._heard_at = now if self._event is None else self._heard_at
            return
        if self._event is not None and timestamp != self._segment:
            if self._is_behind(timestamp):
                return
            if self._continues(timestamp, block, marker):
                self._done.append(self._segment)
                self._segment = timestamp
            else:
                digits.append(self._finished())
        if self._event is None:
            self._event, self._start, self._segment, self._duration = block.event, timestamp, timestamp, 0
        self._heard_at = now
        length = (timestamp - self._start & TIMESTAMP_MASK) + block.duration
        self._duration = max(self._duration, length)
        if block.is_end:
            digits.append(self._finished())

    def _is_behind(self, timestamp: int) -> bool:
        """Whether a packet belongs to a segment or key before the present one."""
        return (timestamp - self._segment & TIMESTAMP_MASK) >= _HALF_RANGE

    def _is_inside_last(self, timestamp: int) -> bool:
        """Whether a packet begins within the last key: some senders let the timestamp run on with each packet."""
        start, duration = self._last
        return (timestamp - start & TIMESTAMP_MASK) < duration

    def _continues(self, timestamp: int, block: EventBlock, marker: bool) -> bool:
        """Whether a packet with a new timestamp belongs to the present key: the next segment of a long one
        (section 2.5.1.3), or a sender's timestamp that runs on. Between two keys there is a gap."""
        if marker or block.event != self._event:
            return False
        distance = timestamp - self._segment & TIMESTAMP_MASK
        so_far = self._duration - (self._segment - self._start & TIMESTAMP_MASK)
        # The last updates of a full segment may have been lost.
        return distance <= so_far or distance == MAX_DURATION

    def _finished(self) -> Digit:
        assert self._event is not None
        digit = Digit(EVENT_KEYS[self._event], self._duration * 1000 // self._clock_hz)
        self._done.append(self._segment)
        self._last = (self._start, self._duration)
        self._event = None
        return digit


@dataclass(frozen=True, slots=True)
class SenderOptions:
    """How keys are sent."""

    tone_ms: int = 120
    """Length of a key; receivers need 40, some gateways more."""
    gap_ms: int = 100
    """Between two keys, counted from the end of the tone; the repeated ends go out in it."""
    volume: int = 10
    """In -dBm0, 0 to 63; what telephones send."""
    update_ms: int = 20
    """Between two packets of a key: 20, or 50 to spare bandwidth."""

    def __post_init__(self) -> None:
        if not (40 <= self.tone_ms <= 5000 and 60 <= self.gap_ms <= 5000 and 0 <= self.volume <= _VOLUME):
            raise LocalError("telephone-event: tone_ms is 40-5000, gap_ms 60-5000, volume 0-63")
        if not FRAME_MS <= self.update_ms <= 100:
            raise LocalError("telephone-event: update_ms is 20-100")


class EventPacket(NamedTuple):
    """What goes out in place of audio; the payload is for ``RtpSender.event``."""

    payload: bytes
    timestamp: int
    marker: bool


END_PACKETS = 3
"""The last packet goes out three times (section 2.5.1.4)."""
PAUSES_MS = {"w": 500, "W": 1000}
MAX_DIGITS = 128
"""As many as anybody dials; ten seconds and more of it."""


class EventSender:
    """Keys on their way out. Call ``tick`` once per frame of 20 ms until ``is_done``, and send no audio meanwhile."""

    __slots__ = ("_elapsed_ms", "_ends_left", "_line", "_next_update_ms", "_options", "_samples_per_ms", "_start")

    def __init__(self, digits: str, options: SenderOptions, clock_hz: int = 8000) -> None:
        """``digits``: ``0-9 * # A-D``, ``w`` 0.5 s and ``W`` 1 s of pause. Raises ``LocalError`` for anything else."""
        if len(digits) > MAX_DIGITS or any(digit not in EVENT_KEYS and digit not in PAUSES_MS for digit in digits):
            raise LocalError(f"telephone-event: only 0-9 * # A-D w W can be sent, at most {MAX_DIGITS}")
        self._line = deque(digits)
        self._options = options
        self._samples_per_ms = clock_hz // 1000
        self._start = 0
        self._elapsed_ms = 0
        self._next_update_ms = 0
        self._ends_left = END_PACKETS

    @property
    def is_done(self) -> bool:
        """Whether everything is sent, the gap after the last key included."""
        return not self._line

    def tick(self, timestamp: int) -> EventPacket | None:
        """What to send in this frame, which begins at ``timestamp`` of the media clock; ``None`` = nothing."""
        if not self._line:
            return None
        begins_ms = self._elapsed_ms
        self._elapsed_ms += FRAME_MS
        pause_ms = PAUSES_MS.get(self._line[0])
        if pause_ms is not None:
            self._next_if(self._elapsed_ms >= pause_ms)
            return None
        if begins_ms == 0:
            self._start, self._next_update_ms, self._ends_left = timestamp, 0, END_PACKETS
        packet = self._packet(begins_ms)
        self._next_if(self._elapsed_ms >= self._options.tone_ms + self._options.gap_ms)
        return packet

    # --- private ---

    def _packet(self, begins_ms: int) -> EventPacket | None:
        """The packet that describes the key up to the end of this frame."""
        tone_ms = self._options.tone_ms
        is_over = self._elapsed_ms >= tone_ms
        if is_over:
            if not self._ends_left:
                return None
            self._ends_left -= 1
        elif begins_ms < self._next_update_ms:
            return None
        self._next_update_ms += self._options.update_ms
        duration = min(self._elapsed_ms, tone_ms) * self._samples_per_ms
        block = EventBlock(EVENT_KEYS.index(self._line[0]), is_over, self._options.volume, duration)
        return EventPacket(build_event(block), self._start, begins_ms == 0)

    def _next_if(self, is_over: bool) -> None:
        if is_over:
            self._line.popleft()
            self._elapsed_ms = 0
