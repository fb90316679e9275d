"""PUBLIC_URL: round trips through proxies of all kinds."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx
import pytest

from bridge.doctor.findings import Finding
from bridge.doctor.public import (
    NAME,
    PROXY_NAME,
    RoundTrip,
    check_instance,
    check_public,
    check_public_tls,
    judge_round,
)
from bridge.doctor.reach import Reached
from bridge.doctor.standin import Echo, present_bridge
from tests.kit.doctor import NOW_S, new_authority, tcp_server, told, tools_for
from tests.kit.server import free_port

Rewrite = Callable[[bytes], bytes]


def proxy(upstream_port: int, rewrite: Rewrite, tls: ssl.SSLContext | None = None) -> AbstractAsyncContextManager[int]:
    """A proxy that rewrites requests before it passes them on; one request a connection. Its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        head = re.sub(rb"(?i)\r\nconnection: [^\r]*", b"\r\nConnection: close", head)
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", upstream_port)
        try:
            up_writer.write(rewrite(head))
            writer.write(await up_reader.read())
        finally:
            up_writer.close()

    return tcp_server(serve, tls)


async def examined(rewrite: Rewrite, prefix: str = "") -> list[Finding]:
    """What is found of a bridge behind this proxy."""
    port = free_port()
    async with proxy(port, rewrite) as public_port:
        url = f"http://127.0.0.1:{public_port}{prefix}"
        async with tools_for(BRIDGE_PORT=str(port), PUBLIC_URL=url) as tools, present_bridge(tools) as (_, is_here):
            return await check_public(tools, is_here)


def unchanged(head: bytes) -> bytes:
    return head


async def test_a_good_proxy() -> None:
    whose, proxied = await examined(unchanged)
    assert (whose.name, told(whose)) == (NAME, ("ok", "leads to this bridge", ""))
    assert (proxied.name, told(proxied)) == (PROXY_NAME, ("ok", "passes path and query on unchanged", ""))


async def test_a_prefix_that_is_taken_off() -> None:
    whose, proxied = await examined(lambda head: head.replace(b" /voice/", b" /", 1), "/voice")
    assert (told(whose), told(proxied)) == (
        ("ok", "leads to this bridge", ""),
        ("ok", "passes path and query on unchanged", ""),
    )


async def test_a_prefix_that_is_left_on() -> None:
    whose, proxied = await examined(unchanged, "/voice")
    assert told(whose) == (
        "failed",
        "the bridge is reached with the prefix /voice still on its path",
        "Have the proxy take /voice off, or take it out of PUBLIC_URL and of what the carriers were told.",
    )
    assert told(proxied) == ("skipped", "the bridge was not reached by PUBLIC_URL", "")


async def test_a_proxy_that_decodes_the_path() -> None:
    _, proxied = await examined(lambda head: head.replace(b"%7E", b"~"))
    assert told(proxied) == (
        "warning",
        "it rewrites encoded characters of the path",
        "Have the proxy pass the path on raw (nginx: proxy_pass with $request_uri): signatures cover its letters.",
    )


async def test_a_proxy_that_rewrites_the_query() -> None:
    _, proxied = await examined(lambda head: head.replace(b"a%20b", b"a+b"))
    assert told(proxied) == (
        "failed",
        "it rewrites the query of requests",
        "Have the proxy pass the query on as it came: carriers sign it, and their webhooks are refused.",
    )


async def test_another_bridge_answers() -> None:
    port, other = free_port(), free_port()
    async with tools_for(BRIDGE_PORT=str(other)) as elsewhere, present_bridge(elsewhere):
        url = f"http://127.0.0.1:{other}"
        async with tools_for(BRIDGE_PORT=str(port), PUBLIC_URL=url) as tools, present_bridge(tools) as (_, is_here):
            whose, proxied = await check_public(tools, is_here)
            not_asked, _ = await check_public(tools, False)
    assert told(whose) == (
        "warning",
        "a bridge answers, but another process than the one on this machine",
        "Right behind a load balancer with several bridges; otherwise point PUBLIC_URL's proxy at this one.",
    )
    assert proxied.verdict.value == "ok"
    assert told(not_asked) == (
        "warning",
        "a bridge answers; whether it is this one cannot be told, as none could be asked here",
        "Run the doctor on the bridge's machine, or give --at its address.",
    )


async def test_behind_a_load_balancer_it_asks_until_this_one_answers() -> None:
    asked = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        here = request.url.host == "127.0.0.1"
        asked += not here
        proof = "ours" if here or asked == 3 else "theirs"
        target = request.url.raw_path.decode()
        return httpx.Response(200, json={"nonce": request.url.params["nonce"], "proof": proof, "target": target})

    async with tools_for(answer, PUBLIC_URL="https://bridge.example.com") as tools:
        whose, proxied = await check_public(tools, True)
    assert (whose.verdict.value, proxied.verdict.value, asked) == ("ok", "ok", 3)


