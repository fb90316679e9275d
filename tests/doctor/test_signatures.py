"""Signature self-tests: against a bridge, through proxies that break them, and every verdict."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from twilio.request_validator import RequestValidator

from bridge.auth.vonage import VonageKeys, verify_webhook
from bridge.doctor.findings import Finding
from bridge.doctor.signatures import (
    check_signatures_genesys,
    check_signatures_twilio,
    check_signatures_vonage,
    check_twilio_webhook,
    check_vonage,
    check_vonage_socket,
    judge_probe,
    judge_socket,
    judge_webhook,
    twilio_headers,
)
from bridge.doctor.standin import present_bridge
from bridge.simulators.genesys_result import GenesysResult
from bridge.simulators.genesys_wire import Breach
from tests.kit.doctor import NOW_S, tcp_server, told, tools_for
from tests.kit.server import free_port, settings_for

TOKEN = "12345678901234567890123456789012"
GENESYS = {"GENESYS_API_KEY": "genesys-key", "GENESYS_CLIENT_SECRET": "c2VjcmV0LXNlY3JldA=="}
PROXY_MEND = (
    "Have the proxy pass host, path and query on unchanged, and set PUBLIC_URL to the letter as the carrier was told."
)
UPGRADE_MEND = (
    "Have the proxy pass WebSocket upgrades (nginx: proxy_http_version 1.1, headers Upgrade $http_upgrade and "
    "Connection upgrade)."
)
REACH_MEND = "Make PUBLIC_URL reachable first: see what was found about it above."
STRANGER_MEND = "Find out what answers there: whoever knows the address could place calls at your expense."


async def examined(public_url: str = "", **given: str) -> list[Finding]:
    """Both carriers' findings of a bridge with these settings; ``public_url`` = where it is believed to be."""
    port = free_port()
    if public_url:
        given["PUBLIC_URL"] = public_url.format(port=port)
    async with tools_for(None, given, BRIDGE_PORT=str(port)) as tools, present_bridge(tools) as (_, is_here):
        return [*await check_signatures_twilio(tools, is_here), await check_signatures_genesys(tools, is_here)]


@pytest.mark.parametrize(
    "secrets",
    [
        {"TWILIO_AUTH_TOKEN": f"{TOKEN},old-token"},
        {"TWILIO_SHARED_KEYS": "key1=secret-secret"},
        {"TWILIO_AUTH_TOKEN": TOKEN, "TWILIO_SHARED_KEYS": "key1=secret-secret"},
        {"TWILIO_AUTH_TOKEN": TOKEN, "TWILIO_ACCOUNT_SID": "AC" + "a" * 32},
    ],
)
async def test_a_bridge_lets_in_what_is_signed_and_nothing_else(secrets: dict[str, str]) -> None:
    webhook, socket, probe = await examined(**secrets, **GENESYS)
    assert told(webhook) == ("ok", "a signed request is let in, a wrong one is refused", "")
    assert told(socket) == ("ok", "upgrades pass; a signed one is let in, a wrong one is refused", "")
    assert told(probe) == ("ok", "goes well; a wrong key is refused", "")


async def test_genesys_without_signature_and_when_it_is_full() -> None:
    *_, probe = await examined(GENESYS_API_KEY="genesys-key", GENESYS_WHEN_FULL="refuse")
    assert told(probe) == ("ok", "goes well; a wrong key is refused", "")


