"""What both parties of a call heard, put on one stereo tape: caller left, agent right.

Public: ``StereoTape``, ``Channel``, ``SETTLE_S``. Sans-I/O: ``now`` is seconds on a monotonic clock.
A tape is a ``Tap``.

Theory of operation
-------------------
Within the media path a tape only appends: each call leaves an item in a deque and returns. ``take`` does the work in
bulk, may run in another thread (one taker at a time), and gives the audio up to a moment that should lie
``SETTLE_S`` in the past, because what belongs there is known only a little later.

Agent. Audio is handed to the carrier ahead of time and played in order, so it is placed at the end of what the
carrier still has, or now if that is nothing. A flush drops what lies later than its moment: nobody heard it.

Caller. Audio is placed by its arrival, but networks deliver it early, late and in bursts. Laid end to end, each payload
is late by (arrival - end of payload), and the least lateness from a payload on is what the network does not explain
by being slow. So a burst after a stall closes the stall without a seam, while audio that is missing leaves a
silence of its length. What is left over, from clocks that drift or a stall longer than ``SETTLE_S``, is made up where
the caller is quiet, by some more or some less silence; nothing that was said is cut for it until the tape is
``MAX_LATE_S`` of ``bridge.calls.reel`` behind.

Pause. While paused nothing is kept, not even in memory; only how long the caller's payloads were is noted, so that
speech which arrives after the pause, but was spoken within it, is recognised and dropped. Agent audio handed over
before or within a pause is not taken up again after it.
"""

from __future__ import annotations

import math
from collections import deque

from bridge.calls.reel import (
    AGENT,
    BLANK_AGENT,
    BLANK_CALLER,
    CALLER,
    CALLER_UNKEPT,
    FLUSH,
    ITEM_BYTES,
    NEVER,
    PAUSE,
    RESUME,
    Channel,
    Item,
    Reel,
)
from bridge.errors import LocalError
from bridge.media.format import MediaFormat

__all__ = ["MAX_BLANKS", "MAX_HELD_S", "MAX_PAUSES", "MAX_TAKE_S", "SETTLE_S", "Channel", "StereoTape"]

SETTLE_S = 0.5
"""How far behind the present a tape should be taken: longer than the longest payload (Genesys' 200 ms) and the usual
stall of a network, short enough that little is lost with the process."""
MAX_TAKE_S = 10.0
"""Most that one ``take`` gives, so that a long silence is not made in one piece."""
MAX_HELD_S = 30.0
"""Audio held at most, caller and agent together: the longest lead of a carrier, and a disk that hangs for a while."""
MAX_PAUSES = 1_000
"""After so many the tape stays paused: forgetting a pause would be worse."""
MAX_BLANKS = 10_000
"""After so many the channel stays silent, for the same reason; nobody presses as many keys."""

JOIN_S = 0.020
"""Agent audio that comes within a frame after the last is put right behind it: such a gap is the timer's, not heard."""

_PAYLOADS_PER_S = 50


