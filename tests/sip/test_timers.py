"""The timers of transactions, and the list that finds the next of them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sip.flow import Transport
from bridge.sip.timers import COMPACTION_SLACK, NEVER, TimerList, Timers


@pytest.mark.parametrize(
    ("transport", "first_repeat_s", "d_s", "i_s", "j_s", "k_s"),
    [
        (Transport.UDP, 0.5, 32.0, 5.0, 32.0, 5.0),
        (Transport.TCP, NEVER, 0.0, 0.0, 0.0, 0.0),
        (Transport.TLS, NEVER, 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_table_4_of_rfc_3261(
    transport: Transport, first_repeat_s: float, d_s: float, i_s: float, j_s: float, k_s: float
) -> None:
    timers = Timers()
    assert timers.give_up_s == 32.0
    assert timers.first_repeat_s(transport) == first_repeat_s
    assert timers.rejected_invite_s(transport) == d_s
    assert timers.acknowledged_s(transport) == i_s
    assert timers.answered_s(transport) == j_s
    assert timers.completed_s(transport) == k_s


def test_repeats_get_rarer_up_to_t2() -> None:
    timers = Timers()
    intervals = [0.5]
    for _ in range(5):
        intervals.append(timers.next_repeat_s(intervals[-1]))
    assert intervals == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]


def test_all_follow_from_three() -> None:
    timers = Timers(t1_s=0.1, t2_s=0.3, t4_s=0.7)
    assert timers.give_up_s == pytest.approx(6.4)
    assert timers.rejected_invite_s(Transport.UDP) == pytest.approx(6.4)
    assert timers.next_repeat_s(0.2) == 0.3
    assert timers.completed_s(Transport.UDP) == timers.acknowledged_s(Transport.UDP) == 0.7


@dataclass(eq=False)
class Sleeper:
    name: str
    wakes_at: float = NEVER
    listed_at: float = NEVER


def names(due: list[Sleeper]) -> list[str]:
    return [sleeper.name for sleeper in due]


def test_an_empty_list_never_wakes() -> None:
    timers: TimerList[Sleeper] = TimerList()
    assert timers.next() == NEVER
    assert timers.take_due(1e9) == []
    timers.note(Sleeper("no time"))
    assert len(timers) == 0


def test_first_come_first_equal_times_in_order() -> None:
    timers: TimerList[Sleeper] = TimerList()
    for name, at in (("late", 9.0), ("a", 5.0), ("b", 5.0), ("early", 1.0)):
        timers.note(Sleeper(name, at))
    assert timers.next() == 1.0
    assert names(timers.take_due(0.999)) == []
    assert names(timers.take_due(5.0)) == ["early", "a", "b"]
    assert timers.next() == 9.0


def test_a_time_that_moves_away_wakes_nobody_early() -> None:
    timers: TimerList[Sleeper] = TimerList()
    sleeper = Sleeper("x", 1.0)
    timers.note(sleeper)
    sleeper.wakes_at = 7.0
    timers.note(sleeper)
    assert timers.next() == 7.0
    assert timers.take_due(6.9) == []
    assert timers.take_due(7.0) == [sleeper]
    assert timers.next() == NEVER


def test_a_time_that_comes_closer_wakes_once() -> None:
    timers: TimerList[Sleeper] = TimerList()
    sleeper = Sleeper("x", 7.0)
    timers.note(sleeper)
    sleeper.wakes_at = 2.0
    timers.note(sleeper)
    assert timers.take_due(3.0) == [sleeper]
    sleeper.wakes_at = NEVER
    timers.note(sleeper)
    assert timers.take_due(10.0) == []
    assert len(timers) == 0


def test_what_is_called_off_does_not_pile_up() -> None:
    timers: TimerList[Sleeper] = TimerList()
    keeper = Sleeper("stays", 40.0)
    timers.note(keeper)
    for number in range(10 * COMPACTION_SLACK):
        sleeper = Sleeper(str(number), 32.0)
        timers.note(sleeper)
        sleeper.wakes_at = NEVER
    assert len(timers) <= COMPACTION_SLACK + 2
    assert timers.take_due(40.0) == [keeper]


def test_one_that_causes_the_rebuilding_is_listed_once() -> None:
    timers: TimerList[Sleeper] = TimerList()
    sleepers = [Sleeper(str(number), 32.0) for number in range(COMPACTION_SLACK)]
    for sleeper in sleepers:
        timers.note(sleeper)
    sleepers[5].wakes_at = 3.0
    timers.note(sleepers[5])
    assert len(timers) == COMPACTION_SLACK
    assert timers.take_due(3.0) == [sleepers[5]]
    assert names(timers.take_due(32.0)) == [sleeper.name for sleeper in sleepers if sleeper is not sleepers[5]]


TIMES = st.integers(0, 20).map(float) | st.just(NEVER)


@given(st.lists(st.tuples(st.integers(0, 99), TIMES, st.booleans()), max_size=400))
def test_it_does_what_looking_at_all_would(steps: list[tuple[int, float, bool]]) -> None:
    timers: TimerList[Sleeper] = TimerList()
    sleepers = [Sleeper(str(number)) for number in range(100)]
    for who, at, take in steps:
        sleepers[who].wakes_at = at
        timers.note(sleepers[who])
        assert timers.next() == min(sleeper.wakes_at for sleeper in sleepers)
        if take and at != NEVER:
            expected = {sleeper.name for sleeper in sleepers if sleeper.wakes_at <= at}
            due = timers.take_due(at)
            assert [sleeper.wakes_at for sleeper in due] == sorted(sleeper.wakes_at for sleeper in due)
            assert set(names(due)) == expected
            assert len(due) == len(expected)
            for sleeper in due:
                sleeper.wakes_at = NEVER
    assert len(timers) <= 2 * 100 + COMPACTION_SLACK
