"""Transfers under way, as the carrier's webhooks meet them: on whichever process, knowing only the transfer's id.

What a webhook needs to answer (what to say to the human, whether they must press a key) and what it has learnt (the
human accepted, the line is busy) is kept in the shared state for the minutes that a transfer takes. The process that
carries the call waits for the verdict; the first one counts. ``bridge.server.handing`` puts the steps in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import secrets

import msgspec

from bridge.auth.tokens import CallClaims
from bridge.calls.tool_words import ToolFailure
from bridge.server.call_tokens import CallTokens
from bridge.server.carrier_control import Comeback
from bridge.server.shared_state import SharedState

ID_BYTES = 18
"""144 bits of chance: the id is all that a webhook of the human's leg is known by, besides its signature."""

CARD_TTL_S = 4 * 3600.0
"""Webhooks of a human's leg come until they hang up; a transferred call may last for hours."""


class Verdict(enum.Enum):
    """What became of the human."""

    ACCEPTED = "accepted"
    """They take the caller (or, in a blind transfer, they have answered)."""
    DECLINED = "declined"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    FAILED = "failed"
    """The carrier could not place the call."""
    MACHINE = "machine"
    """An answering machine took it."""


FAILURES = {
    Verdict.DECLINED: ToolFailure.DECLINED,
    Verdict.BUSY: ToolFailure.BUSY,
    Verdict.NO_ANSWER: ToolFailure.NO_ANSWER,
    Verdict.FAILED: ToolFailure.CARRIER_REFUSED,
    Verdict.MACHINE: ToolFailure.VOICEMAIL,
}
"""What the agent is told of them."""


class TransferCard(msgspec.Struct, frozen=True, kw_only=True):
    """What webhooks must know of a transfer."""

    provider: str
    call_id: str
    """Ours, of the caller's call."""
    call_sid: str
    """The carrier's, of the caller's leg."""
    account_id: str = ""
    caller: str = ""
    called: str = ""
    direction: str = "inbound"
    control_url: str = ""
    is_warm: bool = True
    agent_message: str = ""
    accept_key: str = ""
    detects_machine: bool = False
    """Whether the carrier will say who has answered."""
    language: str = ""


class Transfers:
    """The book of transfers."""

    def __init__(self, shared: SharedState, tokens: CallTokens) -> None:
        self._shared = shared
        self._tokens = tokens
        self._waiting: dict[str, asyncio.Future[Verdict]] = {}

    async def open(self, card: TransferCard) -> str:
        """A new transfer; returns its id."""
        transfer_id = secrets.token_urlsafe(ID_BYTES)
        await self._shared.put(_card(transfer_id), msgspec.json.encode(card), CARD_TTL_S)
        self._waiting[transfer_id] = asyncio.get_running_loop().create_future()
        return transfer_id

    def close(self, transfer_id: str) -> None:
        """Nobody waits for its verdict any more; its webhooks are still answered."""
        self._waiting.pop(transfer_id, None)

    async def card(self, transfer_id: str) -> TransferCard | None:
        """What is known of a transfer; None = there is none of this id."""
        found = await self._shared.get(_card(transfer_id)) if transfer_id else None
        return None if found is None else msgspec.json.decode(found, type=TransferCard)

    async def report(self, transfer_id: str, verdict: Verdict) -> bool:
        """A webhook has learnt what became of the human; False = that was known, and this changes nothing."""
        first = await self._shared.put_if_absent(_verdict(transfer_id), verdict.value.encode(), CARD_TTL_S)
        waiting = self._waiting.get(transfer_id)
        if first and waiting is not None and not waiting.done():
            waiting.set_result(verdict)
        return first

    async def verdict_of(self, transfer_id: str) -> Verdict | None:
        """What is known of the human by now."""
        found = await self._shared.get(_verdict(transfer_id))
        return None if found is None else Verdict(found.decode())

    async def wait(self, transfer_id: str, timeout_s: float) -> Verdict | None:
        """The verdict as soon as there is one; None when nobody gives one in time."""
        here = self._waiting[transfer_id]
        waits: list[asyncio.Future[Verdict]] = [here]
        if self._shared.state != "memory":  # the webhook may have reached another process
            waits.append(asyncio.ensure_future(self._elsewhere(transfer_id, timeout_s)))
        try:
            done, _ = await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                with contextlib.suppress(TimeoutError):
                    return future.result()
            return None
        finally:
            for future in waits[1:]:
                future.cancel()

    async def is_human(self, transfer_id: str) -> None:
        """The carrier says that no machine has answered, or that it cannot tell."""
        await self._shared.put(_detected(transfer_id), b"yes", CARD_TTL_S)

    async def is_known_human(self, transfer_id: str) -> bool:
        """Whether the carrier has said so."""
        return await self._shared.get(_detected(transfer_id)) is not None

    async def has_left(self, transfer_id: str) -> bool:
        """Whether the human's leg is over: then there is nobody to send the caller to."""
        return await self._shared.get(_left(transfer_id)) is not None

    async def joins(self, transfer_id: str) -> bool:
        """The caller was sent to the human; False = who has left meanwhile, so that the caller is alone.

        It and ``left`` each write first and look then, so that of two at once one at least sees the other.
        """
        await self._shared.put(_joined(transfer_id), b"yes", CARD_TTL_S)
        return not await self.has_left(transfer_id)

    async def left(self, transfer_id: str) -> bool:
        """The human's leg is over; True = the caller was sent to them before."""
        await self._shared.put(_left(transfer_id), b"yes", CARD_TTL_S)
        return await self._shared.get(_joined(transfer_id)) is not None

    async def meets(self, call_sid: str, human_sid: str) -> None:
        """The caller of this leg was sent to the human of that one."""
        await self._shared.put(_human(call_sid), human_sid.encode(), CARD_TTL_S)

    async def human_of(self, call_sid: str) -> str:
        """The leg of the human whom the caller of this leg was sent to; empty = there is none."""
        found = await self._shared.get(_human(call_sid))
        return "" if found is None else found.decode()

    async def come_back(self, card: TransferCard) -> Comeback:
        """Let the carrier connect the call's media stream again."""
        return await come_back(self._tokens, card)

    async def _elsewhere(self, transfer_id: str, timeout_s: float) -> Verdict:
        found = await self._shared.wait_for(_verdict(transfer_id), timeout_s)
        if found is None:
            raise TimeoutError
        return Verdict(found.decode())


async def come_back(tokens: CallTokens, card: TransferCard) -> Comeback:
    """A one-time token with which another media stream of a call in progress is let in."""
    claims = CallClaims(
        caller=card.caller,
        called=card.called,
        direction=card.direction,
        call_id=card.call_id,
        comeback=True,
        control_url=card.control_url,
    )
    issued = await tokens.issue(card.call_sid, claims)
    return Comeback(issued.token, card.caller, card.called)


def _card(transfer_id: str) -> str:
    return f"transfer:{transfer_id}"


def _verdict(transfer_id: str) -> str:
    return f"transfer-verdict:{transfer_id}"


def _joined(transfer_id: str) -> str:
    return f"transfer-joined:{transfer_id}"


def _left(transfer_id: str) -> str:
    return f"transfer-left:{transfer_id}"


def _human(call_sid: str) -> str:
    return f"transfer-with:{call_sid}"


def _detected(transfer_id: str) -> str:
    return f"transfer-human:{transfer_id}"
