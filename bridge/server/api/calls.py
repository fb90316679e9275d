"""The stored calls: list, one call, what happened in it, what was said, its audio; and forgetting it."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from bridge.auth.api_keys import Scope
from bridge.calls.record import CallRecord
from bridge.calls.state import State
from bridge.outcome import CATALOGUE, Result
from bridge.server.api.audio import FORMATS, audio_response, delete_audio
from bridge.server.api.errors import NO_STORE, ApiError, json_response, no_such_call, wrong_parameter
from bridge.server.api.operations import AUDIO, Arrival, Handler, Operation, Parameter
from bridge.server.api.ports import ApiPorts
from bridge.server.api.query import (
    CALL_ID,
    DEFAULT_LIMIT,
    FOREIGN_ID,
    MAX_LIMIT,
    MAX_VALUE_CHARS,
    parse_filter,
    parse_limit,
)
from bridge.server.api.schemas import CallDetail, CallList, DeliveryList, Timeline, Transcript
from bridge.server.api.views import Views, is_live
from bridge.server.store.calls import LiveCallError
from bridge.server.store.listing import QueryError

TAG = "calls"
_TEXT = {"type": "string", "maxLength": MAX_VALUE_CHARS}
_TIME = "ISO 8601 (without a zone: UTC) or Unix seconds."

ID = Parameter(
    "id",
    "path",
    "The bridge's id of the call, or another one: see `by`.",
    {"type": "string", "pattern": f"^{FOREIGN_ID.pattern}$"},
    "9f86d081884c7d65",
    FOREIGN_ID,
)
OWN_ID = Parameter(
    "id",
    "path",
    "The bridge's id of the call.",
    {"type": "string", "pattern": f"^{CALL_ID.pattern}$"},
    "9f86d081884c7d65",
    CALL_ID,
)
BY = Parameter(
    "by",
    "query",
    "Which id the path holds: the bridge's own (`id`), the carrier's (`call_sid`, the newest call that has it) or "
    "the vendor's (`conversation_id`).",
    {"type": "string", "enum": ["id", "call_sid", "conversation_id"], "default": "id"},
)
FORMAT = Parameter(
    "format",
    "query",
    "Left out: as it is stored. WAV is made into MP3 on the way, without ranges; not the other way.",
    {"type": "string", "enum": list(FORMATS)},
)
RANGE = Parameter("Range", "header", "One range of bytes.", {"type": "string"}, "bytes=0-65535")
FILTERS = (
    Parameter("provider", "query", "Carrier.", _TEXT, "twilio"),
    Parameter("agent_id", "query", "Agent that took the call.", _TEXT),
    Parameter("caller", "query", "Caller's number as the carrier wrote it; whole, not masked.", _TEXT, "+4930123456"),
    Parameter("called", "query", "Called number as the carrier wrote it; whole, not masked.", _TEXT, "+15550100"),
    Parameter("state", "query", "State.", {"type": "string", "enum": [state.value for state in State]}),
    Parameter(
        "result", "query", "Who answers for the end.", {"type": "string", "enum": [result.value for result in Result]}
    ),
    Parameter("reason", "query", "What ended the call.", {"type": "string", "enum": list(CATALOGUE)}),
    Parameter("direction", "query", "Direction.", {"type": "string", "enum": ["inbound", "outbound"]}),
    Parameter("since", "query", f"Offered then or later. {_TIME}", {"type": "string"}, "2026-03-31T09:30:00Z"),
    Parameter("until", "query", f"Offered before that. {_TIME}", {"type": "string"}, "1774949400"),
    Parameter("live", "query", "`true`: going on; `false`: over.", {"type": "boolean"}),
    Parameter("conversation_id", "query", "One of the vendor's ids of the call.", _TEXT),
    Parameter("call_sid", "query", "The carrier's id of the call.", _TEXT),
    Parameter(
        "limit",
        "query",
        "Calls on a page.",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    ),
    Parameter("cursor", "query", "`next_cursor` of the page before; keep the filter as it was.", _TEXT),
)


def call_operations(ports: ApiPorts, views: Views) -> tuple[Operation, ...]:
    """The operations of this module."""
    calls = _Calls(ports, views)
    listing = Operation(
        "listCalls",
        "GET",
        "/v1/calls",
        TAG,
        "List calls",
        "Calls, newest first, those that go on among them. All filters must hold. Calls that come in while you page do "
        "not shift the pages.",
        calls.list,
        CallList,
        parameters=FILTERS,
        errors=(400,),
    )
    deletion = Operation(
        "deleteCall",
        "DELETE",
        "/v1/calls/{id}",
        TAG,
        "Delete a call",
        "Deletes the recording, the record with its transcript, and what webhook events have told of the call. Events "
        "that wait to be sent still are. A call that goes on cannot be deleted.",
        calls.delete,
        None,
        Scope.ADMIN,
        parameters=(OWN_ID,),
        errors=(400, 404, 409),
    )
    whole = _reading("getCall", "", "a call", "All that is kept of a call.", calls.get, CallDetail)
    return (listing, whole, deletion, *_parts(calls))


def _parts(calls: _Calls) -> tuple[Operation, ...]:
    """What can be had of one call."""
    events = _reading(
        "getCallEvents",
        "/events",
        "the timeline of a call",
        "States, turns, tools and keys in order of time.",
        calls.events,
        Timeline,
    )
    transcript = _reading(
        "getCallTranscript",
        "/transcript",
        "the transcript of a call",
        "What was said, with the agent's turns cut to what the caller heard.",
        calls.transcript,
        Transcript,
    )
    audio = _reading(
        "getCallAudio",
        "/audio",
        "the recording of a call",
        "Stereo: the caller left, the agent right. Takes one `Range` of bytes, so that a player can jump.",
        calls.audio,
        AUDIO,
        (FORMAT, RANGE),
        (409, 416),
    )
    webhooks = _reading(
        "getCallWebhooks",
        "/webhooks",
        "the webhook events of a call",
        "What was told about the call, and how far each event got.",
        calls.webhooks,
        DeliveryList,
    )
    return events, transcript, audio, webhooks


def _reading(
    name: str,
    part: str,
    what: str,
    description: str,
    handler: Handler,
    answer: Any,
    more: tuple[Parameter, ...] = (),
    errors: tuple[int, ...] = (),
) -> Operation:
    """A GET of one call, or of a part of it."""
    return Operation(
        name,
        "GET",
        f"/v1/calls/{{id}}{part}",
        TAG,
        f"Get {what}",
        description,
        handler,
        answer,
        parameters=(ID, BY, *more),
        errors=(400, 404, *errors),
    )


class _Calls:
    def __init__(self, ports: ApiPorts, views: Views) -> None:
        self._ports = ports
        self._views = views

    async def list(self, arrival: Arrival) -> Response:
        wanted, limit = parse_filter(arrival.query), parse_limit(arrival.query)
        try:
            page = await self._ports.calls.page(wanted, arrival.query.get("cursor"), limit)
        except QueryError as error:
            raise ApiError(400, "invalid_parameter", str(error), str(error).partition(":")[0]) from None
        return json_response(
            CallList(calls=[self._views.summary(record) for record in page.calls], next_cursor=page.next_cursor)
        )

    async def get(self, arrival: Arrival) -> Response:
        return json_response(self._views.detail(await self._find(arrival)))

    async def events(self, arrival: Arrival) -> Response:
        return json_response(self._views.timeline(await self._find(arrival)))

    async def transcript(self, arrival: Arrival) -> Response:
        return json_response(self._views.transcript(await self._find(arrival)))

    async def audio(self, arrival: Arrival) -> Response:
        record = await self._find(arrival)
        return await audio_response(record, arrival.query.get("format"), arrival.request, self._ports.audio)

    async def webhooks(self, arrival: Arrival) -> Response:
        record = await self._find(arrival)
        return json_response(DeliveryList(events=list(await self._ports.deliveries.of_call(record.id))))

    async def delete(self, arrival: Arrival) -> Response:
        """Audio first: while the record is there, a delete that failed half-way can be repeated."""
        call_id = arrival.path["id"]
        record = await self._ports.calls.get(call_id)
        if record is None:
            raise no_such_call(call_id)
        if is_live(record):
            raise _goes_on(call_id)
        if record.recording is not None:
            await delete_audio(record.recording, self._ports.audio)
        for delete_files in self._ports.leftovers:
            await delete_files(call_id)
        try:
            await self._ports.calls.delete(call_id)
        except LiveCallError:
            raise _goes_on(call_id) from None
        return Response(status_code=204, headers=NO_STORE)

    async def _find(self, arrival: Arrival) -> CallRecord:
        """The call that the path names, by whichever id. Raises ``ApiError``."""
        given, by = arrival.path["id"], arrival.query.get("by", "id")
        if by == "id":
            if not CALL_ID.fullmatch(given):
                raise wrong_parameter("id", "is none of the bridge's ids; say ?by=call_sid or ?by=conversation_id")
            record = await self._ports.calls.get(given)
        elif by == "call_sid":
            record = await self._ports.calls.by_call_sid(given)
        elif by == "conversation_id":
            record = await self._ports.calls.by_conversation(given)
        else:
            raise wrong_parameter("by", "is none of id, call_sid, conversation_id")
        if record is None:
            raise no_such_call(given)
        return record


def _goes_on(call_id: str) -> ApiError:
    return ApiError(
        409, "call_is_live", f"The call goes on; end it with POST /v1/calls/{call_id}/hangup, then delete it."
    )
