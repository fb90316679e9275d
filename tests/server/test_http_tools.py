"""The operator's HTTP tools with a real server: what it is sent, and what the agent is told."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from bridge.auth import webhook
from bridge.calls.http_tools import HttpParameter, HttpTool, Method
from bridge.calls.orders import HttpOrder
from bridge.server.egress import EgressOptions, guarded_client
from bridge.server.egress_addresses import parse_networks
from bridge.server.http_tools import HttpTools, HttpToolsOptions, ToolFacts
from tests.kit.logs import captured
from tests.kit.webhooks import Behaviour, Receiver, Reply, receiver

LOOPBACK = EgressOptions(allow=parse_networks(["127.0.0.0/8"]), connect_timeout_s=1, read_timeout_s=1)
NO_ROOTS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
FACTS = ToolFacts("call_1", "conv_1")
SORRY = "Tell the caller that this cannot be done right now and go on with the conversation."


def declared(url: str, method: Method = Method.POST, **members: Any) -> HttpTool:
    return HttpTool(
        name="order",
        description="Looks up.",
        url=url,
        method=method,
        headers={"Authorization": "Bearer secret"},
        parameters=(HttpParameter("order_id", "Number"),),
        **members,
    )


@contextlib.asynccontextmanager
async def tools_for(
    tools: Mapping[str, HttpTool], options: EgressOptions = LOOPBACK, secret: str = ""
) -> AsyncIterator[HttpTools]:
    async with guarded_client(options, ssl_context=NO_ROOTS) as client:
        yield HttpTools(client, HttpToolsOptions(tools, secret), unix=lambda: 1_000_000.0)


async def ask(
    hook: Receiver, method: Method = Method.POST, path: str = "/orders/{order_id}", secret: str = "", **members: Any
) -> tuple[str, bool]:
    tool = declared(f"http://127.0.0.1:{hook.port}{path}", method, **members)
    async with tools_for({"order": tool}, secret=secret) as tools:
        return await tools.run(HttpOrder("order", {"order_id": "7", "note": "héllo"}), FACTS)


def saying(body: bytes, status: int = 200, **more: Any) -> Behaviour:
    return lambda _request, _number: Reply(status, body=body, **more)


# --- what is sent ---


async def test_a_post_carries_the_rest_as_json_and_says_which_call_it_is() -> None:
    async with receiver(saying(b'{"state":"sent"}')) as hook:
        assert await ask(hook) == ('{"state":"sent"}', False)
        got = hook.received[0]
    assert (got.method, got.path, got.body) == ("POST", "/orders/7", '{"note":"héllo"}'.encode())
    assert got.headers["content-type"] == "application/json"
    assert got.headers["authorization"] == "Bearer secret"
    assert got.headers["x-bridge-call-id"] == "call_1"
    assert got.headers["x-bridge-conversation-id"] == "conv_1"
    assert got.headers["x-bridge-tool"] == "order"
    assert got.headers["accept"] == "application/json, text/plain;q=0.9, */*;q=0.5"
    assert "elevenlabs-signature" not in got.headers


async def test_a_get_carries_it_in_its_query() -> None:
    async with receiver(saying(b"sent")) as hook:
        assert await ask(hook, Method.GET) == ("sent", False)
        got = hook.received[0]
    assert (got.method, got.path, got.body) == ("GET", "/orders/7?note=h%C3%A9llo", b"")
    assert "content-type" not in got.headers


@pytest.mark.parametrize(("method", "body"), [(Method.POST, '{"note":"héllo"}'.encode()), (Method.GET, b"")])
async def test_it_is_signed_as_webhooks_are(method: Method, body: bytes) -> None:
    async with receiver(saying(b"ok")) as hook:
        await ask(hook, method, secret="wsec_1")
        signature = hook.received[0].headers["elevenlabs-signature"]
    assert hook.received[0].body == body
    assert webhook.verify(["wsec_1"], signature, body, 1_000_000.0) == ""


async def test_the_operators_own_accept_header_stays() -> None:
    async with receiver(saying(b"ok")) as hook:
        tool = HttpTool("order", "x", hook.url, headers={"accept": "text/csv"})
        async with tools_for({"order": tool}) as tools:
            assert await tools.run(HttpOrder("order", {}), FACTS) == ("ok", False)
        assert hook.received[0].headers["accept"] == "text/csv"


# --- what the agent is told ---


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "Done. The tool gave no further information."),
        (b" \n", "Done. The tool gave no further information."),
        (b"a\r\nb\tc\x00\x1b[0m", "a\nb\tc[0m"),
        (b"\xff\xfeok", "\ufffd\ufffdok"),
        (b"x" * 10, "x" * 10),
        (b"x" * 11, "x" * 10 + " (the rest of the result was cut)"),
        (b"x" * 1_000_000, "x" * 10 + " (the rest of the result was cut)"),
        ("\u20ac".encode() * 10, "\u20ac" * 10),
        (b"x" + b" " * 1_000, "x (the rest of the result was cut)"),
    ],
)
async def test_the_result_is_text_within_its_bound(body: bytes, text: str) -> None:
    async with receiver(saying(body)) as hook:
        assert await ask(hook, result_max_chars=10) == (text, False)


@pytest.mark.parametrize("status", [400, 401, 404, 500, 503])
async def test_another_status_is_an_error_and_its_body_stays_here(status: int) -> None:
    async with receiver(saying(b"Traceback: secret", status)) as hook:
        assert await ask(hook) == (f"The tool order failed: its server answered with status {status}. {SORRY}", True)


@pytest.mark.parametrize("method", [Method.GET, Method.POST])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int, method: Method) -> None:
    async with receiver(saying(b"", status, headers={"location": "/elsewhere"})) as hook:
        assert await ask(hook, method) == (
            f"The tool order failed: its server wants to be asked elsewhere. {SORRY}",
            True,
        )
        assert len(hook.received) == 1


async def test_nor_is_one_that_says_no_place() -> None:
    async with receiver(saying(b"", 307)) as hook:
        assert await ask(hook) == (f"The tool order failed: its server wants to be asked elsewhere. {SORRY}", True)


async def test_an_answer_that_takes_too_long() -> None:
    async with receiver(saying(b"ok", delay_s=5)) as hook:
        assert await ask(hook, timeout_s=0.1) == (
            f"The tool order failed: its server did not answer in time. {SORRY}",
            True,
        )


async def test_an_answer_that_breaks_off_is_none() -> None:
    raw = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"
    async with receiver(saying(b"", raw=raw)) as hook:
        assert await ask(hook) == (f"The tool order failed: its server broke off in the middle. {SORRY}", True)


async def test_a_server_that_is_not_there() -> None:
    async with receiver() as hook:
        pass
    assert await ask(hook) == (f"The tool order failed: its server cannot be reached. {SORRY}", True)


async def test_a_private_address_is_refused() -> None:
    async with receiver() as hook:
        async with tools_for({"order": declared(hook.url)}, EgressOptions()) as tools:
            words, is_error = await tools.run(HttpOrder("order", {"order_id": "7"}), FACTS)
        assert (words, is_error) == (f"The tool order failed: it is not set up correctly. {SORRY}", True)
        assert hook.received == []


async def test_a_tool_that_has_gone_with_a_reload() -> None:
    async with tools_for({}) as tools:
        words, is_error = await tools.run(HttpOrder("order", {}), FACTS)
    assert is_error
    assert words.startswith("The tool 'order' is not available on this phone line.")


# --- the log ---


async def test_the_log_has_the_tool_and_the_outcome_and_nothing_of_the_caller() -> None:
    with captured() as lines:
        async with receiver(saying(b"private answer")) as hook:
            await ask(hook)
        await ask(hook)
    done, failed = lines
    assert (done["event"], done["call_id"], done["tool"]) == ("http_tool_done", "call_1", "order")
    assert (failed["event"], failed["detail"]) == ("http_tool_failed", "cannot connect: Connection refused")
    for word in ("secret", "private", "llo", "127.0.0.1"):
        assert word not in repr(lines)


def test_the_secret_is_not_shown() -> None:
    assert "wsec" not in repr(HttpToolsOptions({}, "wsec_1"))
