"""The way from calls to the database that no call ever waits on.

``put`` encodes the record at once, on the caller's side: some 30 us for a usual call, so that 1,000 ends at the same
moment cost the event loop 1,000 such steps rather than one long one, and nothing that happens to the record later can
get into what is written. One task writes. While a batch is on its way, newer versions of the same call replace each
other, and their events add up; so the busier the database, the bigger the batches.

When the database is locked, full or down, everything waits here and is tried again. The room is bounded in bytes.
Beyond it something must go: first versions without events (the next version of the call has all that they have), oldest
first, then the oldest of the others. Every loss is counted and logged as an error.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from bridge.calls.record import CallRecord, OutboxEvent
from bridge.server.logs import get_logger
from bridge.server.store.encoding import EncodedCall, encode_call
from bridge.server.store.faults import blames_values, describe
from bridge.server.store.retention import Retention


@dataclass(frozen=True, slots=True)
class LedgerOptions:
    """Limits of the ledger."""

    max_pending_bytes: int = 64 << 20
    """Waiting for the database at most: the ends of some 1,400 calls of four minutes with their webhook events."""
    batch_calls: int = 20
    """Versions in one transaction: building the parameters of so many ends, with two webhook events each, holds the
    event loop for 2 ms; 50 would hold it for 5."""
    batch_bytes: int = 4 << 20
    """JSON in one transaction, for the rare calls with huge transcripts."""
    batch_interval_s: float = 0.05
    """Least time from one batch to the next while there is little to do: twenty commits a second at most."""
    busy_interval_s: float = 0.01
    """The same while a whole batch or more is waiting: audio gets its turns in between."""
    retry_first_s: float = 0.2
    retry_max_s: float = 5.0
    """Back-off after failures, doubling: soon enough that a restart of the database is hardly noticed."""
    write_timeout_s: float = 30.0
    """For one batch, so that a database that swallows everything counts as failed."""
    log_every_s: float = 10.0
    """A trouble that goes on is logged again so often."""


class LedgerStore(Protocol):
    """Where a ledger writes: a ``CallStore``."""

    retention: Retention

    async def save_encoded(self, items: Sequence[EncodedCall]) -> None:
        """Write all or nothing; raises when it could not."""


@dataclass(slots=True)
class _Waiting:
    call: EncodedCall
    since_s: float


class Ledger:
    """Takes records and events at any time, writes them when the database lets it. Belongs to one event loop."""

    def __init__(
        self, store: LedgerStore, options: LedgerOptions | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        self.lost = 0
        """Versions of records that were never written."""
        self.lost_events = 0
        """Webhook events that were never written."""
        self.written = 0
        """Versions of records that were."""
        self.trouble = ""
        """Why the last write failed; empty = it did not."""
        self.on_events: Callable[[], None] | None = None
        """Called when events were written, so that their delivery need not wait for its next look."""
        self._store = store
        self._options = options or LedgerOptions()
        self._clock = clock
        self._log = get_logger()
        self._pending: OrderedDict[str, _Waiting] = OrderedDict()
        self._bare: OrderedDict[str, None] = OrderedDict()  # those of the pending that have no events
        self._writing: list[_Waiting] = []
        self._bytes = 0  # of both
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._hurry = asyncio.Event()
        self._attempted = asyncio.Event()  # set for a moment after every attempt to write
        self._task: asyncio.Task[None] | None = None
        self._retry_s = self._options.retry_first_s
        self._trouble_since_s = 0.0
        self._trouble_logged_s = self._loss_logged_s = float("-inf")

    # --- for calls ---

    def put(self, record: CallRecord, events: Sequence[OutboxEvent] = ()) -> None:
        """Have this version written, and these events with it. Never waits, never raises."""
        try:
            call = encode_call(record, events, self._store.retention)
        except Exception as error:  # a value that is no JSON must not end the call
            self._lose(1, len(events), f"cannot be encoded: {type(error).__name__}")
            return
        self._add(_Waiting(call, self._clock()))
        self._trim()
        self._work.set()
        self._idle.clear()

    async def kept(self, call_id: str, timeout_s: float) -> bool:
        """Wait until nothing of this call waits for the database; False = something does after this time.

        A database in trouble is not waited for.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._waits(call_id) and not self.trouble:
                    await self._attempted.wait()
        return not self._waits(call_id)

    def _waits(self, call_id: str) -> bool:
        return call_id in self._pending or any(one.call.id == call_id for one in self._writing)

    # --- for metrics ---

    @property
    def pending(self) -> int:
        """Versions that wait or are being written."""
        return len(self._pending) + len(self._writing)

    @property
    def pending_bytes(self) -> int:
        """What they take in memory."""
        return self._bytes

    @property
    def lag_s(self) -> float:
        """How long the oldest of them has waited; 0 = none waits."""
        oldest = self._writing[0] if self._writing else next(iter(self._pending.values()), None)
        return 0.0 if oldest is None else max(0.0, self._clock() - oldest.since_s)

    # --- life ---

    def start(self) -> None:
        """Begin to write; inside the event loop."""
        assert self._task is None
        self._task = asyncio.create_task(self._run())

    async def flush(self, timeout_s: float) -> bool:
        """Wait until everything is written; False = it was not in this time."""
        self._hurry.set()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        finally:
            self._hurry.clear()
        return True

    async def close(self, timeout_s: float) -> None:
        """Write what waits, then stop. What could not be written in this time is lost, and counted."""
        if self._task is not None:
            await self.flush(timeout_s)
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        left = [*self._writing, *self._pending.values()]
        if left:
            self._lose(len(left), sum(len(one.call.events) for one in left), "the bridge stopped before the write")

    # --- the room ---

    def _add(self, one: _Waiting) -> None:
        """Put at the end, or in the place of an older version of the same call."""
        call_id = one.call.id
        old = self._pending.get(call_id)
        if old is not None:
            self._bytes -= old.call.size_bytes
            one = _Waiting(_newer(old.call, one.call), old.since_s)
        self._enter(one)

    def _put_back(self, batch: list[_Waiting]) -> None:
        """Put at the front what could not be written; newer versions have come in the meantime."""
        for one in reversed(batch):
            self._bytes -= one.call.size_bytes
            newer = self._pending.get(one.call.id)
            if newer is not None:
                self._bytes -= newer.call.size_bytes
                one = _Waiting(_newer(one.call, newer.call), one.since_s)
            self._enter(one)
            self._pending.move_to_end(one.call.id, last=False)
            if one.call.id in self._bare:
                self._bare.move_to_end(one.call.id, last=False)

    def _enter(self, one: _Waiting) -> None:
        self._pending[one.call.id] = one
        self._bytes += one.call.size_bytes
        if one.call.events:
            self._bare.pop(one.call.id, None)
        else:
            self._bare.setdefault(one.call.id)

    def _trim(self) -> None:
        """Make room."""
        while self._bytes > self._options.max_pending_bytes and self._pending:
            call_id = next(iter(self._bare or self._pending))
            one = self._remove(call_id)
            self._bytes -= one.call.size_bytes
            self._lose(1, len(one.call.events), "no room left: the database takes nothing")

    def _remove(self, call_id: str) -> _Waiting:
        self._bare.pop(call_id, None)
        return self._pending.pop(call_id)

    def _lose(self, records: int, events: int, why: str) -> None:
        self.lost += records
        self.lost_events += events
        now = self._clock()
        if now - self._loss_logged_s >= self._options.log_every_s:
            self._loss_logged_s = now
            self._log.error("records_lost", lost_records=self.lost, lost_events=self.lost_events, detail=why)

    # --- the writer ---

    async def _run(self) -> None:
        options = self._options
        while True:
            await self._work.wait()
            began_s = self._clock()
            self._take()
            if await self._write():
                self._retry_s = options.retry_first_s
                full = len(self._pending) >= options.batch_calls
                interval_s = options.busy_interval_s if full else options.batch_interval_s
                pause_s = interval_s - (self._clock() - began_s)
                patient = pause_s > 0 and not self._hurry.is_set()
            else:
                pause_s = options.retry_first_s if self._hurry.is_set() else self._retry_s
                self._retry_s = min(self._retry_s * 2, options.retry_max_s)
                patient = True
            self._attempted.set()
            self._attempted.clear()
            self._trim()
            if not self._pending:
                self._work.clear()
                self._idle.set()
            if patient:
                await self._pause(pause_s)

    async def _pause(self, seconds: float) -> None:
        """Wait; somebody who wants everything written cuts it short."""
        if self._hurry.is_set():
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()

    def _take(self) -> None:
        """Move the next batch from the pending to the writing; their bytes still count."""
        size = 0
        while self._pending and len(self._writing) < self._options.batch_calls:
            call_id, one = next(iter(self._pending.items()))
            size += one.call.size_bytes
            if self._writing and size > self._options.batch_bytes:
                return
            self._writing.append(self._remove(call_id))

    async def _write(self) -> bool:
        """Write the batch; True = it is dealt with, False = it waits again."""
        try:
            await self._save(self._writing)
        except Exception as error:  # a database can fail in any way, and the next write may work
            if blames_values(error):
                return await self._write_singly()
            self._failed(error)
            batch, self._writing = self._writing, []
            self._put_back(batch)
            return False
        self._worked(self._writing)
        self._writing = []
        return True

    async def _write_singly(self) -> bool:
        """One of the batch cannot be written at all: find it, so that it does not hold up the others."""
        while self._writing:
            one = self._writing[0]
            try:
                await self._save([one])
            except Exception as error:
                if not blames_values(error):
                    self._failed(error)
                    batch, self._writing = self._writing, []
                    self._put_back(batch)
                    return False
                self._bytes -= one.call.size_bytes
                self._lose(1, len(one.call.events), f"refused by the database: {describe(error)}")
            else:
                self._worked([one])
            del self._writing[0]
        return True

    async def _save(self, batch: list[_Waiting]) -> None:
        async with asyncio.timeout(self._options.write_timeout_s):
            await self._store.save_encoded([one.call for one in batch])

    def _worked(self, batch: list[_Waiting]) -> None:
        self.written += len(batch)
        if self.on_events is not None and any(one.call.events for one in batch):
            self.on_events()
        self._bytes -= sum(one.call.size_bytes for one in batch)
        if self.trouble:
            self.trouble = ""
            self._log.info(
                "database_back", after_s=round(self._clock() - self._trouble_since_s, 1), waiting=self.pending
            )

    def _failed(self, error: Exception) -> None:
        now = self._clock()
        if not self.trouble:
            self._trouble_since_s = now
            self._trouble_logged_s = float("-inf")
        self.trouble = describe(error)
        if now - self._trouble_logged_s >= self._options.log_every_s:
            self._trouble_logged_s = now
            self._log.error("database_failed", detail=self.trouble, waiting=self.pending, waiting_bytes=self._bytes)


def _newer(old: EncodedCall, new: EncodedCall) -> EncodedCall:
    """The newer version with the events of both."""
    return new.with_events(old.events) if old.events else new
