"""Digits for the operator alone: they arrive signed and in order, or are lost; nothing else ever holds them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from bridge.auth import webhook
from bridge.server import digits_out as module
from bridge.server import egress
from bridge.server.digits_out import DigitsOptions, DigitsOut, TypedDigits
from bridge.server.egress import EgressOptions, guarded_client
from tests.kit import logs
from tests.kit.server import until

URL = "https://crm.example/digits?tenant=1"
PIN = "735190"
UNIX_S = 1_700_000_000.0


class Body(httpx.AsyncByteStream):
    """A body that is still to be read, as one from a socket is."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content


class Receiver:
    """The operator's server."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.answer: Callable[[int], httpx.Response] = lambda number: httpx.Response(204)
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.at_once = self.most_at_once = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        await self.may_answer.wait()
        self.at_once -= 1
        answer = self.answer(len(self.requests))
        return httpx.Response(answer.status_code, headers=answer.headers, stream=Body(answer.content))

    def digits(self) -> list[str]:
        return [json.loads(request.content)["data"]["digits"] for request in self.requests]


class Bench:
    def __init__(self) -> None:
        self.receiver = Receiver()
        self.client = httpx.AsyncClient(transport=httpx.MockTransport(self.receiver))
        self.now_s = 1000.0

    def out(self, **options: Any) -> DigitsOut:
        given: dict[str, Any] = {"url": URL, "secret": "wsec_1", "headers": {"X-Api-Key": "hunter2"}}
        given |= {"first_retry_s": 0.001} | options
        return DigitsOut(DigitsOptions(**given), self.client, unix=lambda: UNIX_S, monotonic=lambda: self.now_s)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    bench.receiver.may_answer.set()
    await bench.client.aclose()


def typed(digits: str = PIN, call_id: str = "call_1", sequence: int = 1) -> TypedDigits:
    return TypedDigits(digits, call_id, sequence, "twilio", "CA1", "agent_1", "conv_1")


async def idle(out: DigitsOut) -> None:
    await until(lambda: not out._tasks, "everything was sent")


# --- what arrives --------------------------------------------------------------------------------------------


async def test_digits_arrive_signed(bench: Bench) -> None:
    out = bench.out()
    out.send(typed())
    await idle(out)
    [request] = bench.receiver.requests
    assert (request.method, str(request.url), request.headers["x-api-key"]) == ("POST", URL, "hunter2")
    assert request.content == (
        b'{"type":"call.digits","id":"evt_call_1_call.digits_1","event_timestamp":1700000000,"sequence":1,"data":'
        b'{"call_id":"call_1","provider":"twilio","call_sid":"CA1","agent_id":"agent_1","conversation_id":"conv_1",'
        b'"digits":"735190"}}'
    )
    assert webhook.verify(["wsec_1"], request.headers["elevenlabs-signature"], request.content, UNIX_S) == ""
    names = ("content-type", "idempotency-key", "x-bridge-event-id", "x-bridge-event-type", "x-bridge-attempt")
    assert [request.headers[name] for name in names] == [
        "application/json", "evt_call_1_call.digits_1", "evt_call_1_call.digits_1", "call.digits", "1",
    ]  # fmt: skip
    assert (out.figures.delivered, out.figures.lost) == (1, 0)


async def test_without_a_secret_they_go_unsigned(bench: Bench) -> None:
    out = bench.out(secret="")
    out.send(typed())
    await idle(out)
    assert "elevenlabs-signature" not in bench.receiver.requests[0].headers


async def test_without_a_url_they_go_nowhere(bench: Bench) -> None:
    out = bench.out(url="")
    out.send(typed())
    assert (out._lines, out._tasks, out.figures.lost) == ({}, {}, 0)


async def test_entries_of_a_call_keep_their_order(bench: Bench) -> None:
    bench.receiver.answer = lambda number: httpx.Response(500 if number in (1, 2, 4) else 200)
    out = bench.out()
    for sequence, digits in enumerate(("11", "22", "33"), 1):
        out.send(typed(digits, sequence=sequence))
    await idle(out)
    assert bench.receiver.digits() == ["11", "11", "11", "22", "22", "33"]
    assert [request.headers["x-bridge-attempt"] for request in bench.receiver.requests] == list("123121")
    assert (out.figures.delivered, out.figures.failed_attempts, out.figures.lost) == (3, 3, 0)


async def test_calls_are_sent_side_by_side_with_a_bound(bench: Bench) -> None:
    bench.receiver.may_answer.clear()
    out = bench.out(parallel=3)
    for number in range(10):
        out.send(typed(call_id=f"call_{number}"))
    await until(lambda: bench.receiver.at_once == 3, "three requests")
    bench.receiver.may_answer.set()
    await idle(out)
    assert (bench.receiver.most_at_once, out.figures.delivered) == (3, 10)


async def test_a_call_may_type_again_later(bench: Bench) -> None:
    out = bench.out()
    for sequence in (1, 2):
        out.send(typed(sequence=sequence))
        await idle(out)
    assert [request.headers["idempotency-key"][-1] for request in bench.receiver.requests] == ["1", "2"]


# --- what is lost --------------------------------------------------------------------------------------------


async def test_what_is_too_old_is_lost_and_the_next_has_its_own_time(bench: Bench) -> None:
    def answer(number: int) -> httpx.Response:
        bench.now_s += 25
        return httpx.Response(503)

    bench.receiver.answer = answer
    out = bench.out(give_up_after_s=60)
    out.send(typed("11"))
    await idle(out)
    assert (bench.receiver.digits(), out.figures.lost) == (["11"] * 3, 1)
    bench.receiver.answer = lambda number: httpx.Response(200)
    out.send(typed("22", sequence=2))
    await idle(out)
    assert (out.figures.delivered, out.figures.lost) == (1, 1)


async def test_a_receiver_that_wants_no_more_gets_no_more(bench: Bench) -> None:
    bench.receiver.answer = lambda number: httpx.Response(410)
    out = bench.out()
    out.send(typed())
    await idle(out)
    assert (len(bench.receiver.requests), out.figures.lost) == (1, 1)


async def test_the_receiver_may_ask_for_a_wait_but_not_past_the_end(bench: Bench) -> None:
    bench.receiver.answer = lambda number: httpx.Response(429, headers={"Retry-After": "3600"})
    out = bench.out()
    out.send(typed())
    await idle(out)
    assert (len(bench.receiver.requests), out.figures.lost) == (1, 1)


async def test_a_connection_that_breaks_is_tried_again(bench: Bench) -> None:
    def answer(number: int) -> httpx.Response:
        if number == 1:
            raise httpx.ReadError("broken")
        return httpx.Response(200)

    bench.receiver.answer = answer
    out = bench.out()
    out.send(typed())
    await idle(out)
    assert (out.figures.delivered, out.figures.failed_attempts) == (1, 1)


async def test_private_addresses_are_not_reached() -> None:
    async with guarded_client(EgressOptions()) as client:
        out = DigitsOut(DigitsOptions("http://127.0.0.1:9/x"), client)
        with logs.captured() as lines:
            out.send(typed())
            await idle(out)
    assert (out.figures.failed_attempts, out.figures.lost) == (1, 1)
    [refused] = [line for line in lines if line["event"] == "digits_not_delivered"]
    assert refused["detail"] == "the host is not on the public internet; allow its network in EGRESS_ALLOW"


async def test_a_flood_has_bounds(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 60)
    bench.receiver.may_answer.clear()
    out = bench.out()
    for sequence in range(1, 101):
        out.send(typed(sequence=sequence))
    assert out.figures.lost == 100 - module.MAX_WAITING_OF_CALL
    for number in range(20):
        out.send(typed(call_id=f"call_other_{number}"))
    assert out.figures.lost == 60
    bench.receiver.may_answer.set()
    await idle(out)
    assert (out.figures.delivered, out._waiting) == (60, 0)


async def test_a_bug_loses_one_entry_and_no_more(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    request = egress.request
    calls = 0

    async def broken_once(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("a bug")
        return await request(*arguments, **named)

    monkeypatch.setattr(module, "request", broken_once)
    out = bench.out()
    out.send(typed("11"))
    out.send(typed("22", sequence=2))
    await idle(out)
    assert (bench.receiver.digits(), out.figures.lost, out.figures.delivered) == (["22"], 1, 1)


# --- the end -------------------------------------------------------------------------------------------------


async def test_stopping_waits_for_what_is_under_way(bench: Bench) -> None:
    bench.receiver.may_answer.clear()
    out = bench.out()
    out.send(typed())
    await until(lambda: bench.receiver.requests, "a request")
    stopping = asyncio.create_task(out.stop(5.0))
    await asyncio.sleep(0)
    out.send(typed(sequence=2))  # too late
    bench.receiver.may_answer.set()
    await stopping
    assert (out.figures.delivered, out.figures.lost) == (1, 1)
    await out.stop(5.0)


async def test_stopping_does_not_wait_for_ever(bench: Bench) -> None:
    bench.receiver.may_answer.clear()
    out = bench.out()
    for sequence in (1, 2):
        out.send(typed(sequence=sequence))
    await until(lambda: bench.receiver.requests, "a request")
    await out.stop(0.01)
    assert (out.figures.delivered, out.figures.lost, out._tasks, out._lines) == (0, 2, {}, {})


# --- nobody else ---------------------------------------------------------------------------------------------


async def test_no_line_and_no_repr_holds_digits(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def answer(number: int) -> httpx.Response:
        if number == 2:
            raise httpx.ReadError(PIN)  # a library that quotes what it was sending
        return httpx.Response(500 if number == 1 else 410 if number == 3 else 200, content=PIN.encode())

    bench.receiver.answer = answer
    out = bench.out()
    with logs.captured() as lines:
        out.send(typed())
        shown = repr(out._lines) + repr(typed()) + repr(out.options) + repr(out.figures)
        await idle(out)
        out.send(typed(sequence=2))
        await idle(out)
    assert {line["event"] for line in lines} == {"digits_not_delivered", "digits_lost", "digits_delivered"}
    assert PIN not in json.dumps(lines, default=str) + shown + caplog.text
    assert "hunter2" not in shown
    assert repr(typed()) == "TypedDigits(call_1, 1)"
