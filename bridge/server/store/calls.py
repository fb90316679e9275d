"""The stored calls: written in batches with their webhook events, read by id, conversation, carrier's id or list.

A call comes in many versions and from two sides: the process that carries it, and, when that is taken for dead, the one
that closes it. The rules by which one version replaces another are in ``_replaces``; all orders lead to the same end:

- an end is never replaced by a version without an end;
- ``server_error/instance_lost`` is what others say of a process that is silent; the process's own word replaces it;
- any other end stands. Only a later version of the same end (more outputs, a finished recording) replaces it.

Events are told once: their ids are derived from call and type, and one that is there is left as it is. So a process
that was taken for dead can correct its record, but does not send a second, different ``call.ended``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, and_, bindparam, case, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge import outcome
from bridge.calls.record import CallRecord, Recording
from bridge.errors import BridgeError, LocalError
from bridge.server.store.database import Database
from bridge.server.store.encoding import EncodedCall, Saved, decode_call, encode_call
from bridge.server.store.listing import MAX_PAGE, CallFilter, CallPage, after, conditions, make_cursor
from bridge.server.store.retention import KEEP_ALL, Retention
from bridge.server.store.schema import CALLS, CONVERSATIONS, INSTANCES, OUTBOX

_WHOLE = (CALLS.c.document, CALLS.c.recording, CALLS.c.journal)
_LOST = outcome.INSTANCE_LOST.reason


class LiveCallError(BridgeError):
    """The call goes on, so its record cannot be deleted: the next change of its state would bring it back."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """A call whose record is gone."""

    recording: Recording | None
    """Its audio, which is still there and to be deleted by whoever asked."""


class CallStore:
    """Calls in the database. Every method may raise what the database raises."""

    def __init__(self, database: Database, retention: Retention = KEEP_ALL) -> None:
        self.retention = retention
        self._database = database
        self._upsert = _upsert(database)
        self._add_conversation = database.insert(CONVERSATIONS).on_conflict_do_nothing()
        self._add_instance = (
            database.insert(INSTANCES)
            .values(id=bindparam("id"), started_at=database.now(), seen_at=database.now())
            .on_conflict_do_nothing()
        )
        self._add_event = database.insert(OUTBOX).on_conflict_do_nothing()

    # --- writing ---

    async def save(self, items: Sequence[Saved]) -> None:
        """Write versions of records with their events: all or nothing, and harmless when repeated."""
        await self.save_encoded([encode_call(record, events, self.retention) for record, events in items])

    async def save_encoded(self, items: Sequence[EncodedCall]) -> None:
        """``save`` for what is encoded already."""
        async with self._database.write() as connection:
            await self.save_within(connection, items)

    async def save_within(self, connection: AsyncConnection, items: Sequence[EncodedCall]) -> None:
        """``save_encoded`` as a part of a transaction."""
        kept = [item for item in items if item.keep]
        # Every instance with calls is known, or nobody would ever miss one that died before its first heartbeat.
        await _each(connection, self._add_instance, [{"id": name} for name in {item.instance_id for item in kept}])
        await _each(connection, self._upsert, [item.row for item in kept])
        conversations = [
            {"conversation_id": name, "call_id": item.id} for item in kept for name in item.conversation_ids
        ]
        await _each(connection, self._add_conversation, conversations)
        await _each(connection, self._add_event, [event for item in items for event in item.events])
        dropped = [item.id for item in items if not item.keep]
        if dropped:
            await connection.execute(delete(CALLS).where(CALLS.c.id.in_(dropped)))

    async def attach_recording(self, call_id: str, recording: Recording) -> bool:
        """Say where the audio of a stored call is; False = there is no such call, so the audio belongs to nobody.

        For a call whose record is no longer in memory; otherwise the recording goes with the record.
        """
        text = msgspec.json.encode(recording).decode()
        async with self._database.write() as connection:
            done = await connection.execute(update(CALLS).where(CALLS.c.id == call_id).values(recording=text))
        return bool(done.rowcount)

    async def delete(self, call_id: str) -> Deleted | None:
        """Forget a call that is over; None = there is none. Raises ``LiveCallError`` when it goes on.

        Events that wait to be sent still are; those that were given up go with the record.
        """
        async with self._database.write() as connection:
            found = select(CALLS.c.ended_at, CALLS.c.recording).where(CALLS.c.id == call_id)
            row = (await connection.execute(found.with_for_update())).first()
            if row is None:
                return None
            if row.ended_at is None:
                raise LiveCallError("the call goes on")
            await connection.execute(delete(OUTBOX).where(OUTBOX.c.call_id == call_id, OUTBOX.c.state == "dead"))
            await connection.execute(delete(CALLS).where(CALLS.c.id == call_id))
        return Deleted(msgspec.json.decode(row.recording, type=Recording) if row.recording else None)

    # --- reading ---

    async def get(self, call_id: str) -> CallRecord | None:
        """One call with its journal; None = there is none."""
        return await self._newest(CALLS.c.id == call_id)

    async def by_conversation(self, conversation_id: str) -> CallRecord | None:
        """The call that had this conversation, its last or an earlier one."""
        calls = select(CONVERSATIONS.c.call_id).where(CONVERSATIONS.c.conversation_id == conversation_id)
        return await self._newest(CALLS.c.id.in_(calls))

    async def by_call_sid(self, call_sid: str) -> CallRecord | None:
        """The call with the carrier's id; the newest if the carrier came back with it."""
        return await self._newest(CALLS.c.call_sid == call_sid)

    async def page(self, wanted: CallFilter, cursor: str | None, limit: int) -> CallPage:
        """Calls by time of offer, newest first, without their journals; 1 <= ``limit`` <= ``MAX_PAGE``.

        Raises ``QueryError`` (a ``ValueError``) for a cursor or text that makes no sense.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise LocalError(f"a page has 1 to {MAX_PAGE} calls, not {limit}")
        where = conditions(wanted)
        if cursor:
            where.append(after(cursor))
        statement = (
            select(CALLS.c.id, CALLS.c.created_at, CALLS.c.document, CALLS.c.recording)
            .where(*where)
            .order_by(CALLS.c.created_at.desc(), CALLS.c.id.desc())
            .limit(limit + 1)  # one more tells whether there is a next page
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(statement)).all()
        more = len(rows) > limit
        rows = rows[:limit]
        return CallPage(
            [decode_call(row.document, row.recording) for row in rows],
            make_cursor(rows[-1].created_at, rows[-1].id) if more else None,
        )

    async def _newest(self, where: ColumnElement[bool]) -> CallRecord | None:
        statement = select(*_WHOLE).where(where).order_by(CALLS.c.created_at.desc()).limit(1)
        async with self._database.read() as connection:
            row = (await connection.execute(statement)).first()
        return None if row is None else decode_call(row.document, row.recording, row.journal)


def _upsert(database: Database) -> Any:
    insert = database.insert(CALLS)
    new = insert.excluded
    values = {column.name: new[column.name] for column in CALLS.c if column.name not in ("id", "recording")}
    # Known to one side only: the recording may have been attached to the row, and the record not know of it.
    values["recording"] = case((new.recording == "", CALLS.c.recording), else_=new.recording)
    return insert.on_conflict_do_update(index_elements=[CALLS.c.id], set_=values, where=_replaces(new))


def _replaces(new: Any) -> ColumnElement[bool]:
    """Whether the new version takes the place of the stored one; the module's text has the rules."""
    old = CALLS.c
    own_word = and_(old.reason == _LOST, new.reason != _LOST)
    same_end = and_(old.ended_at == new.ended_at, old.result == new.result, old.reason == new.reason)
    return or_(old.ended_at.is_(None), and_(new.ended_at.is_not(None), or_(own_word, same_end)))


async def _each(connection: AsyncConnection, statement: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        await connection.execute(statement, rows)
