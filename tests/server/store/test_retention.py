from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from bridge.calls.journal import Journal
from bridge.server.store import retention as module
from bridge.server.store.calls import CallStore
from bridge.server.store.database import Database
from bridge.server.store.retention import DAY_S, KEEP_ALL, Purger, PurgeReport, Retention, has_transcript, scrub
from bridge.server.store.schema import OUTBOX
from tests.kit.records import (
    CREATED_AT,
    call_record,
    ended_record,
    finished_recording,
    journal_of_everything,
    outbox_event,
)

END = CREATED_AT + 30.0


def later(days: float) -> float:
    """So many days after the end of ``ended_record``."""
    return END + days * DAY_S


class Audio:
    """Where recordings are; some cannot be deleted."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.stuck: set[str] = set()

    async def delete(self, location: str) -> None:
        if location in self.stuck:
            raise PermissionError(location)
        self.deleted.append(location)


Make = Callable[[Retention], Purger]


@pytest.fixture
def audio() -> Audio:
    return Audio()


@pytest.fixture
def make(database: Database, audio: Audio) -> Make:
    return lambda retention: Purger(database, retention, audio.delete)


@pytest.fixture
def store(database: Database) -> CallStore:
    return CallStore(database)


async def events(database: Database) -> list[str]:
    async with database.read() as connection:
        return list((await connection.scalars(select(OUTBOX.c.id).order_by(OUTBOX.c.id))).all())


async def set_event(database: Database, event_id: str, **values: Any) -> None:
    async with database.write() as connection:
        await connection.execute(OUTBOX.update().where(OUTBOX.c.id == event_id).values(**values))


async def test_without_limits_everything_stays(store: CallStore, make: Make) -> None:
    record = ended_record(journal=journal_of_everything(), recording=finished_recording())
    await store.save([(record, (outbox_event(),))])
    report = await make(KEEP_ALL).purge(later(10_000))
    assert report == PurgeReport()
    assert not report
    assert await store.get("call1") == record


# --- records ---


async def test_records_go_after_their_days_and_take_their_audio_along(
    store: CallStore, make: Make, audio: Audio, database: Database
) -> None:
    old = ended_record("old", recording=finished_recording("old.wav"), conversation_ids=["conv_1"])
    new = ended_record("new", created_at=CREATED_AT + DAY_S)
    await store.save([(old, (outbox_event("old"),)), (new, ()), (call_record("live"), ())])
    purger = make(Retention(records_days=30))
    assert await purger.purge(later(30) - 1) == PurgeReport()
    assert await purger.purge(later(30)) == PurgeReport(records=1, audio=1)
    assert await events(database) == ["evt_old_call.ended"]
    assert audio.deleted == ["old.wav"]
    assert await store.get("old") is None
    assert await store.by_conversation("conv_1") is None
    assert await store.get("new") is not None
    assert await store.get("live") is not None
    assert purger.last == PurgeReport(records=1, audio=1)


async def test_a_live_call_never_goes(store: CallStore, make: Make) -> None:
    await store.save([(call_record(journal=journal_of_everything(), recording=finished_recording()), ())])
    await make(Retention(records_days=0, transcripts_days=0, audio_days=0)).purge(later(10_000))
    stored = await store.get("call1")
    assert stored is not None
    assert stored.recording is not None
    assert stored.journal == journal_of_everything()


async def test_more_than_a_batch_goes_in_one_purge(store: CallStore, make: Make) -> None:
    names = [f"call{n:03d}" for n in range(module.BATCH_CALLS * 2 + 1)]
    journal = journal_of_everything()
    await store.save([(ended_record(n, journal=journal, recording=finished_recording(n)), ()) for n in names])
    assert await make(Retention(transcripts_days=1, audio_days=1)).purge(later(2)) == PurgeReport(
        transcripts=len(names), audio=len(names)
    )
    assert await make(Retention(records_days=1)).purge(later(2)) == PurgeReport(records=len(names))


# --- transcripts ---


async def test_a_transcript_goes_and_the_row_stays(store: CallStore, make: Make) -> None:
    record = ended_record(journal=journal_of_everything(), variables={"name": "x"}, recording=finished_recording())
    await store.save([(record, ())])
    purger = make(Retention(transcripts_days=7))
    assert await purger.purge(later(7) - 1) == PurgeReport()
    assert await purger.purge(later(7)) == PurgeReport(transcripts=1)
    assert await purger.purge(later(7)) == PurgeReport()
    record.journal = scrub(record.journal)
    assert await store.get("call1") == record


def test_what_is_left_of_a_journal_says_nothing_of_what_was_said() -> None:
    left = scrub(journal_of_everything())
    assert left.turns == []
    (tool,) = left.tools
    assert (tool.name, tool.at_s, tool.took_ms, tool.parameters, tool.result) == ("find_customer", 2.5, 250.0, {}, "")
    (key,) = left.digits
    assert (key.at_s, key.digit, key.duration_ms) == (3.0, "", 120)
    assert left.steps == journal_of_everything().steps


def test_what_counts_as_transcript() -> None:
    assert not has_transcript(Journal())
    only_steps = Journal()
    only_steps.step("active", "", 1.0)
    assert not has_transcript(only_steps)
    assert has_transcript(journal_of_everything())


# --- audio ---


async def test_audio_goes_and_the_row_stays(store: CallStore, make: Make, audio: Audio) -> None:
    record = ended_record(journal=journal_of_everything(), recording=finished_recording("a.wav"))
    await store.save([(record, ())])
    purger = make(Retention(audio_days=3))
    assert await purger.purge(later(3) - 1) == PurgeReport()
    assert await purger.purge(later(3)) == PurgeReport(audio=1)
    assert await purger.purge(later(3)) == PurgeReport()
    assert audio.deleted == ["a.wav"]
    record.recording = None
    assert await store.get("call1") == record


async def test_audio_that_cannot_be_deleted_is_reported_and_tried_again(
    store: CallStore, make: Make, audio: Audio, lines: list[dict[str, Any]]
) -> None:
    await store.save([(ended_record(name, recording=finished_recording(name)), ()) for name in ("a", "b")])
    audio.stuck = {"a"}
    purger = make(Retention(records_days=1))
    assert await purger.purge(later(1)) == PurgeReport(records=1, audio=1, audio_failed=1)
    assert await store.get("a") is not None  # or nobody would know of the audio any more
    assert lines == [
        {"event": "audio_not_deleted", "log_level": "warning", "call_id": "a", "detail": "PermissionError"}
    ]
    audio.stuck = set()
    assert await purger.purge(later(1)) == PurgeReport(records=1, audio=1)
    assert audio.deleted == ["b", "a"]


async def test_audio_that_a_webhook_has_yet_to_send_waits(
    store: CallStore, make: Make, audio: Audio, database: Database
) -> None:
    event = outbox_event(kind="post_call_audio", audio="a.wav")
    await store.save([(ended_record(recording=finished_recording("a.wav")), (event,))])
    purger = make(Retention(records_days=0))
    assert await purger.purge(later(1)) == PurgeReport()
    await set_event(database, event.id, state="delivered", delivered_at=later(1))
    assert await purger.purge(later(1)) == PurgeReport(records=1, audio=1)
    assert audio.deleted == ["a.wav"]


# --- events ---


async def test_pending_events_are_never_purged(store: CallStore, make: Make, database: Database) -> None:
    await store.save([(ended_record(), (outbox_event(),))])
    report = await make(Retention(records_days=0, transcripts_days=0, audio_days=0)).purge(later(10_000))
    assert report == PurgeReport(records=1)
    assert await events(database) == ["evt_call1_call.ended"]


async def test_the_ids_of_delivered_events_are_kept_for_a_week(
    store: CallStore, make: Make, database: Database
) -> None:
    await store.save([(ended_record(), (outbox_event(),))])
    await set_event(database, "evt_call1_call.ended", state="delivered", delivered_at=later(0), body=b"")
    for keep in (KEEP_ALL, Retention(records_days=0)):
        await make(keep).purge(later(7) - 1)
        assert await events(database) == ["evt_call1_call.ended"]
    assert await make(KEEP_ALL).purge(later(7)) == PurgeReport(events=1)
    assert await events(database) == []


@pytest.mark.parametrize(
    ("keep", "days"),
    [
        (KEEP_ALL, 30),
        (Retention(records_days=365), 30),
        (Retention(transcripts_days=14), 14),
        (Retention(records_days=10, transcripts_days=14), 10),
        (Retention(transcripts_days=0), 7),
    ],
)
async def test_dead_letters_can_be_replayed_for_a_while(
    store: CallStore, make: Make, database: Database, keep: Retention, days: int
) -> None:
    await store.save([(call_record(), (outbox_event(created_at=END),))])
    await set_event(database, "evt_call1_call.ended", state="dead")
    assert await make(keep).purge(later(days) - 1) == PurgeReport()
    assert await make(keep).purge(later(days)) == PurgeReport(events=1)


async def test_many_events_go_in_one_purge(store: CallStore, make: Make, database: Database) -> None:
    many = tuple(outbox_event(kind=f"k{n}", sequence=n) for n in range(module.BATCH_CALLS + 1))
    await store.save([(ended_record(), many)])
    async with database.write() as connection:
        await connection.execute(OUTBOX.update().values(state="delivered", delivered_at=END))
    assert await make(KEEP_ALL).purge(later(7)) == PurgeReport(events=len(many))


# --- the loop ---


def test_nothing_kept_is_purged_every_minute() -> None:
    assert Retention(audio_days=0).purge_every_s == 60.0
    assert Retention(records_days=1).purge_every_s == KEEP_ALL.purge_every_s == 3600.0


async def test_two_instances_may_purge_at_once(store: CallStore, make: Make) -> None:
    await store.save([(ended_record(f"call{n}", recording=finished_recording(f"{n}")), ()) for n in range(150)])
    keep = Retention(records_days=1)
    reports = await asyncio.gather(make(keep).purge(later(1)), make(keep).purge(later(1)))
    assert sum(report.records for report in reports) == 150
    assert await store.get("call0") is None


async def test_the_loop_reports_and_survives_failures(
    sqlite_database: Database, audio: Audio, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(module, "FIRST_PURGE_S", 0.0)
    monkeypatch.setattr(module, "PURGE_AT_ONCE_EVERY_S", 0.0)
    purger = Purger(sqlite_database, Retention(audio_days=0), audio.delete)
    outcomes: list[Exception | PurgeReport] = [
        ConnectionRefusedError("nobody there"),
        PurgeReport(),
        PurgeReport(records=2, audio_failed=1),
    ]
    done = asyncio.Event()

    async def purge(_now: float) -> PurgeReport:
        if not outcomes:
            done.set()
            await asyncio.sleep(3600)
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(purger, "purge", purge)
    task = asyncio.create_task(purger.run())
    async with asyncio.timeout(5.0):
        await done.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lines == [
        {"event": "purge_failed", "log_level": "error", "detail": "ConnectionRefusedError: nobody there"},
        {
            "event": "purged",
            "log_level": "info",
            "records": 2,
            "transcripts": 0,
            "audio": 0,
            "audio_failed": 1,
            "events": 0,
        },
    ]
