"""Placing calls over the API: the order goes on as it is, refusals come back whole."""

from __future__ import annotations

import pytest

from bridge.server.api.ports import Refusal
from tests.server.api.api_fakes import READ, running_api

BODY = {"to_number": "+4930123456"}


async def test_a_call_is_placed() -> None:
    async with running_api() as api:
        response = await api.client.post("/v1/calls", json=BODY, headers={"Idempotency-Key": "k-1"})
    assert response.status_code == 201
    assert response.json() == {"call_id": "9f86d081884c7d65", "call_sid": "CA1", "status": "queued"}
    assert response.headers["location"] == "/v1/calls/9f86d081884c7d65"
    assert response.headers["cache-control"] == "no-store"
    assert api.outbound.placed == [(b'{"to_number":"+4930123456"}', "k-1")]


async def test_a_key_is_not_needed() -> None:
    async with running_api() as api:
        assert (await api.client.post("/v1/calls", json=BODY)).status_code == 201
    assert [key for _, key in api.outbound.placed] == [""]


@pytest.mark.parametrize("key", ["", "two words", "ü", "x" * 256])
async def test_keys_that_are_none(key: str) -> None:
    async with running_api() as api:
        refused = await api.refusal("POST", "/v1/calls", json=BODY, headers={"Idempotency-Key": key.encode()})
    assert refused == (400, "invalid_parameter", "Idempotency-Key")
    assert api.outbound.placed == []


async def test_two_keys() -> None:
    async with running_api() as api:
        headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
        refused = await api.refusal("POST", "/v1/calls", json=BODY, headers=headers)
    assert refused == (400, "invalid_parameter", "Idempotency-Key")


async def test_a_refusal_comes_back_whole() -> None:
    async with running_api() as api:
        api.outbound.refusal = Refusal(status=429, code="capacity", message="All taken.", retry_after_s=5)
        response = await api.client.post("/v1/calls", json=BODY)
        assert (response.status_code, response.headers["retry-after"]) == (429, "5")
        assert response.json() == {"error": {"code": "capacity", "message": "All taken."}}
        api.outbound.refusal = Refusal(status=422, code="invalid_request", message="to_number: no.", field="to_number")
        response = await api.client.post("/v1/calls", json=BODY)
    assert "retry-after" not in response.headers
    assert response.json()["error"]["field"] == "to_number"


async def test_only_who_may_change_things_places_calls() -> None:
    async with running_api(key=READ) as api:
        assert await api.refusal("POST", "/v1/calls", json=BODY) == (403, "admin_key_needed", "")
    async with running_api(key="") as api:
        assert await api.refusal("POST", "/v1/calls", json=BODY) == (401, "no_api_key", "")
    assert api.outbound.placed == []


async def test_a_bridge_that_places_no_calls() -> None:
    async with running_api(places_calls=False) as api:
        assert await api.refusal("POST", "/v1/calls", json=BODY) == (503, "outbound_off", "")


async def test_bodies_that_are_not_read() -> None:
    async with running_api() as api:
        assert await api.refusal("POST", "/v1/calls", content=b"x" * 70_000) == (415, "not_json", "")
        big = {"content": b"x" * 70_000, "headers": {"Content-Type": "application/json"}}
        assert await api.refusal("POST", "/v1/calls", **big) == (413, "body_too_big", "")
        other = {"json": BODY, "headers": {"Origin": "https://evil.example"}}
        assert await api.refusal("POST", "/v1/calls", **other) == (403, "cross_origin", "")


async def test_a_store_that_does_not_answer() -> None:
    async with running_api() as api:
        api.outbound.error = OSError("down")
        assert await api.refusal("POST", "/v1/calls", json=BODY) == (503, "unavailable", "")
