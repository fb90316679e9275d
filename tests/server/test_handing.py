"""Transfers and keypad tones, one step after the other: nobody is left alone, and the agent is answered once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest

from bridge.calls import tool_words
from bridge.calls.effects import RunTool
from bridge.calls.orders import HttpOrder
from bridge.calls.state import State
from bridge.calls.tool_words import ToolFailure
from bridge.events import CallInfo
from bridge.leg import ToneWay
from bridge.server import handing
from bridge.server.carrier_control import ControlFault
from bridge.server.http_tools import HttpTools, ToolFacts
from bridge.server.service import Bridge
from bridge.server.transfers import FAILURES, Verdict
from tests.kit import convai, logs, twilio
from tests.kit.controls import HUMAN, HUMAN_SID, FakeControl, controlled, fault, results, tool_call
from tests.kit.server import until
from tests.kit.sessions import Table

WARM = tool_call("transfer_to_number", transfer_number=HUMAN, client_message="One moment.", agent_message="A caller.")
BLIND = tool_call("transfer_to_number", transfer_number=HUMAN, transfer_type="blind")
TONES = tool_call("play_keypad_touch_tone", dtmf_tones="1w2#")
FAULTS = [
    (ControlFault.GONE, ToolFailure.CALLER_GONE),
    (ControlFault.REFUSED, ToolFailure.CARRIER_REFUSED),
    (ControlFault.BUSY, ToolFailure.CARRIER_DOWN),
    (ControlFault.DOWN, ToolFailure.CARRIER_DOWN),
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing, "DOUBT_S", 0.05)


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    with logs.captured() as captured:
        yield captured


async def asked_for(call: str, step: str) -> tuple[Table, FakeControl]:
    """A call whose agent has called this tool, up to the first step of the carrier's."""
    bridge, control = controlled()
    table = await Table(bridge).activate()
    table.session.from_agent(call)
    await until(lambda: step in control.log)
    return table, control


async def report(table: Table, control: FakeControl, verdict: Verdict) -> bool:
    return await table.bridge.transfers.report(control.whisper.transfer_id, verdict)


def assert_nothing_is_left(table: Table) -> None:
    bridge = table.bridge
    assert (bridge.sessions, bridge.admission.active, bridge.live.here()) == ({}, 0, [])
    assert bridge.transfers._waiting == {}
    assert table.session.side._tasks == set()


def end_of(table: Table) -> tuple[str, str, str]:
    record = table.records.last
    return record.state, record.result, record.reason


def failed(failure: ToolFailure) -> list[tuple[str, bool]]:
    return [(tool_words.transfer_failed(failure), True)]


async def back(bridge: Bridge, control: FakeControl) -> Table:
    """The carrier connects the stream of the call again."""
    assert control.comeback is not None
    return Table(bridge).offer(token=control.comeback.token)


# --- a human who is asked --------------------------------------------------------------------------------


async def test_a_human_who_accepts_gets_the_caller() -> None:
    table, control = await asked_for(WARM, "ring")
    assert (control.whisper.ring_s, control.whisper.accept_key, control.whisper.detect_machine) == (30, "", True)
    assert results(table) == [], "the caller stays with the agent meanwhile"
    assert await report(table, control, Verdict.ACCEPTED)
    await until(lambda: table.ends)
    await table.settled()
    assert table.ends == {"success/transferred": 1}
    assert control.log == ["ring", "join"]
    assert control.words == ["One moment."], "nobody has spoken to them otherwise"
    assert results(table) == [(tool_words.TRANSFERRED, False)]
    assert end_of(table) == ("ended", "success", "transferred")
    assert table.records.last.detail == "conference"
    assert_nothing_is_left(table)


async def test_words_that_were_spoken_already_are_not_said_again() -> None:
    table, control = await asked_for(WARM, "ring")
    table.session.facts.spoke_to_caller = True
    await report(table, control, Verdict.ACCEPTED)
    await until(lambda: table.ends)
    assert control.words == [""]


@pytest.mark.parametrize(("verdict", "failure"), FAILURES.items())
async def test_a_human_who_does_not_take_the_caller(verdict: Verdict, failure: ToolFailure) -> None:
    table, control = await asked_for(WARM, "ring")
    await report(table, control, verdict)
    await until(lambda: results(table))
    assert results(table) == failed(failure)
    assert control.log == ["ring", "drop"]
    assert table.session.call.state is State.ACTIVE
    table.session.from_agent(WARM.replace('"t1"', '"t2"'))
    await until(lambda: control.log.count("ring") == 2, "another try is possible")
    table.hang_up()
    await table.settled()
    assert_nothing_is_left(table)


