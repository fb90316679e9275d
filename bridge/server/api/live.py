"""What goes on now: the calls of all instances, and who holds how many slots."""

from __future__ import annotations

from starlette.responses import Response

from bridge.server.api.errors import json_response
from bridge.server.api.operations import Arrival, Operation
from bridge.server.api.ports import ApiPorts
from bridge.server.api.schemas import LiveList, UsageInfo
from bridge.server.api.views import Views, usage_info

TAG = "live"


def live_operations(ports: ApiPorts, views: Views) -> tuple[Operation, ...]:
    """The operations of this module."""

    async def live(arrival: Arrival) -> Response:
        calls = [views.live(call) for call in await ports.live.all()]
        return json_response(LiveList(calls=calls, count=len(calls), store=ports.live.state))

    async def usage(arrival: Arrival) -> Response:
        return json_response(usage_info(ports.usage.usage()))

    return (
        Operation(
            "listLiveCalls",
            "GET",
            "/v1/live",
            TAG,
            "List calls in progress",
            "The calls of all instances, whichever answers. Without Redis, or while it is down, those of the process "
            "that answers: `store` says so.",
            live,
            LiveList,
        ),
        Operation(
            "getUsage",
            "GET",
            "/v1/usage",
            TAG,
            "Get limits and slots",
            "Limits, calls that hold a slot, burst calls and waiting callers, in all and per agent.",
            usage,
            UsageInfo,
        ),
    )
