"""The messages of Twilio Media Streams (bidirectional) as types: one decoder in, one function per message out.

Source: Twilio "Media Streams - WebSocket messages" and error pages 31950 and 31951, read 2026-11-21. Numbers
come as strings (``"sequenceNumber": "3"``); plain numbers are taken too. To Twilio only ``media``, ``mark``
and ``clear`` exist, and a field too many is an error (31951), so these are exact.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Literal

import msgspec
from pybase64 import b64encode_as_string

from bridge.errors import RemoteError


class _FromTwilio(msgspec.Struct, tag_field="event", frozen=True, gc=False):
    """Base of Twilio's messages: the JSON field ``event`` selects the class."""


class Connected(_FromTwilio, tag="connected", frozen=True):
    """The first message; says nothing about the call."""


class TwilioMediaFormat(msgspec.Struct, frozen=True):
    """``start.mediaFormat``; mu-law at 8 kHz today, announced so that it can change."""

    encoding: str
    sampleRate: int | str
    channels: int | str = 1


class StartBody(msgspec.Struct, frozen=True):
    """Body of ``start``."""

    streamSid: str
    callSid: str
    mediaFormat: TwilioMediaFormat
    accountSid: str = ""
    customParameters: dict[str, str] = {}


class Start(_FromTwilio, tag="start", frozen=True):
    """The stream begins."""

    start: StartBody


class MediaBody(msgspec.Struct, frozen=True, gc=False):
    """Body of ``media``; the decoder turns base64 into bytes and refuses what is not base64."""

    payload: bytes
    track: Literal["inbound", "outbound"] = "inbound"
    timestamp: str | int = 0
    """Milliseconds since the stream began."""


class Media(_FromTwilio, tag="media", frozen=True):
    """Caller audio; 20 ms as observed, never promised."""

    streamSid: str
    media: MediaBody


class DtmfBody(msgspec.Struct, frozen=True):
    """Body of ``dtmf``."""

    digit: str


class Dtmf(_FromTwilio, tag="dtmf", frozen=True):
    """The caller pressed a key; one message a digit, no duration."""

    streamSid: str
    dtmf: DtmfBody


class MarkBody(msgspec.Struct, frozen=True):
    """Body of ``mark``."""

    name: str


class Mark(_FromTwilio, tag="mark", frozen=True):
    """Our mark comes back: played, or flushed by ``clear``."""

    streamSid: str
    mark: MarkBody


class Stop(_FromTwilio, tag="stop", frozen=True):
    """The stream is over: the caller hung up, or the call moved on to other TwiML."""

    streamSid: str


FromTwilio = Connected | Start | Media | Dtmf | Mark | Stop


class _Envelope(msgspec.Struct):
    event: str


decode_fast: Callable[[str], FromTwilio] = msgspec.json.Decoder(FromTwilio).decode
"""Decode a good message; ``DECODE_ERRORS`` are raised for all others, and ``decode`` says what is wrong with them."""
DECODE_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError)
_envelope_decoder = msgspec.json.Decoder(_Envelope)
_KNOWN_EVENTS = frozenset(str(cls.__struct_config__.tag) for cls in _FromTwilio.__subclasses__())


class UnknownEvent(Exception):
    """Well formed, but of an event that this version does not know; ``args[0]`` names it."""


def decode(message: str) -> FromTwilio:
    """Read one text message.

    Raises ``UnknownEvent`` for events to ignore and ``RemoteError``, naming the field, for everything broken.
    """
    try:
        return decode_fast(message)
    except DECODE_ERRORS as error:
        problem = str(error)
    try:
        name = _envelope_decoder.decode(message).event
    except DECODE_ERRORS:
        raise RemoteError(f"not a Media Streams message: {problem}") from None
    if name not in _KNOWN_EVENTS:
        raise UnknownEvent(name[:64])
    raise RemoteError(f"{name}: {problem}")


class Encoder:
    """Builds our messages for one stream; everything but the payload is prepared once."""

    __slots__ = (
        "_mark_head",
        "_media_head",
        "clear",
    )

    def __init__(self, stream_sid: str) -> None:
        sid = json.dumps(stream_sid)
        self._media_head = f'{{"event":"media","streamSid":{sid},"media":{{"payload":"'
        self._mark_head = f'{{"event":"mark","streamSid":{sid},"mark":{{"name":'
        self.clear = f'{{"event":"clear","streamSid":{sid}}}'
        """Empty Twilio's buffer; every pending mark comes back."""

    def media(self, payload: bytes) -> str:
        """Raw headerless audio in the stream's format, any size, played in the order received."""
        return self._media_head + b64encode_as_string(payload) + '"}}'

    def mark(self, name: str) -> str:
        """Ask for ``mark`` with this name once everything before it has played."""
        return f"{self._mark_head}{json.dumps(name)}}}}}"