class StereoTape:
    """The tape of one call, in the leg's format, from ``started_s`` on.

    All methods but ``take`` belong to one thread, and ``take`` to one thread at a time, which may be another:
    nothing is shared but the deque, and two counters with one writer each.
    """

    __slots__ = (
        "_agent_end",
        "_agent_kept_end",
        "_blanks_left",
        "_bytes_per_sample",
        "_closed",
        "_end",
        "_held_in",
        "_inbox",
        "_join",
        "_max_held",
        "_origin_s",
        "_paused",
        "_rate_hz",
        "_reel",
        "dropped_bytes",
        "format",
        "pauses",
        "started_s",
    )

    def __init__(self, media: MediaFormat, started_s: float, max_held_s: float = MAX_HELD_S) -> None:
        if media.channels != 1:
            raise ValueError(f"a leg's audio is mono, not of {media.channels} channels")
        self.format = media
        self.started_s = started_s
        self.pauses: list[tuple[float, float]] = []
        """Paused stretches in seconds of the tape; the last one ends at infinity while it lasts."""
        self.dropped_bytes = 0
        """Audio that came while the tape held all it may hold, because nobody took any."""
        self._rate_hz = media.rate_hz
        self._origin_s = started_s - 0.5 / media.rate_hz  # half a sample early, so that cutting off rounds
        self._bytes_per_sample = media.bytes_per_sample
        self._join = int(JOIN_S * media.rate_hz)
        self._max_held = int(max_held_s * (media.rate_hz * media.bytes_per_sample + _PAYLOADS_PER_S * ITEM_BYTES))
        self._inbox: deque[Item] = deque()
        self._reel = Reel(media)
        self._held_in = 0  # all that was ever kept; ``_reel.released`` is what left again
        self._agent_end = 0  # where the carrier runs dry
        self._agent_kept_end = 0  # the same of what is on the tape
        self._blanks_left = MAX_BLANKS
        self._paused = False
        self._closed = False
        self._end = NEVER

    # --- in: append and return ---

    def caller(self, payload: bytes, now: float) -> None:
        """Audio of the caller that has just arrived."""
        if self._closed:
            return
        position = int((now - self._origin_s) * self._rate_hz)
        if self._paused:
            if self._keep(0):
                self._inbox.append((CALLER_UNKEPT, position, len(payload) // self._bytes_per_sample, b""))
        elif self._keep(len(payload)):
            self._inbox.append((CALLER, position, len(payload) // self._bytes_per_sample, payload))

    def agent(self, payload: bytes, now: float) -> None:
        """Audio that was just handed to the carrier, which plays it behind what it has."""
        if self._closed:
            return
        position = int((now - self._origin_s) * self._rate_hz)
        start = position if position - self._agent_end > self._join else self._agent_end
        count = len(payload) // self._bytes_per_sample
        self._agent_end = start + count
        if not self._paused and self._keep(len(payload)):
            self._agent_kept_end = self._agent_end
            self._inbox.append((AGENT, start, count, payload))

    def flush(self, now: float) -> None:
        """The carrier drops what it has not played by now."""
        position = self._position(now)
        self._agent_end = min(self._agent_end, position)
        self._forget_agent_after(position)

    def pause(self, now: float) -> None:
        """Keep nothing from now on; a second pause changes nothing."""
        if self._closed or self._paused or len(self.pauses) >= MAX_PAUSES:
            return
        position = self._position(now)
        self._paused = True
        self.pauses.append((position / self._rate_hz, math.inf))
        self._forget_agent_after(position)
        self._inbox.append((PAUSE, position, 0, b""))

    def resume(self, now: float) -> None:
        """Record again."""
        if self._closed or not self._paused or len(self.pauses) >= MAX_PAUSES:
            return
        position = self._position(now)
        self._paused = False
        self.pauses[-1] = (self.pauses[-1][0], position / self._rate_hz)
        self._inbox.append((RESUME, position, 0, b""))

    def blank(self, channel: Channel, from_s: float, to_s: float) -> None:
        """Put silence over a stretch of one channel (times as ``now``), as far as it was not taken yet."""
        if self._closed or not self._blanks_left:
            return
        self._blanks_left -= 1
        start = self._position(from_s)
        count = self._position(to_s) - start if self._blanks_left else NEVER
        self._inbox.append((BLANK_CALLER if channel is Channel.CALLER else BLANK_AGENT, start, count, b""))

    def finish(self, now: float) -> None:
        """The call is over; what comes later is ignored. Take until infinity to get the rest."""
        if self._closed:
            return
        self._end = self._position(now)  # before _closed: the taker looks at both
        self._closed = True
        if self._paused:
            self.pauses[-1] = (self.pauses[-1][0], self._end / self._rate_hz)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is kept any more."""
        return self._closed

    @property
    def is_paused(self) -> bool:
        """Whether nothing is kept at the moment."""
        return self._paused

    @property
    def held_bytes(self) -> int:
        """What the tape occupies in memory, about."""
        return self._held_in - self._reel.released

    # --- out: in bulk ---

    @property
    def taken_s(self) -> float:
        """How much has been taken, in seconds of the tape."""
        return self._reel.taken / self._rate_hz

    def take(self, until_s: float) -> bytes:
        """The next stretch, up to ``until_s`` (as ``now``), as L16 with caller and agent interleaved.

        Gives ``MAX_TAKE_S`` at most: take until nothing comes. What is missing is silence. ``until_s`` must not lie
        in the future, except after ``finish``, when it may be infinity.
        """
        if math.isinf(until_s) and not self._closed:
            raise LocalError("a tape that runs has no end yet to be taken")
        end = self._end if math.isinf(until_s) else min(self._position(until_s), self._end)
        inbox, reel = self._inbox, self._reel
        for _ in range(len(inbox)):  # what comes meanwhile is for the next time
            reel.put(inbox.popleft())
        return reel.take(min(end, reel.taken + int(MAX_TAKE_S * self._rate_hz)))

    # --- own ---

    def _position(self, now: float) -> int:
        return max(0, int((now - self._origin_s) * self._rate_hz))

    def _keep(self, size: int) -> bool:
        """Whether there is room for a payload; counts it."""
        cost = size + ITEM_BYTES
        if self._held_in - self._reel.released + cost > self._max_held:
            self.dropped_bytes += size
            return False
        self._held_in += cost
        return True

    def _forget_agent_after(self, position: int) -> None:
        if self._agent_kept_end > position and not self._closed:
            self._agent_kept_end = position
            self._inbox.append((FLUSH, position, 0, b""))
