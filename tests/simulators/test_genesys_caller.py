"""The Genesys caller over loopback, against small servers that behave and misbehave."""

from __future__ import annotations

import asyncio
import base64
import json
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from http_message_signatures import HTTPMessageVerifier, HTTPSignatureKeyResolver, algorithms
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from bridge.media.format import ULAW_8K
from bridge.simulators.genesys_caller import GenesysCall, GenesysCallOptions, call_genesys
from bridge.simulators.genesys_limits import Limits
from bridge.simulators.genesys_signature import REFERENCE_ORDER
from bridge.simulators.speech import tone
from bridge.simulators.twilio_line import HangUp, PressKey, Silence, WaitForAgentEnd, WaitForClose

pytestmark = pytest.mark.e2e

API_KEY = "SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh"
SECRET = "TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU="
AGENT = tone(440, ULAW_8K, 500)
QUICK = (Silence(ms=100), HangUp())
NULL_UUID = "00000000-0000-0000-0000-000000000000"


class Talk:
    """A server's end of one session; ``messages`` is what came."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.messages: list[dict[str, Any]] = []
        self.audio = bytearray()
        self.seq = self.clientseq = 0

    async def send(self, kind: str, parameters: dict[str, Any] | None = None, **changes: Any) -> None:
        self.seq += 1
        message = {
            "version": "2",
            "id": self.messages[0]["id"],
            "type": kind,
            "seq": self.seq,
            "clientseq": self.clientseq,
            "parameters": parameters or {},
            **changes,
        }
        await self.connection.send(json.dumps(message))

    async def opened(self) -> None:
        await self.send("opened", {"media": self.messages[0]["parameters"]["media"][:1]})

    async def play(self, audio: bytes) -> None:
        await self.connection.send(audio)

    async def receive(self) -> dict[str, Any] | None:
        """The next text message (pings are answered, audio is kept); None once the client has closed the socket."""
        async for message in self.connection:
            if isinstance(message, bytes):
                self.audio += message
                continue
            body: dict[str, Any] = json.loads(message)
            self.clientseq = body["seq"]
            self.messages.append(body)
            if body["type"] != "ping":
                return body
            await self.send("pong")
        return None

    async def until(self, kind: str) -> dict[str, Any]:
        while True:
            message = await self.receive()
            assert message is not None, f"the client closed the socket before {kind}"
            if message["type"] == kind:
                return message

    async def serve(self) -> None:
        """Answer ``close`` and wait for the client to close the socket."""
        await self.until("close")
        await self.send("closed")
        assert await self.receive() is None


Behaviour = Callable[[Talk], Awaitable[None]]


class Server:
    """Keeps the sessions that came over its sockets."""

    def __init__(self, behave: Behaviour) -> None:
        self.port = 0
        self.requests: list[Request] = []
        self.talks: list[Talk] = []
        self._behave = behave

    async def __call__(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.requests.append(connection.request)
        talk = Talk(connection)
        self.talks.append(talk)
        await talk.until("open")
        await self._behave(talk)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/genesys/agent_1"


@asynccontextmanager
async def server(behave: Behaviour, **options: Any) -> AsyncIterator[Server]:
    handler = Server(behave)
    async with serve(handler, "127.0.0.1", 0, **options) as running:
        handler.port = running.sockets[0].getsockname()[1]
        yield handler


async def behave_well(talk: Talk) -> None:
    await talk.opened()
    await talk.serve()


class Waits:
    """A sleep that only writes down."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


# --- good servers ----------------------------------------------------------------------------------------