async def test_a_human_who_never_says_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge, control = controlled()
    wait, waited = bridge.transfers.wait, []

    async def shorter(transfer_id: str, timeout_s: float) -> Verdict | None:
        waited.append(timeout_s)
        return await wait(transfer_id, 0.01)

    monkeypatch.setattr(bridge.transfers, "wait", shorter)
    table = await Table(bridge).activate()
    table.session.from_agent(WARM)
    await until(lambda: results(table))
    assert results(table) == failed(ToolFailure.NO_ANSWER)
    assert waited == [30 + handing.WHISPER_S]
    assert control.log == ["ring", "drop"]
    assert not await report(table, control, Verdict.ACCEPTED), "too late"
    table.hang_up()


async def test_accepting_in_the_very_last_moment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge, control = controlled()

    async def over(transfer_id: str, timeout_s: float) -> Verdict | None:
        assert await bridge.transfers.report(transfer_id, Verdict.ACCEPTED)  # on another process, say
        return None

    monkeypatch.setattr(bridge.transfers, "wait", over)
    table = await Table(bridge).activate()
    table.session.from_agent(WARM)
    await until(lambda: table.ends)
    assert table.ends == {"success/transferred": 1}
    assert control.log == ["ring", "join"]


async def still_talking(table: Table, control: FakeControl) -> None:
    """The human has accepted while the agent is finishing its sentence."""
    table.session.from_agent(convai.audio(b"\x01" * 8000))
    await report(table, control, Verdict.ACCEPTED)
    await until(lambda: table.session.side._hearing)
    assert "join" not in control.log


def has_heard(table: Table) -> None:
    for name in twilio.marks(table.carrier.sent):
        table.session.on_message(twilio.mark(name))


async def test_the_caller_hears_the_agents_sentence_first() -> None:
    table, control = await asked_for(WARM, "ring")
    await still_talking(table, control)
    await until(lambda: twilio.marks(table.carrier.sent))
    has_heard(table)
    await until(lambda: table.ends)
    assert control.log == ["ring", "join"]


async def test_a_human_who_leaves_before_the_caller_has_joined() -> None:
    table, control = await asked_for(WARM, "ring")
    await still_talking(table, control)
    assert not await table.bridge.transfers.left(control.whisper.transfer_id), "the caller is not to be hung up on"
    await until(lambda: twilio.marks(table.carrier.sent))
    has_heard(table)
    await until(lambda: results(table))
    assert results(table) == failed(ToolFailure.DECLINED)
    assert control.log == ["ring", "drop"]
    assert table.session.call.state is State.ACTIVE
    table.hang_up()


async def test_who_joins_a_human_that_has_just_left_is_hung_up_on() -> None:
    table, control = await asked_for(WARM, "ring")
    await report(table, control, Verdict.ACCEPTED)
    await until(lambda: table.ends)
    assert await table.bridge.transfers.left(control.whisper.transfer_id)


async def test_a_transfer_while_one_runs() -> None:
    table, control = await asked_for(WARM, "ring")
    table.session.from_agent(WARM.replace('"t1"', '"t2"'))
    table.session.from_agent(TONES.replace('"t1"', '"t3"'))
    assert results(table) == [(tool_words.tool_failed(ToolFailure.IN_PROGRESS), True)] * 2
    assert control.log == ["ring"]
    table.hang_up()


async def test_a_human_who_leaves_while_the_caller_is_being_joined() -> None:
    bridge, control = controlled()
    control.gates["join"] = asyncio.Event()
    table = await Table(bridge).activate()
    table.session.from_agent(WARM)
    await until(lambda: control.log == ["ring"])
    await report(table, control, Verdict.ACCEPTED)
    await until(lambda: control.log == ["ring", "join"])
    assert not await bridge.transfers.left(control.whisper.transfer_id), "they may still stay with the agent"
    control.gates["join"].set()
    await until(lambda: table.ends)
    assert control.log == ["ring", "join", "hang up"], "nobody is left alone in the room"
    assert table.ends == {"success/transferred": 1}


# --- a caller who hangs up -------------------------------------------------------------------------------


