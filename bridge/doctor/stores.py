"""Whether Redis, the database and the disk do what the bridge needs of them.

Nothing is changed: the database is not migrated (``bridge serve`` does that), Redis gets one key that lives a second,
and a file that is written is removed again.

Sources: Redis docs, "INFO", "Key eviction", "ZMSCORE" (6.2.0, the newest command that the bridge's scripts use).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from sqlalchemy import select

from bridge.calls.routing import RoutingTable
from bridge.config import Settings
from bridge.doctor.clocks import Reading, judge_clock, reading
from bridge.doctor.findings import Finding, failed, ok, skipped, warning
from bridge.doctor.tools import Tools
from bridge.errors import ConfigError
from bridge.server.parts import recording_options
from bridge.server.recording.bucket import Bucket, BucketError
from bridge.server.recording.names import file_name
from bridge.server.store.address import SqliteFile
from bridge.server.store.database import Database, open_database
from bridge.server.store.faults import describe
from bridge.server.store.revision import MIGRATIONS, current_revision, head_revision

REDIS_NAME, REDIS_CLOCK, DATABASE_NAME, DATABASE_CLOCK = "Redis", "clock: Redis", "database", "clock: database"
DISK_NAME, RECORDINGS_NAME, BUCKET_NAME = "DATA_DIR", "recordings: folder", "recordings: bucket"

REDIS_NEEDED = (6, 2)
REDIS_TIMEOUT_S = 3.0
PROBE_MS = 1000
SLOW_MS = 50.0
"""A command of Redis that takes longer is felt: each call waits for two or three before it is answered."""

SPACE_WARNING_BYTES = 1024**3
"""A day of recordings of a dozen lines, or ten million records."""
SPACE_FAILED_BYTES = 100 * 1024**2


# --- Redis -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RedisSeen:
    """What Redis says of itself."""

    problem: str = ""
    """Why there is nothing to say."""
    refused: bool = False
    """Whether it answered, and refused us."""
    version: str = ""
    replica: bool = False
    bounded: bool = False
    """Whether ``maxmemory`` is set."""
    policy: str = "noeviction"
    persistent: bool = False
    round_trip_ms: float = 0.0
    clock: Reading | None = None
    write_problem: str = ""


async def look_at_redis(tools: Tools, url: str, prefix: str) -> RedisSeen:
    """Ask it, and write one key that is gone in a second."""
    client: Redis = Redis.from_url(
        url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S, retry=Retry(NoBackoff(), 0),
        protocol=2,
    )  # fmt: skip
    try:
        info: dict[str, Any] = await client.info()
        asked, began_s = tools.unix(), tools.monotonic()
        seconds, micros = await client.time()
        took_ms, answered = (tools.monotonic() - began_s) * 1000, tools.unix()
        write_problem = ""
        try:
            await client.set(f"{{{prefix}}}:doctor", "1", px=PROBE_MS)
        except ResponseError as error:
            write_problem = _kind(error)
        return RedisSeen(
            version=str(info.get("redis_version", "0")),
            replica=info.get("role") == "slave",
            bounded=bool(info.get("maxmemory", 0)),
            policy=str(info.get("maxmemory_policy", "noeviction")),
            persistent=bool(info.get("aof_enabled")) or bool(info.get("rdb_last_save_time") and _saves(info)),
            round_trip_ms=took_ms,
            clock=reading(seconds + micros / 1e6, asked, answered),
            write_problem=write_problem,
        )
    except (AuthenticationError, ResponseError) as error:
        return RedisSeen(problem=f"it refuses ({_kind(error)})", refused=True)
    except (RedisError, OSError, TimeoutError) as error:
        return RedisSeen(problem=f"no connection ({type(error).__name__})")
    finally:
        await client.aclose()


def _saves(info: dict[str, Any]) -> bool:
    return info.get("rdb_last_bgsave_status") == "ok" and int(info.get("rdb_saves", 0) or 0) > 0


def _kind(error: RedisError) -> str:
    """The kind of a refusal; its words may quote what was sent. The library has no class for some of them."""
    name = type(error).__name__
    return str(error).partition(" ")[0] if name == "ResponseError" else name


def judge_redis(seen: RedisSeen) -> Finding:
    """What to make of it."""
    if seen.problem:
        mend = (
            "Check user and password in REDIS_URL." if seen.refused else "Start Redis; check REDIS_URL, firewall, TLS."
        )
        return failed(REDIS_NAME, seen.problem, mend)
    about = f"version {seen.version}, answers in {seen.round_trip_ms:.1f} ms"
    if _version(seen.version) < REDIS_NEEDED:
        return failed(REDIS_NAME, f"{about}, which is too old", "Install Redis 6.2 or newer.")
    if seen.replica:
        return failed(REDIS_NAME, f"{about}, but is a replica", "Put the address of the primary into REDIS_URL.")
    if seen.write_problem:
        return failed(
            REDIS_NAME,
            f"{about}, but takes no writes ({seen.write_problem})",
            "Look at its memory, disk and user rights.",
        )
    if seen.bounded and seen.policy != "noeviction":
        return warning(
            REDIS_NAME,
            f"{about}, but throws keys away when its memory is full ({seen.policy})",
            "Set maxmemory-policy noeviction: a slot that is thrown away lets one call too many in.",
        )
    if seen.round_trip_ms > SLOW_MS:
        return warning(
            REDIS_NAME, f"{about}, which callers notice", "Put Redis near the bridge, in the same data centre."
        )
    if not seen.persistent:
        return ok(
            REDIS_NAME, f"{about}, keeps nothing on disk: after a restart the bridges fill it again by themselves"
        )
    return ok(REDIS_NAME, about)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in text.split(".")[:2])


async def check_redis(tools: Tools) -> list[Finding]:
    """Redis and its clock, where it is set."""
    url = tools.settings.redis_url
    if url is None:
        return [skipped(REDIS_NAME, "REDIS_URL is not set: this process counts its calls alone")]
    seen = await look_at_redis(tools, url.get_secret_value(), tools.settings.redis_prefix)
    if seen.clock is None:
        return [judge_redis(seen), skipped(REDIS_CLOCK, "Redis was not reached")]
    return [judge_redis(seen), judge_clock(REDIS_CLOCK, "Redis", seen.clock)]


# --- database --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DatabaseSeen:
    """What the database says of itself."""

    problem: str = ""
    absent: bool = False
    """A SQLite file that is not there yet."""
    where: str = ""
    """``SQLite`` or ``PostgreSQL``."""
    revision: str | None = None
    clock: Reading | None = None


async def look_at_database(tools: Tools, database: Database) -> DatabaseSeen:
    """Connect, read the revision and the clock; write nothing that stays."""
    where = "SQLite" if database.is_sqlite else "PostgreSQL"
    if isinstance(database.address, SqliteFile) and not database.address.path.exists():
        return DatabaseSeen(absent=True, where=where)
    try:
        async with database.read() as connection:
            revision = await connection.run_sync(current_revision)
            asked = tools.unix()
            theirs = await connection.scalar(select(database.now()))
            clock = None if database.is_sqlite or theirs is None else reading(float(theirs), asked, tools.unix())
        # What only shows where the tables are: whether a transaction that writes may begin.
        problem = await database.check() if revision == head_revision() else ""
    except Exception as error:  # drivers raise what they like; describe() lets no data through
        return DatabaseSeen(problem=describe(error), where=where)
    return DatabaseSeen(problem, where=where, revision=revision, clock=clock)


def judge_database(seen: DatabaseSeen, head: str, known: frozenset[str]) -> Finding:
    """What to make of it; ``known`` are all revisions of this version."""
    if seen.absent:
        return ok(DATABASE_NAME, f"{seen.where}: there is no file yet; bridge serve creates it")
    if seen.problem:
        return failed(
            DATABASE_NAME,
            f"{seen.where}: {seen.problem}",
            "Check DATABASE_URL (host, user, password, name), that the server runs and that the user may write.",
        )
    if seen.revision is None:
        return ok(DATABASE_NAME, f"{seen.where}: it has no tables yet; bridge serve makes them")
    if seen.revision == head:
        return ok(DATABASE_NAME, f"{seen.where}: reachable, writable, migrated (revision {head})")
    if seen.revision in known:
        return warning(
            DATABASE_NAME,
            f"{seen.where}: revision {seen.revision}, this version needs {head}",
            "Back it up, then start this version's bridge serve: it migrates.",
        )
    return failed(
        DATABASE_NAME,
        f"{seen.where}: revision {seen.revision[:40]!r} is of a newer version",
        "Run that version, or restore a backup.",
    )


def known_revisions() -> frozenset[str]:
    """Every revision that this version has been through."""
    return frozenset(script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions())


async def check_database(tools: Tools) -> list[Finding]:
    """The database and, where it is another machine's, its clock."""
    url = tools.settings.database_url
    try:
        database = open_database(None if url is None else url.get_secret_value(), tools.settings.data_dir)
    except ConfigError as error:
        return [failed(DATABASE_NAME, str(error), "Correct DATABASE_URL.")]
    try:
        seen = await look_at_database(tools, database)
    finally:
        await database.close()
    finding = judge_database(seen, head_revision(), known_revisions())
    return [finding] if seen.clock is None else [finding, judge_clock(DATABASE_CLOCK, "the database", seen.clock)]


