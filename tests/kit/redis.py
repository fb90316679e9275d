"""A redis-server of the tests' own: on a free port, in a temporary folder, without persistence.

Tests may kill it, restart it empty and make it hang.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.bench.process import free_port

START_TIMEOUT_S = 10.0


def redis_binary() -> str:
    """The server's program. Without it: an error in CI that names the package, elsewhere a skip with the reason."""
    found = shutil.which("redis-server", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/local/bin")
    if found is not None:
        return found
    reason = "redis-server is missing: install the package redis-server (apt-get install redis-server)"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


class RedisServer:
    """One server; ``start`` it, and always ``stop`` it."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._binary = redis_binary()
        self._folder = folder
        self._arguments = arguments
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        self._process = subprocess.Popen(
            [
                *(self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)),
                *("--save", "", "--appendonly", "no", "--daemonize", "no", *self._arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while self.ask("PING") != b"+PONG\r\n":
            assert time.monotonic() < deadline_s, "redis-server does not answer"
            assert self._process.poll() is None, "redis-server ended at once"
            time.sleep(0.01)

    def ask(self, *words: str) -> bytes:
        """The raw answer to a command, by a client of our own (RESP, Redis docs); empty when nobody answers."""
        request = f"*{len(words)}\r\n" + "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(request.encode())
                return connection.recv(65536)
        except OSError:
            return b""

    def hang(self) -> None:
        """It keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """It answers again, what was asked meanwhile included."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """It dies without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    stop = kill

    def restart(self) -> None:
        """It dies and comes back empty, at the same address."""
        self.kill()
        self.start()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@pytest.fixture(scope="session")
def _shared_redis() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def shared_redis(_shared_redis: RedisServer) -> RedisServer:
    """A running server for tests that leave it alone; take a ``prefix`` of your own."""
    return _shared_redis


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A running server for this test alone, which may kill it or make it hang."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


def prefix() -> str:
    """A prefix of keys that nobody else has."""
    return f"test-{uuid.uuid4().hex[:12]}"
