"""The driver of a call, with sockets that only write down: bugs stay inside their call, ends come once."""

from __future__ import annotations

import asyncio
import dataclasses
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge import outcome
from bridge.calls.call import Call
from bridge.calls.effects import TransferPlanned
from bridge.calls.state import State
from bridge.events import CallInfo, Ended, Event, Offered
from bridge.leg import CloseSocket, Outgoing
from bridge.media.format import ULAW_8K
from bridge.providers.twilio import SPEC
from bridge.server.convai_client import AgentConnectError
from bridge.server.parts import speech_options
from bridge.server.speech import Speaker
from tests.kit import convai, logs, twilio
from tests.kit.legs import FAKE_SPEC, REQUEST, FakeLeg
from tests.kit.offline import offline_bridge
from tests.kit.server import until
from tests.kit.sessions import Table, Wire


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
    assert table.session.caller_to_agent.count >= 1  # a sample of them is timed
    assert table.session.agent_to_caller.count == 1
    table.session.from_agent(convai.interruption(1))
    assert twilio.sent(table.carrier.sent)[-1]["event"] == "clear"
    assert sum(table.bridge.metrics.interruption_to_clear.counts) == 1
    table.session.from_agent(convai.ping(1, 80.0))
    assert table.bridge.metrics.agent_round_trip.total_s == pytest.approx(0.08)
    table.session.end(outcome.DRAINING)
    assert table.bridge.metrics.caller_to_agent.count == table.session.caller_to_agent.count  # taken over at the end
    assert table.bridge.metrics.agent_to_caller.count == 1


