"""Time as tests see it: it moves when told to, and only then."""

from __future__ import annotations

from typing import Protocol

SAME_TIME_LIMIT = 50
"""How often a machine may want its timer at one and the same time before that counts as spinning."""


class Timed(Protocol):
    """Whatever has a timer: a leg, a conversation, a call."""

    def next_timer(self) -> float: ...

    def handle_timer(self, now: float) -> object: ...


class FakeClock:
    """Seconds on a monotonic clock that starts at an odd time, so that nobody may count on zero."""

    def __init__(self, now: float = 1000.25) -> None:
        self.now = now

    def advance(self, seconds: float) -> float:
        """Let time pass without anybody noticing; returns the new time."""
        self.now += seconds
        return self.now

    def run(self, machine: Timed, seconds: float) -> list[object]:
        """Let time pass as a driver does: every timer is handled exactly when it was asked for, none early.

        Returns what each handled timer gave, in order. Fails if the machine asks for one time again and again.
        """
        end = self.now + seconds
        results: list[object] = []
        spins = 0
        while (at := machine.next_timer()) <= end:
            spins = spins + 1 if at <= self.now else 0
            assert spins < SAME_TIME_LIMIT, f"the timer at {at} never comes to an end"
            self.now = max(self.now, at)
            results.append(machine.handle_timer(self.now))
        self.now = end
        return results
