"""Routes over HTTP."""

from __future__ import annotations

import pytest

from tests.server.api.api_fakes import refusal, running_api


async def test_a_route_is_added_listed_replaced_and_removed() -> None:
    async with running_api() as api:
        answer = await api.client.put("/v1/routes", json={"number": "+49 30*", "agent": "agent_1", "recording": True})
        assert answer.status_code == 200
        assert answer.json() == {
            "number": "+4930*",
            "provider": "",
            "source": "database",
            "route": {"recording": True, "number": "+4930*", "agent": "agent_1"},
        }
        await api.client.put("/v1/routes", json={"number": "+4930*", "agent": "agent_2"})
        routes = (await api.get("/v1/routes")).json()["routes"]
        assert [(route["number"], route["source"], route["route"]["agent"]) for route in routes] == [
            ("+4930*", "database", "agent_2"),
            ("+1555*", "file", "agent_of_the_file"),
        ]
        response = await api.client.delete("/v1/routes", params={"number": "+4930*"})
        assert (response.status_code, response.content) == (204, b"")
        assert [route["source"] for route in (await api.get("/v1/routes")).json()["routes"]] == ["file"]


async def test_a_pattern_is_understood_as_people_write_it() -> None:
    async with running_api() as api:
        await api.client.put("/v1/routes", json={"number": "+4930*", "provider": "twilio"})
        assert await api.refusal("DELETE", "/v1/routes?number=+4930*") == (404, "no_such_route", "")
        assert (await api.client.delete("/v1/routes?number=+49%2030*&provider=Twilio")).status_code == 204


async def test_routes_of_the_file_stay() -> None:
    async with running_api() as api:
        assert await api.refusal("DELETE", "/v1/routes?number=%2B1555*") == (404, "no_such_route", "")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "the route is no JSON"),
        (b"[]", "the route is no table"),
        (b"{}", "number is missing"),
        (b'{"number": "+4930*", "agnet": "a", "recording": 7}', "agnet is no member of it; did you mean agent?"),
        (b'{"number": "+4930*", "agnet": "a", "recording": 7}', "recording is 7; give true or false"),
        (b'{"number": "+4930*", "overflow": "divert"}', "overflow is divert; give overflow_divert_to"),
        (b"[" * 60_000, "the route is no JSON"),
    ],
)
async def test_what_is_wrong_with_a_route_is_said(body: bytes, words: str) -> None:
    async with running_api() as api:
        response = await api.client.put("/v1/routes", content=body, headers={"Content-Type": "application/json"})
        assert refusal(response) == (422, "invalid_route", "")
        assert words in response.json()["error"]["message"]
        assert len(api.routes.table.listed()) == 1


@pytest.mark.parametrize("query", ["", "?provider=twilio", "?number=%20%20", "?number=*a*b*c*d*e*f*g*h*i*j*k"])
async def test_a_number_is_needed(query: str) -> None:
    async with running_api() as api:
        assert await api.refusal("DELETE", f"/v1/routes{query}") == (400, "invalid_parameter", "number")
