"""Small things that processes share for minutes: how calls ended, answers to repeated webhooks, used nonces.

With Redis they are everybody's, without it or while it is down they are this process's. Nothing here raises for Redis'
sake. Keys are digested, so that they may hold anything; values are kept as they are, and for their time only.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from bridge.errors import LocalError
from bridge.outcome import CATALOGUE, EndReason
from bridge.server.beat import Beat
from bridge.server.redis_client import RedisLink
from bridge.server.slot_store import StoreDown

END_TTL_S = 600.0
"""A carrier's fallback request comes within seconds of the end."""
MAX_KEYS = 50_000
"""In memory; ten minutes of the ends of eighty calls a second."""
MAX_MEMORY_BYTES = 64 * 1024 * 1024
MAX_VALUE_BYTES = 1024 * 1024
"""Of one value; webhook answers are bounded far below it."""
POLL_S = 0.05
"""How often a value that another process prepares is looked for."""
FLUSH_EVERY_S = 5.0
"""Ends that Redis could not be told are tried again so often."""


class CallEnd(msgspec.Struct, frozen=True):
    """How a carrier's call ended."""

    reason: EndReason
    extra: Mapping[str, str]
    """What else the fallback needs, e.g. where to divert the caller."""


class _EndOnWire(msgspec.Struct, frozen=True):
    reason: str
    extra: dict[str, str] = {}


class ExpiringMemory:
    """Keys with values that go by themselves; the oldest go first when there is no room."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._values: OrderedDict[str, tuple[bytes, float]] = OrderedDict()  # and until when
        self._bytes = 0

    def get(self, key: str) -> bytes | None:
        """The value, while it lasts."""
        found = self._values.get(key)
        if found is None:
            return None
        if found[1] <= self._monotonic():
            self.remove(key)
            return None
        return found[0]

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep a value, in place of any other."""
        self.remove(key)
        self._values[key] = (value, self._monotonic() + ttl_s)
        self._bytes += len(value)
        while len(self._values) > MAX_KEYS or self._bytes > MAX_MEMORY_BYTES:
            self.remove(next(iter(self._values)))

    def remove(self, key: str) -> None:
        """Forget it."""
        found = self._values.pop(key, None)
        if found is not None:
            self._bytes -= len(found[0])


class SharedState:
    """See the module. Made inside the event loop; ``start`` it and ``close`` it."""

    def __init__(self, link: RedisLink | None = None, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._link = link
        self._memory = ExpiringMemory(monotonic)
        self._unsent: OrderedDict[str, bytes] = OrderedDict()  # ends that Redis does not have yet
        self._beat = Beat("shared_state", FLUSH_EVERY_S, self._flush, monotonic)
        if link is not None:
            link.on_up(self._beat.wake)

    @property
    def state(self) -> Literal["memory", "redis", "redis_down"]:
        """Where things are kept right now."""
        if self._link is None:
            return "memory"
        return "redis" if self._link.is_up else "redis_down"

    async def start(self) -> None:
        """Begin to tell Redis of ends."""
        if self._link is not None:
            await self._beat.start()

    async def close(self) -> None:
        """Tell Redis what it was not told yet, if it listens, and stop."""
        await self._beat.stop()
        await self._flush(True)

    # --- how calls ended ---

    def remember_end(self, call_sid: str, reason: EndReason, extra: Mapping[str, str] | None = None) -> None:
        """A carrier's call, or one stream of it, ended; the last end counts. Redis is told beside."""
        key = _digest(f"end:{call_sid}")
        value = msgspec.json.encode(_EndOnWire(reason.reason, dict(extra or {})))
        self._memory.put(key, value, END_TTL_S)
        if self._link is not None:
            self._unsent[key] = value
            self._unsent.move_to_end(key)
            while len(self._unsent) > MAX_KEYS:
                self._unsent.popitem(last=False)
            self._beat.wake()

    async def end_of(self, call_sid: str, wait_s: float = 0.0) -> CallEnd | None:
        """How the call ended lately; waits so long for the news when it has not come yet."""
        found = await self._wait_for(_digest(f"end:{call_sid}"), wait_s)
        if found is None:
            return None
        end = msgspec.json.decode(found, type=_EndOnWire)
        reason = CATALOGUE.get(end.reason)  # None: of a newer version of this program, on another machine
        return None if reason is None else CallEnd(reason, end.extra)

    # --- values ---

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep a value, in place of any other."""
        await self._put(_digest(key), _checked(value), ttl_s)

    async def get(self, key: str) -> bytes | None:
        """The value, while it lasts."""
        return await self._get(_digest(key))

    async def put_if_absent(self, key: str, value: bytes, ttl_s: float) -> bool:
        """Keep a value unless there is one; True for whoever was first."""
        digest = _digest(key)
        _checked(value)
        if self._link is not None:
            with contextlib.suppress(StoreDown):
                words = ("SET", self._key(digest), value, "PX", _ms(ttl_s), "NX")
                if not await self._link.command(*words, repeat=False):  # a second try would find the first's value
                    return False
                self._memory.put(digest, value, ttl_s)
                return True
        if self._memory.get(digest) is not None:
            return False
        self._memory.put(digest, value, ttl_s)
        return True

    async def wait_for(self, key: str, timeout_s: float) -> bytes | None:
        """The value as soon as somebody has put it; None when nobody does in time."""
        return await self._wait_for(_digest(key), timeout_s)

    async def remove(self, key: str) -> None:
        """Forget a value; harmless when there is none."""
        digest = _digest(key)
        self._memory.remove(digest)
        if self._link is not None:
            with contextlib.suppress(StoreDown):
                await self._link.command("DEL", self._key(digest))

    async def first_time(self, key: str, ttl_s: float) -> bool:
        """Whether this key is seen for the first time in ``ttl_s`` seconds, by any process: against replays."""
        return await self.put_if_absent(f"nonce:{key}", b"1", ttl_s)

    # --- by digest ---

    def _key(self, digest: str) -> str:
        assert self._link is not None
        return self._link.key("state", digest)

    async def _put(self, digest: str, value: bytes, ttl_s: float) -> None:
        self._memory.put(digest, value, ttl_s)
        if self._link is not None:
            with contextlib.suppress(StoreDown):
                await self._link.command("SET", self._key(digest), value, "PX", _ms(ttl_s))

    async def _get(self, digest: str) -> bytes | None:
        if self._link is not None and digest not in self._unsent:
            with contextlib.suppress(StoreDown):
                found: bytes | None = await self._link.command("GET", self._key(digest))
                return found
        return self._memory.get(digest)

    async def _wait_for(self, digest: str, timeout_s: float) -> bytes | None:
        found = await self._get(digest)
        if found is not None or timeout_s <= 0:
            return found
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while found is None:
                    await asyncio.sleep(POLL_S)
                    found = await self._get(digest)
        return found

    async def _flush(self, _is_due: bool) -> None:
        """Tell Redis of ends."""
        with contextlib.suppress(StoreDown):
            while self._unsent and self._link is not None:
                key, value = next(iter(self._unsent.items()))
                await self._link.command("SET", self._key(key), value, "PX", _ms(END_TTL_S))
                if self._unsent.get(key) is value:
                    del self._unsent[key]


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _checked(value: bytes) -> bytes:
    if len(value) > MAX_VALUE_BYTES:
        raise LocalError(f"a shared value has at most {MAX_VALUE_BYTES} bytes, not {len(value)}")
    return value
