"""``bridge.simulators.vonage_playout``: the clock, gaps, notifies, the limit of the buffer."""

from __future__ import annotations

import math

import pytest

from bridge.simulators.vonage_playout import BUFFER_MESSAGES, Playout

ONE = b"\x01\x00" * 320
TWO = b"\x02\x00" * 320


@pytest.fixture
def playout() -> Playout:
    return Playout(16000, 100.0)


def test_frames_play_in_order_and_silence_around_them(playout: Playout) -> None:
    assert playout.push(ONE, 100.02) == (True, [])
    playout.push(TWO, 100.02)
    assert (playout.buffered_messages, playout.buffered_ms) == (2, 40)
    playout.advance(100.05)
    assert playout.buffered_ms == pytest.approx(10)
    playout.advance(100.1)
    assert playout.take_heard() == bytes(640) + ONE + TWO + bytes(1280)
    assert playout.take_heard() == b""
    assert (playout.played_samples, playout.played_messages, playout.lead_max_messages) == (1600, 2, 2)


def test_a_notify_comes_back_once_everything_before_has_played(playout: Playout) -> None:
    assert playout.notify({"n": 0}, 100.0) == [{"n": 0}], "at once when nothing plays"
    playout.push(ONE, 100.0)
    assert playout.notify({"n": 1}, 100.0) == []
    playout.push(TWO, 100.0)
    assert playout.notify({"n": 2}, 100.0) == []
    assert playout.next_notify_s() == pytest.approx(100.02)
    assert playout.advance(100.019) == []
    assert playout.advance(100.02) == [{"n": 1}]
    assert playout.next_notify_s() == pytest.approx(100.04)
    assert playout.advance(101.0) == [{"n": 2}]
    assert playout.next_notify_s() == math.inf


@pytest.mark.parametrize(("echo", "back"), [(False, []), (True, [{"n": 1}, {"n": 2}])])
def test_clear_drops_the_rest(echo: bool, back: list[dict[str, int]]) -> None:
    playout = Playout(16000, 100.0, echo_cleared=echo)
    playout.push(ONE, 100.0)
    playout.notify({"n": 1}, 100.0)
    playout.push(TWO, 100.0)
    playout.notify({"n": 2}, 100.0)
    dropped_ms, reached = playout.clear(100.01)
    assert dropped_ms == pytest.approx(30)
    assert reached == back
    assert playout.advance(100.1) == []
    assert (playout.buffered_messages, playout.buffered_ms) == (0, 0)
    playout.push(ONE, 100.2)
    assert playout.gaps == [], "what follows a clear is no underrun"


def test_an_underrun_in_a_talkspurt_is_a_gap(playout: Playout) -> None:
    for at_s in (100.0, 100.05, 100.12, 101.5):
        playout.push(ONE, at_s)
    assert [(round(gap.at_ms), round(gap.length_ms)) for gap in playout.gaps] == [(20, 30), (70, 50)]
    assert playout.long_gaps == 1
    assert [round(value) for value in playout.intervals_ms] == [50, 70], "a second of silence begins a new talkspurt"


def test_the_buffer_holds_3072_messages(playout: Playout) -> None:
    assert all(playout.push(ONE, 100.0)[0] for _ in range(BUFFER_MESSAGES))
    assert playout.push(ONE, 100.0) == (False, [])
    assert playout.push(ONE, 100.02) == (True, []), "a frame has played"
    assert playout.lead_max_messages == 3072
