"""The flight record of a call over HTTP: what came and went on its sockets, for ``bridge replay``."""

from __future__ import annotations

from typing import Protocol

from starlette.responses import Response

from bridge.auth.api_keys import Scope
from bridge.server.api.calls import OWN_ID
from bridge.server.api.errors import NO_STORE, ApiError
from bridge.server.api.operations import FLIGHT, Arrival, Operation
from bridge.server.flights import SUFFIX, NoFlightError

TAG = "calls"
GZIP = "application/gzip"


class FlightsPort(Protocol):
    """Where records are: ``bridge.server.flight_desk.FlightDesk``."""

    async def flight(self, call_id: str) -> bytes:
        """The record of a call. Raises ``NoFlightError``, ``OSError``."""


def flight_operations(flights: FlightsPort) -> tuple[Operation, ...]:
    """The operations of this module."""

    async def get_flight(arrival: Arrival) -> Response:
        call_id = arrival.path["id"]
        try:
            data = await flights.flight(call_id)
        except NoFlightError:
            raise ApiError(
                404,
                "no_flight",
                f"There is no flight record of call {call_id}: FLIGHT_RECORDER is off, or the call ended "
                "well and it is not `all`, or its retention is over.",
            ) from None
        headers = {**NO_STORE, "Content-Disposition": f'attachment; filename="{call_id}{SUFFIX}"'}
        return Response(data, 200, headers, GZIP)

    return (
        Operation(
            "getCallFlight",
            "GET",
            "/v1/calls/{id}/flight",
            TAG,
            "Flight record",
            "Everything that came and went on the call's sockets, with the clock, as a file for `bridge replay`. Of a "
            "call in progress: what there is so far; asking for it has the whole written at the end. Tokens and "
            "keys are left out, with redaction on pressed keys and phone numbers too.",
            get_flight,
            FLIGHT,
            Scope.ADMIN,
            parameters=(OWN_ID,),
            errors=(400, 404),
        ),
    )