async def test_a_call_with_a_bot_that_speaks_listens_and_hands_over(tmp_path: Path) -> None:
    async def bot(talk: Talk) -> None:
        await talk.opened()
        await talk.play(AGENT)
        await talk.until("playback_completed")
        await talk.until("dtmf")
        await talk.send("event", {"entities": [{"type": "bot_turn_response", "data": {"disposition": "match"}}]})
        await talk.send("disconnect", {"reason": "completed", "outputVariables": {"city": "Ulm"}})
        await talk.serve()

    recording = tmp_path / "call.wav"
    async with server(bot) as running:
        result = await call_genesys(
            GenesysCallOptions(
                to=running.url,
                input_variables={"tier": "gold"},
                caller_name="Ada",
                actions=(WaitForAgentEnd(quiet_ms=200), PressKey(digit="7"), WaitForClose()),
                recording=recording,
            )
        )
    assert result.breaches == []
    assert (result.ended_by, result.architect_path, result.output_variables) == ("server", "success", {"city": "Ulm"})
    assert result.opened_ms is not None and result.opened_ms < 1000
    assert result.heard_tones_hz() == [pytest.approx(440, abs=1)]
    assert result.playback_events == ["playback_started", "playback_completed"]
    [talk] = running.talks
    assert [message["type"] for message in talk.messages] == [
        "open",
        "playback_started",
        "playback_completed",
        "dtmf",
        "close",
    ]
    assert [message["seq"] for message in talk.messages] == [1, 2, 3, 4, 5]
    parameters = talk.messages[0]["parameters"]
    assert parameters["inputVariables"] == {"tier": "gold"}
    assert parameters["participant"]["ani"] == "tel:+15550100" and parameters["participant"]["aniName"] == "Ada"
    assert len(talk.audio) % 1600 == 0 and len(talk.audio) >= 4800
    with wave.open(str(recording)) as file:
        assert (file.getnchannels(), file.getnframes()) == (2, len(result.heard))


async def test_a_probe() -> None:
    async with server(behave_well) as running:
        result = await call_genesys(GenesysCallOptions(to=running.url, probe=True, input_variables={"a": "b"}))
    assert (result.ended_by, result.succeeded, result.frames_sent) == ("probe", True, 0)
    [talk] = running.talks
    assert [message["type"] for message in talk.messages] == ["open", "close"]
    parameters = talk.messages[0]["parameters"]
    assert parameters["conversationId"] == parameters["participant"]["id"] == NULL_UUID
    assert parameters["participant"] == {"id": NULL_UUID, "ani": "", "aniName": "", "dnis": ""}


async def test_pings_are_sent_and_answered() -> None:
    async with server(behave_well) as running:
        result = await call_genesys(GenesysCallOptions(to=running.url, actions=(Silence(ms=1400), HangUp())))
    assert len(result.rtt_ms) == 2 and max(result.rtt_ms) < 1000
    assert result.breaches == []


async def test_a_call_ends_when_its_time_is_up() -> None:
    async with server(behave_well) as running:
        options = GenesysCallOptions(to=running.url, actions=(WaitForClose(),), max_duration_s=0.3)
        result = await call_genesys(options)
    assert (result.ended_by, result.breaches) == ("time", [])
    assert running.talks[0].messages[-1]["parameters"] == {"reason": "end"}


# --- headers and signature -------------------------------------------------------------------------------


class Resolver(HTTPSignatureKeyResolver):
    def resolve_public_key(self, key_id: str) -> bytes:
        assert key_id == API_KEY
        return base64.b64decode(SECRET)


class HttpRequest:
    """What the library reads of a request."""

    def __init__(self, request: Request, base: str) -> None:
        self.method, self.url, self.headers = "GET", base + request.path, dict(request.headers.raw_items())


async def test_headers_without_a_key() -> None:
    async with server(behave_well) as running:
        call = GenesysCall(GenesysCallOptions(to=running.url, actions=QUICK, organization_id="org"))
        result = await call.run()
    headers = running.requests[0].headers
    assert headers["Audiohook-Organization-Id"] == "org"
    assert headers["Audiohook-Session-Id"] == running.talks[0].messages[0]["id"] == result.session_id
    assert len(headers["Audiohook-Correlation-Id"]) == 36
    assert headers["Audiohook-Retry-Attempt"] == "0"
    assert "X-API-KEY" not in headers and "Signature" not in headers
    assert "Sec-WebSocket-Protocol" not in headers and "Sec-WebSocket-Extensions" not in headers


