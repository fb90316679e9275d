"""Keys that the caller presses, on their way to the agent or to the operator's webhook. Pure; one ``Keypad`` per call.

The vendor's own telephony collects digits until ``#`` or a pause and gives them to the agent as a turn of the caller's;
on a plain WebSocket somebody else has to. Source: ElevenLabs' agent setting ``dtmf_input_settings`` (time-out, hash as
terminator), read 2026-11-21.

Theory of operation: a press first loses its double (the same key as an event of the carrier's and as a tone in the
audio), then passes a limit that no finger reaches, then becomes part of an entry. Complete entries wait in a line
from which one is told at a time, with a pause between two, so that a peer that sends hundreds of keys a second
neither floods the agent nor fills the memory. Keys that are told one by one (``EACH``) are put together while they
wait.

What it is not: a decision what may be written down. With ``KeypadOptions.redact`` nothing but ``NewsKind.WEBHOOK``
comes out, and neither the keypad nor its news show keys in their ``repr``; journal and recording are the call's.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from dataclasses import dataclass

KEYS = frozenset("0123456789*#ABCD")
"""What a keypad has (ITU-T Q.23)."""

MAX_DIGITS = 64
"""An entry ends here: longer than a card number, short enough that leaning on a key floods nobody."""

DOUBLE_WINDOW_S = 0.6
"""How far apart the two reports of one press may come, beyond its length: the carrier's event takes a network and the
carrier's own detector (some 300 ms), the audio a jitter buffer and our detector's blocks (some 200 ms)."""
MAX_HELD_S = 10.0
"""Length of a press that is believed; a carrier's field may say anything."""
MAX_UNPAIRED = 64
"""Presses whose double is waited for: three times what the limit lets through in a window."""

PRESSES_PER_S = 20.0
"""Beyond this nobody presses keys: diallers take 100 ms a key, people more."""
PRESS_BURST = 32
"""Presses that may come at once all the same: a carrier may report a dialled number in one go after a stall."""

TELL_PAUSE_S = 0.25
"""Between two news: four a second are more than an agent can make use of."""
MAX_WAITING = 16
"""Entries that wait to be told: four seconds' worth."""


class KeypadMode(enum.Enum):
    """What the agent is told of keys."""

    OFF = "off"
    """Nothing."""
    EACH = "each"
    """Each key at once, as a contextual update: the agent knows, and nobody's turn is taken."""
    MESSAGE = "message"
    """Whole entries, as something that the caller said."""
    UPDATE = "update"
    """Whole entries, as a contextual update."""


class KeySource(enum.Enum):
    """How a press became known."""

    EVENT = "event"
    """The carrier reported it."""
    INBAND = "inband"
    """Its tone was found in the caller's audio."""


class NewsKind(enum.Enum):
    """For whom news are."""

    MESSAGE = "message"
    """The agent, as a user message: a turn of the caller's."""
    UPDATE = "update"
    """The agent, as a contextual update."""
    WEBHOOK = "webhook"
    """The operator's webhook, and nobody else."""


@dataclass(frozen=True, slots=True)
class KeypadOptions:
    """What becomes of the keys that a caller presses."""

    mode: KeypadMode = KeypadMode.MESSAGE
    pause_s: float = 2.0
    """A pause of so long after a key ends an entry."""
    length: int = 0
    """An entry of so many keys is complete; 0 = it ends by the key or the pause only."""
    end_key: str = "#"
    """Key that ends an entry at once and is no part of it, unless it stands alone; empty = none does."""
    redact: bool = False
    """Whole entries go to the operator's webhook and nowhere else, whatever ``mode`` says."""


@dataclass(frozen=True, slots=True, repr=False)
class KeypadNews:
    """Something to be told now."""

    kind: NewsKind
    text: str
    """Words for the agent; for the webhook the bare keys."""

    def __repr__(self) -> str:
        return f"KeypadNews({self.kind.value})"


@dataclass(frozen=True, slots=True, repr=False)
class _Unpaired:
    digit: str
    source: KeySource
    at_s: float
    held_s: float


