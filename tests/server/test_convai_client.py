"""Connecting to an agent: the requests that are made, what refusals mean, when another try is made, and deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Any, cast

import httpx
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from bridge import outcome
from bridge.outcome import EndReason
from bridge.server import convai_client
from bridge.server.convai_client import AgentClient, AgentConnectError, AgentTarget
from bridge.server.sockets import MediaSocket
from tests.kit.server import free_port, settings_for, until
from tests.kit.sockets import Owner

SIGNATURE = "cvtkn_never_to_be_shown"
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Upstream:
    """An agent's address that answers upgrades with these statuses in turn, and with 101 when none is left."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = list(statuses)
        self.requests: list[Request] = []
        self.go_on = asyncio.Event()
        """Answers wait for it."""
        self.go_on.set()
        self.answered = self.opened = 0
        self.close_codes: list[int] = []
        self.port = 0

    async def process(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        await self.go_on.wait()
        self.answered += 1
        if not self._statuses:
            return None
        status = HTTPStatus(self._statuses.pop(0))
        return connection.respond(status, f"no {status.phrase}")

    async def handle(self, connection: ServerConnection) -> None:
        self.opened += 1
        await connection.wait_closed()
        self.close_codes.append(connection.close_code or 0)

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]


@contextlib.asynccontextmanager
async def listening(*statuses: int) -> AsyncIterator[Upstream]:
    upstream = Upstream(*statuses)
    async with serve(upstream.handle, "127.0.0.1", 0, process_request=upstream.process, compression=None) as server:
        upstream.port = server.sockets[0].getsockname()[1]
        yield upstream


@contextlib.asynccontextmanager
async def client_of(
    base_url: str, answer: Callable[[httpx.Request], httpx.Response] | None = None, **settings: Any
) -> AsyncIterator[AgentClient]:
    """A client with these settings; ``answer`` takes the place of the signed URL's address."""
    transport = httpx.MockTransport(answer) if answer is not None else None
    async with httpx.AsyncClient(transport=transport, verify=False, trust_env=False) as http:
        yield AgentClient(settings_for({"ELEVENLABS_BASE_URL": base_url, **settings}), http, TLS)


async def failure(base_url: str, *args: Any, **settings: Any) -> AgentConnectError:
    """How a connection fails; nothing may have reached the owner."""
    owner = Owner()
    async with client_of(base_url, *args, **settings) as client:
        with pytest.raises(AgentConnectError) as caught:
            await client.connect(AgentTarget("agent_1"), owner)
    assert (owner.opened, owner.lost) == (0, [])
    assert SIGNATURE not in caught.value.detail
    assert SIGNATURE not in str(caught.value)
    return caught.value


# --- a public agent --------------------------------------------------------------------------------------


async def test_a_public_agent_needs_no_key() -> None:
    owner = Owner()
    async with listening() as upstream:
        async with client_of(f"http://127.0.0.1:{upstream.port}") as client:
            await client.connect(AgentTarget("agent 1&x"), owner)
        assert owner.opened == 1
        assert upstream.paths == ["/v1/convai/conversation?agent_id=agent+1%26x"]
        assert upstream.requests[0].headers["User-Agent"].startswith("telephony-bridge/")
        owner.open_socket.close()
        await until(lambda: owner.lost)
    assert upstream.close_codes == [1000]


async def test_branch_and_environment_are_asked_for() -> None:
    owner = Owner()
    async with listening() as upstream:
        async with client_of(f"http://127.0.0.1:{upstream.port}") as client:
            await client.connect(AgentTarget("a", "staging", "br/1"), owner)
        owner.open_socket.cut()
    assert upstream.paths == ["/v1/convai/conversation?agent_id=a&branch_id=br%2F1&environment=staging"]


@pytest.mark.parametrize(
    ("status", "reason", "attempts"),
    [
        (401, outcome.AGENT_UNAUTHORIZED, 1),
        (403, outcome.AGENT_UNAUTHORIZED, 1),
        (404, outcome.AGENT_NOT_FOUND, 1),
        (429, outcome.AGENT_QUOTA, 1),
        (400, outcome.AGENT_REFUSED, 1),
        (302, outcome.AGENT_REFUSED, 1),
        (500, outcome.AGENT_UNREACHABLE, 2),
        (503, outcome.AGENT_UNREACHABLE, 2),
    ],
)
async def test_a_refused_upgrade(status: int, reason: EndReason, attempts: int) -> None:
    async with listening(status, status, status) as upstream:
        error = await failure(f"http://127.0.0.1:{upstream.port}")
        assert error.reason is reason
        assert len(upstream.requests) == attempts
        if status != 302:
            assert error.detail == f"handshake: HTTP {status} no {HTTPStatus(status).phrase}"


