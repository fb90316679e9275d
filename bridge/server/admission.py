"""Admission as the rest of the server sees it: one object per process that says who may call.

Theory of operation: a call passes two gates. The first is this process's own limit, counted here. The second is the
workspace's: counted here when the process is alone, else in the shared store, whose leases a task renews every few
seconds. When the store goes down, calls in progress go on, and new ones are decided by ``fail_open`` (this process
keeps to its share, which is the limits divided by the processes last seen) or refused. Once the store is back, this
process's calls are entered there first, and only then it is asked again. When it came back empty, it is believed only
together with the share, until all processes have entered theirs.

Nothing here raises because of the store, and nothing is on the media path.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo

import msgspec

from bridge import outcome
from bridge.calls.admission import (
    Ask,
    Granted,
    Limits,
    Refused,
    SlotRequest,
    Verdict,
    ask,
    day_key,
    process_ask,
)
from bridge.outcome import EndReason
from bridge.server.admission_memory import QueueOptions, SlotLedger
from bridge.server.beat import Beat
from bridge.server.held_slots import HeldSlots
from bridge.server.logs import get_logger
from bridge.server.slot_store import Release, Renewal, SlotStore, StoreDown, Usage

MAX_RELEASES = 100_000
"""Returns kept for a store that is down; beyond it the leases run out by themselves."""

ABANDONED = "the call ended while it was being let in"


@dataclass(frozen=True, slots=True)
class AdmissionOptions:
    """The operator's choices besides the limits."""

    zone: tzinfo = UTC
    """Whose midnight ends the day of daily limits (TIMEZONE)."""
    fail_open: bool = True
    """While the store is down: let this process's share in, or nobody."""
    hold_s: float = 30.0
    """How long a reserved slot waits for its call: the carrier's media socket follows its webhook within seconds."""
    renew_every_s: float = 5.0
    """Leases are renewed so often; under a third of a lease, so that two failures in a row harm nobody."""
    settle_s: float = 16.0
    """After the store was lost, a process that has not come back by then is dead: one lease."""
    queue: QueueOptions = QueueOptions()


