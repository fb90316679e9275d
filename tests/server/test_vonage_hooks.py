"""Vonage's webhooks: who is let in, and that a token is good for one request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.auth.tokens import CallClaims
from bridge.server import vonage_hooks
from tests.kit import logs
from tests.kit.vonage_webhooks import CALL, LEG, report, sign, socket_of, vonage

PATHS = ["/answer", "/events", "/transfer/whisper", "/transfer/accept", "/transfer/human", "/transfer/action"]


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    with logs.captured() as captured:
        yield captured


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("token", ["", "Bearer", "Bearer x.y.z", "Basic eDp5", "Bearer " + "x" * 9000])
async def test_without_a_genuine_token_nobody_is_let_in(path: str, token: str) -> None:
    async with vonage() as at:
        for response in (
            await at.post(f"/vonage{path}", CALL, token=token),
            await at.get(f"/vonage{path}", CALL, token=token or "x"),
        ):
            assert (response.status_code, response.text) == (401, "unauthorized\n")
        assert at.refused == 2
        assert at.bridge.admission.active == 0


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"secret": "another"}, "signature does not match"),
        ({"age_s": 3600.0}, "too old"),
        ({"age_s": -3600.0}, "of the future"),
    ],
)
async def test_forged_and_stale_tokens(wrong: dict[str, Any], why: str, lines: list[dict[str, Any]]) -> None:
    async with vonage() as at:
        assert (await at.get("/vonage/answer", CALL, token=sign(**wrong))).status_code == 401
    [line] = [line for line in lines if line["event"] == "request_refused"]
    assert why in line["detail"]
    assert "447700900000" not in str(lines)


async def test_a_body_that_was_changed_on_its_way() -> None:
    async with vonage() as at:
        response = await at.post("/vonage/answer", CALL, body=b'{"uuid":"other","from":"1","to":"2"}')
    assert response.status_code == 401


async def test_another_application() -> None:
    ours, theirs = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab", "ffffffff-bbbb-cccc-dddd-0123456789ab"
    async with vonage(VONAGE_APPLICATION_ID=ours) as at:
        for application, status in ((ours, 200), (theirs, 401), ("", 200)):  # not every token names one
            token = sign(application=application)
            assert (await at.get("/vonage/answer", CALL, token=token)).status_code == status


async def test_without_a_secret_nobody_is_let_in() -> None:
    async with vonage(VONAGE_SIGNATURE_SECRET="") as at:
        assert (await at.post("/vonage/answer", CALL)).status_code == 401


async def test_without_authentication_everybody_is() -> None:
    async with vonage(BRIDGE_AUTH="off", VONAGE_SIGNATURE_SECRET="") as at:
        assert (await at.post("/vonage/answer", CALL, token="")).status_code == 200


async def test_both_secrets_of_a_rotation() -> None:
    async with vonage(VONAGE_SIGNATURE_SECRET="old,new") as at:
        for secret, status in (("old", 200), ("new", 200), ("old,new", 401)):
            assert (await at.get("/vonage/answer", CALL, token=sign(secret=secret))).status_code == status


# --- a token is good for one request -------------------------------------------------------------------------


async def test_the_same_request_again_gets_the_same_answer_without_being_acted_on() -> None:
    async with vonage() as at:
        token = sign(jti="j1")
        first = await at.get("/vonage/answer", CALL, token=token)
        claims = await at.bridge.tokens.redeem(socket_of(first.json())["headers"]["token"], LEG)
        assert isinstance(claims, CallClaims), "from here on the webhook itself would give another token"
        again = await at.get("/vonage/answer", CALL, token=token)
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert again.headers["content-type"] == first.headers["content-type"]
        assert at.bridge.admission.active == 1
        nothing = sign(jti="j2")
        for _ in range(2):
            response = await at.get("/vonage/events", {"status": "ringing", "uuid": LEG}, token=nothing)
            assert (response.status_code, response.content) == (204, b"")


async def test_another_request_with_a_token_that_was_used(lines: list[dict[str, Any]]) -> None:
    async with vonage() as at:
        token = sign(jti="j1")
        assert (await at.get("/vonage/answer", CALL, token=token)).status_code == 200
        for path, fields in (
            ("/vonage/answer", {**CALL, "uuid": "other"}),
            ("/vonage/answer?call=1", CALL),
            ("/vonage/events", CALL),
        ):
            assert (await at.get(path, fields, token=token)).status_code == 401
        assert (await at.post("/vonage/answer", CALL, token=token)).status_code == 401
    details = {line["detail"] for line in lines if line["event"] == "request_refused"}
    assert details == {"the token was used for another request before"}


async def test_a_repetition_waits_for_the_answer_to_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    async with vonage() as at:
        token = sign(jti="j1")
        go_on = asyncio.Event()
        route_for = at.bridge.tokens.issue

        async def slowly(call_sid: str, claims: CallClaims) -> Any:
            await go_on.wait()
            return await route_for(call_sid, claims)

        monkeypatch.setattr(at.bridge.tokens, "issue", slowly)
        first = asyncio.create_task(at.get("/vonage/answer", CALL, token=token))
        await asyncio.sleep(0)
        again = asyncio.create_task(at.get("/vonage/answer", CALL, token=token))
        await asyncio.sleep(0.01)
        go_on.set()
        assert (await again).content == (await first).content


async def test_a_repetition_whose_first_died_is_answered_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vonage_hooks, "REPEAT_WAIT_S", 0.01)
    async with vonage() as at:
        token, real = sign(jti="j1"), at.bridge.tokens.issue

        async def broken(call_sid: str, claims: CallClaims) -> Any:
            raise RuntimeError("died")

        monkeypatch.setattr(at.bridge.tokens, "issue", broken)
        with pytest.raises(RuntimeError):
            await at.get("/vonage/answer", CALL, token=token)
        monkeypatch.setattr(at.bridge.tokens, "issue", real)
        assert socket_of((await at.get("/vonage/answer", CALL, token=token)).json())


# --- what is no webhook --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b"\xff\xfe", 400),
        (b"[" * 5000, 400),
        (b'{"a":' * 5000, 400),
        (b"x" * 70_000, 413),
        (b"{}", 400),
        (b'{"uuid":null}', 400),
        (b'{"uuid":"../../v2"}', 400),
        (b'{"uuid":{"a":1},"from":[1],"to":true}', 400),
    ],
)
async def test_bodies_that_are_no_answer_webhook(body: bytes, status: int) -> None:
    async with vonage(BRIDGE_AUTH="off") as at:
        assert (await at.client.post("/vonage/answer", content=body)).status_code == status


async def test_too_many_fields() -> None:
    async with vonage(BRIDGE_AUTH="off") as at:
        query = "&".join(f"a{number}=1" for number in range(300))
        assert (await at.client.get(f"/vonage/answer?{query}")).status_code == 400


async def test_a_body_that_trickles_in_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vonage_hooks, "BODY_TIMEOUT_S", 0.02)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.005)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    async with vonage() as at:
        scope = {
            "type": "http", "method": "POST", "path": "/vonage/events", "raw_path": b"/vonage/events",
            "query_string": b"", "headers": [], "http_version": "1.1", "scheme": "http",
        }  # fmt: skip
        await at.client._transport.app(scope, receive, send)  # type: ignore[attr-defined]
    assert (sent[0]["status"], sent[1]["body"]) == (408, b"body too slow\n")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
async def test_only_get_and_post(method: str) -> None:
    async with vonage(BRIDGE_AUTH="off") as at:
        assert (await at.client.request(method, "/vonage/events")).status_code == 405


async def test_reports_without_anything_are_taken() -> None:
    async with vonage() as at:
        strange: list[dict[str, object]] = [
            {},
            {"status": 5},
            {"status": None, "uuid": []},
            report("what-is-this"),
            {"type": "transfer"},
        ]
        for fields in strange:
            assert (await at.post("/vonage/events", fields)).status_code == 204
