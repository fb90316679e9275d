"""One-time call tokens for one process or several: webhook and media socket of a call may meet different ones.

Without Redis this is ``bridge.auth.tokens.TokenBook`` with clock and chance. With Redis a token is issued and used up
by one script each, so that of two sockets with one token one gets in, on whichever process. Tokens are sealed
(``bridge.auth.sealed_tokens``): while Redis is down, or after it came back empty, one of another process is read
without it. Until Redis is back it is then used once by each process, rather than once by all.

What Redis holds, for two lifetimes of a token at most: under a digest of the token, what the webhook knew (numbers of
caller and called among it; gone once used); under a digest of the call, the token itself, because a repeated webhook
must be given the same. A look-up by digest tells an attacker nothing through its timing, because the digest of a guess
cannot be steered towards that of a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import msgspec

from bridge.auth.sealed_tokens import Sealer
from bridge.auth.tokens import CallClaims, TokenBook, TokenProblem
from bridge.server.redis_client import RedisLink, Script
from bridge.server.slot_store import StoreDown

TOKEN_BYTES = 24
"""192 bits of chance: nobody guesses a token within its minute."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A token for an answer, and what it stands for."""

    token: str = field(repr=False)
    claims: CallClaims = field(repr=False)
    """Those of the first webhook of the call: a repetition goes on with its call id and slot."""
    is_repeat: bool


class CallTokens(Protocol):
    """Issues and redeems. Neither raises for Redis' sake."""

    @property
    def state(self) -> Literal["memory", "redis", "redis_down"]:
        """Where tokens are kept right now."""
        ...

    async def issue(self, call_sid: str, claims: CallClaims) -> Issued:
        """A token for this call: the same again while it is unused and valid."""
        ...

    async def redeem(self, token: str, call_sid: str) -> CallClaims | TokenProblem:
        """Use up the token of this call; returns what its webhook knew, or why it is refused."""
        ...


class MemoryTokens:
    """Tokens of one process."""

    def __init__(
        self,
        ttl_s: float,
        capacity: int,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        new_token: Callable[[], str] = lambda: secrets.token_urlsafe(TOKEN_BYTES),
    ) -> None:
        self._book = TokenBook(ttl_s, capacity)
        self._capacity = capacity
        self._claims: OrderedDict[str, CallClaims] = OrderedDict()  # of each call's latest token
        self._monotonic = monotonic
        self._new_token = new_token

    @property
    def state(self) -> Literal["memory", "redis", "redis_down"]:
        """See ``CallTokens``."""
        return "memory"

    async def issue(self, call_sid: str, claims: CallClaims) -> Issued:
        """See ``CallTokens``."""
        return self.issue_as(self._new_token(), call_sid, claims)

    def issue_as(self, token: str, call_sid: str, claims: CallClaims) -> Issued:
        """``issue`` with a token that somebody else made."""
        current = self._book.current(call_sid, self._monotonic())
        if current is not None:
            return Issued(current, self._claims[call_sid], is_repeat=True)
        self.keep(token, call_sid, claims)
        return Issued(token, claims, is_repeat=False)

    async def redeem(self, token: str, call_sid: str) -> CallClaims | TokenProblem:
        """See ``CallTokens``."""
        return self.use(token, call_sid)

    def keep(self, token: str, call_sid: str, claims: CallClaims) -> None:
        """Make a new token valid."""
        self._book.issue(token, call_sid, self._monotonic(), claims)
        self._claims[call_sid] = claims
        self._claims.move_to_end(call_sid)
        while len(self._claims) > self._capacity:
            self._claims.popitem(last=False)

    def use(self, token: str, call_sid: str) -> CallClaims | TokenProblem:
        """``redeem`` without waiting."""
        return self._book.redeem(token, call_sid, self._monotonic())


_ISSUE = Script("""
-- ARGV: digest of the token, digest of the call, token, claims, lifetime in ms
-- Answers the token and the claims that hold, and 1 for a repetition.
local call_key = KEYS[1] .. ':token-of:' .. ARGV[2]
local current = redis.call('GET', call_key)
if current then
  local digest, token = unpack(cmsgpack.unpack(current))
  local kept = redis.call('GET', KEYS[1] .. ':token:' .. digest)
  if kept then return {token, cmsgpack.unpack(kept)[2], 1} end
end
local time = redis.call('TIME')
local ends = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[5]
redis.call('SET', KEYS[1] .. ':token:' .. ARGV[1], cmsgpack.pack({ARGV[2], ARGV[4], ends, false}), 'PX', 2 * ARGV[5])
redis.call('SET', call_key, cmsgpack.pack({ARGV[1], ARGV[3]}), 'PX', ARGV[5])
return {ARGV[3], ARGV[4], 0}
""")

_REDEEM = Script("""
-- ARGV: digest of the token, digest of the call. Answers the claims, or the name of a TokenProblem.
local key = KEYS[1] .. ':token:' .. ARGV[1]
local kept = redis.call('GET', key)
if not kept then return {'UNKNOWN'} end
local call, claims, ends, used = unpack(cmsgpack.unpack(kept))
if call ~= ARGV[2] then return {'OTHER_CALL'} end
if used then return {'USED'} end
local time = redis.call('TIME')
if time[1] * 1000 + math.floor(time[2] / 1000) >= ends then return {'EXPIRED'} end
redis.call('SET', key, cmsgpack.pack({call, '', ends, true}), 'KEEPTTL')
redis.call('DEL', KEYS[1] .. ':token-of:' .. call)
return {'', claims}
""")


