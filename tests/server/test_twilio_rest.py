"""Twilio's REST client: what goes out, byte by byte, and what each answer means."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from typing import Any

import anyio
import httpx
import pytest
from twilio.http.http_client import HttpClient
from twilio.http.response import Response
from twilio.rest import Client

from bridge import __version__
from bridge.server.carrier_control import ControlError, ControlFault
from bridge.server.twilio_rest import MAX_ANSWER_BYTES, MAX_RETRY_AFTER_S, TwilioRest, TwilioRestOptions

ACCOUNT = "AC" + "1" * 32
SUB_ACCOUNT = "AC" + "2" * 32
CALL = "CA" + "3" * 32
TOKEN = "f" * 32
OPTIONS = TwilioRestOptions(ACCOUNT, TOKEN)
HANG_UP = [("Status", "completed")]
SECRETS = (TOKEN, "+1555", "key-secret", "<Say>")
UNIX = 1_790_000_000.0

Answer = httpx.Response | Exception | Callable[[], Any]


def error(status: int, code: int | None = None, headers: dict[str, str] | None = None) -> httpx.Response:
    """An answer as Twilio words it, with numbers in it."""
    body = {"code": code, "message": "Call from +15550100 cannot <Say>", "more_info": "https://x", "status": status}
    return httpx.Response(status, json=body, headers=headers)


def created() -> httpx.Response:
    return httpx.Response(201, json={"sid": CALL, "status": "queued", "to": "+15550111"})


class Twilio:
    """Twilio as a transport: gives the answers in order and keeps what it was asked."""

    def __init__(self, *answers: Answer, options: TwilioRestOptions = OPTIONS) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []
        self.rest = TwilioRest(options, transport=httpx.MockTransport(self.answer), sleep=self.sleep, unix=lambda: UNIX)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        response: httpx.Response = await answer()
        return response

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def hang_up(self, *, repeatable: bool = True) -> None:
        await self.rest.update_call(CALL, HANG_UP, repeatable=repeatable)

    async def place(self) -> str:
        return await self.rest.create_call([("To", "+15550111"), ("From", "+15550100")])


async def failure(attempt: Any) -> ControlError:
    """The error with which it ends; its words hold nothing that is no log's business."""
    with pytest.raises(ControlError) as caught:
        await attempt
    assert not any(secret in str(caught.value) for secret in SECRETS)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


# --- what goes out -----------------------------------------------------------------------------------------


async def test_an_update_byte_by_byte() -> None:
    twilio = Twilio(httpx.Response(200, json={"sid": CALL}))
    await twilio.rest.update_call(CALL, [("Twiml", '<Play digits="1#"/> é&'), ("A", ""), ("A", "2")])
    [request] = twilio.requests
    assert request.method == "POST"
    assert str(request.url) == f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/Calls/{CALL}.json"
    assert request.content == b"Twiml=%3CPlay+digits%3D%221%23%22%2F%3E+%C3%A9%26&A=&A=2"
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert request.headers["Authorization"] == "Basic " + base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()
    assert request.headers["User-Agent"] == f"telephony-bridge/{__version__}"
    assert request.headers["Accept-Encoding"] == "identity"
    await twilio.rest.aclose()


async def test_a_call_is_placed_and_named() -> None:
    twilio = Twilio(created())
    form = [("To", "+15550111"), ("StatusCallbackEvent", "initiated"), ("StatusCallbackEvent", "completed")]
    assert await twilio.rest.create_call(form) == CALL
    [request] = twilio.requests
    assert str(request.url) == f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/Calls.json"
    assert request.content == b"To=%2B15550111&StatusCallbackEvent=initiated&StatusCallbackEvent=completed"


@pytest.mark.parametrize(
    ("options", "account", "user", "password"),
    [
        (OPTIONS, SUB_ACCOUNT, ACCOUNT, TOKEN),
        (TwilioRestOptions(ACCOUNT, api_key="SK1", api_key_secret="key-secret"), "", "SK1", "key-secret"),
        (
            TwilioRestOptions(ACCOUNT, TOKEN, sub_account_tokens={SUB_ACCOUNT: "its-token"}),
            SUB_ACCOUNT,
            SUB_ACCOUNT,
            "its-token",
        ),
        (TwilioRestOptions(ACCOUNT, TOKEN, sub_account_tokens={SUB_ACCOUNT: "its-token"}), "", ACCOUNT, TOKEN),
    ],
)
async def test_who_asks(options: TwilioRestOptions, account: str, user: str, password: str) -> None:
    twilio = Twilio(httpx.Response(200, json={}), options=options)
    await twilio.rest.update_call(CALL, HANG_UP, account_sid=account)
    [request] = twilio.requests
    assert f"/Accounts/{account or ACCOUNT}/" in request.url.path
    assert request.headers["Authorization"] == "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_credentials_do_not_show_in_a_traceback() -> None:
    shown = repr(TwilioRestOptions(ACCOUNT, TOKEN, "SK1", "key-secret", {SUB_ACCOUNT: "its-token"}))
    assert not any(secret in shown for secret in (TOKEN, "key-secret", "its-token"))


