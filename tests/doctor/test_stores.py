"""Redis, database and disk: verdicts of all kinds, and real servers where they differ from what is pretended."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx
import pytest
from moto.server import ThreadedMotoServer

from bridge.calls.routing import RoutingTable
from bridge.calls.rules import Route
from bridge.doctor import stores
from bridge.doctor.clocks import Reading
from bridge.doctor.findings import Finding
from bridge.doctor.stores import (
    DatabaseSeen,
    FolderSeen,
    RedisSeen,
    check_database,
    check_disk,
    check_recordings,
    check_redis,
    judge_bucket,
    judge_database,
    judge_folder,
    judge_redis,
    known_revisions,
    look_at_folder,
    records_audio,
)
from bridge.server.store.database import open_database
from bridge.server.store.revision import head_revision
from tests.kit.database import PostgresServer
from tests.kit.doctor import told, tools_for
from tests.kit.redis import RedisServer, prefix
from tests.kit.server import free_port, settings_for

GOOD = RedisSeen(version="7.0.15", persistent=True, round_trip_ms=0.4, clock=Reading(0.0, 0.0))


# --- Redis -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "verdict", "words", "advice"),
    [
        (GOOD, "ok", "version 7.0.15, answers in 0.4 ms", ""),
        (
            RedisSeen(version="7.0.15", round_trip_ms=0.4), "ok",
            "version 7.0.15, answers in 0.4 ms, keeps nothing on disk: after a restart the bridges fill it again by "
            "themselves", "",
        ),
        (
            RedisSeen(problem="no connection (ConnectionError)"), "failed", "no connection (ConnectionError)",
            "Start Redis; check REDIS_URL, firewall, TLS.",
        ),
        (
            RedisSeen(problem="it refuses (AuthenticationError)", refused=True), "failed",
            "it refuses (AuthenticationError)",
            "Check user and password in REDIS_URL.",
        ),
        (
            RedisSeen(version="6.0.16", round_trip_ms=1), "failed",
            "version 6.0.16, answers in 1.0 ms, which is too old", "Install Redis 6.2 or newer.",
        ),
        (
            RedisSeen(version="7.2.0", replica=True), "failed", "version 7.2.0, answers in 0.0 ms, but is a replica",
            "Put the address of the primary into REDIS_URL.",
        ),
        (
            RedisSeen(version="7.2.0", write_problem="OOM"), "failed",
            "version 7.2.0, answers in 0.0 ms, but takes no writes (OOM)", "Look at its memory, disk and user rights.",
        ),
        (
            RedisSeen(version="7.2.0", bounded=True, policy="allkeys-lru"), "warning",
            "version 7.2.0, answers in 0.0 ms, but throws keys away when its memory is full (allkeys-lru)",
            "Set maxmemory-policy noeviction: a slot that is thrown away lets one call too many in.",
        ),
        (
            RedisSeen(version="7.2.0", round_trip_ms=80.0), "warning",
            "version 7.2.0, answers in 80.0 ms, which callers notice",
            "Put Redis near the bridge, in the same data centre.",
        ),
        (RedisSeen(version="x.y"), "failed", "version x.y, answers in 0.0 ms, which is too old",
         "Install Redis 6.2 or newer."),
    ],
)  # fmt: skip
def test_what_redis_says(seen: RedisSeen, verdict: str, words: str, advice: str) -> None:
    assert told(judge_redis(seen)) == (verdict, words, advice)


async def test_no_redis_set_and_none_there() -> None:
    async with tools_for() as tools:
        (unset,) = await check_redis(tools)
    async with tools_for(REDIS_URL=f"redis://:hunter2@127.0.0.1:{free_port()}/0") as tools:
        gone, clock = await check_redis(tools)
    assert told(unset) == ("skipped", "REDIS_URL is not set: this process counts its calls alone", "")
    assert told(gone) == (
        "failed", "no connection (ConnectionError)", "Start Redis; check REDIS_URL, firewall, TLS.",
    )  # fmt: skip
    assert told(clock) == ("skipped", "Redis was not reached", "")


@pytest.mark.e2e
async def test_a_real_redis(shared_redis: RedisServer) -> None:
    async with tools_for(REDIS_URL=shared_redis.url, REDIS_PREFIX=prefix()) as tools:
        redis, clock = await check_redis(tools)
    assert redis.verdict.value == "ok"
    assert redis.seen.endswith("keeps nothing on disk: after a restart the bridges fill it again by themselves")
    assert clock.seen.startswith("this clock and that of Redis agree to within 0.")


@pytest.mark.e2e
async def test_a_redis_that_throws_keys_away_or_takes_none(own_redis: RedisServer) -> None:
    own_redis.ask("CONFIG", "SET", "maxmemory", "100mb")
    own_redis.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    async with tools_for(REDIS_URL=own_redis.url) as tools:
        evicting, _ = await check_redis(tools)
        own_redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        own_redis.ask("CONFIG", "SET", "maxmemory", "1")
        full, _ = await check_redis(tools)
        own_redis.ask("CONFIG", "SET", "requirepass", "hunter2")
        locked, _ = await check_redis(tools)
    assert (evicting.verdict.value, evicting.seen.endswith("(allkeys-lru)")) == ("warning", True)
    assert (full.verdict.value, full.seen.endswith("but takes no writes (OutOfMemoryError)")) == ("failed", True)
    assert told(locked)[1:] == ("it refuses (AuthenticationError)", "Check user and password in REDIS_URL.")


# --- database ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "verdict", "words", "advice"),
    [
        (DatabaseSeen(where="SQLite", absent=True), "ok", "SQLite: there is no file yet; bridge serve creates it", ""),
        (DatabaseSeen(where="PostgreSQL"), "ok", "PostgreSQL: it has no tables yet; bridge serve makes them", ""),
        (
            DatabaseSeen(where="SQLite", revision="0002"), "ok",
            "SQLite: reachable, writable, migrated (revision 0002)", "",
        ),
        (
            DatabaseSeen(where="SQLite", revision="0001"), "warning", "SQLite: revision 0001, this version needs 0002",
            "Back it up, then start this version's bridge serve: it migrates.",
        ),
        (
            DatabaseSeen(where="SQLite", revision="0009"), "failed", "SQLite: revision '0009' is of a newer version",
            "Run that version, or restore a backup.",
        ),
        (
            DatabaseSeen("it is read-only", where="PostgreSQL"), "failed", "PostgreSQL: it is read-only",
            "Check DATABASE_URL (host, user, password, name), that the server runs and that the user may write.",
        ),
    ],
)  # fmt: skip
def test_what_the_database_says(seen: DatabaseSeen, verdict: str, words: str, advice: str) -> None:
    assert told(judge_database(seen, "0002", frozenset({"0001", "0002"}))) == (verdict, words, advice)


def test_the_head_is_a_known_revision() -> None:
    assert head_revision() in known_revisions()


async def migrated(url: str | None, folder: Path) -> None:
    database = open_database(url, folder)
    await database.upgrade()
    await database.close()


async def test_a_sqlite_file_is_looked_at_and_never_made(tmp_path: Path) -> None:
    async with tools_for(DATA_DIR=str(tmp_path)) as tools:
        (absent,) = await check_database(tools)
        assert os.listdir(tmp_path) == []
        await migrated(None, tmp_path)
        (there,) = await check_database(tools)
    assert absent.seen == "SQLite: there is no file yet; bridge serve creates it"
    assert there.seen == f"SQLite: reachable, writable, migrated (revision {head_revision()})"


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "bridge.sqlite3").write_bytes(b"no database at all" * 100)
    async with tools_for(DATA_DIR=str(tmp_path)) as tools:
        (finding,) = await check_database(tools)
    assert finding.verdict.value == "failed"


async def test_an_address_that_is_none(tmp_path: Path) -> None:
    async with tools_for(DATABASE_URL="sqlite:///:memory:") as tools:
        (finding,) = await check_database(tools)
    assert (finding.verdict.value, finding.advice) == ("failed", "Correct DATABASE_URL.")


@pytest.mark.e2e
async def test_a_real_postgresql(postgres_url: str, shared_postgres: PostgresServer, tmp_path: Path) -> None:
    async with tools_for(DATABASE_URL=postgres_url) as tools:
        empty, _ = await check_database(tools)
        await migrated(postgres_url, tmp_path)
        there, clock = await check_database(tools)
        name = postgres_url.rpartition("/")[2]
        shared_postgres.sql("postgres", f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        read_only, _ = await check_database(tools)
    assert empty.seen == "PostgreSQL: it has no tables yet; bridge serve makes them"
    assert there.seen == f"PostgreSQL: reachable, writable, migrated (revision {head_revision()})"
    assert clock.seen.startswith("this clock and that of the database agree to within 0.")
    assert read_only.seen == "PostgreSQL: The database takes no writes: it is a standby or set to read-only."


async def test_a_postgresql_that_is_not_there() -> None:
    async with tools_for(DATABASE_URL=f"postgresql://u:hunter2hunter2@127.0.0.1:{free_port()}/bridge") as tools:
        (finding,) = await check_database(tools)
    assert finding.verdict.value == "failed"
    assert "hunter2" not in finding.seen


# --- disk --------------------------------------------------------------------------------------------------

GIB = 1024**3


def judged(seen: FolderSeen) -> Finding:
    return judge_folder("DATA_DIR", "DATA_DIR", Path("data"), seen)


@pytest.mark.parametrize(
    ("seen", "verdict", "words", "advice"),
    [
        (FolderSeen(free_bytes=5 * GIB), "ok", "data: writable, 5.0 GiB free", ""),
        (FolderSeen(exists=False, free_bytes=5 * GIB), "ok", "data: will be created, 5.0 GiB free", ""),
        (
            FolderSeen(free_bytes=GIB // 2), "warning", "data: writable, 0.5 GiB free",
            "Make room on its disk, or set DATA_DIR to a larger one.",
        ),
        (
            FolderSeen(free_bytes=1000), "failed", "data: writable, 0.0 GiB free",
            "Make room on its disk, or set DATA_DIR to a larger one.",
        ),
        (
            FolderSeen("Permission denied"), "failed", "data: nothing can be written (Permission denied)",
            "Make it writable for the bridge's user, or set DATA_DIR to another folder.",
        ),
    ],
)  # fmt: skip
def test_what_a_folder_says(seen: FolderSeen, verdict: str, words: str, advice: str) -> None:
    assert told(judged(seen)) == (verdict, words, advice)


async def test_a_folder_is_left_as_it_was(tmp_path: Path) -> None:
    seen = look_at_folder(tmp_path / "a" / "b")
    assert (seen.problem, seen.exists, os.listdir(tmp_path)) == ("", False, [])
    async with tools_for(DATA_DIR=str(tmp_path)) as tools:
        assert (await check_disk(tools)).seen.startswith(f"{tmp_path}: writable, ")


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"")
    assert look_at_folder(tmp_path / "data").problem == os.strerror(20)


# --- recordings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "routing", "records"),
    [
        ({}, RoutingTable(), False),
        ({"RECORDING": "on"}, RoutingTable(), True),
        ({"RECORDING": "on", "RETENTION_AUDIO_DAYS": "0"}, RoutingTable(), False),
        ({}, RoutingTable((Route(number="+4930*", recording=True),)), True),
    ],
)
def test_whether_calls_are_recorded(given: dict[str, str], routing: RoutingTable, records: bool) -> None:
    assert records_audio(settings_for(given), routing) is records


async def test_recordings_without_a_bucket(tmp_path: Path) -> None:
    async with tools_for(DATA_DIR=str(tmp_path)) as tools:
        (skipped,) = await check_recordings(tools)
    async with tools_for(DATA_DIR=str(tmp_path), RECORDING="on") as tools:
        (folder,) = await check_recordings(tools)
    assert told(skipped) == ("skipped", "no call is recorded", "")
    assert folder.seen.startswith(f"{tmp_path}/recordings: will be created, ")


async def test_recordings_with_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "look_at_bucket", lambda _settings: "An error occurred (403)")
    async with tools_for(DATA_DIR=str(tmp_path), RECORDING="on", RECORDING_S3_URL="s3://bucket") as tools:
        _, bucket = await check_recordings(tools)
    assert told(bucket) == (
        "failed",
        "An error occurred (403)",
        "Check RECORDING_S3_URL, _ENDPOINT, _REGION and the keys; they need PutObject, GetObject and DeleteObject.",
    )
    assert told(judge_bucket("")) == ("ok", "an object was put there, read and deleted", "")


@pytest.mark.e2e
async def test_a_real_bucket_is_left_empty(tmp_path: Path) -> None:
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    await asyncio.to_thread(moto.start)
    endpoint = f"http://127.0.0.1:{moto.get_host_and_port()[1]}"
    given = {
        "DATA_DIR": str(tmp_path), "RECORDING": "on", "RECORDING_S3_URL": "s3://doctor-calls/below",
        "RECORDING_S3_ENDPOINT": endpoint, "RECORDING_S3_REGION": "us-east-1", "RECORDING_S3_ACCESS_KEY": "key",
        "RECORDING_S3_SECRET_KEY": "secret",
    }  # fmt: skip
    try:
        async with tools_for(None, given) as tools, httpx.AsyncClient(trust_env=False) as http:
            _, missing = await check_recordings(tools)
            await http.put(f"{endpoint}/doctor-calls")
            _, there = await check_recordings(tools)
            listing = await http.get(f"{endpoint}/doctor-calls")
    finally:
        await asyncio.to_thread(moto.stop)
    assert missing.verdict.value == "failed"
    assert "NoSuchBucket" in missing.seen
    assert told(there) == ("ok", "an object was put there, read and deleted", "")
    assert "<Key>" not in listing.text