@pytest.mark.parametrize("answered", [True, False])
async def test_a_caller_who_hangs_up_while_the_human_is_being_called(answered: bool) -> None:
    """The request is on its way: whoever it calls must still be hung up on."""
    bridge, control = controlled()
    control.gates["ring"] = asyncio.Event()
    table = await Table(bridge).activate()
    table.session.from_agent(WARM)
    await until(lambda: control.log == ["ring"])
    table.hang_up()
    assert control.log == ["ring"]
    if not answered:
        control.failures["ring"] = fault(ControlFault.DOWN)
    control.gates["ring"].set()
    await table.settled()
    assert control.log == ["ring", "drop"] if answered else ["ring"]
    assert not await report(table, control, Verdict.ACCEPTED), "who answers all the same is told that nobody is there"
    assert end_of(table) == ("ended", "success", "caller_hangup")
    assert results(table) == [(tool_words.tool_failed(ToolFailure.CALLER_GONE), True)]
    assert_nothing_is_left(table)


@pytest.mark.parametrize("step", ["ringing", "draining"])
async def test_a_caller_who_hangs_up_before_joining(step: str) -> None:
    table, control = await asked_for(WARM, "ring")
    if step == "draining":
        await still_talking(table, control)
    table.hang_up()
    await table.settled()
    assert control.log == ["ring", "drop"]
    assert end_of(table) == ("ended", "success", "caller_hangup")
    assert results(table) == [(tool_words.tool_failed(ToolFailure.CALLER_GONE), True)]
    assert_nothing_is_left(table)


async def test_a_caller_who_hangs_up_while_being_joined() -> None:
    """The stream's end may be the joining, so it ends nothing yet; the carrier then says that nobody was there."""
    bridge, control = controlled()
    control.gates["join"] = asyncio.Event()
    control.failures["join"] = fault(ControlFault.GONE)
    table = await Table(bridge).activate()
    table.session.from_agent(WARM)
    await until(lambda: control.log == ["ring"])
    await report(table, control, Verdict.ACCEPTED)
    await until(lambda: control.log == ["ring", "join"])
    table.hang_up()
    assert table.ends == {}
    control.gates["join"].set()
    await until(lambda: table.ends)
    await table.settled()
    assert control.log == ["ring", "join", "drop"]
    assert end_of(table) == ("ended", "success", "caller_hangup")
    assert len(results(table)) == 1
    assert_nothing_is_left(table)


# --- a carrier that does not do it -----------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "failure"), FAULTS)
async def test_a_human_who_cannot_be_called(
    kind: ControlFault, failure: ToolFailure, lines: list[dict[str, Any]]
) -> None:
    bridge, control = controlled()
    control.failures["ring"] = fault(kind)
    table = await Table(bridge).activate()
    table.session.from_agent(WARM)
    await until(lambda: results(table))
    assert results(table) == failed(failure)
    assert control.log == ["ring"]
    assert not await report(table, control, Verdict.ACCEPTED), "the carrier may ring them all the same"
    [line] = [line for line in lines if line["event"] == "transfer_failed"]
    assert (line["kind"], line["fault"]) == ("conference", kind.value)
    assert table.session.call.state is State.ACTIVE
    table.hang_up()
    await table.settled()
    assert_nothing_is_left(table)


@pytest.mark.parametrize("kind", [ControlFault.REFUSED, ControlFault.DOWN])
async def test_a_caller_who_cannot_be_joined_stays_with_the_agent(kind: ControlFault) -> None:
    bridge, control = controlled()
    control.failures["join"] = fault(kind)
    table = await Table(bridge).activate()
    table.session.from_agent(WARM)
    await until(lambda: control.log == ["ring"])
    await report(table, control, Verdict.ACCEPTED)
    await until(lambda: results(table))
    assert control.log == ["ring", "join", "drop"]
    assert results(table)[0][1]
    assert not await bridge.transfers.left(control.whisper.transfer_id), "the human's leaving is not the caller's end"
    assert table.session.call.state is State.ACTIVE
    table.hang_up()
    assert table.ends == {"success/caller_hangup": 1}, "nobody waits for a stream to come back"


async def test_a_caller_who_was_joined_although_the_answer_got_lost(lines: list[dict[str, Any]]) -> None:
    bridge, control = controlled()
    control.gates["join"] = asyncio.Event()
    control.failures["join"] = fault(ControlFault.DOWN)
    table = await Table(bridge).activate()
    table.session.from_agent(WARM)
    await until(lambda: control.log == ["ring"])
    await report(table, control, Verdict.ACCEPTED)
    await until(lambda: control.log == ["ring", "join"])
    control.gates["join"].set()
    table.session.on_message(twilio.STOP)
    await until(lambda: table.ends)
    assert table.ends == {"success/transferred": 1}
    assert control.log == ["ring", "join"], "the human is with the caller"
    assert await bridge.transfers.human_of(twilio.CALL_SID) == HUMAN_SID
    assert "carried_out_unanswered" in [line["event"] for line in lines]


