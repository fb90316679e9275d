"""How long what is kept, and the purge that deletes the rest.

Three clocks run from a call's end: for the whole record, for its transcript, for its audio. What each means:

- **transcript**: the turns, what tools were given and answered, the digits. The row stays, with the names and times
  of tools, the times of key presses, and the steps. With 0 days none of this is ever written, not even while the
  call is on. Variables and results of the call belong to the record, not to the transcript.
- **audio**: the recording. With 0 days it goes with the first purge after the end; audio that a webhook still has to
  send waits for that.
- **record**: the row, its conversations and its audio. With 0 days an ended call is not written at all; its webhook
  events are, and one with a recording stays until the purge has deleted that.

Webhook events have bodies that hold transcripts. A **pending** one is never touched. A **delivered** one has lost its
body on delivery (``store.outbox``); its row is deleted after ``DELIVERED_DAYS``, whatever became of the record: until
then its id stays, so that a late second version of the same event cannot go out. A **dead** one is what the operator
may still want to send: it is deleted when transcript or record are over their time, but not before
``DEAD_LETTER_MIN_DAYS`` and not after ``DEAD_LETTER_MAX_DAYS``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import ColumnElement, Row, and_, bindparam, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.calls.journal import Journal, KeyPress, ToolUse
from bridge.calls.record import Recording
from bridge.server.logs import get_logger
from bridge.server.store.database import Database
from bridge.server.store.faults import describe
from bridge.server.store.schema import CALLS, OUTBOX

DAY_S = 86_400.0
DELIVERED_DAYS = 7
"""How long a delivered event's id is remembered; a second version of an event comes within hours, if ever."""
DEAD_LETTER_MIN_DAYS = 7
"""A week to see the alarm and replay, even where nothing else is kept."""
DEAD_LETTER_MAX_DAYS = 30
"""Dead letters hold transcripts, and a target that is gone for good makes three a call."""
BATCH_CALLS = 100
"""Calls in one transaction: some 10 ms, during which SQLite lets no other writer in."""
FIRST_PURGE_S = 60.0
"""After the start: not while the first calls come in."""
PURGE_EVERY_S = 3600.0
PURGE_AT_ONCE_EVERY_S = 60.0
"""When something is to be kept for 0 days."""

DeleteAudio = Callable[[str], Awaitable[None]]
"""Deletes the audio at a ``Recording.location``; done when there is none. Raises when it could not."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Days from a call's end; None = for ever, 0 = keep nothing."""

    records_days: int | None = None
    transcripts_days: int | None = None
    audio_days: int | None = None

    def shortest(self, *days: int | None) -> int | None:
        """The least of these that are set."""
        return min((value for value in days if value is not None), default=None)

    @property
    def effective_transcripts_days(self) -> int | None:
        """A transcript goes with its record at the latest."""
        return self.shortest(self.transcripts_days, self.records_days)

    @property
    def effective_audio_days(self) -> int | None:
        """Audio goes with its record at the latest."""
        return self.shortest(self.audio_days, self.records_days)

    @property
    def dead_letter_days(self) -> int:
        """How long dead letters are kept; see the module's text."""
        wanted = self.effective_transcripts_days
        return DEAD_LETTER_MAX_DAYS if wanted is None else min(max(wanted, DEAD_LETTER_MIN_DAYS), DEAD_LETTER_MAX_DAYS)

    @property
    def purge_every_s(self) -> float:
        """How often a purge is worth its while."""
        wanted = (self.records_days, self.transcripts_days, self.audio_days)
        return PURGE_AT_ONCE_EVERY_S if 0 in wanted else PURGE_EVERY_S


KEEP_ALL = Retention()


@dataclass(slots=True)
class PurgeReport:
    """What a purge did, in counts."""

    records: int = 0
    transcripts: int = 0
    audio: int = 0
    audio_failed: int = 0
    """Recordings that could not be deleted; their rows stay, and the next purge tries again."""
    events: int = 0
    """Webhook events deleted."""

    def __bool__(self) -> bool:
        return any((self.records, self.transcripts, self.audio, self.audio_failed, self.events))


def has_transcript(journal: Journal) -> bool:
    """Whether the journal holds anything that ``scrub`` takes out."""
    return bool(journal.turns or journal.tools or journal.digits)


def scrub(journal: Journal) -> Journal:
    """A copy without what was said, pressed, given to tools and answered by them."""
    return Journal(
        tools=[
            ToolUse(name=tool.name, call_id=tool.call_id, at_s=tool.at_s, is_error=tool.is_error, took_ms=tool.took_ms)
            for tool in journal.tools
        ],
        digits=[KeyPress(at_s=key.at_s, duration_ms=key.duration_ms) for key in journal.digits],
        steps=list(journal.steps),
        lost=journal.lost,
    )


_journals = msgspec.json.Decoder(Journal)
_recordings = msgspec.json.Decoder(Recording)


