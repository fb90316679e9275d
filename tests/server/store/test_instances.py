from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from bridge.calls.record import CallRecord, OutboxEvent
from bridge.server.store import instances as module
from bridge.server.store.calls import CallStore
from bridge.server.store.database import Database, open_database
from bridge.server.store.instances import BEAT_TIMEOUT_S, LATE_S, RETRY_S, STEADY_S, Instances
from bridge.server.store.listing import CallFilter
from bridge.server.store.retention import Retention
from bridge.server.store.schema import CALLS, INSTANCES, OUTBOX
from tests.kit.clock import FakeClock
from tests.kit.records import CREATED_AT, call_record, ended_record, finished_recording, outbox_event


def end_event(record: CallRecord) -> list[OutboxEvent]:
    record.events_sent += 1
    body = f"{record.result}/{record.reason}".encode()
    return [outbox_event(record.id, sequence=record.events_sent, body=body)]


class Process:
    """An instance whose clock stands still, on a connection of its own."""

    def __init__(self, database: Database, name: str, retention: Retention | None = None) -> None:
        self.clock = FakeClock()
        self.closed: list[str] = []
        self.store = CallStore(database, retention or Retention())
        self.instances = Instances(database, self.store, name, end_event, lambda: self.clock.now)

    async def steady(self) -> Process:
        """Beat for long enough to judge others."""
        for _ in range(3):
            await self.instances.heartbeat()
            self.clock.advance(5.0)
        assert self.instances.steady
        return self


async def silent(database: Database, name: str, seconds: float) -> float:
    """Make it look as if the instance had been silent for so long; returns when it was last seen."""
    async with database.write() as connection:
        seen_at = database.now() - seconds
        await connection.execute(INSTANCES.update().where(INSTANCES.c.id == name).values(seen_at=seen_at))
        return float((await connection.execute(select(INSTANCES.c.seen_at).where(INSTANCES.c.id == name))).scalar_one())


async def names(database: Database) -> list[str]:
    async with database.read() as connection:
        return list((await connection.scalars(select(INSTANCES.c.id).order_by(INSTANCES.c.id))).all())


async def events(database: Database) -> list[tuple[str, int, bytes]]:
    async with database.read() as connection:
        rows = (await connection.execute(select(OUTBOX).order_by(OUTBOX.c.call_id, OUTBOX.c.sequence))).all()
    return [(row.id, row.sequence, row.body) for row in rows]


# --- signs of life ---


async def test_a_heartbeat_writes_the_databases_time(database: Database) -> None:
    process = Process(database, "me")
    await process.instances.heartbeat()
    await silent(database, "me", 100.0)
    await process.instances.heartbeat()
    async with database.read() as connection:
        row = (await connection.execute(select(INSTANCES, database.now().label("now")))).one()
    assert row.id == "me"
    assert row.now - 2.0 < row.seen_at <= row.now
    assert row.started_at <= row.seen_at


async def test_an_orderly_end_leaves_no_row_unless_a_call_is_open(database: Database) -> None:
    me, other = Process(database, "me"), Process(database, "other")
    await me.instances.heartbeat()
    await other.instances.heartbeat()
    await me.store.save([(call_record(instance_id="me"), ())])
    await me.instances.retire()
    assert await names(database) == ["me", "other"]
    await me.store.save([(ended_record(instance_id="me"), ())])
    await me.instances.retire()
    assert await names(database) == ["other"]


async def test_instances_long_gone_are_forgotten_unless_a_call_is_open(database: Database) -> None:
    me = Process(database, "me")
    for name in ("open", "gone", "recent", "me"):
        await Process(database, name).instances.heartbeat()
    await me.store.save([(call_record(instance_id="open"), ()), (ended_record("call2", instance_id="gone"), ())])
    for name, seconds in (("open", 90_000), ("gone", 90_000), ("recent", 80_000)):
        await silent(database, name, seconds)
    await me.instances.forget()
    assert await names(database) == ["me", "open", "recent"]


# --- closing the calls of the dead ---


