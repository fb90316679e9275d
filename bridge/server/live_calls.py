"""Every call in progress, on every process, to be read from any of them.

Changes go to Redis beside the calls, together, as soon as the last ones are there; every few seconds a process says
which of its calls go on. What a dead process left vanishes with its leases. Without Redis, and while it is down, only
this process's calls are known. Numbers are here as the carrier wrote them: whoever shows them redacts them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec

from bridge.server.beat import Beat
from bridge.server.redis_client import RedisLink, Script
from bridge.server.slot_store import StoreDown

MAX_LISTED = 100_000
"""Calls that a listing holds at most; more than any installation carries, and some 50 MB."""
PER_RUN = 250
"""Calls written or renewed in one run of the script; about a millisecond of Redis' time."""
PER_PAGE = 500
"""Calls read in one run of the script."""


class LiveCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call in progress."""

    call_id: str
    instance_id: str
    """The process that carries it."""
    provider: str
    direction: str
    caller: str
    called: str
    agent_id: str = ""
    conversation_id: str = ""
    state: str
    """A name of ``bridge.calls.state.State``."""
    is_burst: bool = False
    started_at: float
    """Unix time."""


@dataclass(frozen=True, slots=True)
class LiveCallOptions:
    """How long the calls of a dead process are listed."""

    lease_s: float = 16.0
    renew_every_s: float = 5.0


_WRITE = Script("""
-- ARGV: lease in ms, MessagePack of {{field, call}, ...} to write, of fields to remove, and of fields that go on.
-- Answers the fields that should go on but are not known.
local calls, leases = KEYS[1] .. ':live', KEYS[1] .. ':live-leases'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = now + ARGV[1]
for _, entry in ipairs(cmsgpack.unpack(ARGV[2])) do
  redis.call('HSET', calls, entry[1], entry[2])
  redis.call('ZADD', leases, ends, entry[1])
end
for _, field in ipairs(cmsgpack.unpack(ARGV[3])) do
  redis.call('HDEL', calls, field)
  redis.call('ZREM', leases, field)
