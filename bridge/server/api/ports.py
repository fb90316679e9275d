"""What the API needs from the rest of the bridge, as small protocols.

The stores of ``bridge.server`` fit most of them as they are; tests use fakes. Every method may raise
``errors.Unavailable``, ``OSError`` or the database's own errors when what stands behind it does not answer: the
API turns them into 503.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from bridge.calls.record import CallRecord
from bridge.calls.routing import Listed
from bridge.calls.rules import Route
from bridge.errors import BridgeError
from bridge.server.live_calls import LiveCall
from bridge.server.recording.library import OpenAudio
from bridge.server.recording.options import AudioFormat
from bridge.server.slot_store import Usage
from bridge.server.store.calls import Deleted
from bridge.server.store.delivery import Delivery
from bridge.server.store.listing import CallFilter, CallPage


class CallsPort(Protocol):
    """The stored calls: ``bridge.server.store.calls.CallStore``."""

    async def page(self, wanted: CallFilter, cursor: str | None, limit: int) -> CallPage:
        """Calls by time of offer, newest first, without journals. Raises ``QueryError`` for what makes no sense."""
        ...

    async def get(self, call_id: str) -> CallRecord | None:
        """One call with its journal; None = there is none."""
        ...

    async def by_conversation(self, conversation_id: str) -> CallRecord | None:
        """The call that had this conversation, its last or an earlier one."""
        ...

    async def by_call_sid(self, call_sid: str) -> CallRecord | None:
        """The newest call with the carrier's id."""
        ...

    async def delete(self, call_id: str) -> Deleted | None:
        """Forget a call that is over; None = there was none. Raises ``LiveCallError`` when it goes on."""
        ...


class LivePort(Protocol):
    """The register of calls in progress: ``bridge.server.live_calls.LiveCalls``."""

    @property
    def state(self) -> Literal["memory", "redis", "redis_down"]:
        """Whose calls ``all`` knows: with ``redis`` everybody's, else those of this process."""
        ...

    async def all(self) -> Sequence[LiveCall]:
        """The calls, oldest first."""
        ...


class AudioPort(Protocol):
    """The recordings: ``bridge.server.recording.library.AudioLibrary``."""

    async def open_audio(self, location: str, wanted: AudioFormat | None = None, range_header: str = "") -> OpenAudio:
        """A recording, whole or in part. Raises ``AudioNotFoundError``, ``AudioFormatError``, ``RangeError``,
        ``ConfigError`` where MP3 cannot be made, ``BucketError``."""
        ...

    async def delete_audio(self, location: str) -> None:
        """Delete a recording; again is no mistake. Raises ``AudioNotFoundError``, ``BucketError``, ``OSError``."""
        ...


class RoutesPort(Protocol):
    """The routes from numbers to agents: ``bridge.server.api.stored_routes.StoredRoutes``."""

    def listed(self) -> Sequence[Listed]:
        """All routes in force, in the order in which they are tried."""
        ...

    async def put(self, document: bytes) -> Route:
        """Add or replace the database's route of a number and carrier. Raises ``RoutingError``."""
        ...

    async def delete(self, number: str, provider: str) -> bool:
        """Remove a route from the database; False = it has none of that number and carrier."""
        ...


class DeliveriesPort(Protocol):
    """The webhook outbox."""

    async def of_call(self, call_id: str) -> Sequence[Delivery]:
        """All events of a call, by sequence."""

    async def dead(self, limit: int) -> Sequence[Delivery]:
        """Events that were given up, oldest first."""

    async def replay(self, ids: Sequence[str] | None) -> int:
        """Put dead events back into the queue (None = all of them); how many there were."""


class ControlResult(enum.Enum):
    """How an order to a live call came out."""

    DONE = enum.auto()
    NOT_LIVE = enum.auto()
    """No instance carries such a call."""
    ELSEWHERE = enum.auto()
    """Another instance carries it, and cannot be reached from here."""
    NOT_RECORDED = enum.auto()
    """The call is not recorded, so there is nothing to pause."""


class TransferWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hand the caller on to somebody else."""

    to: str
    """A number with its country code, a SIP address, or a word of the carrier's flow; TRANSFER_ALLOW must allow it."""
    kind: str = ""
    """`conference` (the human is asked first), `blind`, `sip_refer` or `flow`; left out: the best that the line can
    make."""
    caller_message: str = ""
    """Said to the caller, where the kind allows it."""
    human_message: str = ""
    """Said to the human before they take the call, likewise."""


class ControlPort(Protocol):
    """Orders to calls in progress."""

    async def hang_up(self, call_id: str) -> ControlResult:
        """End the call."""

    async def transfer(self, call_id: str, wish: TransferWish) -> ControlResult | str:
        """Begin to hand the caller on; a text says why that cannot be."""

    async def pause_recording(self, call_id: str) -> ControlResult:
        """Write silence from now on; harmless when it is paused."""

    async def resume_recording(self, call_id: str) -> ControlResult:
        """Record again; harmless when it is not paused."""


class PlacedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that the bridge has placed."""

    call_id: str
    """The bridge's id of the call."""
    call_sid: str
    """The carrier's id of the call; empty while it waits for its turn there."""
    status: str
    """Where it stands, in the carrier's words: `queued`, or what it has reported since."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a call was not placed, as the API says it."""

    status: int
    code: str
    message: str
    field: str = ""
    retry_after_s: int = 0
    """0 = nothing is said of it."""
    stays: bool = False
    """Whether asking again with the same idempotency key must get the same answer: something may have happened."""


class PlacementRefused(BridgeError):
    """A call was not placed, or nobody knows whether it was."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class OutboundPort(Protocol):
    """Calls that the bridge places: ``bridge.server.outbound.Outbound``."""

    async def place(self, body: bytes, key: str) -> PlacedCall:
        """Place the call that this JSON asks for; with a key never twice. Raises ``PlacementRefused``."""
        ...


class UsagePort(Protocol):
    """Who holds how many slots: ``bridge.server.admission.Admission``."""

    def usage(self) -> Usage:
        """Slots and limits at this moment."""
        ...


@dataclass(frozen=True, slots=True)
class ApiPorts:
    """Everything that the API stands on."""

    calls: CallsPort
    live: LivePort
    audio: AudioPort
    routes: RoutesPort
    deliveries: DeliveriesPort
    control: ControlPort
    usage: UsagePort
    outbound: OutboundPort | None = None
    """None = this bridge places no calls."""
    leftovers: tuple[Callable[[str], Awaitable[None]], ...] = ()
    """Each deletes files of a call by our id, where there are any; again is no mistake."""