async def test_a_human_who_cannot_be_hung_up_on_is_said(lines: list[dict[str, Any]]) -> None:
    table, control = await asked_for(WARM, "ring")
    control.failures["drop"] = fault(ControlFault.DOWN)
    await report(table, control, Verdict.DECLINED)
    await until(lambda: results(table))
    [line] = [line for line in lines if line["event"] == "human_not_dropped"]
    assert line["fault"] == "down"
    table.hang_up()


@pytest.mark.parametrize("call", [WARM, TONES])
async def test_credentials_that_are_gone_since_the_call_began(call: str) -> None:
    bridge, _ = controlled()
    table = await Table(bridge).activate()
    bridge.parts.controls.clear()
    table.session.from_agent(call)
    await until(lambda: results(table))
    words = tool_words.transfer_failed if call is WARM else tool_words.tool_failed
    assert results(table) == [(words(ToolFailure.CARRIER_REFUSED), True)]
    table.hang_up()


# --- a caller who is sent on -----------------------------------------------------------------------------


async def sent_on() -> tuple[Table, FakeControl]:
    """A blind transfer that the carrier has begun: its stream has ended."""
    table, control = await asked_for(BLIND, "transfer")
    table.session.on_message(twilio.STOP)
    assert table.ends == {}
    assert table.session.call.is_away
    return table, control


async def test_a_blind_transfer() -> None:
    table, control = await sent_on()
    await report(table, control, Verdict.ACCEPTED)
    await until(lambda: table.ends)
    assert table.ends == {"success/transferred": 1}
    assert results(table) == [(tool_words.TRANSFERRED, False)]
    await table.settled()
    assert_nothing_is_left(table)


async def test_a_blind_transfer_of_which_nothing_is_heard_has_come_about(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge, _ = controlled()

    async def never(transfer_id: str, timeout_s: float) -> Verdict | None:
        return None

    monkeypatch.setattr(bridge.transfers, "wait", never)
    table = await Table(bridge).activate()
    table.session.from_agent(BLIND)
    await until(lambda: table.ends)
    assert table.ends == {"success/transferred": 1}


async def test_a_caller_who_was_sent_on_in_vain_is_back_with_the_same_agent() -> None:
    table, control = await sent_on()
    card = await table.bridge.transfers.card(control.whisper.transfer_id)
    assert card is not None
    control.comeback = await table.bridge.transfers.come_back(card)
    await report(table, control, Verdict.BUSY)
    await asyncio.sleep(0.01)
    assert results(table) == [], "the agent's next words are to reach the caller"
    second = await back(table.bridge, control)
    await until(lambda: results(table))
    assert results(table) == failed(ToolFailure.BUSY)
    assert list(table.bridge.sessions.values()) == [table.session]
    table.session.from_agent(convai.audio(b"\x02" * 160))
    assert twilio.played(second.carrier.sent) == b"\x02" * 160
    table.session.on_message(twilio.STOP)
    await table.settled()
    assert table.ends == {"success/caller_hangup": 1}
    assert table.agents.connected == 1
    assert_nothing_is_left(table)


async def test_news_of_a_failure_that_come_after_the_caller_do_not_keep_the_agent_waiting() -> None:
    table, control = await sent_on()
    card = await table.bridge.transfers.card(control.whisper.transfer_id)
    assert card is not None
    control.comeback = await table.bridge.transfers.come_back(card)
    await back(table.bridge, control)
    await until(lambda: not table.session.call.is_away)
    await report(table, control, Verdict.NO_ANSWER)
    await until(lambda: results(table), timeout_s=2.0)
    assert not table.session.call.is_waited_for, "the stream's next end is the caller's"
    table.session.on_message(twilio.STOP)
    assert table.ends == {"success/caller_hangup": 1}


@pytest.mark.parametrize(("kind", "failure"), FAULTS)
async def test_a_caller_who_cannot_be_sent_on(kind: ControlFault, failure: ToolFailure) -> None:
    bridge, control = controlled()
    control.failures["transfer"] = fault(kind)
    table = await Table(bridge).activate()
    table.session.from_agent(BLIND)
    await until(lambda: results(table))
    assert results(table) == failed(failure)
    assert table.session.call.state is State.ACTIVE
    table.hang_up()
    assert table.ends == {"success/caller_hangup": 1}


async def test_a_caller_who_was_sent_on_although_the_answer_got_lost() -> None:
    bridge, control = controlled()
    control.failures["transfer"] = fault(ControlFault.DOWN)
    table = await Table(bridge).activate()
    table.session.from_agent(BLIND)
    await until(lambda: control.log == ["transfer"])
    table.session.on_message(twilio.STOP)
    await asyncio.sleep(0.1)
    assert table.ends == {}
    await report(table, control, Verdict.ACCEPTED)
    await until(lambda: table.ends)
    assert table.ends == {"success/transferred": 1}


# --- keys ------------------------------------------------------------------------------------------------


async def test_keys_that_take_the_stream_away_and_back() -> None:
    table, control = await asked_for(TONES, "tones")
    assert control.digits == "1w2#"
    table.session.on_message(twilio.STOP)
    assert results(table) == []
    await back(table.bridge, control)
    await until(lambda: results(table))
    assert results(table) == [(tool_words.KEYS_PRESSED, False)]
    assert 'bridge_dtmf_total{direction="out"} 3.0' in table.bridge.metrics.render().decode()
    assert table.session.call.state is State.ACTIVE
    table.session.on_message(twilio.STOP)
    assert table.ends == {"success/caller_hangup": 1}
    await table.settled()
    assert_nothing_is_left(table)


async def test_keys_that_the_carrier_presses_beside_the_stream() -> None:
    bridge, control = controlled(tones=ToneWay.CONTROL)
    table = await Table(bridge).activate()
    table.session.from_agent(TONES)
    await until(lambda: results(table))
    assert (control.log, control.comeback) == (["tones"], None)
    assert results(table) == [(tool_words.KEYS_PRESSED, False)]
    table.hang_up()
    assert table.ends == {"success/caller_hangup": 1}


@pytest.mark.parametrize(("kind", "failure"), FAULTS)
async def test_keys_that_cannot_be_pressed(kind: ControlFault, failure: ToolFailure) -> None:
    bridge, control = controlled()
    control.failures["tones"] = fault(kind)
    table = await Table(bridge).activate()
    table.session.from_agent(TONES)
    await until(lambda: results(table))
    assert results(table) == [(tool_words.tool_failed(failure), True)]
    assert not table.session.call.is_waited_for
    table.hang_up()


async def test_a_stream_that_does_not_come_back_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing, "RETURN_S", -2.5)
    table, _ = await asked_for(TONES, "tones")
    table.session.on_message(twilio.STOP)
    await until(lambda: table.ends)
    assert table.ends == {"indeterminate/carrier_lost": 1}
    assert len(results(table)) == 1
    await table.settled()
    assert_nothing_is_left(table)


