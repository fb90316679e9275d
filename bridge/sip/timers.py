"""The timers of SIP transactions, every one from here; and the clock list that finds the next of many.

Public: ``Timers``, ``TimerList``, ``NEVER``.

Sources: RFC 3261 section 17 and its table 4, RFC 6026 section 7 (L, M). Pure: seconds are monotonic arguments.
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from bridge.sip.flow import Transport

NEVER = math.inf
"""The time of a timer that is not set."""

TRYING_AFTER_S = 0.2
"""An INVITE that its user leaves unanswered for so long is answered 100 (RFC 3261 section 17.2.1)."""

COMPACTION_SLACK = 64
"""Outdated entries that a list may hold beside as many as there are live ones, before it is rebuilt."""


@dataclass(frozen=True, slots=True)
class Timers:
    """T1, T2 and T4, and what follows from them. Nobody waits for a reliable transport to lose something."""

    t1_s: float = 0.5
    """Estimated round trip (RFC 3261 section 17.1.1.1)."""
    t2_s: float = 4.0
    """Longest interval between repeats of anything but an INVITE (RFC 3261 section 17.1.2.2)."""
    t4_s: float = 5.0
    """How long a message may be under way in the network (RFC 3261 section 17.1.2.2)."""

    @property
    def give_up_s(self) -> float:
        """64 * T1: how long anything is tried. B (17.1.1.2), F (17.1.2.2), H (17.2.1), L and M (RFC 6026 7.1, 7.2)."""
        return 64 * self.t1_s

    def first_repeat_s(self, transport: Transport) -> float:
        """A (17.1.1.2), E (17.1.2.2) and G (17.2.1) as they start: T1, or never."""
        return NEVER if transport.is_reliable else self.t1_s

    def next_repeat_s(self, interval_s: float) -> float:
        """E and G after ``interval_s``: twice as long, at most T2 (17.1.2.2, 17.2.1). A has no such limit."""
        return min(2 * interval_s, self.t2_s)

    def rejected_invite_s(self, transport: Transport) -> float:
        """D: how long a client acknowledges repeats of a rejection (17.1.1.2: at least 32 s, the peer's timer H)."""
        return 0.0 if transport.is_reliable else 64 * self.t1_s

    def acknowledged_s(self, transport: Transport) -> float:
        """I: how long a server absorbs further ACKs (17.2.1)."""
        return 0.0 if transport.is_reliable else self.t4_s

    def answered_s(self, transport: Transport) -> float:
        """J: how long a server repeats its response to repeats of a request that is no INVITE (17.2.2)."""
        return 0.0 if transport.is_reliable else 64 * self.t1_s

    def completed_s(self, transport: Transport) -> float:
        """K: how long a client absorbs repeats of the response to such a request (17.1.2.2)."""
        return 0.0 if transport.is_reliable else self.t4_s


class Timed(Protocol):
    """Something that wants to be woken."""

    listed_at: float
    """Kept by ``TimerList``; ``NEVER`` at first."""

    @property
    def wakes_at(self) -> float:
        """When; ``NEVER`` = not any more."""


TimedT = TypeVar("TimedT", bound=Timed)


class TimerList(Generic[TimedT]):
    """Who wants to be woken when, for things whose time mostly moves away or is called off.

    Each has one live entry in a heap. An entry that comes up too early is put back, one of the past is dropped, and
    when the heap has doubled it is rebuilt: nothing that is over stays for long.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, TimedT]] = []
        self._order = itertools.count()  # equal times keep their order, and things are never compared
        self._rebuilt_at_size = COMPACTION_SLACK

    def __len__(self) -> int:
        """Entries, outdated ones included."""
        return len(self._heap)

    def note(self, timed: TimedT) -> None:
        """Say that the time of this thing has changed, or that it is new."""
        wakes_at = timed.wakes_at
        if wakes_at < timed.listed_at:
            if len(self._heap) >= self._rebuilt_at_size:
                timed.listed_at = NEVER
                self._rebuild()
            self._push(wakes_at, timed)

    def next(self) -> float:
        """When the first of all wakes; ``NEVER`` = none."""
        while self._heap:
            at, _, timed = self._heap[0]
            wakes_at = timed.wakes_at
            if at == wakes_at == timed.listed_at:
                return at
            self._pop()
            if at == timed.listed_at:
                timed.listed_at = NEVER
                self.note(timed)
        return NEVER

    def take_due(self, now: float) -> list[TimedT]:
        """Those whose time has come, first come first; call ``note`` again for each that goes on."""
        due: list[TimedT] = []
        while self.next() <= now:
            timed = self._pop()
            timed.listed_at = NEVER
            due.append(timed)
        return due

    def _push(self, at: float, timed: TimedT) -> None:
        timed.listed_at = at
        heapq.heappush(self._heap, (at, next(self._order), timed))

    def _pop(self) -> TimedT:
        return heapq.heappop(self._heap)[2]

    def _rebuild(self) -> None:
        listed = {id(timed): timed for at, _, timed in self._heap if at == timed.listed_at and timed.wakes_at != NEVER}
        for _, _, timed in self._heap:
            timed.listed_at = NEVER
        self._heap = []
        for timed in listed.values():
            self._push(timed.wakes_at, timed)
        self._rebuilt_at_size = 2 * len(self._heap) + COMPACTION_SLACK
