"""Processes that carry calls: their signs of life, and the calls of those that died without a word.

Theory of operation. Every instance writes the time into its row every ``BEAT_S``. One that was silent for ``DEAD_S`` is
taken for dead; whoever sees it first closes its calls with ``server_error/instance_lost``, as of its last sign of life,
and writes the webhook events of that end in the same transaction. All times are the database server's, so clocks of
instances may differ. From death to closing it takes at most ``DEAD_S`` + ``BEAT_S`` = 25 s.

Exactly once: rows are locked while they are closed (``FOR UPDATE SKIP LOCKED`` on PostgreSQL, the one writer of
SQLite), a closed call is no longer found, and events have fixed ids.

After an outage of the database every instance looks dead. So an instance closes nobody's calls before its own beats
have come through for ``STEADY_S``: longer than it takes any other to notice that the database is back. The same holds
for a process that was itself stopped or starved for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import msgspec
from sqlalchemy import Row, Select, and_, bindparam, delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge import outcome
from bridge.calls.record import CallRecord, OutboxEvent
from bridge.calls.state import State
from bridge.server.logs import get_logger
from bridge.server.store.calls import CallStore
from bridge.server.store.database import Database
from bridge.server.store.encoding import EncodedCall, decode_call, encode_call
from bridge.server.store.faults import describe
from bridge.server.store.schema import CALLS, INSTANCES

BEAT_S = 5.0
DEAD_S = 20.0
"""Four beats: one may be late and one may fail."""
BEAT_TIMEOUT_S = 3.0
RETRY_S = 1.0
"""After a beat that failed."""
GIVE_UP_S = 2.0
"""How long SQLAlchemy tries to close a connection that hangs before it drops it."""
STEADY_S = 7.5
"""One beat and a half; must be more than ``BEAT_TIMEOUT_S`` + ``GIVE_UP_S`` + ``RETRY_S`` = 6 s, after which every
instance has noticed that its database is back."""
LATE_S = BEAT_S + BEAT_TIMEOUT_S
"""A longer gap between two beats means that this process was held up, and others perhaps with it."""
BATCH_CALLS = 50
"""Calls closed in one transaction, for the same reason as in the ledger."""
REAP_BUDGET_S = 5.0
"""Then the next beat is due; the rest is closed after it."""
FORGET_S = 86_400.0
"""Rows of instances older than a day without open calls are deleted."""

EventsFor = Callable[[CallRecord], Sequence[OutboxEvent]]
"""Makes the webhook events of a call's end; counts them in ``CallRecord.events_sent``."""
OnClosed = Callable[[list[CallRecord]], None]
"""Told of closed calls, so that slots, the register and metrics follow."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What a round found: calls that are closed with their record, and rows that cannot be read as one."""

    items: list[EncodedCall]
    records: list[CallRecord]
    unreadable: list[dict[str, Any]]


