"""The slots that this process holds: since when, reserved or confirmed, and how much burst time is accounted for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from bridge.calls.admission import Ask
from bridge.server.slot_store import HeldCall


@dataclass(slots=True)
class HeldSlot:
    """One slot. Times are seconds on the monotonic clock."""

    call: HeldCall
    since_s: float
    """Let in, or taken over."""
    asserted_s: float
    """When it was last taken here; what a store said of it before is out of date."""
    accounted_s: float
    """Up to when its burst time was reported."""
    is_confirmed: bool = False
    """The call is there; until then the slot is only reserved."""
    lapses: asyncio.TimerHandle | None = None
    """Runs while the slot is only reserved."""

    def unaccounted_ms(self, now_s: float, burst_s: float | None = None) -> int:
        """Burst time not reported yet; ``burst_s`` is the whole of it, if not the time since it was let in."""
        if not self.call.is_burst:
            return 0
        whole_s = now_s - self.since_s if burst_s is None else burst_s
        return max(0, round((whole_s - (self.accounted_s - self.since_s)) * 1000))


class HeldSlots:
    """All of them, by call id."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._slots: dict[str, HeldSlot] = {}

    def __len__(self) -> int:
        """Slots held."""
        return len(self._slots)

    def __contains__(self, call_id: str) -> bool:
        """Whether the call has one."""
        return call_id in self._slots

    def get(self, call_id: str) -> HeldSlot | None:
        """The call's slot."""
        return self._slots.get(call_id)

    def add(self, wanted: Ask, is_burst: bool, is_counted: bool) -> HeldSlot:
        """The call was let in; the slot that it has already stays, and is known to be this process's as of now."""
        now_s = self._monotonic()
        slot = self._slots.get(wanted.call_id)
        if slot is None:
            call = HeldCall(wanted.call_id, wanted.agent_id, wanted.is_batch, is_burst, wanted.day, is_counted)
            slot = self._slots[wanted.call_id] = HeldSlot(call, now_s, now_s, now_s)
        slot.asserted_s = now_s
        return slot

    def pop(self, call_id: str) -> HeldSlot | None:
        """Take the call's slot out."""
        slot = self._slots.pop(call_id, None)
        if slot is not None and slot.lapses is not None:
            slot.lapses.cancel()
        return slot

    def hold(self, call_id: str, hold_s: float, lapse: Callable[[str], None]) -> None:
        """Call ``lapse`` unless the call is confirmed in time, from now; nothing if it is already."""
        slot = self._slots.get(call_id)
        if slot is None or slot.is_confirmed:
            return
        if slot.lapses is not None:
            slot.lapses.cancel()
        slot.call = msgspec.structs.replace(slot.call, is_reserved=True)
        slot.lapses = asyncio.get_running_loop().call_later(hold_s, lapse, call_id)

    def confirm(self, call_id: str) -> None:
        """The call is there."""
        slot = self._slots.get(call_id)
        if slot is None:
            return
        slot.is_confirmed = True
        if slot.lapses is not None:
            slot.lapses.cancel()
            slot.lapses = None
            slot.call = msgspec.structs.replace(slot.call, is_reserved=False)

    def call_ids(self) -> list[str]:
        """All calls."""
        return list(self._slots)

    def calls(self) -> list[HeldCall]:
        """All calls, as a store wants them."""
        return [slot.call for slot in self._slots.values()]

    def burst_ms(self, now_s: float) -> int:
        """Burst time of all calls that was not reported yet."""
        return sum(slot.unaccounted_ms(now_s) for slot in self._slots.values())

    def counted(self, calls: Iterable[HeldCall]) -> None:
        """The store has these calls now, and counted them on their day."""
        for call in calls:
            slot = self._slots.get(call.call_id)
            if slot is not None and slot.call is call and not call.is_counted:
                slot.call = msgspec.structs.replace(call, is_counted=True)

    def account(self, now_s: float) -> None:
        """Burst time up to now is reported."""
        for slot in self._slots.values():
            slot.accounted_s = now_s
