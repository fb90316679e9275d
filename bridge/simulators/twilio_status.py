"""Status callbacks of one leg: which events are told, in what order, with what fields.

Source: Twilio docs "Call Resource: StatusCallback", error 21626 (read 2026-11-21): a wrong event is taken without a
word, and no callback comes. Twilio does not promise any order, so the cloud can be told to mix it up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from email.utils import formatdate

CALL_EVENTS = frozenset({"initiated", "ringing", "answered", "completed"})

WRONG_EVENT = 21626

Post = Callable[[str, str, Mapping[str, str]], Awaitable[None]]
Spawn = Callable[[Coroutine[object, object, None]], asyncio.Task[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackTarget:
    """Where a leg's progress is told, and which of it."""

    url: str
    method: str = "POST"
    events: frozenset[str] = frozenset({"completed"})
    """Empty = none, as after a wrong event."""


class StatusCallbacks:
    """Tells of one leg."""

    def __init__(
        self,
        target: CallbackTarget | None,
        post: Post,
        spawn: Spawn,
        *,
        reorder_ms: float = 0.0,
        twice: bool = False,
    ) -> None:
        self._target, self._post, self._spawn = target, post, spawn
        self._reorder_s, self._twice = reorder_ms / 1000, twice
        self._number = 0
        self._last: asyncio.Task[None] | None = None

    def emit(self, event: str, fields: Mapping[str, str], now_unix_s: float) -> None:
        """Tell an event, if it is wanted."""
        target = self._target
        if target is None or event not in target.events:
            return
        body = {
            **fields,
            "CallbackSource": "call-progress-events",
            "SequenceNumber": str(self._number),
            "Timestamp": formatdate(now_unix_s, localtime=False, usegmt=False),
        }
        self._last = self._spawn(self._tell(target, body, self._number, self._last))
        self._number += 1

    async def _tell(
        self, target: CallbackTarget, body: Mapping[str, str], number: int, before: asyncio.Task[None] | None
    ) -> None:
        if self._reorder_s:
            if number % 2 == 0:
                await asyncio.sleep(self._reorder_s)
        elif before is not None:
            await asyncio.wait({before})
        for _ in range(2 if self._twice else 1):
            await self._post(target.method, target.url, body)
