"""Errands of a call: who waits for the caller to have heard, and the stream that leaves and comes back."""

from __future__ import annotations

import dataclasses
import math

import pytest

from bridge import events, outcome
from bridge.calls.effects import Finished, Heard
from bridge.calls.errands import Errands
from bridge.calls.state import State
from bridge.calls.tools import Abilities
from bridge.leg import CloseSocket, ToneWay
from bridge.media.format import PCM_16K, ULAW_8K
from tests.kit import convai, twilio
from tests.kit.audio import assert_tone, make_tone, numbered
from tests.kit.calls import OPTIONS, Line
from tests.kit.legs import FAKE_SPEC, FakeLeg, offer

ABLE = dataclasses.replace(OPTIONS, abilities=Abilities(tones=ToneWay.EXCURSION), reconnect_s=2.0)
SILENCE = b"\xff" * 8000
"""A second of it."""


def active() -> Line:
    return Line(options=ABLE).activate()


def where(line: Line) -> str:
    """Where the carrier's stream is."""
    if line.call.is_away:
        return "away"
    return "expected to leave" if line.call.is_waited_for else "here"


# --- tickets ---


def test_where_nothing_is_unheard_the_ticket_is_due_at_once() -> None:
    line = active()
    assert line.ask_heard() == 1
    assert line.heard() == [1]
    assert line.ask_heard() == 2
    assert line.heard() == [1, 2]


def test_before_there_is_a_way_to_the_caller_nothing_is_unheard() -> None:
    line = Line().offer()
    line.ask_heard()
    assert line.heard() == [1]


def test_a_ticket_falls_due_with_its_mark() -> None:
    line = active()
    line.agent(convai.audio(b"\x01" * 4000))
    first = line.ask_heard()
    line.agent(convai.audio(b"\x02" * 1600))
    second = line.ask_heard()
    line.run(0.6)
    assert line.heard() == []
    [mark_1, mark_2] = twilio.marks(line.to_carrier)
    line.reached(mark_1)
    assert line.heard() == [first]
    line.reached(mark_1, mark_2)
    assert line.heard() == [first, second]


def test_a_ticket_whose_mark_never_comes_falls_due_all_the_same() -> None:
    line = active()
    line.agent(convai.audio(b"\x01" * 4000))
    line.ask_heard()
    line.run(0.5 + 1.0 - 0.001)
    assert line.heard() == []
    line.run(0.002)
    assert line.heard() == [1]
    line.reached(*twilio.marks(line.to_carrier))
    assert line.heard() == [1]


def test_an_interruption_makes_tickets_due() -> None:
    line = active()
    line.agent(convai.audio(b"\x01" * 4000))
    line.ask_heard()
    line.agent(convai.interruption(1))
    assert line.heard() == [1]


def test_the_streams_leaving_makes_tickets_due() -> None:
    line = active()
    line.agent(convai.audio(b"\x01" * 4000))
    line.ask_heard()
    line.leave()
    assert line.heard() == [1]


def test_the_calls_end_makes_tickets_due_before_it_is_told() -> None:
    line = active()
    line.agent(convai.audio(b"\x01" * 4000))
    line.ask_heard()
    line.stop()
    assert line.effects[-2:] == [Heard(1), Finished(outcome.CALLER_HANGUP, "stop")]
    line.ask_heard()
    assert line.effects[-1] == Heard(2), "nobody waits for ever"


def test_a_ticket_for_a_caller_on_hold_or_with_a_stuck_carrier_is_bounded() -> None:
    line = active()
    line.call.put_on_hold(True, line.clock.now)
    line.ask_heard()
    line.run(2.0)
    assert line.heard() == [1]
    line.carrier_writable(False)
    line.ask_heard()
    line.run(3.0)
    assert line.heard() == [1, 2]


# --- the stream leaves and comes back ---


def test_a_stop_during_an_errand_is_no_end() -> None:
    line = active()
    line.let_leave()
    assert where(line) == "expected to leave"
    line.stop()
    assert where(line) == "away"
    assert line.call.state is State.ACTIVE
    assert line.finished() == []
    assert [note.event for note in line.notes()] == ["stream_away"]
    line.come_back()
    assert where(line) == "here"
    assert [note.event for note in line.notes()] == ["stream_away", "stream_back"]
    line.stop()
    assert line.finished() == [Finished(outcome.CALLER_HANGUP, "stop")]


