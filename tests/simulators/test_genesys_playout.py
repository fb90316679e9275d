from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.simulators.genesys_playout import Playback, Playout
from bridge.simulators.twilio_playout import Gap

T = 1000.0
FRAME = bytes(range(160))
STARTED, COMPLETED = [Playback.STARTED], [Playback.COMPLETED]


def test_audio_is_heard_at_8_khz_and_silence_when_there_is_none() -> None:
    playout = Playout(T)
    assert playout.push(FRAME * 2, T + 0.010) == STARTED
    playout.advance(T + 0.030)
    assert playout.take_heard(1000) == b"\xff" * 80 + FRAME
    assert playout.advance(T + 0.060) == COMPLETED
    assert playout.take_heard(100) == FRAME[:100]
    assert playout.take_heard(1000) == FRAME[100:] + b"\xff" * 80
    playout.advance(T + 0.010)  # time never goes back
    assert playout.played_samples == 480


def test_started_and_completed_come_once_per_playback_at_their_time() -> None:
    playout = Playout(T)
    assert playout.next_report_s() == math.inf
    assert playout.push(FRAME, T) == STARTED
    assert playout.push(FRAME, T) == []
    assert playout.next_report_s() == pytest.approx(T + 0.040)
    assert playout.advance(T + 0.0399) == []
    assert playout.advance(T + 0.040) == COMPLETED
    assert playout.advance(T + 1) == []
    assert playout.push(FRAME, T + 2) == STARTED


def test_audio_that_comes_late_starts_a_new_playback() -> None:
    playout = Playout(T)
    playout.push(FRAME, T)
    assert playout.push(FRAME, T + 0.050) == [Playback.COMPLETED, Playback.STARTED]
    assert playout.gaps == [Gap(20.0, 30.0)]


def test_audio_just_in_time_is_no_gap_and_long_pauses_are_none() -> None:
    playout = Playout(T)
    playout.push(FRAME, T)
    playout.push(FRAME, T + 0.020)
    playout.push(FRAME, T + 1.041)
    assert playout.gaps == []


def test_nothing_is_nothing() -> None:
    playout = Playout(T)
    assert playout.push(b"", T) == []
    assert playout.buffered_ms == 0.0


@pytest.mark.parametrize(("reported", "expected"), [(True, COMPLETED), (False, [])])
def test_clear_drops_the_rest_and_leaves_no_gap(reported: bool, expected: list[Playback]) -> None:
    playout = Playout(T, completed_after_clear=reported)
    playout.push(FRAME * 3, T)
    assert playout.lead_max_ms == 60.0
    assert playout.clear(T + 0.020) == (40.0, expected)
    assert playout.clear(T + 0.021) == (0.0, [])
    assert playout.advance(T + 0.040) == []
    assert playout.push(FRAME, T + 0.040) == STARTED
    assert playout.gaps == []


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 60)), max_size=30))
def test_every_byte_is_heard_once_and_the_clock_never_drifts(pushes: list[tuple[int, int]]) -> None:
    playout, now_ms, pushed = Playout(T), 0, bytearray()
    for size, pause_ms in pushes:
        playout.push(b"\x01" * size, T + now_ms / 1000)
        pushed += b"\x01" * size
        now_ms += pause_ms
    playout.advance(T + now_ms / 1000 + 3.0)
    heard = playout.take_heard(playout.played_samples)
    assert len(heard) == playout.played_samples == now_ms * 8 + 24_000
    assert heard.count(1) == len(pushed)
