"""The taker's half of a stereo tape: puts audio into its place and gives it out as PCM, in bulk.

See ``bridge.calls.recording`` for the theory; positions here are samples since the tape began. Pure.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from bridge.media.format import Encoding, MediaFormat
from bridge.media.g711 import alaw_to_pcm, ulaw_to_pcm

MAX_LATE_S = 5.0
"""How late caller audio may be placed, after a stall, before it is cut rather than kept for the next quiet moment."""
GAP_S = 0.100
"""Caller audio missing for longer is a gap in what came, not a matter of clocks."""
DRIFT_S = 0.040
"""Caller audio this much early or late is left as it is: jitter, and no ear hears it between two speakers."""
QUIET_PEAK = 300
"""Peak of a payload that counts as quiet (-41 dB of full scale): line noise, breath."""

ITEM_BYTES = 160
"""What Python needs around each payload, so that a flood of tiny payloads is bounded too."""

NEVER = 1 << 62
"""The position of what has no end yet."""

Item = tuple[int, int, int, bytes]
"""Kind, position, count of samples, payload: a plain tuple, because two are made per 20 ms of every call."""

CALLER = 0
"""Caller audio that arrived at ``position``."""
CALLER_UNKEPT = 1
"""The same, of which only ``count`` is known."""
AGENT = 2
"""Agent audio that plays from ``position`` on."""
FLUSH = 3
"""Agent audio from ``position`` on is never heard."""
PAUSE = 4
RESUME = 5
BLANK_CALLER = 6
"""Silence on the caller's channel for ``count`` from ``position``."""
BLANK_AGENT = 7

_DECODERS: dict[Encoding, Callable[[bytes], bytes]] = {Encoding.ULAW: ulaw_to_pcm, Encoding.ALAW: alaw_to_pcm}


class Channel(enum.Enum):
    """Sides of the tape; the value is the channel's number in the PCM."""

    CALLER = 0
    """Left."""
    AGENT = 1
    """Right."""


