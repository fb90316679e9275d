"""Agent audio on its way to the carrier: when each piece goes out, and what the caller has heard of it.

Theory of operation
-------------------
The carrier plays at a constant rate from a buffer of its own. ``Playout`` keeps a virtual playhead of that
buffer on an absolute clock: ``_dry_at_s`` is the moment at which the carrier will have played all that was
sent. Audio is released as soon as the lead (``_dry_at_s - now``) stays within ``lead_ms``, always in whole
20 ms frames; the rest waits here, so that an interruption throws away most of a long answer locally and the
carrier's ``clear`` has little left to do. Nothing sleeps relative to the last send, so nothing drifts.

Carriers that want their messages evenly (``burst_ms``) get only the first frames of a talkspurt at once; the lead then
grows from there at twice real time, so that no gap follows the burst.

A remainder shorter than a frame waits for more audio until the carrier is about to run dry, then it is
padded with silence: nothing is held back for good.

Marks tell what was really played. One is set at the end of each talkspurt (nothing new for ``TURN_GAP_S``
after the carrier ran dry) and one when the caller of this class asks for it (``finish``). Their names carry
the generation, which every ``flush`` raises: carriers echo flushed marks as if they had been played, and
such an echo counts for nothing.

Sans-I/O: ``now`` is seconds on a monotonic clock.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from bridge.media.format import FRAME_MS, MediaFormat
from bridge.media.frames import Reframer

TAIL_MARGIN_S = 0.010
"""A short remainder is padded and sent this long before the carrier runs dry: half a frame, so that a late
timer does not turn into a gap."""

TURN_GAP_S = 0.500
"""Silence after which a talkspurt of the agent counts as over and its mark is set: longer than the pauses between
two messages of one answer. Waiting costs nothing, because an idle carrier answers a mark at once."""

LONGEST_GAP_S = 0.200
"""Running dry for longer is no gap in an answer but a pause of the agent's."""

GAP_TOLERANCE_S = 0.020
"""How dry the carrier must have run within a talkspurt to count as a gap: less than a frame is not heard."""

TIMER_TOLERANCE_S = 1e-6
"""A timer that fires exactly on time must not find itself too early by a rounding error."""


