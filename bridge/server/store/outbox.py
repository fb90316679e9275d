"""The outbox's queries: webhook events that are stored, claimed, delivered, given up and replayed.

Theory of operation: an event is written in the transaction of the record that it tells of (``store.calls``), so there
is no moment at which one is kept and the other lost. Any process may deliver it: it claims the event for the
length of a lease, which it renews while it is at work. A process that dies leaves its claims behind, and they run out.
So an event is delivered at least once; receivers know a repetition by its id.

Order: an event is due only when no earlier event of its call is pending. Other calls do not wait. All times that
processes compare are the database's.

What was delivered loses its body, which holds what callers said; its row stays, so that the same moment stored once
more is known, until retention deletes it (``store.retention``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, case, delete, exists, func, literal, select, update

from bridge.calls.record import OutboxEvent
from bridge.server.store.database import Database
from bridge.server.store.delivery import Delivery
from bridge.server.store.schema import OUTBOX

EventState = Literal["pending", "delivered", "dead"]

MAX_ERROR_CHARS = 500
_FREE = {"claimed_by": "", "claimed_until": 0.0}
MAX_LISTED = 10_000
"""Events that one listing gives; a longer backlog is a matter for the metrics."""


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """An event that this process is to deliver, now and until its lease ends."""

    event: OutboxEvent
    attempt: int
    """Number of this attempt, from 1."""
    age_s: float
    """Since it was stored or replayed, by the database's clock."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt went."""

    event: OutboxEvent
    state: EventState
    """``pending`` = it failed and is to be tried again."""
    error: str = ""
    retry_in_s: float = 0.0


class OutboxCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How much is on its way."""

    pending: int
    dead: int
    oldest_pending_s: float
    """Age of the oldest event that is still to be delivered; 0 when there is none."""


class OutboxStore:
    """The outbox of one database. Every method is a transaction of its own and raises what the database raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_next(self, event: OutboxEvent) -> bool:
        """Store an event as the last of its call so far, whatever its ``sequence``; False = it is there already."""
        database = self._database
        last = select(func.coalesce(func.max(OUTBOX.c.sequence), 0)).where(OUTBOX.c.call_id == event.call_id)
        async with database.write() as connection:
            sequence = max(event.sequence, 1 + (await connection.scalar(last) or 0))
            row = {**_row(event), "sequence": sequence}
            done = await connection.execute(database.insert(OUTBOX).values(row).on_conflict_do_nothing())
            return bool(done.rowcount)

    # --- delivery ---

    async def claim(self, owner: str, limit: int, lease_s: float) -> list[Claimed]:
        """Take up to ``limit`` events that are due, at most one of each call, for ``lease_s`` seconds.

        ``owner`` names this process and nobody else. No two processes get the same event.
        """
        now = self._database.now()
        due = _due(now).limit(limit)
        async with self._database.read() as connection:  # most polls find nothing and need no writer's lock
            if (await connection.execute(due.limit(1))).first() is None:
                return []
        async with self._database.write() as connection:
            ids = (await connection.scalars(due.with_for_update(skip_locked=True))).all()
            if not ids:
                return []
            claim = (
                update(OUTBOX)
                .where(OUTBOX.c.id.in_(ids))
                .values(claimed_by=owner, claimed_until=now + lease_s, attempts=OUTBOX.c.attempts + 1)
                .returning(OUTBOX, (now - OUTBOX.c.created_at).label("age_s"))
            )
            rows = (await connection.execute(claim)).all()
        return sorted((_claimed(row) for row in rows), key=lambda claimed: claimed.event.created_at)

    async def renew(self, owner: str, ids: Sequence[str], lease_s: float) -> None:
        """Keep these claims for another ``lease_s`` seconds."""
        await self._update(_held(owner, ids), claimed_until=self._database.now() + lease_s)

    async def release(self, owner: str, ids: Sequence[str]) -> None:
        """Give these claims back as if they had not been made."""
        await self._update(_held(owner, ids), **_FREE, attempts=OUTBOX.c.attempts - 1)

    async def settle(self, owner: str, outcomes: Sequence[Outcome]) -> None:
        """Write down how attempts went, all in one transaction. Harmless when repeated.

        Delivered holds even when the claim ran out meanwhile: what the receiver took was taken. Everything else is
        the word of whoever has the claim. After a failed attempt the call's later events wait as long as the event
        itself; after one that was given up they go on, and it stays with its body until it is replayed or purged.
        """
        delivered = [outcome.event.id for outcome in outcomes if outcome.state == "delivered"]
        async with self._database.write() as connection:
            if delivered:
                done = {"state": "delivered", "delivered_at": self._database.now(), "body": b"", "last_error": ""}
                await connection.execute(update(OUTBOX).where(OUTBOX.c.id.in_(delivered)).values(done | _FREE))
            for outcome in outcomes:
                if outcome.state == "dead":
                    await connection.execute(_verdict(owner, outcome, state="dead"))
                elif outcome.state == "pending":
                    next_at = self._database.now() + outcome.retry_in_s
                    failed = await connection.execute(_verdict(owner, outcome, next_attempt_at=next_at))
                    if failed.rowcount:
                        await connection.execute(_postpone_later(outcome.event, next_at))

    # --- the operator ---

    async def counts(self) -> OutboxCounts:
        """The backlog, for metrics."""
        pending = OUTBOX.c.state == "pending"
        query = select(
            func.coalesce(func.sum(case((pending, 1), else_=0)), 0),
            func.coalesce(func.sum(case((pending, 0), else_=1)), 0),
            func.coalesce(self._database.now() - func.min(case((pending, OUTBOX.c.created_at))), 0.0),
        ).where(OUTBOX.c.state.in_(("pending", "dead")))
        async with self._database.read() as connection:
            waiting, dead, oldest_s = (await connection.execute(query)).one()
        return OutboxCounts(pending=int(waiting), dead=int(dead), oldest_pending_s=max(0.0, float(oldest_s)))

    async def of_call(self, call_id: str) -> list[Delivery]:
        """All events of a call, by sequence."""
        return await self._listed(OUTBOX.c.call_id == call_id, MAX_LISTED, OUTBOX.c.sequence)

    async def dead(self, limit: int) -> list[Delivery]:
        """Events that were given up, oldest first."""
        return await self.in_states(("dead",), limit)

    async def in_states(self, states: Sequence[EventState], limit: int) -> list[Delivery]:
        """Events in one of these states, oldest first."""
        return await self._listed(OUTBOX.c.state.in_(states), limit, OUTBOX.c.created_at, OUTBOX.c.call_id)

    async def replay(self, ids: Sequence[str] | None) -> int:
        """Make dead events pending again (None = all of them); returns how many there were."""
        return len(await self.replayed(ids))

    async def replayed(self, ids: Sequence[str] | None) -> list[str]:
        """``replay``, returning which of them were dead.

        They are due at once, with a fresh count of attempts and a fresh time to live.
        """
        where = OUTBOX.c.state == "dead"
        if ids is not None:
            where &= OUTBOX.c.id.in_(ids)
        query = (
            update(OUTBOX)
            .where(where)
            .values(state="pending", attempts=0, next_attempt_at=0.0, created_at=self._database.now(), last_error="")
            .returning(OUTBOX.c.id)
        )
        async with self._database.write() as connection:
            return sorted((await connection.scalars(query)).all())

    async def forget(self, call_id: str) -> int:
        """Delete all events of a call, sent or not; returns how many there were."""
        async with self._database.write() as connection:
            return (await connection.execute(delete(OUTBOX).where(OUTBOX.c.call_id == call_id))).rowcount

    # --- inside ---

    async def _update(self, where: ColumnElement[bool], **values: Any) -> None:
        async with self._database.write() as connection:
            await connection.execute(update(OUTBOX).where(where).values(**values))

    async def _listed(self, where: ColumnElement[bool], limit: int, *order: ColumnElement[Any]) -> list[Delivery]:
        query = (
            select(*(OUTBOX.c[name] for name in Delivery.__struct_fields__))
            .where(where)
            .order_by(*order, OUTBOX.c.sequence)
            .limit(max(0, min(limit, MAX_LISTED)))
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [Delivery(**{**row._mapping, "next_attempt_at": row.next_attempt_at or None}) for row in rows]


def _due(now: ColumnElement[float]) -> Any:
    """Ids of events that may be delivered now, fresh ones and those that have waited longest first.

    In the order of an index and of nothing else, so that a long backlog is not sorted for every claim.
    """
    earlier = OUTBOX.alias("earlier")
    moment = select(now).scalar_subquery()  # read once a query: a clock that may move between rows fits no index
    blocked = exists(
        select(literal(1)).where(
            earlier.c.call_id == OUTBOX.c.call_id,
            earlier.c.sequence < OUTBOX.c.sequence,
            earlier.c.state == "pending",
        )
    )
    return (
        select(OUTBOX.c.id)
        .where(
            OUTBOX.c.state == "pending", OUTBOX.c.next_attempt_at <= moment, OUTBOX.c.claimed_until <= moment, ~blocked
        )
        .order_by(OUTBOX.c.next_attempt_at)
    )


def _verdict(owner: str, outcome: Outcome, **values: Any) -> Any:
    """What befell an event that this owner still has."""
    error = outcome.error[:MAX_ERROR_CHARS]
    return update(OUTBOX).where(_held(owner, [outcome.event.id])).values({**_FREE, "last_error": error, **values})


def _postpone_later(event: OutboxEvent, next_at: ColumnElement[float]) -> Any:
    """Have the later events of a call wait as long as this one.

    They could not go anyway. With their time moved, they stay out of the way of every poll.
    """
    later = (
        OUTBOX.c.call_id == event.call_id,
        OUTBOX.c.sequence > event.sequence,
        OUTBOX.c.state == "pending",
        OUTBOX.c.next_attempt_at < next_at,
    )
    return update(OUTBOX).where(*later).values(next_attempt_at=next_at)


def _held(owner: str, ids: Sequence[str]) -> ColumnElement[bool]:
    """Events that this owner has claimed and nobody has taken over."""
    return OUTBOX.c.id.in_(ids) & (OUTBOX.c.claimed_by == owner) & (OUTBOX.c.state == "pending")


def _row(event: OutboxEvent) -> dict[str, Any]:
    return {
        "id": event.id,
        "call_id": event.call_id,
        "sequence": event.sequence,
        "type": event.type,
        "created_at": event.created_at,
        "body": event.body,
        "audio": event.audio,
        "audio_format": event.audio_format,
        "state": "pending",
        "attempts": 0,
        "next_attempt_at": 0.0,  # not a time: the clock of whoever stores it may be wrong
        "claimed_by": "",
        "claimed_until": 0.0,
        "delivered_at": None,
        "last_error": "",
    }


def _claimed(row: Any) -> Claimed:
    event = OutboxEvent(**{name: getattr(row, name) for name in OutboxEvent.__struct_fields__})
    return Claimed(event=event, attempt=row.attempts, age_s=max(0.0, row.age_s))
