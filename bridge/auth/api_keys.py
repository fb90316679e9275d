"""The operator's API keys: which key may do what, and how often a stranger may guess.

A key ring holds several keys, each with a scope, so that a dashboard may read while only the operator's own
scripts delete, and so that a key can be replaced without a gap: the old and the new one side by side.

Theory of operation: keys are kept as SHA-256 digests. Whatever a request presents is hashed and compared with
every key of the ring in constant time, without stopping at the first hit, so that timing tells neither how much
of a guess was right nor which key it was. Wrong guesses are counted per source address in a bounded table.

Pure: time and addresses are arguments. It knows header values, not requests (``bridge.server.api.access``).
Sources: RFC 6750 section 2.1 (Bearer), the vendor's REST interface (``xi-api-key``).
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import ipaddress
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from bridge.errors import ConfigError, LocalError

MAX_PRESENTED = 4
"""Keys that one request may present; clients send one, or one in each of the three headers."""

MAX_KEY_CHARS = 512
"""Longest key that is looked at; a request cannot make us hash more."""

IPV6_PREFIX_BITS = 64
"""One customer has a whole /64 (RFC 6177), so guesses from it count together."""


class Scope(enum.Enum):
    """What a key may do."""

    READ = "read"
    """See calls, transcripts, recordings, limits and routes."""
    ADMIN = "admin"
    """All of that; delete calls, end them, pause recordings, change routes, replay webhooks."""

    def covers(self, needed: Scope) -> bool:
        """Whether a key of this scope may do what ``needed`` asks for."""
        return self is Scope.ADMIN or needed is Scope.READ


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key of the ring."""

    scope: Scope
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Access:
    """What a request may do."""

    scope: Scope
    key_id: str
    """The first digits of the key's digest: tells keys apart in the log without giving one away. Empty = no key."""


def parse_keys(text: str) -> tuple[ApiKey, ...]:
    """The keys of BRIDGE_API_KEY: ``key``, or ``read:key,admin:key,...``; a key without a scope is an admin key.

    Raises ``ConfigError``, which names the place of a mistake and never the key.
    """
    keys = [_parse_key(part.strip(), place) for place, part in enumerate(text.split(","), 1)]
    scopes: dict[str, Scope] = {}
    for place, key in enumerate(keys, 1):
        if scopes.setdefault(key.key, key.scope) is not key.scope:
            raise ConfigError(f"BRIDGE_API_KEY: key {place} is there twice with different scopes; remove one of them.")
    return tuple(keys)


def _parse_key(part: str, place: int) -> ApiKey:
    name, colon, key = part.partition(":")
    if not colon:
        name, key = Scope.ADMIN.value, part
    try:
        scope = Scope(name)
    except ValueError:
        raise ConfigError(
            f"BRIDGE_API_KEY: key {place} has an unknown scope before its colon; write read:KEY or admin:KEY."
        ) from None
    if not key:
        raise ConfigError(f"BRIDGE_API_KEY: key {place} is empty; write read:KEY, admin:KEY or KEY.")
    if len(key) > MAX_KEY_CHARS or not key.isprintable() or " " in key:
        raise ConfigError(
            f"BRIDGE_API_KEY: key {place} cannot be sent in a header; use up to {MAX_KEY_CHARS} visible characters."
        )
    return ApiKey(scope, key)


def presented_keys(authorization: Iterable[str], api_key: Iterable[str], vendor_key: Iterable[str]) -> tuple[str, ...]:
    """The keys that a request presents, from the values of its headers.

    ``authorization`` counts where its scheme is Bearer; ``api_key`` is X-API-Key, ``vendor_key`` is xi-api-key,
    which the vendor's own clients send. Empty where nothing was presented.
    """
    bearer = [value[7:].strip() for value in authorization if value[:7].lower() == "bearer "]
    return tuple(key for key in (*bearer, *api_key, *vendor_key) if key)[:MAX_PRESENTED]


class KeyRing:
    """All keys that are valid now. Replace the whole ring to rotate keys."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = tuple((_digest(key.key), key.scope) for key in keys)

    def __len__(self) -> int:
        return len(self._keys)

    def authorize(self, presented: Iterable[str]) -> Access | None:
        """The most that any of the presented keys may do; None = none of them is a key."""
        best: Access | None = None
        for text in presented:
            digest = _digest(text[: MAX_KEY_CHARS + 1])
            for known, scope in self._keys:  # all of them, always: see the module's docstring
                is_it = hmac.compare_digest(known, digest)
                if is_it and (best is None or scope.covers(best.scope)):
                    best = Access(scope, known.hex()[:8])
        return best


def _digest(text: str) -> bytes:
    """SHA-256 of a key. Header values come decoded as Latin-1, settings as UTF-8: both give the bytes on the wire."""
    try:
        raw = text.encode("latin-1")
        raw.decode("utf-8")
    except UnicodeError:
        raw = text.encode("utf-8", "surrogatepass")
    return hashlib.sha256(raw).digest()


@dataclass(frozen=True, slots=True)
class GuessLimits:
    """How often one source may present a wrong key."""

    attempts: int = 10
    """A script with an old key stops being answered; a person who mistypes is not locked out."""
    window_s: float = 60.0
    sources: int = 4096
    """Sources remembered; a few hundred kilobytes. Beyond it the one that was quiet longest is forgotten."""


class GuessCounter:
    """Wrong keys per source address, in a sliding window. Times are seconds on one monotonic clock."""

    def __init__(self, limits: GuessLimits) -> None:
        if limits.attempts < 1 or limits.window_s <= 0 or limits.sources < 1:
            raise LocalError(f"a guess counter needs attempts, a window and room, got {limits}")
        self._limits = limits
        self._guesses: OrderedDict[str, deque[float]] = OrderedDict()  # the source that guessed last stands last

    def __len__(self) -> int:
        return len(self._guesses)

    def wait_s(self, address: str, now: float) -> float:
        """How long this source must wait before it is listened to again; 0 = not at all."""
        guesses = self._guesses.get(source_of(address))
        if guesses is None or len(guesses) < self._limits.attempts:
            return 0.0
        return max(0.0, guesses[0] + self._limits.window_s - now)

    def count(self, address: str, now: float) -> None:
        """A wrong key came from this source."""
        source = source_of(address)
        guesses = self._guesses.get(source)
        if guesses is None:
            guesses = self._guesses[source] = deque(maxlen=self._limits.attempts)
        guesses.append(now)
        self._guesses.move_to_end(source)
        if len(self._guesses) > self._limits.sources:
            self._guesses.popitem(last=False)


def source_of(address: str) -> str:
    """What counts as one source: an IPv4 address, an IPv6 /64, or the text itself where it is neither."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((int(ip), IPV6_PREFIX_BITS), strict=False))
