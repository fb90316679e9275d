"""The schedule of ticks: even, without drift, and sensible after a stall."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import LocalError
from bridge.sip.media_clock import MediaClock, Tick


def test_one_tick_each_20_ms() -> None:
    clock = MediaClock(100.0, groups=1)
    assert clock.next_due_s == 100.0
    assert clock.due(99.999) == []
    assert clock.due(100.0) == [Tick(0, 0, 100.0)]
    assert clock.due(100.019) == []
    assert clock.next_due_s == pytest.approx(100.02)
    (tick,) = clock.due(100.021)
    assert (tick.group, tick.number) == (0, 1)
    assert tick.due_s == pytest.approx(100.02)


def test_groups_are_spread_over_the_period() -> None:
    clock = MediaClock(0.0, groups=4)
    ticks = clock.due(0.0399)
    assert [(tick.group, tick.number) for tick in ticks] == [(g, n) for n in (0, 1) for g in range(4)]
    assert [tick.due_s for tick in ticks] == pytest.approx([0, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035])
    assert [clock.group_for(number) for number in range(5)] == [0, 1, 2, 3, 0]


def test_a_timer_that_fires_on_the_dot_always_finds_its_tick() -> None:
    clock = MediaClock(12345.678, groups=10)
    for _ in range(10_000):
        assert len(clock.due(clock.next_due_s)) == 1


def test_no_drift_in_an_hour_however_late_the_timer() -> None:
    clock = MediaClock(5.0, groups=1)
    now, ticks = 5.0, 0
    while now < 3605.0:
        ticks += len(clock.due(now))
        now = clock.next_due_s + 0.0037
    assert ticks == 180_000
    assert clock.next_due_s == pytest.approx(3605.0, abs=1e-6)
    assert clock.skipped == 0
    assert clock.latest_s == pytest.approx(0.0037)


def test_a_short_stall_is_made_up_for() -> None:
    clock = MediaClock(0.0, groups=1)
    clock.due(0.0)
    assert [tick.number for tick in clock.due(0.1)] == [1, 2, 3, 4, 5]
    assert clock.skipped == 0
    assert clock.latest_s == pytest.approx(0.08)


def test_a_long_stall_is_not() -> None:
    clock = MediaClock(0.0, groups=2)
    clock.due(0.0)
    ticks = clock.due(1.0)
    # As many for each group, the last ones, and every group lost as many.
    assert [(tick.group, tick.number) for tick in ticks] == [
        (1, 45), (0, 46), (1, 46), (0, 47), (1, 47), (0, 48), (1, 48), (0, 49), (1, 49), (0, 50),
    ]  # fmt: skip
    assert clock.skipped == 90
    assert clock.next_due_s == pytest.approx(1.01)


@given(st.integers(1, 20), st.lists(st.floats(0, 3), min_size=1, max_size=30))
def test_every_tick_is_given_once_and_in_order(groups: int, steps: list[float]) -> None:
    clock = MediaClock(1.0, groups)
    now, seen = 1.0, []
    for step in steps:
        now += step
        ticks = clock.due(now)
        assert all(tick.due_s <= now + 1e-6 for tick in ticks)
        assert len(ticks) <= 5 * groups + groups
        seen += [tick.number * groups + tick.group for tick in ticks]
    assert seen == sorted(set(seen))
    assert len(seen) + clock.skipped == (seen[-1] + 1 if seen else 0)


@pytest.mark.parametrize(("groups", "catch_up_s"), [(0, 0.1), (21, 0.1), (1, 0.01)])
def test_bad_options(groups: int, catch_up_s: float) -> None:
    with pytest.raises(LocalError):
        MediaClock(0.0, groups, catch_up_s)
