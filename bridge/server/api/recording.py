"""Orders to calls in progress: hang up, and pause or resume their recording."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.responses import Response

from bridge.auth.api_keys import Scope
from bridge.server.api.calls import OWN_ID
from bridge.server.api.errors import ApiError, json_response, no_such_call
from bridge.server.api.operations import Arrival, Operation
from bridge.server.api.ports import ApiPorts, ControlResult
from bridge.server.api.schemas import ControlDone

TAG = "control"


def control_operations(ports: ApiPorts) -> tuple[Operation, ...]:
    """The operations of this module."""
    control = ports.control
    return (
        _operation(
            "hangUpCall",
            "hangup",
            "Hang up",
            "Ends the call at once; the carrier's fallback does not follow.",
            _handler(ports, control.hang_up, "hangup"),
        ),
        _operation(
            "pauseRecording",
            "recording/pause",
            "Pause the recording",
            "Silence is written on both channels until it is resumed, for card numbers and the like; the record says "
            "from when to when. Harmless when it is paused.",
            _handler(ports, control.pause_recording, "recording_paused"),
        ),
        _operation(
            "resumeRecording",
            "recording/resume",
            "Resume the recording",
            "Goes on recording. Harmless when it is not paused.",
            _handler(ports, control.resume_recording, "recording_resumed"),
        ),
    )


def _operation(
    name: str, action: str, summary: str, description: str, handler: Callable[[Arrival], Awaitable[Response]]
) -> Operation:
    return Operation(
        name,
        "POST",
        f"/v1/calls/{{id}}/{action}",
        TAG,
        summary,
        description,
        handler,
        ControlDone,
        Scope.ADMIN,
        parameters=(OWN_ID,),
        errors=(400, 404, 409),
    )


def _handler(
    ports: ApiPorts, order: Callable[[str], Awaitable[ControlResult]], done: str
) -> Callable[[Arrival], Awaitable[Response]]:
    async def handle(arrival: Arrival) -> Response:
        call_id = arrival.path["id"]
        result = await order(call_id)
        if result is ControlResult.DONE:
            return json_response(ControlDone(call_id=call_id, done=done))
        if result is ControlResult.NOT_LIVE and await ports.calls.get(call_id) is None:
            raise no_such_call(call_id)
        raise _refusal(result)

    return handle


def _refusal(result: ControlResult) -> ApiError:
    if result is ControlResult.ELSEWHERE:
        return ApiError(
            409,
            "other_instance",
            "Another instance carries the call and cannot be reached from here; GET /v1/live says which one: ask it.",
        )
    if result is ControlResult.NOT_RECORDED:
        return ApiError(409, "not_recorded", "The call is not recorded; there is nothing to pause or resume.")
    return ApiError(409, "call_is_over", "The call is over.")