class Instances:
    """This process among its like. ``instance_id`` must be new with every start of the process."""

    def __init__(
        self,
        database: Database,
        store: CallStore,
        instance_id: str,
        events_for: EventsFor,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.instance_id = instance_id
        self.reaped = 0
        """Calls of other instances that this one has closed."""
        self._database = database
        self._store = store
        self._events_for = events_for
        self._clock = clock
        self._log = get_logger()
        self._beat_s = float("-inf")
        self._steady_since_s = float("inf")
        now = database.now()
        upsert = database.insert(INSTANCES).values(id=instance_id, started_at=now, seen_at=now)
        self._beat = upsert.on_conflict_do_update(index_elements=[INSTANCES.c.id], set_={"seen_at": now})

    @property
    def steady(self) -> bool:
        """Whether this instance's own beats have come through for long enough to judge others."""
        now = self._clock()
        return now - self._beat_s <= LATE_S and now - self._steady_since_s >= STEADY_S

    # --- life ---

    async def run(self, on_closed: OnClosed) -> None:
        """Beat and close dead instances' calls, until cancelled. Whatever fails is logged and tried again."""
        failing = False
        while True:
            began_s = self._clock()
            try:
                await self.heartbeat()
            except Exception as error:  # whatever it was, this instance must go on showing that it lives
                if not failing:
                    self._log.error("heartbeat_failed", detail=describe(error))
                failing = True
                await asyncio.sleep(RETRY_S)
                continue
            if failing:
                self._log.info("heartbeat_back")
            failing = False
            try:
                await self._reap(on_closed)
            except Exception as error:  # the next round tries again
                self._log.error("reap_failed", detail=describe(error))
            await asyncio.sleep(max(0.0, began_s + BEAT_S - self._clock()))

    async def heartbeat(self) -> None:
        """Show that this instance lives. Raises what the database raises."""
        before_s = self._beat_s
        try:
            async with asyncio.timeout(BEAT_TIMEOUT_S), self._database.write() as connection:
                await connection.execute(self._beat)
        except BaseException:
            self._steady_since_s = float("inf")
            raise
        self._beat_s = self._clock()
        if self._beat_s - before_s > LATE_S:
            self._steady_since_s = float("inf")
        self._steady_since_s = min(self._steady_since_s, self._beat_s)

    async def reap(self) -> list[CallRecord]:
        """Close the calls of dead instances, as long as ``steady`` and within ``REAP_BUDGET_S``; returns them."""
        closed: list[CallRecord] = []
        await self._reap(closed.extend)
        return closed

    async def retire(self) -> None:
        """At an orderly end, after the last record is written: leave no row behind, unless a call is still open.

        An open one is closed by the others in due time.
        """
        open_calls = exists().where(CALLS.c.instance_id == INSTANCES.c.id, CALLS.c.ended_at.is_(None))
        async with self._database.write() as connection:
            await connection.execute(delete(INSTANCES).where(INSTANCES.c.id == self.instance_id, ~open_calls))

    async def forget(self) -> None:
        """Delete the rows of instances that are long gone; once at every start is enough."""
        open_calls = exists().where(CALLS.c.instance_id == INSTANCES.c.id, CALLS.c.ended_at.is_(None))
        long_gone = INSTANCES.c.seen_at < self._database.now() - FORGET_S
        async with self._database.write() as connection:
            await connection.execute(delete(INSTANCES).where(long_gone, ~open_calls))

    # --- closing ---

    async def _reap(self, on_closed: OnClosed) -> None:
        deadline_s = self._clock() + REAP_BUDGET_S
        while self.steady and self._clock() < deadline_s:
            async with self._database.read() as connection:  # a look that holds nobody up
                if (await connection.execute(self._lost_calls(1))).first() is None:
                    return
            closed = await self._close_batch()
            if not closed:
                return  # another instance is at it
            self.reaped += len(closed)
            self._log.warning("instance_lost", closed_calls=len(closed), advice=outcome.INSTANCE_LOST.advice)
            on_closed(closed)

    async def _close_batch(self) -> list[CallRecord]:
        async with self._database.write() as connection:
            wanted = self._lost_calls(BATCH_CALLS).with_for_update(of=CALLS, skip_locked=True)
            found = self._close((await connection.execute(wanted)).all())
            await self._store.save_within(connection, found.items)
            await _close_unreadable(connection, found.unreadable)
        return found.records

    def _lost_calls(self, limit: int) -> Select[Any]:
        silent = and_(INSTANCES.c.seen_at < self._database.now() - DEAD_S, INSTANCES.c.id != self.instance_id)
        columns = (CALLS.c.id, CALLS.c.document, CALLS.c.recording, CALLS.c.journal, INSTANCES.c.seen_at)
        return (
            select(*columns)
            .join(INSTANCES, INSTANCES.c.id == CALLS.c.instance_id)
            .where(CALLS.c.ended_at.is_(None), silent)
            .order_by(CALLS.c.created_at)
            .limit(limit)
        )

    def _close(self, rows: Sequence[Row[Any]]) -> _Found:
        found = _Found([], [], [])
        for row in rows:
            try:
                record = decode_call(row.document, row.recording, row.journal)
            except msgspec.MsgspecError:
                self._log.error("record_unreadable", call_id=row.id)
                found.unreadable.append({"of_id": row.id, "at": row.seen_at})
                continue
            _end(record, row.seen_at)
            found.items.append(encode_call(record, self._events(record), self._store.retention))
            found.records.append(record)
        return found

    def _events(self, record: CallRecord) -> Sequence[OutboxEvent]:
        try:
            return self._events_for(record)
        except Exception as error:  # better closed without a webhook than never
            self._log.error("bug", call_id=record.id, detail=f"events of a lost call: {type(error).__name__}")
            return ()


def _end(record: CallRecord, seen_at: float) -> None:
    """End the record as of the last sign of life of its instance."""
    record.ended_at = max(record.created_at, seen_at)
    record.state = State.ENDED.value
    record.result = outcome.INSTANCE_LOST.result.value
    record.reason = outcome.INSTANCE_LOST.reason
    record.detail = "its instance gave no sign of life any more"
    record.journal.step(State.ENDED.value, str(outcome.INSTANCE_LOST), record.ended_at - record.created_at)


async def _close_unreadable(connection: AsyncConnection, rows: list[dict[str, Any]]) -> None:
    """Close rows whose document is damaged, by their columns alone: they must not be found for ever."""
    if not rows:
        return
    end = outcome.INSTANCE_LOST
    close = (
        update(CALLS)
        .where(CALLS.c.id == bindparam("of_id"))
        .values(state=State.ENDED.value, result=end.result.value, reason=end.reason, ended_at=bindparam("at"))
    )
    await connection.execute(close, rows)
