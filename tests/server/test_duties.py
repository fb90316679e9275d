"""How a call that has ended leaves the line: by the carrier's control interface, or by its fallback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from bridge import outcome
from bridge.calls.effects import Speak, Words
from bridge.outcome import EndReason
from bridge.server import duties
from bridge.server.carrier_control import ControlFault
from bridge.server.duties import ENDS_TO_TELL, speak, wants_hang_up
from bridge.server.speech import Speaker
from tests.kit import convai, logs, twilio
from tests.kit.controls import FakeControl, controlled, fault, tool_call
from tests.kit.offline import offline_bridge
from tests.kit.server import until
from tests.kit.sessions import Table


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    with logs.captured() as captured:
        yield captured


async def ended(end: EndReason, *, apologised: bool = False, by_us: bool = True, fallback_to: str = "") -> Table:
    """A call that has ended so, as far as ``wants_hang_up`` looks at it."""
    bridge, _ = controlled({"FALLBACK_TO": fallback_to} if fallback_to else None)
    table = await Table(bridge).activate()
    call = table.session.call
    call.ended_as, call.ended_by_us, call.apologised = end, by_us, apologised
    return table


@pytest.mark.parametrize("end", outcome.CATALOGUE.values(), ids=str)
async def test_after_which_ends_the_line_is_hung_up(end: EndReason) -> None:
    table = await ended(end)
    assert wants_hang_up(table.session) is (end in ENDS_TO_TELL)


@pytest.mark.parametrize(
    ("end", "more", "wanted"),
    [
        (outcome.AGENT_LOST, {"apologised": True}, True),
        (outcome.AGENT_LOST, {"apologised": True, "fallback_to": "+15550111"}, False),
        (outcome.AGENT_HANGUP, {"fallback_to": "+15550111"}, True),
        (outcome.AGENT_HANGUP, {"by_us": False}, False),
        (outcome.CALLER_HANGUP, {"by_us": False}, False),
    ],
)
async def test_who_was_told_is_hung_up_on_unless_another_number_waits(
    end: EndReason, more: dict[str, Any], wanted: bool
) -> None:
    assert wants_hang_up((await ended(end, **more)).session) is wanted


async def test_without_an_end_or_an_interface_there_is_nothing_to_tell() -> None:
    bridge, _ = controlled()
    table = await Table(bridge).activate()
    assert not wants_hang_up(table.session)
    table.session.call.ended_as, table.session.call.ended_by_us = outcome.AGENT_HANGUP, True
    assert wants_hang_up(table.session)
    bridge.parts.controls.clear()
    assert not wants_hang_up(table.session)


async def to_its_end(control: FakeControl, table: Table) -> None:
    table.session.from_agent(tool_call("end_call", reason="done"))
    await until(lambda: twilio.marks(table.carrier.sent))
    for name in twilio.marks(table.carrier.sent):
        table.session.on_message(twilio.mark(name))
    await until(lambda: control.log)


async def test_the_carrier_is_told_before_the_socket_is_closed() -> None:
    bridge, control = controlled()
    control.gates["hang up"] = asyncio.Event()
    table = await Table(bridge).activate()
    await to_its_end(control, table)
    assert table.ends == {"success/agent_hangup": 1}
    assert table.carrier.closed == []
    control.gates["hang up"].set()
    await table.settled()
    assert (control.log, control.lines[0].call_sid) == (["hang up"], twilio.CALL_SID)
    assert table.carrier.closed == [1000]


async def test_a_carrier_that_is_slow_to_be_told_is_left_by_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duties, "HANG_UP_WAIT_S", 0.05)
    bridge, control = controlled()
    control.gates["hang up"] = asyncio.Event()
    table = await Table(bridge).activate()
    began_s = time.monotonic()
    await to_its_end(control, table)
    await until(lambda: table.carrier.closed)
    assert time.monotonic() - began_s >= 0.05
    assert not control.gates["hang up"].is_set()
    control.gates["hang up"].set()
    await table.settled()


async def test_a_carrier_that_refuses_is_left_by_the_socket(lines: list[dict[str, Any]]) -> None:
    bridge, control = controlled()
    control.failures["hang up"] = fault(ControlFault.REFUSED)
    table = await Table(bridge).activate()
    await to_its_end(control, table)
    await table.settled()
    assert table.carrier.closed == [1000]
    [line] = [line for line in lines if line["event"] == "hang_up_failed"]
    assert line["fault"] == "refused"


def test_a_slow_carrier_is_not_waited_for_long() -> None:
    assert duties.HANG_UP_WAIT_S == 1.0


# --- speech ----------------------------------------------------------------------------------------------


class Voice:
    """A ``Speaker`` that has this to say."""

    def __init__(self, payload: bytes | None) -> None:
        self.payload = payload
        self.asked: list[tuple[Words, str, str]] = []

    async def speech(self, words: Words, text: str, language: str, agent_id: str, media: object) -> bytes | None:
        self.asked.append((words, text, agent_id))
        return self.payload


@pytest.mark.parametrize("payload", [b"\x03" * 320, None])
async def test_a_text_for_the_caller(payload: bytes | None) -> None:
    bridge = offline_bridge(BRIDGE_AUTH="off")
    voice = Voice(payload)
    bridge.parts.speaker = cast(Speaker, voice)
    table = await Table(bridge).activate()
    await speak(table.session, Speak(Words.GIVEN, "One moment."))
    assert voice.asked == [(Words.GIVEN, "One moment.", "agent_1")]
    assert twilio.played(table.carrier.sent) == (payload or b"")
    assert table.session.facts.spoke_to_caller is (payload is not None)
    table.hang_up()


async def test_without_a_speaker_the_call_goes_on() -> None:
    table = await Table().activate()
    await speak(table.session, Speak(Words.GIVEN, "One moment."))
    assert not table.session.facts.spoke_to_caller
    table.session.from_agent(convai.audio(b"\x02" * 160))
    assert twilio.played(table.carrier.sent) == b"\x02" * 160
    table.hang_up()
