"""Databases of the tests' own: a SQLite file, and a PostgreSQL server on a free port in a temporary folder.

The server is started once a session, and so is a database on it with its tables, which is emptied for every test.
Tests may change the tables of a database of their own (``fresh_database``) and kill a server of their own
(``own_postgres``). PostgreSQL refuses to run as root, so under root it runs as the user of Debian's package.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bridge.bench.process import free_port
from bridge.server.store.database import Database, open_database
from bridge.server.store.schema import METADATA

START_TIMEOUT_S = 30.0
PACKAGE_USER = "postgres"
_FASTER = ("fsync=off", "full_page_writes=off", "shared_buffers=16MB", "max_connections=100")
"""Tests kill the server, not the machine: what the kernel has been given is kept without fsync."""


def postgres_programs() -> Path:
    """The folder of the server's programs. Without it: an error in CI that names the package, elsewhere a skip."""
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name.zfill(3))
    found = [path for path in candidates if (path / "initdb").exists()]
    if found:
        return found[-1]
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent
    reason = "PostgreSQL is missing: install the package postgresql (apt-get install postgresql)"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


class PostgresServer:
    """One server; ``start`` it, and always ``remove`` it."""

    def __init__(self) -> None:
        self._programs = postgres_programs()
        self._user = PACKAGE_USER if os.geteuid() == 0 else None
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self._run("initdb", "-D", str(self.folder / "data"), "-A", "trust", "-U", "bridge", "-E", "UTF8", "--no-sync")

    def url(self, name: str) -> str:
        """DATABASE_URL of one of its databases."""
        return f"postgresql://bridge@127.0.0.1:{self.port}/{name}"

    def new_database(self) -> str:
        """Create an empty database; returns its DATABASE_URL."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.sql("postgres", f"CREATE DATABASE {name}")
        return self.url(name)

    def sql(self, name: str, statement: str) -> str:
        """What psql answers, run as the owner of everything."""
        return self._run("psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", "-d", self.url(name), "-c", statement)

    def start(self) -> None:
        """Start it, with what was stored before, and wait until it answers."""
        options = [word for setting in _FASTER for word in ("-c", setting)]
        listen = ["-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        self._process = subprocess.Popen(
            [str(self._programs / "postgres"), "-D", str(self.folder / "data"), *listen, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self._user,
            cwd=self.folder,
        )
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while self._ask_ready() != 0:
            assert time.monotonic() < deadline_s, "PostgreSQL does not answer"
            assert self._process.poll() is None, "PostgreSQL ended at once"
            time.sleep(0.02)

    def kill(self) -> None:
        """It dies without a word, with all its processes; what it had committed is on the disk."""
        if self._process is None:
            return
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._process = None
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def hang(self) -> None:
        """It keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """It answers again."""
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        """Stop it and delete its files."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        """To the server and its children, which are sessions of their own; the server first, or it starts new ones."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self._process.send_signal(number)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), number)

    def _ask_ready(self) -> int:
        command = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-t", "1"]
        return subprocess.run(command, check=False).returncode

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            capture_output=True,
            text=True,
            check=False,
            user=self._user,
            cwd=self.folder,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": str(self.folder)},
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"
        return done.stdout.strip()


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[PostgresServer]:
    """A running server for tests that leave it alone."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A running server for this test alone, which may kill it."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def _migrated_postgres_url(shared_postgres: PostgresServer) -> str:
    """A database with its tables; one for all, because creating one takes longer than most tests."""
    url = shared_postgres.new_database()

    async def migrate() -> None:
        opened = open_database(url, Path())
        await opened.upgrade()
        await opened.close()

    thread = threading.Thread(target=asyncio.run, args=(migrate(),))  # a test's event loop may be running here
    thread.start()
    thread.join()
    return url


@pytest.fixture
def postgres_url(shared_postgres: PostgresServer) -> str:
    """A new database on PostgreSQL, without tables."""
    return shared_postgres.new_database()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path / 'bridge.sqlite3'}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.e2e)])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Runs a test once on SQLite and once on PostgreSQL."""
    kind: str = request.param
    return kind


@pytest.fixture
def empty_database_url(request: pytest.FixtureRequest, database_kind: str) -> str:
    """A database without tables, which nobody else uses."""
    url: str = request.getfixturevalue("sqlite_url" if database_kind == "sqlite" else "postgres_url")
    return url


@pytest.fixture
def database_url(request: pytest.FixtureRequest, database_kind: str) -> str:
    """A database without rows. Leave its tables as they are."""
    url: str = request.getfixturevalue("sqlite_url" if database_kind == "sqlite" else "_migrated_postgres_url")
    return url


@pytest.fixture
async def database(database_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    """``database_url``, open, with its tables."""
    async with opened_database(database_url, tmp_path) as opened:
        async with opened.write() as connection:
            for table in reversed(METADATA.sorted_tables):
                await connection.execute(table.delete())
        yield opened


@pytest.fixture
async def fresh_database(empty_database_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    """``empty_database_url``, open, with its tables, with which the test may do as it likes."""
    async with opened_database(empty_database_url, tmp_path) as opened:
        yield opened


@pytest.fixture
async def sqlite_database(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    """An open SQLite database with its tables."""
    async with opened_database(sqlite_url, tmp_path) as opened:
        yield opened


@contextlib.asynccontextmanager
async def opened_database(url: str, folder: Path) -> AsyncIterator[Database]:
    """Open a database, migrate it, and close it in the end."""
    opened = open_database(url, folder)
    await opened.upgrade()
    yield opened
    await opened.close()
