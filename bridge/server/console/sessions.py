"""Sessions of the console: what a browser holds after its user has given an API key.

Theory of operation: the cookie carries no secret and names no place in a table. It says which key it was issued for and
when, and is sealed with an HMAC whose key is derived from that API key. So every process that shares the keys takes
it, a restart ends nobody's session, and taking a key out of the ring, or changing it, ends all sessions that were
opened with it. What the session may do is looked up in the ring at each request. Signing out is remembered until the
cookie would have expired. The derivation is slow on purpose (scrypt, RFC 7914): a cookie that leaks is no shortcut to
guessing the key.

Times are Unix seconds, as arguments.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from bridge.auth.api_keys import ApiKey, KeyRing, Scope

SESSION_S = 12 * 3600.0
"""A shift. Nobody signs in twice a day, and a forgotten browser is closed the next morning."""

SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**14, 8, 1
"""Some 50 ms and 16 MiB, once per key and process."""

MAX_COOKIE_CHARS = 200
"""Ours have less than 120."""

_SALT = b"telephony bridge, console sessions, 1"
_COOKIE = re.compile(
    r"1\.(?P<key_id>[0-9a-f]{8})\.(?P<issued>[0-9]{1,12})\.(?P<nonce>[A-Za-z0-9_-]{22})\.(?P<mac>[A-Za-z0-9_-]{43})"
)


@dataclass(frozen=True, slots=True)
class ConsoleSession:
    """A session that is valid now."""

    key_id: str
    """See ``bridge.auth.api_keys.Access``."""
    scope: Scope
    nonce: str
    expires_at: float
    csrf: str = field(repr=False)
    """What changes must carry besides the cookie."""


@dataclass(frozen=True, slots=True)
class _Key:
    text: str = field(repr=False)
    scope: Scope


class Sessions:
    """Issues and reads the cookies. Belongs to one event loop."""

    def __init__(
        self,
        keys: Iterable[ApiKey],
        *,
        was_signed_out: Callable[[str], Awaitable[bool]],
        sign_out: Callable[[str, float], Awaitable[None]],
    ) -> None:
        """``sign_out`` remembers a nonce for so many seconds, ``was_signed_out`` knows it again."""
        self._was_signed_out = was_signed_out
        self._sign_out = sign_out
        self._keys: dict[str, _Key] = {}
        self._seals: dict[str, bytes] = {}  # by key id, derived when first needed
        self.follow(keys)

    def follow(self, keys: Iterable[ApiKey]) -> None:
        """The keys are these from now on."""
        found: dict[str, _Key] = {}
        for key in keys:
            access = KeyRing([key]).authorize([key.key])
            assert access is not None
            found[access.key_id] = _Key(key.key, key.scope)
        self._seals = {
            key_id: seal
            for key_id, seal in self._seals.items()
            if key_id in found and key_id in self._keys and found[key_id].text == self._keys[key_id].text
        }
        self._keys = found

    async def issue(self, key_id: str, nonce: bytes, now: float) -> str:
        """A cookie for whoever has presented the key of this id; ``nonce`` are 16 random bytes."""
        body = f"1.{key_id}.{int(now)}.{_encode(nonce)}"
        return f"{body}.{_encode(_mac(await self._seal(key_id), body))}"

    async def read(self, cookie: str, now: float) -> ConsoleSession | None:
        """The session of this cookie; None = it is forged, expired, signed out, or its key is none any more."""
        parts = _COOKIE.fullmatch(cookie) if len(cookie) <= MAX_COOKIE_CHARS else None
        if parts is None or parts["key_id"] not in self._keys:
            return None
        key_id, issued = parts["key_id"], int(parts["issued"])
        if not issued <= now + 60.0 or now >= issued + SESSION_S:  # clocks of several machines differ a little
            return None
        seal = await self._seal(key_id)
        body, _, mac = cookie.rpartition(".")
        if not hmac.compare_digest(_encode(_mac(seal, body)), mac):
            return None
        if await self._was_signed_out(parts["nonce"]):
            return None
        key = self._keys.get(key_id)
        if key is None:  # it was taken out meanwhile
            return None
        csrf = _encode(_mac(seal, f"csrf.{parts['nonce']}"))
        return ConsoleSession(key_id, key.scope, parts["nonce"], issued + SESSION_S, csrf)

    def holds(self, session: ConsoleSession, now: float) -> bool:
        """Whether a session that was read before is still good, as far as that can be told at once."""
        key = self._keys.get(session.key_id)
        return key is not None and key.scope is session.scope and now < session.expires_at

    async def end(self, session: ConsoleSession, now: float) -> None:
        """Sign out: the cookie is worth nothing any more, wherever it may be."""
        await self._sign_out(session.nonce, max(1.0, session.expires_at - now))

    async def _seal(self, key_id: str) -> bytes:
        seal = self._seals.get(key_id)
        if seal is None:
            key = self._keys[key_id]
            seal = await asyncio.to_thread(_derive, key.text)
            if self._keys.get(key_id) == key:
                self._seals[key_id] = seal
        return seal


def _derive(key: str) -> bytes:
    raw = key.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(raw, salt=_SALT, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, maxmem=2**26)


def _mac(seal: bytes, body: str) -> bytes:
    return hmac.digest(seal, body.encode("ascii"), "sha256")


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
