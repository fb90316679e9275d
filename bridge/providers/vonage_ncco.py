"""Vonage's call control objects (NCCO): what our webhooks answer, and what control requests carry. Pure.

What it is: the few actions and endpoints that we use, as types, and one function per document. What it is not: the
order in which documents follow one another (``bridge.server.vonage_control`` and the webhooks), nor the rest of the
language.

Source: Vonage "NCCO reference", the SDK vonage-voice 1.5.1 (the oracle of the tests), read 2026-11-21. The rules:

- An NCCO is a JSON array of actions, carried out in order; when none is left, the call ends. There is no action that
  hangs up: a last ``talk`` does.
- Nothing stands behind a ``connect``. Vonage was seen to go on with it as soon as a WebSocket is up, so whatever
  follows comes from ``eventUrl`` (``eventType`` ``synchronous``): it is asked when nobody answers and when we close the
  socket.
- ``connect`` wants ``from`` (one of our own numbers) or ``randomFromNumber``. Numbers have no plus.
- The headers of a WebSocket have 512 bytes at most.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote

import msgspec

from bridge.errors import LocalError
from bridge.providers.vonage_call import HEADER_REGION, HEADER_TOKEN, HEADER_UUID
from bridge.providers.vonage_words import voice_language

MAX_HEADER_BYTES = 512
"""Vonage: of a WebSocket's headers, as JSON."""
MAX_TALK_CHARS = 1500
"""Vonage: of one ``talk``."""
MIN_RING_S, MAX_RING_S = 1, 120
"""Vonage: ringing time."""
MAX_LIMIT_S = 7200
"""Vonage: the longest call over ``connect``, and its default."""
KEY_TIMEOUT_S = 10
"""How long a human may think about pressing the key; the longest that Vonage waits."""

_NUMBER = re.compile(r"\+?([1-9][0-9]{6,14})")
_KEYS = re.compile(r"[0-9*#wW]*")
_PAUSES = str.maketrans({"w": "p", "W": "pp"})


# --- endpoints and actions -----------------------------------------------------------------------------------


class _Endpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """Whom a ``connect`` calls."""


class Phone(_Endpoint, tag="phone", frozen=True, kw_only=True):
    """A number, without plus."""

    number: str
    dtmf_answer: str | None = msgspec.field(default=None, name="dtmfAnswer")
    """Keys to press once it has answered: ``0-9 * # p``."""


class Sip(_Endpoint, tag="sip", frozen=True, kw_only=True):
    """A SIP address."""

    uri: str


class Authorization(msgspec.Struct, frozen=True):
    """Who vouches for a WebSocket's upgrade."""

    type: str = "vonage"
    """Vonage itself, with the same JWT as on its webhooks."""


class WebSocket(_Endpoint, tag="websocket", frozen=True, kw_only=True):
    """Our media socket."""

    uri: str
    content_type: str = msgspec.field(name="content-type")
    headers: dict[str, str]
    authorization: Authorization


Endpoint = Phone | Sip | WebSocket


class _Action(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="action", rename="camel"):
    """What is done in a call."""


class Talk(_Action, tag="talk", frozen=True, kw_only=True):
    """Vonage's own voice says a text."""

    text: str
    language: str | None = None
    barge_in: bool = False
    """Whether keys and speech stop it."""


class DtmfOptions(msgspec.Struct, frozen=True, rename="camel"):
    """How ``input`` listens for keys."""

    time_out: int
    max_digits: int


class Input(_Action, tag="input", frozen=True, kw_only=True):
    """Wait for keys, and ask ``eventUrl`` how to go on."""

    type: tuple[str, ...]
    dtmf: DtmfOptions
    event_url: tuple[str, ...]
    event_method: str


class Conversation(_Action, tag="conversation", frozen=True, kw_only=True):
    """Join the others in a named conversation."""

    name: str
    end_on_exit: bool = False


class Connect(_Action, tag="connect", frozen=True, kw_only=True):
    """Connect the call to somebody, or to our socket."""

    endpoint: tuple[Endpoint, ...]
    from_: str | None = msgspec.field(default=None, name="from")
    random_from_number: bool = False
    event_type: str
    event_url: tuple[str, ...]
    event_method: str
    timeout: int | None = None
    """Ringing time in seconds."""
    limit: int | None = None
    """Longest duration in seconds."""


Action = Talk | Input | Conversation | Connect
Ncco = tuple[Action, ...]
"""One document. ``render`` writes it, and control requests hold it as it is."""

HANG_UP: Ncco = ()
"""Nothing more is done, so the call ends."""

_SYNCHRONOUS, _POST = "synchronous", "POST"


def render(ncco: Ncco) -> bytes:
    """The document as the answer to a webhook: JSON, UTF-8."""
    return msgspec.json.encode(ncco)


# --- to our own media socket ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MediaConnect:
    """What a call needs on its way to our socket."""

    url: str
    """Of our media socket, ``wss://``, without a query."""
    uuid: str
    """Of the caller's leg, which is what control requests are about; the socket's own leg has another."""
    token: str = field(repr=False)
    """One-time token, bound to ``uuid``."""
    event_url: str
    """Asked when we close the socket, and when it cannot be opened."""
    from_number: str = ""
    """Our own number."""
    region_url: str = ""
    """Base address of the region that holds the call, as the webhook named it."""
    rate_hz: int = 16000
    limit_s: int | None = None


def connect_media(order: MediaConnect) -> Ncco:
    """Connect the call to our media socket; see ``media_endpoint``."""
    limit_s = None if order.limit_s is None else min(max(order.limit_s, 1), MAX_LIMIT_S)
    return (_connect(media_endpoint(order), order.from_number, order.event_url, limit_s=limit_s),)


