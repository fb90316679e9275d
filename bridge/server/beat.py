"""A task that does its work when woken and, besides, every so often; what goes wrong in it is logged, never its end."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable

from bridge.server.logs import get_logger


class Beat:
    """``work(is_due)`` runs after every ``wake`` and every ``every_s`` seconds; ``is_due`` says for which of the two.

    Wakes that come while it runs are one wake.
    """

    def __init__(
        self,
        name: str,
        every_s: float,
        work: Callable[[bool], Awaitable[None]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._every_s = every_s
        self._work = work
        self._monotonic = monotonic
        self._due_s = -math.inf
        self._wake = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def wake(self, *, due: bool = False) -> None:
        """Have it run soon; with ``due``, as if the time were over."""
        if due:
            self._due_s = -math.inf
        self._wake.set()

    async def start(self) -> None:
        """Run once, as due, then go on beside everything else."""
        await self._once()
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop; harmless when it was never started."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
            self._running = None

    async def _run(self) -> None:
        while True:
            pause_s = self._due_s - self._monotonic()
            if pause_s > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._wake.wait()
            self._wake.clear()
            await self._once()

    async def _once(self) -> None:
        now_s = self._monotonic()
        is_due = now_s >= self._due_s
        if is_due:
            self._due_s = now_s + self._every_s
        try:
            await self._work(is_due)
        except Exception:  # whatever it was must not be its last beat
            get_logger().exception("bug", where=self._name)
            self._due_s = self._monotonic() + self._every_s
