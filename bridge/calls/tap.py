"""Whoever listens to both sides of a call: the recorder, for one. Optional; without one it costs nothing."""

from __future__ import annotations

from typing import Protocol


class Tap(Protocol):
    """Hears a call in the leg's format. Called within the media path: append and return."""

    def caller(self, payload: bytes, now: float) -> None:
        """Audio of the caller, as it came."""

    def agent(self, payload: bytes, now: float) -> None:
        """Audio that was handed to the carrier; it plays behind what was handed over before."""

    def flush(self, now: float) -> None:
        """What the carrier has not played by now, it never will."""
