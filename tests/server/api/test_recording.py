"""Orders to calls in progress."""

from __future__ import annotations

import pytest

from bridge.server.api.ports import ControlResult
from tests.server.api.api_fakes import record, running_api

ORDERS = [
    ("hangup", "hang_up", "hangup"),
    ("recording/pause", "pause_recording", "recording_paused"),
    ("recording/resume", "resume_recording", "recording_resumed"),
]


@pytest.mark.parametrize(("action", "order", "done"), ORDERS)
async def test_an_order_is_carried_out(action: str, order: str, done: str) -> None:
    async with running_api() as api:
        response = await api.client.post(f"/v1/calls/a1/{action}")
    assert (response.status_code, response.json()) == (200, {"call_id": "a1", "done": done})
    assert api.control.orders == [(order, "a1")]


@pytest.mark.parametrize("action", [action for action, _, _ in ORDERS])
@pytest.mark.parametrize(
    ("result", "code"),
    [
        (ControlResult.NOT_LIVE, "call_is_over"),
        (ControlResult.ELSEWHERE, "other_instance"),
        (ControlResult.NOT_RECORDED, "not_recorded"),
    ],
)
async def test_an_order_that_cannot_be_carried_out(action: str, result: ControlResult, code: str) -> None:
    async with running_api() as api:
        api.calls.add(record("a1"))
        api.control.result = result
        assert await api.refusal("POST", f"/v1/calls/a1/{action}") == (409, code, "")


async def test_a_call_that_is_nowhere() -> None:
    async with running_api() as api:
        api.control.result = ControlResult.NOT_LIVE
        assert await api.refusal("POST", "/v1/calls/a1/hangup") == (404, "no_such_call", "")


async def test_an_id_that_is_none_reaches_nobody() -> None:
    async with running_api() as api:
        assert await api.refusal("POST", "/v1/calls/a.b/hangup") == (400, "invalid_parameter", "id")
    assert api.control.orders == []