class Purger:
    """Deletes what is over its time. Several instances may purge one database at once."""

    def __init__(self, database: Database, retention: Retention, delete_audio: DeleteAudio) -> None:
        self.last: PurgeReport | None = None
        """What the last purge of this process did."""
        self._database = database
        self._retention = retention
        self._delete_audio = delete_audio
        self._log = get_logger()

    async def run(self) -> None:
        """Purge from time to time, until cancelled. Reports in the log; a failure waits for the next time."""
        await asyncio.sleep(FIRST_PURGE_S)
        while True:
            try:
                report = await self.purge(time.time())
            except Exception as error:  # whatever it was, the bridge goes on without a purge
                self._log.error("purge_failed", detail=describe(error))
            else:
                if report:
                    self._log.info("purged", **{name: getattr(report, name) for name in PurgeReport.__slots__})
            await asyncio.sleep(self._retention.purge_every_s)

    async def purge(self, now: float) -> PurgeReport:
        """Delete all that is over its time at ``now`` (Unix seconds). Raises what the database raises."""
        keep = self._retention
        report = self.last = PurgeReport()
        if keep.effective_audio_days is not None:
            await self._purge_audio(now - keep.effective_audio_days * DAY_S, report)
        if keep.records_days is not None:
            await self._purge_records(now - keep.records_days * DAY_S, report)
        if keep.transcripts_days is not None:
            await self._purge_transcripts(now - keep.transcripts_days * DAY_S, report)
        await self._purge_events(now, report)
        return report

    async def _purge_audio(self, cut: float, report: PurgeReport) -> None:
        after: tuple[float, str] = (-1.0, "")
        while True:
            due = and_(CALLS.c.recording > "", CALLS.c.ended_at <= cut)
            async with self._database.read() as connection:
                rows = await _next_calls(connection, due, CALLS.c.recording, after=after)
                waiting = await _calls_with_audio_to_send(connection, [row.id for row in rows])
            if not rows:
                return
            gone = [row for row in rows if row.id not in waiting and await self._deleted(row.id, row.recording, report)]
            if gone:
                clear = (
                    update(CALLS)
                    .where(CALLS.c.id == bindparam("of_id"), CALLS.c.recording == bindparam("was"))
                    .values(recording="")
                )
                async with self._database.write() as connection:
                    await connection.execute(clear, [{"of_id": row.id, "was": row.recording} for row in gone])
            after = (rows[-1].ended_at, rows[-1].id)

    async def _deleted(self, call_id: str, recording: str, report: PurgeReport) -> bool:
        try:
            await self._delete_audio(_recordings.decode(recording).location)
        except Exception as error:  # the store of recordings may fail in any way
            report.audio_failed += 1
            self._log.warning("audio_not_deleted", call_id=call_id, detail=type(error).__name__)
            return False
        report.audio += 1
        return True

    async def _purge_records(self, cut: float, report: PurgeReport) -> None:
        while True:
            async with self._database.write() as connection:
                due = and_(CALLS.c.ended_at <= cut, CALLS.c.recording == "")
                ids = [row.id for row in await _next_calls(connection, due, to_write=True)]
                if not ids:
                    return
                await connection.execute(delete(CALLS).where(CALLS.c.id.in_(ids)))
            report.records += len(ids)

    async def _purge_transcripts(self, cut: float, report: PurgeReport) -> None:
        write = (
            update(CALLS)
            .where(CALLS.c.id == bindparam("of_id"))
            .values(journal=bindparam("scrubbed"), has_transcript=False)
        )
        while True:
            async with self._database.write() as connection:
                due = and_(CALLS.c.has_transcript, CALLS.c.ended_at <= cut)
                rows = await _next_calls(connection, due, CALLS.c.journal, to_write=True)
                if not rows:
                    return
                scrubbed = [{"of_id": row.id, "scrubbed": _scrubbed(row.journal)} for row in rows]
                await connection.execute(write, scrubbed)
            report.transcripts += len(rows)

    async def _purge_events(self, now: float, report: PurgeReport) -> None:
        keep = self._retention
        over = or_(
            and_(OUTBOX.c.state == "delivered", OUTBOX.c.delivered_at <= now - DELIVERED_DAYS * DAY_S),
            and_(OUTBOX.c.state == "dead", OUTBOX.c.created_at <= now - keep.dead_letter_days * DAY_S),
        )
        while True:
            async with self._database.write() as connection:
                batch = select(OUTBOX.c.id).where(over).limit(BATCH_CALLS).with_for_update(skip_locked=True)
                ids = (await connection.scalars(batch)).all()
                if ids:
                    await connection.execute(delete(OUTBOX).where(OUTBOX.c.id.in_(ids)))
            report.events += len(ids)
            if not ids:
                return


async def _next_calls(
    connection: AsyncConnection,
    due: ColumnElement[bool],
    *columns: ColumnElement[object],
    after: tuple[float, str] = (-1.0, ""),
    to_write: bool = False,
) -> Sequence[Row[tuple[object, ...]]]:
    """The next batch of calls, by end and id; ``to_write`` leaves out what another instance is purging.

    ``due`` compares ``ended_at``, so that a live call is never due.
    """
    ended_at, call_id = after
    later = or_(CALLS.c.ended_at > ended_at, and_(CALLS.c.ended_at == ended_at, CALLS.c.id > call_id))
    statement = select(CALLS.c.id, CALLS.c.ended_at, *columns).where(due, later)
    statement = statement.order_by(CALLS.c.ended_at, CALLS.c.id).limit(BATCH_CALLS)
    if to_write:
        statement = statement.with_for_update(skip_locked=True)
    return (await connection.execute(statement)).all()


async def _calls_with_audio_to_send(connection: AsyncConnection, ids: list[str]) -> set[str]:
    """Those of the calls whose audio a webhook event still has to send."""
    waiting = select(OUTBOX.c.call_id).where(
        OUTBOX.c.call_id.in_(ids), OUTBOX.c.state == "pending", OUTBOX.c.audio != ""
    )
    return set((await connection.scalars(waiting)).all())


def _scrubbed(journal: bytes) -> bytes:
    return msgspec.json.encode(scrub(_journals.decode(journal)))