@pytest.mark.parametrize(("digits", "seconds"), [("", 0.0), ("1", 0.7), ("1w2#", 2.6), ("wW", 1.5)])
def test_how_long_keys_take(digits: str, seconds: float) -> None:
    assert handing.duration_s(digits) == pytest.approx(seconds)


# --- whose line it is, and other tools -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("direction", "caller", "called"), [("inbound", "+1", "+2"), ("outbound", "+2", "+1")], ids=["in", "out"]
)
async def test_the_line_as_control_requests_name_it(direction: str, caller: str, called: str) -> None:
    bridge, _ = controlled()
    table = await Table(bridge).activate()
    table.session.call.info = CallInfo(provider="twilio", call_sid="CA9", caller="+1", called="+2", direction=direction)
    line = handing.line_of(table.session)
    assert (line.call_sid, line.caller, line.called, line.direction) == ("CA9", caller, called, direction)
    table.hang_up()


class Tools:
    """``HttpTools`` that answer at once."""

    def __init__(self) -> None:
        self.asked: list[tuple[HttpOrder, ToolFacts]] = []

    async def run(self, order: HttpOrder, facts: ToolFacts) -> tuple[str, bool]:
        self.asked.append((order, facts))
        return "It is sunny.", False


async def test_the_operators_tools_are_told_whose_call_it_is() -> None:
    bridge, _ = controlled()
    table = await Table(bridge).activate()
    tools = Tools()
    bridge.parts.http_tools = cast(HttpTools, tools)
    order = HttpOrder("weather", {"city": "Ulm"})
    await handing.run_tool(table.session, RunTool(order, "t9"))
    [(asked, facts)] = tools.asked
    assert (asked, facts.call_id, facts.conversation_id) == (order, table.session.call_id, convai.CONVERSATION_ID)
    bridge.parts.http_tools = None
    await handing.run_tool(table.session, RunTool(order, "t9"))
    table.hang_up()
