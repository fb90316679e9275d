"""The short cut of a call's timer while nothing but agent audio is due."""

from __future__ import annotations

import math

from tests.kit import convai, twilio
from tests.kit.calls import Line

SECOND = b"\x11" * 8000


def talking() -> Line:
    """An agent that has more to say than the carrier may have at once."""
    line = Line().activate()
    line.agent(convai.audio(SECOND))
    line.call.next_timer()
    return line


def test_it_does_what_the_whole_timer_does() -> None:
    short, long = talking(), talking()
    while len(long.played()) < len(SECOND):
        due_s = short.call.audio_timer()
        assert due_s == long.call.audio_timer()
        short.clock.now = long.clock.now = due_s
        next_s = short.call.release_audio(due_s)
        short.drain()
        long.handle_timer(due_s)
        assert next_s == long.call.next_timer()
        assert short.played() == long.played()
    assert short.call.stats == long.call.stats


def test_it_leaves_everything_else_to_the_whole_timer() -> None:
    line = talking()
    assert line.call.release_audio(math.inf) is None, "other timers are due"
    away = talking()
    away.call.let_leave(away.clock.now + 5.0)
    away.carrier(twilio.STOP)
    assert away.call.release_audio(away.call.audio_timer()) is None, "nobody can be played to"
    line.agent_lost(1000)
    line.call.next_timer()
    assert line.call.release_audio(line.clock.now) is None, "the good-bye has bounds of its own"
    assert Line().offer().call.release_audio(0.0) is None
