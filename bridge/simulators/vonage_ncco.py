"""Reads NCCOs, the documents with which an application tells Vonage what to do in a call; strictly.

Whatever Vonage would refuse, ignore or carry out in another way than meant is an ``NccoError``: unknown actions and
fields, wrong types and ranges, endpoints that cannot be. ``connect`` to a WebSocket must come last: it has been seen
that what follows runs as soon as the socket is up. Independent of ``bridge.providers`` on purpose.

Sources: Vonage "NCCO reference", read 2026-11-21; the models of the SDK vonage-voice 1.5.1; the 512 bytes of headers
are of "WebSockets in the Vonage Voice API".
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, field

MAX_HEADER_BYTES = 512
MAX_NCCO_BYTES = 256 * 1024
MAX_ACTIONS = 100
"""Far more than any call needs."""

_NUMBER = re.compile(r"[1-9][0-9]{6,14}")
_KEYS = re.compile(r"[0-9*#p]+")
_SIP = re.compile(r"sips?:[^@\s]+@[^@\s]+|sips?:[^@\s]+")

Urls = Annotated[tuple[str, ...], Meta(min_length=1, max_length=1)]
Method = Literal["GET", "POST"]
Level = Annotated[float, Meta(ge=-1, le=1)]


class NccoError(Exception):
    """A document that is not right; the text says why."""


# --- endpoints -----------------------------------------------------------------------------------------------


class _Endpoint(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True):
    """Whom a ``connect``, or a call that is placed, calls."""


class OnAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is played to whom is called before both are connected."""

    url: str
    ringbackTone: str | None = None


class Phone(_Endpoint, frozen=True, kw_only=True, tag="phone"):
    """A number."""

    number: str
    dtmfAnswer: str | None = None
    onAnswer: OnAnswer | None = None
    shaken: str | None = None


class Sip(_Endpoint, frozen=True, kw_only=True, tag="sip"):
    """A SIP address."""

    uri: str
    headers: dict[str, Any] | None = None
    standardHeaders: dict[str, str] | None = None


