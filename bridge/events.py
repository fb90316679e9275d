"""What passes between a leg and the call: events up, commands down.

All are immutable. ``msgspec.Struct`` is used in place of dataclasses because one ``Audio`` and one ``Play``
are built per 20 ms of every call, and a frozen dataclass costs five times as much to build.
"""

from __future__ import annotations

import msgspec

from bridge.media.format import MediaFormat
from bridge.outcome import EndReason


class CallInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the carrier tells about a call when it offers it. Empty text where the carrier says nothing."""

    provider: str
    """Name of the carrier in the registry, e.g. ``twilio``."""
    call_sid: str
    """The carrier's id of the call; one call may have several streams in turn."""
    stream_id: str = ""
    """The carrier's id of this media stream."""
    account_id: str = ""
    caller: str = ""
    """Caller's number as the carrier wrote it: E.164, ``anonymous``, a SIP URI."""
    called: str = ""
    token: str = ""
    """One-time token from the answer webhook, if the carrier carried one."""
    agent_id: str = ""
    """Agent that the carrier's address names (Genesys: the Connector ID); empty = the routing decides."""
    direction: str = "inbound"
    """``inbound`` or ``outbound``."""
    control_url: str = ""
    """Base URL of the carrier's region that holds the call, where it names one: from a verified request only."""
    parameters: dict[str, str] = {}
    """Custom parameters the operator put into the carrier's set-up (without ours); variables for the agent."""


# --- events: leg -> call ---------------------------------------------------------------------------------


class Offered(msgspec.Struct, frozen=True):
    """The carrier offers a call; nothing is connected until ``Accept`` or ``Reject``."""

    info: CallInfo
    media_choices: tuple[MediaFormat, ...]
    """Formats the carrier can speak, best first; never empty."""
    rings: bool = False
    """Whether the call, once accepted, rings until ``Answer``: until then there is nobody to say anything to."""


class Audio(msgspec.Struct, frozen=True, gc=False):
    """Audio from the caller, in the accepted format."""

    payload: bytes
    position: int
    """Samples of the stream before this payload, as counted by the carrier; a jump means lost audio."""


class Dtmf(msgspec.Struct, frozen=True):
    """The caller pressed a key."""

    digit: str
    """One of ``0-9 * # A-D``."""
    duration_ms: int = 0
    """0 where the carrier does not say."""


class PlaybackReached(msgspec.Struct, frozen=True):
    """The carrier says that everything before this mark was played (or flushed: see ``Flush``)."""

    mark: str


class Paused(msgspec.Struct, frozen=True):
    """The carrier paused the stream; no audio until ``Resumed``."""


class Resumed(msgspec.Struct, frozen=True):
    """The stream goes on."""


class TransferResult(msgspec.Struct, frozen=True):
    """How a ``Transfer`` came out."""

    succeeded: bool
    detail: str


class Ended(msgspec.Struct, frozen=True):
    """The leg is over; no event follows. ``detail`` is for the log and never holds numbers or secrets."""

    reason: EndReason
    detail: str = ""


Event = Offered | Audio | Dtmf | PlaybackReached | Paused | Resumed | TransferResult | Ended


# --- commands: call -> leg -------------------------------------------------------------------------------


class Accept(msgspec.Struct, frozen=True):
    """Take the offered call in this format (one of the offered)."""

    media: MediaFormat


class Answer(msgspec.Struct, frozen=True):
    """Pick up: there is somebody to talk to. Only for calls that ring (``Offered.rings``)."""


class Reject(msgspec.Struct, frozen=True):
    """Do not take the offered call."""

    reason: EndReason
    detail: str = ""
    """For carriers that hand a text to the operator's flow; never holds numbers or secrets."""
    outputs: dict[str, str] = {}
    """What is known of the call all the same, as in ``Hangup``."""


class Play(msgspec.Struct, frozen=True, gc=False):
    """Play this audio after what was queued before; whole 20 ms frames in the accepted format."""

    payload: bytes


class Mark(msgspec.Struct, frozen=True):
    """Report with ``PlaybackReached`` when everything before this has been played."""

    name: str


class Flush(msgspec.Struct, frozen=True):
    """Drop everything the carrier has yet to play. Pending marks come back as reached."""


class SendDtmf(msgspec.Struct, frozen=True):
    """Send keypad tones to the far end: ``0-9 * #``, ``w`` = 0.5 s and ``W`` = 1 s pause."""

    digits: str


class Transfer(msgspec.Struct, frozen=True):
    """Hand the caller to somebody else."""

    target: str


class Hangup(msgspec.Struct, frozen=True):
    """End the leg from our side."""

    reason: EndReason
    detail: str = ""
    """For carriers that hand a text to the operator's flow; never holds numbers or secrets."""
    outputs: dict[str, str] = {}
    """The conversation's results, for carriers that take them (``CarrierSpec.takes_results``)."""


Command = Accept | Answer | Reject | Play | Mark | Flush | SendDtmf | Transfer | Hangup
