"""Keys that the caller presses, on their way to the agent. Pure.

The vendor's own telephony collects digits until ``#`` or a pause and gives them to the agent as a turn of the caller's;
on a plain WebSocket somebody else has to. Source: ElevenLabs' agent setting ``dtmf_input_settings`` (time-out, hash as
terminator), read 2026-11-21.
"""

from __future__ import annotations

import enum
import math

END_KEY = "#"
"""Ends an entry at once and is no part of it, unless it stands alone."""

MAX_DIGITS = 64
"""An entry ends here: longer than a card number, short enough that leaning on a key floods nobody."""


class KeypadMode(enum.Enum):
    """What the agent is told of keys."""

    OFF = "off"
    """Nothing."""
    EACH = "each"
    """Each key at once, as a contextual update: the agent knows, and nobody's turn is taken."""
    MESSAGE = "message"
    """Whole entries, as something that the caller said."""


class Keypad:
    """The entry that is being made."""

    __slots__ = ("_deadline_s", "_digits", "_pause_s", "mode")

    def __init__(self, mode: KeypadMode, pause_s: float) -> None:
        self.mode = mode
        self._pause_s = pause_s
        self._digits = ""
        self._deadline_s = math.inf

    def press(self, digit: str, now: float) -> str:
        """A key was pressed; returns what the agent is to be told now, empty = nothing yet."""
        if self.mode is KeypadMode.OFF:
            return ""
        if self.mode is KeypadMode.EACH:
            return f"The caller pressed the key {digit} on the keypad."
        if digit == END_KEY and self._digits:
            return self._entry()
        self._digits += digit
        self._deadline_s = now + self._pause_s
        return self._entry() if digit == END_KEY or len(self._digits) >= MAX_DIGITS else ""

    def next_timer(self) -> float:
        """When the pause after the last key is over."""
        return self._deadline_s

    def handle_timer(self, now: float) -> str:
        """Let time pass; returns an entry that a pause has ended."""
        return self._entry() if now >= self._deadline_s else ""

    def _entry(self) -> str:
        digits, self._digits, self._deadline_s = self._digits, "", math.inf
        return f"I pressed {digits} on the keypad." if digits else ""
