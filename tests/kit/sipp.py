"""SIPp as the other end: runs a scenario in a folder of its own and tells its exit code and what it complains of.

Debian's ``sip-tester`` 3.6 does; it has UDP, TCP and recorded audio (which it sends through raw sockets, so only root
can), but neither TLS nor SRTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit.server import until
from tests.kit.sip import free_rtp_ports, free_signalling_port

SCENARIOS = Path(__file__).parent.parent / "vectors" / "sipp"
RECORDINGS = Path("/usr/share/sip-tester")
"""Where Debian puts the recorded audio and keys."""

TIMEOUT_S = 60.0

needs_sipp = pytest.mark.skipif(shutil.which("sipp") is None, reason="sipp is not installed (Debian: sip-tester)")

needs_recordings = pytest.mark.skipif(
    shutil.which("sipp") is None or not (RECORDINGS / "g711a.pcap").exists() or os.geteuid() != 0,
    reason="recorded audio needs sipp, its pcap files in /usr/share/sip-tester, and root for raw sockets",
)


@dataclass(frozen=True, slots=True)
class SippRun:
    """What came of a run."""

    exit_code: int
    """0 = every call went as the scenario says; the table that SIPp prints does not tell."""
    errors: str
    """The error log."""
    messages: str
    """The message log."""
    screen: str

    def assert_clean(self) -> None:
        """Fail with what SIPp complained of."""
        assert self.exit_code == 0, f"sipp ended with {self.exit_code}:\n{self.errors[-3000:]}\n{self.screen[-1500:]}"


@dataclass(slots=True)
class RunningSipp:
    """SIPp that waits for calls, or is at it."""

    port: int
    folder: Path
    process: Process
    run: SippRun | None = None

    @property
    def address(self) -> str:
        """Where it is called."""
        return f"127.0.0.1:{self.port}"

    async def finished(self, timeout_s: float = TIMEOUT_S) -> SippRun:
        """Wait for its end."""
        async with asyncio.timeout(timeout_s):
            screen, _ = await self.process.communicate()
        code = self.process.returncode
        assert code is not None
        self.run = SippRun(code, _text(self.folder / "errors"), _text(self.folder / "messages"), screen.decode())
        return self.run


@asynccontextmanager
async def running_sipp(
    scenario: str,
    folder: Path,
    *more: str,
    remote: str = "",
    number: str = "+15550199",
    calls: int = 1,
    transport: str = "u1",
    traces: bool = True,
) -> AsyncIterator[RunningSipp]:
    """Run a scenario of ours in ``folder``; without ``remote`` it waits for calls. It is killed on the way out.

    ``more`` are further arguments, e.g. ``-r 50``. ``transport`` as SIPp's ``-t``: u1, t1, tn. Without ``traces``
    messages are not logged, as is right for many calls.
    """
    _furnish(folder)
    port = free_signalling_port()
    media, _ = free_rtp_ports(4)  # SIPp takes the one for audio and the one after the next for video
    arguments = ["-sf", str(SCENARIOS / f"{scenario}.xml"), "-i", "127.0.0.1", "-p", str(port)]
    arguments += ["-mi", "127.0.0.1", "-mp", str(media), "-m", str(calls), "-t", transport, "-nostdin"]
    arguments += ["-timeout", f"{TIMEOUT_S:.0f}", "-trace_err", "-error_file", "errors", "-s", number]
    arguments += ["-trace_msg", "-message_file", "messages"] if traces else []
    process = await asyncio.create_subprocess_exec(
        "sipp", *([remote] if remote else []), *arguments, *more, cwd=folder, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
    )
    running = RunningSipp(port, folder, process)
    try:
        if not remote:
            await _listens(port, transport)
        yield running
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()


async def call_with_sipp(scenario: str, folder: Path, remote: str, *more: str, **options: object) -> SippRun:
    """Run a calling scenario to its end; ``options`` as of ``running_sipp``."""
    async with running_sipp(scenario, folder, *more, remote=remote, **options) as sipp:  # type: ignore[arg-type]
        return await sipp.finished()


async def _listens(port: int, transport: str) -> None:
    """Wait until its socket is there, as the kernel's tables tell."""
    table = Path("/proc/net/udp" if transport.startswith("u") else "/proc/net/tcp")
    await until(lambda: f":{port:04X} " in table.read_text(), "sipp does not listen")


def _furnish(folder: Path) -> None:
    """Scenarios name recordings as ``pcap/...``, like SIPp's own."""
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "pcap"
    if RECORDINGS.exists() and not link.exists():
        link.symlink_to(RECORDINGS)


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.exists() else ""