@pytest.mark.parametrize("code", [1000, 1005, 1006])
def test_a_socket_that_goes_during_an_errand_is_no_end_either(code: int) -> None:
    line = active()
    line.let_leave()
    line.carrier_lost(code)
    assert line.call.is_away
    line.carrier_lost(code)
    assert line.finished() == []


def test_agent_audio_waits_for_the_new_stream_in_order() -> None:
    line = active().leave()
    line.forget()
    said = numbered(12_000)
    line.agent(convai.audio(said[:1001]), convai.audio(said[1001:5000]))
    line.run(3.0)
    line.agent(convai.audio(said[5000:]))
    assert line.played() == b""
    line.come_back()
    line.run(3.0)
    assert line.played() == said
    assert all(
        message["streamSid"] == line.stream_sid for message in twilio.sent(line.to_carrier) if "event" in message
    )


def test_what_waited_before_the_stream_left_is_not_lost() -> None:
    line = active()
    said = numbered(8000)
    line.agent(convai.audio(said))
    with_the_carrier = len(line.played())
    assert with_the_carrier == 3200
    line.leave().come_back()
    line.run(3.0)
    assert line.played() == said, "nothing is said twice, nothing that was not sent is left out"


def test_marks_that_the_old_stream_owed_are_asked_of_the_new_one() -> None:
    line = active()
    line.agent(convai.audio(b"\x01" * 1600))
    line.run(1.0)
    [mark] = twilio.marks(line.to_carrier)
    line.leave()
    line.forget()
    line.come_back()
    assert twilio.marks(line.to_carrier) == [mark]
    line.reached(mark)
    assert line.call.stats.marks == 1


def test_a_payload_that_was_cut_goes_on_where_it_was_cut() -> None:
    line = active()
    said = numbered(8000)
    line.agent(convai.audio(said))
    line.ask_heard()
    line.run(0.25)
    before = line.played()
    line.leave()
    line.forget()
    line.come_back()
    line.run(2.0)
    assert before + line.played() == said


def test_the_caller_is_heard_over_the_new_stream_at_once() -> None:
    line = active().leave().come_back()
    line.forget()
    line.say(b"\x02" * 160)
    assert line.uploaded() == b"\x02" * 160
    assert line.leg.relayed == 1, "by the shortest way"
    assert line.call.current_stats().caller_frames == 1


def test_frames_of_both_streams_count() -> None:
    line = active()
    line.say(b"\x01" * 160)
    line.leave().come_back()
    line.say(b"\x02" * 160)
    assert line.call.current_stats().caller_frames == 2


def test_the_agent_hears_silence_while_the_caller_is_away() -> None:
    line = active().leave(30.0)
    line.forget()
    line.run(3.5)
    assert line.uploaded() == SILENCE * 3
    line.come_back()
    line.forget()
    line.run(3.0)
    assert line.uploaded() == b""


def test_the_silence_is_in_the_agents_format() -> None:
    line = Line(options=ABLE).activate(input_format="pcm_16000").leave()
    line.forget()
    line.run(1.1)
    assert line.uploaded() == b"\x00" * 32_000
    line.come_back()
    line.forget()
    line.say(make_tone(700, 200, ULAW_8K))
    assert_tone(line.uploaded()[1600:-1600], PCM_16K, 700)


def test_a_stream_that_does_not_come_back_is_lost_once() -> None:
    line = active().leave(8.0)
    line.run(7.999)
    assert line.finished() == []
    line.run(0.002)
    assert line.finished() == [Finished(outcome.CARRIER_LOST, "the media stream did not come back")]
    line.run(100.0)
    assert len(line.finished()) == 1
    assert line.to_agent[-1] == CloseSocket(1000)
    assert not line.call.is_waited_for


def test_a_stream_that_never_left_in_time_is_an_ordinary_one_again() -> None:
    line = active()
    line.let_leave(5.0)
    line.run(5.1)
    assert not line.call.is_waited_for
    line.stop()
    assert line.finished() == [Finished(outcome.CALLER_HANGUP, "stop")]


def test_an_errand_that_came_to_nothing() -> None:
    line = active()
    line.let_leave()
    line.stayed()
    assert line.finished() == []
    line.stop()
    assert line.finished() == [Finished(outcome.CALLER_HANGUP, "stop")]


def test_a_stream_that_left_for_no_errand_left_with_the_caller() -> None:
    line = active().leave()
    line.stayed()
    line.stayed()
    assert line.finished() == [Finished(outcome.CALLER_HANGUP, "during an errand of the carrier's")]
    assert not line.call.ended_by_us


