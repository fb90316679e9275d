"""Webhook events that were given up."""

from __future__ import annotations

import msgspec
import pytest

from bridge.server.api.examples import DEAD_EVENT
from tests.server.api.api_fakes import running_api


async def test_they_are_listed() -> None:
    async with running_api() as api:
        api.deliveries.events = [
            msgspec.structs.replace(DEAD_EVENT, id=f"e{number}", state=state)
            for number, state in enumerate(("dead", "pending", "dead", "dead"))
        ]
        every = (await api.get("/v1/webhooks/dead")).json()["events"]
        some = (await api.get("/v1/webhooks/dead?limit=2")).json()["events"]
        assert await api.refusal("GET", "/v1/webhooks/dead?limit=501") == (400, "invalid_parameter", "limit")
    assert [event["id"] for event in every] == ["e0", "e2", "e3"]
    assert [event["id"] for event in some] == ["e0", "e2"]
    assert every[0]["last_error"] == "HTTP 500"


async def test_they_are_sent_again() -> None:
    async with running_api() as api:
        api.deliveries.events = [DEAD_EVENT]
        some = await api.client.post("/v1/webhooks/dead/replay", json={"ids": [DEAD_EVENT.id, "other"]})
        every = await api.client.post("/v1/webhooks/dead/replay", json={"all": True})
    assert (some.json(), every.json()) == ({"replayed": 1}, {"replayed": 1})
    assert api.deliveries.replayed == [[DEAD_EVENT.id, "other"], None]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "ids"),
        (b'{"ids": []}', "ids"),
        (b'{"ids": ["a"], "all": true}', "ids"),
        (msgspec.json.encode({"ids": ["a"] * 501}), "ids"),
        (b'{"id": "a"}', ""),
        (b'{"ids": "a"}', ""),
        (b'{"ids": [1]}', ""),
        (b"[]", ""),
        (b"{", ""),
        (b'{"ids": ["\xff"]}', ""),
        (b'{"ids": [' + b"[" * 20_000, ""),
    ],
)
async def test_an_order_that_is_none(body: bytes, field: str) -> None:
    async with running_api() as api:
        refusal = await api.refusal(
            "POST", "/v1/webhooks/dead/replay", content=body, headers={"Content-Type": "application/json"}
        )
    assert refusal == (400, "invalid_body", field)
    assert api.deliveries.replayed == []
