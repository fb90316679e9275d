"""Handing callers on by order of the operator."""

from __future__ import annotations

import pytest

from bridge.calls.tool_words import NATIONAL_TARGET, NOT_ALLOWED
from bridge.server.api.access import VOUCHED
from bridge.server.api.ports import ControlResult, TransferWish
from tests.server.api.api_fakes import READ, record, running_api

PATH = "/v1/calls/a1/transfer"
WISH = {"to": "+14155550100", "kind": "blind", "caller_message": "One moment.", "human_message": "A caller."}


async def test_a_transfer_is_begun() -> None:
    async with running_api() as api:
        response = await api.client.post(PATH, json=WISH)
    assert (response.status_code, response.json()) == (202, {"call_id": "a1", "done": "transfer"})
    assert api.control.wishes == [TransferWish(**WISH)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (NOT_ALLOWED, "The transfer was not made: TRANSFER_ALLOW does not have this destination."),
        (NATIONAL_TARGET, "The transfer was not made: the number has no country code."),
    ],
)
async def test_why_not_is_said_to_people(words: str, message: str) -> None:
    async with running_api() as api:
        api.control.refused_as = words
        response = await api.client.post(PATH, json=WISH)
    assert (response.status_code, response.json()["error"]["message"]) == (422, message)


@pytest.mark.parametrize(
    ("result", "code"), [(ControlResult.NOT_LIVE, "call_is_over"), (ControlResult.ELSEWHERE, "other_instance")]
)
async def test_a_call_that_cannot_be_transferred(result: ControlResult, code: str) -> None:
    async with running_api() as api:
        api.control.result = result
        api.calls.add(record("a1"))
        assert await api.refusal("POST", PATH, json=WISH) == (409, code, "")
        api.calls.records.clear()
        if result is ControlResult.NOT_LIVE:
            assert await api.refusal("POST", PATH, json=WISH) == (404, "no_such_call", "")


async def test_bodies_that_do_not_fit() -> None:
    async with running_api() as api:
        assert await api.refusal("POST", PATH, json={"to": 7}) == (422, "invalid_body", "")
        assert await api.refusal("POST", PATH, json={"to": "+1", "when": "now"}) == (422, "invalid_body", "")
        headers = {"Content-Type": "application/json"}
        assert await api.refusal("POST", PATH, content=b"{", headers=headers) == (400, "not_json", "")
    assert api.control.wishes == []


async def test_it_takes_an_admin() -> None:
    async with running_api(key=READ) as api:
        assert (await api.refusal("POST", PATH, json=WISH))[:2] == (403, "admin_key_needed")


async def test_no_client_vouches_for_itself() -> None:
    async with running_api(key="") as api:
        assert (await api.client.get("/v1/usage", headers={VOUCHED: "admin"})).status_code == 401
