"""``bridge doctor`` on behalf of the console: one at a time, in a process of its own, with a bound.

In a process of its own, because its checks load much, look at disks and time-outs, and nothing of that may hold up a
call. It reads the same environment and files as this process did when it was started.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Sequence

import msgspec

from bridge.server.logs import get_logger
from bridge.web.health import CheckResult

RUN_TIMEOUT_S = 90.0
"""The slowest checks have 30 s, and all of them run beside each other."""
MAX_OUTPUT_BYTES = 1 << 20


class _Report(msgspec.Struct):
    """What the command prints."""

    checks: list[CheckResult]


_decoder = msgspec.json.Decoder(_Report)


class DoctorRuns:
    """The latest examination. Belongs to one event loop."""

    def __init__(self, command: Sequence[str] = (sys.executable, "-m", "bridge", "doctor", "--json")) -> None:
        self._command = tuple(command)
        self._task: asyncio.Task[None] | None = None
        self.checks: list[CheckResult] | None = None
        """What was found last; None = nothing yet."""
        self.finished_at: float | None = None
        """Unix seconds."""
        self.problem = ""
        """Why the last examination came to nothing; empty = it did not."""

    @property
    def is_running(self) -> bool:
        """Whether it looks just now."""
        return self._task is not None and not self._task.done()

    def begin(self, more: Sequence[str] = (), unix: Callable[[], float] = time.time) -> bool:
        """Look, with these options; False = it is looking already."""
        if self.is_running:
            return False
        self._task = asyncio.get_running_loop().create_task(self._run(more, unix))
        return True

    async def _run(self, more: Sequence[str], unix: Callable[[], float]) -> None:
        self.problem = ""
        try:
            async with asyncio.timeout(RUN_TIMEOUT_S):
                output = await self._output(more)
            self.checks = _decoder.decode(output).checks
        except TimeoutError:
            self.problem = f"The doctor did not come to an end within {RUN_TIMEOUT_S:.0f} s."
        except (OSError, msgspec.MsgspecError, ValueError) as error:
            get_logger().warning("doctor_failed", detail=type(error).__name__)
            self.problem = "The doctor could not be run; try `bridge doctor` on the machine itself."
        self.finished_at = unix()

    async def _output(self, more: Sequence[str]) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *more,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        try:
            output = bytearray()
            while block := await process.stdout.read(65_536):
                output += block
                if len(output) > MAX_OUTPUT_BYTES:
                    raise ValueError("the doctor says too much")
            await process.wait()
            return bytes(output)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                while await process.stdout.read(65_536):  # a pipe that is not read to its end is never closed
                    pass
                await process.wait()