def media_endpoint(order: MediaConnect) -> WebSocket:
    """Our media socket.

    What finds no room in the headers goes into the address, but never the token: there it would stand in logs. Raises
    ``LocalError`` where the token alone is too long.
    """
    if order.rate_hz not in (8000, 16000, 24000):
        raise LocalError(f"Vonage has no audio of {order.rate_hz} Hz")
    if "?" in order.url:
        raise LocalError("the media socket's address has a query already")
    given = {HEADER_TOKEN: order.token, HEADER_UUID: order.uuid, HEADER_REGION: order.region_url}
    headers = {name: value for name, value in given.items() if value}
    query: list[str] = []
    for name in (HEADER_REGION, HEADER_UUID):
        if name in headers and len(msgspec.json.encode(headers)) > MAX_HEADER_BYTES:
            query.append(f"{name}={quote(headers.pop(name), safe='')}")
    if len(msgspec.json.encode(headers)) > MAX_HEADER_BYTES:
        raise LocalError(f"the token does not fit into the {MAX_HEADER_BYTES} bytes of a socket's headers")
    return WebSocket(
        uri=order.url + ("?" + "&".join(query) if query else ""),
        content_type=f"audio/l16;rate={order.rate_hz}",
        headers=headers,
        authorization=Authorization(),
    )


# --- to somebody else ----------------------------------------------------------------------------------------


def divert(target: str, *, from_number: str, event_url: str, ring_s: int | None = None) -> Ncco:
    """Hand the caller to a number or a SIP address for good, e.g. because all lines are busy."""
    return (_connect(endpoint_for(target), from_number, event_url, ring_s=ring_s),)


def connect_human(
    target: str,
    *,
    from_number: str,
    action_url: str,
    ring_s: int,
    words: str = "",
    language: str = "",
    post_dial_digits: str = "",
) -> Ncco:
    """Send the caller on: ``words`` first, then ring ``target``; ``action_url`` is asked where nobody answers."""
    endpoint = endpoint_for(target, post_dial_digits)
    return (*talk(words, language), _connect(endpoint, from_number, action_url, ring_s=ring_s))


def endpoint_for(target: str, post_dial_digits: str = "") -> Phone | Sip:
    """A number or a SIP address as an endpoint.

    Raises ``LocalError`` for a text that is neither, and for keys to press at a SIP address, which cannot be told to.
    """
    if target.startswith(("sip:", "sips:")):
        if post_dial_digits:
            raise LocalError("keys can be pressed for numbers only")
        return Sip(uri=target)
    return Phone(number=bare_number(target), dtmf_answer=dtmf(post_dial_digits) or None)


def bare_number(number: str) -> str:
    """A number as Vonage writes it. Raises ``LocalError``, without quoting it, for a text that is none."""
    match = _NUMBER.fullmatch(number)
    if match is None:
        raise LocalError("not a number in international format")
    return match[1]


def dtmf(digits: str) -> str:
    """Keys and pauses as Vonage writes them: ``w`` (0.5 s) is ``p``, ``W`` (1 s) is ``pp``.

    Raises ``LocalError``, without quoting them, for other signs.
    """
    if not _KEYS.fullmatch(digits):
        raise LocalError("keys are 0-9 * #, pauses w and W")
    return digits.translate(_PAUSES)


# --- words ---------------------------------------------------------------------------------------------------


def talk(words: str, language: str = "", *, barge_in: bool = False) -> Ncco:
    """Say something; nothing to say = no action. Longer texts are cut at a word."""
    text = " ".join(words.split())
    if len(text) > MAX_TALK_CHARS:
        cut = text[:MAX_TALK_CHARS]
        text = cut.rpartition(" ")[0] or cut  # languages without spaces are cut between characters
    return (Talk(text=text, language=voice_language(language) or None, barge_in=barge_in),) if text else ()


def say_and_hang_up(words: str, language: str = "") -> Ncco:
    """Say a last sentence: that the lines are busy, or that something went wrong."""
    return talk(words, language)


def whisper(
    *, accept_url: str, accept_key: str, words: str, prompt: str, language: str, prompt_language: str, wait_s: int
) -> Ncco:
    """What the human of a warm transfer gets: ``words`` about the caller, then they are asked for the key.

    ``accept_url`` is told the key; without ``accept_key`` it is asked after ``wait_s``, or as soon as any is pressed.
    """
    keys = Input(
        type=("dtmf",),
        dtmf=DtmfOptions(time_out=KEY_TIMEOUT_S if accept_key else wait_s, max_digits=1),
        event_url=(accept_url,),
        event_method=_POST,
    )
    asked = talk(prompt, prompt_language, barge_in=True) if accept_key else ()
    return (*talk(words, language), *asked, keys)


def join_conversation(name: str, words: str = "", language: str = "", *, ends: bool = True) -> Ncco:
    """Go into a conversation, ``words`` first. ``ends``: when this leg leaves it, it is over for the others too."""
    return (*talk(words, language), Conversation(name=name, end_on_exit=ends))


def _connect(
    endpoint: Endpoint, from_number: str, event_url: str, *, ring_s: int | None = None, limit_s: int | None = None
) -> Connect:
    match = _NUMBER.fullmatch(from_number)
    return Connect(
        endpoint=(endpoint,),
        from_=match[1] if match else None,
        random_from_number=match is None,  # one of the application's own
        event_type=_SYNCHRONOUS,
        event_url=(event_url,),
        event_method=_POST,
        timeout=None if ring_s is None else ring_seconds(ring_s),
        limit=limit_s,
    )


def ring_seconds(ring_s: int) -> int:
    """A ringing time as Vonage takes it."""
    return min(max(ring_s, MIN_RING_S), MAX_RING_S)
