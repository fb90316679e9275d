from __future__ import annotations

import pytest

from bridge.simulators.genesys_ping import Pinger

T = 10.0


def test_the_first_after_a_second_the_second_after_its_pong_then_every_five() -> None:
    pinger = Pinger(T, 5.0)
    assert (pinger.next_timer(), pinger.due(T + 0.99), pinger.due(T + 1.0)) == (T + 1.0, False, True)
    pinger.sent(2, T + 1.0)
    assert pinger.rtt_s is None
    assert not pinger.due(T + 1.02)
    assert pinger.pong(2, T + 1.03) is None
    assert pinger.rtt_s == pytest.approx(0.03)
    assert pinger.due(T + 1.03)
    pinger.sent(3, T + 1.03)
    assert pinger.pong(3, T + 1.05) is None
    assert pinger.next_timer() == pytest.approx(T + 6.0)
    pinger.sent(4, T + 6.0)
    assert pinger.pong(4, T + 6.01) is None
    assert pinger.next_timer() == pytest.approx(T + 11.0)
    assert pinger.rtts_s == pytest.approx([0.03, 0.02, 0.01])


def test_a_pong_that_does_not_come() -> None:
    pinger = Pinger(T, 5.0)
    pinger.sent(2, T + 1.0)
    assert pinger.next_timer() == T + 6.0
    assert (pinger.overdue(T + 5.9), pinger.overdue(T + 6.0)) == (False, True)


def test_wrong_pongs() -> None:
    pinger = Pinger(T, 5.0)
    assert pinger.pong(1, T) == (409, "Unexpected 'pong' (no outstanding 'ping')")
    pinger.sent(7, T + 1.0)
    assert pinger.pong(6, T + 1.1) == (400, "The clientseq 6 of the 'pong' does not match the seq 7 of its 'ping'")
    assert pinger.overdue(T + 6.0)
    assert not Pinger(T, 5.0).overdue(T + 100)
