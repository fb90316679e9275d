"""The RTP side of a simulated SIP end: speaks in real time, listens closely, and keeps count.

``RtpEar`` is sans-I/O: what came, when, and what was wrong with it. ``SipMedia`` has the sockets and the clock; the
times of packets are the kernel's where it tells them, so that a busy simulator does not count as a late bridge.

Strict: payload types that were not agreed on, packets of another length than 20 ms, an SSRC or timestamps that jump,
audio while it is on hold, are violations. Sources: RFC 3550 section 5.1, RFC 3551 section 4, RFC 4733, RFC 3264 8.4.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bridge.errors import RemoteError
from bridge.media.format import FRAME_MS, ULAW_8K, Encoding
from bridge.media.g711 import alaw_to_pcm, pcm_to_alaw, pcm_to_ulaw, ulaw_to_pcm
from bridge.simulators.sip_result import LONG_GAP_MS, Notes, RtpFigures, pacing
from bridge.simulators.sip_terms import STATIC_TYPES, Terms
from bridge.simulators.twilio_playout import SILENCE, Gap
from bridge.sip.dtmf_info import inband_frames
from bridge.sip.rtcp import parse_rtcp
from bridge.sip.rtp import RtpPacket, RtpSender, parse_rtp
from bridge.sip.telephone_event import EventReceiver, EventSender, SenderOptions

FRAME_BYTES = ULAW_8K.size_bytes(FRAME_MS)
SILENT_FRAME = SILENCE * FRAME_BYTES
JITTER_FRAMES = 2
"""Played out that much later than it comes: enough for a loopback network."""
MAX_QUEUED_FRAMES = 50
"""A second of audio that waits to be played; the oldest is dropped."""
HOLD_GRACE_S = 0.5
"""Audio under way when a hold was agreed on."""
MAX_ERRORS = 200_000
"""Pacing errors kept: more than an hour."""
READS = 64
"""Datagrams taken at a time."""
_TIMESTAMPS = 35
"""SO_TIMESTAMPNS of Linux: the kernel says when a datagram arrived."""
_TIME = struct.Struct("qq")
_COMFORT_NOISE = 13
_SAMPLES_PER_MS = 8

_CODES = bytes(range(256))
_TO_ULAW = {Encoding.ULAW: None, Encoding.ALAW: pcm_to_ulaw(alaw_to_pcm(_CODES))}
_FROM_ULAW = {Encoding.ULAW: None, Encoding.ALAW: pcm_to_alaw(ulaw_to_pcm(_CODES))}


class Speaker(Protocol):
    """Who speaks and listens: in steps of 20 ms of mu-law."""

    def __call__(self, at_ms: float, heard: bytes) -> bytes | None:
        """Live through 20 ms; None = nothing is sent in them."""


class RtpEar:
    """What came over one call's RTP port."""

    def __init__(self, notes: Notes, figures: RtpFigures) -> None:
        self.notes, self.figures = notes, figures
        self.keys = EventReceiver()
        self.digits = ""
        self.frames: deque[bytes] = deque()
        """Heard audio as mu-law, in pieces of 20 ms, yet to be played."""
        self._errors_ms = array("f")
        self._last: tuple[RtpPacket, float] | None = None  # audio, and when it came
        self._highest = 0
        self._last_any_s: float | None = None
        self._ssrcs: set[int] = set()
        self._seen: deque[int] = deque(maxlen=64)
        self._answered_s: float | None = None
        self._changed_s = 0.0
        self.terms: Terms | None = None

    def agreed(self, terms: Terms, now: float) -> None:
        """Other terms hold from now on."""
        if self.terms is None or terms.receives != self.terms.receives:
            self._changed_s = now
            self._last_any_s, self._last = None, None
        self.terms = terms

    def answered(self, now: float) -> None:
        """The call is up: gaps count from here."""
        self._answered_s = now

    def receive(self, datagram: bytes, now: float) -> None:
        """Take one datagram of the RTP port."""
        try:
            packet = parse_rtp(datagram)
        except RemoteError as error:
            self.notes.violate("RFC 3550 5.1", str(error), now)
            return
        terms = self.terms
        if terms is None or self._answered_s is None:
            self.figures.early_received += 1
            if terms is None:
                return
        if packet.payload_type == terms.event_receive_type:
            self._key(packet, now)
        elif packet.payload_type in terms.receive_types:
            self._audio(packet, now)
        else:
            self.notes.violate("RFC 3264 6.1", f"RTP of type {packet.payload_type} was not agreed on", now)

    def finish(self) -> None:
        """Sum up."""
        self.figures.pacing = pacing(self._errors_ms)
        self.figures.sources = len(self._ssrcs)

    def _key(self, packet: RtpPacket, now: float) -> None:
        self.figures.event_packets += 1
        self._count(packet, now)
        self._last, self._last_any_s = None, None  # after a key nothing is due until the pause behind it is over
        for digit in self.keys.receive(packet.timestamp, packet.payload, packet.marker, now):
            self.digits += digit.key

    def _audio(self, packet: RtpPacket, now: float) -> None:
        assert self.terms is not None
        if not self.terms.receives:
            if now - self._changed_s > HOLD_GRACE_S:
                self.figures.held_received += 1
                self.notes.violate("RFC 3264 8.4", "RTP comes although the call is on hold", now)
            return
        if not self._count(packet, now):
            return
        self._arrived(now)
        if packet.payload_type == _COMFORT_NOISE:  # it takes the place of audio
            self._last = None
            return
        if len(packet.payload) != FRAME_BYTES:
            self.notes.violate("ptime", f"a packet of {len(packet.payload)} bytes, not of {FRAME_BYTES}", now)
        self._compare(packet, now)
        self._last = (packet, now)
        self.figures.received += 1
        if self.figures.first_ms is None and self._answered_s is not None:
            self.figures.first_ms = round((now - self._answered_s) * 1000, 1)
        self._queue(packet)

    def _queue(self, packet: RtpPacket) -> None:
        table = _TO_ULAW[Encoding.ALAW if packet.payload_type == STATIC_TYPES[Encoding.ALAW] else Encoding.ULAW]
        audio = packet.payload if table is None else packet.payload.translate(table)
        for start in range(0, len(audio), FRAME_BYTES):
            self.frames.append(audio[start : start + FRAME_BYTES].ljust(FRAME_BYTES, SILENCE))
        while len(self.frames) > MAX_QUEUED_FRAMES:
            self.frames.popleft()

    def _count(self, packet: RtpPacket, now: float) -> bool:
        """Keep the books of one stream; False for what is not to be played: a duplicate, or too late."""
        if packet.ssrc not in self._ssrcs:
            self._ssrcs.add(packet.ssrc)
            if len(self._ssrcs) > 1:
                self.notes.violate("RFC 3550 8", "the SSRC changes within a call", now)
            self._highest, self._last = packet.sequence, None
            self._seen.clear()
            self._seen.append(packet.sequence)
            return True
        if packet.sequence in self._seen:
            self.figures.duplicates += 1
            return False
        self._seen.append(packet.sequence)
        step = (packet.sequence - self._highest) & 0xFFFF
        if step >= 0x8000:
            self.figures.reordered += 1
            self.figures.lost = max(0, self.figures.lost - 1)
            return False
        self.figures.lost += step - 1
        self._highest = packet.sequence
        return True

    def _compare(self, packet: RtpPacket, now: float) -> None:
        """Against the audio packet before, where nothing else came between them."""
        if self._last is None:
            return
        before, before_s = self._last
        steps = (packet.sequence - before.sequence) & 0xFFFF
        moved = (packet.timestamp - before.timestamp) & 0xFFFFFFFF
        if moved % FRAME_BYTES or moved >= 0x80000000 or moved < steps * FRAME_BYTES:
            self.notes.violate("RFC 3550 5.1", f"the timestamp moves by {moved} over {steps} packets", now)
        elif len(self._errors_ms) < MAX_ERRORS:
            self._errors_ms.append(abs((now - before_s) * 1000 - moved / _SAMPLES_PER_MS))

    def _arrived(self, now: float) -> None:
        last, self._last_any_s = self._last_any_s, now
        if last is None or self._answered_s is None or last < self._answered_s:
            return
        length_ms = (now - last) * 1000
        self.figures.longest_gap_ms = max(self.figures.longest_gap_ms, round(length_ms, 1))
        if length_ms > LONG_GAP_MS:
            self.figures.gaps.append(Gap(round((last - self._answered_s) * 1000, 1), round(length_ms, 1)))