class Recorded(HttpClient):  # type: ignore[misc]  # the vendor's library is not looked into
    """What the vendor's own library would send."""

    def __init__(self) -> None:
        super().__init__(None, False, None)
        self.url = ""
        self.data: dict[str, Any] = {}

    def request(self, method: str, url: str, **arguments: Any) -> Response:
        self.url, self.data = url, arguments["data"]
        return Response(201, json.dumps({"sid": CALL}))


@pytest.mark.parametrize("edge", ["", "dublin", "ashburn"])
@pytest.mark.parametrize("region", ["", "ie1", "us1"])
async def test_hosts_and_parameters_are_those_of_the_vendors_library(edge: str, region: str) -> None:
    recorded = Recorded()
    client = Client(ACCOUNT, TOKEN, region=region or None, edge=edge or None, http_client=recorded, environment={})
    client.calls(CALL).update(twiml="<Response/>")
    twilio = Twilio(httpx.Response(200, json={}), options=TwilioRestOptions(ACCOUNT, TOKEN, edge=edge, region=region))
    await twilio.rest.update_call(CALL, [("Twiml", "<Response/>")])
    assert str(twilio.requests[0].url) == recorded.url
    assert recorded.data == {"Twiml": "<Response/>"}


@pytest.mark.parametrize("base", ["http://127.0.0.1:9099/twilio", "http://127.0.0.1:9099/twilio/"])
async def test_a_base_url_of_ones_own_goes_before_regions(base: str) -> None:
    options = TwilioRestOptions(ACCOUNT, TOKEN, base_url=base, edge="dublin", region="ie1")
    twilio = Twilio(created(), options=options)
    await twilio.place()
    assert str(twilio.requests[0].url) == f"http://127.0.0.1:9099/twilio/2010-04-01/Accounts/{ACCOUNT}/Calls.json"


async def test_time_outs_redirects_and_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    client = TwilioRest(OPTIONS)._client
    assert client.timeout == httpx.Timeout(5.0)  # connect, read, write and pool
    assert not client.follow_redirects
    assert not client._mounts, "a proxy of the environment would read our token"
    await client.aclose()


# --- what never goes out -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        TwilioRestOptions(),
        TwilioRestOptions(ACCOUNT),
        TwilioRestOptions("", TOKEN),
        TwilioRestOptions(ACCOUNT, api_key="SK1"),
        TwilioRestOptions(ACCOUNT, api_key_secret="s"),
    ],
)
async def test_without_credentials(options: TwilioRestOptions) -> None:
    assert not options.ready
    twilio = Twilio(options=options)
    failed = await failure(twilio.hang_up())
    assert (failed.fault, str(failed)) == (ControlFault.REFUSED, "no credentials for Twilio's REST API are set")
    assert twilio.requests == []


@pytest.mark.parametrize("sid", ["", "../Messages", "CA1/../../x", "CA1?x=1", "CA 1", "C" * 65, "CÄ1"])
async def test_ids_that_would_lead_elsewhere(sid: str) -> None:
    twilio = Twilio()
    failed = await failure(twilio.rest.update_call(sid, HANG_UP))
    assert (failed.fault, str(failed)) == (ControlFault.REFUSED, "the id of the call is none of Twilio's")
    failed = await failure(twilio.rest.update_call(CALL, HANG_UP, account_sid=sid or "/"))
    assert (failed.fault, str(failed)) == (ControlFault.REFUSED, "the id of the account is none of Twilio's")
    assert twilio.requests == []