@pytest.mark.parametrize(
    "method",
    [
        "relay_to_agent",
        "carrier_message",
        "relay_to_caller",
        "agent_message",
        "release_audio",
        "handle_timer",
        "set_carrier_writable",
    ],
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
        "release_audio": lambda: table.session._on_timer(),
        "handle_timer": lambda: table.session.step(table.session.call.handle_timer),
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
    await until(lambda: table.agents.targets)
    table.session.on_message(twilio.STOP)
    assert table.ends == {"success/caller_hangup": 1}
    await until(lambda: table.agents.cancelled)
    assert table.agent.sent == []


@pytest.mark.parametrize("turns", range(6))
async def test_a_call_may_end_at_any_moment_of_its_beginning(turns: int) -> None:
    """Also before the task that decides about it has run at all."""
    table = Table()
    table.session.on_message(twilio.start())
    for _ in range(turns):
        await asyncio.sleep(0)
    table.session.on_message(twilio.STOP)
    await table.settled()
    assert table.ends == {"success/caller_hangup": 1}
    assert (table.bridge.sessions, table.bridge.admission.active, table.bridge.live.here()) == ({}, 0, [])
    assert table.agent.closed == [1000] * table.agents.connected
    assert table.records.last.state == "ended"


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


class Polite(FakeLeg):
    """A leg whose carrier is given a moment to close the socket itself."""

    def __init__(self) -> None:
        super().__init__()
        self.coming = [Offered(CallInfo(provider="fake", call_sid="F1"), (ULAW_8K,))]
        self.closes_at_s = 0.0
        self.out: list[Outgoing] = []

    def lingering(self) -> bool:
        return self.over

    def next_timer(self) -> float:
        return self.closes_at_s if self.over and self.closes_at_s else super().next_timer()

    def send(self, command: object, now: float) -> None:
        super().send(command, now)  # type: ignore[arg-type]
        if self.over:
            self.closes_at_s = now + 0.02

    def handle_timer(self, now: float) -> list[Event]:
        if self.closes_at_s and now >= self.closes_at_s:
            self.closes_at_s = 0.0
            self.out.append(CloseSocket(1000, ""))
        return []

    def drain(self) -> list[Outgoing]:
        out, self.out = self.out, []
        return out


async def test_a_leg_with_a_parting_is_waited_for_after_its_call() -> None:
    table = Table(spec=dataclasses.replace(FAKE_SPEC, new_leg=lambda *_: Polite()))
    table.session.on_message("the offer")
    await until(lambda: table.agent.sent)
    table.session.end(outcome.OPERATOR_HANGUP)
    assert (table.bridge.sessions, table.bridge.admission.active) == ({}, 0), "the slot is not the parting's"
    assert table.bridge.parting == {table.session}
    waiting = asyncio.create_task(table.settled())
    await until(lambda: table.carrier.closed == [1000], "the leg's own timer was not kept")
    assert not waiting.done()
    table.session.on_lost(1000, "")
    await waiting
    assert table.bridge.parting == set()
    assert table.ends == {"success/operator_hangup": 1}


async def test_a_leg_without_a_parting_is_not_waited_for() -> None:
    class Curt(FakeLeg):
        def receive(self, message: str | bytes, now: float) -> list[Event]:
            return [Ended(outcome.CALLER_HANGUP)]

    table = Table(spec=dataclasses.replace(FAKE_SPEC, new_leg=lambda *_: Curt()))
    table.session.on_message("the end")
    assert (table.ends, table.bridge.parting) == ({"success/caller_hangup": 1}, set())
    assert table.records.puts == [], "nobody offered a call"


async def test_the_agents_socket_reports_to_its_call(lines: list[dict[str, Any]]) -> None:
    table = await Table(offline_bridge(BRIDGE_AUTH="off", AGENT_RECONNECT="off")).connect()
    owner = table.agents.owner
    assert owner is not None
    owner.on_message(convai.metadata())
    assert table.session.call.state is State.ACTIVE
    owner.on_writable(False)
    table.session.on_message(twilio.media(b"\x01" * 160))
    assert convai.uploaded(table.agent.sent) == []
    owner.on_writable(True)
    assert convai.uploaded(table.agent.sent) == [b"\x01" * 160]
    owner.on_lost(1011, "crash")
    assert table.ends == {"upstream_error/agent_crashed": 1}
    assert [line["event"] for line in lines if line["event"].startswith("agent_")] == [
        "agent_ready",
        "agent_stuck",
        "agent_writable",
    ]


# --- another connection to the agent ---------------------------------------------------------------------


def state_of(table: Table) -> str:
    return table.session.call.state.value


async def test_an_agent_that_is_lost_is_connected_once_more(lines: list[dict[str, Any]]) -> None:
    table = await Table().activate()
    table.session.from_agent(convai.user_transcript("Where is my order?"))
    first, old_wire = table.agents.owner, table.agent
    assert first is not None
    table.agents.wire = table.agent = Wire()
    first.on_lost(1006, "")
    assert state_of(table) == "reconnecting"
    await until(lambda: table.agent.sent, "no second connection")
    assert "Where is my order?" in table.agent.sent[0]
    second = table.agents.owner
    assert second is not None and second is not first
    first.on_message(convai.interruption(9))
    first.on_writable(False)
    first.on_lost(1000, "")
    first.on_open(old_wire.socket)
    assert old_wire.closed[-1] == 1000, "a connection that comes too late is closed"
    assert state_of(table) == "reconnecting", "the first connection has no say any more"
    second.on_message(convai.metadata())
    assert state_of(table) == "active"
    table.session.on_message(twilio.media(b"\x01" * 160))
    assert convai.uploaded(table.agent.sent) == [b"\x01" * 160]
    second.on_lost(1006, "")
    assert table.ends == {"upstream_error/agent_lost": 1}, "once"
    text = table.bridge.metrics.render().decode()
    assert 'bridge_agent_reconnects_total{outcome="tried"} 1.0' in text
    assert 'bridge_agent_reconnects_total{outcome="succeeded"} 1.0' in text
    events = [line["event"] for line in lines if line["event"].startswith("agent_")]
    assert events == ["agent_ready", "agent_broke", "agent_back"]
    assert len(table.records.last.conversation_ids) == 2


async def test_an_agent_that_cannot_be_connected_again_ends_the_call() -> None:
    table = await Table().activate()
    table.agents.failure = AgentConnectError(outcome.AGENT_QUOTA, "HTTP 429")
    table.session.agent_lost(1006, "")
    await until(lambda: table.ends)
    assert table.ends == {"upstream_error/agent_quota": 1}
    assert len(table.agents.targets) == 2


async def test_a_connection_that_fails_after_the_call_gave_up_does_not_cut_the_apology_short(tmp_path: Path) -> None:
    apology = tmp_path / "default.wav"
    with wave.open(str(apology), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\x00\x10" * 16000)
    bridge = offline_bridge(BRIDGE_AUTH="off", APOLOGY_AUDIO=str(apology), AGENT_RECONNECT_S="0.05")
    speaker = Speaker(speech_options(bridge.settings), httpx.AsyncClient())
    bridge.parts.speaker = speaker
    table = await Table(bridge).activate()
    table.agents.go_on.clear()
    table.agents.failure = AgentConnectError(outcome.AGENT_UNREACHABLE, "too late")
    table.session.agent_lost(1006, "")
    await until(lambda: table.session.call.apologised, "no apology")
    table.agents.go_on.set()
    await asyncio.sleep(0.02)
    assert table.ends == {}, "the caller is still being told"
    await until(lambda: twilio.marks(table.carrier.sent), timeout_s=5.0)
    for name in twilio.marks(table.carrier.sent):
        table.session.on_message(twilio.mark(name))
    await until(lambda: table.ends)
    assert table.ends == {"upstream_error/agent_lost": 1}


async def test_audio_that_must_be_converted_takes_the_longer_way() -> None:
    table = await Table().connect()
    table.session.from_agent(convai.metadata("pcm_16000", "pcm_16000"))
    table.session.on_message(twilio.media(b"\x01" * 160))
    assert [len(payload) for payload in convai.uploaded(table.agent.sent)] == [640]
    table.session.from_agent(convai.audio(b"\x00" * 640))
    assert len(twilio.played(table.carrier.sent)) == 160
    table.hang_up()


class Odd(FakeLeg):
    """A leg that sends what Twilio's never does, and does not mind losing its socket."""

    def __init__(self) -> None:
        super().__init__()
        self.coming = [Offered(CallInfo(provider="fake", call_sid="F1"), (ULAW_8K,))]
        self.out: list[Outgoing] = []

    def drain(self) -> list[Outgoing]:
        out, self.out = self.out, []
        return out

    def connection_lost(self, code: int, now: float) -> list[Event]:
        return []


async def odd_call() -> tuple[Table, Odd]:
    leg = Odd()
    table = Table(spec=dataclasses.replace(FAKE_SPEC, new_leg=lambda *_: leg))
    table.session.on_message("the offer")
    await until(lambda: table.agent.sent)
    return table, leg


async def test_whatever_a_leg_sends_goes_its_way() -> None:
    table, leg = await odd_call()
    leg.out = ["text", b"\x01\x02", CloseSocket(1013)]
    table.session.note("anything")
    assert (table.carrier.sent, table.carrier.binary) == (["text"], [b"\x01\x02"])
    assert table.carrier.closed == [1013]
    table.session.end(outcome.DRAINING)


async def test_a_lost_socket_ends_its_call_whatever_the_leg_says() -> None:
    table, leg = await odd_call()
    table.session.on_lost(1006, "")
    assert table.ends == {"indeterminate/carrier_lost": 1}
    assert table.records.last.detail == "close 1006"
    leg.out = ["to nobody"]
    table.session.note("anything")
    assert table.carrier.sent == []


async def test_a_planned_transfer_is_told_of() -> None:
    bridge = offline_bridge(BRIDGE_AUTH="off", WEBHOOK_URL="https://hooks.example/x", WEBHOOK_SECRET="s")
    table = await Table(bridge).activate()
    table.session.call._effects.append(TransferPlanned("sales"))
    table.session.note("anything")
    assert table.records.events == ["call.started", "call.answered", "call.transferred"]
    [event] = table.records.puts[-1][1]
    assert b'"sales"' in event.body
    table.hang_up()


async def test_a_remark_reaches_log_and_record(lines: list[dict[str, Any]]) -> None:
    table = await Table().activate()
    table.session.note("recording_paused")
    assert lines[-1]["event"] == "recording_paused"
    table.hang_up()
    table.session.note("too_late")
    assert "recording_paused" in [step.event for step in table.records.last.journal.steps]
    assert "too_late" not in [line["event"] for line in lines]


async def test_the_steps_of_a_call_in_the_log(lines: list[dict[str, Any]]) -> None:
    table = await Table().activate()
    table.hang_up()
    steps = ["carrier_connected", "call_started", "agent_ready", "call_ended"]
    assert [line["event"] for line in lines] == steps
    assert {line["call_id"] for line in lines} == {table.session.call_id}
    started, ready, ended = lines[1:]
    assert (started["call_sid"], started["admission"], started["agent_id"]) == (twilio.CALL_SID, "granted", "agent_1")
    assert ready["detail"] == "audio passes unchanged"
    assert (ended["conversation_id"], ended["result"]) == (convai.CONVERSATION_ID, "success")
