"""From the agent to the caller: convert, queue, release when the carrier may have it, and know what was heard.

One per call, made when the leg is accepted. Hold audio takes the same way. Sans-I/O like the call it belongs to.
"""

from __future__ import annotations

import math

from bridge import events
from bridge.calls.hold import HoldAudio, HoldLoop
from bridge.calls.stats import CallStats
from bridge.calls.tap import Tap
from bridge.leg import CarrierSpec, Leg
from bridge.media.format import FRAME_MS, MediaFormat
from bridge.media.playout import Playout
from bridge.media.transcode import Transcoder

HOLD_AHEAD_MS = 400
"""Hold audio that waits in the queue: enough to ride out a stall of the process."""


class Downlink:
    """The caller's ear. ``transcoder`` is None until the agent's format is known."""

    __slots__ = (
        "_frame_bytes",
        "_agent_format",
        "_held_ms",
        "_hold",
        "_hold_audio",
        "_hold_flushed_ms",
        "_hold_from_ms",
        "_leg",
        "_stats",
        "is_identity",
        "media",
        "playout",
        "tap",
        "transcoder",
        "writable",
    )

    def __init__(self, leg: Leg, spec: CarrierSpec, media: MediaFormat, max_queue_ms: int, stats: CallStats) -> None:
        self._leg = leg
        self._stats = stats
        self._frame_bytes = media.size_bytes(FRAME_MS)
        self._agent_format: MediaFormat | None = None
        self._hold: HoldLoop | None = None
        self._hold_audio: HoldAudio | None = None
        self._hold_from_ms: float | None = None  # where in all audio the hold audio begins, once it is queued
        self._held_ms = 0.0  # hold audio among what the playout counts as heard
        self._hold_flushed_ms = 0.0
        self.media = media
        self.playout = Playout(media, spec.lead_ms, spec.chunk_ms, max_queue_ms, spec.burst_ms)
        self.transcoder: Transcoder | None = None
        self.is_identity = False
        self.tap: Tap | None = None
        self.writable = True
        """Whether the carrier's socket takes more; everything waits here while it does not."""

    # --- the agent speaks ---

    def open(self, agent_format: MediaFormat) -> Transcoder:
        """The agent speaks this format from now on."""
        self._agent_format = agent_format
        self.transcoder = Transcoder(agent_format, self.media)
        self.is_identity = self.transcoder.is_identity
        return self.transcoder

    def relay(self, payload: bytes, now: float) -> str | bytes | None:
        """Agent audio by the shortest way; empty = look into ``leg.drain()``. See ``Call.relay_to_caller``."""
        if self._hold is not None:
            return ""  # who is on hold hears no agent
        if not self.is_identity:
            assert self.transcoder is not None
            payload = self.transcoder.process(payload)
        if self.writable and self.playout.pass_through(payload, now):
            self._stats.agent_frames += len(payload) // self._frame_bytes
            if self.tap is not None:
                self.tap.agent(payload, now)
            relayed = self._leg.audio_message(payload)
            if relayed is not None:
                return relayed
            self._leg.send(events.Play(payload), now)
            return ""
        self.playout.write(payload, now)
        self.release(now)
        return ""

    def write(self, payload: bytes, now: float) -> None:
        """Agent audio in the agent's format."""
        if self.transcoder is not None and self._hold is None:
            self.playout.write(self.transcoder.process(payload), now)
            self.release(now)

    def insert(self, payload: bytes, now: float) -> None:
        """Speech of the bridge's own, in the carrier's format, behind what the agent has said."""
        self.playout.write(payload, now)
        self.release(now)

    def release(self, now: float) -> None:
        """Give the leg what may go out now."""
        if not self.writable:
            return
        self._top_up(now)
        for item in self.playout.release(now):
            if isinstance(item, str):
                self._leg.send(events.Mark(item), now)
                continue
            if self._hold_from_ms is None:
                self._stats.agent_frames += len(item) // self._frame_bytes
            if self.tap is not None:
                self.tap.agent(item, now)
            self._leg.send(events.Play(item), now)
        self._top_up(now)

    def interrupt(self, now: float) -> tuple[bool, float]:
        """Throw away what was not heard: whether the carrier had to be told, and the milliseconds dropped here."""
        if self.transcoder is not None:
            self.transcoder.reset()
        dropped_ms = self.playout.queued_ms
        cleared = self.playout.flush(now)
        if self.tap is not None:
            self.tap.flush(now)
        if cleared:
            self._leg.send(events.Flush(), now)
        return cleared, dropped_ms

    def take_leg(self, leg: Leg, media: MediaFormat, now: float) -> None:
        """The carrier's stream was replaced; what it had not played is lost, what waits here is not."""
        self._leg = leg
        self.playout.restart(now)
        if media == self.media:
            return
        self.playout.convert(media, Transcoder(self.media, media).process)
        self.media, self._frame_bytes = media, media.size_bytes(FRAME_MS)
        if self._agent_format is not None:
            self.open(self._agent_format)
        if self._hold is not None:
            self._hold = HoldLoop(media, self._hold_audio)

    def next_timer(self) -> float:
        """When ``release`` has something to do."""
        return self.playout.next_timer() if self.writable else math.inf

    # --- hold ---

    @property
    def holding(self) -> bool:
        """Whether the caller is on hold."""
        return self._hold is not None

    @property
    def plays_hold(self) -> bool:
        """Whether it has begun: what was said before is heard first."""
        return self._hold_from_ms is not None

    def hold(self, audio: HoldAudio | None, now: float) -> None:
        """Play hold audio until ``resume``."""
        if self._hold is None:
            self._hold, self._hold_audio = HoldLoop(self.media, audio), audio
            self.release(now)

    def resume(self, now: float) -> None:
        """Stop the hold audio at once. Where it has not begun, what the agent said before is heard to its end."""
        begun_ms, self._hold, self._hold_from_ms = self._hold_from_ms, None, None
        if begun_ms is None:
            return
        playout = self.playout
        flushed_ms = self.media.duration_ms(playout.flushed_bytes)
        self.interrupt(now)
        flushed_ms = self.media.duration_ms(playout.flushed_bytes) - flushed_ms
        self._hold_flushed_ms += max(min(flushed_ms, playout.sent_ms + flushed_ms - begun_ms), 0.0)
        self._held_ms += max(playout.sent_ms - begun_ms, 0.0)

    def _top_up(self, now: float) -> None:
        playout = self.playout
        missing_ms = HOLD_AHEAD_MS - playout.queued_ms
        if self._hold is not None and missing_ms > FRAME_MS:
            if self._hold_from_ms is None:
                self._hold_from_ms = playout.sent_ms + playout.queued_ms
            frames = math.ceil(missing_ms / FRAME_MS)
            playout.write(self._hold.take(frames * self._frame_bytes), now)

    # --- what is known ---

    def count(self) -> None:
        """Bring the call's counters up to date."""
        stats, playout, media = self._stats, self.playout, self.media
        stats.agent_dropped_ms = media.duration_ms(playout.dropped_bytes)
        stats.agent_flushed_ms = media.duration_ms(playout.flushed_bytes) - self._hold_flushed_ms
        stats.gaps = playout.gaps
        if self._hold_from_ms is None:
            stats.heard_ms = playout.confirmed_ms - self._held_ms
