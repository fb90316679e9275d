"""The event stream of one console: server-sent events (HTML Living Standard, section 9.2) with bounds on everything.

A stream says something each second while calls go on, and a comment now and then when nothing changes. It ends when its
reader does not take what is written in time, when the session is over, and in any case after ``LIFE_S``: browsers
connect again at once, and what is left of a connection whose other end has vanished without a word is gone by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from bridge.server.console.feed import Feed

MAX_STREAMS = 100
"""Consoles that watch one process at once: two for each of a large shift. The next one is told to come back."""
LIFE_S = 60.0
HEARTBEAT_S = 10.0
"""Proxies give up a silent connection after 30 s and more."""
WRITE_TIMEOUT_S = 5.0
RETRY_MS = 1000
"""How soon browsers come back."""

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would gather events for a while
    "X-Content-Type-Options": "nosniff",
}


class EventStream(Response):
    """Tells one console of the live calls."""

    media_type = "text/event-stream"

    def __init__(
        self, feed: Feed, *, masked: bool, still_in: Callable[[], bool], is_closing: Callable[[], bool]
    ) -> None:
        """``still_in``: whether the session lasts; ``is_closing``: whether the process is about to go."""
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._feed = feed
        self._masked = masked
        self._still_in = still_in
        self._is_closing = is_closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The whole stream."""
        gone = asyncio.ensure_future(until_gone(receive))
        try:
            with self._feed.watched():
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await self._tell(gone, send)
            if not gone.done():
                await write(send, b"", more=False)
        except TimeoutError:
            return  # the reader does not read; the server closes the connection
        finally:
            gone.cancel()

    async def _tell(self, gone: asyncio.Future[None], send: Send) -> None:
        feed, seen = self._feed, 0
        ends_s, beat_s = monotonic() + LIFE_S, monotonic() + HEARTBEAT_S
        await write(send, b"retry: %d\n\n" % RETRY_MS)
        while not gone.done() and monotonic() < ends_s and not self._is_closing():
            if not self._still_in():
                await write(send, b"event: over\ndata: session\n\n")
                return
            number = feed.number
            message = feed.message(seen, masked=self._masked) if number else b""
            if message:
                await write(send, b"data: " + message + b"\n\n")
                beat_s = monotonic() + HEARTBEAT_S
            elif monotonic() >= beat_s:
                await write(send, b"event: beat\ndata:\n\n")
                beat_s = monotonic() + HEARTBEAT_S
            seen = number
            await feed.after(number, HEARTBEAT_S / 2)


async def write(send: Send, body: bytes, *, more: bool = True) -> None:
    """Write one piece of a body. Raises ``TimeoutError`` where the reader does not take it."""
    message: Message = {"type": "http.response.body", "body": body, "more_body": more}
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await send(message)


async def until_gone(receive: Receive) -> None:
    """Wait until the reader has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
