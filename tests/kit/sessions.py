"""A call's driver with sockets that only write down, on a bridge without a port."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

from bridge.config import Settings
from bridge.leg import CarrierSpec
from bridge.providers.twilio import SPEC
from bridge.server.convai_client import AgentClient, AgentTarget
from bridge.server.service import Bridge
from bridge.server.session import Session
from bridge.server.sockets import MediaSocket, SocketOwner
from tests.kit import convai, twilio
from tests.kit.legs import REQUEST
from tests.kit.offline import Records, offline_bridge, records_of
from tests.kit.server import until


class Wire:
    """Stands in for a media socket."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.binary: list[bytes] = []
        self.closed: list[int] = []
        self.was_cut = False

    def send_text(self, message: str) -> None:
        """See ``MediaSocket``."""
        self.sent.append(message)

    def send_binary(self, message: bytes) -> None:
        """See ``MediaSocket``."""
        self.binary.append(message)

    def close(self, code: int = 1000, words: str = "") -> None:
        """See ``MediaSocket``."""
        self.closed.append(code)

    def cut(self) -> None:
        """See ``MediaSocket``."""
        self.was_cut = True

    def hand_over(self, owner: SocketOwner) -> None:
        """See ``MediaSocket``."""
        owner.on_open(self.socket)

    @property
    def socket(self) -> MediaSocket:
        """As the sessions see it."""
        return cast(MediaSocket, self)


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class Agents:
    """Connects every call to ``wire``, or never, or fails as told. A dataclass, because a reload replaces settings."""

    wire: Wire
    failure: Exception | None = None
    settings: Settings | None = None
    go_on: asyncio.Event = field(default_factory=_set)
    """Connections wait for it."""
    targets: list[AgentTarget] = field(default_factory=list)
    cancelled: int = 0
    connected: int = 0
    owner: SocketOwner | None = None
    """Who was told of the latest connection."""

    async def connect(self, target: AgentTarget, owner: SocketOwner) -> None:
        """See ``AgentClient``."""
        self.targets.append(target)
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure
        self.connected += 1
        self.owner = owner
        owner.on_open(self.wire.socket)


class Table:
    """A session with both its sockets. Without a ``bridge`` it gets one that lets everybody in."""

    def __init__(
        self, bridge: Bridge | None = None, *, failure: Exception | None = None, spec: CarrierSpec = SPEC
    ) -> None:
        self.bridge = bridge if bridge is not None else offline_bridge(BRIDGE_AUTH="off")
        self.carrier, self.agent = Wire(), Wire()
        self.agents = Agents(self.agent, failure)
        self.bridge.parts.agents = cast(AgentClient, self.agents)
        self.session: Session = self.bridge.new_session(spec, REQUEST)
        self.session.on_open(self.carrier.socket)

    def offer(self, call_sid: str = twilio.CALL_SID, **parameters: str) -> Table:
        """The carrier offers the call."""
        self.session.on_message(twilio.start(parameters).replace(twilio.CALL_SID, call_sid))
        return self

    async def connect(self, call_sid: str = twilio.CALL_SID, **parameters: str) -> Table:
        """Offer the call, and wait until the agent is told of it."""
        self.offer(call_sid, **parameters)
        await until(lambda: self.agent.sent, "the agent was not told of the call")
        return self

    async def activate(self, call_sid: str = twilio.CALL_SID, **parameters: str) -> Table:
        """Connect the call, and the agent is ready."""
        await self.connect(call_sid, **parameters)
        self.session.from_agent(convai.metadata())
        return self

    def hang_up(self) -> None:
        """The caller hangs up."""
        self.session.on_message(twilio.STOP)

    async def settled(self) -> None:
        """Wait until nothing goes on after the call's end."""
        await self.bridge.wait_partings(5.0)

    @property
    def ends(self) -> dict[str, int]:
        """How many calls of the bridge ended how."""
        return self.bridge.ended_counts

    @property
    def records(self) -> Records:
        """What the bridge wrote down."""
        return records_of(self.bridge)
