"""What goes on beside a call: its tasks, and those of them that wait for something to happen in it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridge.server.session import Session


POLL_S = 0.02
"""How often it is looked whether a stream has left: only after a request whose answer was lost."""


class SideWork:
    """The tasks of one session. Made inside the event loop."""

    __slots__ = ("_back", "_hearing", "_session", "_tasks")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tasks: set[asyncio.Task[None]] = set()
        self._hearing: dict[int, asyncio.Future[None]] = {}  # who waits for the caller to have heard, by ticket
        self._back = asyncio.Event()

    def begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have something done beside the call; the call's end cuts it short."""
        task = asyncio.get_running_loop().create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """The call is over. Some tasks have to clean up; the shutdown waits for them."""
        for task in self._tasks:
            task.cancel()
            self._session.bridge.after(task)

    async def _guard(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except Exception:  # the boundary where a bug of ours must not take other calls along
            self._session.bug()

    # --- waiting for the call ---

    async def heard(self) -> None:
        """Wait until the caller has heard all that was said until now, with a bound."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def ask(now: float) -> None:
            self._hearing[self._session.call.ask_heard(now)] = future

        self._session.step(ask)
        await future

    def heard_now(self, ticket: int) -> None:
        """See ``bridge.calls.effects.Heard``."""
        future = self._hearing.pop(ticket, None)
        if future is not None and not future.done():
            future.set_result(None)

    async def stream_back(self, timeout_s: float) -> None:
        """Wait until the carrier's stream is back from its errand, with a bound."""
        if not self._session.call.is_waited_for:
            return
        self._back.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._back.wait()

    async def stream_gone(self, timeout_s: float) -> bool:
        """Whether the carrier's stream leaves for its errand within this time, or has been away meanwhile."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self._has_left:  # noqa: ASYNC110 -- rare, and what ends it is in the call, which knows no events
                    await asyncio.sleep(POLL_S)
        return self._has_left

    @property
    def _has_left(self) -> bool:
        call = self._session.call
        return call.is_away or not call.is_waited_for

    def is_back(self) -> None:
        """The carrier's stream is back."""
        self._back.set()