# --- disk ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FolderSeen:
    """What can be done in a folder."""

    problem: str = ""
    """Why nothing can be written; empty = it can."""
    exists: bool = True
    free_bytes: int = 0


def look_at_folder(folder: Path) -> FolderSeen:
    """Write a file, make it durable, remove it; in the nearest folder that is there, if this one is still to come."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".doctor-") as file:
            file.write(b"1")
            file.flush()
            os.fsync(file.fileno())
        return FolderSeen(exists=place == folder, free_bytes=shutil.disk_usage(place).free)
    except OSError as error:
        return FolderSeen(error.strerror or type(error).__name__, place == folder)


def judge_folder(name: str, setting: str, folder: Path, seen: FolderSeen) -> Finding:
    """What to make of it."""
    if seen.problem:
        return failed(
            name, f"{folder}: nothing can be written ({seen.problem})",
            f"Make it writable for the bridge's user, or set {setting} to another folder.",
        )  # fmt: skip
    space = f"{seen.free_bytes / 1024**3:.1f} GiB free"
    about = f"{folder}: writable, {space}" if seen.exists else f"{folder}: will be created, {space}"
    mend = f"Make room on its disk, or set {setting} to a larger one."
    if seen.free_bytes < SPACE_FAILED_BYTES:
        return failed(name, about, mend)
    return warning(name, about, mend) if seen.free_bytes < SPACE_WARNING_BYTES else ok(name, about)


async def check_disk(tools: Tools) -> Finding:
    """The data folder."""
    folder = tools.settings.data_dir
    return judge_folder(DISK_NAME, "DATA_DIR", folder, await asyncio.to_thread(look_at_folder, folder))


def records_audio(settings: Settings, routing: RoutingTable) -> bool:
    """Whether any call is recorded."""
    rules = (*routing.routes, *routing.agents.values())
    return bool(settings.retention_audio_days) and (settings.recording or any(each.recording for each in rules))


async def check_recordings(tools: Tools) -> list[Finding]:
    """The folder of recordings, and the bucket where there is one."""
    settings = tools.settings
    if not records_audio(settings, tools.routing):
        return [skipped(RECORDINGS_NAME, "no call is recorded")]
    folder = settings.recordings_dir
    findings = [judge_folder(RECORDINGS_NAME, "RECORDING_DIR", folder, await asyncio.to_thread(look_at_folder, folder))]
    if settings.recording_bucket is not None:
        findings.append(judge_bucket(await asyncio.to_thread(look_at_bucket, settings)))
    return findings


def look_at_bucket(settings: Settings) -> str:
    """Put a small object there, read its size, delete it. Why that failed; empty = it did not. Blocks."""
    options = recording_options(settings).s3
    assert options is not None, "looked at before"
    name = file_name(f"doctor-{secrets.token_hex(8)}", "wav")
    try:
        bucket = Bucket(options)
        try:
            with tempfile.NamedTemporaryFile(suffix=".wav") as file:
                file.write(b"doctor")
                file.flush()
                bucket.upload(Path(file.name), name, lambda _: None)
            bucket.size(name)
            bucket.delete(name)
        finally:
            bucket.close()
    except (BucketError, ConfigError, OSError) as error:
        return str(error)[:200]
    return ""


def judge_bucket(problem: str) -> Finding:
    """What to make of it."""
    if problem:
        return failed(
            BUCKET_NAME,
            problem,
            "Check RECORDING_S3_URL, _ENDPOINT, _REGION and the keys; they need PutObject, GetObject and DeleteObject.",
        )
    return ok(BUCKET_NAME, "an object was put there, read and deleted")