@pytest.mark.parametrize("public_url", ["", "https://Bridge.example.com/phone/"])
async def test_the_request_is_signed(public_url: str) -> None:
    async with server(behave_well) as running:
        result = await call_genesys(
            GenesysCallOptions(
                to=f"{running.url}?",
                connector_id="version=1",
                api_key=API_KEY,
                client_secret=SECRET,
                public_url=public_url,
                signature_order=REFERENCE_ORDER,
                actions=QUICK,
            )
        )
        base = "http://" + (running.requests[0].headers["Host"])
    assert result.succeeded
    [request] = running.requests
    assert request.path == "/genesys/agent_1?version=1"
    assert request.headers["X-API-KEY"] == API_KEY
    verifier = HTTPMessageVerifier(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=Resolver())
    seen = HttpRequest(request, base if not public_url else "https://bridge.example.com/phone")
    [verified] = verifier.verify(seen, max_age=None)
    assert len(str(verified.parameters["nonce"])) == 24
    assert int(verified.parameters["expires"]) == int(verified.parameters["created"]) + 30


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"to": "http://h/"}, "to must begin with ws:// or wss://"),
        (
            {"media": "video"},
            "media must be one of external, both, stereo, inverted, internal, l16, l16-first, none",
        ),
        ({"retries": 6}, "retries must be from 0 to 5"),
        ({"client_secret": SECRET}, "client_secret needs api_key: the signature names it"),
        ({"api_key": "k", "client_secret": "!"}, "the client secret is not base64"),
        ({"public_url": "bridge.example.com"}, "public_url must begin with https:// or http://"),
    ],
)
def test_options_that_do_not_work(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError) as caught:
        GenesysCall(GenesysCallOptions(**{"to": "ws://h/", **options}))
    assert str(caught.value) == text


def test_a_secret_is_not_shown() -> None:
    assert SECRET not in repr(GenesysCallOptions(to="ws://h/", client_secret=SECRET))


def test_addresses_keep_their_scheme() -> None:
    call = GenesysCall(GenesysCallOptions(to="ws://h/", caller="sip:ada@example.com", called=""))
    parameters = call.setup.open_parameters()
    participant = parameters["participant"]
    assert isinstance(participant, dict)
    assert (participant["ani"], participant["dnis"]) == ("sip:ada@example.com", "")


# --- bad servers -----------------------------------------------------------------------------------------


async def breach_of(behave: Behaviour, **options: Any) -> tuple[str, list[str], Server]:
    async with server(behave) as running:
        actions = options.pop("actions", (Silence(ms=3000), HangUp()))
        result = await call_genesys(GenesysCallOptions(to=running.url, actions=actions, **options))
    return result.ended_by, [breach.text for breach in result.breaches], running


async def test_frames_of_20_ms_end_the_session() -> None:
    async def chatter(talk: Talk) -> None:
        await talk.opened()
        for _ in range(40):
            await talk.play(AGENT[:160])
        await talk.serve()

    ended_by, texts, running = await breach_of(chatter)
    assert (ended_by, texts) == ("breach", ["Rate limit of binary messages exceeded"])
    error, close = running.talks[0].messages[-2:]
    assert error["parameters"]["code"] == 429
    assert close["parameters"] == {"reason": "error"}


async def test_a_mute_server_is_given_up() -> None:
    async def mute(talk: Talk) -> None:
        await talk.serve()

    ended_by, texts, running = await breach_of(mute, limits=Limits(open_timeout_s=0.2))
    assert (ended_by, texts) == ("breach", ["Timed out waiting for opened response"])
    assert [message["type"] for message in running.talks[0].messages] == ["open", "error", "close"]


async def test_a_server_that_does_not_answer_close() -> None:
    async def stubborn(talk: Talk) -> None:
        await talk.opened()
        while await talk.receive() is not None:
            pass

    ended_by, texts, _ = await breach_of(stubborn, limits=Limits(close_timeout_s=0.2), actions=QUICK)
    assert (ended_by, texts) == ("caller", ["Timed out waiting for closed response"])


@pytest.mark.parametrize("after", ["opened", "disconnect", "closed"])
async def test_a_server_that_closes_the_socket(after: str) -> None:
    async def hasty(talk: Talk) -> None:
        await talk.opened()
        if after == "disconnect":
            await talk.send("disconnect", {"reason": "completed"})
        if after == "closed":
            await talk.until("close")
            await talk.send("closed")
        await talk.connection.close(1000)

    ended_by, texts, _ = await breach_of(hasty, actions=QUICK if after == "closed" else (WaitForClose(),))
    state = {"opened": "open", "disconnect": "closing", "closed": "closed"}[after]
    assert texts == [f"the socket was closed with 1000 in state {state}, before the client closed it"]
    assert ended_by == ("caller" if after == "closed" else "lost")


