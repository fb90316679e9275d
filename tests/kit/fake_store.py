"""A shared store of call slots as tests want it: in memory, and down, slow or forgetful when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bridge.calls.admission import Ask, Verdict
from bridge.server.admission_memory import SlotLedger
from bridge.server.slot_store import HeldCall, Release, Renewal, StoreDown, Usage


class FakeStore:
    """A ``SlotStore`` for one or several ``Admission``s in one test."""

    def __init__(self) -> None:
        self.ledger = SlotLedger()
        self.is_down = False
        self.epoch = 1
        self.instances = 1
        self.lost: set[str] = set()
        """What the next renewal says is another's."""
        self.gate = asyncio.Event()
        """Cleared: decisions wait."""
        self.gate.set()
        self.now_s = 0.0
        self.taken: list[Ask] = []
        self.given_back: list[Release] = []
        self.renewed: list[tuple[list[HeldCall], str, int]] = []
        self.left = False

    def _check(self) -> None:
        if self.is_down:
            raise StoreDown("down")

    async def take(self, wanted: Ask) -> Verdict:
        self._check()
        self.taken.append(wanted)
        verdict = self.ledger.take(wanted, self.now_s)
        await self.gate.wait()
        self._check()
        return verdict

    async def give_back(self, released: Sequence[Release]) -> None:
        self._check()
        self.given_back += released
        for release in released:
            self.ledger.give_back(release)

    async def renew(self, calls: Sequence[HeldCall], day: str, burst_ms: int) -> Renewal:
        self._check()
        self.renewed.append((list(calls), day, burst_ms))
        for call in calls:
            if call.call_id not in self.lost:
                self.ledger.insert(call)
        return Renewal(frozenset(self.lost), self.epoch, self.instances)

    def usage(self) -> Usage:
        return Usage(store="redis", calls=len(self.ledger), instances=self.instances)

    async def leave(self) -> None:
        self._check()
        self.left = True

    def forget_everything(self) -> None:
        """It was restarted empty."""
        self.ledger = SlotLedger()
        self.epoch += 1