async def test_a_dead_instances_calls_are_closed_with_their_events(database: Database) -> None:
    me = await Process(database, "me").steady()
    started = outbox_event("dead1", "call.started")
    record = call_record("dead1", instance_id="dead", events_sent=1, recording=finished_recording())
    record.journal.said("user", "hello", 1.0)
    await me.store.save([(record, (started,)), (ended_record("over", instance_id="dead"), ())])
    await me.store.save([(call_record("mine", instance_id="me"), ()), (call_record("well", instance_id="well"), ())])
    seen_at = await silent(database, "dead", 21.0)
    (closed,) = await me.instances.reap()
    stored = await me.store.get("dead1")
    assert stored == closed
    assert (stored.state, stored.result, stored.reason) == ("ended", "server_error", "instance_lost")
    assert stored.ended_at == seen_at
    assert stored.detail == "its instance gave no sign of life any more"
    assert stored.recording == finished_recording()
    assert [turn.text for turn in stored.journal.turns] == ["hello"]
    assert [(step.event, step.detail) for step in stored.journal.steps] == [("ended", "server_error/instance_lost")]
    assert await events(database) == [
        ("evt_dead1_call.started", 1, b'{"type":"call.started"}'),
        ("evt_dead1_call.ended", 2, b"server_error/instance_lost"),
    ]
    assert me.instances.reaped == 1
    for name, state in (("over", "ended"), ("mine", "active"), ("well", "active")):
        other = await me.store.get(name)
        assert other is not None
        assert (other.state, other.reason) == (state, "caller_hangup" if state == "ended" else "")


async def test_one_that_was_seen_lately_is_left_alone(database: Database) -> None:
    me = await Process(database, "me").steady()
    await me.store.save([(call_record(instance_id="slow"), ())])
    await silent(database, "slow", 18.0)
    assert await me.instances.reap() == []


async def test_an_instance_does_not_close_its_own_calls(database: Database) -> None:
    me = await Process(database, "me").steady()
    await me.store.save([(call_record(instance_id="me"), ())])
    await silent(database, "me", 60.0)
    assert await me.instances.reap() == []


async def test_an_end_is_never_before_the_beginning(database: Database) -> None:
    me = await Process(database, "me").steady()
    await me.store.save([(call_record(instance_id="dead", created_at=4e9), ())])
    await silent(database, "dead", 21.0)
    (closed,) = await me.instances.reap()
    assert closed.ended_at == 4e9


async def test_many_calls_are_closed_in_batches_and_told_batch_by_batch(database: Database) -> None:
    me = await Process(database, "me").steady()
    await me.store.save([(call_record(f"call{n}", instance_id="dead"), ()) for n in range(120)])
    await silent(database, "dead", 21.0)
    told: list[int] = []
    await me.instances._reap(lambda closed: told.append(len(closed)))
    assert told == [50, 50, 20]
    assert len(await events(database)) == 120