class Reel:
    """Puts the items of one tape into place and gives the audio out. Belongs to the taker."""

    __slots__ = (
        "_agent",
        "_begun",
        "_blanks",
        "_caller",
        "_decode",
        "_drift",
        "_gap",
        "_head",
        "_max_late",
        "_pauses",
        "_pending",
        "_sample_bytes",
        "released",
        "taken",
    )

    def __init__(self, media: MediaFormat) -> None:
        self._decode = _DECODERS.get(media.encoding)
        self._sample_bytes = media.bytes_per_sample
        self._drift = int(DRIFT_S * media.rate_hz)
        self._gap = int(GAP_S * media.rate_hz)
        self._max_late = int(MAX_LATE_S * media.rate_hz)
        self._pending: deque[Item] = deque()  # caller audio that has no place yet
        self._begun = False  # caller audio has a place: the end of the last is ``_head``
        self._head = 0
        self._caller: deque[tuple[int, bytes]] = deque()  # (start, payload), in order, without overlap
        self._agent: deque[tuple[int, bytes]] = deque()
        self._pauses: list[tuple[int, int]] = []  # (from, to), silent on both channels
        self._blanks: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])  # the same, per channel
        self.released = 0
        """Cost of all that left this half, by being taken or dropped."""
        self.taken = 0
        """How much was taken."""

    def put(self, item: Item) -> None:
        """The next item of the inbox."""
        kind, position, count, payload = item
        if kind == AGENT:
            self._agent.append((position, payload))
        elif kind in (CALLER, CALLER_UNKEPT):
            self._pending.append(item)
        elif kind == FLUSH:
            self._cut_agent(position)
        elif kind == PAUSE:
            self._pauses.append((position, NEVER))
        elif kind == RESUME:
            self._pauses[-1] = (self._pauses[-1][0], position)
        else:
            channel = Channel.CALLER if kind == BLANK_CALLER else Channel.AGENT
            self._blanks[channel.value].append((position, position + count))

    def take(self, end: int) -> bytes:
        """Everything from ``taken`` up to ``end`` as interleaved L16."""
        if end <= self.taken:
            return b""
        self._place_caller(end)
        stereo = np.zeros((end - self.taken, 2), "<i2")
        for channel, pieces in enumerate((self._caller, self._agent)):
            self._render(pieces, end, stereo[:, channel])
            self._silence(channel, end, stereo[:, channel])
        self.taken = end
        self._forget_silences()
        return stereo.tobytes()

    # --- caller ---

    def _place_caller(self, end: int) -> None:
        """Give a place to all caller audio that begins before ``end``."""
        pending = self._pending
        if not pending:
            return
        ends = accumulate((count for _, _, count, _ in pending), initial=self._head)
        next(ends)
        lateness = [position - at for (_, position, _, _), at in zip(pending, ends, strict=True)]
        least = list(accumulate(reversed(lateness), min))
        moved = 0  # by how much the head is further than end to end
        if not self._begun:
            self._begun = True
            moved = least[-1]
            self._head += moved
        while pending and self._head < end:
            moved += self._place(pending.popleft(), least.pop() - moved)

    def _place(self, item: Item, slack: int) -> int:
        """Place one payload that is late by ``slack`` samples at the head (early if negative).

        Returns by how much more the head moved than the payload is long.
        """
        _, _, count, payload = item
        passed = max(0, self.taken - self._head) if self.taken else 0
        slack -= passed  # a stall that was taken as silence already: its audio can only come behind that
        place = self._head + passed
        if payload and slack < 0 and self._is_silent(place + slack, count):
            payload = b""  # spoken within a pause, delivered after it
        step = self._correction(slack, count, payload)
        place += max(0, step)
        skipped = max(0, -step)
        if payload and skipped < count:
            self._caller.append((place, payload[skipped * self._sample_bytes :]))
            self.released += skipped * self._sample_bytes
        else:
            self.released += len(item[3]) + ITEM_BYTES
        self._head = place + count - skipped
        return passed + step

    def _correction(self, slack: int, count: int, payload: bytes) -> int:
        """Samples of silence before a payload, or (negative) samples of it to leave out."""
        if slack >= self._gap:
            return slack
        if -self._drift <= slack <= self._drift:
            return 0
        if slack < -self._max_late or not payload or self._is_quiet(payload):
            return max(slack, -count)
        return 0

    def _is_quiet(self, payload: bytes) -> bool:
        return int(np.abs(self._samples(payload).astype(np.int32)).max(initial=0)) <= QUIET_PEAK

    def _is_silent(self, start: int, count: int) -> bool:
        silent = (*self._pauses, *self._blanks[Channel.CALLER.value])
        return any(first < start + count and start < last for first, last in silent)

    # --- agent ---

    def _cut_agent(self, position: int) -> None:
        """Drop agent audio from ``position`` on."""
        pieces = self._agent
        while pieces and pieces[-1][0] + len(pieces[-1][1]) // self._sample_bytes > position:
            start, payload = pieces.pop()
            kept = payload[: max(0, position - start) * self._sample_bytes]
            self.released += len(payload) - len(kept)
            if kept:
                pieces.append((start, kept))
                return
            self.released += ITEM_BYTES

    # --- both ---

    def _samples(self, raw: bytes) -> npt.NDArray[np.int16]:
        pcm = self._decode(raw) if self._decode else raw
        return np.frombuffer(pcm, "<i2", len(pcm) // 2)

    def _render(self, pieces: deque[tuple[int, bytes]], end: int, out: npt.NDArray[np.int16]) -> None:
        """Move what begins before ``end`` from ``pieces`` to ``out``, which begins at ``taken``."""
        size, taken = self._sample_bytes, self.taken
        raw: list[bytes] = []
        runs: list[tuple[int, int]] = []  # (from, to) in ``out``: nearly always one run, decoded and copied in one go
        while pieces and pieces[0][0] < end:
            start, payload = pieces.popleft()
            count = len(payload) // size
            first, last = max(start, taken), min(start + count, end)
            if last < start + count:
                rest = payload[(last - start) * size :]
                pieces.appendleft((last, rest))
                self.released -= len(rest) + ITEM_BYTES
            self.released += len(payload) + ITEM_BYTES
            if first >= last:
                continue
            raw.append(payload[(first - start) * size : (last - start) * size])
            if runs and runs[-1][1] == first - taken:
                runs[-1] = (runs[-1][0], last - taken)
            else:
                runs.append((first - taken, last - taken))
        samples, done = self._samples(b"".join(raw)), 0
        for begin, stop in runs:
            out[begin:stop] = samples[done : done + stop - begin]
            done += stop - begin

    def _silence(self, channel: int, end: int, out: npt.NDArray[np.int16]) -> None:
        """Silence where there is to be some."""
        for first, last in (*self._pauses, *self._blanks[channel]):
            out[max(0, first - self.taken) : max(0, min(last, end) - self.taken)] = 0

    def _forget_silences(self) -> None:
        """Those so long past that no audio can belong there any more."""
        for stretches in (self._pauses, *self._blanks):
            if stretches:
                stretches[:] = [stretch for stretch in stretches if stretch[1] > self.taken - self._max_late]
