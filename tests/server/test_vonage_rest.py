"""Requests to Vonage: to whom, with which token, how long, how often, and what an answer means."""

from __future__ import annotations

import asyncio
import json

import httpx
import jwt
import pytest

from bridge.server.carrier_control import ControlError, ControlFault
from bridge.server.vonage_rest import VonageApiOptions, VonageRest, control_base
from tests.kit import logs
from tests.kit.vonage_api import APPLICATION, KEY, FakeApi

BASE = "https://api.nexmo.com"
BODY = {"action": "hangup"}
PATH = "/v1/calls/u1"


def token_id(request: httpx.Request) -> str:
    token = request.headers["authorization"].removeprefix("Bearer ")
    options = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(token, KEY.public_key(), ["RS256"], options=options)  # type: ignore[arg-type]
    assert claims["application_id"] == APPLICATION
    return str(claims["jti"])


async def failed(rest: VonageRest, method: str = "put") -> ControlError:
    with pytest.raises(ControlError) as caught:
        await getattr(rest, method)("", PATH, BODY)
    return caught.value


# --- where to ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "base"),
    [
        ("", BASE),
        ("https://api.nexmo.com/", BASE),
        ("https://api-eu-3.vonage.com", "https://api-eu-3.vonage.com"),
        (" HTTPS://API-EU-3.Vonage.com:443/ ", "https://api-eu-3.vonage.com"),
        ("https://api-us-1.nexmo.com", "https://api-us-1.nexmo.com"),
        ("http://api-eu-3.vonage.com", None),
        ("https://api-eu-3.vonage.com:8443", None),
        ("https://vonage.com", None),
        ("https://evilvonage.com", None),
        ("https://vonage.com.evil.example", None),
        ("https://api.vonage.com.", None),
        ("https://evil.example/api.vonage.com", None),
        ("https://evil.example#.vonage.com", None),
        ("https://evil.example?.vonage.com", None),
        ("https://evil.example\\.vonage.com", None),
        ("https://user@api.vonage.com", None),
        ("https://api.vonage.com@evil.example", None),
        ("https://api.vonage.com/v1", None),
        ("https://api..vonage.com", None),
        ("https://[::1].vonage.com", None),
        ("https://[", None),
        ("https://api.vonage.com:99999", None),
        ("https://evil.example%2f.vonage.com", None),
        ("https://ev\u0131l.vonage.com", None),
        ("//api.vonage.com", None),
        ("169.254.169.254", None),
    ],
)
def test_our_token_goes_to_vonage_only(region: str, base: str | None) -> None:
    assert control_base(region, BASE) == base


def test_the_operators_own_address_counts_as_a_region() -> None:
    assert control_base("http://127.0.0.1:8099/", "http://127.0.0.1:8099") == "http://127.0.0.1:8099"
    assert control_base("", "http://127.0.0.1:8099/vonage/") == "http://127.0.0.1:8099/vonage"
    assert control_base("http://127.0.0.1:8098", "http://127.0.0.1:8099") is None


async def test_a_forged_region_is_logged_and_not_asked() -> None:
    api = FakeApi()
    with logs.captured() as lines:
        await api.rest().put("https://evil.example", PATH, BODY)
    assert [url for _, url, _ in api.asked] == [BASE + PATH]
    assert [line["event"] for line in lines] == ["control_url_refused"]
    assert "evil" not in json.dumps(lines)


async def test_a_request_to_the_calls_region() -> None:
    api = FakeApi([httpx.Response(200, json={"message": "ok"})])
    answer = await api.rest().put("https://api-eu-3.vonage.com", PATH, BODY)
    assert json.loads(answer) == {"message": "ok"}
    assert api.asked == [("PUT", "https://api-eu-3.vonage.com/v1/calls/u1", {"action": "hangup"})]
    assert api.requests[0].headers["content-type"] == "application/json"
    assert token_id(api.requests[0]) == "j1"


async def test_the_configured_address() -> None:
    api = FakeApi()
    await api.rest(VonageApiOptions("http://127.0.0.1:9/x/")).post("", "/v1/calls", BODY)
    assert api.asked == [("POST", "http://127.0.0.1:9/x/v1/calls", BODY)]


