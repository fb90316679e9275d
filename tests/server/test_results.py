"""Fetching a conversation's results: polled with a bound, stringified, and never an exception."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from bridge.server import results
from bridge.server.results import MAX_RESULT_CHARS, MAX_RESULTS, ResultsClient
from tests.kit.server import settings_for


def client(answer: Callable[[httpx.Request], httpx.Response], **settings: str) -> ResultsClient:
    return ResultsClient(settings_for(settings), httpx.AsyncClient(transport=httpx.MockTransport(answer)))


def done(**values: object) -> httpx.Response:
    collected = {name: {"data_collection_id": name, "value": value} for name, value in values.items()}
    return httpx.Response(200, json={"status": "done", "analysis": {"data_collection_results": collected}})


async def test_results_as_texts_with_the_key_and_a_safe_path() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return done(city="Berlin", guests=4, smoking=False, none=None, price=1.5, tags=["a", "b"])

    found = await client(answer, ELEVENLABS_API_KEY="key_1").fetch("conv/../1", 1.0)
    assert found == {"city": "Berlin", "guests": "4", "smoking": "false", "price": "1.5", "tags": '["a","b"]'}
    [request] = asked
    assert request.url.raw_path == b"/v1/convai/conversations/conv%2F..%2F1"
    assert request.headers["xi-api-key"] == "key_1"


async def test_it_asks_again_until_the_analysis_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "POLL_S", 0.0)
    answers = [
        httpx.Response(200, json={"status": "processing", "analysis": None}),
        httpx.Response(500),
        httpx.Response(200, content=b"{"),
        done(city="Berlin"),
    ]
    assert await client(lambda _: answers.pop(0)).fetch("c", 5.0) == {"city": "Berlin"}
    assert answers == []


@pytest.mark.parametrize(
    "answer", [httpx.Response(404), httpx.Response(200, json={"status": "processing"}), httpx.Response(200, text="x")]
)
async def test_what_never_comes_is_not_waited_for(answer: httpx.Response) -> None:
    assert await client(lambda _: answer).fetch("c", 0.02) == {}


async def test_an_unreachable_vendor() -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no", request=request)

    assert await client(fail).fetch("c", 0.02) == {}


async def test_a_failed_conversation_is_not_asked_for_again() -> None:
    async with asyncio.timeout(1.0):
        assert await client(lambda _: httpx.Response(200, json={"status": "failed"})).fetch("c", 60.0) == {}


async def test_bounds() -> None:
    many = {f"n{number}": "x" * (MAX_RESULT_CHARS + 5) for number in range(MAX_RESULTS + 5)}
    found = await client(lambda _: done(**many)).fetch("c", 1.0)
    assert len(found) == MAX_RESULTS
    assert {len(text) for text in found.values()} == {MAX_RESULT_CHARS}


async def test_a_body_beyond_the_bound_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MAX_BODY_BYTES", 10)
    assert await client(lambda _: done(city="Berlin")).fetch("c", 0.02) == {}
