"""What goes on beside a call and after it: recordings begun, paused and finished, and results that come late."""

from __future__ import annotations

import asyncio
import dataclasses
import wave
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.errors import LocalError
from bridge.providers.twilio import SPEC
from bridge.server import aftermath, results
from bridge.server.listening import pause_recording, resume_recording
from bridge.server.recording.manager import Recorder
from bridge.server.recording.options import RecordingOptions
from bridge.server.service import Bridge
from tests.kit import convai, logs, twilio
from tests.kit.offline import Answer, offline_bridge, unavailable
from tests.kit.server import until
from tests.kit.sessions import Table

TAKING = dataclasses.replace(SPEC, takes_results=True)
DONE: dict[str, object] = {"status": "done", "analysis": {"data_collection_results": {"wish": {"value": "refund"}}}}


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    with logs.captured() as captured:
        yield captured


@pytest.fixture
async def recorder(tmp_path: Path) -> AsyncIterator[Recorder]:
    made = Recorder(RecordingOptions(tmp_path, "wav", min_free_bytes=0))
    await made.open()
    yield made
    await made.close()


def bridge_with(recorder: Recorder | None, answer: Answer = unavailable, **settings: str) -> Bridge:
    given = {"BRIDGE_AUTH": "off", "RECORDING": "on", **settings}
    bridge = offline_bridge(given, answer=answer)
    bridge.parts.recorder = recorder
    return bridge


# --- recordings ------------------------------------------------------------------------------------------


async def test_a_call_is_recorded_from_first_to_last(recorder: Recorder, tmp_path: Path) -> None:
    table = await Table(bridge_with(recorder)).activate()
    records = table.records
    begun = records.puts[0][0].recording
    assert begun is not None
    assert (begun.complete, recorder.active) == (False, 1), "the record says from the first where the audio will be"
    table.session.on_message(twilio.media(b"\x01" * 160))
    table.session.from_agent(convai.audio(b"\x02" * 160))
    assert convai.uploaded(table.agent.sent) == [b"\x01" * 160], "the agent hears no less for it"
    assert twilio.played(table.carrier.sent) == b"\x02" * 160
    table.hang_up()
    assert (records.last.state, records.last.recording) == ("ended", begun), "the end does not wait for the disk"
    await table.settled()
    done = records.last.recording
    assert done is not None
    assert (done.complete, done.location, recorder.active) == (True, begun.location, 0)
    assert done.size_bytes == (tmp_path / done.location).stat().st_size
    with wave.open(str(tmp_path / done.location)) as file:
        assert (file.getnchannels(), file.getframerate()) == (2, 8000)
    assert records.states == ["connecting", "active", "ended", "ended"]


@pytest.mark.parametrize("recording", ["off", "on"])
async def test_only_who_is_meant_to_be_is_recorded(recorder: Recorder, recording: str) -> None:
    there = recorder if recording == "off" else None  # not wanted, or not to be had
    table = await Table(bridge_with(there, RECORDING=recording)).activate()
    assert recorder.active == 0
    assert table.session.facts.tape is None
    assert (pause_recording(table.session), resume_recording(table.session)) == (False, False)
    table.hang_up()
    await table.settled()
    assert table.records.last.recording is None
    assert table.records.states == ["connecting", "active", "ended"], "nothing to add afterwards"


async def test_a_call_that_is_refused_is_not_recorded(recorder: Recorder) -> None:
    table = Table(bridge_with(recorder, ELEVENLABS_AGENT_ID="")).offer()
    await until(lambda: table.carrier.closed)
    await table.settled()
    assert (recorder.stats.started, table.records.last.recording) == (0, None)


async def test_where_audio_is_not_kept_none_is_recorded(recorder: Recorder) -> None:
    table = await Table(bridge_with(recorder, unavailable, RETENTION_AUDIO_DAYS="0")).activate()
    assert (recorder.active, table.records.last.recording) == (0, None)
    table.hang_up()
    await table.settled()


async def test_a_pause_leaves_silence_and_its_place(recorder: Recorder, lines: list[dict[str, Any]]) -> None:
    table = await Table(bridge_with(recorder)).activate()
    assert pause_recording(table.session)
    await asyncio.sleep(0.02)
    assert resume_recording(table.session)
    table.hang_up()
    await table.settled()
    recording = table.records.last.recording
    assert recording is not None
    [(began_s, ended_s)] = recording.pauses
    assert 0 <= began_s < ended_s
    assert ended_s - began_s >= 0.015
    assert [line["event"] for line in lines if line["event"].startswith("recording_")] == [
        "recording_paused",
        "recording_resumed",
    ]
    steps = [step.event for step in table.records.last.journal.steps]
    assert steps.index("recording_paused") < steps.index("recording_resumed")


