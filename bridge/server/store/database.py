"""The database: one file of SQLite, or a PostgreSQL server; its connections, transactions and migrations.

What the two do differently is here and nowhere else. Every transaction goes through ``read`` or ``write``.

SQLite runs in WAL mode with ``synchronous=FULL``. To survive kill -9, NORMAL were enough, because the kernel keeps what
the process has written; FULL adds one fsync a commit and means that a commit also outlives a power cut, as on
PostgreSQL. Without it, a webhook could have been sent for an end that the database then forgets, and be sent once more
as a different end. Records are written in batches off the media path, so the fsync costs nobody anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

import asyncpg
from sqlalchemy import Connection, Float, event, extract, func, literal_column, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.schema import Table

from bridge.errors import ConfigError
from bridge.server.store.address import PostgresServer, SqliteFile, parse_address
from bridge.server.store.faults import describe, may_pass
from bridge.server.store.revision import current_revision, head_revision, upgrade_to_head

CONNECT_TIMEOUT_S = 5.0
"""For a new connection, and for a free one of the pool."""
STATEMENT_TIMEOUT_S = 10.0
"""For one statement on PostgreSQL, and for SQLite's lock. Ours take milliseconds."""
CHECK_TIMEOUT_S = 5.0
"""For all of ``check``: a probe that waits longer has its answer."""
POOL_CONNECTIONS = 5
"""Kept open: the ledger, the outbox, the heartbeat and two requests of the API at once."""
OVERFLOW_CONNECTIONS = 5
"""Opened on top while there is a rush. Ten an instance leave room for nine instances in PostgreSQL's default of 100."""
UPGRADE_PATIENCE_S = 30.0
"""How long ``upgrade`` waits for a database that does not answer yet: containers start in any order."""
UPGRADE_RETRY_S = 0.5

_UPGRADE_LOCK = 0x6272_6964_6765
"""The advisory lock on PostgreSQL under which one instance migrates ("bridge")."""
_WRITE = "bridge_write"


class Database:
    """Connections to one database. Belongs to one event loop; ``close`` at the end."""

    def __init__(self, address: SqliteFile | PostgresServer) -> None:
        self.address = address
        self.is_sqlite = isinstance(address, SqliteFile)
        self.engine = self._new_engine()
        self._write_lock = asyncio.Lock()

    # --- transactions ---

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads."""
        async with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes: all of it is kept on the way out, or nothing when something is raised.

        On SQLite there is one at a time. Those of this process queue for a lock that hands over in order; SQLite's
        own waiting polls, and is left for other processes.
        """
        async with contextlib.AsyncExitStack() as stack:
            if self.is_sqlite:
                await stack.enter_async_context(self._write_lock)
            connection = await stack.enter_async_context(self.engine.connect())
            await connection.execution_options(**{_WRITE: True})
            await stack.enter_async_context(connection.begin())
            yield connection

    def insert(self, table: Table) -> Any:
        """An INSERT that knows ON CONFLICT (an ``Insert`` of the dialect)."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    def now(self) -> ColumnElement[float]:
        """The database server's clock, Unix seconds: the only one by which instances are compared."""
        if self.is_sqlite:
            return literal_column("((julianday('now') - 2440587.5) * 86400.0)", Float)
        return extract("epoch", func.clock_timestamp()).cast(Float)

    # --- life ---

    async def upgrade(self, patience_s: float = UPGRADE_PATIENCE_S) -> None:
        """Bring the tables to this version's shape, creating them if need be; harmless when done before.

        Instances that start at once wait for each other. Raises ``ConfigError`` when the database cannot be reached
        or cannot be brought there.
        """
        deadline_s = monotonic() + patience_s
        while True:
            try:
                async with _upgrades():
                    return await self._upgrade()
            except (DBAPIError, sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                of_file = self.is_sqlite and isinstance(error, OSError)  # no such folder, no permission, no space
                if of_file or monotonic() >= deadline_s or not may_pass(error):
                    raise ConfigError(f"DATABASE_URL: the database does not work: {describe(error)}") from None
            await asyncio.sleep(UPGRADE_RETRY_S)

    async def check(self) -> str:
        """For readiness and ``doctor``: empty when the database answers, is migrated and takes writes; else why not.

        A full disk shows only when something is written: the ledger and the heartbeat say so.
        """
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S), self.write() as connection:
                revision = await connection.run_sync(current_revision)
                if revision != head_revision():
                    return f"The database has revision {revision or 'none'}, this version needs {head_revision()}."
                if not self.is_sqlite and await connection.scalar(text("SHOW transaction_read_only")) == "on":
                    return "The database takes no writes: it is a standby or set to read-only."
        except Exception as error:
            return f"The database does not work: {describe(error)}"
        return ""

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()

    # --- the two kinds ---

    async def _upgrade(self) -> None:
        if isinstance(self.address, SqliteFile):
            create_private(self.address.path)
        engine = self._new_engine(for_upgrade=True)
        try:
            async with engine.connect() as connection:
                if self.is_sqlite:
                    await _enter_wal(connection)
                await connection.execution_options(**{_WRITE: True})
                async with connection.begin():
                    if not self.is_sqlite:
                        await connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
                    await connection.run_sync(upgrade_to_head)
        finally:
            await engine.dispose()

    def _new_engine(self, *, for_upgrade: bool = False) -> AsyncEngine:
        pool: dict[str, Any] = (
            {"poolclass": NullPool}
            if for_upgrade
            else {
                "pool_size": POOL_CONNECTIONS,
                "max_overflow": OVERFLOW_CONNECTIONS,
                "pool_timeout": CONNECT_TIMEOUT_S,
            }
        )
        # Parameters are numbers and words of callers: they stay out of exceptions.
        if isinstance(self.address, SqliteFile):
            url = f"sqlite+aiosqlite:///{self.address.path}"
            engine = create_async_engine(url, hide_parameters=True, **pool)
            _listen_sqlite(engine)
            return engine
        return create_async_engine(
            "postgresql+asyncpg://",
            hide_parameters=True,
            pool_pre_ping=not for_upgrade,  # after a restart of the server, the first request must not fail
            async_creator=_postgres_creator(self.address, None if for_upgrade else STATEMENT_TIMEOUT_S),
            **pool,
        )


_locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


def _upgrades() -> asyncio.Lock:
    """One upgrade at a time in a process, of whatever database: Alembic keeps the one at work in global variables."""
    return _locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())


def open_database(url: str | None, data_dir: Path) -> Database:
    """The database that DATABASE_URL names (None or empty = a file in ``data_dir``). Connects to nothing yet.

    Raises ``ConfigError`` for what is no such URL. Call inside the event loop.
    """
    return Database(parse_address(url, data_dir))


def create_private(path: Path) -> None:
    """Create an empty database file that only its owner can read: it will hold what callers say.

    SQLite gives its WAL the same permissions. An existing file stays as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _postgres_creator(address: PostgresServer, statement_timeout_s: float | None) -> Any:
    settings = {} if address.names_application else {"application_name": "telephony-bridge"}

    async def connect() -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(
            address.dsn, timeout=CONNECT_TIMEOUT_S, command_timeout=statement_timeout_s, server_settings=settings
        )

    return connect


def _listen_sqlite(engine: AsyncEngine) -> None:
    """Have SQLite's transactions begin where we say: its driver would begin them late, and never for DDL."""

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(STATEMENT_TIMEOUT_S * 1000)}")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA secure_delete = ON")  # what retention deletes is gone from the file, too
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Connection) -> None:
        # A writer takes the lock at once: one that had read before could not wait for it (SQLITE_BUSY_SNAPSHOT).
        writes = connection.get_execution_options().get(_WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


async def _enter_wal(connection: AsyncConnection) -> None:
    """Readers then do not wait for the writer. The mode stays with the file; it cannot be entered in a transaction."""
    raw = await connection.get_raw_connection()
    driver = raw.driver_connection
    assert driver is not None
    cursor = await driver.execute("PRAGMA journal_mode = WAL")
    (mode,) = await cursor.fetchone()
    await cursor.close()
    if mode != "wal":
        raise sqlite3.OperationalError(f"journal mode {mode}: this file system cannot do WAL")
