"""An adaptive jitter buffer for G.711: packets in as they come, one frame of 20 ms out at each tick of the clock.

Public: ``JitterBuffer``, ``JitterOptions``, ``Gap``.

Theory of operation. ``pop`` is called every 20 ms with the tick's own time (``media_clock``), so the buffer plays on an
absolute clock: the audio of timestamp ``t`` is due at the moment ``t + floor + target`` (``jitter_delay`` says what
both are). The pointer ``_play`` is the timestamp that comes next. How far it is behind what is due (*excess*) decides:

* below -10 ms (jitter has grown, or the sender's clock is slow): a frame is inserted, ``LOST`` without moving on;
* above 40 ms (jitter has fallen, or the sender's clock is fast): a frame is left out, at the first quiet one or after
  half a second; a loud one is blended into its successor;
* above 100 ms (a stall of ours, a burst): straight to what is due.

In pauses all this costs nothing, and is done at once. A frame that is not there is ``LOST`` while later ones are, and
for ``MAX_UNDERRUN_FRAMES`` at the end of all; then the stream has paused (``PAUSE``) and the next packet begins a
talkspurt, played exactly at the target delay. A marker says the same earlier. After comfort noise the gap is ``NOISE``.

``RESYNC_PACKETS`` packets in a row that are too late, or a timestamp far off, mean that the scale has changed: all is
learnt anew. Packets of 10 to 60 ms become frames of 20 ms; a frame of which at most half is missing is patched with
its other half. Memory: at most ``MAX_PACKETS`` packets.

Pure; not thread-safe; one per stream. What it is not: concealment (``concealment``) or decoding.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from bridge.errors import LocalError
from bridge.media.format import FRAME_MS, Encoding
from bridge.sip.g711_frames import blend, is_quiet
from bridge.sip.jitter_delay import DelayEstimator
from bridge.sip.rtp import TIMESTAMP_MASK, RtpPacket

RATE_HZ = 8000
FRAME = RATE_HZ * FRAME_MS // 1000
"""160 samples, which in G.711 are as many bytes."""
_PER_MS = RATE_HZ // 1000

MAX_PACKETS = 128
"""More than a second of packets of 10 ms."""
MAX_UNDERRUN_FRAMES = 5
"""100 ms: concealment has faded to silence by then."""
RESYNC_PACKETS = 5
MAX_AHEAD = 3 * RATE_HZ
"""A timestamp further ahead than 3 s is a new scale."""
MAX_BEHIND = RATE_HZ
"""A marker further behind than 1 s is one too."""
EARLY = RATE_HZ // 2
"""A packet this far ahead of its turn counts as early."""
_INSERT_BELOW = -10 * _PER_MS
_DROP_ABOVE = 40 * _PER_MS
_JUMP_ABOVE = 100 * _PER_MS
_PATIENCE_FRAMES = 25
"""Half a second of waiting for a quiet frame."""
_HALF_RANGE = 1 << 31


class Gap(enum.Enum):
    """What to play when there is no frame."""

    LOST = "lost"
    """Conceal: audio should be here."""
    NOISE = "noise"
    """Comfort noise, as ``JitterBuffer.noise`` describes it."""
    PAUSE = "pause"
    """Silence: nothing has come yet, or the sender has paused."""


@dataclass(frozen=True, slots=True)
class JitterOptions:
    """Bounds of the delay above that of the fastest packet; playing in frames adds up to 20 ms."""

    min_ms: int = 20
    max_ms: int = 200
    start_ms: int = 40
    """The least delay for the first 2 s, until the network is known."""

    def __post_init__(self) -> None:
        if not 10 <= self.min_ms <= self.start_ms <= self.max_ms <= 300:
            raise LocalError(f"jitter buffer: {self.min_ms} <= {self.start_ms} <= {self.max_ms} ms must be in 10-300")


@dataclass(slots=True)
class JitterCounts:
    """What has happened since the call began. Packets on the way in, frames of 20 ms on the way out."""

    received: int = 0
    late: int = 0
    """Came after their turn."""
    early: int = 0
    """Came half a second or more before their turn; played all the same."""
    duplicates: int = 0
    overflowed: int = 0
    """Refused because the buffer was full."""
    played: int = 0
    concealed: int = 0
    """``LOST`` for want of audio."""
    patched: int = 0
    """Played with a part missing."""
    inserted: int = 0
    """``LOST`` to play later from then on."""
    dropped: int = 0
    """Left out to play sooner from then on."""
    resyncs: int = 0
    """How often the scale was learnt anew."""


class JitterBuffer:
    """The buffer of one stream."""

    __slots__ = (
        "_base",
        "_delay",
        "_encoding",
        "_excess",
        "_is_playing",
        "_late_run",
        "_newest",
        "_noise_at",
        "_packets",
        "_patience",
        "_play",
        "_underrun",
        "counts",
        "noise",
    )

    def __init__(self, options: JitterOptions, encoding: Encoding) -> None:
        """``encoding`` is ULAW or ALAW."""
        self._encoding = encoding
        self._delay = DelayEstimator(
            options.min_ms * _PER_MS, options.max_ms * _PER_MS, options.start_ms * _PER_MS, RATE_HZ
        )
        self.counts = JitterCounts()
        self.noise = b""
        """The latest description of comfort noise (RFC 3389 payload)."""
        self._packets: dict[int, bytes] = {}
        self.reset()

    @property
    def target_ms(self) -> float:
        """The delay that is aimed at, above the fastest packet's."""
        return self._delay.target / _PER_MS

    @property
    def delay_ms(self) -> float:
        """The delay at the last ``pop``, above the fastest packet's; 0 in pauses."""
        return (self._delay.target + self._excess) / _PER_MS if self._is_playing else 0.0

    @property
    def waiting(self) -> int:
        """Packets in the buffer."""
        return len(self._packets)

    def reset(self) -> None:
        """Forget the stream (another source, SSRC or sequence); counts and what the network needed are kept."""
        self._packets.clear()
        self._delay.reset()
        self._base: int | None = None  # the last timestamp, unwrapped
        self._play = 0
        self._newest = 0
        self._is_playing = False
        self._underrun = 0
        self._late_run = 0
        self._patience = 0
        self._excess = 0
        self._noise_at: int | None = None

    def push(self, packet: RtpPacket, now: float) -> None:
        """Take an audio packet that has just come; ``now`` in seconds on the clock of ``pop``."""
        payload = packet.payload
        if not payload:
            return
        self.counts.received += 1
        arrival = int(now * RATE_HZ)
        timestamp = self._unwrapped(packet, arrival)
        packets = self._packets
        play = self._play
        if not self._is_playing and not packets and timestamp >= play:
            self._play = play = timestamp  # a talkspurt begins
        elif packet.marker and not packets and timestamp > play:
            self._play, self._is_playing = timestamp, False
        if timestamp < play:
            payload = payload[play - timestamp :]
            if not payload:
                self._too_late(packet, timestamp, arrival)
                return
            timestamp = play
        self._late_run = 0
        if timestamp in packets:
            self.counts.duplicates += 1
        elif len(packets) < MAX_PACKETS or self._purge():
            packets[timestamp] = payload
            if timestamp - play >= EARLY:
                self.counts.early += 1
        else:
            self.counts.overflowed += 1

    def push_noise(self, packet: RtpPacket, now: float) -> None:
        """Take a comfort noise packet: what follows its timestamp is noise until audio comes again.

        The first packet of a telephone-event, with an empty payload, says likewise that silence follows: senders leave
        the audio out meanwhile.
        """
        timestamp = self._unwrapped(packet, int(now * RATE_HZ))
        self.noise = packet.payload
        if self._noise_at is None:
            self._noise_at = timestamp

    def pop(self, now: float) -> bytes | Gap:
        """The frame of this tick, 160 bytes, or what to play instead."""
        play = self._play
        if self._base is None:
            return Gap.PAUSE
        excess = self._excess = int(now * RATE_HZ) - play - self._delay.wanted
        if not self._is_playing:
            if excess < 0 or not (self._packets or self._noise_at is not None):
                return Gap.NOISE if self._noise_at is not None and self._noise_at <= play else Gap.PAUSE
            self._is_playing, self._underrun = True, 0
        if excess < _INSERT_BELOW and self._noise_at is None:
            self.counts.inserted += 1
            return Gap.LOST
        if excess > _DROP_ABOVE:
            play = self._catch_up(excess)
        else:
            self._patience = 0
        frame = self._packets.pop(play, None)
        if frame is None or len(frame) != FRAME:
            frame = self._assembled(play, frame)
            if frame is None:
                return self._gap(play)
        self._play = play + FRAME
        self._underrun = 0
        if self._noise_at is not None and play >= self._noise_at:
            self._noise_at = None
        self.counts.played += 1
        return frame

    # --- private: on the way in ---

    def _unwrapped(self, packet: RtpPacket, arrival: int) -> int:
        """The timestamp on a scale that does not wrap; begins a new scale where the old one cannot hold."""
        if self._base is None:
            timestamp = packet.timestamp
            self._play = timestamp
        else:
            delta = (packet.timestamp - self._base + _HALF_RANGE & TIMESTAMP_MASK) - _HALF_RANGE
            timestamp = self._base + delta
            ahead = timestamp - self._play
            if delta and self._is_new_scale(packet, ahead, arrival):
                timestamp = self._resync(timestamp)
        self._base = timestamp
        self._delay.observe(arrival - timestamp, arrival)
        return timestamp

    def _is_new_scale(self, packet: RtpPacket, ahead: int, arrival: int) -> bool:
        """Whether a timestamp ``ahead`` of the pointer cannot belong to the clock of those before."""
        if ahead < 0:
            return packet.marker and ahead < -MAX_BEHIND
        if ahead <= MAX_AHEAD:
            return False
        # After a long pause the pointer is old. Measured by the clock, the packet may be just in time.
        return abs(arrival - self._play - ahead - self._delay.wanted) > MAX_AHEAD

    def _resync(self, timestamp: int) -> int:
        self.counts.resyncs += 1
        self.reset()
        self._play = timestamp
        return timestamp

    def _too_late(self, packet: RtpPacket, timestamp: int, arrival: int) -> None:
        self.counts.late += 1
        self._late_run += 1
        if self._late_run >= RESYNC_PACKETS:
            self._base = self._resync(timestamp)
            self._delay.observe(arrival - timestamp, arrival)
            self._packets[timestamp] = packet.payload

    def _purge(self) -> bool:
        """Throw away what can no longer be played; whether there was any."""
        old = [start for start, payload in self._packets.items() if start + len(payload) <= self._play]
        for start in old:
            del self._packets[start]
        return bool(old)

    # --- private: on the way out ---

    def _catch_up(self, excess: int) -> int:
        """The pointer after frames were left out, if any."""
        if excess > _JUMP_ABOVE or not self._packets or self._noise_at is not None:
            return self._jump(excess)
        self._patience += 1
        frame = self._packets.get(self._play)
        if frame is None or len(frame) != FRAME:
            frame = b""
        if frame and not is_quiet(frame, self._encoding) and self._patience < _PATIENCE_FRAMES:
            return self._play
        self._patience = 0
        self.counts.dropped += 1
        following = self._packets.get(self._play + FRAME)
        if frame and following is not None and len(following) == FRAME:
            self._packets[self._play + FRAME] = blend(frame, following, self._encoding)
        self._packets.pop(self._play, None)
        self._play += FRAME
        self._excess -= FRAME
        return self._play

    def _jump(self, excess: int) -> int:
        """Move on by whole frames to what is due; to the first packet after it, if there is one in the next frame."""
        frames = excess // FRAME
        self.counts.dropped += frames if self._noise_at is None and self._packets else 0
        self._play += frames * FRAME
        self._excess -= frames * FRAME
        self._purge()
        return self._play

    def _assembled(self, play: int, head: bytes | None) -> bytes | None:
        """A frame put together from packets of other sizes; ``None`` if more than half of it is missing.

        ``head`` is what was found at ``play`` itself, already taken out.
        """
        end = play + FRAME
        if not self._packets and not head:
            return None
        if head:
            self._packets[play] = head
        pieces: list[bytes] = []
        position, missing = play, 0
        for start in sorted(self._packets):
            if start >= end:
                break
            payload = self._packets.pop(start)
            if start < position:  # begins in what is already filled
                payload = payload[position - start :]
                start = position
            if not payload:
                continue
            missing += start - position
            pieces.append(payload[: end - start])
            position = start + len(pieces[-1])
            if len(payload) > len(pieces[-1]):
                self._packets.setdefault(end, payload[len(pieces[-1]) :])
        missing += end - position
        if missing == 0:
            return b"".join(pieces)
        if not pieces or missing > FRAME // 2:
            return None
        self.counts.patched += 1
        known = b"".join(pieces)
        return known + known[-missing:] if position < end else known[:missing] + known

    def _gap(self, play: int) -> Gap:
        """Nothing to play at ``play``: say why, and move on unless the stream has paused."""
        if self._noise_at is not None and self._noise_at <= play + FRAME:
            self._play = play + FRAME
            return Gap.NOISE
        if not self._packets:
            self._underrun += 1
            if self._underrun > MAX_UNDERRUN_FRAMES:
                self._is_playing = False
                return Gap.PAUSE
        self._play = play + FRAME
        self.counts.concealed += 1
        return Gap.LOST