async def test_a_recording_of_which_nothing_was_written_is_not_told_of(tmp_path: Path) -> None:
    full = Recorder(RecordingOptions(tmp_path, "wav", min_free_bytes=1 << 62))
    await full.open()
    hooks = {"WEBHOOK_URL": "https://hooks.example/x", "WEBHOOK_SECRET": "s"}
    table = await Table(bridge_with(full, unavailable, **hooks)).activate()
    table.session.on_message(twilio.media(b"\x01" * 160))
    table.hang_up()
    await table.settled()
    await full.close()
    recording = table.records.last.recording
    assert recording is not None
    assert (recording.complete, recording.size_bytes) == (False, 0)
    assert "post_call_audio" not in table.records.events
    assert table.records.states == ["connecting", "active", "ended", "ended"]


@pytest.mark.parametrize("failure", [LocalError("no such tape"), OSError(28, "No space left on device")])
async def test_a_recording_that_fails_at_its_end_is_said_and_harms_nothing(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]], failure: Exception
) -> None:
    finish = recorder.finish

    async def fail(call_id: str) -> None:
        await finish(call_id)
        raise failure

    monkeypatch.setattr(recorder, "finish", fail)
    table = await Table(bridge_with(recorder)).activate()
    table.hang_up()
    await table.settled()
    assert table.ends == {"success/caller_hangup": 1}
    recording = table.records.last.recording
    assert recording is not None
    assert not recording.complete
    [line] = [line for line in lines if line["event"] == "recording_failed"]
    assert line["detail"] == type(failure).__name__


async def test_the_events_of_a_recorded_call(recorder: Recorder) -> None:
    table = await Table(bridge_with(recorder, WEBHOOK_URL="https://hooks.example/x", WEBHOOK_SECRET="s")).activate()
    table.session.on_message(twilio.media(b"\x01" * 160))
    table.hang_up()
    await table.settled()
    told = table.records.events
    assert told[:2] == ["call.started", "call.answered"]
    assert sorted(told[2:]) == ["call.ended", "post_call_audio", "post_call_transcription"]
    assert told.index("post_call_audio") == 4, "when the audio is there"
    sequences = [event.sequence for _, events in table.records.puts for event in events]
    assert sequences == [1, 2, 3, 4, 5]


# --- late results ----------------------------------------------------------------------------------------


def answering(*bodies: dict[str, object]) -> Answer:
    """The vendor's interface: these answers in turn, the last one again and again."""
    left = list(bodies)
    return lambda _: httpx.Response(200, json=left.pop(0) if len(left) > 1 else left[0])


async def test_results_are_fetched_for_a_caller_who_hung_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "POLL_S", 0.001)
    bridge = bridge_with(None, answering({"status": "processing"}, DONE))
    table = await Table(bridge, spec=TAKING).activate()
    table.hang_up()
    assert table.records.last.outputs == {"conversation_id": convai.CONVERSATION_ID}
    await table.settled()
    assert table.records.last.outputs == {"conversation_id": convai.CONVERSATION_ID, "wish": "refund"}
    assert table.records.states == ["connecting", "active", "ended", "ended"]
    assert table.ends == {"success/caller_hangup": 1}


@pytest.mark.parametrize("spec", [SPEC, TAKING])
async def test_nothing_is_added_when_there_is_nothing(monkeypatch: pytest.MonkeyPatch, spec: Any) -> None:
    monkeypatch.setattr(aftermath, "LATE_RESULTS_S", 0.01)
    table = await Table(bridge_with(None, answering({"status": "done"})), spec=spec).activate()
    table.hang_up()
    await table.settled()
    assert table.records.states == ["connecting", "active", "ended"]


async def test_without_a_conversation_nobody_is_asked() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=DONE)

    table = await Table(bridge_with(None, answer), spec=TAKING).connect()
    table.hang_up()
    await table.settled()
    assert asked == []


async def test_results_that_the_caller_waited_for_are_not_fetched_again() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=DONE)

    table = await Table(bridge_with(None, answer), spec=TAKING).activate()
    table.session.agent_lost(1000, "")
    table.session.on_message(twilio.mark(twilio.marks(table.carrier.sent)[-1]))
    await until(lambda: table.carrier.closed)
    await table.settled()
    assert len(asked) == 1
    assert table.records.last.outputs["wish"] == "refund"
