"""The contract that every carrier leg keeps, and the card (``CarrierSpec``) with which a carrier registers.

A leg is sans-I/O: it never touches a socket, a clock or randomness. One driver in ``server/`` feeds it, takes
its events, and writes what it drains, always in one synchronous step:

    for event in leg.receive(message, now): ...     # or handle_timer, or connection_lost
    for item in leg.drain(): socket.write(item)

``now`` is seconds on a monotonic clock throughout.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from bridge.events import Command, Event


@dataclass(frozen=True, slots=True)
class CloseSocket:
    """Close the leg's socket with this WebSocket close code after all that was drained before."""

    code: int = 1000
    reason: str = ""


Outgoing = str | bytes | CloseSocket
"""What must go out: a text message, a binary message, or the end of the socket."""


class Leg(Protocol):
    """One carrier connection of a call."""

    def receive(self, message: str | bytes, now: float) -> list[Event]:
        """Feed one message of the peer (text as ``str``, binary as ``bytes``); afterwards drain.

        Never raises on what a peer sends: garbage gives the protocol's own error reply and ``Ended``.
        After ``Ended`` everything is ignored.
        """

    relayed: int
    """Messages that ``relay`` has taken."""
    last_payload: bytes
    """The latest caller audio, whichever way it took; for listeners that look at some of it."""

    def set_relay(self, head: str, tail: str, sizes: range) -> None:
        """Have ``relay`` take payloads of these sizes in bytes (an empty range = none), base64 between both texts."""

    def relay(self, message: str | bytes, now: float) -> str | None:
        """The shortest cut, for caller audio that passes unchanged: ``head``, its base64, ``tail``.

        None = not taken, and nothing has happened: use ``read_audio`` or ``receive``. One function instead of five
        saves a fifth of what a call costs: with hundreds of calls every line of code is out of the processor's cache
        again when the next message comes.
        """

    def read_audio(self, message: str | bytes, now: float) -> bytes | None:
        """The short cut of ``receive`` for a message that is caller audio and nothing else: its payload.

        None = not taken, and nothing has happened: use ``receive``. Fifty times a second and call this saves the
        list, the event and its dispatch.
        """

    def audio_message(self, payload: bytes) -> str | bytes | None:
        """The short cut of ``send(Play(payload))`` and ``drain``: the message itself; None = not taken."""

    def connection_lost(self, code: int, now: float) -> list[Event]:
        """Say that the socket is gone, with its WebSocket close code (1006 = without a close frame)."""

    def send(self, command: Command, now: float) -> None:
        """Carry out a command; afterwards drain. Raises ``LocalError`` only on our own misuse.

        After the leg's end every command is ignored: ends cross on the wire, and that is no mistake.
        """

    def drain(self) -> list[Outgoing]:
        """Take everything that must go out now, in order. Empty list when there is nothing."""

    def next_timer(self) -> float:
        """When ``handle_timer`` wants to be called next (``inf`` = never). May be too early, never too late."""

    def lingering(self) -> bool:
        """Whether the socket is still needed after the call's end: some carriers part with a handshake of their own."""

    def handle_timer(self, now: float) -> list[Event]:
        """Let time pass; afterwards drain. Harmless when called too early."""


@dataclass(frozen=True, slots=True)
class UpgradeRequest:
    """The HTTP request that wants to become a media socket, as far as verifiers need it."""

    raw_path: str
    """Path and query exactly as on the request line (percent-encoding untouched)."""
    headers: Mapping[str, str]
    """Case-insensitive mapping, or with lower-case keys."""
    path_values: Mapping[str, str] = field(default_factory=dict)
    """What stands in the places that ``CarrierSpec.media_paths`` names, e.g. ``agent_id``; percent-decoded."""


@dataclass(frozen=True, slots=True)
class LegOptions:
    """The operator's settings that a leg needs, in seconds on the leg's clock."""

    start_timeout_s: float
    """How long a fresh socket may take to offer its call."""
    silence_timeout_s: float
    """How long a carrier may send nothing at all before the leg counts as dead."""
    carrier: Mapping[str, str] = field(default_factory=dict)
    """The carrier's own settings by name in lower case, e.g. ``genesys_when_full``; absent = its default."""


@dataclass(frozen=True, slots=True)
class AuthContext:
    """What a carrier's verifier may know."""

    public_url: str
    """PUBLIC_URL without trailing slash: what the carrier was told, with scheme and path prefix."""
    secrets: Mapping[str, tuple[str, ...]]
    """Secrets by setting name (lower case), each a key ring: several values while a key is rotated."""
    unix_s: float
    """Wall-clock time, for signatures that carry one."""
    instance_url: str = ""
    """INSTANCE_URL likewise, where this process has an address of its own besides."""


class TransferKind(enum.Enum):
    """Ways in which a caller is handed on."""

    FLOW = "flow"
    """The call ends, and the carrier's own flow connects the caller by the outputs that it is given."""
    BLIND = "blind"
    """The caller is sent on at once; where nobody answers, the agent gets them back."""
    WARM = "conference"
    """The human is called and told first while the caller stays with the agent; the vendor's name for it."""
    REFER = "sip_refer"
    """The caller's own switch is told to connect them elsewhere; on SIP legs."""


class ToneWay(enum.Enum):
    """How keypad tones get onto the caller's line."""

    NONE = "none"
    LEG = "leg"
    """The leg itself takes ``SendDtmf``."""
    CONTROL = "control"
    """A control request; the media stream stays up."""
    EXCURSION = "excursion"
    """A control request that ends the media stream; a new one of the same call comes when the tones were played."""


@dataclass(frozen=True, slots=True)
class CarrierSpec:
    """A carrier's card: what the driver, routes, metrics, docs and conformance tests need to know of it."""

    name: str
    """Name in routes, metrics and logs."""
    media_paths: tuple[str, ...]
    """Paths of the media WebSocket, e.g. ``/twilio/media``; a last segment in braces takes any one segment:
    ``/genesys/{agent_id}``. The first is the one to show to people."""
    new_leg: Callable[[LegOptions, UpgradeRequest, float], Leg]
    """Make a leg for a socket that was opened with this (verified) request at this time."""
    authenticate_upgrade: Callable[[UpgradeRequest, AuthContext], str]
    """Verify the upgrade request: empty text = let in, otherwise why not (for the log, not for the peer)."""
    needs_token: bool
    """Whether the offer must carry the one-time token of our answer webhook."""
    lead_ms: int
    """How far ahead of its playing clock the carrier is fed at most: enough to ride out a stall of ours, little
    enough that a lost ``clear`` hurts little."""
    chunk_ms: int
    """How much audio goes into one message when there is plenty: fewer messages against a coarser lead."""
    max_message_bytes: int
    """Largest message we accept from this carrier."""
    token_waived_by: str = ""
    """Parameter of a call (``CallInfo``) by which those are known who write the carrier's documents themselves, so that
    their media sockets have no token to bring: the verified upgrade must do. Empty = there are none."""
    refusal_status: int = 403
    """HTTP status of an upgrade that ``authenticate_upgrade`` does not let in, as the carrier expects it."""
    takes_results: bool = False
    """Whether the carrier takes the conversation's results (``Hangup.outputs``), so that they are worth a wait."""
    burst_ms: int | None = None
    """How much goes out at once at the beginning of a talkspurt, for carriers that want their messages evenly; the rest
    of the lead follows at twice real time. None = the whole lead at once."""
    transfers: frozenset[TransferKind] = frozenset()
    """Transfers that the carrier can make, given credentials for its control interface where it takes them."""
    tones: ToneWay = ToneWay.NONE
