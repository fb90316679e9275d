"""What goes wrong with databases, with real ones: locks, a full disk, servers that die, processes that are killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import time
from asyncio.subprocess import PIPE
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from bridge.server.store import database as database_module
from bridge.server.store import instances as instances_module
from bridge.server.store.calls import CallStore
from bridge.server.store.database import Database, open_database
from bridge.server.store.instances import Instances
from bridge.server.store.ledger import Ledger, LedgerOptions
from bridge.server.store.listing import CallFilter
from bridge.server.store.schema import CALLS, OUTBOX
from tests.kit import writer
from tests.kit.database import PostgresServer
from tests.kit.process import environment
from tests.kit.records import call_record, ended_record, outbox_event
from tests.kit.server import until

pytestmark = pytest.mark.e2e

PACE = 20.0
"""Beats every 250 ms, dead after 1 s."""
LONGEST_HOLD_S = 0.25
"""How long the event loop may be held up on a busy test machine; a blocking database would hold it for seconds."""


@contextlib.asynccontextmanager
async def unheld_loop() -> AsyncIterator[None]:
    """Fails when anything inside has held up the event loop, on which the audio of all calls runs."""
    longest = 0.0
    done = False

    async def watch() -> None:
        nonlocal longest
        while not done:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - before - 0.005)

    task = asyncio.create_task(watch())
    yield
    done = True
    await task
    assert longest < LONGEST_HOLD_S, f"the event loop was held up for {longest:.2f} s"


async def stored(database: Database) -> dict[str, tuple[str, set[str]]]:
    """State and kinds of events of every call."""
    async with database.read() as connection:
        states = {row.id: row.state for row in await connection.execute(select(CALLS.c.id, CALLS.c.state))}
        kinds: dict[str, set[str]] = defaultdict(set)
        for row in await connection.execute(select(OUTBOX.c.call_id, OUTBOX.c.type)):
            kinds[row.call_id].add(row.type)
    assert set(kinds) <= set(states), "events without their record"
    return {name: (state, kinds[name]) for name, state in states.items()}


def put(ledger: Ledger, numbers: range) -> None:
    for number in numbers:
        ledger.put(ended_record(f"call{number}"), [outbox_event(f"call{number}")])


ENDED = ("ended", {"call.ended"})


# --- SQLite: another process has the lock ---

HOLD = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def lock_held(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process holds the database's lock until its standard input is closed."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        if process.stdin is not None:
            process.stdin.close()


async def test_a_lock_of_another_process_delays_records_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(database_module, "STATEMENT_TIMEOUT_S", 0.1)
    database = open_database(None, tmp_path)
    await database.upgrade()
    ledger = Ledger(CallStore(database))
    ledger.start()
    with lock_held(tmp_path / "bridge.sqlite3"):
        async with unheld_loop():
            put(ledger, range(50))
            await until(lambda: ledger.trouble == "OperationalError: database is locked")
            put(ledger, range(50, 100))
            assert (await CallStore(database).page(CallFilter(), None, 10)).calls == []  # readers go on
            assert ledger.lag_s > 0
    assert await ledger.flush(10.0)
    await ledger.close(1.0)
    assert await stored(database) == {f"call{number}": ENDED for number in range(100)}
    assert (ledger.lost, ledger.trouble) == (0, "")
    assert [line["event"] for line in lines] == ["database_failed", "database_back"]
    await database.close()


# --- SQLite: no space left ---


async def check_full_disk(database: Database, ledger: Ledger, make_room: Any, lines: list[dict[str, Any]]) -> None:
    ledger.start()
    size = 0
    while not ledger.trouble:
        put(ledger, range(size, size + 20))
        size += 20
        await asyncio.sleep(0.02)
        assert size < 10_000
    assert ledger.trouble == "OperationalError: database or disk is full"
    assert lines[0]["event"] == "database_failed"
    assert lines[0]["log_level"] == "error"
    await stored(database)  # readable, and no event without its record
    await make_room()
    assert await ledger.flush(20.0)
    assert await stored(database) == {f"call{number}": ENDED for number in range(size)}
    assert ledger.lost == 0
    await ledger.close(1.0)


async def test_a_database_that_may_not_grow_catches_up_when_it_may(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    pages = [60]
    database = open_database(None, tmp_path)
    await database.upgrade()

    @event.listens_for(database.engine.sync_engine, "checkout")
    def limit(connection: Any, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages[0]}").close()

    async def make_room() -> None:
        pages[0] = 100_000

    await check_full_disk(database, Ledger(CallStore(database)), make_room, lines)
    await database.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a file system of its own")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_catches_up_when_there_is_room(small_disk: Path, lines: list[dict[str, Any]]) -> None:
    ballast = small_disk / "ballast"
    database = open_database(None, small_disk)
    await database.upgrade()
    ballast.write_bytes(bytes(400_000))

    async def make_room() -> None:
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)  # noqa: ASYNC221
        ballast.unlink()

    await check_full_disk(database, Ledger(CallStore(database)), make_room, lines)
    await database.close()


async def test_what_does_not_fit_while_the_disk_is_full_is_counted_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(database_module, "STATEMENT_TIMEOUT_S", 0.01)
    database = open_database(None, tmp_path)
    await database.upgrade()
    ledger = Ledger(CallStore(database), LedgerOptions(max_pending_bytes=200_000))
    ledger.start()
    with lock_held(tmp_path / "bridge.sqlite3"):
        put(ledger, range(100))
        await until(lambda: bool(ledger.trouble))
        assert ledger.pending_bytes <= 200_000
    assert await ledger.flush(10.0)
    await ledger.close(1.0)
    kept = await stored(database)
    assert ledger.lost == ledger.lost_events == 100 - len(kept) > 0
    assert f"call{99}" in kept  # the oldest went
    lost = [line for line in lines if line["event"] == "records_lost"]
    assert lost[0]["log_level"] == "error"
    await database.close()


# --- PostgreSQL dies, or hangs ---


async def test_a_server_that_dies_and_comes_back_in_the_middle_of_it_has_everything(
    own_postgres: PostgresServer, tmp_path: Path, lines: list[dict[str, Any]]
) -> None:
    database = open_database(own_postgres.new_database(), tmp_path)
    await database.upgrade()
    store = CallStore(database)
    ledger = Ledger(store, LedgerOptions(retry_max_s=0.2))
    ledger.start()
    async with unheld_loop():
        for second, change in enumerate((None, own_postgres.kill, None, own_postgres.start, None, own_postgres.kill)):
            pause = asyncio.to_thread(change) if change is not None else asyncio.sleep(0.1)
            going = asyncio.ensure_future(pause)
            for number in range(second * 100, second * 100 + 100):
                ledger.put(call_record(f"call{number}"), [outbox_event(f"call{number}", "call.started")])
                await asyncio.sleep(0.001)
                ledger.put(ended_record(f"call{number}"), [outbox_event(f"call{number}", sequence=2)])
            await going
        await until(lambda: bool(ledger.trouble))
        await asyncio.to_thread(own_postgres.start)
        assert await ledger.flush(20.0)
    await ledger.close(1.0)
    wanted = ("ended", {"call.started", "call.ended"})
    assert await stored(database) == {f"call{number}": wanted for number in range(600)}
    assert ledger.lost == 0
    assert "database_back" in [line["event"] for line in lines]
    await database.close()


async def test_a_server_that_hangs_delays_records_and_nothing_else(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    database = open_database(own_postgres.new_database(), tmp_path)
    await database.upgrade()
    ledger = Ledger(CallStore(database), LedgerOptions(write_timeout_s=0.3, retry_max_s=0.2))
    ledger.start()
    put(ledger, range(10))
    assert await ledger.flush(5.0)
    own_postgres.hang()
    async with unheld_loop():
        put(ledger, range(10, 40))
        await until(lambda: bool(ledger.trouble))
        put(ledger, range(40, 50))
        await asyncio.sleep(0.5)
    own_postgres.go_on()
    assert await ledger.flush(10.0)
    await ledger.close(1.0)
    assert await stored(database) == {f"call{number}": ENDED for number in range(50)}
    await database.close()


async def test_an_outage_of_the_database_kills_no_instance(
    own_postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BEAT_S", "DEAD_S", "BEAT_TIMEOUT_S", "RETRY_S", "STEADY_S", "LATE_S"):
        monkeypatch.setattr(instances_module, name, getattr(instances_module, name) / PACE)
    url = own_postgres.new_database()
    databases = [open_database(url, tmp_path) for _ in range(2)]
    await databases[0].upgrade()
    closed: list[str] = []
    running = []
    for number, database in enumerate(databases):
        store = CallStore(database)
        one = Instances(database, store, f"instance{number}", writer.end_event)
        await one.heartbeat()
        await store.save([(call_record(f"call{number}", instance_id=f"instance{number}"), ())])
        running.append(asyncio.create_task(one.run(lambda records: closed.extend(r.id for r in records))))
    await asyncio.sleep(0.5)
    await asyncio.to_thread(own_postgres.kill)
    await asyncio.sleep(2 * instances_module.DEAD_S)
    await asyncio.to_thread(own_postgres.start)
    await asyncio.sleep(2 * instances_module.DEAD_S)
    assert closed == []
    running[1].cancel()  # and one that is really gone is still found
    await until(lambda: closed == ["call1"])
    running[0].cancel()
    await asyncio.gather(*running, return_exceptions=True)
    for database in databases:
        await database.close()


# --- a process is killed ---


async def killed_writer(url: str, name: str, after_s: float) -> int:
    """Run a writer and kill it in the midst of its work; returns how many rounds it had promised to be kept."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.kit.writer", url, name, str(PACE)), env=environment({}), stdout=PIPE
    )
    assert process.stdout is not None
    assert (await process.stdout.readline()).startswith(b"kept ")
    await asyncio.sleep(after_s)
    process.kill()
    said = (await process.stdout.read()).decode().split("\n")
    await process.wait()
    complete = [line for line in said[:-1] if line]
    return int(complete[-1].removeprefix("kept ")) if complete else writer.ROUNDS_A_FLUSH


