"""Call slots counted in the memory of one process.

Used for all slots when there is no Redis, for this process's share while Redis is down, and for the process's own
limit. Everything is synchronous; time is an argument, in seconds on one monotonic clock.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from bridge import outcome
from bridge.calls.admission import (
    MS_PER_MINUTE,
    US_PER_S,
    Ask,
    Counts,
    Granted,
    Refused,
    Verdict,
    Waiting,
    explain,
    held_up,
    judge,
)
from bridge.outcome import EndReason
from bridge.server.slot_store import MAX_AGENTS_SHOWN, HeldCall, Release, Usage

DAYS_KEPT = 2
"""Today and yesterday: a call let in before midnight may be refunded after it."""
MAX_SOURCES = 100_000
"""Sources whose pace is remembered; those whose time is over are dropped first."""


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """How callers wait."""

    waiter_ttl_s: float = 5.0
    """Who has not asked again for so long has gone."""
    max_waiting: int = 1_000
    """Callers who queue at most; a longer queue would only keep people from calling later."""


@dataclass(slots=True)
class _Waiter:
    wanted: Ask
    asked_s: float


class SlotLedger:
    """Slots by call id. Taking and giving back are idempotent."""

    def __init__(self, options: QueueOptions | None = None) -> None:
        self._options = options or QueueOptions()
        self._calls: dict[str, HeldCall] = {}
        self._agents: Counter[str] = Counter()
        self._batch = 0
        self._burst = 0
        self._days: OrderedDict[str, Counter[str]] = OrderedDict()
        self._burst_ms: dict[str, int] = {}
        self._queue: OrderedDict[str, _Waiter] = OrderedDict()
        self._sources: OrderedDict[str, int] = OrderedDict()  # when each may call again, on average: microseconds

    def __len__(self) -> int:
        """Slots taken."""
        return len(self._calls)

    def __contains__(self, call_id: str) -> bool:
        """Whether the call has a slot."""
        return call_id in self._calls

    # --- slots ---

    def take(self, wanted: Ask, now_s: float) -> Verdict:
        """Decide about a call; the slot is taken when it is granted."""
        held = self._calls.get(wanted.call_id)
        if held is not None:
            return Granted(held.is_burst)
        self._drop_gone(now_s)
        is_waiting = wanted.call_id in self._queue
        counts = self._counts(wanted)
        if not is_waiting and not self._in_time(wanted, now_s):
            return self._refuse(outcome.RATE_LIMITED, wanted, counts)
        ahead = list(self._ahead(wanted.call_id))
        reason = judge(wanted, counts) or held_up(wanted, counts, ahead, self._agent_counts)
        if reason is None:
            is_burst = counts.calls >= wanted.normal
            self.insert(HeldCall(wanted.call_id, wanted.agent_id, wanted.is_batch, is_burst, wanted.day, False))
            return Granted(is_burst)
        if not wanted.wait or reason is outcome.AGENT_DAILY_LIMIT:
            return self._refuse(reason, wanted, counts)
        if not is_waiting and len(self._queue) >= self._options.max_waiting:
            return self._refuse(reason, wanted, counts)
        self._queue[wanted.call_id] = _Waiter(wanted, now_s)  # a place in the queue is kept
        return Waiting(len(ahead) + 1, reason)

    def insert(self, call: HeldCall) -> None:
        """Enter a call that was let in elsewhere, whatever the limits say; harmless when it is there."""
        self._queue.pop(call.call_id, None)
        if call.call_id in self._calls:
            return
        self._calls[call.call_id] = call
        self._agents[call.agent_id] += 1
        self._batch += call.is_batch
        self._burst += call.is_burst
        self._day(call.day)[call.agent_id] += 1

    def give_back(self, released: Release) -> None:
        """Free a slot or a place in the queue; harmless when that was done before."""
        self._queue.pop(released.call_id, None)
        call = self._calls.pop(released.call_id, None)
        if call is None:
            return
        self._agents[call.agent_id] -= 1
        if not self._agents[call.agent_id]:
            del self._agents[call.agent_id]
        self._batch -= call.is_batch
        self._burst -= call.is_burst
        if released.refund:
            self._day(call.day)[call.agent_id] -= 1

    def add_burst(self, day: str, burst_ms: int) -> None:
        """Burst calls lasted so much longer on this day."""
        self._day(day)
        self._burst_ms[day] = self._burst_ms.get(day, 0) + burst_ms

    def usage(self, day: str, now_s: float) -> Usage:
        """What is counted, as for the day and moment given."""
        self._drop_gone(now_s)
        return Usage(
            store="memory",
            calls=len(self._calls),
            burst=self._burst,
            batch=self._batch,
            waiting=len(self._queue),
            burst_minutes_today=self._burst_ms.get(day, 0) / MS_PER_MINUTE,
            agents=dict(self._agents.most_common(MAX_AGENTS_SHOWN)),
        )

    # --- counts ---

    def _counts(self, wanted: Ask) -> Counts:
        own, today = self._agent_counts(wanted)
        return Counts(len(self._calls), self._batch, own, today, self._burst_ms.get(wanted.day, 0))

    def _agent_counts(self, wanted: Ask) -> tuple[int, int]:
        day = self._days.get(wanted.day)
        return self._agents[wanted.agent_id], day[wanted.agent_id] if day else 0

    def _day(self, day: str) -> Counter[str]:
        counter = self._days.get(day)
        if counter is None:
            counter = self._days[day] = Counter()
            while len(self._days) > DAYS_KEPT:
                gone, _ = self._days.popitem(last=False)
                self._burst_ms.pop(gone, None)
        return counter

    # --- the queue ---

    def _ahead(self, call_id: str) -> Iterable[Ask]:
        """Who waits before this call: everybody, if it does not wait yet."""
        for other, waiter in self._queue.items():
            if other == call_id:
                return
            yield waiter.wanted

    def _drop_gone(self, now_s: float) -> None:
        horizon_s = now_s - self._options.waiter_ttl_s
        for call_id in [call_id for call_id, waiter in self._queue.items() if waiter.asked_s <= horizon_s]:
            del self._queue[call_id]

    def _refuse(self, reason: EndReason, wanted: Ask, counts: Counts) -> Refused:
        self._queue.pop(wanted.call_id, None)
        return Refused(reason, explain(reason, wanted, counts, len(self._queue)))

    # --- calls a second ---

    def _in_time(self, wanted: Ask, now_s: float) -> bool:
        """Whether its source may place a call now; counts it when it may."""
        if not wanted.spacing_us:
            return True
        now_us = int(now_s * US_PER_S)
        due_us = max(self._sources.get(wanted.source, 0), now_us)
        if due_us - now_us > wanted.tolerance_us:
            return False
        self._sources[wanted.source] = due_us + wanted.spacing_us
        self._sources.move_to_end(wanted.source)
        while len(self._sources) > MAX_SOURCES or next(iter(self._sources.values())) <= now_us:
            self._sources.popitem(last=False)
        return True
