"""Idempotency keys of requests that must not be carried out twice, shared by all processes.

Theory of operation: the first request with a key leaves a claim with a digest of what it asks for; once it knows how
it came out, it leaves that in the claim's place. A repetition is told the same. A repetition that comes while the
first is still at it waits a little. Where nothing comes, the first may have died in the middle, and nobody knows
whether it got to do it: then the answer is exactly that, and nothing is done again.

Source: draft-ietf-httpapi-idempotency-key-header-07 (409 for a key in use, 422 for a key with another request).
"""

from __future__ import annotations

import re

import msgspec

from bridge.server.api.ports import PlacedCall, PlacementRefused, Refusal
from bridge.server.shared_state import SharedState

KEY_TTL_S = 24 * 3600.0
"""How long a key is remembered, as is common."""
WAIT_S = 6.0
"""How long a repetition waits for the first: a little more than the time-out of a carrier's interface."""
CLAIM_TRIES = 3
"""A key may be given free between two looks at it."""
MAX_KEY_CHARS = 255

_KEY = re.compile(rf"[!-~]{{1,{MAX_KEY_CHARS}}}")

_POLL_SUFFIX = ":outcome"


class _Claim(msgspec.Struct, frozen=True):
    digest: str
    call_id: str


class _Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    placed: PlacedCall | None = None
    refusal: Refusal | None = None


_claims = msgspec.json.Decoder(_Claim)
_outcomes = msgspec.json.Decoder(_Outcome)


def key_problem(key: str) -> str:
    """Why this can be no key; empty = it can."""
    if _KEY.fullmatch(key):
        return ""
    return f"must have 1 to {MAX_KEY_CHARS} visible ASCII characters; a UUID is best"


class IdempotencyKeys:
    """Keys of one kind of request."""

    def __init__(self, shared: SharedState, *, wait_s: float = WAIT_S, ttl_s: float = KEY_TTL_S) -> None:
        self._shared = shared
        self._wait_s = wait_s
        self._ttl_s = ttl_s

    async def claim(self, key: str, digest: str, call_id: str) -> PlacedCall | None:
        """Begin: None = it is for this request to act, and to ``settle`` or ``release`` the key.

        Otherwise the outcome of the first request. Raises ``PlacementRefused`` where that was refused, where the key
        was used for another request, and where nobody knows what became of the first.
        """
        name = _name(key)
        for _ in range(CLAIM_TRIES):
            claim = _Claim(digest, call_id)
            if await self._shared.put_if_absent(name, msgspec.json.encode(claim), self._ttl_s):
                return None
            kept = await self._shared.get(name)
            if kept is not None:
                return await self._outcome(name, _claims.decode(kept), digest)
        raise PlacementRefused(_unknown(""))

    async def settle(self, key: str, placed: PlacedCall | None, refusal: Refusal | None = None) -> None:
        """How the request came out; repetitions are told the same."""
        outcome = msgspec.json.encode(_Outcome(placed, refusal))
        await self._shared.put(_name(key) + _POLL_SUFFIX, outcome, self._ttl_s)

    async def release(self, key: str) -> None:
        """Nothing was done: the key may be used again."""
        await self._shared.remove(_name(key))

    async def _outcome(self, name: str, claim: _Claim, digest: str) -> PlacedCall:
        if claim.digest != digest:
            raise PlacementRefused(_REUSED)
        kept = await self._shared.wait_for(name + _POLL_SUFFIX, self._wait_s)
        if kept is None:
            raise PlacementRefused(_unknown(claim.call_id))
        outcome = _outcomes.decode(kept)
        if outcome.placed is None:
            raise PlacementRefused(outcome.refusal or _unknown(claim.call_id))
        return outcome.placed


_REUSED = Refusal(
    status=422,
    code="idempotency_key_reused",
    message="Idempotency-Key: was used for another request within the last day; use a new one.",
    field="Idempotency-Key",
)


def _unknown(call_id: str) -> Refusal:
    where = f"GET /v1/calls/{call_id}" if call_id else "GET /v1/calls"
    return Refusal(
        status=409,
        code="placement_unknown",
        message="A request with this Idempotency-Key is under way, or broke off before its outcome was known. It is "
        f"not carried out again: see what became of it with {where}, and use a new key to place another call.",
        field="Idempotency-Key",
    )


def _name(key: str) -> str:
    return f"outbound-key:{key}"
