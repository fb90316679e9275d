"""One-time call tokens: what ties a media socket to the answer webhook that ordered it.

Theory of operation: the answer webhook (whose signature was checked) issues a random token for its call and puts
it into its answer; the carrier hands it back in the first message on the media socket; redeeming it there yields
what the webhook knew of the call. A token lives for seconds, works once, and works for one call only. So whoever
finds the media socket's address cannot talk to the agent at the operator's expense.

What it is not: shared. The book is the memory of one process. Ids, tokens and time are arguments; the caller
makes tokens from a cryptographic random source (128 bits or more).
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass, field

import msgspec

from bridge.errors import LocalError

_TOMBSTONE_TTLS = 2
"""Used and expired tokens are remembered until twice their lifetime after issue, so that the log can tell
"expired" and "used" from "never issued"."""


class CallClaims(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the answer webhook knew and decided; it comes from a verified request, unlike the media socket.

    A struct that survives JSON, because with several processes the webhook and the socket meet different ones.
    """

    caller: str
    """Caller's number as the carrier wrote it."""
    called: str
    """Called number as the carrier wrote it."""
    direction: str
    """``inbound`` or ``outbound``."""
    call_id: str = ""
    """Our own id of the call, under which the webhook may have taken a slot; empty = none yet."""
    agent_id: str = ""
    """Agent that the webhook chose; empty = the routing decides once the call is offered."""
    comeback: bool = False
    """The call is in progress, and its carrier connects another media stream of it."""
    control_url: str = ""
    """See ``CallInfo.control_url``."""
    parameters: dict[str, str] = {}
    """What the webhook learnt besides (SIP headers, forwarded-from): variables for the agent."""


class TokenProblem(enum.Enum):
    """Why a token was refused; the value is the text for the log."""

    MISSING = "no token"
    UNKNOWN = "unknown token"
    EXPIRED = "expired token"
    USED = "token used before"
    OTHER_CALL = "token of another call"


@dataclass(slots=True)
class _Entry:
    token: str = field(repr=False)
    call_sid: str
    claims: CallClaims
    issued_at: float
    used: bool = False


class TokenBook:
    """All tokens of this process. Times are seconds on one monotonic clock."""

    def __init__(self, ttl_s: float, capacity: int) -> None:
        """Keep tokens valid for ``ttl_s`` seconds and at most ``capacity`` of them, dropping the oldest."""
        if ttl_s <= 0 or capacity < 1:
            raise LocalError(f"a token book needs a lifetime and room, got ttl_s={ttl_s}, capacity={capacity}")
        self._ttl_s = ttl_s
        self._capacity = capacity
        # By SHA-256 of the token, oldest first. A look-up by digest tells an attacker nothing through its
        # timing, because the digest of a guess cannot be steered towards that of a token.
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        # The latest token of each call, for ``current``.
        self._latest: dict[str, bytes] = {}

    def __len__(self) -> int:
        """Tokens held, used and expired ones included while they are remembered."""
        return len(self._entries)

    def issue(self, token: str, call_sid: str, now: float, claims: CallClaims) -> None:
        """Make ``token`` valid for this call from now on. An unused earlier token of the call stops working.

        Raises ``LocalError`` for an empty token or call id, and for a token that was issued before.
        """
        digest = _digest(token)
        if not token or not call_sid:
            raise LocalError("a token needs a text and a call")
        if digest in self._entries:
            raise LocalError("this token was issued before; tokens must be random")
        self._purge(now)
        earlier = self._latest.get(call_sid)
        if earlier is not None and not self._entries[earlier].used:
            self._drop(earlier)
        while len(self._entries) >= self._capacity:
            self._drop(next(iter(self._entries)))
        self._entries[digest] = _Entry(token, call_sid, claims, now)
        self._latest[call_sid] = digest

    def current(self, call_sid: str, now: float) -> str | None:
        """Return the call's token if it is still unused and valid.

        Carriers repeat a webhook whose answer got lost; the repetition is answered with the same token.
        """
        digest = self._latest.get(call_sid)
        entry = None if digest is None else self._entries[digest]
        if entry is None or entry.used or self._expired(entry, now):
            return None
        return entry.token

    def redeem(self, token: str, call_sid: str, now: float) -> CallClaims | TokenProblem:
        """Use up the token of this call; returns what its webhook knew, or why it is refused.

        An attempt with another call's token does not use it up: the rightful call can still come.
        """
        self._purge(now)
        if not token:
            return TokenProblem.MISSING
        digest = _digest(token)
        entry = self._entries.get(digest)
        if entry is None or not hmac.compare_digest(_digest(entry.token), digest):
            return TokenProblem.UNKNOWN
        if not hmac.compare_digest(_digest(entry.call_sid), _digest(call_sid)):
            return TokenProblem.OTHER_CALL
        if entry.used:
            return TokenProblem.USED
        if self._expired(entry, now):
            return TokenProblem.EXPIRED
        entry.used = True
        return entry.claims

    def _expired(self, entry: _Entry, now: float) -> bool:
        return now - entry.issued_at >= self._ttl_s

    def _purge(self, now: float) -> None:
        """Forget what is too old to be worth a precise answer; entries stand in order of issue."""
        horizon = now - self._ttl_s * _TOMBSTONE_TTLS
        while self._entries:
            digest, entry = next(iter(self._entries.items()))
            if entry.issued_at > horizon:
                return
            self._drop(digest)

    def _drop(self, digest: bytes) -> None:
        entry = self._entries.pop(digest)
        if self._latest.get(entry.call_sid) == digest:
            del self._latest[entry.call_sid]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
