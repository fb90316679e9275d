"""The Twilio caller over loopback, against small servers that answer as a bridge would, rightly and wrongly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import pytest
from twilio.request_validator import RequestValidator
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from bridge.simulators.twilio_caller import MAX_DOCUMENTS, TwilioCall, TwilioCallOptions, call_twilio
from bridge.simulators.twilio_line import HangUp, PressKey, Silence, WaitForClose

pytestmark = pytest.mark.e2e

TOKEN = "t" * 32
Media = Callable[[ServerConnection], Awaitable[None]]
SHORT = (Silence(ms=60), HangUp())


class Webhooks:
    """A minimal HTTP server: answers by path, keeps what it was asked."""

    def __init__(self) -> None:
        self.port = 0
        self.answers: dict[str, tuple[int, str, str]] = {}
        self.asked: list[tuple[str, dict[str, str], str]] = []
        """Path, form and signature of each request."""

    def answer(self, path: str, twiml: str, status: int = 200, kind: str = "text/xml") -> None:
        self.answers[path] = (status, kind, twiml)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head.split("\r\n")[1:] if line)}
        form = (await reader.readexactly(int(headers.get("content-length", "0")))).decode()
        path = head.split(" ")[1]
        fields = dict(parse_qsl(form, keep_blank_values=True))
        self.asked.append((path, fields, headers.get("x-twilio-signature", "")))
        status, kind, body = self.answers.get(path, (404, "text/plain", "no"))
        data = body.encode()
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Length: {len(data)}"]
        writer.write("\r\n".join([*lines, f"Content-Type: {kind}", "Connection: close", "", ""]).encode() + data)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def webhooks() -> AsyncIterator[Webhooks]:
    hooks = Webhooks()
    server = await asyncio.start_server(hooks.handle, "127.0.0.1", 0)
    hooks.port = server.sockets[0].getsockname()[1]
    async with server:
        yield hooks


class MediaServer:
    """Keeps what came over its sockets and then does as told."""

    def __init__(self, then: Media | None = None) -> None:
        self.port = 0
        self.requests: list[Request] = []
        self.streams: list[list[dict[str, Any]]] = []
        self._then = then

    async def __call__(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.requests.append(connection.request)
        messages: list[dict[str, Any]] = []
        self.streams.append(messages)
        messages += [json.loads(await connection.recv()) for _ in range(2)]
        if self._then:
            await self._then(connection)
        async for text in connection:
            messages.append(json.loads(text))

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/twilio/media"


@asynccontextmanager
async def media(then: Media | None = None) -> AsyncIterator[MediaServer]:
    handler = MediaServer(then)
    async with serve(handler, "127.0.0.1", 0) as server:
        handler.port = server.sockets[0].getsockname()[1]
        yield handler


async def close_at_once(connection: ServerConnection) -> None:
    await connection.close(1000)


def connect_to(url: str, after: str = "", **parameters: str) -> str:
    inner = "".join(f'<Parameter name="{name}" value="{value}"/>' for name, value in parameters.items())
    return f'<Response><Connect><Stream url="{url}">{inner}</Stream></Connect>{after}</Response>'


# --- straight to the socket ------------------------------------------------------------------------------


async def test_a_call_straight_to_the_socket_is_signed_and_paced_and_ends_with_stop() -> None:
    async with media() as server:
        options = TwilioCallOptions(
            to=server.url,
            auth_token=TOKEN,
            parameters={"token": "abc"},
            actions=(Silence(ms=400), PressKey(digit="1"), HangUp()),
        )
        result = await call_twilio(options)
    [messages] = server.streams
    assert [message["event"] for message in messages] == ["connected", "start", *["media"] * 20, "dtmf", "stop"]
    assert messages[1]["start"]["customParameters"] == {"token": "abc"}
    assert messages[1]["start"]["callSid"] == result.call_sid
    assert (result.ended_by, result.close_code, result.frames_sent) == ("caller", 1000, 20)
    signature = server.requests[0].headers["X-Twilio-Signature"]
    assert RequestValidator(TOKEN).compute_signature(server.url, {}) == signature
    assert result.violations == []


async def test_without_a_token_nothing_is_signed() -> None:
    async with media() as server:
        await call_twilio(TwilioCallOptions(to=server.url, actions=SHORT))
    assert "X-Twilio-Signature" not in server.requests[0].headers


async def test_a_call_ends_when_its_time_is_up() -> None:
    async with media() as server:
        result = await call_twilio(TwilioCallOptions(to=server.url, actions=(WaitForClose(),), max_duration_s=0.2))
    assert result.ended_by == "time"
    at_ms = {what: ms for ms, what in result.timeline}
    talked_ms = at_ms["caller hangs up"] - at_ms["stream started"]
    assert abs(result.frames_sent - talked_ms / 20) <= 2
    assert server.streams[0][-1]["event"] == "stop"


async def test_a_connection_that_breaks_off_is_told_as_lost() -> None:
    async def abort(connection: ServerConnection) -> None:
        connection.transport.abort()

    async with media(abort) as server:
        result = await call_twilio(TwilioCallOptions(to=server.url))
    assert (result.ended_by, result.close_code) == ("lost", 1006)


async def test_a_refused_upgrade_is_told_with_its_status() -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(403, "no")

    async with serve(MediaServer(), "127.0.0.1", 0, process_request=refuse) as server:
        port = server.sockets[0].getsockname()[1]
        result = await call_twilio(TwilioCallOptions(to=f"ws://127.0.0.1:{port}/"))
    assert (result.ended_by, result.http_status) == ("refused", 403)
    assert [(v.code, v.text) for v in result.violations] == [(31920, "upgrade was answered with 403")]
    result = await call_twilio(TwilioCallOptions(to=f"ws://127.0.0.1:{port}/"))
    assert [(v.code, v.text) for v in result.violations] == [(31901, "no connection: ConnectionRefusedError")]


def test_where_to_call_must_be_said_once() -> None:
    for options in (TwilioCallOptions(), TwilioCallOptions(to="ws://a/", voice="http://a/")):
        with pytest.raises(ValueError, match="^exactly one of to and voice says where to call$"):
            TwilioCall(options)


# --- by way of the webhook -------------------------------------------------------------------------------


async def test_the_answer_webhook_leads_to_the_stream_and_on_to_the_redirect() -> None:
    async with webhooks() as hooks, media(close_at_once) as server:
        redirect = "<Redirect>/twilio/fallback</Redirect>"
        hooks.answer("/twilio/voice", connect_to(server.url, redirect, token="one-time"))
        hooks.answer("/twilio/fallback", "<Response><Say>Goodbye.</Say><Hangup/></Response>")
        hooks.answer("/twilio/status", "")
        voice, status = f"{hooks.url}/twilio/voice", f"{hooks.url}/twilio/status"
        result = await call_twilio(TwilioCallOptions(voice=voice, status=status, auth_token=TOKEN))
    assert result.violations == []
    assert result.verbs == ["Connect", f"Redirect {hooks.url}/twilio/fallback", "Say Goodbye.", "Hangup"]
    assert result.requests == ["POST /twilio/voice 200", "POST /twilio/fallback 200", "POST /twilio/status 200"]
    assert (result.ended_by, result.close_code) == ("bridge", 1000)
    assert [(path, form["CallStatus"]) for path, form, _ in hooks.asked] == [
        ("/twilio/voice", "ringing"),
        ("/twilio/fallback", "in-progress"),
        ("/twilio/status", "completed"),
    ]
    validator = RequestValidator(TOKEN)
    for path, form, signature in hooks.asked:
        assert form["CallSid"] == result.call_sid and form["CallerCity"] == ""
        assert validator.validate(hooks.url + path, form, signature)
    assert server.streams[0][1]["start"]["customParameters"] == {"token": "one-time"}


async def test_a_stream_that_is_opened_again_goes_on_with_the_same_call() -> None:
    async with webhooks() as hooks, media(close_at_once) as server:
        hooks.answer("/voice", f'<Response><Connect action="/again"><Stream url="{server.url}"/></Connect></Response>')
        hooks.answer("/again", connect_to(server.url, "<Reject/>"))
        result = await call_twilio(TwilioCallOptions(voice=f"{hooks.url}/voice"))
    assert len(server.streams) == 2 and len(set(result.stream_sids)) == 2
    assert {stream[1]["start"]["callSid"] for stream in server.streams} == {result.call_sid}
    assert (result.verbs, result.ended_by) == (["Connect", "Connect", "Reject"], "bridge")


async def test_a_caller_who_hangs_up_ends_the_twiml_too() -> None:
    async with webhooks() as hooks, media() as server:
        hooks.answer("/voice", connect_to(server.url, "<Redirect>/fallback</Redirect>"))
        result = await call_twilio(TwilioCallOptions(voice=f"{hooks.url}/voice", actions=SHORT))
    assert (result.ended_by, result.verbs, len(hooks.asked)) == ("caller", ["Connect"], 1)


async def test_public_urls_are_signed_but_reached_at_the_given_address() -> None:
    public = "pbx.example.com/base"
    async with webhooks() as hooks:
        hooks.answer("/voice", connect_to(f"wss://{public}/media"))
        hooks.answer("/media", "", status=403)
        result = await call_twilio(
            TwilioCallOptions(voice=f"{hooks.url}/voice", public_url=f"https://{public}/", auth_token=TOKEN)
        )
    validator = RequestValidator(TOKEN)
    [(voice_path, form, voice_signature), (media_path, _, media_signature)] = hooks.asked
    assert (voice_path, media_path, result.http_status) == ("/voice", "/media", 403)
    assert validator.validate(f"https://{public}/voice", form, voice_signature)
    assert validator.compute_signature(f"wss://{public}/media", {}) == media_signature


@pytest.mark.parametrize(
    ("status", "kind", "body", "code", "text"),
    [
        (500, "text/plain", "", 11200, "POST /voice was answered with 500"),
        (200, "application/json", "{}", 12300, "POST /voice was not answered with XML"),
        (200, "text/xml", "<Response", 12100, "not XML: unclosed token: line 1, column 0"),
        (200, "application/xml", "<Response><Sing/></Response>", 12200, "<Sing> is no verb known here"),
    ],
)
async def test_answers_that_twilio_would_not_take_refuse_the_call(
    status: int, kind: str, body: str, code: int, text: str
) -> None:
    async with webhooks() as hooks:
        hooks.answer("/voice", body, status, kind)
        result = await call_twilio(TwilioCallOptions(voice=f"{hooks.url}/voice"))
    assert [(v.code, v.text) for v in result.violations] == [(code, text)]
    assert result.ended_by == "refused"


async def test_a_webhook_that_nobody_answers_is_told() -> None:
    async with webhooks() as hooks:
        pass
    result = await call_twilio(TwilioCallOptions(voice=f"{hooks.url}/voice"))
    assert [(v.code, v.text) for v in result.violations] == [(11200, "POST /voice: ConnectError")]


async def test_a_loop_of_redirects_ends() -> None:
    async with webhooks() as hooks:
        hooks.answer("/voice", "<Response><Redirect>/voice</Redirect></Response>")
        result = await call_twilio(TwilioCallOptions(voice=f"{hooks.url}/voice"))
    assert len(hooks.asked) == MAX_DOCUMENTS
    assert [(v.code, v.text) for v in result.violations] == [(11200, "more than 10 documents in one call")]