end
local unknown, words = {}, {}
for _, field in ipairs(cmsgpack.unpack(ARGV[4])) do
  if redis.call('HEXISTS', calls, field) == 1 then
    words[#words + 1] = ends
    words[#words + 1] = field
  else
    unknown[#unknown + 1] = field
  end
end
if #words > 0 then redis.call('ZADD', leases, unpack(words)) end
for _, field in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 200)) do
  redis.call('HDEL', calls, field)
  redis.call('ZREM', leases, field)
end
return unknown
""")

_READ = Script("""
-- ARGV: cursor, calls per page. Answers the next cursor and the calls of this page whose lease runs.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local page = redis.call('HSCAN', KEYS[1] .. ':live', ARGV[1], 'COUNT', ARGV[2])
local alive, found = {}, page[2]
for i = 1, #found, 2 do
  local ends = redis.call('ZSCORE', KEYS[1] .. ':live-leases', found[i])
  if ends and tonumber(ends) > now then alive[#alive + 1] = found[i + 1] end
end
return {page[1], alive}
""")


class LiveCalls:
    """See the module. Made inside the event loop; ``start`` it and ``close`` it."""

    def __init__(
        self,
        instance_id: str,
        link: RedisLink | None = None,
        options: LiveCallOptions | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._instance_id = instance_id
        self._link = link
        self._options = options or LiveCallOptions()
        self._calls: dict[str, LiveCall] = {}
        self._changed: dict[str, None] = {}  # fields to write, in order
        self._removed: dict[str, None] = {}  # fields to remove
        self._beat = Beat("live_calls", self._options.renew_every_s, self._work, monotonic)
        if link is not None:
            link.on_up(lambda: self._beat.wake(due=True))

    @property
    def state(self) -> Literal["memory", "redis", "redis_down"]:
        """Whose calls ``all`` knows: of this process (``memory``, ``redis_down``) or of all."""
        if self._link is None:
            return "memory"
        return "redis" if self._link.is_up else "redis_down"

    # --- this process's calls ---

    def put(self, call: LiveCall) -> None:
        """A call of this process (``instance_id``) began or changed. Never fails."""
        field = _field(call)
        self._calls[field] = call
        self._removed.pop(field, None)
        self._note(self._changed, field)

    def remove(self, call_id: str) -> None:
        """A call of this process ended. Never fails, may be repeated."""
        field = f"{self._instance_id}/{call_id}"
        self._changed.pop(field, None)
        if self._calls.pop(field, None) is not None:
            self._note(self._removed, field)

    def here(self) -> list[LiveCall]:
        """The calls of this process."""
        return list(self._calls.values())

    # --- everybody's ---

    async def all(self, most: int = MAX_LISTED) -> list[LiveCall]:
        """The calls of all processes, the oldest first; of more than ``most`` any. Never raises for Redis' sake."""
        found = dict(self._calls)
        if self._link is not None:
            with contextlib.suppress(StoreDown):
                for call in await self._read(self._link, most):
                    if call.instance_id != self._instance_id:  # of our own, Redis knows less than we do
                        found[_field(call)] = call
        return sorted(found.values(), key=lambda call: (call.started_at, call.call_id))[:most]

    async def start(self) -> None:
        """Begin to tell Redis."""
        if self._link is not None:
            await self._beat.start()

    async def close(self) -> None:
        """Take this process's calls off the list, if Redis listens, and stop."""
        await self._beat.stop()
        for call in self.here():
            self.remove(call.call_id)
        await self._work(False)

    # --- Redis ---

    def _note(self, changes: dict[str, None], field: str) -> None:
        if self._link is not None:
            changes[field] = None
            if len(changes) > MAX_LISTED:  # Redis is down for long; what it still lists, leases will remove
                del changes[next(iter(changes))]
            self._beat.wake()

    async def _work(self, is_due: bool) -> None:
        """Tell Redis what changed and, when it is due, what goes on."""
        if self._link is None:
            return
        with contextlib.suppress(StoreDown):
            if is_due:
                await self._renew(self._link)
            while self._changed or self._removed:
                await self._write_changes(self._link)

    async def _renew(self, link: RedisLink) -> None:
        fields = list(self._calls)
        # Also without calls: somebody must sweep up after processes that died.
        for chunk in [fields[start : start + PER_RUN] for start in range(0, len(fields), PER_RUN)] or [[]]:
            for field in await self._write(link, [], [], chunk):
                name = field.decode()
                if name in self._calls:  # Redis lost it
                    self._changed[name] = None

    async def _write_changes(self, link: RedisLink) -> None:
        fields = list(self._changed)[:PER_RUN]
        removed = list(self._removed)[:PER_RUN]
        calls = [self._calls[field] for field in fields]
        # As text: Redis' MessagePack knows no binary strings.
        entries = [(field, msgspec.json.encode(call).decode()) for field, call in zip(fields, calls, strict=True)]
        await self._write(link, entries, removed, [])
        for field, call in zip(fields, calls, strict=True):
            if self._calls.get(field) is call:  # else it changed again meanwhile
                self._changed.pop(field, None)
        for field in removed:
            if field not in self._calls:
                self._removed.pop(field, None)

    async def _write(
        self, link: RedisLink, entries: list[tuple[str, str]], removed: list[str], going_on: list[str]
    ) -> list[bytes]:
        pack = msgspec.msgpack.encode
        lease_ms = int(self._options.lease_s * 1000)
        unknown: list[bytes] = await link.script(_WRITE, lease_ms, pack(entries), pack(removed), pack(going_on))
        return unknown

    async def _read(self, link: RedisLink, most: int) -> list[LiveCall]:
        """A page at a time, so that a long list keeps nobody else from Redis for long."""
        decoder = msgspec.json.Decoder(LiveCall)
        calls: dict[str, LiveCall] = {}  # a page may repeat calls of an earlier one
        cursor = b"0"
        while True:
            cursor, texts = await link.script(_READ, cursor, PER_PAGE)
            for text in texts:
                with contextlib.suppress(msgspec.ValidationError):  # of another version of this program
                    call = decoder.decode(text)
                    calls[_field(call)] = call
            if cursor == b"0" or len(calls) >= most:
                return list(calls.values())


def _field(call: LiveCall) -> str:
    return f"{call.instance_id}/{call.call_id}"
