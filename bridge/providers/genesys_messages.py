"""The messages of Genesys' AudioHook protocol, version 2, as types: what comes is read leniently, what goes is exact.

Source: Genesys Cloud Developer Center, "AudioHook Monitor and Audio Connector: protocol reference", and the types of
Genesys' reference implementations (``protocol/message.ts``; ``voice-bots.ts`` for the Audio Connector).

Every text message has the same envelope: version, id, type, seq, parameters; from the client also serverseq and
position, from the server clientseq. Reading takes missing, additional and null fields wherever we do not need them,
because strict servers were thrown out of service when Genesys added one. Writing gives the official fields and no
others, because the service does close sessions for a field that it does not know.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, TypeVar

import msgspec

from bridge.errors import RemoteError
from bridge.providers.genesys_media import SAMPLE_RATE_HZ

VERSION = "2"

MAX_MESSAGE_BYTES = 65_536
"""Largest message we take: Genesys' own servers allow as much; its own limits are 64,000 bytes for a message and
60,000 for the largest field (``customConfig``)."""

MAX_OUT_BYTES = 64_000
"""Largest message that Genesys takes, text or binary."""

MAX_GAP_S = 24 * 3600
"""Longest gap in the audio that counts; a call does not last a day, and a number without end is no duration."""

_DURATION = re.compile(r"PT(?:([0-9]{0,9})\.)?([0-9]{1,18})S")

_Seq = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Envelope(msgspec.Struct, frozen=True):
    """What every client message has. ``parameters`` waits for a reader of its own."""

    type: str
    id: str
    seq: _Seq
    """Counts the client's messages from 1."""
    parameters: msgspec.Raw = msgspec.Raw(b"{}")


class Participant(msgspec.Struct, frozen=True):
    """``open.participant``: the caller."""

    id: str | None = None
    ani: str | None = None
    aniName: str | None = None
    dnis: str | None = None


class Open(msgspec.Struct, frozen=True):
    """Parameters of ``open``. ``continuedSessions`` and ``customConfig`` mean nothing to a voice bot."""

    organizationId: str
    conversationId: str
    participant: Participant | None = None
    media: list[msgspec.Raw] | None = None
    """The offers as they were written, so that one can be echoed unmodified."""
    language: str | None = None
    inputVariables: dict[str, Any] | None = None
    """Text to text by the protocol; other values are taken as their JSON."""


class Close(msgspec.Struct, frozen=True):
    """Parameters of ``close``: ``end``, ``error``, ``disconnect`` or ``reconnect``."""

    reason: str = "end"


class Gap(msgspec.Struct, frozen=True):
    """Parameters of ``discarded`` and ``resumed``: audio that was never sent."""

    discarded: str


class Dtmf(msgspec.Struct, frozen=True):
    """Parameters of ``dtmf``."""

    digit: Annotated[str, msgspec.Meta(pattern="^[0-9*#A-Da-d]$")]


class Error(msgspec.Struct, frozen=True):
    """Parameters of ``error``: Genesys is unhappy with us."""

    code: int = 0
    retryAfter: str | None = None
    """With code 429: how long to send nothing."""


DECODE_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError)
_envelope_decoder = msgspec.json.Decoder(Envelope)
_T = TypeVar("_T")


def decode(message: str) -> Envelope:
    """Read a text message's envelope. Raises ``RemoteError`` for what is no AudioHook message."""
    try:
        return _envelope_decoder.decode(message)
    except DECODE_ERRORS as error:
        raise RemoteError(f"not an AudioHook message: {error}") from None


def decode_parameters(envelope: Envelope, kind: type[_T]) -> _T:
    """Read a message's parameters. Raises ``RemoteError`` that names message and field."""
    try:
        return msgspec.json.decode(envelope.parameters, type=kind)
    except DECODE_ERRORS as error:
        raise RemoteError(f"{envelope.type}: {error}") from None


def duration_samples(text: str) -> int:
    """Samples in a duration such as ``PT6.3S``, to the nearest. Raises ``RemoteError`` for every other form.

    The protocol knows seconds only, with up to nanosecond digits, although ISO 8601 has minutes and hours.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise RemoteError("a duration is not of the form PT<seconds>S")
    whole, digits = match.groups()
    scale = 1 if whole is None else 10 ** len(digits)
    value = int(digits) + int(whole or 0) * scale
    if value > MAX_GAP_S * scale:
        raise RemoteError("a duration is longer than a day")
    return (value * SAMPLE_RATE_HZ * 2 + scale) // (scale * 2)


class Encoder:
    """Writes our messages of one session, and counts them: the order of writing must be the order of sending."""

    __slots__ = ("_id", "seq")

    def __init__(self, session_id: str) -> None:
        self._id = json.dumps(session_id)
        self.seq = 0
        """The last message's number."""

    def message(self, kind: str, parameters: str, clientseq: int) -> str:
        """The next message of this type; ``parameters`` is JSON, ``clientseq`` the client's message it follows."""
        self.seq += 1
        return (
            f'{{"version":"{VERSION}","id":{self._id},"type":"{kind}","seq":{self.seq},'
            f'"clientseq":{clientseq},"parameters":{parameters}}}'
        )


NO_PARAMETERS = "{}"
BARGE_IN = '{"entities":[{"type":"barge_in","data":{}}]}'
"""Parameters of the ``event`` with which Genesys throws away what it has yet to play."""


def opened(offer: str | None) -> str:
    """Parameters of ``opened``: the chosen offer exactly as it was written; None = a session without audio."""
    return f'{{"media":[{offer or ""}]}}'


def disconnect(reason: str, info: str, outputs: dict[str, str]) -> str:
    """Parameters of ``disconnect``: ``completed``, ``error`` or ``unauthorized``, with the flow's output variables."""
    body: dict[str, object] = {"reason": reason}
    if info:
        body["info"] = info
    if outputs:
        body["outputVariables"] = outputs
    return json.dumps(body, separators=(",", ":"))
