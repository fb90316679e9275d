"""A carrier's control interface that does what a test says, and writes down what it was asked for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from bridge.calls.orders import TransferOrder
from bridge.leg import ToneWay, TransferKind
from bridge.server.carrier_control import Comeback, ControlError, ControlFault, Line, OutboundOrder, Whisper
from bridge.server.service import Bridge
from tests.kit.offline import offline_bridge
from tests.kit.sessions import Table

HUMAN = "+15550123"
HUMAN_SID = "CA0000000000000000000000000000beef"


def fault(kind: ControlFault) -> ControlError:
    """A request that failed so."""
    return ControlError(kind, f"told to be {kind.value}")


class FakeControl:
    """A ``CarrierControl``. Steps are ``ring``, ``join``, ``drop``, ``transfer``, ``tones``, ``hang up``."""

    transfers = frozenset({TransferKind.WARM, TransferKind.BLIND, TransferKind.REFER})
    transfers_keep_stream = False

    def __init__(self, tones: ToneWay = ToneWay.EXCURSION) -> None:
        self.tones = tones
        self.log: list[str] = []
        """Steps asked for, in order."""
        self.failures: dict[str, ControlError] = {}
        """By step."""
        self.gates: dict[str, asyncio.Event] = {}
        """Steps that wait for something."""
        self.whisper = Whisper("", 0)
        """Of the latest transfer."""
        self.words: list[str] = []
        """For callers, while they are joined."""
        self.comeback: Comeback | None = None
        self.digits = ""
        self.lines: list[Line] = []

    async def _step(self, name: str, line: Line) -> None:
        self.log.append(name)
        self.lines.append(line)
        if name in self.gates:
            await self.gates[name].wait()
        if name in self.failures:
            raise self.failures[name]

    async def hang_up(self, line: Line) -> None:
        """See ``CarrierControl``."""
        await self._step("hang up", line)

    async def play_tones(self, line: Line, digits: str, comeback: Comeback | None) -> None:
        """See ``CarrierControl``."""
        self.digits, self.comeback = digits, comeback
        await self._step("tones", line)

    async def transfer(self, line: Line, order: TransferOrder, whisper: Whisper) -> None:
        """See ``CarrierControl``."""
        self.whisper = whisper
        await self._step("transfer", line)

    async def ring_human(self, line: Line, order: TransferOrder, whisper: Whisper) -> str:
        """See ``CarrierControl``."""
        self.whisper = whisper
        await self._step("ring", line)
        return HUMAN_SID

    async def join(self, line: Line, human_sid: str, order: TransferOrder, whisper: Whisper, words: str) -> None:
        """See ``CarrierControl``."""
        assert human_sid == HUMAN_SID
        self.words.append(words)
        await self._step("join", line)

    async def drop_human(self, line: Line, human_sid: str) -> None:
        """See ``CarrierControl``."""
        assert human_sid == HUMAN_SID
        await self._step("drop", line)

    async def place(self, order: OutboundOrder) -> str:
        """See ``CarrierControl``."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """See ``CarrierControl``."""


def controlled(
    settings: Mapping[str, str] | None = None, tones: ToneWay = ToneWay.EXCURSION
) -> tuple[Bridge, FakeControl]:
    """A bridge that lets everybody in, and its carrier's control interface."""
    bridge = offline_bridge({"BRIDGE_AUTH": "off", "TRANSFER_ALLOW": HUMAN, **(settings or {})})
    control = FakeControl(tones)
    bridge.parts.controls["twilio"] = control
    return bridge, control


def tool_call(name: str, tool_call_id: str = "t1", **parameters: object) -> str:
    """The agent calls a client tool."""
    call = {"tool_name": name, "tool_call_id": tool_call_id, "parameters": parameters, "event_id": 1}
    return json.dumps({"type": "client_tool_call", "client_tool_call": call})


def results(table: Table) -> list[tuple[str, bool]]:
    """What the agent was answered to its tool calls: words, and whether they tell of an error."""
    messages = [json.loads(message) for message in table.agent.sent]
    found = [message for message in messages if message.get("type") == "client_tool_result"]
    return [(message["result"], message["is_error"]) for message in found]


__all__ = ["HUMAN", "HUMAN_SID", "FakeControl", "controlled", "fault", "results", "tool_call"]
