"""Orders of the operator to calls in progress, for the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bridge import outcome
from bridge.calls import tools
from bridge.server.api.ports import ControlResult, TransferWish
from bridge.server.listening import pause_recording, resume_recording
from bridge.server.service import Bridge
from bridge.server.session import Session


class CallControl:
    """A ``ControlPort`` on the calls of this process; those of others are told apart."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    async def hang_up(self, call_id: str) -> ControlResult:
        """See ``ControlPort``."""
        session = self._bridge.sessions.get(call_id)
        if session is None:
            if await self._bridge.outbound.hang_up(call_id):
                return ControlResult.DONE
            return await self._absent(call_id)
        session.end(outcome.OPERATOR_HANGUP, "ended through the API")
        return ControlResult.DONE

    async def transfer(self, call_id: str, wish: TransferWish) -> ControlResult | str:
        """See ``ControlPort``."""
        session = self._bridge.sessions.get(call_id)
        if session is None:
            return await self._absent(call_id)
        refused = ""

        def hand_on(now: float) -> None:
            nonlocal refused
            refused = session.call.hand_on(_parameters(wish), now)

        session.step(hand_on)
        session.log.info("operator_transfer", refused=bool(refused))
        return refused or ControlResult.DONE

    async def pause_recording(self, call_id: str) -> ControlResult:
        """See ``ControlPort``."""
        return await self._record(call_id, pause_recording)

    async def resume_recording(self, call_id: str) -> ControlResult:
        """See ``ControlPort``."""
        return await self._record(call_id, resume_recording)

    async def _record(self, call_id: str, order: Callable[[Session], bool]) -> ControlResult:
        session = self._bridge.sessions.get(call_id)
        if session is None:
            return await self._absent(call_id)
        return ControlResult.DONE if order(session) else ControlResult.NOT_RECORDED

    async def _absent(self, call_id: str) -> ControlResult:
        elsewhere = any(call.call_id == call_id for call in await self._bridge.live.all())
        return ControlResult.ELSEWHERE if elsewhere else ControlResult.NOT_LIVE


def _parameters(wish: TransferWish) -> dict[str, Any]:
    """The wish as agents write it."""
    given = {
        tools.TARGET_NAMES[-1]: wish.to,
        "transfer_type": wish.kind,
        "client_message": wish.caller_message,
        "agent_message": wish.human_message,
        "reason": "operator",
    }
    return {name: value for name, value in given.items() if value}
