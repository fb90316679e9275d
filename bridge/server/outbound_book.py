"""What all processes know of placed calls: each fact under a key of its own, left once, by whoever learns it first.

A call's webhooks, its media socket and the request that placed it may each meet another process, in any order. So
nothing here is read, changed and written back: facts are only added, and the first one of its kind counts.
"""

from __future__ import annotations

import re

import msgspec

from bridge.calls.outbound import OutboundCall, decode_call, encode_call
from bridge.server.shared_state import SharedState

FACTS_TTL_S = 3600.0
"""From the placing on: the longest ringing, and late webhooks; after it they are those of an unknown call."""

MAX_VERDICTS = 4
"""Twilio says who answered once; others say that it is a machine, and then that its greeting is over."""

_CALL_ID = re.compile(r"[0-9a-f]{16}")
"""As ``bridge.server.answer`` makes them; anything else is nobody's call and is not looked up."""


class Over(msgspec.Struct, frozen=True):
    """The call ended before its media came."""

    reason: str
    """A name of ``bridge.outcome.CATALOGUE``."""
    ours: bool
    """We gave it up; the carrier may still think that it rings."""


_over = msgspec.json.Decoder(Over)


class OutboundBook:
    """Facts of placed calls, by our id. Nothing here raises for Redis' sake."""

    def __init__(self, shared: SharedState) -> None:
        self._shared = shared

    async def enter(self, call: OutboundCall) -> None:
        """A call is about to be placed."""
        await self._shared.put(_name(call.call_id, "call"), encode_call(call), FACTS_TTL_S)

    async def call(self, call_id: str) -> OutboundCall | None:
        """The call; None = it never was, or is long over."""
        kept = await self._get(call_id, "call") if _CALL_ID.fullmatch(call_id) else None
        if kept is None:
            return None
        try:
            return decode_call(kept)
        except msgspec.DecodeError:  # of another version of this program
            return None

    async def is_line(self, call_id: str, call_sid: str) -> bool:
        """Whether this is the carrier's id of the call; the first one that is named is."""
        if await self._add(call_id, "line", call_sid.encode("utf-8", "replace")):
            return True
        return await self.line(call_id) == call_sid

    async def line(self, call_id: str, wait_s: float = 0.0) -> str:
        """The carrier's id; empty = nobody has named it within this time."""
        kept = await self._shared.wait_for(_name(call_id, "line"), wait_s)
        return "" if kept is None else kept.decode()

    async def answer(self, call_id: str, token: str) -> None:
        """The other side answered, and this one-time token is for its media; the first one counts."""
        await self._add(call_id, "token", token.encode())

    async def token(self, call_id: str) -> str:
        """The token that ``answer`` left; empty = nobody answered yet."""
        kept = await self._get(call_id, "token")
        return "" if kept is None else kept.decode()

    async def join(self, call_id: str) -> None:
        """The media came: from now on the call is its session's."""
        await self._add(call_id, "joined", b"1")

    async def has_joined(self, call_id: str) -> bool:
        """Whether the media came."""
        return await self._get(call_id, "joined") is not None

    async def end(self, call_id: str, over: Over) -> bool:
        """The call ended before its media came; True for whoever says so first, and is to write it down."""
        return await self._add(call_id, "over", msgspec.json.encode(over))

    async def reopen(self, call_id: str) -> None:
        """``end`` was wrong: the media had come."""
        await self._add(call_id, "joined", b"1")
        await self._shared.remove(_name(call_id, "over"))

    async def over(self, call_id: str) -> Over | None:
        """Whether and how it ended before its media came."""
        kept = await self._get(call_id, "over")
        return None if kept is None else _over.decode(kept)

    async def detect(self, call_id: str, verdict: str) -> bool:
        """Who answered, by the carrier's ear; False = it has said so before, or too much."""
        for number in range(MAX_VERDICTS):
            if await self._add(call_id, f"verdict:{number}", verdict.encode("utf-8", "replace")):
                return True
            if await self._verdict(call_id, number) == verdict:
                return False
        return False

    async def verdicts(self, call_id: str) -> tuple[str, ...]:
        """What the carrier has said of who answered, in order, each word once."""
        found: list[str] = []
        while len(found) < MAX_VERDICTS and (verdict := await self._verdict(call_id, len(found))):
            found.append(verdict)
        return tuple(found)

    async def first(self, call_id: str, what: str) -> bool:
        """Whether this is done for the first time for this call, by any process."""
        return await self._add(call_id, f"did:{what}", b"1")

    async def _verdict(self, call_id: str, number: int) -> str:
        kept = await self._get(call_id, f"verdict:{number}")
        return "" if kept is None else kept.decode()

    async def _add(self, call_id: str, fact: str, value: bytes) -> bool:
        return await self._shared.put_if_absent(_name(call_id, fact), value, FACTS_TTL_S)

    async def _get(self, call_id: str, fact: str) -> bytes | None:
        return await self._shared.get(_name(call_id, fact))


def _name(call_id: str, fact: str) -> str:
    return f"outbound:{call_id}:{fact}"
