from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.simulators.twilio_playout import Gap, Playout

T = 1000.0
FRAME = bytes(range(160))


def test_audio_is_heard_at_8_khz_and_silence_when_there_is_none() -> None:
    playout = Playout(T)
    playout.push(FRAME * 2, T + 0.010)
    playout.advance(T + 0.030)
    assert playout.heard == b"\xff" * 80 + FRAME
    playout.advance(T + 0.060)
    assert playout.heard == b"\xff" * 80 + FRAME * 2 + b"\xff" * 80
    playout.advance(T + 0.010)  # time never goes back
    assert len(playout.heard) == 480


def test_a_mark_comes_back_when_all_audio_before_it_has_played() -> None:
    playout = Playout(T)
    playout.push(FRAME, T)
    assert playout.mark("a", T) == []
    playout.push(FRAME, T)
    assert playout.mark("b", T) == []
    assert playout.next_mark_s() == pytest.approx(T + 0.020)
    assert playout.advance(T + 0.0199) == []
    assert playout.advance(T + 0.020) == ["a"]
    assert playout.next_mark_s() == pytest.approx(T + 0.040)
    assert playout.advance(T + 1.0) == ["b"]
    assert playout.next_mark_s() == math.inf


def test_a_mark_comes_back_at_once_when_nothing_is_queued() -> None:
    playout = Playout(T)
    assert playout.mark("a", T + 0.5) == ["a"]
    playout.push(FRAME, T + 0.5)
    assert playout.mark("b", T + 0.52) == ["b"]


def test_a_push_tells_marks_that_were_reached_meanwhile() -> None:
    playout = Playout(T)
    playout.push(FRAME, T)
    playout.mark("a", T)
    assert playout.push(FRAME, T + 0.5) == ["a"]


def test_clear_drops_the_rest_and_brings_all_marks_back_in_order() -> None:
    playout = Playout(T)
    playout.push(FRAME, T)
    playout.mark("a", T)
    playout.push(FRAME * 2, T)
    playout.mark("b", T)
    assert playout.clear(T + 0.030) == (30.0, ["a", "b"])
    assert (playout.buffered_ms, playout.next_mark_s()) == (0.0, math.inf)
    assert playout.clear(T + 0.040) == (0.0, [])
    playout.push(FRAME, T + 0.050)
    playout.advance(T + 0.070)
    assert playout.heard[400:] == FRAME


def test_a_buffer_that_runs_dry_in_the_midst_is_a_gap() -> None:
    playout = Playout(T)
    playout.push(FRAME, T)
    playout.push(FRAME, T + 0.020)  # just in time
    assert playout.gaps == []
    playout.push(FRAME, T + 0.055)
    playout.push(b"", T + 0.080)
    playout.push(FRAME, T + 0.100)
    assert playout.gaps == [Gap(40.0, 15.0), Gap(75.0, 25.0)]


def test_long_pauses_and_what_a_clear_left_are_no_gaps() -> None:
    playout = Playout(T)
    playout.push(FRAME, T)
    playout.push(FRAME, T + 1.021)  # 1.001 s after the buffer ran dry
    playout.clear(T + 1.030)
    playout.push(FRAME, T + 1.050)
    assert playout.gaps == []


def test_the_greatest_lead_is_kept() -> None:
    playout = Playout(T)
    playout.push(FRAME * 10, T)
    playout.push(FRAME * 3, T + 0.150)
    assert playout.lead_max_ms == 200.0
    assert playout.buffered_ms == 110.0


@given(
    st.lists(
        st.tuples(st.sampled_from(["push", "mark", "clear", "wait"]), st.integers(min_value=0, max_value=500)),
        max_size=40,
    )
)
def test_every_mark_comes_back_once_in_order_and_all_audio_is_heard_or_cleared(steps: list[tuple[str, int]]) -> None:
    playout, now = Playout(T), T
    reached: list[str] = []
    marks = pushed = 0
    dropped_ms = 0.0
    for kind, number in steps:
        if kind == "push":
            pushed += number
            reached += playout.push(b"\x00" * number, now)
        elif kind == "mark":
            reached += playout.mark(str(marks), now)
            marks += 1
        elif kind == "clear":
            cleared_ms, names = playout.clear(now)
            dropped_ms += cleared_ms
            reached += names
        else:
            now += number / 8000
            reached += playout.advance(now)
    reached += playout.advance(now + pushed / 8000 + 1)
    assert reached == [str(index) for index in range(marks)]
    assert playout.heard.count(0) == pushed - round(dropped_ms * 8)