# --- what an answer means ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (400, ControlFault.REFUSED),
        (403, ControlFault.REFUSED),
        (302, ControlFault.REFUSED),
        (404, ControlFault.GONE),
        (409, ControlFault.GONE),
        (410, ControlFault.GONE),
        (500, ControlFault.DOWN),
        (503, ControlFault.DOWN),
    ],
)
@pytest.mark.parametrize("method", ["put", "post"])
async def test_a_status_is_a_fault(status: int, fault: ControlFault, method: str) -> None:
    api = FakeApi([httpx.Response(status, json={"title": "Not Found", "detail": "no call from 447700900000"})])
    error = await failed(api.rest(), method)
    assert (error.fault, error.code) == (fault, status)
    assert str(error) == f"{method.upper()}: HTTP {status}: Not Found"
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"[]", b'{"title":7}', b'{"title":"call 447700900000"}', b'{"title":""}', b"\xff"]
)
async def test_an_errors_body_may_be_anything(content: bytes) -> None:
    error = await failed(FakeApi([httpx.Response(404, content=content)]).rest())
    assert str(error) == "PUT: HTTP 404"


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (httpx.ConnectError("to 10.0.0.1"), "PUT: ConnectError"),
        (httpx.ReadTimeout("slow"), "PUT: ReadTimeout"),
        (httpx.RemoteProtocolError("gone"), "PUT: RemoteProtocolError"),
    ],
)
async def test_no_answer_leaves_open_what_was_done(problem: Exception, words: str) -> None:
    api = FakeApi([problem])
    error = await failed(api.rest())
    assert (error.fault, str(error)) == (ControlFault.DOWN, words)
    assert len(api.requests) == 1


async def test_an_answer_is_waited_for_within_reason() -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    error = await failed(FakeApi().rest(VonageApiOptions(BASE, timeout_s=0.01), handle=never))
    assert (error.fault, str(error)) == (ControlFault.DOWN, "PUT: no answer in 0.01 s")


async def test_an_answer_is_read_within_reason() -> None:
    error = await failed(FakeApi([httpx.Response(200, content=b"x" * 65537)]).rest())
    assert (error.fault, str(error)) == (ControlFault.DOWN, "PUT: ReadError")


async def test_without_credentials_nothing_is_asked() -> None:
    api = FakeApi()
    rest = VonageRest(httpx.AsyncClient(transport=httpx.MockTransport(api.handle)), None)
    error = await failed(rest)
    assert error.fault is ControlFault.REFUSED
    assert str(error) == "VONAGE_APPLICATION_ID and VONAGE_PRIVATE_KEY are not set"
    assert not rest.has_credentials
    assert api.requests == []
    await rest.aclose()


# --- a second time -----------------------------------------------------------------------------------------


async def test_a_refused_token_is_made_anew_once() -> None:
    api = FakeApi([httpx.Response(401), httpx.Response(204)])
    rest = api.rest()
    await rest.put("", PATH, BODY)
    await rest.put("", PATH, BODY)
    assert [token_id(request) for request in api.requests] == ["j1", "j2", "j2"]
    api.answers = [httpx.Response(401), httpx.Response(401), httpx.Response(204)]
    error = await failed(rest)
    assert (error.fault, error.code) == (ControlFault.REFUSED, 401)
    assert len(api.requests) == 5


async def test_a_call_is_never_placed_twice() -> None:
    for answer in (httpx.Response(401), httpx.Response(429), httpx.Response(503), httpx.ReadTimeout("slow")):
        api = FakeApi([answer])
        await failed(api.rest(), "post")
        assert len(api.requests) == 1


async def test_a_placed_call_after_a_refused_token_has_a_new_one() -> None:
    api = FakeApi([httpx.Response(401)])
    rest = api.rest()
    await failed(rest, "post")
    await rest.post("", PATH, BODY)
    assert [token_id(request) for request in api.requests] == ["j1", "j2"]


@pytest.mark.parametrize(("asked", "waited"), [("1", [1.0]), ("0", [0.0]), (None, [0.5]), ("2", [2.0])])
async def test_too_many_requests_are_slowed_down_once(asked: str | None, waited: list[float]) -> None:
    headers = {} if asked is None else {"Retry-After": asked}
    api = FakeApi([httpx.Response(429, headers=headers), httpx.Response(204)])
    await api.rest().put("", PATH, BODY)
    assert api.waited == waited
    api.answers = [httpx.Response(429), httpx.Response(429)]
    error = await failed(api.rest())
    assert (error.fault, error.code) == (ControlFault.BUSY, 429)


@pytest.mark.parametrize("asked", ["3", "999", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "-1", "1.5"])
async def test_a_wait_that_is_no_use_to_a_call_is_not_waited(asked: str) -> None:
    api = FakeApi([httpx.Response(429, headers={"Retry-After": asked})])
    error = await failed(api.rest())
    assert error.fault is ControlFault.BUSY
    assert api.waited == []