async def test_nothing_is_half_written_when_processes_are_killed(database: Database, database_url: str) -> None:
    chance = random.Random(os.environ.get("PYTEST_SEED", "7"))
    promised = {}
    for number in range(4):
        name = f"victim{number}"
        promised[name] = await killed_writer(database_url, name, chance.uniform(0.0, 0.3))
    calls = await stored(database)
    for call_id, (state, kinds) in calls.items():
        assert "call.started" in kinds, call_id
        assert ("call.ended" in kinds) == (state == "ended"), call_id
    for name, rounds in promised.items():
        assert {f"{name}-{number}" for number in range(rounds)} <= set(calls), "a promise was broken"
        for number in range(rounds):
            wanted = "active" if number % writer.GOES_ON_EVERY == 0 else "ended"
            # Later victims have closed what their predecessors left behind.
            assert calls[f"{name}-{number}"][0] in (wanted, "ended")
    if database.is_sqlite:
        async with database.read() as connection:
            assert (await connection.exec_driver_sql("PRAGMA integrity_check")).scalar() == "ok"


async def test_survivors_close_a_killed_processs_calls_once(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BEAT_S", "DEAD_S", "BEAT_TIMEOUT_S", "RETRY_S", "STEADY_S", "LATE_S"):
        monkeypatch.setattr(instances_module, name, getattr(instances_module, name) / PACE)
    await killed_writer(database_url, "victim", 0.2)
    died_s = time.monotonic()
    open_ids = {name for name, (state, _) in (await stored(database)).items() if state == "active"}
    assert open_ids
    closed: list[str] = []
    others = [database, open_database(database_url, tmp_path)]
    running = [
        asyncio.create_task(
            Instances(other, CallStore(other), f"survivor{number}", writer.end_event).run(
                lambda records: closed.extend(record.id for record in records)
            )
        )
        for number, other in enumerate(others)
    ]
    await until(lambda: len(closed) >= len(open_ids))
    assert time.monotonic() - died_s < 30.0 / PACE + 2.0
    await asyncio.sleep(0.5)  # would they do it again?
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    assert sorted(closed) == sorted(open_ids)
    for state, kinds in (await stored(database)).values():
        assert state == "ended"
        assert "call.ended" in kinds
    async with database.read() as connection:
        bodies = await connection.execute(select(OUTBOX.c.call_id, OUTBOX.c.body).where(OUTBOX.c.type == "call.ended"))
        told = {row.call_id: row.body for row in bodies}
    assert {name for name, body in told.items() if body == b"instance_lost"} == open_ids
    await others[1].close()