async def test_the_second_try_may_succeed() -> None:
    owner = Owner()
    async with listening(503) as upstream:
        async with client_of(f"http://127.0.0.1:{upstream.port}") as client:
            await client.connect(AgentTarget("a"), owner)
        assert (owner.opened, len(upstream.requests)) == (1, 2)
        owner.open_socket.cut()


async def test_a_second_try_that_is_refused_says_what_it_was_refused_for() -> None:
    async with listening(500, 401) as upstream:
        error = await failure(f"http://127.0.0.1:{upstream.port}")
    assert error.reason is outcome.AGENT_UNAUTHORIZED


async def test_nobody_listens() -> None:
    error = await failure(f"http://127.0.0.1:{free_port()}")
    assert error.reason is outcome.AGENT_UNREACHABLE


async def test_what_is_no_websocket_server_at_all() -> None:
    async def chat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"220 mail.example ESMTP\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(chat, "127.0.0.1", 0) as server:
        error = await failure(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert error.reason is outcome.AGENT_UNREACHABLE


# --- deadlines -------------------------------------------------------------------------------------------


async def test_the_deadline_bounds_everything() -> None:
    async with listening() as upstream:
        upstream.go_on.clear()
        began_s = time.monotonic()
        error = await failure(f"http://127.0.0.1:{upstream.port}", AGENT_CONNECT_TIMEOUT_S="0.2")
        assert 0.2 <= time.monotonic() - began_s < 1.0
        assert (error.reason, error.detail) == (outcome.AGENT_UNREACHABLE, "no connection within 0.2 s")
        upstream.go_on.set()


async def test_an_attempt_has_a_deadline_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convai_client, "ATTEMPT_TIMEOUT_S", 0.1)
    async with listening() as upstream:
        upstream.go_on.clear()
        error = await failure(f"http://127.0.0.1:{upstream.port}")
        assert error.reason is outcome.AGENT_UNREACHABLE
        assert len(upstream.requests) == 2
        upstream.go_on.set()


async def test_an_attempt_that_opens_after_we_gave_up_is_cut() -> None:
    owner = Owner()
    async with listening() as upstream:
        upstream.go_on.clear()
        async with client_of(f"http://127.0.0.1:{upstream.port}", AGENT_CONNECT_TIMEOUT_S="0.1") as client:
            with pytest.raises(AgentConnectError):
                await client.connect(AgentTarget("a"), owner)
            upstream.go_on.set()
            await until(lambda: upstream.answered)
            await until(lambda: len(upstream.close_codes) == upstream.opened)
    assert (owner.opened, owner.lost, owner.messages) == (0, [], [])
    assert upstream.close_codes in ([], [1006])


async def test_a_call_that_ended_meanwhile_gets_no_agent() -> None:
    """The task is cancelled when its call ends; picows goes on with the handshake all the same."""
    owner = Owner()
    async with listening() as upstream:
        upstream.go_on.clear()
        async with client_of(f"http://127.0.0.1:{upstream.port}") as client:
            connecting = asyncio.create_task(client.connect(AgentTarget("a"), owner))
            await until(lambda: upstream.requests)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            upstream.go_on.set()
            await until(lambda: upstream.answered)
    assert (owner.opened, owner.lost) == (0, [])
    assert upstream.close_codes in ([], [1006])


def test_a_socket_that_opens_too_late_is_cut_and_not_handed_over() -> None:
    """picows may complete a handshake that nobody awaits any more."""

    class Late:
        was_cut = False

        def cut(self) -> None:
            self.was_cut = True

    owner, late = Owner(), Late()
    attempt = convai_client._Attempt(owner)
    assert attempt.settle() is False
    attempt.on_open(cast(MediaSocket, late))
    assert late.was_cut
    assert owner.opened == 0


def test_a_socket_that_opens_in_time_is_its_owners() -> None:
    owner = Owner()
    attempt = convai_client._Attempt(owner)
    socket = MediaSocket(attempt, 1000)
    attempt.on_open(socket)
    assert attempt.settle() is True
    assert owner.socket is socket


# --- signed URLs -----------------------------------------------------------------------------------------


def signed(url: str) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _request: httpx.Response(200, json={"signed_url": url})


