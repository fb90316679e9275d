"""One way to Redis for everything that shares state through it: bounded in time, and quick to say that it is down.

Theory of operation: every command has ``timeout_s``, connection and a second try over a fresh connection included
(after Redis restarted, the first thing heard of it is that old connections are dead). The first failure opens the
circuit: from then on commands fail at once, so that a hanging Redis costs callers one time-out and no more. A task
knocks with growing pauses; when Redis answers (and takes a write), the circuit closes and ``on_up`` is told.

All keys begin with one prefix in braces, a hash tag: on Redis Cluster they share a slot, which the scripts rely on
(they derive keys from the prefix rather than naming each; Redis docs, "Scripting with Lua", asks for declared keys so
that Cluster finds the node, and the prefix does that).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)

from bridge.server.logs import get_logger
from bridge.server.slot_store import StoreDown

PROBE_MS = 1000
"""Life of the key that the probe writes."""

Value = bytes | str | int | float


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """Where Redis is and how long to wait for it."""

    url: str = field(repr=False)
    """``redis://``, ``rediss://`` (TLS) or ``unix://``; may hold a password."""
    prefix: str = "bridge"
    """First part of every key; two bridges with different prefixes share nothing."""
    timeout_s: float = 0.25
    """For one command, all told. A local Redis takes under a millisecond; a caller hears silence meanwhile."""
    retry_first_s: float = 0.5
    retry_most_s: float = 10.0
    """Pauses between attempts to reach a Redis that is down grow from the one to the other."""
    connections: int = 8
    """Connections at most; commands are short, and most share one script call."""
    cluster: bool = False
    """Whether the address is one of a Redis Cluster."""


class Script:
    """A Lua script, called by its digest and sent only to a Redis that does not have it."""

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class RedisLink:
    """The connection of this process. Made inside the event loop; ``start`` it, and always ``close`` it."""

    def __init__(self, options: RedisOptions) -> None:
        self._options = options
        self._client = _new_client(options)
        self._up = False
        self._closed = False
        self._last_refusal = ""
        self._knocking: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[], None]] = []
        self._log = get_logger()
        self.base = "{" + options.prefix + "}"
        """What every key begins with."""
        self.failures = 0
        """How often Redis went down, for the metrics."""

    @property
    def is_up(self) -> bool:
        """Whether Redis answered last time."""
        return self._up

    def key(self, *parts: str) -> str:
        """A key of ours."""
        return ":".join((self.base, *parts))

    def on_up(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called whenever Redis has come back; it must only set flags or start tasks."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Try to reach Redis once; without success the attempts go on beside everything else."""
        try:
            await self._probe()
        except (StoreDown, ResponseError) as problem:
            self._failed(str(problem).partition(" ")[0] if isinstance(problem, ResponseError) else str(problem))
        else:
            self._up = True

    async def close(self) -> None:
        """Drop the connections."""
        self._up, self._closed = False, True
        if self._knocking is not None:
            self._knocking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._knocking
        with contextlib.suppress(RedisError, OSError):
            await self._client.aclose()  # type: ignore[union-attr,unused-ignore]

    # --- commands ---

    async def command(self, *words: Value, repeat: bool = True) -> Any:
        """One command. Raises ``StoreDown``.

        ``repeat``: may be sent again over a new connection when the old one broke, although Redis may have carried it
        out the first time. False for what must be done once.
        """
        return await self._guarded(lambda: self._client.execute_command(*words), repeat)

    async def script(self, script: Script, *arguments: Value, repeat: bool = True) -> Any:
        """One script, with the prefix as its only key. Raises ``StoreDown``. ``repeat`` as above."""
        return await self._guarded(lambda: self._evaluate(script, arguments), repeat)

    async def _evaluate(self, script: Script, arguments: tuple[Value, ...]) -> Any:
        try:
            return await self._client.execute_command("EVALSHA", script.sha, 1, self.base, *arguments)
        except NoScriptError:
            return await self._client.execute_command("EVAL", script.text, 1, self.base, *arguments)

    async def _guarded(self, attempt: Callable[[], Awaitable[Any]], repeat: bool) -> Any:
        if not self._up:
            raise StoreDown("Redis is down")
        try:
            return await self._bounded(attempt, repeat)
        except ResponseError as error:
            # Redis lives, it only will not do this (a key of another type, say): others need not suffer for it.
            self._refused(str(error).partition(" ")[0])
            raise StoreDown("Redis refused") from None
        except StoreDown as problem:
            self._failed(str(problem))
            raise

    async def _bounded(self, attempt: Callable[[], Awaitable[Any]], repeat: bool) -> Any:
        """Within the time-out; a dead connection is replaced once."""
        try:
            # Cancelled in the middle, redis-py closes the connection: a late answer never meets another command.
            async with asyncio.timeout(self._options.timeout_s):
                try:
                    return await attempt()
                except (AuthenticationError, BusyLoadingError):
                    raise
                except (RedisConnectionError, OSError):
                    if not repeat:
                        raise
                    return await attempt()
        except TimeoutError:
            raise StoreDown("no answer in time") from None
        except (RedisError, OSError) as error:
            if type(error) is ResponseError:  # its subclasses are about Redis as a whole: read-only, out of memory
                raise
            # The text of an error may quote the address or a command's arguments.
            raise StoreDown(type(error).__name__) from None

    # --- down and up again ---

    def _refused(self, code: str) -> None:
        """Log the code of an error answer, unless it was the last one logged; the rest may quote what was sent."""
        if code != self._last_refusal:
            self._last_refusal = code
            self._log.error("redis_refused", detail=code, advice="Look at Redis' log, and at who else writes there.")

    def _failed(self, detail: str) -> None:
        self._up = False
        if self._knocking is None and not self._closed:
            self.failures += 1
            self._log.error("redis_down", detail=detail, advice="Bring Redis back; calls in progress go on meanwhile.")
            self._knocking = asyncio.create_task(self._knock())

    async def _knock(self) -> None:
        pause_s = self._options.retry_first_s
        while not self._up:
            # Many processes lose Redis at one moment; they need not all come back at one moment.
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311  # no secret
            pause_s = min(2 * pause_s, self._options.retry_most_s)
            with contextlib.suppress(StoreDown, ResponseError):
                await self._probe()
                self._up = True
        self._knocking = None
        self._log.info("redis_up")
        for listener in self._listeners:
            listener()

    async def _probe(self) -> None:
        """Whether Redis answers and takes writes: a replica or a full one does not."""
        words = ("SET", self.key("probe"), "1", "PX", PROBE_MS)
        await self._bounded(lambda: self._client.execute_command(*words), True)


def _new_client(options: RedisOptions) -> Redis | RedisCluster:
    # No time-outs and retries of redis-py's own: ``asyncio.timeout`` is cheaper, and covers connecting and both tries.
    retry = Retry(NoBackoff(), 0)
    if options.cluster:
        return RedisCluster.from_url(
            options.url, socket_timeout=None, socket_connect_timeout=None, max_connections=options.connections
        )
    pool = BlockingConnectionPool.from_url(
        options.url,
        max_connections=options.connections,
        timeout=None,
        socket_timeout=None,
        socket_connect_timeout=None,
        retry=retry,
        protocol=2,
    )
    return Redis.from_pool(pool)
