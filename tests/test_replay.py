"""Calls replayed from their flight records: the same again, and where they part when something is changed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import msgspec
import pytest

from bridge import outcome
from bridge.calls.flight import FlightOptions
from bridge.calls.flight_file import Entry, FlightFileError, FlightLog
from bridge.calls.flight_privacy import Privacy
from bridge.calls.state import State
from bridge.providers import REGISTRY
from bridge.replay import Difference, ReplayResult, replay
from tests.kit import convai, genesys, twilio
from tests.kit.calls import OPTIONS
from tests.kit.flights import RecordedLine, replay_file

FRAME_S = 0.02


def talk(line: RecordedLine, seconds: float, payload: bytes = b"\x7f" * 160) -> RecordedLine:
    for _ in range(round(seconds / FRAME_S)):
        line.carrier(twilio.media(payload))
        line.run(FRAME_S)
    return line


def a_call(flight: FlightOptions | None = None) -> RecordedLine:
    """From the offer to the hang-up, with everything that may come between."""
    line = RecordedLine(flight=flight)
    line.offer()
    talk(line, 0.1)
    line.activate()
    line.agent(convai.ping(1), convai.audio(b"\x55" * 4800, 1))
    talk(line, 0.5)
    line.agent(convai.audio(b"\x55" * 161, 2), convai.interruption(2), convai.audio(b"\x55" * 1600, 2))
    line.agent(convai.audio(b"\x55" * 8000, 3))
    talk(line, 0.3)
    line.carrier(twilio.dtmf("5"))
    line.run(3.0)
    line.carrier_writable(False)
    line.carrier_writable(True)
    line.carrier(twilio.STOP)
    return line


def changed(log: FlightLog, kind: str, **changes: object) -> FlightLog:
    """The record with the first entry of this kind changed."""
    entries = [msgspec.structs.replace(entry) for entry in log.entries]
    at = next(number for number, entry in enumerate(entries) if entry.k == kind)
    entries[at] = msgspec.structs.replace(entries[at], **changes)
    return FlightLog(log.header, entries)


def test_a_call_is_the_same_again() -> None:
    line = a_call()
    result = replay(line.log())
    assert result.differences == []
    assert result.is_same
    assert result.compared_until_s is None
    assert result.history == line.call.history
    assert result.history[-1][1] is State.ENDED
    kinds = {entry.k for entry in result.log.entries}
    assert {"relayed", "carrier_audio_in", "carrier_in", "agent_in", "agent_audio_in", "timer", "step", "note"} <= kinds
    assert {"carrier_audio_out", "carrier_out", "agent_out", "audio_form"} <= kinds


def test_a_call_with_its_audio_is_the_same_again() -> None:
    line = a_call(FlightOptions(keep_audio=True))
    result = replay(line.log())
    assert result.is_same
    kept = [entry.audio for entry in result.log.entries if entry.audio]
    assert len(kept) > 40


def test_a_converted_call_is_the_same_again() -> None:
    line = RecordedLine()
    line.activate("pcm_16000", "pcm_16000")
    talk(line, 0.2)
    line.agent(convai.audio(b"\x01" * 6400, 1))
    talk(line, 0.5)
    line.agent_lost(1000)
    line.run(3.0)
    result = replay(line.log())
    assert result.is_same
    assert [event.name for event in result.events if event.kind == "note"][-1] == "finished"


@pytest.mark.parametrize(
    ("kind", "changes", "stream"),
    [
        ("carrier_audio_out", {"size": 7}, "carrier"),
        ("agent_out", {"text": '{"type":"pong","event_id":7}'}, "agent"),
        ("note", {"name": "other"}, "note"),
        ("agent_audio_in", {"size": 320}, "carrier"),
        ("carrier_close", {"code": 4000}, "carrier"),
    ],
)
def test_it_says_where_they_part(kind: str, changes: dict[str, object], stream: str) -> None:
    log = a_call().log()
    first = next(entry for entry in log.entries if entry.k == kind)
    result = replay(changed(log, kind, **changes))
    assert not result.is_same
    assert result.differences[0].stream == stream
    assert result.differences[0].at_s >= round(first.t - log.header.opened_s, 6)
    assert result.differences[0].recorded != result.differences[0].replayed


def test_what_only_the_record_has() -> None:
    log = a_call().log()
    log.entries.append(Entry(t=log.entries[-1].t, k="carrier_out", text='{"event":"clear"}'))
    (difference,) = replay(log).differences
    assert (difference.stream, difference.recorded, difference.replayed) == ("carrier", '{"event":"clear"}', "")


def test_what_only_the_replay_has() -> None:
    log = a_call().log()
    last = max(number for number, entry in enumerate(log.entries) if entry.k == "carrier_close")
    del log.entries[last]
    (difference,) = replay(log).differences
    assert (difference.stream, difference.recorded, difference.replayed) == ("carrier", "", "close 1000")


def test_behind_a_gap_nothing_is_compared_but_all_is_fed() -> None:
    line = RecordedLine(flight=FlightOptions(max_bytes=20_000))
    line.activate()
    for number in range(60):
        talk(line, 0.6)
        line.agent(convai.audio(b"\x55" * 1600, number))
    line.carrier(twilio.STOP)
    log = line.log()
    assert log.header.lost > 0
    assert [entry.size for entry in log.entries if entry.k == "gap"] == [log.header.lost]
    result = replay(log)
    assert result.is_same
    assert result.compared_until_s is not None
    assert result.history[-1][1] is State.ENDED


def test_a_message_too_long_to_be_kept_ends_the_comparison() -> None:
    line = RecordedLine()
    line.activate()
    line.agent(json.dumps({"type": "agent_response", "agent_response_event": {"agent_response": "x" * 50_000}}))
    line.carrier(twilio.STOP)
    result = replay(line.log())
    assert result.is_same
    assert result.compared_until_s is not None


def test_a_bug_is_met_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("as it was in the field")

    monkeypatch.setattr("bridge.calls.hands.Hands.key_pressed", fail)
    line = RecordedLine()
    line.activate()
    with pytest.raises(RuntimeError):
        line.carrier(twilio.dtmf("1"))
    line.fail(outcome.BUG, "see the traceback above")
    log = line.log()
    result = replay(log)
    assert result.is_same
    assert result.crash == "RuntimeError: as it was in the field"
    monkeypatch.undo()
    assert replay(log).crash == "", "mended"


def test_a_new_bug_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    log = a_call().log()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("new")

    monkeypatch.setattr("bridge.calls.hands.Hands.key_pressed", fail)
    result = replay(log)
    assert "code" in {difference.stream for difference in result.differences}
    assert result.crash == "RuntimeError: new"


def test_what_was_taken_out_makes_no_difference() -> None:
    line = RecordedLine()
    line.offer()
    line.admit()
    line.connect()
    line.agent(convai.metadata(), json.dumps({"type": "ping", "ping_event": {"event_id": 3}}))
    line.carrier(twilio.dtmf("7"), twilio.STOP)
    result = replay(line.log(Privacy(digits=True, numbers=True, known=("+4930123456",))))
    assert result.is_same
    assert "t1" not in {entry.text for entry in result.log.entries}


def test_the_stream_goes_on_over_another_leg() -> None:
    line = RecordedLine()
    line.activate()
    talk(line, 0.1)
    line.leave()
    line.come_back()
    line.say(b"\x7f" * 160)
    line.agent(convai.audio(b"\x55" * 4800, 1))
    line.run(1.0)
    line.stop()
    result = replay(line.log())
    assert result.differences == []
    assert "leg_in" in {entry.k for entry in result.log.entries}
    assert [event.name for event in result.events if event.name.startswith("stream")] == ["stream_away", "stream_back"]


def test_the_conversation_goes_on_over_another_connection() -> None:
    line = RecordedLine(options=dataclasses.replace(OPTIONS, reconnect_s=2.0))
    line.reconnect()
    talk(line, 0.1)
    line.ready_again()
    talk(line, 0.1)
    line.carrier(twilio.STOP)
    result = replay(line.log())
    assert result.differences == []
    assert "agent_back" in {event.name for event in result.events}


@pytest.mark.parametrize("flight", [FlightOptions(), FlightOptions(keep_audio=True)], ids=["sizes", "audio"])
def test_a_carrier_whose_audio_is_binary(flight: FlightOptions) -> None:
    line = RecordedLine(spec=REGISTRY["genesys"], request=genesys.REQUEST, flight=flight)
    line.carrier(genesys.opening())
    line.activate()
    for _ in range(5):
        line.carrier(b"\x7f" * 1600)
        line.run(0.2)
    line.agent(convai.audio(b"\x55" * 16_000, 1))
    line.run(1.0)
    line.carrier(genesys.message("dtmf", {"digit": "5"}, seq=3), genesys.message("close", {"reason": "end"}, seq=4))
    result = replay(line.log())
    assert result.differences == []
    assert result.history[-1][1] is State.ENDED
    assert [entry.size for entry in result.log.entries if entry.k == "relayed"] == [1600] * 5


def test_audio_without_an_id_and_legs_that_are_never_taken() -> None:
    log = a_call().log()
    entries = [
        *log.entries[:-1],
        Entry(t=log.entries[-1].t, k="leg_in", text=twilio.CONNECTED),
        Entry(t=log.entries[-1].t, k="leg"),
        Entry(t=log.entries[-1].t, k="audio_form", text="{}"),
        Entry(t=log.entries[-1].t, k="agent_audio_in", size=160),
        log.entries[-1],
    ]
    assert replay(FlightLog(log.header, entries)).is_same


def test_tools_and_what_the_driver_answers() -> None:
    line = RecordedLine()
    line.activate()
    line.tool("transfer_to_number", transfer_number="+4930123456")
    line.tool("unheard_of", "t2")
    line.ask_heard()
    line.speech(b"\x55" * 800)
    line.verdict("human")
    line.carrier(twilio.STOP)
    result = replay(line.log())
    assert result.differences == []
    assert result.is_same


def test_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "c1.flight.gz"
    path.write_bytes(a_call().file())
    assert isinstance(replay_file(path), ReplayResult)
    assert replay_file(path).is_same


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"provider": "pigeon"}, "the record is of carrier 'pigeon', which this bridge does not know"),
        ({"leg": {"wings": 2}}, "the record's options cannot be read"),
        ({"call": {"caller_buffer_ms": "many", "playout_queue_ms": 1}}, "the record's options cannot be read"),
    ],
)
def test_records_that_cannot_be_fed(header: dict[str, object], words: str) -> None:
    log = a_call().log()
    with pytest.raises(FlightFileError, match=words):
        replay(FlightLog(msgspec.structs.replace(log.header, **header), log.entries))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (Entry(t=0, k="teleported"), "the record has an entry 'teleported', which this bridge does not know"),
        (Entry(t=0, k="step", name="explode"), "the decision 'explode' cannot be read"),
        (Entry(t=0, k="step", name="fail", args={"reason": "boredom"}), "the decision 'fail' cannot be read"),
        (Entry(t=0, k="step", name="take_leg", args={}), "a leg of which the record has nothing"),
        (Entry(t=0, k="relayed", audio="?"), "the audio of an entry is not base64"),
    ],
)
def test_entries_that_cannot_be_fed(entry: Entry, words: str) -> None:
    with pytest.raises(FlightFileError, match=words):
        replay(FlightLog(a_call().log().header, [entry]))


def test_how_a_difference_reads() -> None:
    log = changed(a_call().log(), "note", name="other", text="")
    first = replay(log).differences[0]
    assert first == Difference(first.at_s, "note", "other", "agent_ready: audio passes unchanged")