@dataclass(frozen=True, slots=True)
class MediaWays:
    """How one end's media behaves."""

    host: str
    port: int = 0
    """RTP port, even; 0 = any pair."""
    ptime_ms: int = 20
    keeps_audio: bool = True
    keys: SenderOptions = SenderOptions(tone_ms=100, gap_ms=80)
    is_mute: bool = False
    """Never sends anything: a caller whose packets do not come through."""


class SipMedia:
    """One call's ports, clock and both tracks."""

    def __init__(self, ways: MediaWays, notes: Notes, figures: RtpFigures, sender: RtpSender, speaker: Speaker) -> None:
        self.ways, self.figures = ways, figures
        self.ear = RtpEar(notes, figures)
        self.said, self.heard = bytearray(), bytearray()
        self.port = 0
        self._notes = notes
        self._sender = sender
        self._speaker = speaker
        self._rtp: socket.socket | None = None
        self._rtcp: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._events: EventSender | None = None
        self._tones: deque[bytes] = deque()
        self._unsent = b""
        self._is_playing = False
        self._needs_marker = True

    def open(self) -> None:
        """Bind both ports. Raises ``OSError`` if they are taken."""
        self._rtp, self._rtcp = _pair(self.ways.host, self.ways.port)
        self.port = self._rtp.getsockname()[1]
        loop = asyncio.get_running_loop()
        loop.add_reader(self._rtp.fileno(), self._read, self._rtp, self.ear.receive)
        loop.add_reader(self._rtcp.fileno(), self._read, self._rtcp, self._report)

    def agree(self, terms: Terms) -> None:
        """These terms hold from now on."""
        self.ear.agreed(terms, time.monotonic())

    def begin(self, *, is_answered: bool = True) -> None:
        """Speak and listen from now on: because the call is answered, or for the sake of early media."""
        if is_answered:
            self.ear.answered(time.monotonic())
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def press(self, digits: str) -> bool:
        """Press keys by telephone-event; False if that was not agreed on."""
        terms = self.ear.terms
        if terms is None or terms.event_type is None:
            return False
        self._events = EventSender(digits, self.ways.keys)
        return True

    @property
    def is_pressing(self) -> bool:
        """Whether keys are still going out."""
        return bool(self._tones) or (self._events is not None and not self._events.is_done)

    def sound(self, digits: str) -> None:
        """Press keys as tones in the audio."""
        self._tones += inband_frames(digits, self.ways.keys, Encoding.ULAW)

    async def close(self) -> None:
        """Stop, and sum up."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for sock in (self._rtp, self._rtcp):
            if sock is not None:
                asyncio.get_running_loop().remove_reader(sock.fileno())
                sock.close()
        self._rtp = self._rtcp = None
        self.ear.finish()

    # --- private -----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        started_s = time.monotonic()
        tick = 0
        while True:
            self._step(tick * FRAME_MS)
            tick += 1
            delay_s = started_s + tick * FRAME_MS / 1000 - time.monotonic()
            await asyncio.sleep(max(delay_s, 0.0))

    def _step(self, at_ms: float) -> None:
        now = time.monotonic()
        for digit in self.ear.keys.tick(now):
            self.ear.digits += digit.key
        heard = self._next_heard()
        spoken = self._speaker(at_ms, heard)
        if self._tones and spoken is not None:
            spoken = self._tones.popleft()
        if self.ways.keeps_audio:
            self.heard += heard
            self.said += SILENT_FRAME if spoken is None else spoken
        self._send(spoken)

    def _next_heard(self) -> bytes:
        frames = self.ear.frames
        if not self._is_playing and len(frames) < JITTER_FRAMES:
            return SILENT_FRAME
        self._is_playing = bool(frames)
        return frames.popleft() if frames else SILENT_FRAME

    def _send(self, spoken: bytes | None) -> None:
        terms, sender = self.ear.terms, self._sender
        if terms is None or not terms.sends or self.ways.is_mute or spoken is None:
            sender.skip(FRAME_BYTES)
            self._needs_marker, self._unsent = True, b""
            return
        if self._events is not None and not self._events.is_done:
            event = self._events.tick(sender.timestamp)
            sender.skip(FRAME_BYTES)
            if event is not None and terms.event_type is not None:
                self._put(sender.event(terms.event_type, event.payload, event.timestamp, event.marker), terms)
            self._needs_marker = True
            return
        table = _FROM_ULAW[terms.encoding]
        self._unsent += spoken if table is None else spoken.translate(table)
        size = self.ways.ptime_ms * FRAME_BYTES // FRAME_MS
        while len(self._unsent) >= size:
            payload, self._unsent = self._unsent[:size], self._unsent[size:]
            self._put(sender.audio(terms.payload_type, payload, size, self._needs_marker), terms)
            self._needs_marker = False

    def _put(self, datagram: bytes, terms: Terms) -> None:
        if self._rtp is not None:
            with contextlib.suppress(OSError):  # a full buffer or a refused port loses a packet, as networks do
                self._rtp.sendto(datagram, terms.remote)
                self.figures.sent += 1

    def _read(self, sock: socket.socket, take: Callable[[bytes, float], None]) -> None:
        offset_s = time.monotonic() - time.time()
        for _ in range(READS):
            try:
                data, extra, _, _ = sock.recvmsg(2048, 128)
            except OSError:
                return
            stamps = [value for level, kind, value in extra if (level, kind) == (socket.SOL_SOCKET, _TIMESTAMPS)]
            if stamps:
                seconds, nanoseconds = _TIME.unpack_from(stamps[0])
                take(data, seconds + nanoseconds / 1e9 + offset_s)
            else:
                take(data, time.monotonic())

    def _report(self, data: bytes, now: float) -> None:
        self.figures.rtcp_received += 1
        try:
            parse_rtcp(data)
        except RemoteError as error:
            self._notes.violate("RFC 3550 6", str(error), now)


def _pair(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """An even port and the next, bound. Raises ``OSError`` if there is none."""
    for _ in range(50):
        rtp = _bound(host, port)
        number = rtp.getsockname()[1]
        if number % 2 == 0:
            try:
                return rtp, _bound(host, number + 1)
            except OSError:
                pass
        rtp.close()
        if port:
            break
    raise OSError("no free pair of RTP ports")


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if sys.platform == "linux":
            sock.setsockopt(socket.SOL_SOCKET, _TIMESTAMPS, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
