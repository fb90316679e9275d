"""What is true of every operation: methods, heads, bodies, failures, and the one shape of refusals."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from redis.exceptions import ConnectionError as RedisDown
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from bridge.server.api import operations
from bridge.server.api.errors import Unavailable
from bridge.server.slot_store import StoreDown
from bridge.server.store.listing import CallPage
from tests.kit.logs import captured
from tests.server.api.api_fakes import record, refusal, running_api

SECRET = "+4930123456"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/calls", "GET, HEAD, OPTIONS, POST"),
        ("PUT", "/v1/calls/a1", "DELETE, GET, HEAD, OPTIONS"),
        ("GET", "/v1/calls/a1/hangup", "OPTIONS, POST"),
        ("HEAD", "/v1/calls/a1/hangup", "OPTIONS, POST"),
        ("PATCH", "/v1/routes", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("BREW", "/v1/usage", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_method_that_the_path_does_not_take(method: str, path: str, allow: str) -> None:
    async with running_api() as api:
        response = await api.client.request(method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == allow
    if method == "HEAD":
        assert response.content == b""
    else:
        assert refusal(response) == (405, "method_not_allowed", "")


async def test_options_say_what_a_path_takes_and_share_nothing_with_other_origins() -> None:
    async with running_api(key="") as api:
        response = await api.client.options(
            "/v1/calls/a1", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "DELETE"}
        )
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["allow"] == "DELETE, GET, HEAD, OPTIONS"
    assert not [name for name in response.headers if name.startswith("access-control")]


async def test_a_head_is_the_answer_without_its_body() -> None:
    async with running_api() as api:
        api.calls.add(record())
        whole, head = await api.get("/v1/calls"), await api.client.head("/v1/calls")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))


async def test_nothing_is_kept_in_caches_or_sniffed() -> None:
    async with running_api() as api:
        for path in ("/v1/calls", "/v1/live", "/v1/usage", "/v1/routes", "/v1/webhooks/dead", "/v1/nowhere"):
            headers = (await api.get(path)).headers
            assert headers["content-type"] == "application/json"
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "path", ["/v1/nowhere", "/v1/", "/v1", "/v1/calls/", "/v1/calls/a/b/c", "/v1/%00", "/v1/%3Cb%3E"]
)
async def test_a_path_that_nobody_knows(path: str) -> None:
    async with running_api() as api:
        assert await api.refusal("GET", path) == (404, "no_such_path", "")
        assert await api.refusal("POST", path) == (404, "no_such_path", "")
        head = await api.client.head(path)
    assert (head.status_code, head.content) == (404, b"")


@pytest.mark.parametrize("path", ["/v1/live", "/v1/usage", "/v1/routes"])
async def test_parameters_are_refused_where_there_are_none(path: str) -> None:
    async with running_api() as api:
        assert await api.refusal("GET", f"{path}?limit=1") == (400, "invalid_parameter", "limit")


@pytest.mark.parametrize(
    ("content", "headers", "expected"),
    [
        (b"{}", {}, (415, "not_json", "")),
        (b"ids=1", {"Content-Type": "application/x-www-form-urlencoded"}, (415, "not_json", "")),
        (b"{}", {"Content-Type": "text/plain"}, (415, "not_json", "")),
        (b" " * 65_537, {"Content-Type": "application/json"}, (413, "body_too_big", "")),
        (b"", {"Content-Type": "application/json"}, (400, "invalid_body", "")),
        (b'{"all": true}', {"Content-Type": "Application/JSON; charset=utf-8"}, None),
        (b" " * 65_523 + b'{"all": true}', {"Content-Type": "application/json"}, None),
    ],
)
async def test_bodies(content: bytes, headers: dict[str, str], expected: tuple[int, str, str] | None) -> None:
    async with running_api() as api:
        response = await api.client.post("/v1/webhooks/dead/replay", content=content, headers=headers)
    if expected is None:
        assert response.status_code == 200
    else:
        assert refusal(response) == expected


async def test_a_body_that_never_ends_is_not_read_to_its_end() -> None:
    read = 0

    async def endless() -> Any:
        nonlocal read
        while True:
            read += 1024
            yield b" " * 1024

    async with running_api() as api:
        response = await api.client.post(
            "/v1/webhooks/dead/replay", content=endless(), headers={"Content-Type": "application/json"}
        )
    assert refusal(response) == (413, "body_too_big", "")
    assert read <= 66 * 1024


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("nobody answers"),
        StoreDown("redis is down"),
        OperationalError("SELECT", {}, Exception(SECRET)),
        PoolTimeoutError("pool"),
        asyncpg.CannotConnectNowError("starting up"),
        asyncpg.InterfaceError("closed"),
        RedisDown("refused"),
        ConnectionRefusedError(111, "refused"),
        TimeoutError(),
    ],
)
async def test_what_does_not_answer_is_503(error: Exception) -> None:
    async with running_api() as api:
        api.calls.error = error
        with captured() as lines:
            response = await api.get("/v1/calls")
    assert refusal(response) == (503, "unavailable", "")
    assert response.headers["retry-after"] == "5"
    assert [(line["event"], line["path"]) for line in lines] == [("api_unavailable", "/v1/calls")]
    assert SECRET not in str(lines) + response.text


@pytest.mark.parametrize("error", [KeyError(SECRET), DataError("SELECT", {}, Exception("too long"))])
async def test_a_bug_is_500_and_tells_the_client_nothing(error: Exception) -> None:
    async with running_api() as api:
        api.calls.error = error
        with captured() as lines:
            response = await api.get("/v1/calls")
        api.calls.error = None
        assert (await api.get("/v1/calls")).status_code == 200
    assert refusal(response) == (500, "internal", "")
    assert SECRET not in response.text
    assert [line["event"] for line in lines] == ["api_bug"]


async def test_what_takes_too_long_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "REQUEST_TIMEOUT_S", 0.0)

    async def hang(*_: object) -> CallPage:
        await asyncio.Event().wait()
        raise AssertionError

    async with running_api() as api:
        api.calls.page = hang  # type: ignore[method-assign, assignment]
        with captured():
            assert await api.refusal("GET", "/v1/calls") == (503, "unavailable", "")


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_bug() -> None:
    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async with running_api() as api:
        scope = {
            "type": "http",
            "method": "PUT",
            "path": "/v1/routes",
            "raw_path": b"/v1/routes",
            "root_path": "",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json"), (b"x-api-key", b"operator-key")],
            "client": ("192.0.2.1", 1),
        }
        with captured() as lines:
            await api.app(scope, receive, send)
    assert lines == []
    assert sent[0]["status"] == 400