class Keypad:
    """The keys of one call."""

    __slots__ = (
        "_budget",
        "_budget_at_s",
        "_deadline_s",
        "_entry",
        "_options",
        "_quiet_until_s",
        "_unpaired",
        "_waiting",
        "flooded",
        "merged",
    )

    def __init__(self, options: KeypadOptions) -> None:
        self._options = options
        self._entry = ""
        self._deadline_s = math.inf  # of the entry
        self._waiting: deque[str] = deque()  # complete entries that were not told yet
        self._quiet_until_s = -math.inf
        self._unpaired: deque[_Unpaired] = deque(maxlen=MAX_UNPAIRED)
        self._budget = float(PRESS_BURST)
        self._budget_at_s = -math.inf
        self.merged = 0
        """Presses that were another's double."""
        self.flooded = 0
        """Presses that were too many."""

    def press(self, digit: str, source: KeySource, now: float, held_s: float = 0.0) -> tuple[KeypadNews, ...]:
        """A key was pressed; returns what is to be told now.

        ``now`` is when it was reported, ``held_s`` how long it was pressed, where that is known. A press that changes
        nothing shows in ``merged`` or ``flooded``; what is no key at all is ignored.
        """
        if digit not in KEYS:
            return ()
        if self._is_double(digit, source, now, min(max(held_s, 0.0), MAX_HELD_S)):
            self.merged += 1
            return ()
        if not self._within_budget(now):
            self.flooded += 1
            return ()
        self._take(digit, now)
        return self._tell(now)

    def next_timer(self) -> float:
        """When ``handle_timer`` has something to do; ``inf`` = never."""
        return min(self._deadline_s, self._quiet_until_s if self._waiting else math.inf)

    def handle_timer(self, now: float) -> tuple[KeypadNews, ...]:
        """Let time pass; returns what is to be told now. Harmless when called too early."""
        if now >= self._deadline_s:
            self._complete()
        return self._tell(now)

    def close(self) -> tuple[KeypadNews, ...]:
        """The call is over: what was typed last is complete, and the webhook gets what it has not got yet."""
        self._complete()
        left = tuple(self._waiting)
        self._waiting.clear()
        return tuple(self._news(digits) for digits in left) if self._options.redact else ()

    # --- doubles and floods ---

    def _is_double(self, digit: str, source: KeySource, now: float, held_s: float) -> bool:
        """Whether the other source has reported this press before; if so, that one has found its double.

        Pairs are made in order: of ``11``, reported twice by each source, two keys are left.
        """
        for other in self._unpaired:
            apart_s = now - other.at_s - max(held_s, other.held_s)
            if other.digit == digit and other.source is not source and apart_s <= DOUBLE_WINDOW_S:
                self._unpaired.remove(other)
                return True
        while self._unpaired and now - self._unpaired[0].at_s > DOUBLE_WINDOW_S + MAX_HELD_S:
            self._unpaired.popleft()
        self._unpaired.append(_Unpaired(digit, source, now, held_s))
        return False

    def _within_budget(self, now: float) -> bool:
        earned = (now - self._budget_at_s) * PRESSES_PER_S
        self._budget = min(float(PRESS_BURST), self._budget + earned)
        self._budget_at_s = now
        if self._budget < 1:
            return False
        self._budget -= 1
        return True

    # --- entries ---

    def _take(self, digit: str, now: float) -> None:
        options = self._options
        if not options.redact and options.mode is KeypadMode.OFF:
            return
        if not options.redact and options.mode is KeypadMode.EACH:
            self._take_alone(digit)
            return
        if digit == options.end_key:
            self._entry = self._entry or digit
            self._complete()
            return
        self._entry += digit
        self._deadline_s = now + options.pause_s
        if len(self._entry) >= (options.length or MAX_DIGITS):
            self._complete()

    def _take_alone(self, digit: str) -> None:
        if not self._waiting:
            self._waiting.append(digit)
        elif len(self._waiting[-1]) < MAX_DIGITS:
            self._waiting[-1] += digit
        else:
            self.flooded += 1

    def _complete(self) -> None:
        """The entry that was being made is complete."""
        if self._entry:
            if len(self._waiting) < MAX_WAITING:
                self._waiting.append(self._entry)
            else:
                self.flooded += len(self._entry)
        self._entry, self._deadline_s = "", math.inf

    # --- news ---

    def _tell(self, now: float) -> tuple[KeypadNews, ...]:
        """One entry, if it is time for one."""
        if not self._waiting or now < self._quiet_until_s:
            return ()
        self._quiet_until_s = now + TELL_PAUSE_S
        return (self._news(self._waiting.popleft()),)

    def _news(self, digits: str) -> KeypadNews:
        if self._options.redact:
            return KeypadNews(NewsKind.WEBHOOK, digits)
        if self._options.mode is KeypadMode.MESSAGE:
            return KeypadNews(NewsKind.MESSAGE, f"I pressed {digits} on the keypad.")
        if self._options.mode is KeypadMode.UPDATE:
            return KeypadNews(NewsKind.UPDATE, f"The caller typed {digits} on the keypad.")
        keys = f"key {digits}" if len(digits) == 1 else f"keys {' '.join(digits)}"
        return KeypadNews(NewsKind.UPDATE, f"The caller pressed the {keys} on the keypad.")