def test_a_new_stream_that_comes_before_the_old_one_has_left() -> None:
    line = active()
    line.let_leave()
    line.come_back()
    assert line.call.state is State.ACTIVE
    line.agent(convai.audio(b"\x01" * 160))
    assert line.played() == b"\x01" * 160


def test_another_errand_after_the_first() -> None:
    line = active().leave().come_back().leave()
    assert line.call.is_away
    line.come_back()
    line.forget()
    line.say(b"\x02" * 160)
    line.agent(convai.audio(b"\x01" * 160))
    assert (line.uploaded(), line.played()) == (b"\x02" * 160, b"\x01" * 160)


def test_a_new_stream_in_another_format() -> None:
    line = active()
    line.agent(convai.audio(make_tone(700, 1000, ULAW_8K)))
    before = len(line.played())
    line.leave()
    line.forget()
    line.come_back(twilio.L16_16K)
    line.run(3.0)
    heard = line.played()
    assert len(heard) == (8000 - before) * 4, "what waited is converted"
    assert_tone(heard[3200:-3200], PCM_16K, 700)
    line.forget()
    line.agent(convai.audio(make_tone(1000, 500, ULAW_8K)))
    line.run(2.0)
    assert_tone(line.played()[3200:-3200], PCM_16K, 1000)
    line.say(make_tone(600, 500, PCM_16K))
    assert_tone(line.uploaded()[800:-800], ULAW_8K, 600)
    line.stop()
    assert line.call.stats.agent_dropped_ms == 0


def test_marks_and_tickets_survive_a_new_format() -> None:
    line = active()
    line.agent(convai.audio(b"\x01" * 1600))
    line.run(1.0)
    line.leave()
    line.forget()
    line.come_back(twilio.L16_16K)
    [mark] = twilio.marks(line.to_carrier)
    line.agent(convai.audio(b"\x01" * 1600))
    ticket = line.ask_heard()
    line.reached(mark)
    assert line.heard() == []
    line.run(0.3)
    line.reached(twilio.marks(line.to_carrier)[-1])
    assert line.heard() == [ticket]
    line.stop()
    assert line.call.stats.heard_ms == 400


def test_hold_music_goes_on_in_the_new_format() -> None:
    line = active()
    line.call.put_on_hold(True, line.clock.now)
    line.leave().come_back(twilio.L16_16K)
    line.forget()
    line.run(4.0)
    assert len(line.played()) == pytest.approx(4.0 * 32_000, abs=16_000)
    line.call.put_on_hold(False, line.clock.now)
    line.drain()
    line.forget()
    line.say(make_tone(600, 500, PCM_16K))
    assert_tone(line.uploaded()[800:-800], ULAW_8K, 600)


def test_what_a_caller_said_to_a_broken_agent_is_converted_too() -> None:
    line = active().reconnect()
    line.say(make_tone(700, 300, ULAW_8K))
    line.let_leave()
    line.come_back(twilio.L16_16K)
    line.say(make_tone(700, 300, PCM_16K))
    line.ready_again()
    assert len(line.uploaded()) == pytest.approx(4800, abs=64)
    assert_tone(line.uploaded()[400:2000], ULAW_8K, 700)
    assert_tone(line.uploaded()[2800:4400], ULAW_8K, 700)


def test_a_good_bye_while_the_stream_is_away_is_heard_when_it_is_back() -> None:
    line = active().leave(30.0)
    line.agent(convai.audio(b"\x01" * 4000))
    line.agent_lost(1000)
    assert line.call.state is State.DRAINING
    line.run(10.0)
    assert line.finished() == []
    line.forget()
    line.come_back()
    line.run(0.5)
    assert line.played() == b"\x01" * 4000
    assert line.finished() == []
    line.reached(*twilio.marks(line.to_carrier))
    assert line.finished() == [Finished(outcome.AGENT_HANGUP, "close 1000")]


def test_a_stream_that_leaves_while_the_rest_is_heard() -> None:
    line = active()
    line.let_leave(5.0)
    line.agent(convai.audio(b"\x01" * 8000))
    line.agent_lost(1000)
    line.stop()
    line.run(4.0)
    assert line.finished() == []
    line.come_back()
    line.run(3.0)
    assert [finished.reason for finished in line.finished()] == [outcome.AGENT_HANGUP]


def test_nobody_waits_for_ever_for_a_stream_to_hear_the_good_bye() -> None:
    line = active().leave(5.0)
    line.agent_lost(1000)
    line.run(6.0)
    assert [finished.reason for finished in line.finished()] == [outcome.CARRIER_LOST]


