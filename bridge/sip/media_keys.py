"""Keys on their way out as SIP INFO requests: which one is due when.

Public: ``InfoKeys``. The same interface as ``telephone_event.EventSender``, with keys in place of packets. What it is
not: the requests (``dtmf_info`` builds their bodies) or the transactions that carry them.
"""

from __future__ import annotations

from collections import deque

from bridge.errors import LocalError
from bridge.media.format import FRAME_MS
from bridge.sip.telephone_event import EVENT_KEYS, MAX_DIGITS, PAUSES_MS, Digit, SenderOptions


def check_digits(digits: str) -> None:
    """Raise ``LocalError`` unless ``digits`` can be sent: ``0-9 * # A-D``, ``w``, ``W``; the text is not shown."""
    if len(digits) > MAX_DIGITS or any(digit not in EVENT_KEYS and digit not in PAUSES_MS for digit in digits):
        raise LocalError(f"keys: only 0-9 * # A-D w W can be sent, at most {MAX_DIGITS}")


class InfoKeys:
    """One text of keys. Call ``tick`` once per frame of 20 ms until ``is_done``."""

    __slots__ = ("_elapsed_ms", "_line", "_options")

    def __init__(self, digits: str, options: SenderOptions) -> None:
        check_digits(digits)
        self._line = deque(digits)
        self._options = options
        self._elapsed_ms = 0

    @property
    def is_done(self) -> bool:
        """Whether everything is sent, the gap after the last key included."""
        return not self._line

    def tick(self) -> Digit | None:
        """The key to send in this frame, if any. Peers play it for as long as it says, so the next one waits."""
        if not self._line:
            return None
        digit = self._line[0]
        tone_ms, gap_ms = self._options.tone_ms, self._options.gap_ms
        is_first = self._elapsed_ms == 0
        self._elapsed_ms += FRAME_MS
        if self._elapsed_ms >= PAUSES_MS.get(digit, tone_ms + gap_ms):
            self._line.popleft()
            self._elapsed_ms = 0
        return Digit(digit, tone_ms) if is_first and digit in EVENT_KEYS else None
