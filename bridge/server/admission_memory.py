"""Admission in the memory of one process: counts calls by id, asks ``bridge.calls.admission`` for the decision."""

from __future__ import annotations

from bridge.calls.admission import Limits, decide
from bridge.outcome import EndReason


class MemoryAdmission:
    """The call slots of this process. Taking and giving back are idempotent by call id."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._calls: set[str] = set()
        self.draining = False
        """Set on shutdown: nobody is let in any more."""

    def would_refuse(self) -> EndReason | None:
        """Why a call would not be let in right now; None = it would."""
        return decide(len(self._calls), self._limits, draining=self.draining)

    def take(self, call_id: str) -> EndReason | None:
        """Take a slot: None = taken (or held already), otherwise why not."""
        if call_id in self._calls:
            return None
        refusal = self.would_refuse()
        if refusal is None:
            self._calls.add(call_id)
        return refusal

    def give_back(self, call_id: str) -> None:
        """Give the slot back; harmless when it was given back before."""
        self._calls.discard(call_id)

    @property
    def active(self) -> int:
        """Slots taken."""
        return len(self._calls)