@pytest.mark.parametrize(
    ("trip", "seen", "advice"),
    [
        (
            {"problem": "no connection"}, "it cannot be reached from here: no connection",
            "Check DNS, the proxy, the firewall. If this network cannot reach its own public address, run the doctor "
            "elsewhere with the same settings and --at.",
        ),
        (
            {"status": 301}, "it redirects (HTTP 301)",
            "Set PUBLIC_URL, and what the carriers were told, to the address behind the redirect: signatures cover it.",
        ),
        (
            {"status": 502}, "the proxy answers, but does not reach the bridge (HTTP 502)",
            "Point the proxy at the bridge's BRIDGE_HOST:BRIDGE_PORT as seen from the proxy's machine or container.",
        ),
        (
            {"status": 200}, "something else answers there (HTTP 200)",
            "Point the proxy's host and path of PUBLIC_URL at this bridge, all paths below it.",
        ),
        (
            {"status": 404, "is_framework_404": True}, "something else answers there (HTTP 404)",
            "Point the proxy's host and path of PUBLIC_URL at this bridge, all paths below it.",
        ),
    ],
)  # fmt: skip
def test_no_answer(trip: dict[str, object], seen: str, advice: str) -> None:
    whose, proxied = judge_round(RoundTrip("/x", None, **trip), "")  # type: ignore[arg-type]
    assert told(whose) == ("failed", seen, advice)
    assert proxied.verdict.value == "skipped"


def test_a_prefix_that_reaches_the_route_all_the_same() -> None:
    trip = RoundTrip("/x?n=1", None, Echo("n", "p", "/voice/x?n=1"), 200)
    assert told(judge_round(trip, "/voice")[1]) == (
        "failed",
        "it leaves the prefix /voice on the path",
        "Have the proxy take /voice off (nginx: location /voice/ with proxy_pass http://BRIDGE:PORT/).",
    )


async def test_nobody_at_the_address() -> None:
    async with tools_for(PUBLIC_URL=f"http://127.0.0.1:{free_port()}") as tools:
        whose, _ = await check_public(tools, False)
    assert whose.seen == "it cannot be reached from here: no connection"


async def test_without_an_address() -> None:
    async with tools_for() as tools:
        (finding,) = await check_public(tools, True)
        tls = await check_public_tls(tools)
    assert told(finding) == (
        "warning",
        "it is not set; http://127.0.0.1:8080 is used, which only this machine can reach",
        "Set PUBLIC_URL to the https address that carriers are told, with a proxy and a certificate there.",
    )
    assert told(tls) == ("skipped", "PUBLIC_URL is not set", "")


# --- INSTANCE_URL ------------------------------------------------------------------------------------------


async def test_each_process_has_an_address_of_its_own() -> None:
    port, other = free_port(), free_port()
    ours, theirs, nobody = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{other}", f"http://127.0.0.1:{free_port()}"
    async with tools_for(BRIDGE_PORT=str(other)) as elsewhere, present_bridge(elsewhere):
        found = []
        for url in (ours, theirs, nobody):
            async with tools_for(BRIDGE_PORT=str(port), INSTANCE_URL=url) as tools, present_bridge(tools):
                found.append(told(await check_instance(tools, True)))
        async with tools_for(INSTANCE_URL=theirs) as tools:
            found.append(told(await check_instance(tools, False)))
        async with tools_for() as tools:
            found.append(told(await check_instance(tools, True)))
    assert found == [
        ("ok", "leads to this very process", ""),
        (
            "failed",
            "another process than the one on this machine answers",
            "Give each process an INSTANCE_URL of its own; only PUBLIC_URL is shared.",
        ),
        (
            "failed",
            "no bridge is reached by it from here: no connection",
            "Route INSTANCE_URL to this process, with TLS: webhooks in the middle of a call come there.",
        ),
        ("skipped", "a bridge answers; whether it is this one cannot be told", ""),
        ("skipped", "it is not set: PUBLIC_URL leads to the only process", ""),
    ]


# --- TLS ---------------------------------------------------------------------------------------------------


async def test_without_tls() -> None:
    async with tools_for(PUBLIC_URL="http://bridge.example.com") as tools:
        assert told(await check_public_tls(tools)) == (
            "failed",
            "PUBLIC_URL is no https address",
            "Put a proxy with a certificate before the bridge and set PUBLIC_URL to https://: carriers take wss only.",
        )


async def test_a_certificate_on_a_private_address(tmp_path: Path) -> None:
    authority = new_authority()
    async with proxy(1, unchanged, authority.server_context(tmp_path)) as port:
        url = f"https://localhost:{port}"
        async with tools_for(tls=authority.client_context(), PUBLIC_URL=url) as tools:
            finding = await check_public_tls(tools)
    assert told(finding) == (
        "warning",
        "localhost: TLSv1.3, certificate good for 90 days, but from here the name leads to a private address",
        "Make sure that the public DNS gives carriers a public one.",
    )


async def test_an_expired_certificate(tmp_path: Path) -> None:
    authority = new_authority()
    async with proxy(1, unchanged, authority.server_context(tmp_path, days=-1)) as port:
        url = f"https://localhost:{port}"
        async with tools_for(tls=authority.client_context(), PUBLIC_URL=url) as tools:
            finding = await check_public_tls(tools)
    assert told(finding)[:2] == ("failed", "localhost: the certificate has expired")


async def test_a_certificate_on_a_public_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async def reached(*_: object) -> Reached:
        return Reached(tls_version="TLSv1.3", expires_unix_s=NOW_S + 60 * 86_400)

    monkeypatch.setattr("bridge.doctor.public.look_at_address", reached)
    async with tools_for(PUBLIC_URL="https://bridge.example.com") as tools:
        tools.unix = lambda: NOW_S
        finding = await check_public_tls(tools)
    assert told(finding) == ("ok", "bridge.example.com: TLSv1.3, certificate good for 60 days", "")