async def test_several_survivors_close_every_call_exactly_once(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    databases = [database, *(open_database(database_url, tmp_path) for _ in range(2))]
    processes = [await Process(one, f"survivor{n}").steady() for n, one in enumerate(databases)]
    await processes[0].store.save([(call_record(f"call{n}", instance_id="dead"), ()) for n in range(200)])
    await silent(databases[0], "dead", 21.0)
    while (await processes[0].store.page(CallFilter(live=True), None, 1)).calls:
        await asyncio.gather(*(process.instances.heartbeat() for process in processes))
        batches = await asyncio.gather(*(process.instances.reap() for process in processes))
        for process, batch in zip(processes, batches, strict=True):
            process.clock.advance(1.0)
            process.closed += [record.id for record in batch]
    closed = [call_id for process in processes for call_id in process.closed]
    assert sorted(closed) == sorted(f"call{n}" for n in range(200))
    assert len(await events(databases[0])) == 200
    for one in databases[1:]:
        await one.close()


async def test_the_process_that_was_taken_for_dead_corrects_the_record_and_tells_nothing_twice(
    database: Database,
) -> None:
    me = await Process(database, "me").steady()
    alive = call_record(instance_id="alive")
    await me.store.save([(alive, ())])
    await silent(database, "alive", 21.0)
    await me.instances.reap()
    await me.store.save([(alive, ())])  # it is still at it
    await me.store.save([(ended_record(instance_id="alive"), (outbox_event(body=b"success/caller_hangup"),))])
    stored = await me.store.get("call1")
    assert stored is not None
    assert stored.reason == "caller_hangup"
    assert await events(database) == [("evt_call1_call.ended", 1, b"server_error/instance_lost")]
    assert await me.instances.reap() == []


async def test_with_nothing_kept_the_events_are_told_and_the_row_goes(database: Database) -> None:
    me = await Process(database, "me", Retention(records_days=0)).steady()
    await me.store.save([(call_record(instance_id="dead"), ())])
    await silent(database, "dead", 21.0)
    assert len(await me.instances.reap()) == 1
    assert await me.store.get("call1") is None
    assert len(await events(database)) == 1


async def test_a_call_is_closed_even_when_its_events_cannot_be_made(
    database: Database, lines: list[dict[str, Any]]
) -> None:
    def broken(_record: CallRecord) -> list[OutboxEvent]:
        raise ValueError("+15550001")

    me = await Process(database, "me").steady()
    me.instances._events_for = broken
    await me.store.save([(call_record(instance_id="dead"), ())])
    await silent(database, "dead", 21.0)
    assert len(await me.instances.reap()) == 1
    assert await events(database) == []
    assert {
        "event": "bug",
        "log_level": "error",
        "call_id": "call1",
        "detail": "events of a lost call: ValueError",
    } in lines


async def test_a_damaged_record_is_closed_by_its_columns(database: Database, lines: list[dict[str, Any]]) -> None:
    me = await Process(database, "me").steady()
    await me.store.save([(call_record("bad", instance_id="dead"), ()), (call_record("good", instance_id="dead"), ())])
    async with database.write() as connection:
        await connection.execute(CALLS.update().where(CALLS.c.id == "bad").values(document=b"{"))
    seen_at = await silent(database, "dead", 21.0)
    assert [record.id for record in await me.instances.reap()] == ["good"]
    async with database.read() as connection:
        row = (await connection.execute(select(CALLS).where(CALLS.c.id == "bad"))).one()
    assert (row.state, row.result, row.reason, row.ended_at) == ("ended", "server_error", "instance_lost", seen_at)
    assert lines[0]["event"] == "record_unreadable"
    assert await me.instances.reap() == []


# --- whom to trust ---


async def test_one_that_has_just_begun_judges_nobody(database: Database) -> None:
    me = Process(database, "me")
    await me.store.save([(call_record(instance_id="dead"), ())])
    await silent(database, "dead", 60.0)
    assert await me.instances.reap() == []
    await me.instances.heartbeat()
    me.clock.advance(5.0)
    await me.instances.heartbeat()
    assert not me.instances.steady
    assert await me.instances.reap() == []
    me.clock.advance(5.0)
    await me.instances.heartbeat()
    assert len(await me.instances.reap()) == 1


async def test_after_an_outage_nobody_is_judged_until_all_had_time_to_come_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = await Process(database, "me").steady()
    await me.store.save([(call_record(instance_id="other"), ())])
    with monkeypatch.context() as patch:
        patch.setattr(module, "BEAT_TIMEOUT_S", -1.0)
        with pytest.raises(TimeoutError):
            await me.instances.heartbeat()
    await silent(database, "other", 60.0)
    assert await me.instances.reap() == []
    await me.instances.heartbeat()
    me.clock.advance(STEADY_S - 0.1)
    assert await me.instances.reap() == []
    me.clock.advance(0.1)
    assert len(await me.instances.reap()) == 1


async def test_one_that_was_itself_held_up_judges_nobody_at_once(database: Database) -> None:
    me = await Process(database, "me").steady()
    me.clock.advance(LATE_S)
    assert not me.instances.steady  # before its next beat
    await me.instances.heartbeat()
    me.clock.advance(1.0)
    assert not me.instances.steady


def test_the_times_fit_together() -> None:
    assert STEADY_S > BEAT_TIMEOUT_S + module.GIVE_UP_S + RETRY_S  # another instance is back before it can be judged
    assert module.DEAD_S + module.BEAT_S < 30.0  # the promise
    assert module.DEAD_S > 2 * LATE_S  # two failed beats kill nobody
    assert module.REAP_BUDGET_S <= module.BEAT_S


# --- the loop ---


async def test_the_loop_beats_and_closes_and_survives_failures(
    database: Database, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
) -> None:
    for name, value in (("BEAT_S", 0.01), ("RETRY_S", 0.001), ("STEADY_S", 0.0)):
        monkeypatch.setattr(module, name, value)
    store = CallStore(database)
    me = Instances(database, store, "me", end_event)
    beat, failures = me.heartbeat, 2

    async def sometimes() -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise ConnectionRefusedError("nobody there")
        await beat()

    monkeypatch.setattr(me, "heartbeat", sometimes)
    await store.save([(call_record(instance_id="dead"), ())])
    await silent(database, "dead", 60.0)
    done: asyncio.Future[list[CallRecord]] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(me.run(done.set_result))
    async with asyncio.timeout(5.0):
        (closed,) = await done
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed.reason == "instance_lost"
    assert closed.created_at == CREATED_AT
    assert [line["event"] for line in lines] == ["heartbeat_failed", "heartbeat_back", "instance_lost"]
    assert lines[0]["detail"] == "ConnectionRefusedError: nobody there"
    assert lines[2]["closed_calls"] == 1


async def test_the_loop_survives_a_failure_to_close(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.001)
    me = Instances(sqlite_database, CallStore(sqlite_database), "me", end_event)
    rounds = asyncio.Event()
    count = 0

    async def broken(_on_closed: object) -> None:
        nonlocal count
        count += 1
        if count == 2:
            rounds.set()
        raise RuntimeError("+15550001")

    monkeypatch.setattr(me, "_reap", broken)
    task = asyncio.create_task(me.run(lambda _closed: None))
    async with asyncio.timeout(5.0):
        await rounds.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lines[0] == {"event": "reap_failed", "log_level": "error", "detail": "RuntimeError"}