def relay_without_upgrades(upstream_port: int) -> AbstractAsyncContextManager[int]:
    """A TCP relay before the bridge that takes the header for upgrades off; its port."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data.replace(b"\r\nUpgrade: websocket", b""))
        writer.write_eof()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", upstream_port)
        try:
            await asyncio.gather(copy(reader, up_writer), copy(up_reader, writer))
        finally:
            up_writer.close()

    return tcp_server(serve)


async def test_a_proxy_that_passes_no_upgrades() -> None:
    port = free_port()
    async with relay_without_upgrades(port) as public_port:
        given = {"TWILIO_AUTH_TOKEN": TOKEN, "PUBLIC_URL": f"http://127.0.0.1:{public_port}", **GENESYS}
        async with tools_for(None, given, BRIDGE_PORT=str(port)) as tools, present_bridge(tools) as (_, is_here):
            webhook, socket = await check_signatures_twilio(tools, is_here)
            probe = await check_signatures_genesys(tools, is_here)
    assert webhook.verdict.value == "ok"
    assert told(socket) == ("failed", "/twilio/media does not become a WebSocket (HTTP 404)", UPGRADE_MEND)
    assert told(probe) == ("failed", "/genesys/ does not become a WebSocket (HTTP 404)", UPGRADE_MEND)


async def test_a_public_url_and_a_secret_that_the_running_bridge_does_not_have() -> None:
    port = free_port()
    running = {"TWILIO_AUTH_TOKEN": TOKEN, "PUBLIC_URL": "https://old.example.com", **GENESYS}
    running["GENESYS_CLIENT_SECRET"] = "b2xkLXNlY3JldA=="
    async with tools_for(None, running, BRIDGE_PORT=str(port)) as theirs, present_bridge(theirs):
        ours = {**running, **GENESYS, "PUBLIC_URL": f"http://127.0.0.1:{port}"}
        async with tools_for(None, ours, BRIDGE_PORT=str(port)) as tools:
            webhook, socket = await check_signatures_twilio(tools, True)
            probe = await check_signatures_genesys(tools, True)
    assert told(webhook) == ("failed", "/twilio/status refuses a rightly signed request (HTTP 403)", PROXY_MEND)
    assert told(socket) == ("failed", "/twilio/media refuses a rightly signed upgrade (HTTP 403)", PROXY_MEND)
    assert told(probe) == ("failed", "/genesys/ refuses a rightly signed probe (HTTP 401)", PROXY_MEND)


async def test_nobody_there() -> None:
    given = {"TWILIO_AUTH_TOKEN": TOKEN, "PUBLIC_URL": f"http://127.0.0.1:{free_port()}", **GENESYS}
    async with tools_for(None, given) as tools:
        webhook, socket = await check_signatures_twilio(tools, False)
        probe = await check_signatures_genesys(tools, False)
    assert told(webhook) == (
        "failed", f"{given['PUBLIC_URL']}/twilio/status cannot be reached: no connection", REACH_MEND,
    )  # fmt: skip
    assert told(socket) == (
        "failed", "no connection to /twilio/media: ConnectionRefusedError", f"{REACH_MEND} {UPGRADE_MEND}",
    )  # fmt: skip
    assert told(probe) == ("failed", "no connection: ConnectionRefusedError", f"{REACH_MEND} {UPGRADE_MEND}")


@pytest.mark.parametrize(
    ("given", "is_here", "reasons"),
    [
        ({}, True, ["TWILIO_AUTH_TOKEN is not set", "GENESYS_API_KEY is not set"]),
        (
            {"BRIDGE_AUTH": "off", "TWILIO_AUTH_TOKEN": TOKEN, **GENESYS}, True,
            ["BRIDGE_AUTH is off, so nothing is verified"] * 2,
        ),
        ({"TWILIO_AUTH_TOKEN": TOKEN, **GENESYS}, False, ["there is no bridge to ask"] * 2),
    ],
)  # fmt: skip
async def test_what_is_not_tested(given: dict[str, str], is_here: bool, reasons: list[str]) -> None:
    async with tools_for(None, given) as tools:
        webhook, socket = await check_signatures_twilio(tools, is_here)
        probe = await check_signatures_genesys(tools, is_here)
    assert [told(each) for each in (webhook, socket, probe)] == [
        ("skipped", reason, "") for reason in (reasons[0], *reasons)
    ]


# --- verdicts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signed", "wrong", "seen", "advice"),
    [
        (403, 403, "/twilio/status refuses a rightly signed request (HTTP 403)", PROXY_MEND),
        (404, 404, "/twilio/status answers a signed request with HTTP 404", PROXY_MEND),
        (204, 204, "/twilio/status answers a wrongly signed request with HTTP 204", STRANGER_MEND),
    ],
)
def test_webhooks(signed: int, wrong: int, seen: str, advice: str) -> None:
    assert told(judge_webhook("n", "/twilio/status", signed, wrong)) == ("failed", seen, advice)


def test_sockets() -> None:
    assert told(judge_socket("n", "/m", 503, 403, "")) == (
        "warning", "/m has no room or is shutting down (HTTP 503)", "Look again when it is less busy.",
    )  # fmt: skip
    assert told(judge_socket("n", "/m", 101, 101, "")) == (
        "failed", "/m lets in a wrongly signed upgrade", STRANGER_MEND,
    )  # fmt: skip


def test_probes() -> None:
    assert told(judge_probe(GenesysResult(ended_by="refused", http_status=503), 401)) == (
        "warning", "/genesys/ has no room or is shutting down (HTTP 503)", "Look again when it is less busy.",
    )  # fmt: skip
    log = "Look at the bridge's log for the session's end."
    assert told(judge_probe(GenesysResult(ended_by="lost"), 401)) == (
        "failed", "the probe went wrong: ended by lost", log,
    )  # fmt: skip
    breach = cast(Breach, SimpleNamespace(code="rate", text="too many"))
    assert told(judge_probe(GenesysResult(ended_by="probe", breaches=[breach]), 401)) == (
        "failed", "the probe went wrong: breach rate", log,
    )  # fmt: skip
    assert told(judge_probe(GenesysResult(ended_by="probe"), 0)) == (
        "failed", "a probe with a wrong key got HTTP 101", STRANGER_MEND,
    )  # fmt: skip


def test_twilios_own_validator_takes_the_signature() -> None:
    settings = settings_for({"TWILIO_AUTH_TOKEN": TOKEN})
    url, form = "https://bridge.example.com/twilio/status", [("CallSid", "CA1"), ("AccountSid", "AC1")]
    signature = twilio_headers(settings, url, form)["x-twilio-signature"]
    assert RequestValidator(TOKEN).validate(url, dict(form), signature)


async def test_the_report_is_about_a_call_that_does_not_exist() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(204 if len(asked) == 1 else 403)

    async with tools_for(answer, TWILIO_AUTH_TOKEN=TOKEN, PUBLIC_URL="https://b.example.com/x") as tools:
        finding = await check_twilio_webhook(tools)
    assert finding.verdict.value == "ok"
    assert str(asked[0].url) == "https://b.example.com/x/twilio/status"
    zeros = "0" * 32
    assert asked[0].content.decode() == f"AccountSid=AC{zeros}&CallSid=CA{zeros}&CallStatus=ringing"


# --- Vonage ------------------------------------------------------------------------------------------------


async def test_vonages_events_are_signed_as_its_verifier_wants() -> None:
    keys = VonageKeys(("signature-secret",))
    verdicts: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        verdicts.append(verify_webhook(keys, headers, request.content, NOW_S))
        return httpx.Response(401 if verdicts[-1].problem else 204)

    async with tools_for(answer, PUBLIC_URL="https://b.example.com") as tools:
        tools.unix = lambda: NOW_S
        good = await check_vonage(tools, "signature-secret")
        bad = await check_vonage(tools, "another-secret")
    assert told(good) == ("ok", "a signed request is let in, a wrong one is refused", "")
    assert told(bad) == ("failed", "/vonage/events refuses a rightly signed request (HTTP 401)", PROXY_MEND)


async def test_a_bridge_lets_in_vonages_upgrade_and_no_other() -> None:
    port = free_port()
    given = {"VONAGE_SIGNATURE_SECRET": "signature-secret,old-secret", "BRIDGE_PORT": str(port)}
    async with tools_for(None, given) as tools, present_bridge(tools) as (_, is_here):
        _, socket = await check_signatures_vonage(tools, is_here)
        wrong = await check_vonage_socket(tools, "another-secret")
    assert told(socket) == ("ok", "upgrades pass; a signed one is let in, a wrong one is refused", "")
    assert told(wrong) == ("failed", "/vonage/media refuses a rightly signed upgrade (HTTP 401)", PROXY_MEND)


async def test_vonage_where_nothing_is_set_or_nobody_answers() -> None:
    def gone(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("x")

    public = f"http://127.0.0.1:{free_port()}"
    async with tools_for(gone, VONAGE_SIGNATURE_SECRET="signature-secret", PUBLIC_URL=public) as tools:
        webhook, socket = await check_signatures_vonage(tools, True)
    async with tools_for(gone) as tools:
        unset = await check_signatures_vonage(tools, True)
    assert told(webhook) == (
        "failed", f"{public}/vonage/events cannot be reached: no connection", REACH_MEND,
    )  # fmt: skip
    assert socket.seen == "no connection to /vonage/media: ConnectionRefusedError"
    assert [told(each) for each in unset] == [("skipped", "VONAGE_SIGNATURE_SECRET is not set", "")] * 2
