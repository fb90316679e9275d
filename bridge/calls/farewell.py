"""The last seconds of a call: what the caller has yet to hear, and what is waited for meanwhile. Pure; one per call.

Three things may hold the end up, each with a bound: speech that is being made (last words, an apology), audio that the
carrier has not played, and the conversation's results for carriers that take them.
"""

from __future__ import annotations

import math

from bridge import outcome
from bridge.outcome import EndReason

DRAIN_GRACE_S = 1.0
"""How much longer than the queued audio lasts a good-bye may take until the carrier has confirmed it: a network
round trip and the carrier's own jitter. After that the call is hung up all the same."""

SPEECH_WAIT_S = 2.0
"""How long the making of last words may take; a caller who hears nothing for longer takes the line for dead."""

MESSAGE_WAIT_S = 5.0
"""The same for a message that a machine records: it is patient, and speech takes up to four seconds to make."""


class Farewell:
    """When the call may end, and how it then ends. Times are seconds on a monotonic clock."""

    __slots__ = (
        "_detail",
        "_drain_deadline_s",
        "_mark",
        "_reason",
        "_results_deadline_s",
        "_speech_deadline_s",
        "played",
    )

    def __init__(self) -> None:
        self._reason = outcome.AGENT_HANGUP
        self._detail = ""
        self._mark = ""  # whose return ends the draining
        self._drain_deadline_s = math.inf
        self._speech_deadline_s = math.inf  # finite while speech is being made
        self._results_deadline_s = -math.inf  # in the future while results are waited for
        self.played = False
        """The caller has heard everything."""

    def begin(self, reason: EndReason, detail: str) -> None:
        """Nothing more will be said but what is under way; the call will end like this."""
        self._reason, self._detail = reason, detail

    def await_speech(self, now: float, wait_s: float = SPEECH_WAIT_S) -> None:
        """Last words are being made."""
        self._speech_deadline_s = now + wait_s

    def await_results(self, now: float, wait_s: float) -> None:
        """The conversation's results are being fetched."""
        self._results_deadline_s = now + wait_s

    def await_mark(self, mark: str, now: float, unheard_s: float) -> None:
        """All audio is queued; ``mark`` is behind it, and it takes so long to play."""
        self._speech_deadline_s = math.inf
        self._mark = mark
        self._drain_deadline_s = now + unheard_s + DRAIN_GRACE_S

    def suspend(self) -> None:
        """The carrier's stream is away: nothing plays. ``await_mark`` goes on from here."""
        self._drain_deadline_s = math.inf

    def results_came(self) -> None:
        """Nothing more is to be fetched."""
        self._results_deadline_s = -math.inf

    @property
    def awaits_speech(self) -> bool:
        """Whether last words are being made."""
        return self._speech_deadline_s != math.inf

    def is_mark(self, mark: str) -> bool:
        """Whether this is the mark behind the last words."""
        return mark == self._mark

    def speech_overdue(self, now: float) -> bool:
        """Whether the last words are not worth any more waiting."""
        return now >= self._speech_deadline_s

    def drain_overdue(self, now: float) -> bool:
        """Whether the carrier had time enough to play everything."""
        return now >= self._drain_deadline_s

    def awaits_results(self, now: float) -> bool:
        """Whether results are worth waiting for."""
        return now < self._results_deadline_s

    def heard(self, remark: str) -> None:
        """The caller has heard everything, or had time enough to."""
        self._detail = "; ".join(part for part in (self._detail, remark) if part)
        self.played = True
        self._drain_deadline_s = math.inf

    @property
    def end(self) -> tuple[EndReason, str]:
        """How the call ends."""
        return self._reason, self._detail

    def next_timer(self) -> float:
        """When one of the bounds is reached; ``inf`` where there is none."""
        timer = min(self._drain_deadline_s, self._speech_deadline_s)
        if self.played and self._results_deadline_s > -math.inf:
            timer = min(timer, self._results_deadline_s)
        return timer
