"""What the bridge asks of a carrier's control interface (its REST API), as one contract for all carriers.

A client does single steps and knows nothing of calls; ``bridge.server.transfers`` and ``bridge.server.outbound`` put
the steps in order. Every request has a time-out, no request that places a call is ever repeated on its own.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Protocol

from bridge.calls.orders import TransferOrder
from bridge.errors import BridgeError
from bridge.leg import ToneWay, TransferKind


class ControlFault(enum.Enum):
    """Why a request came to nothing."""

    GONE = "gone"
    """The call is over (404, Twilio 20404 and 21220)."""
    REFUSED = "refused"
    """The carrier does not do this: wrong credentials, a number it does not serve (other 4xx)."""
    BUSY = "busy"
    """Too many requests (429), even after the wait that the carrier asked for."""
    DOWN = "down"
    """No answer in time, no connection, or a 5xx: whether the carrier did it is unknown."""


class ControlError(BridgeError):
    """A control request failed. ``str`` is for the log: no numbers, no secrets."""

    def __init__(self, fault: ControlFault, detail: str, *, code: int | None = None) -> None:
        super().__init__(detail)
        self.fault = fault
        self.code = code
        """The carrier's own error code, where it gave one."""


@dataclass(frozen=True, slots=True)
class Line:
    """A call at its carrier, as far as control requests need to know it."""

    call_sid: str
    """The carrier's id of the caller's leg."""
    account_id: str = ""
    caller: str = ""
    called: str = ""
    """Our own number: caller id towards humans who are called for a transfer."""
    direction: str = "inbound"
    control_url: str = ""
    """Base URL of the region that holds the call, where the carrier names one (Vonage)."""


@dataclass(frozen=True, slots=True)
class Comeback:
    """How the media stream of a call comes back after the carrier did something else for it."""

    token: str
    """One-time token for the new stream."""
    caller: str = ""
    called: str = ""


@dataclass(frozen=True, slots=True)
class Whisper:
    """How the human of a warm transfer is asked."""

    transfer_id: str
    """In the URLs of the human leg's webhooks; unguessable."""
    ring_s: int
    """How long it may ring."""
    accept_key: str = ""
    """Key that the human must press to take the caller; empty = whoever answers takes them."""
    detect_machine: bool = True
    """Whether an answering machine counts as nobody."""
    language: str = ""
    """Of the sentences that the carrier's own voice says; empty = its default."""


@dataclass(frozen=True, slots=True)
class OutboundOrder:
    """A call to place."""

    call_id: str
    """Ours; in the URLs of the call's webhooks."""
    to_number: str
    from_number: str
    ring_s: int
    send_digits: str = ""
    detect_machine: str = "off"
    """``off``, ``enable`` or ``detect_message_end``; always beside the conversation, never before it."""
    max_duration_s: int | None = None
    extra: tuple[tuple[str, str], ...] = field(default=())
    """The carrier's own parameters that the operator adds, as form fields."""


class CarrierControl(Protocol):
    """One carrier's control client. All methods raise ``ControlError``; none outlasts its time-out."""

    @property
    def transfers(self) -> frozenset[TransferKind]:
        """What it can do with the credentials that there are; empty without any."""

    @property
    def tones(self) -> ToneWay:
        """How it sends tones with the credentials that there are."""

    @property
    def transfers_keep_stream(self) -> bool:
        """Whether a caller who is sent on stays on their media stream until somebody has them; else it ends and comes
        back where nobody does."""

    async def hang_up(self, line: Line) -> None:
        """End the call; one that is over already is a success."""

    async def play_tones(self, line: Line, digits: str, comeback: Comeback | None) -> None:
        """Press keys on the caller's line; ``comeback`` for ``ToneWay.EXCURSION``."""

    async def transfer(self, line: Line, order: TransferOrder, whisper: Whisper) -> None:
        """Send the caller on (``BLIND``, ``REFER``). How it came out is reported to the webhooks that carry the
        transfer's id; where nobody answers, their answer has the carrier connect the media stream again."""

    async def ring_human(self, line: Line, order: TransferOrder, whisper: Whisper) -> str:
        """Call the human of a ``WARM`` transfer; returns the carrier's id of their leg."""

    async def join(self, line: Line, human_sid: str, order: TransferOrder, whisper: Whisper, words: str) -> None:
        """Move the caller to the human, who has accepted; ``words`` are said to the caller first, if any."""

    async def drop_human(self, line: Line, human_sid: str) -> None:
        """Hang up on the human; one who is gone already is a success."""

    async def place(self, order: OutboundOrder) -> str:
        """Place a call; returns the carrier's id. Never repeated."""

    async def aclose(self) -> None:
        """Close connections."""