class Playout:
    """The queue of one call's agent audio, with the virtual playhead of the carrier behind it."""

    __slots__ = (
        "_aligner",
        "_burst_s",
        "_bytes_per_s",
        "_chunk_s",
        "_confirmed_bytes",
        "_dry_at_s",
        "_frame_bytes",
        "_head_offset",
        "_lead_s",
        "_marks_set",
        "_max_queue_bytes",
        "_media",
        "_pending",
        "_queue",
        "_queued_bytes",
        "_sent_bytes",
        "_spurt_s",
        "_talkspurt_open",
        "dropped_bytes",
        "flushed_bytes",
        "gaps",
        "generation",
    )

    def __init__(
        self, media: MediaFormat, lead_ms: int, chunk_ms: int, max_queue_ms: int, burst_ms: int | None = None
    ) -> None:
        self._media = media
        self._frame_bytes = media.size_bytes(FRAME_MS)
        self._lead_s = lead_ms / 1000
        self._chunk_s = chunk_ms / 1000
        self._burst_s = math.inf if burst_ms is None else burst_ms / 1000
        self._spurt_s = 0.0  # when the carrier last began to play after having run dry
        self._bytes_per_s = media.rate_hz * media.bytes_per_sample
        self._max_queue_bytes = media.size_bytes(max_queue_ms)
        self._aligner = Reframer(media.bytes_per_sample)  # peers may cut L16 within a sample
        self._queue: deque[bytes | str] = deque()  # payloads, and names of marks between them
        self._queued_bytes = 0
        self._head_offset = 0  # bytes of the first payload that were sent already
        self._dry_at_s = -math.inf
        self._sent_bytes = 0
        self._confirmed_bytes = 0  # what a mark has confirmed as played, or a flush has settled
        self._pending: dict[str, int] = {}  # marks with the carrier: name -> _sent_bytes when it was set
        self._marks_set = 0
        self._talkspurt_open = False  # audio was sent that no mark follows yet
        self.generation = 0
        """Raised by every flush; part of every mark's name."""
        self.dropped_bytes = 0
        """Audio that did not fit into the queue, ever."""
        self.flushed_bytes = 0
        """Audio that a flush threw away here (the carrier's own rest not counted), ever."""
        self.gaps = 0
        """How often the carrier ran dry in the middle of a talkspurt."""

    # --- in ---

    def write(self, payload: bytes, now: float) -> int:
        """Queue audio behind what is there; returns how many bytes did not fit and were dropped."""
        payload = self._aligner.push(payload)
        size = len(payload)
        if self._queued_bytes + size > self._max_queue_bytes:
            self.dropped_bytes += size
            return size
        if size:
            if self._talkspurt_open and not self._queue:
                dry_s = now - self._dry_at_s
                if GAP_TOLERANCE_S < dry_s < LONGEST_GAP_S:
                    self.gaps += 1
            self._queue.append(payload)
            self._queued_bytes += size
        return 0

    def pass_through(self, payload: bytes, now: float) -> bool:
        """The short cut for audio that may go out at once as it is: True = send it now, False = ``write`` it.

        Most audio takes it: whole frames, nothing queued before, and the carrier's lead has room.
        """
        size = len(payload)
        if self._queue or not size or size % self._frame_bytes or self._aligner.pending_bytes:
            return False
        duration_s = size / self._bytes_per_s
        lead_s = self._dry_at_s - now
        if lead_s > 0.0:
            if lead_s + duration_s > min(self._lead_s, self._burst_s + now - self._spurt_s):
                return False
            self._dry_at_s += duration_s
        else:
            if duration_s > min(self._lead_s, self._burst_s):
                return False
            self._spurt_s = now
            if self._talkspurt_open and GAP_TOLERANCE_S < -lead_s < LONGEST_GAP_S:
                self.gaps += 1
            self._dry_at_s = now + duration_s
        self._sent_bytes += size
        self._talkspurt_open = True
        return True

    def finish(self) -> str:
        """Set a mark behind everything queued and return its name; a remainder before it is padded."""
        self._aligner.clear()
        name = self._next_mark()
        self._queue.append(name)
        return name

    def flush(self, now: float) -> bool:
        """Forget everything queued; returns whether the carrier may still hold audio (then it must clear).

        The answer errs on the safe side: only a mark that came back proves that the carrier's buffer is empty.
        """
        may_hold = self._sent_bytes > self._confirmed_bytes
        self.flushed_bytes += self._queued_bytes
        self._queue.clear()
        self._aligner.clear()
        self._queued_bytes = self._head_offset = 0
        self._pending.clear()
        self._confirmed_bytes = self._sent_bytes
        self._dry_at_s = now
        self._talkspurt_open = False
        self.generation += 1
        return may_hold

    def restart(self, now: float) -> None:
        """The carrier's buffer is another one, and empty: its stream was replaced. What is queued here stays."""
        self._queue.extendleft(reversed(self._pending))  # whoever waits for these marks learns it from the new stream
        self._pending.clear()
        self._confirmed_bytes = self._sent_bytes
        self._dry_at_s = now
        self._talkspurt_open = False

    def convert(self, media: MediaFormat, process: Callable[[bytes], bytes]) -> None:
        """After ``restart``: the new stream has another format, and ``process`` makes audio of the old one fit it."""
        assert not self._pending
        items, offset = list(self._queue), self._head_offset
        before, self._bytes_per_s = self._bytes_per_s, media.rate_hz * media.bytes_per_sample
        scale = self._bytes_per_s / before
        self._queue.clear()
        self._aligner = Reframer(media.bytes_per_sample)
        self._queued_bytes = self._head_offset = 0
        for item in items:
            if not isinstance(item, str):
                item, offset = process(item[offset:]), 0
                self._queued_bytes += len(item)
            if item:
                self._queue.append(item)
        self._media, self._frame_bytes = media, media.size_bytes(FRAME_MS)
        self._max_queue_bytes = round(self._max_queue_bytes * scale)
        self._sent_bytes = self._confirmed_bytes = round(self._sent_bytes * scale)
        self.dropped_bytes, self.flushed_bytes = round(self.dropped_bytes * scale), round(self.flushed_bytes * scale)

    def reached(self, mark: str) -> bool:
        """Take the carrier's word that ``mark`` was reached; False for a mark of a flushed generation."""
        position = self._pending.pop(mark, None)
        if position is None:
            return False
        self._confirmed_bytes = max(self._confirmed_bytes, position)
        return True

    # --- out ---

    def release(self, now: float) -> list[bytes | str]:
        """Take what must go out now: payloads of whole frames, and names of marks, in order."""
        out: list[bytes | str] = []
        queue = self._queue
        while queue:
            head = queue[0]
            if isinstance(head, str):
                queue.popleft()
                self._mark_sent(head)
                out.append(head)
                continue
            size = self._sendable_bytes(now)
            if not size:
                break
            payload = self._take(size)
            if self._dry_at_s <= now:
                self._spurt_s = now
            self._dry_at_s = max(self._dry_at_s, now) + len(payload) / self._bytes_per_s
            self._sent_bytes += len(payload)
            self._talkspurt_open = True
            out.append(payload)
        if not queue and self._talkspurt_open and now >= self._dry_at_s + TURN_GAP_S:
            name = self._next_mark()
            self._mark_sent(name)
            out.append(name)
        return out

    def next_timer(self) -> float:
        """When ``release`` has something to do again (``inf`` = only after the next ``write``)."""
        if not self._queue:
            return self._dry_at_s + TURN_GAP_S if self._talkspurt_open else math.inf
        if isinstance(self._queue[0], str):
            return -math.inf
        if self._queued_bytes < self._frame_bytes:
            return self._dry_at_s - self._tail_lead_s()
        step_s = self._step_s()
        at_s = self._dry_at_s - self._lead_s + step_s
        if self._burst_s < self._lead_s:  # the lead that is allowed grows as the one that is there shrinks
            at_s = max(at_s, (self._dry_at_s + self._spurt_s - self._burst_s + step_s) / 2)
        return at_s

    # --- what is known ---

    @property
    def queued_ms(self) -> float:
        """Audio that waits here."""
        return self._queued_bytes * 1000 / self._bytes_per_s

    def unheard_s(self, now: float) -> float:
        """Seconds until the caller has heard everything, here and at the carrier, by the virtual playhead."""
        return max(self._dry_at_s - now, 0.0) + self._queued_bytes / self._bytes_per_s

    @property
    def sent_ms(self) -> float:
        """Audio given to the carrier, ever."""
        return self._sent_bytes * 1000 / self._bytes_per_s

    @property
    def confirmed_ms(self) -> float:
        """Audio that a mark has confirmed as played, or a flush has settled."""
        return self._confirmed_bytes * 1000 / self._bytes_per_s

    # --- inside ---

    def _step_s(self) -> float:
        """The least lead that must be free before a piece goes out: a chunk, or all there is if less."""
        whole = self._queued_bytes - self._queued_bytes % self._frame_bytes
        return min(self._chunk_s, whole / self._bytes_per_s)

    def _tail_lead_s(self) -> float:
        """The lead down to which a remainder waits; a mark behind it says that nothing will complete its frame."""
        return self._lead_s if isinstance(self._queue[-1], str) else TAIL_MARGIN_S

    def _sendable_bytes(self, now: float) -> int:
        """Bytes that may go out now: whole frames, or the remainder when the carrier is about to run dry."""
        lead_s = max(self._dry_at_s - now, 0.0)
        if self._queued_bytes < self._frame_bytes:
            return self._queued_bytes if lead_s <= self._tail_lead_s() + TIMER_TOLERANCE_S else 0
        grown_s = self._burst_s if lead_s <= 0.0 else self._burst_s + now - self._spurt_s
        free_s = min(self._lead_s, grown_s) - lead_s + TIMER_TOLERANCE_S
        if free_s < self._step_s():
            return 0
        frames = int(free_s * self._bytes_per_s) // self._frame_bytes
        return min(frames, self._queued_bytes // self._frame_bytes) * self._frame_bytes

    def _take(self, size: int) -> bytes:
        """Take ``size`` bytes off the queue, but nothing beyond a mark; pad to whole frames with silence."""
        head = self._queue[0]
        if not self._head_offset and len(head) == size and not size % self._frame_bytes:
            self._queue.popleft()
            self._queued_bytes -= size
            return head  # type: ignore[return-value]  # release() has seen that the head is no mark
        parts: list[bytes] = []
        left = size
        while left and self._queue:
            head = self._queue[0]
            if isinstance(head, str):
                break
            part = head[self._head_offset : self._head_offset + left]
            parts.append(part)
            left -= len(part)
            if self._head_offset + len(part) == len(head):
                self._queue.popleft()
                self._head_offset = 0
            else:
                self._head_offset += len(part)
        payload = b"".join(parts)
        self._queued_bytes -= len(payload)
        short = -len(payload) % self._frame_bytes
        return payload + self._media.silence(short) if short else payload

    def _next_mark(self) -> str:
        self._marks_set += 1
        return f"g{self.generation}:{self._marks_set}"

    def _mark_sent(self, name: str) -> None:
        self._pending[name] = self._sent_bytes
        self._talkspurt_open = False
