"""Placing calls."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from bridge.auth.api_keys import Scope
from bridge.calls.outbound import OutboundRequest
from bridge.server.api.errors import ApiError, json_response, wrong_parameter
from bridge.server.api.operations import Arrival, Operation, Parameter
from bridge.server.api.ports import ApiPorts, PlacedCall, PlacementRefused
from bridge.server.idempotency import MAX_KEY_CHARS, key_problem

TAG = "calls"
KEY_HEADER = "Idempotency-Key"

KEY = Parameter(
    KEY_HEADER,
    "header",
    "Names this order for a day: repeated with the same key and body, nothing is placed again and the answer is the "
    "first one's. Without it, a repetition is another call.",
    {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARS},
    "b6a2f0b4-6f0e-4c57-9a0e-0d3a8f5f8a11",
)


def outbound_operations(ports: ApiPorts) -> tuple[Operation, ...]:
    """The operations of this module."""

    async def place(arrival: Arrival) -> Response:
        if ports.outbound is None:
            raise ApiError(503, "outbound_off", "This bridge places no calls; see GET /readyz for what is not set.")
        key = _key(arrival.request)
        try:
            placed = await ports.outbound.place(arrival.body, key)
        except PlacementRefused as refused:
            raise _error(refused) from None
        return json_response(placed, 201, {"Location": f"/v1/calls/{placed.call_id}"})

    return (
        Operation(
            "placeCall",
            "POST",
            "/v1/calls",
            TAG,
            "Place a call",
            "Calls a number and has the agent talk to whoever answers. The answer comes when the carrier has taken the "
            "order, or after ten seconds, while the order still waits for its turn; what becomes of it is told by the "
            "webhooks and by `GET /v1/calls/{id}`. A call that does not come about is told as "
            "`call_initiation_failure`.",
            place,
            PlacedCall,
            Scope.ADMIN,
            parameters=(KEY,),
            body=OutboundRequest,
            errors=(400, 409, 413, 415, 422, 502),
            status=201,
        ),
    )


def _key(request: Request) -> str:
    """The idempotency key; empty = none. Raises ``ApiError``."""
    given = request.headers.getlist(KEY_HEADER)
    if not given:
        return ""
    problem = "was given twice; send one" if len(given) > 1 else key_problem(given[0])
    if problem:
        raise wrong_parameter(KEY_HEADER, problem)
    return given[0]


def _error(refused: PlacementRefused) -> ApiError:
    refusal = refused.refusal
    headers = {"Retry-After": str(refusal.retry_after_s)} if refusal.retry_after_s else {}
    return ApiError(refusal.status, refusal.code, refusal.message, refusal.field, headers)
