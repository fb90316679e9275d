"""The bridge on this machine: found, stood in for, or not to be had."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

import httpx
import pytest

from bridge.auth.twilio import sign_webhook
from bridge.doctor.standin import NAME, Who, judge_who, look_who, present_bridge, read_echo
from bridge.doctor.tools import DoctorOptions
from bridge.server.nonce import NONCE_PATH
from tests.kit.doctor import tcp_server, told, tools_for
from tests.kit.server import free_port

NONCE = "abcdefghijklmnop"


def answering(body: bytes) -> AbstractAsyncContextManager[int]:
    """Something that gives the same answer to every request; its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    return tcp_server(answer)


async def test_nobody_there_so_the_doctor_stands_in() -> None:
    port = free_port()
    async with tools_for(BRIDGE_PORT=str(port)) as tools:
        async with present_bridge(tools) as (finding, is_here):
            assert (told(finding), is_here) == (
                ("ok", f"does not run; the doctor listened at http://127.0.0.1:{port} in its place meanwhile", ""),
                True,
            )
            assert await look_who(tools) is Who.BRIDGE
            async with present_bridge(tools) as (running, also_here):
                assert (told(running), also_here) == (("ok", f"runs at http://127.0.0.1:{port}", ""), True)
        assert await look_who(tools) is Who.NOBODY


async def test_the_stand_in_takes_no_call() -> None:
    port, token = free_port(), "12345678901234567890123456789012"
    given = {"BRIDGE_PORT": str(port), "TWILIO_AUTH_TOKEN": token, "ELEVENLABS_AGENT_ID": "agent_1"}
    async with tools_for(None, given) as tools, present_bridge(tools):
        url = f"http://127.0.0.1:{port}/twilio/voice"
        form = {"CallSid": "CA1", "From": "+15550100", "To": "+15550199"}
        signature = sign_webhook(token, url, list(form.items()))
        response = await tools.http.post(url, data=form, headers={"X-Twilio-Signature": signature})
    assert response.status_code == 200
    assert '<Reject reason="busy"' in response.text


async def test_another_program() -> None:
    async with (
        answering(b"hello") as port,
        tools_for(BRIDGE_PORT=str(port)) as tools,
        present_bridge(tools) as (finding, is_here),
    ):
        assert (finding.name, is_here) == (NAME, False)
        assert told(finding) == (
            "failed",
            f"another program answers at http://127.0.0.1:{port}",
            "End that program, or set BRIDGE_PORT to a free port and point the proxy at it.",
        )


async def test_a_bridge_of_another_version() -> None:
    async with (
        answering(b'{"status":"ok","version":"0.1.0"}') as port,
        tools_for(BRIDGE_PORT=str(port)) as tools,
        present_bridge(tools) as (finding, is_here),
    ):
        assert is_here is False
        assert told(finding) == (
            "warning",
            f"runs at http://127.0.0.1:{port}, but is of another version than this doctor",
            "Restart it with this version; whether PUBLIC_URL leads to it cannot be seen until then.",
        )


async def test_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.doctor.standin.LOCAL_TIMEOUT_S", 0.05)

    async def silent(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError(request)

    async with tools_for() as tools:
        tools.http = httpx.AsyncClient(transport=httpx.MockTransport(silent))
        assert await look_who(tools) is Who.SILENT
    assert told(judge_who(Who.SILENT, "http://127.0.0.1:8080")) == (
        "failed",
        "something holds http://127.0.0.1:8080 open and does not answer",
        "Look at that process, restart it.",
    )


async def test_one_that_speaks_no_http() -> None:
    def broken(_request: httpx.Request) -> httpx.Response:
        raise httpx.RemoteProtocolError("x")

    async with tools_for(broken) as tools:
        assert await look_who(tools) is Who.STRANGER


async def test_a_port_that_cannot_be_had() -> None:
    async with tools_for(BRIDGE_HOST="192.0.2.1") as tools:
        tools.http = httpx.AsyncClient(transport=httpx.MockTransport(refused))
        async with present_bridge(tools) as (finding, is_here):
            assert is_here is False
            assert told(finding) == (
                "failed",
                "does not run, and http://192.0.2.1:8080 cannot be opened: Cannot assign requested address",
                "Set BRIDGE_HOST and BRIDGE_PORT to a free address of this machine.",
            )


def refused(_request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


async def test_nothing_is_opened_where_the_operator_named_the_bridge() -> None:
    async with (
        tools_for(refused, options=DoctorOptions(at="http://bridge:8080")) as tools,
        present_bridge(tools) as (finding, is_here),
    ):
        assert is_here is False
        assert told(finding) == (
            "failed",
            "nobody answers at http://bridge:8080",
            "Start the bridge there, or leave --at away.",
        )


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"nonce":"other","proof":"p","target":"t"}', b'{"nonce":1}', b"\xff\xfe"]
)
def test_what_is_no_echo(body: bytes) -> None:
    assert read_echo(body, NONCE) is None


def test_the_path_is_well_known() -> None:
    assert NONCE_PATH == "/.well-known/telephony-bridge"
