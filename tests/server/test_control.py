"""Orders of the operator to calls: done here, told apart from calls elsewhere and from none at all."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.server.api.ports import ControlResult
from bridge.server.control import CallControl
from bridge.server.live_calls import LiveCall, LiveCalls
from bridge.server.recording.manager import Recorder
from bridge.server.recording.options import RecordingOptions
from tests.kit.offline import offline_bridge
from tests.kit.server import until
from tests.kit.sessions import Table

ORDERS = ("hang_up", "pause_recording", "resume_recording")


@pytest.fixture
async def recorder(tmp_path: Path) -> AsyncIterator[Recorder]:
    made = Recorder(RecordingOptions(tmp_path, "wav", min_free_bytes=0))
    await made.open()
    yield made
    await made.close()


async def test_a_hang_up_ends_the_call_as_a_success() -> None:
    table = await Table().activate()
    assert await CallControl(table.bridge).hang_up(table.session.call_id) is ControlResult.DONE
    assert table.ends == {"success/operator_hangup": 1}
    assert (table.carrier.closed, table.agent.closed) == ([1000], [1000])
    assert (table.bridge.sessions, table.bridge.admission.active) == ({}, 0)
    record = table.records.last
    assert (record.reason, record.detail) == ("operator_hangup", "ended through the API")
    assert await CallControl(table.bridge).hang_up(table.session.call_id) is ControlResult.NOT_LIVE


async def test_who_waits_can_be_hung_up_too() -> None:
    bridge = offline_bridge(BRIDGE_AUTH="off", BRIDGE_MAX_CALLS="1", OVERFLOW="queue")
    first, second = await Table(bridge).activate(), Table(bridge).offer("CA00000000000000000000000000000002")
    await until(lambda: bridge.queued)
    assert await CallControl(bridge).hang_up(second.session.call_id) is ControlResult.DONE
    assert bridge.ended_counts == {"success/operator_hangup": 1}
    assert [call.call_id for call in bridge.live.here()] == [first.session.call_id]
    first.hang_up()
    await first.settled()


async def test_a_recording_is_paused_and_resumed(recorder: Recorder) -> None:
    bridge = offline_bridge(BRIDGE_AUTH="off", RECORDING="on")
    bridge.parts.recorder = recorder
    table = await Table(bridge).activate()
    tape = table.session.facts.tape
    assert tape is not None
    control, call_id = CallControl(bridge), table.session.call_id
    assert await control.pause_recording(call_id) is ControlResult.DONE
    assert [math.isfinite(end) for _, end in tape.pauses] == [False]
    assert await control.pause_recording(call_id) is ControlResult.DONE
    assert len(tape.pauses) == 1
    assert await control.resume_recording(call_id) is ControlResult.DONE
    assert [math.isfinite(end) for _, end in tape.pauses] == [True]
    table.hang_up()
    await table.settled()


async def test_a_call_that_is_not_recorded_has_nothing_to_pause() -> None:
    table = await Table().activate()
    control = CallControl(table.bridge)
    assert await control.pause_recording(table.session.call_id) is ControlResult.NOT_RECORDED
    assert await control.resume_recording(table.session.call_id) is ControlResult.NOT_RECORDED
    table.hang_up()


@pytest.mark.parametrize("order", ORDERS)
async def test_a_call_of_another_process_is_told_apart_from_none(monkeypatch: pytest.MonkeyPatch, order: str) -> None:
    bridge = offline_bridge()

    async def everybodys(_self: LiveCalls, most: int = 0) -> list[LiveCall]:
        return [
            LiveCall(
                call_id="call_far",
                instance_id="another",
                provider="twilio",
                direction="inbound",
                caller="",
                called="",
                state="active",
                started_at=1.0,
            )
        ]

    monkeypatch.setattr(LiveCalls, "all", everybodys)
    control = CallControl(bridge)
    assert await getattr(control, order)("call_far") is ControlResult.ELSEWHERE
    assert await getattr(control, order)("call_none") is ControlResult.NOT_LIVE
