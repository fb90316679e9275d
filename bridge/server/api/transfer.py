"""Handing a caller on by order of the operator: the same transfers, and the same rules, as agents have."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from bridge.auth.api_keys import Scope
from bridge.calls.tool_words import NOT_ALLOWED
from bridge.server.api.calls import OWN_ID
from bridge.server.api.errors import ApiError, json_response, no_such_call
from bridge.server.api.operations import Arrival, Operation
from bridge.server.api.ports import ApiPorts, ControlResult, TransferWish
from bridge.server.api.schemas import ControlDone

TAG = "control"

_decoder = msgspec.json.Decoder(TransferWish)


def transfer_operations(ports: ApiPorts) -> tuple[Operation, ...]:
    """The operations of this module."""

    async def transfer(arrival: Arrival) -> Response:
        call_id = arrival.path["id"]
        try:
            wish = _decoder.decode(arrival.body)
        except msgspec.ValidationError as error:
            raise ApiError(422, "invalid_body", f"The body does not fit: {error}.") from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ApiError(400, "not_json", "The body is no JSON.") from None
        result = await ports.control.transfer(call_id, wish)
        if result is ControlResult.DONE:
            return json_response(ControlDone(call_id=call_id, done="transfer"), 202)
        if isinstance(result, str):
            raise ApiError(422, "no_transfer", _for_people(result), "to")
        if result is ControlResult.NOT_LIVE and await ports.calls.get(call_id) is None:
            raise no_such_call(call_id)
        if result is ControlResult.ELSEWHERE:
            raise ApiError(
                409, "other_instance", "Another instance carries the call; GET /v1/live says which one: ask it."
            )
        raise ApiError(409, "call_is_over", "The call is over.")

    return (
        Operation(
            "transferCall",
            "POST",
            "/v1/calls/{id}/transfer",
            TAG,
            "Transfer",
            "Hands the caller on as an agent with the tool `transfer_to_number` would: only where TRANSFER_ALLOW lets "
            "it. The answer comes when it is under way; when nobody takes the caller, the agent still has them. The "
            "steps `operator_transfer_done` or `operator_transfer_failed` in the call's timeline say what it came to.",
            transfer,
            ControlDone,
            Scope.ADMIN,
            parameters=(OWN_ID,),
            body=TransferWish,
            errors=(400, 404, 409, 413, 415, 422),
            status=202,
        ),
    )


def _for_people(words: str) -> str:
    """What an agent's model is told, without what it should do about it."""
    if words == NOT_ALLOWED:
        return "The transfer was not made: TRANSFER_ALLOW does not have this destination."
    return words.partition(". ")[0].rstrip(".") + "."
