"""A bridge in a process of its own: for signals, exit codes and what really reaches standard error."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import bridge
from tests.kit.server import AUTH_TOKEN, DEADLINE_S, Place, free_port, settings_for, until

_INHERITED = ("PATH", "HOME", "LANG", "SSL_CERT_FILE", "COVERAGE_PROCESS_START")
"""What of the environment a child gets; settings of whoever runs the tests are not among it."""


@dataclass
class ProcessBridge(Place):
    """A bridge in another process."""

    process: Process
    raw: bytearray
    """Everything it wrote to standard error."""

    async def exited(self, timeout_s: float = DEADLINE_S) -> int:
        """Wait for its end; returns the exit code."""
        async with asyncio.timeout(timeout_s):
            return await self.process.wait()


def environment(settings: dict[str, str]) -> dict[str, str]:
    """The environment of a child with these settings."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    root = str(Path(bridge.__file__).parent.parent)
    return {**inherited, "PYTHONPATH": root, **settings}


@contextlib.asynccontextmanager
async def bridge_process(folder: Path, **settings: str) -> AsyncIterator[ProcessBridge]:
    """Run ``bridge serve`` in ``folder`` until it listens; it is killed on the way out if it still runs.

    Its database is in the folder: bridges that shall not share one need folders of their own.
    """
    given = {
        "BRIDGE_PORT": str(free_port()),
        "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
        "ELEVENLABS_AGENT_ID": "agent_1",
        "LOG_FORMAT": "json",
        "DATA_DIR": str(folder / "data"),
        **settings,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "serve", env=environment(given), cwd=folder, stderr=PIPE
    )
    place = ProcessBridge(settings_for(given), [], process, bytearray())
    reader = asyncio.create_task(_read(place))
    try:
        await until(lambda: place.logged("listening") or process.returncode is not None, "it does not listen", 30.0)
        assert process.returncode is None, place.raw.decode()
        yield place
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reader


async def _read(place: ProcessBridge) -> None:
    assert place.process.stderr is not None
    async for line in place.process.stderr:
        place.raw += line
        with contextlib.suppress(ValueError):
            place.lines.append(json.loads(line))