# --- what answers mean -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "fault", "code", "words"),
    [
        (error(404, 20404), ControlFault.GONE, 20404, "the call is over (404, code 20404)"),
        (httpx.Response(404, text="<html>"), ControlFault.GONE, None, "the call is over (404)"),
        (error(400, 20404), ControlFault.GONE, 20404, "the call is over (400, code 20404)"),
        (error(400, 21220), ControlFault.GONE, 21220, "the call is over (400, code 21220)"),
        (error(400, 21211), ControlFault.REFUSED, 21211, "Twilio refuses the request (400, code 21211)"),
        (error(401, 20003), ControlFault.REFUSED, 20003, "Twilio refuses the credentials (401, code 20003)"),
        (httpx.Response(403), ControlFault.REFUSED, None, "Twilio refuses the credentials (403)"),
        (httpx.Response(302), ControlFault.DOWN, None, "Twilio's REST API failed (302)"),
        (error(500, 20500), ControlFault.DOWN, 20500, "Twilio's REST API failed (500, code 20500)"),
        (httpx.Response(503, text="busy"), ControlFault.DOWN, None, "Twilio's REST API failed (503)"),
        (httpx.Response(200, text="<html>"), ControlFault.DOWN, None, "Twilio's answer (200) is no JSON of a call"),
        (httpx.Response(200, json=[]), ControlFault.DOWN, None, "Twilio's answer (200) is no JSON of a call"),
        (httpx.Response(200, json={"sid": 7}), ControlFault.DOWN, None, "Twilio's answer (200) is no JSON of a call"),
        (
            httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"{}")),
            ControlFault.DOWN,
            None,
            "Twilio's answer (200) is no JSON of a call",
        ),
        (httpx.Response(200, content=b"\xff"), ControlFault.DOWN, None, "Twilio's answer (200) is no JSON of a call"),
        (httpx.Response(200, text="[" * 60_000), ControlFault.DOWN, None, "Twilio's answer (200) is no JSON of a call"),
        (
            httpx.Response(200, text=json.dumps({"sid": "x" * MAX_ANSWER_BYTES})),
            ControlFault.DOWN,
            None,
            "Twilio's answer (200) is no JSON of a call",
        ),
    ],
)
async def test_answers_to_an_update(answer: Answer, fault: ControlFault, code: int | None, words: str) -> None:
    twilio = Twilio(answer)
    failed = await failure(twilio.hang_up(repeatable=False))
    assert (failed.fault, failed.code, str(failed)) == (fault, code, words)
    assert len(twilio.requests) == 1
    assert twilio.waits == []


async def test_an_account_that_is_not_here_is_no_call_that_is_over() -> None:
    failed = await failure(Twilio(error(404, 20404)).place())
    assert (failed.fault, failed.code) == (ControlFault.REFUSED, 20404)
    assert str(failed) == "Twilio knows no such account here; is the region right?"


@pytest.mark.parametrize("sid", ["", "../x"])
async def test_a_call_without_a_proper_id_may_have_been_placed(sid: str) -> None:
    failed = await failure(Twilio(httpx.Response(201, json={"sid": sid})).place())
    assert (failed.fault, str(failed)) == (ControlFault.DOWN, "Twilio's answer names no call")


async def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    read_bytes = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read_bytes
        while True:
            read_bytes += 1024
            yield b" " * 1024

    failed = await failure(Twilio(httpx.Response(200, content=endless())).hang_up())
    assert failed.fault is ControlFault.DOWN
    assert read_bytes <= MAX_ANSWER_BYTES + 1024


# --- what is tried again -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, 0.5),
        ({"Retry-After": "1"}, 1.0),
        ({"Retry-After": " 0 "}, 0.0),
        ({"Retry-After": formatdate(UNIX + 2, usegmt=True)}, 2.0),
        ({"Retry-After": formatdate(UNIX - 60, usegmt=True)}, 0.0),
    ],
)
@pytest.mark.parametrize("answer", [(429, 20429), (429, None), (400, 20429)])
async def test_too_many_requests_are_repeated_once_when_twilio_says(
    answer: tuple[int, int | None], headers: dict[str, str], wait_s: float
) -> None:
    twilio = Twilio(error(*answer, headers), created())
    assert await twilio.place() == CALL
    assert twilio.waits == [wait_s]
    assert twilio.requests[0].content == twilio.requests[1].content


async def test_too_many_requests_twice_is_busy() -> None:
    twilio = Twilio(error(429, 20429), error(429, 20429))
    failed = await failure(twilio.hang_up())
    assert (failed.fault, failed.code) == (ControlFault.BUSY, 20429)
    assert str(failed) == "Twilio takes no more requests right now (429, code 20429)"
    assert len(twilio.requests) == 2


@pytest.mark.parametrize("wanted", ["3", "9" * 5000, "soon", "-1", "1.5", "٣", formatdate(UNIX + 60, usegmt=True)])
async def test_a_wait_that_is_too_long_for_somebody_on_the_line_is_not_waited(wanted: str) -> None:
    assert MAX_RETRY_AFTER_S == 2.0
    headers = [(b"Retry-After", wanted.encode())]
    twilio = Twilio(httpx.Response(429, headers=headers, json={"code": 20429}))
    assert (await failure(twilio.hang_up())).fault is ControlFault.BUSY
    assert twilio.waits == []