def test_last_words_that_are_made_while_the_stream_is_away() -> None:
    line = active()
    line.let_leave(30.0)
    line.agent(convai.audio(b"\x01" * 160))
    line.stop()
    line.call.fail(outcome.DRAINING, "", line.clock.now)
    line.drain()
    assert line.finished() == [Finished(outcome.DRAINING, "")]
    assert line.next_timer() == math.inf


def test_an_agent_that_breaks_while_the_stream_is_away() -> None:
    line = active().leave(10.0)
    line.agent(convai.audio(b"\x01" * 1600))
    line.forget()
    line.agent_lost(1006)
    assert line.call.state is State.RECONNECTING
    line.run(0.5)
    line.ready_again()
    line.agent(convai.audio(b"\x02" * 1600))
    assert line.to_carrier == []
    line.come_back()
    line.run(1.0)
    assert line.played() == b"\x01" * 1600 + b"\x02" * 1600


def test_a_stream_that_is_back_before_the_agent_is() -> None:
    line = active().leave(10.0)
    line.agent_lost(1006)
    line.come_back()
    line.forget()
    line.run(0.5)
    assert line.played(), "the caller hears that the line is alive"
    line.say(b"\x02" * 160)
    line.ready_again()
    assert line.uploaded() == b"\x02" * 160


def test_an_agent_that_is_not_replaced_while_the_stream_is_away() -> None:
    line = Line(options=dataclasses.replace(ABLE, apologise=True)).activate().leave(10.0)
    line.agent_lost(1006)
    line.run(2.1)
    assert line.finished() == [Finished(outcome.AGENT_LOST, "close 1006")], "nobody is there to be told"
    assert not line.call.apologised


def test_an_interruption_while_the_stream_is_away() -> None:
    line = active()
    line.agent(convai.audio(b"\x01" * 8000, 1))
    line.leave()
    line.forget()
    line.agent(convai.interruption(1), convai.audio(b"\x01" * 160, 1), convai.audio(b"\x02" * 160, 2))
    assert not line.call.flushed
    assert line.call.stats.clears == 0
    line.come_back()
    assert line.played() == b"\x02" * 160
    assert twilio.clears(line.to_carrier) == 0


def test_a_stuck_socket_does_not_outlive_its_stream() -> None:
    line = active()
    line.carrier_writable(False)
    line.leave()
    line.carrier_writable(True)
    line.agent(convai.audio(b"\x01" * 160))
    assert line.played() == b""
    line.come_back()
    assert line.played() == b"\x01" * 160


def test_a_stream_for_a_call_that_is_over_is_let_go() -> None:
    line = active().leave()
    line.fail(outcome.OPERATOR_HANGUP)
    line.forget()
    line.come_back()
    assert line.to_carrier == [CloseSocket(1000, "operator_hangup")]
    assert line.effects == []
    assert line.next_timer() == math.inf


# --- the carrier's own pauses ---


def test_the_agent_hears_silence_while_the_carrier_pauses() -> None:
    leg = FakeLeg()
    line = Line(leg=leg, spec=FAKE_SPEC)
    leg.coming = [offer()]
    line.activate()
    leg.coming = [events.Paused()]
    line.carrier("pause")
    line.run(2.5)
    assert line.uploaded() == SILENCE * 2
    leg.coming = [events.Resumed()]
    line.carrier("resume")
    line.forget()
    line.run(5.0)
    assert line.uploaded() == b""


def test_a_pause_before_the_agent_listens() -> None:
    leg = FakeLeg()
    line = Line(leg=leg, spec=FAKE_SPEC)
    leg.coming = [offer()]
    line.connect()
    leg.coming = [events.Paused()]
    line.carrier("pause")
    line.run(1.2)
    assert line.uploaded() == b""
    line.agent(convai.metadata())
    line.run(2.0)
    assert line.uploaded() == SILENCE * 2


def test_a_pause_and_an_errand_at_once() -> None:
    errands = Errands()
    errands.pause(10.0)
    errands.let_leave(20.0)
    errands.left(10.5)
    assert errands.silence_due_s(10.9) == 0.0
    assert errands.silence_due_s(11.0) == 1.0
    errands.back()
    assert errands.next_timer() == 12.0, "the pause goes on"
    errands.left(11.5)
    errands.resume()
    assert errands.next_timer() == 12.0, "the caller is still away"
    errands.back()
    assert errands.next_timer() == math.inf
