"""The REST interface of a simulated Vonage: what the Voice API's ``/v1/calls`` does, without the HTTP.

As strict as the real one where its reference says so, and where its SDK checks.

Sources: Vonage "Voice API reference" v1, read 2026-11-21; the SDK vonage-voice 1.5.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from bridge.simulators.vonage_calls import CallOrder, Source, VonageCalls
from bridge.simulators.vonage_execution import basic_detection, reachable_endpoint
from bridge.simulators.vonage_leg import EventTarget, Leg
from bridge.simulators.vonage_ncco import (
    Detection,
    Endpoint,
    Level,
    Method,
    Ncco,
    NccoError,
    Phone,
    Sip,
    Urls,
    WebSocket,
    check_endpoint,
    check_number,
    convert,
    ncco_of,
)
from bridge.simulators.vonage_signer import ApplicationTokens, TokenError

_T = TypeVar("_T")

PAGE = 100
"""Calls in one page of the list."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Lower-case names."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer."""

    status: int
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request's body."""


class _From(_Strict, frozen=True, kw_only=True):
    type: Literal["phone", "sip"] = "phone"
    number: str


class _NewCall(_Strict, frozen=True, kw_only=True):
    to: Annotated[tuple[Endpoint, ...], Meta(min_length=1, max_length=1)]
    from_: _From | None = msgspec.field(default=None, name="from")
    random_from_number: bool = False
    ncco: tuple[dict[str, Any], ...] | None = None
    answer_url: Urls | None = None
    answer_method: Method = "GET"
    event_url: Urls | None = None
    event_method: Method = "POST"
    machine_detection: Literal["continue", "hangup"] | None = None
    advanced_machine_detection: Detection | None = None
    length_timer: Annotated[int, Meta(ge=1, le=86_400)] = 7200
    ringing_timer: Annotated[int, Meta(ge=1, le=120)] = 60


class _Destination(_Strict, frozen=True, kw_only=True):
    type: Literal["ncco"]
    ncco: tuple[dict[str, Any], ...] | None = None
    url: Urls | None = None


class _Change(_Strict, frozen=True, kw_only=True):
    action: Literal["transfer", "hangup", "mute", "unmute", "earmuff", "unearmuff"]
    destination: _Destination | None = None


class _Tones(_Strict, frozen=True, kw_only=True):
    digits: Annotated[str, Meta(pattern=r"^[0-9*#p]+$")]


class _Talk(_Strict, frozen=True, kw_only=True):
    text: Annotated[str, Meta(min_length=1, max_length=1500)]
    language: str = "en-US"
    style: int = 0
    premium: bool = False
    loop: Annotated[int, Meta(ge=0)] = 1
    level: Level = 0


class _Stream(_Strict, frozen=True, kw_only=True):
    stream_url: Urls
    loop: Annotated[int, Meta(ge=0)] = 1
    level: Level = 0