async def test_a_connection_that_breaks_off() -> None:
    async def abort(talk: Talk) -> None:
        talk.connection.transport.abort()

    ended_by, texts, _ = await breach_of(abort)
    assert ended_by == "lost"
    assert texts == ["the socket was closed with 1006 in state opening, before the client closed it"]


# --- retries ---------------------------------------------------------------------------------------------


async def test_a_full_server_is_tried_again_until_it_has_room() -> None:
    count = 0

    async def full_at_first(talk: Talk) -> None:
        nonlocal count
        count += 1
        if count == 3:
            await behave_well(talk)
        else:
            await talk.send("disconnect", {"reason": "error", "info": "full"})
            await talk.serve()

    waits = Waits()
    async with server(full_at_first) as running:
        options = GenesysCallOptions(to=running.url, actions=QUICK, retries=5, api_key=API_KEY, client_secret=SECRET)
        result = await GenesysCall(options, sleep=waits).run()
    assert (result.succeeded, result.ended_by, result.disconnect) == (True, "caller", None)
    assert [(attempt.ended_by, attempt.waited_s) for attempt in result.attempts] == [
        ("server", 0.0),
        ("server", 1.0),
        ("caller", 2.0),
    ]
    assert waits.seconds == [1.0, 2.0]
    headers = [request.headers for request in running.requests]
    assert [each["Audiohook-Retry-Attempt"] for each in headers] == ["0", "1", "2"]
    assert len({each["Audiohook-Session-Id"] for each in headers}) == 1
    assert len({each["Signature-Input"] for each in headers}) == 3


@pytest.mark.parametrize("status", [401, 404, 503, 302])
async def test_an_answer_with_a_status_is_final(status: int) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        response = connection.respond(status, "no")
        response.headers["Location"] = "/elsewhere"
        return response

    waits = Waits()
    async with server(behave_well, process_request=refuse) as running:
        result = await GenesysCall(GenesysCallOptions(to=running.url, retries=5), sleep=waits).run()
    assert (result.ended_by, result.http_status, waits.seconds) == ("refused", status, [])
    assert result.refusal == f"upgrade was answered with {status}"
    assert (running.requests, result.succeeded) == ([], False)


async def test_nobody_there_is_tried_again(unused_tcp_port: int) -> None:
    waits = Waits()
    options = GenesysCallOptions(to=f"ws://127.0.0.1:{unused_tcp_port}/", retries=2)
    result = await GenesysCall(options, sleep=waits).run()
    assert (result.ended_by, waits.seconds, len(result.attempts)) == ("refused", [1.0, 2.0], 3)
    assert result.refusal == "no connection: ConnectionRefusedError"


async def test_no_retry_after_completed() -> None:
    async def overflow(talk: Talk) -> None:
        await talk.send("disconnect", {"reason": "completed", "outputVariables": {"overflow": "true"}})
        await talk.serve()

    waits = Waits()
    async with server(overflow) as running:
        result = await GenesysCall(GenesysCallOptions(to=running.url, retries=5), sleep=waits).run()
    assert (result.output_variables, waits.seconds, len(result.attempts)) == ({"overflow": "true"}, [], 1)


async def test_breaches_of_all_attempts_are_kept() -> None:
    async def mute(talk: Talk) -> None:
        await talk.serve()

    async with server(mute) as running:
        options = GenesysCallOptions(to=running.url, retries=1, limits=Limits(open_timeout_s=0.1))
        result = await GenesysCall(options, sleep=Waits()).run()
    assert len(result.attempts) == 2
    assert [breach.text for breach in result.breaches] == ["Timed out waiting for opened response"] * 2


# --- load ------------------------------------------------------------------------------------------------


async def test_many_calls_at_once() -> None:
    async with server(behave_well) as running:
        options = GenesysCallOptions(to=running.url, actions=(Silence(ms=600), HangUp()), keep_audio=False)
        results = await asyncio.gather(*(call_genesys(options) for _ in range(40)))
    assert [result.breaches for result in results] == [[]] * 40
    assert len({result.session_id for result in results}) == 40
    assert {len(talk.audio) for talk in running.talks} == {4800}
