"""The flight record over HTTP: who may have it, what it is called, and when there is none."""

from __future__ import annotations

import pytest

from bridge.auth.api_keys import Scope
from bridge.server.api.errors import ApiError
from bridge.server.api.flights import flight_operations
from bridge.server.api.openapi import build_openapi
from bridge.server.api.operations import Arrival
from bridge.server.flights import NoFlightError


class FakeFlights:
    """Has the record of ``c1``."""

    async def flight(self, call_id: str) -> bytes:
        if call_id != "c1":
            raise NoFlightError("none")
        return b"\x1f\x8b..."


(OPERATION,) = flight_operations(FakeFlights())


def arrival(call_id: str) -> Arrival:
    return Arrival(None, {"id": call_id}, {}, b"")  # type: ignore[arg-type]


async def test_the_file() -> None:
    response = await OPERATION.handler(arrival("c1"))
    assert response.status_code == 200
    assert response.body == b"\x1f\x8b..."
    assert response.headers["content-type"] == "application/gzip"
    assert response.headers["content-disposition"] == 'attachment; filename="c1.flight.gz"'
    assert response.headers["cache-control"] == "no-store"


async def test_there_may_be_none() -> None:
    with pytest.raises(ApiError, match="There is no flight record of call c2") as refused:
        await OPERATION.handler(arrival("c2"))
    assert (refused.value.status, refused.value.info.code) == (404, "no_flight")


def test_it_takes_an_admin_key_and_stands_in_the_document() -> None:
    assert OPERATION.scope is Scope.ADMIN
    document = build_openapi((OPERATION,), "")
    answers = document["paths"]["/v1/calls/{id}/flight"]["get"]["responses"]
    assert answers["200"] == {"description": "The file.", "content": {"application/gzip": {}}}
    assert {"400", "404"} <= set(answers)