async def test_a_key_fetches_a_signed_url() -> None:
    owner = Owner()
    asked: list[httpx.Request] = []
    async with listening() as upstream:
        url = f"ws://127.0.0.1:{upstream.port}/talk?agent_id=a&conversation_signature={SIGNATURE}"

        def answer(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            return signed(url)(request)

        settings = {"ELEVENLABS_API_KEY": "sk_secret"}
        async with client_of("http://agents.example", answer, **settings) as client:
            await client.connect(AgentTarget("a", "e", "b"), owner)
        owner.open_socket.cut()
    [request] = asked
    assert str(request.url) == (
        "http://agents.example/v1/convai/conversation/get-signed-url?agent_id=a&branch_id=b&environment=e"
    )
    assert request.headers["xi-api-key"] == "sk_secret"
    assert "sk_secret" not in str(request.url)
    assert upstream.paths == [f"/talk?agent_id=a&conversation_signature={SIGNATURE}"]
    assert "xi-api-key" not in upstream.requests[0].headers


@pytest.mark.parametrize(
    ("status", "reason", "attempts"),
    [
        (401, outcome.AGENT_UNAUTHORIZED, 1),
        (403, outcome.AGENT_UNAUTHORIZED, 1),
        (404, outcome.AGENT_NOT_FOUND, 1),
        (422, outcome.AGENT_REFUSED, 1),
        (429, outcome.AGENT_QUOTA, 1),
        (301, outcome.AGENT_REFUSED, 1),
        (500, outcome.AGENT_UNREACHABLE, 2),
        (503, outcome.AGENT_UNREACHABLE, 2),
    ],
)
async def test_a_refused_signed_url(status: int, reason: EndReason, attempts: int) -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(status, text="because " * 1000, headers={"Location": "https://elsewhere.example"})

    error = await failure("https://agents.example", answer, ELEVENLABS_API_KEY="k")
    assert error.reason is reason
    assert error.detail.startswith(f"signed URL: HTTP {status} because")
    assert len(error.detail) <= 300
    assert len(asked) == attempts


@pytest.mark.parametrize("problem", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError])
async def test_a_signed_url_that_cannot_be_had(problem: type[httpx.TransportError]) -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        raise problem("x")

    error = await failure("https://agents.example", answer, ELEVENLABS_API_KEY="k")
    assert (error.reason, error.detail) == (outcome.AGENT_UNREACHABLE, f"signed URL: {problem.__name__}")
    assert len(asked) == 2


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"signed_url":7}', b'{"signed_url":""}', b'{"signed_url":"' + b"w" * 100_000],
)
async def test_an_answer_that_holds_no_url(body: bytes) -> None:
    error = await failure("https://agents.example", lambda _: httpx.Response(200, content=body), ELEVENLABS_API_KEY="k")
    assert error.reason is outcome.AGENT_GARBAGE
    assert error.detail.startswith("signed URL: ")


@pytest.mark.parametrize(
    "url",
    [
        f"ws://agents.example/x?conversation_signature={SIGNATURE}",
        f"https://agents.example/x?conversation_signature={SIGNATURE}",
        f"/x?conversation_signature={SIGNATURE}",
        f"wss:///x?conversation_signature={SIGNATURE}",
        f"wss://agents.example/x?conversation_signature={SIGNATURE}#fragment",
        f"wss://agents.example:port/x?conversation_signature={SIGNATURE}",
        f"wss://[agents.example/x?conversation_signature={SIGNATURE}",
        f"wss://agents.example/x?a=\r\nb&conversation_signature={SIGNATURE}",
    ],
)
async def test_a_url_that_leads_elsewhere_is_refused_and_not_repeated(url: str) -> None:
    error = await failure("https://agents.example", signed(url), ELEVENLABS_API_KEY="k")
    assert (error.reason, error.detail) == (outcome.AGENT_GARBAGE, "signed URL: not a wss:// address")


async def test_a_refused_upgrade_with_a_signed_url_does_not_show_it() -> None:
    async with listening(403) as upstream:
        url = f"ws://127.0.0.1:{upstream.port}/x?conversation_signature={SIGNATURE}"
        error = await failure("http://agents.example", signed(url), ELEVENLABS_API_KEY="k")
    assert (error.reason, error.detail) == (outcome.AGENT_UNAUTHORIZED, "handshake: HTTP 403 no Forbidden")


async def test_every_try_asks_for_a_url_of_its_own() -> None:
    asked = []
    owner = Owner()
    async with listening(503) as upstream:

        def answer(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            return signed(f"ws://127.0.0.1:{upstream.port}/{len(asked)}")(request)

        async with client_of("http://agents.example", answer, ELEVENLABS_API_KEY="k") as client:
            await client.connect(AgentTarget("a"), owner)
        owner.open_socket.cut()
    assert upstream.paths == ["/1", "/2"]
