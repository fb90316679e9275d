"""The driver of a call, with sockets that only write down: bugs stay inside their call, ends come once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest

from bridge import outcome
from bridge.calls.call import Call
from bridge.providers.twilio import SPEC
from bridge.server.convai_client import AgentClient
from bridge.server.service import Bridge
from bridge.server.session import Session
from bridge.server.sockets import MediaSocket, SocketOwner
from tests.kit import convai, logs, twilio
from tests.kit.legs import REQUEST
from tests.kit.offline import offline_bridge
from tests.kit.server import until


class Wire:
    """Stands in for a media socket."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.closed: list[int] = []
        self.was_cut = False

    def send_text(self, message: str) -> None:
        self.sent.append(message)

    def close(self, code: int = 1000, words: str = "") -> None:
        self.closed.append(code)

    def cut(self) -> None:
        self.was_cut = True

    @property
    def socket(self) -> MediaSocket:
        return cast(MediaSocket, self)


class Agents:
    """Connects every call to ``wire``, or never, or fails as told."""

    def __init__(self, wire: Wire, failure: Exception | None = None) -> None:
        self.wire, self.failure = wire, failure
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.cancelled = 0

    async def connect(self, agent_id: str, owner: SocketOwner) -> None:
        assert agent_id == "agent_1"
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure
        owner.on_open(self.wire.socket)


class Table:
    """A session with both its sockets."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.bridge: Bridge = offline_bridge(BRIDGE_AUTH="off")
        self.carrier, self.agent = Wire(), Wire()
        self.agents = Agents(self.agent, failure)
        self.bridge.agents = cast(AgentClient, self.agents)
        self.session: Session = self.bridge.new_session(SPEC, REQUEST)
        self.session.on_open(self.carrier.socket)

    async def activate(self) -> Table:
        self.session.on_message(twilio.start())
        await until(lambda: self.agent.sent)
        self.session.from_agent(convai.metadata())
        return self

    @property
    def ends(self) -> dict[str, int]:
        return self.bridge.ended_counts


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    with logs.captured() as captured:
        yield captured


def explode(*_args: object) -> None:
    raise ZeroDivisionError("a mistake of ours")


async def test_a_message_goes_through_in_one_step() -> None:
    table = await Table().activate()
    for number in range(8):
        before = len(table.agent.sent)
        table.session.on_message(twilio.media(bytes([number]) * 160))
        assert convai.uploaded(table.agent.sent[before:]) == [bytes([number]) * 160]
    table.session.from_agent(convai.audio(b"\x02" * 160))
    assert twilio.played(table.carrier.sent) == b"\x02" * 160
    assert sum(table.bridge.metrics.caller_to_agent.counts) >= 1  # a sample of them is timed
    assert sum(table.bridge.metrics.agent_to_caller.counts) == 1
    table.session.from_agent(convai.interruption(1))
    assert twilio.sent(table.carrier.sent)[-1]["event"] == "clear"
    assert sum(table.bridge.metrics.interruption_to_clear.counts) == 1
    table.session.from_agent(convai.ping(1, 80.0))
    assert table.bridge.metrics.agent_round_trip.total_s == pytest.approx(0.08)
    table.session.end(outcome.DRAINING)


@pytest.mark.parametrize(
    "method",
    ["relay_to_agent", "carrier_message", "relay_to_caller", "agent_message", "handle_timer", "set_carrier_writable"],
)
async def test_a_bug_ends_its_own_call_and_no_other(
    monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]], method: str
) -> None:
    table = await Table().activate()
    other = table.bridge.new_session(SPEC, REQUEST)
    monkeypatch.setattr(Call, method, explode)
    {
        "relay_to_agent": lambda: table.session.on_message(twilio.media(b"\x01")),
        "carrier_message": lambda: table.session.on_message(twilio.dtmf("1")),
        "relay_to_caller": lambda: table.session.from_agent(convai.audio(b"\x01")),
        "agent_message": lambda: table.session.from_agent(convai.ping(1)),
        "handle_timer": lambda: table.session._on_timer(),
        "set_carrier_writable": lambda: table.session.on_writable(False),
    }[method]()
    assert table.ends == {"server_error/bug": 1}
    assert (table.carrier.closed, table.agent.closed) == ([1000], [1000])
    assert list(table.bridge.sessions) == [other.call_id]
    assert table.bridge.admission.active == 0
    [bug] = [line for line in lines if line["event"] == "bug"]
    assert bug["exc_info"]
    table.bridge.call_over(other, outcome.NO_START)


async def test_a_bug_in_ending_lets_go_of_both_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    table = await Table().activate()
    monkeypatch.setattr(Call, "carrier_message", explode)
    monkeypatch.setattr(Call, "fail", explode)
    table.session.on_message(twilio.STOP)
    assert (table.carrier.was_cut, table.agent.was_cut) == (True, True)
    assert table.ends == {"server_error/bug": 1}
    assert (table.bridge.sessions, table.bridge.admission.active) == ({}, 0)


async def test_a_bug_in_connecting(lines: list[dict[str, Any]]) -> None:
    table = Table(failure=ZeroDivisionError())
    table.session.on_message(twilio.start())
    await until(lambda: table.ends)
    assert table.ends == {"server_error/bug": 1}
    assert table.carrier.closed == [1000]


async def test_a_call_that_ends_while_its_agent_is_being_connected() -> None:
    table = Table()
    table.agents.go_on.clear()
    table.session.on_message(twilio.start())
    await asyncio.sleep(0)
    table.session.on_message(twilio.STOP)
    assert table.ends == {"success/caller_hangup": 1}
    await until(lambda: table.agents.cancelled)
    assert table.agent.sent == []


async def test_an_agents_socket_that_opens_too_late_is_closed() -> None:
    table = await Table().activate()
    table.session.on_message(twilio.STOP)
    late = Wire()
    table.session.agent_open(late.socket)
    assert (late.closed, late.sent) == ([1000], [])


async def test_whatever_comes_after_the_end_changes_nothing() -> None:
    table = await Table().activate()
    table.session.on_message(twilio.STOP)
    sent = (len(table.carrier.sent), len(table.agent.sent))
    table.session.on_message(twilio.STOP)
    table.session.on_message("rubbish")
    table.session.from_agent(convai.audio(b"\x01" * 160))
    table.session.on_writable(False)
    table.session.agent_writable(False)
    table.session.agent_lost(1011, "x")
    table.session.on_lost(1006, "")
    table.session.end(outcome.DRAINING)
    assert table.ends == {"success/caller_hangup": 1}
    assert (len(table.carrier.sent), len(table.agent.sent)) == sent
    assert table.bridge.metrics.render().decode().count("bridge_calls_ended_total{") == 1


async def test_a_stuck_carrier_gets_nothing_until_it_moves(lines: list[dict[str, Any]]) -> None:
    table = await Table().activate()
    table.session.on_writable(False)
    table.session.from_agent(convai.audio(b"\x02" * 320))
    assert twilio.played(table.carrier.sent) == b""
    table.session.on_writable(True)
    assert twilio.played(table.carrier.sent) == b"\x02" * 320
    assert [line["event"] for line in lines if line["event"].startswith("carrier_")] == [
        "carrier_connected",
        "carrier_stuck",
        "carrier_writable",
    ]
    table.session.end(outcome.DRAINING)


async def test_no_timer_outlives_its_call() -> None:
    table = await Table().activate()
    table.session.from_agent(convai.audio(b"\x02" * 16_000))
    assert table.session._timer is not None
    table.session.end(outcome.DRAINING)
    assert table.session._timer is None
