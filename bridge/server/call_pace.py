"""Spreads calls over time: carriers take so many new ones a second and account, and refuse or queue the rest.

One queue in order of arrival, with a side door: who is needed by somebody on the line (the human of a transfer) goes
before calls that nobody waits for, but never faster than the pace. What it is not: a limit for all processes together;
the operator gives each its share.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bridge.server.carrier_control import ControlError, ControlFault


@dataclass(frozen=True, slots=True)
class PaceOptions:
    """How fast."""

    calls_per_second: float = 1.0
    """Of one account; Twilio's default."""
    max_wait_s: float = 60.0
    """Who would wait longer is told so at once, rather than hold a request open for minutes."""


class CallPace:
    """The pace of one account."""

    def __init__(
        self,
        options: PaceOptions,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._interval_s = 1.0 / options.calls_per_second
        self._max_wait_s = options.max_wait_s
        self._monotonic = monotonic
        self._sleep = sleep
        self._next_s = float("-inf")
        self._waiting = 0
        self._urgent = 0  # of those
        # asyncio's locks let waiters in by order of arrival. Who is not urgent takes both, so that at most one of
        # them is in front of somebody urgent.
        self._queue = asyncio.Lock()
        self._gate = asyncio.Lock()

    async def turn(self, *, urgent: bool = False) -> None:
        """Wait until the next call may be placed. Raises ``ControlError`` (``BUSY``) where that takes too long.

        Cancelled while it waits, it takes nobody's turn.
        """
        ahead = self._urgent + (self._waiting > self._urgent) if urgent else self._waiting
        if max(self._next_s - self._monotonic(), 0.0) + ahead * self._interval_s > self._max_wait_s:
            raise ControlError(ControlFault.BUSY, f"more calls wait than are placed within {self._max_wait_s:g} s")
        self._waiting += 1
        self._urgent += urgent
        try:
            if urgent:
                await self._pass_gate()
            else:
                async with self._queue:
                    await self._pass_gate()
        finally:
            self._waiting -= 1
            self._urgent -= urgent

    async def _pass_gate(self) -> None:
        async with self._gate:
            wait_s = self._next_s - self._monotonic()
            if wait_s > 0:
                await self._sleep(wait_s)
            self._next_s = max(self._monotonic(), self._next_s) + self._interval_s