class Authorization(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a WebSocket's upgrade."""

    type: Literal["vonage", "custom"]
    value: str | None = None


class WebSocket(_Endpoint, frozen=True, kw_only=True, tag="websocket"):
    """A media socket."""

    uri: str
    content_type: Literal["audio/l16;rate=8000", "audio/l16;rate=16000", "audio/l16;rate=24000"] = field(
        name="content-type", default="audio/l16;rate=16000"
    )
    headers: dict[str, Any] = {}
    authorization: Authorization | None = None

    @property
    def rate_hz(self) -> int:
        """Of the audio, both ways."""
        return int(self.content_type.partition("rate=")[2])


class App(_Endpoint, frozen=True, kw_only=True, tag="app"):
    """A user of the client SDK; nobody is there in a simulated cloud."""

    user: str


class Vbc(_Endpoint, frozen=True, kw_only=True, tag="vbc"):
    """An extension of Vonage's own PBX; nobody is there in a simulated cloud."""

    extension: str


Endpoint = Phone | Sip | WebSocket | App | Vbc

# --- actions -------------------------------------------------------------------------------------------------


class _Action(msgspec.Struct, frozen=True, kw_only=True, tag_field="action", forbid_unknown_fields=True):
    """What is done in a call."""


class Talk(_Action, frozen=True, kw_only=True, tag="talk"):
    """A voice says something."""

    text: Annotated[str, Meta(min_length=1, max_length=1500)]
    bargeIn: bool = False
    loop: Annotated[int, Meta(ge=0)] = 1
    level: Level = 0
    language: str = "en-US"
    style: int = 0
    premium: bool = False


class Stream(_Action, frozen=True, kw_only=True, tag="stream"):
    """A recording is played."""

    streamUrl: Urls
    level: Level = 0
    bargeIn: bool = False
    loop: Annotated[int, Meta(ge=0)] = 1


class Record(_Action, frozen=True, kw_only=True, tag="record"):
    """The call is recorded."""

    format: Literal["mp3", "wav", "ogg"] | None = None
    split: Literal["conversation"] | None = None
    channels: Annotated[int, Meta(ge=1, le=32)] | None = None
    endOnSilence: Annotated[float, Meta(ge=3, le=10)] | None = None
    endOnKey: Annotated[str, Meta(pattern=r"^[0-9#*]$")] | None = None
    timeOut: Annotated[int, Meta(ge=3, le=7200)] | None = None
    beepStart: bool = False
    eventUrl: Urls | None = None
    eventMethod: Method = "POST"
    transcription: dict[str, Any] | None = None


class Conversation(_Action, frozen=True, kw_only=True, tag="conversation"):
    """The leg joins a named conversation."""

    name: Annotated[str, Meta(min_length=1)]
    musicOnHoldUrl: Urls | None = None
    startOnEnter: bool = True
    endOnExit: bool = False
    record: bool = False
    canSpeak: tuple[str, ...] | None = None
    canHear: tuple[str, ...] | None = None
    mute: bool = False
    eventUrl: Urls | None = None
    eventMethod: Method = "POST"


class Dtmf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How ``input`` listens for keys."""

    timeOut: Annotated[int, Meta(ge=0, le=10)] = 3
    maxDigits: Annotated[int, Meta(ge=1, le=20)] = 4
    submitOnHash: bool = False


class Input(_Action, frozen=True, kw_only=True, tag="input"):
    """The person is asked for keys or words."""

    type: Annotated[tuple[Literal["dtmf", "speech"], ...], Meta(min_length=1)]
    dtmf: Dtmf = Dtmf()
    speech: dict[str, Any] | None = None
    eventUrl: Urls | None = None
    eventMethod: Method = "POST"
    mode: Literal["synchronous", "asynchronous"] = "synchronous"


class Detection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Advanced machine detection."""

    behavior: Literal["continue", "hangup"] = "continue"
    mode: Literal["default", "detect", "detect_beep"] = "detect"
    beep_timeout: Annotated[int, Meta(ge=45, le=120)] = 45


class Connect(_Action, frozen=True, kw_only=True, tag="connect"):
    """The leg is connected to somebody else."""

    endpoint: Annotated[tuple[Endpoint, ...], Meta(min_length=1, max_length=1)]
    from_: str | None = field(default=None, name="from")
    randomFromNumber: bool = False
    eventType: Literal["synchronous"] | None = None
    timeout: Annotated[int, Meta(ge=1, le=120)] = 60
    limit: Annotated[int, Meta(ge=1, le=7200)] = 7200
    machineDetection: Literal["continue", "hangup"] | None = None
    advancedMachineDetection: Detection | None = None
    eventUrl: Urls | None = None
    eventMethod: Method = "POST"
    ringbackTone: str | None = None


class Notify(_Action, frozen=True, kw_only=True, tag="notify"):
    """The application is told something, and may answer with another document."""

    payload: dict[str, Any]
    eventUrl: Urls
    eventMethod: Method = "POST"


class Wait(_Action, frozen=True, kw_only=True, tag="wait"):
    """Nothing for a while."""

    timeout: float = 10.0


Action = Talk | Stream | Record | Conversation | Input | Connect | Notify | Wait
Ncco = tuple[Action, ...]

_T = TypeVar("_T")


def read_ncco(body: bytes) -> Ncco:
    """A document as a webhook answers with it. Raises ``NccoError``."""
    if len(body) > MAX_NCCO_BYTES:
        raise NccoError(f"a document of more than {MAX_NCCO_BYTES} bytes")
    try:
        ncco = msgspec.json.decode(body, type=Ncco)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise NccoError(str(error)) from None
    return _checked(ncco)


def convert(value: object, kind: type[_T]) -> _T:
    """A part of a request as its type. Raises ``NccoError``."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise NccoError(str(error)) from None


def ncco_of(value: object) -> Ncco:
    """A document inside a request. Raises ``NccoError``."""
    return _checked(convert(value, Ncco))


def check_endpoint(endpoint: Endpoint) -> None:
    """What no type says. Raises ``NccoError``."""
    match endpoint:
        case Phone(number=number, dtmfAnswer=keys):
            check_number(number)
            if keys is not None and not _KEYS.fullmatch(keys):
                raise NccoError("dtmfAnswer has other signs than 0-9 * # p")
        case Sip(uri=uri):
            if not _SIP.fullmatch(uri):
                raise NccoError("a SIP endpoint whose uri is none")
        case WebSocket():
            _check_websocket(endpoint)


def check_number(number: str) -> None:
    """Raises ``NccoError`` unless it is in international format without plus."""
    if not _NUMBER.fullmatch(number):
        raise NccoError("a number that is not in E.164 without plus")


def _check_websocket(endpoint: WebSocket) -> None:
    parts = urlsplit(endpoint.uri)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise NccoError("a websocket endpoint whose uri is not ws:// or wss://")
    size_bytes = len(json.dumps(endpoint.headers, separators=(",", ":")).encode())
    if size_bytes > MAX_HEADER_BYTES:
        raise NccoError(f"headers of {size_bytes} bytes; Vonage takes {MAX_HEADER_BYTES}")
    authorization = endpoint.authorization
    if authorization is not None and (authorization.type == "custom") != (authorization.value is not None):
        raise NccoError("authorization has a value if, and only if, its type is custom")


def _checked(ncco: Ncco) -> Ncco:
    if len(ncco) > MAX_ACTIONS:
        raise NccoError(f"more than {MAX_ACTIONS} actions")
    for place, action in enumerate(ncco):
        is_last = place == len(ncco) - 1
        match action:
            case Connect():
                _check_connect(action, is_last=is_last)
            case Conversation(canSpeak=canSpeak, mute=True) if canSpeak:
                raise NccoError("conversation has both mute and canSpeak")
            case Input(type=kinds, eventUrl=None) if kinds:
                raise NccoError("input without eventUrl: nobody would get the keys")
    return ncco


def _check_connect(action: Connect, *, is_last: bool) -> None:
    if (action.from_ is None) != action.randomFromNumber:
        raise NccoError("connect needs from or randomFromNumber, one of them")
    if action.from_ is not None:
        check_number(action.from_)
    if action.eventType is not None and action.eventUrl is None:
        raise NccoError("connect is synchronous, but has no eventUrl")
    [endpoint] = action.endpoint
    check_endpoint(endpoint)
    if isinstance(endpoint, WebSocket) and not is_last:
        raise NccoError("connect to a websocket is not the last action: what follows runs at once")
