"""What is under way in a call besides talking. Pure; one per call.

*Tickets*: somebody wants to know when the caller has heard what was said so far, because what comes next (a transfer,
keypad tones) would cut it off.
*Excursion*: the carrier does something with the line that ends the media stream, and a new stream of the same call is
to come. The stream's end is then not the call's.
*Absence*: the caller cannot be heard (an excursion, a pause of the carrier's, hold). The agent's side takes a minute
without any audio for a broken line (1002 ``transport_receive_timeout``), so it is sent silence meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from bridge.calls.farewell import DRAIN_GRACE_S

SILENCE_EVERY_S = 1.0
"""While the caller is absent, a second of silence goes to the agent at the end of every second: never more audio than
a caller who is there would have sent, whose next words may come at any moment."""


class Errands:
    """Tickets, the excursion and absences. Times are seconds on a monotonic clock."""

    __slots__ = ("_issued", "_return_s", "_silence_s", "_tickets", "is_away", "is_paused")

    def __init__(self) -> None:
        self._issued = 0
        self._tickets: dict[str, tuple[int, float]] = {}  # by mark: the ticket, and until when the mark is waited for
        self._return_s = math.inf  # until when the stream must be back; finite during an excursion
        self._silence_s = math.inf
        self.is_away = False
        """The stream has ended, and another one is to come."""
        self.is_paused = False
        """The carrier has paused the stream."""

    # --- tickets ---

    def issue(self) -> int:
        """A number for somebody who wants to know."""
        self._issued += 1
        return self._issued

    def await_mark(self, ticket: int, mark: str, now: float, unheard_s: float) -> None:
        """The ticket falls due with this mark, or once the audio before it must have been played."""
        self._tickets[mark] = (ticket, now + unheard_s + DRAIN_GRACE_S)

    def reached(self, mark: str) -> Iterable[int]:
        """Tickets that fall due with this mark."""
        found = self._tickets.pop(mark, None)
        return () if found is None else (found[0],)

    def all_heard(self) -> Iterable[int]:
        """Nothing is left to be heard: every ticket falls due."""
        tickets, self._tickets = self._tickets, {}
        return [ticket for ticket, _ in tickets.values()]

    def overdue(self, now: float) -> Iterable[int]:
        """Tickets whose mark did not come in time."""
        late = [mark for mark, (_, deadline_s) in self._tickets.items() if now >= deadline_s]
        return [self._tickets.pop(mark)[0] for mark in late]

    # --- excursion ---

    @property
    def may_leave(self) -> bool:
        """Whether the stream's end is expected and not the call's."""
        return self._return_s != math.inf

    def let_leave(self, return_s: float) -> None:
        """The stream may end now, and must be back by then."""
        self._return_s = return_s

    def left(self, now: float) -> None:
        """The stream has ended."""
        self.is_away = True
        self._silence_s = min(self._silence_s, now + SILENCE_EVERY_S)

    def back(self) -> None:
        """The stream is back, or never left."""
        self._return_s = math.inf
        self.is_away = False
        if not self.is_paused:
            self._silence_s = math.inf

    def lost(self, now: float) -> bool:
        """Whether the stream should have been back."""
        return now >= self._return_s

    # --- absence ---

    def pause(self, now: float) -> None:
        """The carrier sends no audio for a while."""
        self.is_paused = True
        self._silence_s = min(self._silence_s, now + SILENCE_EVERY_S)

    def resume(self) -> None:
        """The carrier sends audio again."""
        self.is_paused = False
        if not self.is_away:
            self._silence_s = math.inf

    def silence_due_s(self, now: float) -> float:
        """Seconds of silence that are to be sent to the agent now; 0 = none."""
        if now < self._silence_s:
            return 0.0
        self._silence_s = now + SILENCE_EVERY_S
        return SILENCE_EVERY_S

    def next_timer(self) -> float:
        """When one of these has something to do."""
        timer = min(self._return_s, self._silence_s)
        for _, deadline_s in self._tickets.values():
            timer = min(timer, deadline_s)
        return timer