_USE_UP = Script("""
-- ARGV: digest of the token, digest of the call, lifetime in ms. For a token whose claims were found elsewhere.
-- Answers 1; 0 = it was used up before.
local key = KEYS[1] .. ':token:' .. ARGV[1]
local kept = redis.call('GET', key)
if kept and cmsgpack.unpack(kept)[4] then return 0 end
redis.call('SET', key, cmsgpack.pack({ARGV[2], '', 0, true}), 'PX', 2 * ARGV[3])
redis.call('DEL', KEYS[1] .. ':token-of:' .. ARGV[2])
return 1
""")


class RedisTokens:
    """Tokens of all processes. Made inside the event loop; ``close`` it."""

    def __init__(
        self,
        link: RedisLink,
        ttl_s: float,
        memory: MemoryTokens,
        sealer: Sealer | None = None,
        *,
        unix: Callable[[], float] = time.time,
    ) -> None:
        self.sealer = sealer or Sealer()
        """May be replaced at any time."""
        self._link = link
        self._ttl_s = ttl_s
        self._ttl_ms = int(ttl_s * 1000)
        self._memory = memory
        self._unix = unix
        self._used_here: OrderedDict[str, str] = OrderedDict()  # while Redis was down: token digest -> call digest
        self._telling: asyncio.Task[None] | None = None
        link.on_up(self._on_up)

    @property
    def state(self) -> Literal["memory", "redis", "redis_down"]:
        """See ``CallTokens``."""
        return "redis" if self._link.is_up else "redis_down"

    async def issue(self, call_sid: str, claims: CallClaims) -> Issued:
        """See ``CallTokens``."""
        chance = secrets.token_urlsafe(TOKEN_BYTES)
        token = self.sealer.seal(chance, call_sid, claims, self._unix() + self._ttl_s)
        packed = msgspec.json.encode(claims)
        try:
            answer = await self._link.script(_ISSUE, _digest(token), _digest(call_sid), token, packed, self._ttl_ms)
        except StoreDown:
            return self._memory.issue_as(token, call_sid, claims)
        issued = Issued(answer[0].decode(), msgspec.json.decode(answer[1], type=CallClaims), answer[2] == 1)
        if not issued.is_repeat:
            self._memory.keep(issued.token, call_sid, claims)  # Redis may be gone before the call's socket comes
        return issued

    async def redeem(self, token: str, call_sid: str) -> CallClaims | TokenProblem:
        """See ``CallTokens``."""
        if not token:
            return TokenProblem.MISSING
        try:
            # Not repeated on a broken connection: the first try may have used the token up.
            problem, *claims = await self._link.script(_REDEEM, _digest(token), _digest(call_sid), repeat=False)
        except StoreDown:
            return self._use_here(token, call_sid)
        if not problem:
            here = self._memory.use(token, call_sid)  # used while Redis was down, and Redis was not told yet?
            return TokenProblem.USED if here is TokenProblem.USED else msgspec.json.decode(claims[0], type=CallClaims)
        if problem == b"UNKNOWN":  # issued while Redis was down, or Redis came back empty
            return await self._use_unknown(token, call_sid)
        return TokenProblem[problem.decode()]

    async def close(self) -> None:
        """Stop what runs beside."""
        if self._telling is not None:
            self._telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._telling

    async def _use_unknown(self, token: str, call_sid: str) -> CallClaims | TokenProblem:
        """Use up a token that Redis does not know, here and there."""
        claims = self._use_here(token, call_sid)
        if isinstance(claims, CallClaims):
            with contextlib.suppress(StoreDown):  # else it is told later
                digest = _digest(token)
                first = await self._link.script(_USE_UP, digest, _digest(call_sid), self._ttl_ms, repeat=False)
                self._used_here.pop(digest, None)
                return claims if first else TokenProblem.USED
        return claims

    def _use_here(self, token: str, call_sid: str) -> CallClaims | TokenProblem:
        """Use up a token of this process, or a sealed one of another."""
        claims = self._memory.use(token, call_sid)
        if claims is TokenProblem.UNKNOWN:
            sealed = self.sealer.unseal(token, call_sid, self._unix())
            if isinstance(sealed, CallClaims):
                self._memory.keep(token, call_sid, sealed)
                claims = self._memory.use(token, call_sid)
        if isinstance(claims, CallClaims):
            self._used_here[_digest(token)] = _digest(call_sid)  # as bounded as the tokens themselves
        return claims

    def _on_up(self) -> None:
        if self._used_here and self._telling is None:
            self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        """Use up in Redis what was used here meanwhile, so that no other process takes it again."""
        with contextlib.suppress(StoreDown):
            while self._used_here:
                token, call = next(iter(self._used_here.items()))
                await self._link.script(_USE_UP, token, call, self._ttl_ms)
                self._used_here.pop(token)
        self._telling = None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
