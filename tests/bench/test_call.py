from __future__ import annotations

import pytest

from bridge.bench.call import Call, Logs, SignalKit

MS = 1_000_000


@pytest.fixture
def logs() -> Logs:
    logs = Logs()
    logs.window.open(0)
    return logs


@pytest.fixture
def call(logs: Logs) -> Call:
    return SignalKit(converting=False).new_call(3, logs)


def test_reaction_to_barge_in_is_from_interruption_to_clear(call: Call, logs: Logs) -> None:
    assert call.interrupt(100 * MS) == 1
    call.cleared(103 * MS)
    assert call.interrupt(200 * MS) == 2
    call.cleared(201 * MS)
    assert list(logs.barge_in.values_ms) == [3.0, 1.0]
    assert (logs.interruptions, logs.missed_clears) == (2, 0)


def test_clear_that_never_came_is_missed(call: Call, logs: Logs) -> None:
    call.interrupt(100 * MS)
    call.interrupt(4100 * MS)
    call.close(4200 * MS)
    assert logs.missed_clears == 1
    call.interrupt(4300 * MS)
    call.close(6000 * MS)
    assert logs.missed_clears == 3


def test_clear_that_nobody_asked_for_is_no_reaction(call: Call, logs: Logs) -> None:
    call.cleared(1 * MS)
    assert len(logs.barge_in.values_ms) == 0


def test_clear_empties_the_callers_player(call: Call) -> None:
    call.clock.arrived(1000 * MS, 800)
    call.interrupt(1010 * MS)
    call.cleared(1011 * MS)
    assert call.clock.ends_ns == 0


def test_only_the_first_complaints_are_kept(logs: Logs) -> None:
    for number in range(9):
        logs.complain(f"message {number}")
    assert logs.bad_messages == 9
    assert logs.complaints == ["message 0", "message 1", "message 2", "message 3", "message 4"]


@pytest.mark.parametrize("converting", [False, True])
def test_each_direction_of_a_call_reaches_its_own_books(converting: bool, logs: Logs) -> None:
    call = SignalKit(converting).new_call(3, logs)
    call.frames.message(0)
    call.speech.message(0)
    up, down = call.tallies()
    assert (up.sent_ms, down.sent_ms) == (20, 100)
    assert (up.lost_ms, down.lost_ms) == (20, 100)