@pytest.mark.parametrize("broken", [httpx.ReadError("x"), httpx.RemoteProtocolError("x"), httpx.WriteError("x")])
async def test_a_connection_that_breaks_places_no_second_call(broken: Exception) -> None:
    twilio = Twilio(broken)
    failed = await failure(twilio.place())
    assert (failed.fault, str(failed)) == (ControlFault.DOWN, "the connection to Twilio's REST API broke")
    assert len(twilio.requests) == 1


async def test_a_5xx_places_no_second_call() -> None:
    twilio = Twilio(error(500))
    assert (await failure(twilio.place())).fault is ControlFault.DOWN
    assert len(twilio.requests) == 1


@pytest.mark.parametrize("timeout", [httpx.ReadTimeout("x"), httpx.ConnectTimeout("x"), httpx.PoolTimeout("x")])
async def test_a_time_out_is_never_followed_by_another_attempt(timeout: Exception) -> None:
    for attempt in (Twilio.place, Twilio.hang_up):
        twilio = Twilio(timeout)
        failed = await failure(attempt(twilio))
        assert (failed.fault, str(failed)) == (ControlFault.DOWN, "Twilio did not answer within 5 s")
        assert len(twilio.requests) == 1


@pytest.mark.parametrize("first", [httpx.ReadError("x"), httpx.RemoteProtocolError("x"), error(503), error(500, 20500)])
async def test_what_may_be_done_twice_is_tried_twice(first: Answer) -> None:
    twilio = Twilio(first, httpx.Response(200, json={"sid": CALL}))
    await twilio.hang_up()
    assert twilio.waits == [0.1]
    twilio = Twilio(error(503), error(503))
    assert (await failure(twilio.hang_up())).fault is ControlFault.DOWN


async def test_a_refused_connection_is_tried_once_more_for_everything() -> None:
    twilio = Twilio(httpx.ConnectError("refused"), created())
    assert await twilio.place() == CALL
    twilio = Twilio(httpx.ConnectError("refused"), httpx.ConnectError("refused"))
    failed = await failure(twilio.place())
    assert (failed.fault, str(failed)) == (ControlFault.DOWN, "no connection to Twilio's REST API")


async def test_a_second_attempt_may_end_differently() -> None:
    twilio = Twilio(httpx.ConnectError("refused"), error(404, 20404))
    assert (await failure(twilio.hang_up())).fault is ControlFault.GONE


# --- on a real socket --------------------------------------------------------------------------------------


class Server:
    """An HTTP server on loopback that answers after ``delay_s``, or never, and counts connections."""

    def __init__(self, delay_s: float | None = 0.0) -> None:
        self.delay_s = delay_s
        self.connections = 0
        self.served: list[asyncio.Task[Any]] = []
        self.arrivals: list[float] = []
        self._stopping = asyncio.Event()

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.rest = TwilioRest(TwilioRestOptions(ACCOUNT, TOKEN, base_url=f"http://{host}:{port}", timeout_s=0.2))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.rest.aclose()
        self._stopping.set()
        self._server.close()
        await asyncio.gather(*self.served)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.served.append(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
                await reader.readexactly(int(length.split(b":")[1]))
                self.arrivals.append(time.monotonic())
                if self.delay_s is None:
                    await self._stopping.wait()
                    break
                await asyncio.sleep(self.delay_s)
                writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"sid": "CA99"}')
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


async def test_connections_are_kept_for_the_next_request() -> None:
    async with Server() as server:
        for _ in range(5):
            assert await server.rest.create_call([("To", "x")]) == "CA99"
        assert server.connections == 1


async def test_the_first_request_finds_everything_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the HTTP library loads at its first use would hold up all calls, and the hang-up."""
    asked = []
    monkeypatch.setattr(anyio, "get_cancelled_exc_class", lambda: asked.append("backend"))
    await TwilioRest(OPTIONS).aclose()
    assert asked == ["backend"]


def test_it_can_be_made_before_the_loop_runs() -> None:
    assert TwilioRest(OPTIONS).options is OPTIONS


async def test_a_server_that_does_not_answer_costs_no_more_than_the_time_out() -> None:
    async with Server(delay_s=None) as server:
        failed = await failure(server.rest.update_call(CALL, HANG_UP, repeatable=True))
        assert (failed.fault, str(failed)) == (ControlFault.DOWN, "Twilio did not answer within 0.2 s")
        assert len(server.arrivals) == 1


async def test_waits_between_attempts_count_towards_the_time_out() -> None:
    options = TwilioRestOptions(ACCOUNT, TOKEN, timeout_s=0.05)
    rest = TwilioRest(options, transport=httpx.MockTransport(lambda _: error(429, None, {"Retry-After": "2"})))
    assert (await failure(rest.update_call(CALL, HANG_UP))).fault is ControlFault.DOWN
    await rest.aclose()
