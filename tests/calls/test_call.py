"""A whole call, without a network: a real Twilio leg and a real conversation, joined, on a clock that stands still."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import events, outcome
from bridge.calls.effects import AskAdmission, ConnectAgent, Finished, Note
from bridge.calls.keypad import KeypadMode, KeypadOptions
from bridge.calls.options import CallOptions
from bridge.calls.state import State
from bridge.convai import messages as convai_messages
from bridge.convai.events import AgentAudio, AgentEvent
from bridge.convai.messages import InitiationData
from bridge.convai.protocol import Conversation, ConversationOptions
from bridge.errors import LocalError
from bridge.leg import CloseSocket
from bridge.media.format import PCM_16K, ULAW_8K, MediaFormat
from bridge.media.transcode import Transcoder
from bridge.outcome import EndReason
from tests.kit import convai, twilio
from tests.kit.audio import assert_tone, make_tone, numbered
from tests.kit.calls import OPTIONS, Line
from tests.kit.legs import FAKE_SPEC, FakeLeg, caller_audio, offer

FRAME_S = 0.02
CLEAR = '{"event":"clear","streamSid":"MZ18ad3ab5a668481ce02b83e7395059f0"}'


def frames(audio: bytes, media: MediaFormat = ULAW_8K) -> list[bytes]:
    """Audio in frames of 20 ms."""
    size = media.size_bytes(20)
    return [audio[at : at + size] for at in range(0, len(audio), size)]


def speak(line: Line, audio: bytes, media: MediaFormat = ULAW_8K) -> None:
    """The caller says this in real time."""
    for frame in frames(audio, media):
        line.carrier(twilio.media(frame))
        line.run(FRAME_S)


def line_in(state: State) -> Line:
    """A call that has got so far, by the shortest way."""
    line = Line(options=dataclasses.replace(OPTIONS, reconnect_s=2.0 if state is State.RECONNECTING else 0.0))
    match state:
        case State.RECONNECTING:
            line.reconnect()
        case State.ADMITTING:
            line.offer()
        case State.QUEUED:
            line.queue()
        case State.CONNECTING:
            line.connect()
        case State.ACTIVE:
            line.activate()
        case State.DRAINING:
            line.begin_draining()
        case State.ENDED:
            line.activate().fail(outcome.BUG)
        case State.WAITING:
            pass
    assert line.call.state is state
    line.forget()
    return line


def assert_finished(line: Line, reason: EndReason, detail: str = "") -> None:
    """The call ended once, with these words; both sockets are let go and nothing comes out any more."""
    assert line.finished() == [Finished(reason, detail)]
    assert line.call.state is State.ENDED
    carrier, agent = len(line.to_carrier), len(line.to_agent)
    line.carrier(twilio.media(b"\xff" * 160), twilio.mark("g0:1"), twilio.STOP, "{")
    line.agent(convai.audio(b"x" * 160, 99), convai.ping(1), "{")
    line.carrier_writable(True)
    line.agent_writable(True)
    line.carrier_lost()
    line.agent_lost()
    line.fail(outcome.BUG)
    line.refuse(outcome.CAPACITY)
    line.call.admit(line.clock.now)
    line.run(1000.0)
    assert (len(line.to_carrier), len(line.to_agent)) == (carrier, agent)
    assert len(line.finished()) == 1
    assert line.next_timer() == math.inf


# --- the beginning ---


def test_a_call_from_the_offer_to_the_first_word() -> None:
    line = Line()
    assert line.state() is State.WAITING
    line.carrier(twilio.CONNECTED)
    assert line.effects == []
    line.carrier(twilio.start({"token": "t1", "caller": "+15550100"}))
    assert line.state() is State.ADMITTING
    info = line.call.info
    assert info is not None
    assert (info.call_sid, info.token, info.caller) == (twilio.CALL_SID, "t1", "+15550100")
    assert line.effects == [AskAdmission(info)]
    line.call.admit(line.clock.now)
    line.drain()
    assert line.state() is State.CONNECTING
    assert line.effects == [AskAdmission(info), ConnectAgent(info)]
    line.call.agent_connected(InitiationData(dynamic_variables={"caller_id": "+15550100"}), line.clock.now)
    line.drain()
    assert line.to_agent == [
        '{"type":"conversation_initiation_client_data","dynamic_variables":{"caller_id":"+15550100"}}'
    ]
    line.agent(convai.metadata())
    assert line.state() is State.ACTIVE
    assert line.call.conversation_id == convai.CONVERSATION_ID
    assert line.notes() == [Note("agent_ready", "audio passes unchanged")]
    line.agent(convai.audio(b"\x55" * 160))
    assert line.to_carrier == [
        f'{{"event":"media","streamSid":"{twilio.STREAM_SID}","media":{{"payload":"{"VVVV" * 53}VQ=="}}}}'
    ]


def test_audio_takes_the_short_cut_and_nothing_else_does() -> None:
    line = Line().activate()
    call, now = line.call, line.clock.now
    assert call.relay_to_agent(twilio.media(b"\xff" * 160), now) == convai_messages.user_audio_chunk(b"\xff" * 160)
    assert call.relay_to_agent(twilio.media(b""), now) is None
    assert call.relay_to_agent(twilio.dtmf("1"), now) is None
    assert call.relay_to_agent(twilio.STOP, now) is None
    relayed = call.relay_to_caller(convai.audio(b"\x01" * 160), now)
    assert isinstance(relayed, str)
    assert twilio.played([relayed]) == b"\x01" * 160
    assert call.relay_to_caller(convai.ping(1), now) is None
    assert call.relay_to_caller('{"type":"telepathy"}', now) is None
    assert (call.stats.caller_frames, call.stats.agent_messages, call.stats.agent_frames) == (1, 1, 1)
    assert line.leg.drain() == []
    assert line.conversation.drain() == []


def test_there_is_no_short_cut_before_the_agent_is_ready_and_after_the_end() -> None:
    line = Line().connect()
    assert line.call.relay_to_agent(twilio.media(b"\xff" * 160), line.clock.now) is None
    assert line.call.relay_to_caller(convai.audio(b"\x01" * 160), line.clock.now) is None
    line.agent(convai.metadata())
    line.carrier(twilio.STOP)
    assert line.call.relay_to_agent(twilio.media(b"\xff" * 160), line.clock.now) is None
    assert line.call.relay_to_caller(convai.audio(b"\x01" * 160), line.clock.now) is None


def test_audio_that_has_to_wait_leaves_the_short_cut_empty_handed() -> None:
    line = Line(upload_chunk_ms=40).activate()
    call, now = line.call, line.clock.now
    assert call.relay_to_agent(twilio.media(b"\x01" * 160), now) == ""
    assert line.conversation.drain() == []
    assert call.relay_to_agent(twilio.media(b"\x02" * 160), now) == ""
    assert convai.uploaded(line.conversation.drain()) == [b"\x01" * 160 + b"\x02" * 160]
    assert call.relay_to_caller(convai.audio(b"\x03" * 8000), now) == ""
    assert len(twilio.played(line.leg.drain())) == 3200  # the carrier's lead of 400 ms; the rest waits


def test_only_the_playout_timer_comes_closer_with_agent_audio() -> None:
    line = Line().activate()
    assert line.call.playout_timer() == math.inf
    others = line.call.next_timer()
    line.call.agent_message(convai.audio(b"\x01" * 8000), line.clock.now)
    assert line.call.next_timer() == line.call.playout_timer() < others
    line.carrier_writable(False)
    assert line.call.playout_timer() == math.inf
    assert line.call.next_timer() == others


def test_the_history_tells_when_the_call_came_how_far() -> None:
    line = Line()
    begun = line.clock.now
    assert line.call.history == []
    for step in (line.offer, line.admit, line.connect):
        line.clock.advance(1.0)
        step()
    line.agent(convai.metadata())
    line.agent_lost(1000)
    line.clock.advance(0.5)
    line.carrier(twilio.mark("g0:1"), twilio.STOP)
    line.fail(outcome.BUG)
    assert line.call.history == [
        (begun + 1.0, State.ADMITTING),
        (begun + 2.0, State.CONNECTING),
        (begun + 3.0, State.ACTIVE),
        (begun + 3.0, State.DRAINING),
        (begun + 3.5, State.ENDED),
    ]


def test_a_call_that_is_refused() -> None:
    line = Line().offer()
    line.refuse(outcome.CAPACITY, "10 of 10")
    assert line.to_carrier == [CloseSocket(1000, "capacity")]
    assert_finished(line, outcome.CAPACITY, "10 of 10")
    assert line.to_agent == [CloseSocket(1000)]


def test_a_refused_leg_is_rejected_and_a_running_one_is_hung_up() -> None:
    refused, running = FakeLeg(), FakeLeg()
    line = Line(leg=refused, spec=FAKE_SPEC)
    refused.coming = [offer()]
    line.carrier("offer")
    line.refuse(outcome.CAPACITY)
    assert refused.commands == [events.Reject(outcome.CAPACITY)]
    line = Line(leg=running, spec=FAKE_SPEC)
    running.coming = [offer()]
    line.activate()
    line.fail(outcome.DRAINING)
    assert running.commands[-1] == events.Hangup(outcome.DRAINING, outputs={"conversation_id": convai.CONVERSATION_ID})


def test_a_call_that_was_let_in_cannot_be_refused() -> None:
    line = Line().admit()
    with pytest.raises(LocalError, match="^a call that is connecting does not take 'refused'$"):
        line.refuse(outcome.CAPACITY)


def test_admission_that_comes_after_the_caller_has_gone() -> None:
    line = Line().offer()
    line.carrier_lost()
    line.call.admit(line.clock.now)
    line.drain()
    assert line.asked() == [AskAdmission(line.call.info)] if line.call.info else False
    assert_finished(line, outcome.CARRIER_LOST, "close 1006 without stop")


def test_an_agent_that_answers_after_the_caller_has_gone_hears_nothing() -> None:
    line = Line().admit()
    line.carrier(twilio.STOP)
    line.forget()
    line.call.agent_connected(InitiationData(), line.clock.now)
    line.agent(convai.metadata())
    assert line.to_agent == []


def test_nobody_offers_a_call() -> None:
    line = Line()
    line.run(10.0)
    assert line.to_carrier == [CloseSocket(1000, "no_start")]
    assert_finished(line, outcome.NO_START, "no start in 5 s")


def test_the_agent_never_begins() -> None:
    line = Line().connect()
    for _ in range(600):
        line.carrier(twilio.media(b"\xff" * 160))
        line.run(FRAME_S)
    assert_finished(line, outcome.AGENT_NOT_READY, "no metadata in 10 s")


# --- audio, caller to agent ---


def test_caller_audio_passes_as_the_very_bytes() -> None:
    line = Line().activate()
    audio = numbered(800)
    for frame in frames(audio):
        line.carrier(twilio.media(frame))
        assert convai.uploaded(line.to_agent)[-1] == frame
    assert line.uploaded() == audio
    assert line.call.current_stats().caller_frames == 5


def test_caller_audio_is_converted_to_what_the_agent_wants() -> None:
    line = Line().activate(input_format="pcm_16000")
    assert line.call.stats.caller_frames == 0
    speak(line, make_tone(1000, 1000, ULAW_8K))
    uploaded = line.uploaded()
    assert len(uploaded) == PCM_16K.size_bytes(1000)
    assert all(len(piece) == 640 for piece in convai.uploaded(line.to_agent))
    assert_tone(uploaded[3200:-3200], PCM_16K, 1000)


def test_caller_audio_waits_for_the_agent_with_a_bound() -> None:
    line = Line().offer()
    audio = numbered(12_000)
    for frame in frames(audio[:4000]):  # while admission is asked
        line.carrier(twilio.media(frame))
    line.connect()
    for frame in frames(audio[4000:]):
        line.carrier(twilio.media(frame))
    line.agent(convai.metadata())
    assert OPTIONS.caller_buffer_ms == 1000
    assert line.call.stats.caller_dropped_ms == 500
    assert line.uploaded() == audio[4000:]
    line.carrier(twilio.media(b"\x01" * 160))
    assert line.uploaded() == audio[4000:] + b"\x01" * 160


def test_what_waited_is_converted_like_the_rest() -> None:
    line = Line().connect()
    for frame in frames(make_tone(700, 500, ULAW_8K)):
        line.carrier(twilio.media(frame))
    line.agent(convai.metadata(input_format="pcm_16000"))
    assert_tone(line.uploaded()[1600:-1600], PCM_16K, 700)
    assert line.notes() == [
        Note(
            "agent_ready",
            "to agent: ulaw_8000 -> decode -> resample 8000:16000 -> pcm_16000; to caller: ulaw_8000 -> ulaw_8000",
        )
    ]


def test_upload_chunks_of_250_ms() -> None:
    line = Line(upload_chunk_ms=250).activate()
    audio = numbered(160 * 13)
    for frame in frames(audio):
        line.carrier(twilio.media(frame))
    assert convai.uploaded(line.to_agent) == [audio[:2000]]
    line.fail(outcome.DRAINING)
    assert convai.uploaded(line.to_agent) == [audio[:2000], audio[2000:]]
    assert line.to_agent[-1] == CloseSocket(1000)


def test_a_piece_that_converts_to_nothing_is_no_message() -> None:
    line = Line()
    line.carrier(twilio.CONNECTED, twilio.start({}, twilio.L16_16K))
    line.connect()
    line.agent(convai.metadata("pcm_16000", "ulaw_8000"))
    line.forget()
    line.carrier(twilio.media(b"\x01"))  # half a sample waits for its other half
    assert line.to_agent == []
    assert line.call.stats.caller_frames == 0
    line.carrier(twilio.media(b"\x00"))
    assert line.to_agent == []
    assert line.call.stats.caller_frames == 1


def test_an_agent_that_takes_nothing_for_five_seconds() -> None:
    line = Line().activate()
    line.agent_writable(False)
    audio = numbered(5 * 8000)
    speak(line, audio)
    assert line.to_agent == []
    line.agent_writable(True)
    assert line.uploaded() == audio[2 * 8000 :]
    line.carrier(twilio.STOP)
    assert line.call.stats.upload_dropped_bytes == 2 * 8000


# --- audio, agent to caller ---


def test_agent_audio_is_paced_by_what_the_carrier_plays() -> None:
    line = Line().activate()
    answer = numbered(8000)
    line.agent(convai.audio(answer[:5000]), convai.audio(answer[5000:]))
    assert len(line.played()) == 3200  # the lead
    line.run(0.301)
    assert len(line.played()) == 3200 + 3 * 800
    line.run(5.0)
    assert line.played() == answer
    assert twilio.marks(line.to_carrier) == ["g0:1"]
    assert line.call.stats.agent_frames == 50
    assert line.call.stats.agent_messages == 2
    line.carrier(twilio.mark("g0:1"), twilio.mark("g0:1"), twilio.mark("another's"))
    assert line.call.stats.marks == 1
    line.carrier(twilio.STOP)
    assert line.call.stats.heard_ms == 1000
    assert line.call.stats.gaps == 0


def test_agent_audio_is_converted_to_what_the_carrier_plays() -> None:
    line = Line().activate(output_format="pcm_16000")
    line.agent(convai.audio(make_tone(1000, 1000, PCM_16K)))
    line.run(2.0)
    assert len(line.played()) == 8000
    assert_tone(line.played()[800:-800], ULAW_8K, 1000)


def test_odd_pieces_of_agent_audio_lose_nothing() -> None:
    line = Line().activate(output_format="pcm_16000")
    audio = make_tone(1000, 500, PCM_16K)
    for at in range(0, len(audio), 777):
        line.agent(convai.audio(audio[at : at + 777]))
    line.run(2.0)
    assert len(line.played()) == 4000
    assert_tone(line.played()[800:-800], ULAW_8K, 1000)


def test_a_carrier_of_linear_audio_gets_whole_samples_of_odd_pieces() -> None:
    line = Line()
    line.carrier(twilio.CONNECTED, twilio.start({}, twilio.L16_16K))
    line.connect()
    line.agent(convai.metadata("pcm_16000", "pcm_16000"))
    audio = make_tone(1000, 500, PCM_16K)
    for at in range(0, len(audio), 777):
        line.agent(convai.audio(audio[at : at + 777]))
        line.run(0.005)
    line.run(2.0)
    assert len(line.played()) % 640 == 0
    assert_tone(line.played()[: len(audio)][3200:-3200], PCM_16K, 1000)


def test_agent_audio_over_the_limit_is_dropped_and_counted() -> None:
    line = Line(options=CallOptions(caller_buffer_ms=1000, playout_queue_ms=1000)).activate()
    line.agent(convai.audio(b"\x01" * 8000), convai.audio(b"\x02" * 8000))
    line.run(10.0)
    assert line.played() == b"\x01" * 8000
    line.carrier(twilio.STOP)
    assert line.call.stats.agent_dropped_ms == 1000


def test_a_stuck_carrier_gets_nothing_until_it_moves() -> None:
    line = Line().activate()
    line.carrier_writable(False)
    line.agent(convai.audio(numbered(1600)))
    line.run(5.0)
    assert line.to_carrier == []
    line.carrier_writable(True)
    assert line.played() == numbered(1600)
    assert not line.finished()


def test_a_carrier_may_be_stuck_before_there_is_anything_to_play() -> None:
    line = Line()
    line.carrier_writable(False)
    line.carrier_writable(True)
    assert line.to_carrier == []


def test_a_gap_within_an_answer_is_counted() -> None:
    line = Line().activate()
    line.agent(convai.audio(b"\x01" * 160))
    line.run(0.12)
    line.agent(convai.audio(b"\x01" * 160))
    line.carrier(twilio.STOP)
    assert line.call.stats.gaps == 1


# --- the caller talks over the agent ---


def test_barge_in_clears_everything_in_one_step() -> None:
    line = Line().activate()
    line.agent(convai.audio(b"\x01" * 80_000, 4))
    line.run(0.501)
    line.forget()
    line.agent(convai.interruption(4))
    assert line.to_carrier == [CLEAR]
    assert line.call.flushed
    assert line.effects == [Note("interrupted", "9100 ms dropped here, clear sent")]
    line.forget()
    line.agent(convai.audio(b"\x01" * 1600, 3), convai.audio(b"\x01" * 1600, 4))
    line.run(20.0)
    assert line.to_carrier == []
    line.agent(convai.audio(b"\x02" * 1600, 5))
    assert line.played() == b"\x02" * 1600
    line.carrier(twilio.STOP)
    stats = line.call.stats
    assert (stats.interruptions, stats.clears, stats.stale_audio_bytes) == (1, 1, 3200)
    assert stats.agent_flushed_ms == 10_000 - 400 - 500


def test_marks_that_a_clear_sends_back_are_not_heard_audio() -> None:
    line = Line().activate()
    line.agent(convai.audio(b"\x01" * 1600, 1))
    line.run(1.0)
    assert twilio.marks(line.to_carrier) == ["g0:1"]
    line.agent(convai.interruption(1))
    line.carrier(twilio.mark("g0:1"))
    assert line.call.stats.marks == 0


def test_barge_in_into_silence_has_nothing_to_clear() -> None:
    line = Line().activate()
    line.agent(convai.interruption(1))
    assert line.to_carrier == []
    assert line.effects == [Note("interrupted", "0 ms dropped here")]
    assert not line.call.flushed
    assert (line.call.stats.interruptions, line.call.stats.clears) == (1, 0)


def test_barge_in_while_the_carrier_is_stuck() -> None:
    line = Line().activate()
    line.agent(convai.audio(b"\x01" * 160, 1))
    line.carrier_writable(False)
    line.agent(convai.audio(b"\x01" * 1600, 1), convai.interruption(1))
    assert line.to_carrier[-1] == CLEAR
    line.forget()
    line.carrier_writable(True)
    line.run(1.0)
    assert line.played() == b""


def test_after_a_barge_in_the_converter_begins_afresh() -> None:
    line = Line().activate(output_format="pcm_16000")
    line.agent(convai.audio(make_tone(440, 333, PCM_16K) + b"\x01", 1), convai.interruption(1))
    line.forget()
    answer = make_tone(1000, 100, PCM_16K)
    line.agent(convai.audio(answer, 2))
    assert line.played() == Transcoder(PCM_16K, ULAW_8K).process(answer)


def test_an_interruption_before_the_conversation_is_harmless() -> None:
    line = Line().connect()
    line.agent(convai.interruption(1))
    assert line.to_carrier == []
    assert line.call.stats.interruptions == 1


# --- beside audio ---


def test_a_tool_call_is_answered_with_an_error() -> None:
    line = Line().activate()
    line.agent(convai.tool_call("transfer_call", "id1"))
    (answer,) = line.to_agent
    assert isinstance(answer, str)
    assert json.loads(answer) == {
        "type": "client_tool_result",
        "tool_call_id": "id1",
        "result": "The tool 'transfer_call' is not available on this phone line. Tell the caller that this cannot be "
        "done right now and go on with the conversation.",
        "is_error": True,
    }
    assert line.effects == [Note("tool_refused", "transfer_call")]
    assert line.call.stats.tool_calls == 1


@pytest.mark.parametrize(
    ("message", "note"),
    [
        (
            '{"type":"agent_tool_response","agent_tool_response":{"tool_name":"end_call"}}',
            Note("agent_tool_ran", "end_call"),
        ),
        (
            '{"type":"agent_tool_response","agent_tool_response":{"tool_name":"skip_turn","is_error":true}}',
            Note("agent_tool_failed", "skip_turn"),
        ),
        (
            convai.error(1002, "llm_error", "slow"),
            Note("agent_fault", "1002 llm_error slow"),
        ),
        (
            '{"type":"ping"}',
            Note("agent_fault", "ping: Object missing required field `ping_event`"),
        ),
    ],
)
def test_what_is_written_down(message: str, note: Note) -> None:
    line = Line().activate()
    line.agent(message)
    assert line.effects == [note]


def test_what_is_counted_and_not_written_down() -> None:
    line = Line(options=dataclasses.replace(OPTIONS, keypad=KeypadOptions(KeypadMode.OFF))).activate()
    line.agent(
        convai.ping(1),
        convai.ping(2, 61),
        '{"type":"user_transcript","user_transcription_event":{"user_transcript":"hi"}}',
        '{"type":"agent_response","agent_response_event":{"agent_response":"hello"}}',
        '{"type":"agent_response_correction","agent_response_correction_event":{"original_agent_response":"hello",'
        '"corrected_agent_response":"he"}}',
        '{"type":"telepathy"}',
    )
    line.carrier(twilio.dtmf("5"), twilio.dtmf("#"))
    assert line.effects == []
    assert line.to_agent == ['{"type":"pong","event_id":1}', '{"type":"pong","event_id":2}']
    line.carrier(twilio.STOP)
    stats = line.call.stats
    assert (stats.agent_pings, stats.agent_round_trip_ms) == (2, 61.0)
    assert (stats.caller_turns, stats.agent_turns, stats.dtmf) == (1, 1, 2)
    assert (stats.unknown_messages, stats.malformed_messages) == (1, 0)


def test_what_other_carriers_tell() -> None:
    leg = FakeLeg()
    line = Line(leg=leg, spec=FAKE_SPEC, upload_chunk_ms=60)
    leg.coming = [offer()]
    line.activate()
    leg.coming = [caller_audio(b"\x01" * 160)]
    line.carrier("audio")
    assert line.to_agent == []
    leg.coming = [events.Paused()]
    line.carrier("pause")
    assert line.uploaded() == b"\x01" * 160
    leg.coming = [events.Resumed(), events.TransferResult(True, "")]
    line.carrier("more")
    assert line.notes() == [Note("Paused"), Note("Resumed"), Note("TransferResult")]


def test_a_carrier_without_a_short_cut_gets_agent_audio_once_and_on_time() -> None:
    leg = FakeLeg()
    line = Line(leg=leg, spec=FAKE_SPEC)
    leg.coming = [offer()]
    line.activate()
    first, second = b"\x01" * 1600, b"\x02" * 1600
    line.agent(convai.audio(first), convai.audio(second))
    assert [command for command in leg.commands if isinstance(command, events.Play)] == [
        events.Play(first),
        events.Play(second),
    ]
    assert line.call.stats.agent_frames == 20
    line.agent(convai.audio(b"\x03" * 800))  # 400 ms are with the carrier: this waits
    assert leg.commands[-1] == events.Play(second)
    line.run(0.11)
    assert leg.commands[-1] == events.Play(b"\x03" * 800)


def test_audio_counts_however_it_comes() -> None:
    leg = FakeLeg()
    line = Line(leg=leg, spec=FAKE_SPEC)
    leg.coming = [caller_audio(b"early"), offer()]
    line.activate()
    assert line.uploaded() == b""
    leg.coming = [caller_audio(b"\x01" * 160), events.Ended(outcome.CALLER_HANGUP, "closed"), caller_audio(b"late")]
    line.carrier_lost()
    assert line.uploaded() == b"\x01" * 160
    assert line.finished() == [Finished(outcome.CALLER_HANGUP, "closed")]


class _LateSpeaker(Conversation):
    """A conversation that gives audio when its timer fires; ours never does, the contract would allow it."""

    def handle_timer(self, now: float) -> list[AgentEvent]:
        return [AgentAudio(b"\x01" * 160, 1), *super().handle_timer(now)]


class _Restless(Conversation):
    """A conversation that goes on after it was told to finish; ours does not, and the call does not count on it."""

    def finish(self) -> None:
        pass


def test_an_agent_that_is_ready_after_the_end_is_too_late() -> None:
    line = Line()
    line.call.conversation = line.conversation = _Restless(ConversationOptions(20, 10.0, 30.0))
    line.connect().fail(outcome.DRAINING)
    line.forget()
    line.agent(convai.metadata(), convai.audio(b"\x01" * 160), convai.interruption(1))
    line.agent_lost(1000)
    assert (line.to_carrier, line.effects) == ([], [])
    assert line.call.conversation_id == ""


def test_agent_audio_counts_however_it_comes() -> None:
    line = Line()
    line.call.conversation = line.conversation = _LateSpeaker(ConversationOptions(20, 10.0, 30.0))
    line.activate()
    line.handle_timer(line.clock.now)
    assert line.played() == b"\x01" * 160


# --- the agent says good-bye ---


def test_the_caller_hears_the_rest_of_the_good_bye() -> None:
    line = Line().activate()
    good_bye = numbered(4100)
    line.agent(convai.audio(good_bye))
    line.agent_lost(1000)
    assert line.call.state is State.DRAINING
    line.run(0.3)
    assert line.played() == good_bye + b"\xff" * 60
    assert twilio.marks(line.to_carrier) == ["g0:1"]
    line.run(0.3)
    assert line.finished() == []
    line.carrier(twilio.media(b"\xff" * 160), twilio.mark("g0:1"))
    assert line.to_carrier[-1] == CloseSocket(1000, "agent_hangup")
    assert line.call.stats.heard_ms == 520
    assert_finished(line, outcome.AGENT_HANGUP, "close 1000")
    assert line.uploaded() == b""


def test_an_earlier_mark_is_not_the_end_of_the_good_bye() -> None:
    line = Line().activate()
    line.agent(convai.audio(b"\x01" * 160, 1))
    line.run(1.0)
    assert twilio.marks(line.to_carrier) == ["g0:1"]
    line.agent(convai.audio(b"\x01" * 160, 2))
    line.agent_lost(1000)
    line.carrier(twilio.mark("g0:1"))
    assert line.finished() == []
    line.carrier(twilio.mark("g0:2"))
    assert_finished(line, outcome.AGENT_HANGUP, "close 1000")


def test_a_carrier_that_does_not_confirm_is_not_waited_for_for_ever() -> None:
    line = Line().begin_draining()
    line.run(0.5 + 1.0 - 0.001)
    assert line.finished() == []
    line.run(0.002)
    assert line.to_carrier[-1] == CloseSocket(1000, "agent_hangup")
    assert_finished(
        line, outcome.AGENT_HANGUP, "close 1000; the carrier did not confirm the end of the good-bye in time"
    )


def test_a_stuck_carrier_is_not_waited_for_for_ever_either() -> None:
    line = Line().activate()
    line.carrier_writable(False)
    line.agent(convai.audio(b"\x01" * 4000))
    line.agent_lost(1000)
    line.run(1.6)
    assert line.played() == b""
    assert_finished(
        line, outcome.AGENT_HANGUP, "close 1000; the carrier did not confirm the end of the good-bye in time"
    )


def test_a_good_bye_without_audio_waits_for_its_mark_only() -> None:
    line = Line().activate()
    line.agent_lost(1005)
    assert twilio.marks(line.to_carrier) == ["g0:1"]
    line.carrier(twilio.mark("g0:1"))
    assert_finished(line, outcome.AGENT_HANGUP, "close 1005")


def test_the_longest_conversation_ends_like_a_good_bye() -> None:
    line = Line().activate()
    line.agent(convai.audio(b"\x01" * 160), convai.error(1000, "max_duration_exceeded", ""))
    line.run(2.0)
    assert line.call.state is State.DRAINING
    assert line.to_agent == [CloseSocket(1000)]
    line.carrier(twilio.mark("g0:1"))  # the end of the talkspurt, long before
    line.carrier(twilio.mark("g0:2"))
    assert_finished(line, outcome.MAX_DURATION, "1000 max_duration_exceeded")


# --- ends ---


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1001, outcome.AGENT_OPERATIONAL),
        (1002, outcome.AGENT_OPERATIONAL),
        (1006, outcome.AGENT_LOST),
        (1008, outcome.AGENT_CONFIG),
        (1011, outcome.AGENT_CRASHED),
    ],
)
@pytest.mark.parametrize("state", [State.CONNECTING, State.ACTIVE])
def test_the_agents_side_fails(state: State, code: int, reason: EndReason) -> None:
    line = line_in(state)
    line.agent(convai.audio(b"\x01" * 8000))
    line.forget()
    line.agent_lost(code, "words")
    assert line.to_carrier == [CloseSocket(1000, reason.reason)]
    assert line.to_agent == []
    assert_finished(line, reason, f"close {code}: words")


@pytest.mark.parametrize("code", [1000, 1005])
def test_a_good_bye_before_the_first_word_is_none(code: int) -> None:
    line = line_in(State.CONNECTING)
    line.agent_lost(code)
    assert line.to_carrier == [CloseSocket(1000, "agent_not_ready")]
    assert_finished(line, outcome.AGENT_NOT_READY, f"close {code}")


@pytest.mark.parametrize("code", [1000, 1006, 1011])
@pytest.mark.parametrize("state", [State.DRAINING, State.ENDED])
def test_an_agent_that_is_gone_cannot_fail(state: State, code: int) -> None:
    line = line_in(state)
    line.agent_lost(code)
    line.agent("{", b"x", convai.FLAT_ERROR)
    assert (line.to_carrier, line.to_agent, line.effects) == ([], [], [])
    assert line.call.state is state


@pytest.mark.parametrize(
    ("message", "reason", "detail"),
    [
        (b"\x00", outcome.AGENT_GARBAGE, "binary message; the protocol is JSON text"),
        (
            "<html>",
            outcome.AGENT_GARBAGE,
            "not a message of the agent protocol: JSON is malformed: invalid character (byte 0)",
        ),
        (
            convai.metadata("opus_48000"),
            outcome.AGENT_FORMAT,
            "audio format 'opus_48000' is not known; known are ulaw_8000, alaw_8000 and pcm_<rate> with rate in 8000, "
            "16000, 22050, 24000, 44100, 48000",
        ),
    ],
)
def test_the_agents_side_talks_nonsense(message: str | bytes, reason: EndReason, detail: str) -> None:
    line = line_in(State.CONNECTING)
    line.agent(message)
    assert line.to_agent == [CloseSocket(1000)]
    assert line.to_carrier == [CloseSocket(1000, reason.reason)]
    assert_finished(line, reason, detail)


@pytest.mark.parametrize("message", [convai.FLAT_ERROR, convai.error(1002, "x", "This request exceeds your quota")])
def test_an_error_ends_the_call_even_without_a_close(message: str) -> None:
    line = Line().activate()
    line.agent(message)
    line.run(1.999)
    assert line.finished() == []
    line.run(0.002)
    assert [finished.reason for finished in line.finished()] == [outcome.AGENT_QUOTA]


def test_a_silent_agent_is_gone() -> None:
    line = Line().activate()
    for _ in range(31 * 5):
        line.carrier(twilio.media(b"\xff" * 160))
        line.run(0.2)
    assert_finished(line, outcome.AGENT_SILENT, "nothing for 30 s")


def test_a_silent_carrier_is_gone() -> None:
    line = Line().activate()
    for _ in range(61):
        line.agent(convai.ping(1))
        line.run(1.0)
    assert_finished(line, outcome.CARRIER_SILENT, "nothing for 60 s")


@pytest.mark.parametrize("state", [state for state in State if state is not State.ENDED])
def test_a_fault_of_the_carriers_ends_the_call(state: State) -> None:
    line = line_in(state)
    line.carrier(b"\x00")
    assert line.to_carrier == [CloseSocket(1000, "bad_message")]
    assert line.to_agent == ([] if state is State.DRAINING else [CloseSocket(1000)])
    assert_finished(line, outcome.BAD_MESSAGE, "binary message; Media Streams are JSON text")


def test_what_was_said_last_still_reaches_the_agent() -> None:
    line = Line(upload_chunk_ms=100).activate()
    line.carrier(twilio.media(b"\x01" * 160), twilio.STOP)
    assert line.uploaded() == b"\x01" * 160
    assert line.to_agent[-1] == CloseSocket(1000)
    assert line.to_carrier == [CloseSocket(1000, "caller_hangup")]
    assert_finished(line, outcome.CALLER_HANGUP, "stop")


WAYS = ("stop", "carrier lost", "agent lost", "driver")


@pytest.mark.parametrize("state", [state for state in State if state is not State.ENDED])
@pytest.mark.parametrize("order", list(itertools.permutations(WAYS)), ids=" - ".join)
def test_ends_from_all_sides_in_any_order_give_back_one_slot(state: State, order: tuple[str, ...]) -> None:
    line = line_in(state)
    reasons = []
    for way in order:
        match way:
            case "stop":
                line.carrier(twilio.STOP)
            case "carrier lost":
                line.carrier_lost(1006)
            case "agent lost":
                line.agent_lost(1011)
            case _:
                line.fail(outcome.DRAINING)
        reasons.append([finished.reason for finished in line.finished()])
    (reason,) = reasons[-1]
    first = order[1] if state is State.DRAINING and order[0] == "agent lost" else order[0]
    early = state is State.WAITING
    assert (
        reason
        is {
            "stop": outcome.BAD_MESSAGE if early else outcome.CALLER_HANGUP,
            "carrier lost": outcome.NO_START if early else outcome.CARRIER_LOST,
            "agent lost": outcome.AGENT_LOST if state is State.RECONNECTING else outcome.AGENT_CRASHED,
            "driver": outcome.DRAINING,
        }[first]
    )
    assert line.call.state is State.ENDED
    assert line.next_timer() == math.inf


def test_after_the_end_no_timer_runs_though_audio_is_left() -> None:
    line = Line().activate()
    line.agent(convai.audio(b"\x01" * 80_000))
    line.carrier(twilio.STOP)
    assert line.next_timer() == math.inf


def test_what_was_drained_does_not_grow_afterwards() -> None:
    line = Line()
    earlier = line.call.drain()
    line.call.fail(outcome.BUG, "", line.clock.now)
    assert earlier == []
    assert line.call.drain() == [Finished(outcome.BUG, "")]


# --- anything at all ---

_happenings = st.one_of(
    st.sampled_from(
        [
            ("carrier", message)
            for message in (twilio.media(b"\x01" * 160), twilio.mark("g0:1"), twilio.mark("g1:2"), twilio.dtmf("1"))
        ]
    ),
    st.sampled_from(
        [
            ("agent", message)
            for message in (
                convai.metadata(), convai.metadata("pcm_16000", "pcm_24000"), convai.audio(b"\x01" * 5001, 1),
                convai.audio(b"\x01" * 333, 2), convai.interruption(1), convai.ping(1), convai.tool_call("t", "1"),
            )
        ]
    ),
    st.sampled_from([("carrier", twilio.STOP), ("agent", convai.FLAT_ERROR), ("agent", "{"), ("carrier", b"")]),
    st.tuples(st.sampled_from(["carrier lost", "agent lost"]), st.sampled_from([1000, 1006])),
    st.tuples(st.sampled_from(["carrier writable", "agent writable"]), st.booleans()),
    st.tuples(st.just("wait"), st.floats(0, 5)),
    st.tuples(st.sampled_from(["decide", "refuse", "connect", "fail"]), st.none()),
)  # fmt: skip


def _do(line: Line, what: str, how: object) -> None:
    """Let it happen if it can: the driver answers only what it was asked, and an agent speaks once connected."""
    connected = any(isinstance(effect, ConnectAgent) for effect in line.effects)
    match what, how:
        case "carrier", str() | bytes():
            line.carrier(how)
        case "agent", str() if line.to_agent:
            line.agent(how)
        case "carrier lost", int():
            line.carrier_lost(how)
        case "agent lost", int() if connected:
            line.agent_lost(how)
        case "carrier writable", bool():
            line.carrier_writable(how)
        case "agent writable", bool():
            line.agent_writable(how)
        case "wait", float():
            line.run(how)
        case "decide", _ if line.call.state is State.ADMITTING:
            line.admit()
        case "refuse", _ if line.call.state is State.ADMITTING:
            line.refuse(outcome.CAPACITY)
        case "connect", _ if connected and not line.to_agent:
            line.call.agent_connected(InitiationData(), line.clock.now)
            line.drain()
        case "fail", _:
            line.fail(outcome.DRAINING)


@given(st.integers(0, 4), st.lists(_happenings, max_size=25))
@settings(max_examples=150, deadline=None)
def test_whatever_happens_the_slot_is_given_back_once(progress: int, happenings: list[tuple[str, object]]) -> None:
    line = Line()
    (lambda: line, line.offer, line.admit, line.connect, line.connect)[progress]()
    if progress == 4:
        line.agent(convai.metadata())
    for what, how in happenings:
        _do(line, what, how)
        ended = line.call.state is State.ENDED
        assert len(line.finished()) == ended
        assert not ended or line.next_timer() == math.inf
    line.carrier_lost()
    assert len(line.finished()) == 1
    carrier, agent = len(line.to_carrier), len(line.to_agent)
    for what, how in happenings:
        if what not in ("connect",):
            _do(line, what, how)
    assert (len(line.to_carrier), len(line.to_agent)) == (carrier, agent)
    assert len(line.finished()) == 1
    assert [item for item in line.to_agent if isinstance(item, CloseSocket)] in ([], [CloseSocket(1000)])
