from __future__ import annotations

import math

import pytest

from bridge.media.format import PCM_8K, ULAW_8K
from bridge.simulators.agent_scenarios import ENDLESS_MS, Say
from bridge.simulators.agent_turn import ODD_SIZES_BYTES, Turn
from bridge.simulators.speech import load_clip, tone


def turn(say: Say, *, speed: float = 8.0, chunk_ms: int = 100) -> Turn:
    return Turn(say, 3, ULAW_8K, chunk_ms, speed, now=10.0)


def test_chunks_fall_due_so_many_times_faster_than_real_time() -> None:
    speech = turn(Say(duration_ms=300), speed=8.0)
    assert [len(chunk) for chunk in speech.take(10.0)] == [800]
    assert speech.next_due_s == pytest.approx(10.0125)
    assert speech.take(10.012) == []
    assert [len(chunk) for chunk in speech.take(10.02)] == [800]
    assert not speech.exhausted
    assert [len(chunk) for chunk in speech.take(11.0)] == [800]
    assert (speech.exhausted, speech.next_due_s, speech.sent_ms) == (True, math.inf, 300.0)
    assert speech.take(12.0) == []


def test_speed_0_gives_all_at_once() -> None:
    speech = turn(Say(clip="caller_thanks"), speed=0.0)
    assert b"".join(speech.take(10.0)) == load_clip("caller_thanks")
    assert speech.total_ms == speech.sent_ms == ULAW_8K.duration_ms(len(load_clip("caller_thanks")))


def test_odd_chunks_have_1_and_prime_numbers_of_bytes() -> None:
    speech = Turn(Say(duration_ms=1000, odd_chunks=True), 1, PCM_8K, 100, 0.0, now=0.0)
    chunks = speech.take(0.0)
    assert tuple(map(len, chunks))[: len(ODD_SIZES_BYTES)] == ODD_SIZES_BYTES
    assert b"".join(chunks) == tone(440, PCM_8K, 1000)


def test_an_endless_tone_keeps_to_real_time_even_if_told_to_hurry() -> None:
    speech = turn(Say(duration_ms=ENDLESS_MS), speed=0.0)
    assert b"".join(speech.take(19.95)) == tone(440, ULAW_8K, 10_000)
    assert (speech.exhausted, speech.total_ms) == (False, math.inf)


def test_a_turn_without_audio_is_exhausted_at_once() -> None:
    speech = turn(Say(duration_ms=0))
    assert (speech.exhausted, speech.next_due_s) == (True, math.inf)
    assert speech.cut_off(300, now=10.0) == []
    assert speech.heard_text(0.0) == ""


def test_a_turn_that_is_cut_off_leaves_late_audio_from_what_was_not_sent() -> None:
    speech = turn(Say(clip="agent_answer"), speed=1.0)
    assert len(speech.take(10.0)) == 1
    stale = speech.cut_off(300, now=20.0)
    assert [at for at, _ in stale] == [20.0, 20.06, 20.15]
    assert b"".join(chunk for _, chunk in stale) == load_clip("agent_answer")[800:3200]
    assert (speech.exhausted, speech.take(99.0)) == (True, [])


def test_a_turn_that_was_all_sent_repeats_its_longest_chunk() -> None:
    speech = turn(Say(duration_ms=150), speed=0.0)
    speech.take(10.0)
    assert [len(chunk) for _, chunk in speech.cut_off(300, now=10.0)] == [800, 800, 800]


def test_the_words_heard_go_by_the_time_that_was_played() -> None:
    speech = turn(Say(text="one two three four", duration_ms=400), speed=0.0)
    speech.take(10.0)
    assert speech.heard_text(0.0) == "one two three four"
    assert speech.heard_text(200.0) == "one two"
    assert speech.heard_text(999.0) == ""
