"""Joins a sans-I/O simulator to a WebSocket: the only loop that both simulators run on.

One task reads, one writes, so that a peer that does not read never keeps us from reading. Not for the bridge itself,
where a task switch per message costs too much.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed

_Action = TypeVar("_Action", covariant=True)

NO_CLOSE_FRAME = 1006
"""How the end of a connection without a close frame is reported (RFC 6455 section 7.4.1)."""


class Peer(Protocol[_Action]):
    """A sans-I/O protocol object; ``now`` is seconds of ``time.monotonic``."""

    @property
    def finished(self) -> bool:
        """Whether all is said once the last ``drain`` is carried out."""

    def receive(self, message: str | bytes, now: float) -> None:
        """Feed one message."""

    def connection_lost(self, code: int, reason: str, now: float) -> None:
        """Say that the connection is gone."""

    def drain(self) -> Iterable[_Action]:
        """Take what is to be done now, in order."""

    def next_timer(self) -> float:
        """When ``handle_timer`` is to be called; inf = never."""

    def handle_timer(self, now: float) -> None:
        """Let time pass."""


class _Alarm:
    """Sets an event at a time that may be changed."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event
        self._handle: asyncio.TimerHandle | None = None
        self._due_s = float("inf")

    def set(self, due_s: float) -> None:
        """Fire at ``due_s``, no longer at an earlier setting."""
        if self._handle is not None and due_s == self._due_s:
            return
        self.cancel()
        if due_s != float("inf"):
            delay_s = max(due_s - time.monotonic(), 0.0)
            self._due_s, self._handle = due_s, asyncio.get_running_loop().call_later(delay_s, self._fire)

    def cancel(self) -> None:
        """Do not fire."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        self._event.set()


async def pump(connection: Connection, peer: Peer[_Action], perform: Callable[[_Action], Awaitable[None]]) -> None:
    """Run until the peer has finished or the connection is gone; closes the connection at the end.

    ``perform`` carries out one action, e.g. ``connection.send``; ``ConnectionClosed`` from it is expected.
    """
    wake = asyncio.Event()
    alarm = _Alarm(wake)
    reader = asyncio.create_task(_read(connection, peer, wake))
    try:
        while True:
            peer.handle_timer(time.monotonic())
            for action in peer.drain():
                await perform(action)
            if peer.finished:
                break
            alarm.set(peer.next_timer())
            await wake.wait()
            wake.clear()
    except ConnectionClosed:
        pass  # the reader tells the peer
    finally:
        alarm.cancel()
        await connection.close()
        await reader


async def _read(connection: Connection, peer: Peer[_Action], wake: asyncio.Event) -> None:
    try:
        async for message in connection:
            peer.receive(message, time.monotonic())
            wake.set()
    except ConnectionClosed:
        pass
    code = connection.close_code
    peer.connection_lost(NO_CLOSE_FRAME if code is None else code, connection.close_reason or "", time.monotonic())
    wake.set()
