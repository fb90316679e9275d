"""What a store of call slots that several processes share has to offer: data and the protocol.

The one implementation is ``bridge.server.admission_redis``. Memory needs no protocol: see
``bridge.server.admission_memory``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import msgspec

from bridge.calls.admission import Ask, Verdict
from bridge.errors import BridgeError

MAX_AGENTS_SHOWN = 200
"""Agents whose calls are counted one by one for the operator; the page and the metrics stay readable."""


class StoreDown(BridgeError):
    """The shared store does not answer; whoever asked goes on without it."""


class HeldCall(msgspec.Struct, frozen=True, array_like=True):
    """A slot as its process knows it. An array on the wire: Lua reads it by position."""

    call_id: str
    agent_id: str
    is_batch: bool
    is_burst: bool
    day: str
    """Day on which it was let in."""
    is_counted: bool
    """Whether the shared store has it among the agent's calls of that day."""
    is_reserved: bool = False
    """The call is not there yet; if another process says that it has it, the slot is that one's."""


class Release(msgspec.Struct, frozen=True, array_like=True):
    """A slot that is given back. An array on the wire: Lua reads it by position."""

    call_id: str
    refund: bool = False
    """The call never took place: it does not count among the agent's calls of the day."""
    anywhere: bool = False
    """Also when another process holds the slot: it was only reserved there, and its call is over."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a store answers to a renewal."""

    lost: frozenset[str]
    """Calls that another process has taken over, or has ended since."""
    epoch: int
    """Names the life of the data: another number means that the store had lost everything."""
    instances: int
    """Processes alive, this one included."""


@dataclass(frozen=True, slots=True)
class Usage:
    """How full it is, for readiness, metrics and the console."""

    store: Literal["memory", "redis", "redis_down"]
    active: int = 0
    """Slots held by this process."""
    max_calls: int = 0
    """Slots that this process may hold."""
    calls: int = 0
    """Slots held by all processes (``redis_down``: by this one)."""
    limit: int | None = None
    """The workspace's limit; None = none."""
    burst: int = 0
    batch: int = 0
    waiting: int = 0
    """Callers who queue."""
    instances: int = 1
    burst_minutes_today: float = 0.0
    agents: dict[str, int] = field(default_factory=dict)
    """Calls by agent id, at most ``MAX_AGENTS_SHOWN``."""


class SlotStore(Protocol):
    """Slots shared by processes. Every method raises ``StoreDown`` when the store does not answer in time."""

    @property
    def epoch(self) -> int:
        """The last answer's epoch; 0 = none yet."""
        ...

    async def take(self, wanted: Ask) -> Verdict:
        """Decide, atomically and idempotently by call id; the slot is this process's from now on."""
        ...

    async def give_back(self, released: Sequence[Release]) -> None:
        """Free slots of this process, idempotently, in order with ``take``; what another process took over stays."""
        ...

    async def renew(self, calls: Sequence[HeldCall], day: str, burst_ms: int) -> Renewal:
        """Say that these calls go on, and that burst calls (ended ones too) lasted ``burst_ms`` longer on this day.

        Calls that the store does not know (it was restarted empty) are entered, with their marks.
        """
        ...

    def usage(self) -> Usage:
        """What the last answers said."""
        ...

    async def leave(self) -> None:
        """This process goes: forget it at once."""
        ...