class RestApi:
    """Answers requests."""

    def __init__(self, calls: VonageCalls) -> None:
        options = calls.options
        self._calls = calls
        self._tokens = (
            ApplicationTokens(options.public_key_pem, options.application_id) if options.public_key_pem else None
        )

    def handle(self, request: Request) -> Reply:
        """Carry a request out. Needs a running loop."""
        if self._tokens is not None:
            try:
                self._tokens.check(request.headers.get("authorization", ""))
            except TokenError as error:
                return Reply(401, {"type": "UNAUTHORIZED", "error_title": "Unauthorized", "detail": str(error)})
        parts = [part for part in request.path.partition("?")[0].split("/") if part]
        if parts[:2] != ["v1", "calls"] or len(parts) > 4:
            return _problem(404, "Not Found")
        try:
            return self._route(request, parts[2:])
        except NccoError as error:
            return _problem(400, "Bad Request", str(error))

    def _route(self, request: Request, parts: list[str]) -> Reply:
        if not parts:
            if request.method == "POST":
                return self._create(_body(request, _NewCall))
            return self._list() if request.method == "GET" else _problem(405, "Method Not Allowed")
        leg = self._calls.exchange.legs.get(parts[0])
        if leg is None:
            return _problem(404, "Not Found", "no such call")
        if request.method == "GET" and len(parts) == 1:
            return Reply(200, _resource(leg))
        if leg.over:
            return _problem(404, "Not Found", "the call has ended")
        match request.method, parts[1:]:
            case "PUT", []:
                return self._change(leg, _body(request, _Change))
            case "PUT", ["dtmf"]:
                self._calls.press(leg, _body(request, _Tones).digits)
                return _done(leg, "DTMF sent")
            case "PUT", ["talk"]:
                talk = _body(request, _Talk)
                self._calls.talk(leg, talk.text, forever=talk.loop == 0)
                return _done(leg, "Talk started")
            case "PUT", ["stream"]:
                self._calls.stream(leg, forever=_body(request, _Stream).loop == 0)
                return _done(leg, "Stream started")
            case "DELETE", ["talk" | "stream" as what]:
                self._calls.stop(leg)
                return _done(leg, f"{what.capitalize()} stopped")
            case _, ([] | ["dtmf" | "talk" | "stream"]):
                return _problem(405, "Method Not Allowed")
        return _problem(404, "Not Found")

    def _create(self, order: _NewCall) -> Reply:
        [to] = order.to
        check_endpoint(to)
        endpoint = reachable_endpoint(to)
        if endpoint is None:
            raise NccoError("nobody is at such an endpoint here")
        if (order.from_ is None) != order.random_from_number:
            raise NccoError("from or random_from_number, one of them")
        if order.from_ is not None and order.from_.type == "phone":
            check_number(order.from_.number)
        detection = order.advanced_machine_detection or basic_detection(order.machine_detection)
        leg = self._calls.place(
            CallOrder(
                endpoint=endpoint,
                caller=order.from_.number if order.from_ else "15550199",
                source=_source(order.ncco, order.answer_url, order.answer_method),
                events=EventTarget(order.event_url[0], order.event_method) if order.event_url else EventTarget(),
                ringing_timer_s=order.ringing_timer,
                length_timer_s=order.length_timer,
                detection=detection,
            )
        )
        placed = {
            "uuid": leg.uuid,
            "status": "started",
            "direction": "outbound",
            "conversation_uuid": leg.conversation.uuid,
        }
        return Reply(201, placed)

    def _change(self, leg: Leg, change: _Change) -> Reply:
        if (change.action == "transfer") != (change.destination is not None):
            raise NccoError("a destination belongs to transfer, and to nothing else")
        match change.action:
            case "hangup":
                self._calls.hang_up(leg)
            case "mute" | "unmute":
                leg.is_muted = change.action == "mute"
            case "earmuff" | "unearmuff":
                leg.is_earmuffed = change.action == "earmuff"
        if change.destination is not None:
            self._calls.move(leg, _source(change.destination.ncco, change.destination.url, "GET"))
        return Reply(204)

    def _list(self) -> Reply:
        legs = list(self._calls.exchange.legs.values())
        page = {
            "count": len(legs),
            "page_size": PAGE,
            "record_index": 0,
            "_embedded": {"calls": [_resource(leg) for leg in legs[:PAGE]]},
            "_links": {"self": {"href": "/v1/calls"}},
        }
        return Reply(200, page)


def _body(request: Request, kind: type[_T]) -> _T:
    try:
        value = msgspec.json.decode(request.body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise NccoError("the body is no JSON") from None
    return convert(value, kind)


def _source(ncco: tuple[dict[str, Any], ...] | None, url: tuple[str, ...] | None, method: str) -> Source:
    if (ncco is None) == (url is None):
        raise NccoError("a document or the URL of one, one of them")
    read: Ncco | None = None if ncco is None else ncco_of(ncco)
    return Source(read, url[0] if url else "", method)


def _resource(leg: Leg) -> dict[str, object]:
    resource: dict[str, object] = {
        "uuid": leg.uuid,
        "conversation_uuid": leg.conversation.uuid,
        "to": _party(leg.endpoint, leg.called) if leg.direction == "outbound" else _number(leg.called),
        "from": _number(leg.caller) if leg.direction == "outbound" else _party(leg.endpoint, leg.caller),
        "status": leg.status.value,
        "direction": leg.direction,
        "_links": {"self": {"href": f"/v1/calls/{leg.uuid}"}},
    }
    return resource


def _number(number: str) -> dict[str, str]:
    return {"type": "phone", "number": number}


def _party(endpoint: Phone | Sip | WebSocket, address: str) -> dict[str, object]:
    if isinstance(endpoint, WebSocket):
        return {"type": "websocket", "uri": address, "content-type": endpoint.content_type}
    return {"type": "sip", "uri": address} if isinstance(endpoint, Sip) else {"type": "phone", "number": address}


def _done(leg: Leg, message: str) -> Reply:
    return Reply(200, {"message": message, "uuid": leg.uuid})


def _problem(status: int, title: str, detail: str = "") -> Reply:
    return Reply(status, {"type": "https://developer.vonage.com/api-errors", "title": title, "detail": detail})
