"""The timing of turns: who waited for whom, how long, and whose milliseconds they were."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.turns import MAX_TURNS, OWNERS, LineClock, TurnMeter, TurnSummary, TurnTiming


def spoke(meter: TurnMeter, from_s: float, to_s: float) -> None:
    meter.caller_speech(True, from_s)
    meter.caller_speech(False, to_s)


def answered(meter: TurnMeter, audio_s: float, sent_s: float | None = None) -> None:
    meter.agent_audio(audio_s)
    meter.sent(audio_s if sent_s is None else sent_s)


def test_a_turn_from_the_end_of_speech_to_the_answer() -> None:
    meter = TurnMeter()
    answered(meter, 0.5)
    meter.caller_speech(True, 2.0)
    meter.caller_speech(False, 4.0, late_s=0.03, held_s=0.02)
    meter.caller_said(4.4)
    answered(meter, 5.0, 5.01)
    meter.end(8.0)
    assert meter.turns == [
        TurnTiming(
            at_s=4.0,
            transcript_ms=400.0,
            response_ms=1040.0,
            silence_ms=1010.0,
            owners={"carrier": 30.0, "bridge_in": 20.0, "agent": 980.0, "tool": 0.0, "bridge_out": 10.0},
        )
    ]
    assert meter.summary() == TurnSummary(
        turns=1,
        answered=1,
        interruptions=0,
        greeting_ms=500.0,
        response_mean_ms=1040.0,
        response_p50_ms=1040.0,
        response_p95_ms=1040.0,
        response_max_ms=1040.0,
        longest_silence_ms=1010.0,
        owners_mean_ms={"carrier": 30.0, "bridge_in": 20.0, "agent": 980.0, "tool": 0.0, "bridge_out": 10.0},
    )


def test_a_call_without_a_word() -> None:
    meter = TurnMeter()
    meter.end(3.0)
    assert meter.turns == []
    assert meter.summary() == TurnSummary(turns=0, answered=0, interruptions=0)


def test_the_end_of_speech_may_become_known_after_the_answer() -> None:
    meter = TurnMeter()
    meter.caller_speech(True, 1.0)
    meter.caller_said(2.1)
    answered(meter, 2.15)
    meter.caller_speech(False, 2.0)
    meter.end(5.0)
    assert [(turn.at_s, turn.transcript_ms, turn.response_ms) for turn in meter.turns] == [(2.0, 100.0, 150.0)]


def test_speech_beyond_the_answer_does_not_move_its_turn() -> None:
    meter = TurnMeter()
    meter.caller_speech(True, 1.0)
    meter.caller_said(2.0)
    answered(meter, 2.5)
    meter.caller_speech(False, 4.0)
    meter.end(5.0)
    assert [(turn.at_s, turn.response_ms) for turn in meter.turns] == [(2.0, 500.0)]


def test_a_pause_for_thought_is_one_turn() -> None:
    meter = TurnMeter()
    spoke(meter, 1.0, 2.0)
    spoke(meter, 3.5, 4.0)
    meter.caller_said(4.2)
    answered(meter, 4.5)
    meter.end(6.0)
    (turn,) = meter.turns
    assert (turn.at_s, turn.response_ms, turn.silence_ms) == (4.0, 500.0, 1500.0)


def test_the_last_transcript_counts_while_no_answer_came() -> None:
    meter = TurnMeter()
    spoke(meter, 1.0, 2.0)
    meter.caller_said(2.2)
    spoke(meter, 2.5, 3.0)
    meter.caller_said(3.1)
    answered(meter, 3.4)
    meter.end(6.0)
    (turn,) = meter.turns
    assert (turn.at_s, turn.transcript_ms, turn.response_ms) == (3.0, 100.0, 400.0)


def test_a_cough_leaves_no_turn() -> None:
    meter = TurnMeter()
    meter.caller_said(1.0)
    answered(meter, 1.5)
    spoke(meter, 2.0, 2.2)
    answered(meter, 2.3)  # the same answer goes on
    meter.end(9.0)
    assert [turn.response_ms for turn in meter.turns] == [500.0]
    assert meter.longest_silence_s == pytest.approx(0.5)


def test_turns_without_any_energy_are_timed_from_their_transcripts() -> None:
    meter = TurnMeter()
    for at_s in (1.0, 3.0):
        meter.caller_said(at_s)
        answered(meter, at_s + 0.5)
    meter.end(5.0)
    assert [(turn.at_s, turn.transcript_ms, turn.response_ms) for turn in meter.turns] == [
        (1.0, 0.0, 500.0),
        (3.0, 0.0, 500.0),
    ]


def test_an_agent_without_transcripts_is_taken_by_its_audio() -> None:
    meter = TurnMeter()
    spoke(meter, 1.0, 2.0)
    answered(meter, 2.6)
    spoke(meter, 4.0, 5.0)
    answered(meter, 5.7)
    meter.end(9.0)
    assert [(turn.transcript_ms, turn.response_ms) for turn in meter.turns] == [(None, 600.0), (None, 700.0)]


def test_audio_that_went_on_while_the_caller_spoke_is_no_answer() -> None:
    meter = TurnMeter()
    answered(meter, 0.2)
    meter.caller_speech(True, 1.0)
    answered(meter, 1.1)
    meter.caller_speech(False, 1.5)
    answered(meter, 1.6)
    meter.end(4.0)
    assert meter.turns == []


def test_a_late_transcript_joins_the_turn_that_its_audio_began() -> None:
    meter = TurnMeter()
    spoke(meter, 1.0, 2.0)
    answered(meter, 2.6)
    meter.caller_said(2.7)
    meter.end(4.0)
    assert [(turn.transcript_ms, turn.response_ms) for turn in meter.turns] == [(700.0, 600.0)]


def test_interruptions_open_turns_of_their_own() -> None:
    meter = TurnMeter()
    spoke(meter, 1.0, 2.0)
    meter.caller_said(2.1)
    answered(meter, 2.5)
    meter.caller_speech(True, 3.0)
    meter.interrupted(3.2)
    meter.caller_speech(False, 4.0)
    meter.caller_said(4.1)
    answered(meter, 4.6)
    meter.interrupted(5.0)  # without a word that was loud enough
    meter.caller_said(5.5)
    answered(meter, 6.0)
    meter.end(8.0)
    assert [(turn.barged_in, turn.response_ms) for turn in meter.turns] == [
        (False, 500.0),
        (True, 600.0),
        (True, 500.0),
    ]
    assert meter.summary().interruptions == 2


def test_an_unanswered_turn_is_silence_until_the_end() -> None:
    meter = TurnMeter()
    spoke(meter, 1.0, 2.0)
    meter.caller_said(2.2)
    meter.agent_audio(3.0)  # never handed to the carrier
    meter.end(9.0)
    (turn,) = meter.turns
    assert (turn.response_ms, turn.silence_ms, turn.owners) == (None, 7000.0, {})
    assert meter.summary().response_mean_ms is None
    assert meter.summary().longest_silence_ms == 7000.0


def test_the_time_of_our_own_tools_is_theirs() -> None:
    meter = TurnMeter()
    meter.tool_closed(0.5)  # of nobody
    spoke(meter, 1.0, 2.0)
    meter.caller_said(2.1)
    meter.tool_open(2.5)
    meter.tool_open(2.6)
    meter.tool_closed(2.7)
    meter.tool_closed(3.5)
    answered(meter, 4.0)
    meter.end(6.0)
    (turn,) = meter.turns
    assert (turn.owners["agent"], turn.owners["tool"], turn.response_ms) == (1000.0, 1000.0, 2000.0)


def test_a_tool_that_runs_on_into_the_answer_counts_until_then() -> None:
    meter = TurnMeter()
    meter.tool_open(1.0)
    spoke(meter, 1.0, 2.0)
    meter.caller_said(2.1)
    answered(meter, 2.5)
    meter.tool_closed(9.0)
    meter.end(10.0)
    assert meter.turns[0].owners["tool"] == 500.0


def test_a_tool_before_the_end_of_speech_is_known() -> None:
    meter = TurnMeter()
    meter.caller_speech(True, 1.0)
    meter.tool_open(2.2)
    meter.tool_closed(2.4)
    meter.caller_said(2.5)
    answered(meter, 2.6)
    meter.caller_speech(False, 2.1)
    meter.end(10.0)
    assert meter.turns[0].owners["tool"] == 200.0


def test_when_the_media_path_need_not_call() -> None:
    meter = TurnMeter()
    wanted = [meter.wants_audio]
    steps: list[Callable[[], None]] = [
        lambda: answered(meter, 0.5),
        lambda: meter.caller_speech(True, 1.0),
        lambda: meter.caller_speech(False, 2.0),
        lambda: meter.caller_said(2.1),
        lambda: meter.agent_audio(2.5),
        lambda: meter.sent(2.5),
        lambda: meter.interrupted(3.0),
        lambda: meter.end(4.0),
    ]
    for step in steps:
        step()
        wanted.append(meter.wants_audio)
    assert wanted == [True, False, True, True, True, True, False, True, False]


def test_the_end_comes_once() -> None:
    meter = TurnMeter()
    meter.caller_said(1.0)
    meter.end(2.0)
    meter.end(3.0)
    assert [turn.silence_ms for turn in meter.turns] == [1000.0]


def test_the_list_has_a_bound_and_the_summary_counts_on() -> None:
    meter = TurnMeter()
    for number in range(MAX_TURNS + 5):
        meter.caller_said(number)
        answered(meter, number + 0.1 * (1 + number % 2))
    meter.end(MAX_TURNS + 5.0)
    assert len(meter.turns) == MAX_TURNS
    summary = meter.summary()
    assert summary.turns == summary.answered == MAX_TURNS + 5
    assert (summary.response_p50_ms, summary.response_p95_ms) == (100.0, 200.0)


def test_lateness_is_what_comes_on_top_of_the_soonest_frame() -> None:
    clock = LineClock()
    assert clock.late_s(0.02, 10.02) == 0.0
    assert clock.late_s(0.04, 10.14) == pytest.approx(0.1, abs=1e-3)
    assert clock.late_s(0.06, 10.06) == 0.0
    assert clock.late_s(0.08, 10.09) == pytest.approx(0.01, abs=1e-3)


def test_a_slow_crystal_is_not_lateness() -> None:
    clock = LineClock()
    late_s = [clock.late_s(second, second * 1.00005) for second in range(3600)]
    assert max(late_s) < 0.001


STEPS = st.sampled_from(["start", "stop", "said", "interrupted", "audio", "sent", "open", "closed"])


@given(st.lists(st.tuples(STEPS, st.floats(0, 2), st.floats(0, 1)), max_size=60))
def test_whatever_happens_the_sums_are_right(steps: list[tuple[str, float, float]]) -> None:
    meter, now = TurnMeter(), 0.0
    for step, wait_s, back_s in steps:
        now += wait_s
        match step:
            case "start" | "stop":
                meter.caller_speech(step == "start", max(0.0, now - back_s), late_s=back_s / 10, held_s=back_s / 20)
            case "said":
                meter.caller_said(now)
            case "interrupted":
                meter.interrupted(now)
            case "audio":
                meter.agent_audio(now)
            case "sent":
                meter.sent(now)
            case "open":
                meter.tool_open(now)
            case _:
                meter.tool_closed(now)
    meter.end(now)
    summary = meter.summary()
    assert summary.turns == len(meter.turns) >= summary.answered
    for turn in meter.turns:
        assert turn.silence_ms >= 0
        assert (turn.response_ms is None) == (not turn.owners)
        if turn.response_ms is not None:
            assert tuple(turn.owners) == OWNERS
            assert min(turn.owners.values()) >= 0
            assert sum(turn.owners.values()) == pytest.approx(turn.response_ms, abs=0.5)
    assert msgspec.json.decode(msgspec.json.encode(summary), type=TurnSummary) == summary