class Admission:
    """The slots of this process. Used inside the event loop, from its thread; ``start`` it and ``close`` it."""

    def __init__(
        self,
        limits: Limits,
        options: AdmissionOptions | None = None,
        store: SlotStore | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        unix: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits
        """May be replaced at any time; calls in progress keep their slots."""
        self.draining = False
        """Set on shutdown: nobody is let in any more."""
        self._options = options or AdmissionOptions()
        self._store = store
        self._monotonic = monotonic
        self._unix = unix
        self._room = SlotLedger(self._options.queue)  # this process's own limit
        self._ledger = SlotLedger(self._options.queue)  # the workspace's; with a store: this process's part
        self._held = HeldSlots(monotonic)
        self._taking: dict[str, int] = {}  # decisions on their way, by call
        self._abandoned: set[str] = set()  # calls that ended meanwhile
        self._releases: dict[str, Release] = {}  # what the store is still to be told
        self._in_step = False  # the store answers, and has all our calls
        self._was_in_step = False  # it did once
        self._spent_ms = 0  # burst time that the store is still to be told
        self._instances = 1
        self._epoch = 0
        self._settles_s = -math.inf  # until then an empty store is not believed
        self._beat = Beat("admission", self._options.renew_every_s, self._work, monotonic)

    # --- who may call ---

    async def take(self, request: SlotRequest) -> Verdict:
        """Take a slot for a call, or confirm the one that it has, reserved here or by another process.

        Never raises for the store's sake. While the verdict is ``Waiting``, ask again every second or so. A slot is
        held until ``give_back``.
        """
        verdict = await self._decide(request)
        if isinstance(verdict, Granted):
            self._held.confirm(request.call_id)
        return verdict

    async def reserve(self, request: SlotRequest) -> Verdict:
        """As ``take``, for an answer webhook: without ``take`` or ``confirm`` the slot is free again after a while."""
        verdict = await self._decide(request)
        if isinstance(verdict, Granted):
            self._held.hold(request.call_id, self._options.hold_s, self._lapse)
        return verdict

    def confirm(self, call_id: str) -> None:
        """The reserved call is there: it keeps its slot. Harmless for a call that has none here."""
        self._held.confirm(call_id)

    def give_back(self, call_id: str, burst_s: float | None = None) -> None:
        """Free the call's slot, or its place in the queue. Never fails, may be repeated; the store is told beside.

        ``burst_s``: how long it was a burst call, if it is not the time since it was let in.
        """
        self._free(call_id, burst_s, refund=False)

    def dismiss(self, call_id: str) -> None:
        """The call of a reserved slot is over before it was let in: free the slot, whichever process reserved it."""
        self._free(call_id, None, refund=True, anywhere=True)

    def would_refuse(self) -> EndReason | None:
        """Why no new call would be let in by this process right now, as far as it knows without asking."""
        if self.draining:
            return outcome.DRAINING
        if self._store is not None and not self._in_step and not self._options.fail_open:
            return outcome.LIMITS_UNKNOWN
        return outcome.CAPACITY if len(self._room) >= self.limits.max_calls else None

    @property
    def active(self) -> int:
        """Slots held by this process."""
        return len(self._held)

    def is_burst(self, call_id: str) -> bool:
        """Whether the call was let in above the normal limit; False for one that has no slot here."""
        held = self._held.get(call_id)
        return held is not None and held.call.is_burst

    def usage(self) -> Usage:
        """How full it is; with a store, as of the last renewal, for which no one is asked now."""
        if self._store is not None and self._in_step:
            usage = self._store.usage()
            usage = replace(usage, calls=max(usage.calls, self.active))
        else:
            usage = self._ledger.usage(self._day(), self._monotonic())
            if self._store is not None:
                usage = replace(usage, store="redis_down", instances=self._instances)
        return replace(
            usage,
            active=self.active,
            max_calls=self.limits.max_calls,
            limit=self.limits.workspace_concurrency,
        )

    # --- life ---

    async def start(self) -> None:
        """Enter this process in the store and begin to renew."""
        await self._beat.start()

    async def close(self) -> None:
        """Give everything back and stop."""
        for call_id in self._held.call_ids():
            self._free(call_id, None, refund=False)
        await self._beat.stop()
        with contextlib.suppress(StoreDown):
            await self._send_releases()
            if self._store is not None and self._in_step:
                await self._store.leave()

    def store_is_back(self) -> None:
        """Tell that the store answers again (``RedisLink.on_up``)."""
        self._beat.wake(due=True)

    # --- the decision ---

    async def _decide(self, request: SlotRequest) -> Verdict:
        call_id = request.call_id
        if self.draining and call_id not in self._held:
            return Refused(outcome.DRAINING, "shutting down")
        room = self._room.take(process_ask(self.limits, request), self._monotonic())
        if not isinstance(room, Granted):
            return room
        self._taking[call_id] = self._taking.get(call_id, 0) + 1
        verdict: Verdict = Refused(outcome.CAPACITY, ABANDONED)
        try:
            verdict = await self._ask_workspace(request)
        except asyncio.CancelledError:
            if self._taking[call_id] == 1 and call_id not in self._held:
                self._abandoned.add(call_id)  # the store may have let it in all the same
            raise
        finally:
            verdict = self._taken(call_id, verdict)
        return verdict

    def _taken(self, call_id: str, verdict: Verdict) -> Verdict:
        """A decision has come, or never will."""
        self._taking[call_id] -= 1
        if self._taking[call_id]:
            return verdict
        del self._taking[call_id]
        if call_id in self._abandoned:
            self._abandoned.discard(call_id)
            self._free(call_id, None, refund=True)
            return Refused(outcome.CAPACITY, ABANDONED)
        if call_id not in self._held:
            self._room.give_back(Release(call_id))
        return verdict

    async def _ask_workspace(self, request: SlotRequest) -> Verdict:
        day = self._day()
        if self._store is None:
            wanted = ask(self.limits, request, day)
            return self._note(wanted, self._ledger.take(wanted, self._monotonic()), is_counted=True)
        was_asked = self._in_step
        if was_asked:
            with contextlib.suppress(StoreDown):
                return await self._ask_store(self._store, request, day)
            self._in_step = False
        if self._options.fail_open or request.call_id in self._held:
            verdict = self._ask_share(request, day)
        else:
            verdict = Refused(outcome.LIMITS_UNKNOWN, "Redis does not answer")
        if was_asked and not isinstance(verdict, Granted):
            self._tell(Release(request.call_id, refund=True))  # a store that was late may have let it in
        return verdict

    async def _ask_store(self, store: SlotStore, request: SlotRequest, day: str) -> Verdict:
        known = self._held.get(request.call_id)
        if known is None and self._is_settling():
            share = self._ask_share(request, day)
            if not isinstance(share, Granted):
                return await self._take_over(store, request, day) or share
        wanted = ask(self.limits, request, day)
        # A return of this call that still waits to be sent would come after its take.
        self._releases.pop(request.call_id, None)
        epoch = self._epoch
        verdict = await store.take(wanted)
        is_empty = store.epoch != epoch
        if is_empty:
            self._in_step = False  # until our calls are entered
            self._note_epoch(store.epoch)
            self.store_is_back()
        if isinstance(verdict, Granted):
            if is_empty and known is None:  # an empty store lets everybody in
                share = self._ask_share(request, day)
                if not isinstance(share, Granted):
                    self._tell(Release(request.call_id, refund=True))
                return share
            return self._note(wanted, verdict, is_counted=True)
        if known is not None:  # the store had forgotten it: the next renewal enters it
            return Granted(known.call.is_burst)
        self._forget(request.call_id)
        return verdict

    async def _take_over(self, store: SlotStore, request: SlotRequest, day: str) -> Granted | None:
        """The slot that another process reserved for this call, if there is one: nobody new passes a limit of 0."""
        wanted = ask(self.limits, request, day)
        verdict = await store.take(msgspec.structs.replace(wanted, normal=0, ceiling=0, spacing_us=0))
        if not isinstance(verdict, Granted):
            return None
        self._note(wanted, verdict, is_counted=True)
        return verdict

    def _ask_share(self, request: SlotRequest, day: str) -> Verdict:
        """What this process may decide alone: its part of the limits."""
        wanted = ask(self.limits, request, day, self._instances)
        return self._note(wanted, self._ledger.take(wanted, self._monotonic()), is_counted=False)

    def _note(self, wanted: Ask, verdict: Verdict, *, is_counted: bool) -> Verdict:
        """Keep what was granted."""
        if isinstance(verdict, Granted):
            held = self._held.add(wanted, verdict.is_burst, is_counted)
            self._ledger.insert(held.call)
        return verdict

    # --- slots that end ---

    def _free(self, call_id: str, burst_s: float | None, *, refund: bool, anywhere: bool = False) -> None:
        if self._taking.get(call_id):
            self._abandoned.add(call_id)
            return
        held = self._held.pop(call_id)
        if held is not None:
            self._spend(held.unaccounted_ms(self._monotonic(), burst_s))
        release = Release(call_id, refund, anywhere)
        self._room.give_back(release)
        self._ledger.give_back(release)
        self._tell(release)

    def _tell(self, release: Release) -> None:
        if self._store is not None and len(self._releases) < MAX_RELEASES:
            self._releases[release.call_id] = release
            self._beat.wake()

    def _spend(self, burst_ms: int) -> None:
        """Burst calls lasted so much longer."""
        self._ledger.add_burst(self._day(), burst_ms)
        self._spent_ms += burst_ms

    def _lapse(self, call_id: str) -> None:
        """Nobody came for a reserved slot. If another process has it by now, the store leaves it there."""
        self._free(call_id, None, refund=True)

    def _forget(self, call_id: str) -> None:
        """The call is another process's, or never was let in: nothing to tell the store."""
        self._held.pop(call_id)
        release = Release(call_id, refund=True)
        self._room.give_back(release)
        self._ledger.give_back(release)

    # --- the store ---

    async def _work(self, is_due: bool) -> None:
        try:
            await self._send_releases()
            if is_due:
                await self._renew()
        except StoreDown:
            self._in_step = False

    async def _send_releases(self) -> None:
        """Tell the store what was given back; what fails is kept for later."""
        if self._store is None or not self._in_step or not self._releases:
            return
        batch = list(self._releases.values())
        await self._store.give_back(batch)
        for release in batch:
            if self._releases.get(release.call_id) is release:
                del self._releases[release.call_id]

    async def _renew(self) -> None:
        """Renew all leases, and account for what burst calls lasted."""
        started_s = self._monotonic()
        self._spend(self._held.burst_ms(started_s))
        self._held.account(started_s)
        if self._store is None:
            return
        calls, spent_ms = self._held.calls(), self._spent_ms
        renewal = await self._store.renew(calls, self._day(), spent_ms)
        self._spent_ms -= spent_ms
        self._held.counted(calls)
        for call_id in renewal.lost:
            held = self._held.get(call_id)
            if held is not None and held.asserted_s < started_s and not self._taking.get(call_id):
                self._forget(call_id)
        self._follow(renewal, started_s)

    def _follow(self, renewal: Renewal, now_s: float) -> None:
        """The store answers and has all our calls; has it those of the others?"""
        was_lost = self._note_epoch(renewal.epoch)
        if not self._in_step and not was_lost and self._was_in_step:
            # Down for longer than a lease, it has forgotten the others' calls just as well.
            self._settles_s = now_s + self._options.settle_s
        if renewal.instances >= self._instances or now_s >= self._settles_s:
            self._settles_s = -math.inf
            self._instances = renewal.instances
        self._in_step = self._was_in_step = True
        if self._releases:
            self._beat.wake()

    def _note_epoch(self, epoch: int) -> bool:
        """Whether the store has lost everything since its last answer."""
        if epoch == self._epoch:
            return False
        had_one, self._epoch = self._epoch != 0, epoch
        if had_one:
            get_logger().warning("slots_lost", advice="Redis came back empty; every process enters its calls again.")
            self._settles_s = self._monotonic() + self._options.settle_s
        return had_one

    def _is_settling(self) -> bool:
        return self._instances > 1 and self._monotonic() < self._settles_s

    def _day(self) -> str:
        return day_key(self._unix(), self._options.zone)
