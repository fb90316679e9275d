"""One clock for the media of all calls: which 20 ms ticks are due, without drift, spread over the 20 ms.

Public: ``MediaClock``, ``Tick``.

Tick ``n`` of group ``g`` is due at ``start + n * 20 ms + g * 20 ms / groups``, computed from whole numbers each time
and never from the tick before, so that lateness does not add up. Groups spread the calls: with 10 groups a tenth
of them is served every 2 ms, instead of all in one go every 20 ms.

After a stall the missed ticks of the last ``catch_up_s`` are made up for, each with its own due time; older ones are
skipped and counted: a burst of stale audio helps nobody. Pure: the time is an argument, and nothing here sleeps.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from bridge.errors import LocalError
from bridge.media.format import FRAME_MS

PERIOD_S = FRAME_MS / 1000
MAX_GROUPS = 20
"""1 ms apart: finer than an event loop's timers."""


class Tick(NamedTuple):
    """A moment at which one group of calls plays and sends a frame."""

    group: int
    number: int
    """Counts from 0 in each group; ``number * 160`` is the media clock in samples."""
    due_s: float
    """What to call ``now`` in everything that is done for this tick."""


class MediaClock:
    """The schedule; one for the process."""

    __slots__ = ("_catch_up_slots", "_groups", "_next", "_slot_s", "_start_s", "latest_s", "skipped")

    def __init__(self, start_s: float, groups: int = 10, catch_up_s: float = 0.1) -> None:
        """``start_s`` is the moment of the first tick on a monotonic clock; ``catch_up_s`` at least one period."""
        if not 1 <= groups <= MAX_GROUPS:
            raise LocalError(f"media clock: {groups} groups are not in 1-{MAX_GROUPS}")
        if catch_up_s < PERIOD_S:
            raise LocalError(f"media clock: {catch_up_s} s is less than a period")
        self._start_s = start_s
        self._groups = groups
        self._slot_s = PERIOD_S / groups
        self._catch_up_slots = int(catch_up_s / PERIOD_S) * groups
        self._next = 0
        self.skipped = 0
        """Ticks (of one group each) that were skipped after stalls."""
        self.latest_s = 0.0
        """The greatest lateness of a tick so far, skipped ones included."""

    @property
    def next_due_s(self) -> float:
        """When the next tick is due."""
        return self._due_s(self._next)

    def due(self, now: float) -> list[Tick]:
        """The ticks that are due and have not been given out yet, in order. Usually none or one."""
        first = self._next
        # Rounding must not make a timer that fires on the dot find nothing to do.
        last = math.floor((now - self._start_s) / self._slot_s + 1e-6)
        if last < first:
            return []
        self.latest_s = max(self.latest_s, now - self._due_s(first))
        missed = last - first + 1 - self._catch_up_slots
        if missed > 0:
            # Whole periods, so that every group loses as many.
            missed = -(-missed // self._groups) * self._groups
            self.skipped += missed
            first += missed
        self._next = last + 1
        return [Tick(slot % self._groups, slot // self._groups, self._due_s(slot)) for slot in range(first, last + 1)]

    def group_for(self, call_number: int) -> int:
        """The group of a call, from a counter of calls: they are spread evenly."""
        return call_number % self._groups

    # --- private ---

    def _due_s(self, slot: int) -> float:
        return self._start_s + slot * PERIOD_S / self._groups
