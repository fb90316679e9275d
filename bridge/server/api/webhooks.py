"""Webhook events that were given up: list them, send them again."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from bridge.auth.api_keys import Scope
from bridge.server.api.errors import ApiError, json_response
from bridge.server.api.operations import Arrival, Operation, Parameter
from bridge.server.api.ports import ApiPorts
from bridge.server.api.query import parse_limit
from bridge.server.api.schemas import DeliveryList, ReplayOrder, ReplayResult

TAG = "webhooks"

DEFAULT_LIMIT, MAX_LIMIT = 100, 500
MAX_IDS = 500
"""Ids in one order: a page of the list."""

_order = msgspec.json.Decoder(ReplayOrder)


LIMIT = Parameter(
    "limit",
    "query",
    "Events at most.",
    {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
)


def webhook_operations(ports: ApiPorts) -> tuple[Operation, ...]:
    """The operations of this module."""

    async def dead(arrival: Arrival) -> Response:
        limit = parse_limit(arrival.query, DEFAULT_LIMIT, MAX_LIMIT)
        return json_response(DeliveryList(events=list(await ports.deliveries.dead(limit))))

    async def replay(arrival: Arrival) -> Response:
        order = parse_order(arrival.body)
        replayed = await ports.deliveries.replay(None if order.all else order.ids)
        return json_response(ReplayResult(replayed=replayed))

    return (
        Operation(
            "listDeadWebhooks",
            "GET",
            "/v1/webhooks/dead",
            TAG,
            "List webhook events that were given up",
            "Events that the receiver did not take within their time, oldest first.",
            dead,
            DeliveryList,
            parameters=(LIMIT,),
            errors=(400,),
        ),
        Operation(
            "replayDeadWebhooks",
            "POST",
            "/v1/webhooks/dead/replay",
            TAG,
            "Send dead webhook events again",
            "Puts them back into the queue under their old ids, so that a receiver that has seen one can tell.",
            replay,
            ReplayResult,
            Scope.ADMIN,
            body=ReplayOrder,
            errors=(400, 413, 415),
        ),
    )


def parse_order(body: bytes) -> ReplayOrder:
    """The order of a body. Raises ``ApiError`` 400."""
    try:
        order = _order.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, "invalid_body", f'The body is no order: {error}. Send {{"ids": [...]}} or {{"all": true}}.'
        ) from None  # fmt: skip
    if order.all == bool(order.ids):
        raise ApiError(400, "invalid_body", 'Send either "ids" with at least one id, or "all": true.', "ids")
    if len(order.ids) > MAX_IDS:
        raise ApiError(400, "invalid_body", f'Send up to {MAX_IDS} "ids" at once, or "all": true.', "ids")
    return order
