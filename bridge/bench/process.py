"""Server processes of the bench: start on a core, wait until ready, measure, kill without fail.

Linux only: CPU time and memory come from ``/proc`` (proc(5), "stat" fields utime and stime, "statm" field
resident), of the process and all its descendants.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import resource
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

STOP_TIMEOUT_S = 5.0
"""How long a server may take to stop on SIGTERM before it is killed."""

LOG_TAIL_BYTES = 2000
SPARE_FILES = 200
"""Open files besides the sockets of the calls: logs, listeners, libraries."""


@dataclass(frozen=True, slots=True)
class CorePlan:
    """Which cores the server and the load run on."""

    server: int
    load: frozenset[int]

    @property
    def shared(self) -> bool:
        """Whether both run on one core, which distorts every figure."""
        return self.server in self.load


def plan_cores(available: set[int], server_core: int | None) -> CorePlan:
    """Server on one core, load on the others; both on one where there is only one.

    Raises ``ValueError`` when ``server_core`` is not available.
    """
    if server_core is None:
        server_core = min(available)
    elif server_core not in available:
        raise ValueError(f"core {server_core} is not available; available are {sorted(available)}")
    return CorePlan(server_core, frozenset(available - {server_core} or available))


@contextlib.contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """Run this process, and what it starts inside, on these cores; restore afterwards."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_open_files(calls: int, per_call: int = 2) -> str:
    """Raise this process's soft limit of open files if need be; the limit is inherited by servers.

    Returns what is wrong when even the hard limit is too low for ``calls``, else an empty text.
    """
    needed = per_call * calls + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        reachable = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
        if reachable < needed:
            return f"{calls} calls need {needed} open files but the hard limit is {hard}: raise it (ulimit -Hn)"
    return ""


def free_port() -> int:
    """A TCP port on loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """A server under measurement. ``start`` it, and always ``stop`` it."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], core: int, directory: Path) -> None:
        self._command = list(command)
        self._env = dict(env)
        self._core = core
        self._directory = directory
        self._log = Path(tempfile.mkstemp(prefix="server-", suffix=".log", dir=directory)[1])
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start in a session of its own (a Ctrl-C of the terminal reaches only us) and on its core."""
        with pinned(frozenset({self._core})), self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own commands, no shell
                self._command,
                env=self._env,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _running.add(self)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End it and everything it started. Harmless when it is gone already."""
        process = self._process
        if process is None:
            return
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()
        _running.discard(self)
        self._process = None

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            _signal_group(self._process.pid, signal.SIGKILL)

    def log_tail(self) -> str:
        """The last of what it wrote, for the reader of an error."""
        return self._log.read_bytes()[-LOG_TAIL_BYTES:].decode("utf-8", "replace").strip()

    def cpu_s(self) -> float:
        """CPU seconds used so far by it and its descendants; resolution is one clock tick (10 ms)."""
        return sum(_cpu_s(pid) for pid in self._family())

    def core_busy_s(self) -> float:
        """Seconds in which its core was busy, with its work or with another's."""
        return parse_core_busy_s(Path("/proc/stat").read_text(), self._core)

    def rss_bytes(self) -> int:
        """Resident memory of it and its descendants."""
        return sum(_rss_bytes(pid) for pid in self._family())

    def _family(self) -> list[int]:
        assert self._process is not None, "not started"
        return family(self._process.pid)


_running: set[ServerProcess] = set()


@atexit.register
def _kill_all() -> None:
    for server in list(_running):
        server.kill()


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def family(pid: int) -> list[int]:
    """A process and all its living descendants."""
    pids = [pid]
    for parent in pids:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                pids.extend(int(child) for child in (task / "children").read_text().split())
    return pids


def parse_cpu_s(stat: str) -> float:
    """CPU seconds in the text of ``/proc/PID/stat``: own time, and that of descendants already waited for."""
    # The command name, in brackets, may hold blanks and brackets itself.
    after_name = stat.rpartition(")")[2].split()
    return sum(map(int, after_name[11:15])) / _CLOCK_TICKS_PER_S


def parse_core_busy_s(stat: str, core: int) -> float:
    """Seconds in which a core was not idle, whoever used it (stolen time too), in the text of ``/proc/stat``."""
    for line in stat.splitlines():
        name, *values = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, values[:8])
            return (user + nice + system + irq + softirq + steal) / _CLOCK_TICKS_PER_S
    return 0.0


def _cpu_s(pid: int) -> float:
    with contextlib.suppress(OSError):
        return parse_cpu_s(Path(f"/proc/{pid}/stat").read_text())
    return 0.0


def _rss_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    return 0


def wait_for_port(server: ServerProcess, port: int, request: bytes, timeout_s: float) -> bool:
    """Wait until the server answers ``request`` with HTTP 200, or, if that is empty, takes a connection.

    Returns False when it ends or the time is up. Blocks; polls every 50 ms.
    """
    ends = time.monotonic() + timeout_s
    while server.alive and time.monotonic() < ends:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=1) as connection,
        ):
            if not request:
                return True
            connection.sendall(request)
            if b" 200 " in connection.recv(64):
                return True
        time.sleep(0.05)
    return False
