"""Addresses: names, ports, the guard, TLS with certificates made on the fly."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from bridge.doctor.reach import Reached, Trouble, judge_address, look_at_address
from tests.kit.doctor import NOW_S, Authority, new_authority, nothing, tcp_server, told
from tests.kit.server import free_port

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
DAY_S = 86_400.0


@pytest.fixture(scope="module")
def authority() -> Authority:
    return new_authority()


def listening(context: ssl.SSLContext | None) -> AbstractAsyncContextManager[int]:
    """A server that says nothing; its port."""
    return tcp_server(lambda reader, _: reader.read(), context)


async def test_a_good_certificate(authority: Authority, tmp_path: Path) -> None:
    async with listening(authority.server_context(tmp_path, days=90)) as port:
        reached = await look_at_address(f"https://localhost:{port}", authority.client_context(), nothing)
    assert (reached.trouble, reached.private, reached.tls_version) == (None, True, "TLSv1.3")
    assert reached.expires_unix_s is not None
    assert abs(reached.expires_unix_s - time.time() - 90 * DAY_S) < 600
    finding = judge_address("TLS", "PUBLIC_URL", "localhost", reached, time.time())
    assert told(finding) == ("ok", "localhost: TLSv1.3, certificate good for 90 days", "")


async def test_one_that_ends_soon(authority: Authority, tmp_path: Path) -> None:
    async with listening(authority.server_context(tmp_path, days=13)) as port:
        reached = await look_at_address(f"https://localhost:{port}", authority.client_context(), nothing)
    assert told(judge_address("TLS", "PUBLIC_URL", "localhost", reached, time.time())) == (
        "warning",
        "localhost: TLSv1.3, certificate good for 13 days",
        "Renew the certificate of the host in PUBLIC_URL now; see why it is not automatic.",
    )


async def test_an_older_version_of_tls_is_named(authority: Authority, tmp_path: Path) -> None:
    context = authority.server_context(tmp_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with listening(context) as port:
        reached = await look_at_address(f"wss://localhost:{port}", authority.client_context(), nothing)
    assert reached.tls_version == "TLSv1.2"


@pytest.mark.parametrize(
    ("made", "trouble", "seen", "advice"),
    [
        (
            {"days": -1.0}, Trouble.EXPIRED, "localhost: the certificate has expired",
            "Renew the certificate of the host in PUBLIC_URL, and find out why that did not happen by itself.",
        ),
        (
            {"begins": 5.0}, Trouble.NOT_YET, "localhost: the certificate is not valid yet",
            "Set this machine's clock; if it is right, have the certificate issued again.",
        ),
        (
            {"trusted": False}, Trouble.SELF_SIGNED, "localhost: the certificate is signed by no public authority",
            "Get a certificate from a public authority (such as Let's Encrypt) for the host in PUBLIC_URL.",
        ),
        (
            {"host": "other.example.com"}, Trouble.HOSTNAME, "localhost: the certificate is for another name",
            "Get a certificate for the very host in PUBLIC_URL, or correct PUBLIC_URL.",
        ),
    ],
)  # fmt: skip
async def test_bad_certificates(
    authority: Authority, tmp_path: Path, made: dict[str, float], trouble: Trouble, seen: str, advice: str
) -> None:
    async with listening(authority.server_context(tmp_path, **made)) as port:  # type: ignore[arg-type]
        reached = await look_at_address(f"https://localhost:{port}", authority.client_context(), nothing)
    assert reached.trouble is trouble
    assert told(judge_address("TLS", "PUBLIC_URL", "localhost", reached, NOW_S)) == ("failed", seen, advice)


async def test_a_chain_that_is_not_complete(authority: Authority, tmp_path: Path) -> None:
    async with listening(authority.server_context(tmp_path)) as port:
        reached = await look_at_address(f"https://localhost:{port}", new_authority().client_context(), nothing)
    assert reached.trouble in (Trouble.CHAIN, Trouble.SELF_SIGNED)
    finding = judge_address("TLS", "PUBLIC_URL", "localhost", Reached(Trouble.CHAIN), NOW_S)
    assert finding.advice == "Serve the whole chain (fullchain.pem, not cert.pem), from a public authority."


async def test_no_tls_where_tls_was_wanted() -> None:
    async def speaks_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with tcp_server(speaks_http) as port:
        reached = await look_at_address(f"https://localhost:{port}", ssl.create_default_context(), nothing)
    assert told(judge_address("TLS", "PUBLIC_URL", "localhost", reached, NOW_S)) == (
        "failed",
        "localhost: the TLS handshake failed",
        "Check that PUBLIC_URL names an https port and that TLS 1.2 or 1.3 is on there.",
    )


async def test_plain_http() -> None:
    async with listening(None) as port:
        reached = await look_at_address(f"http://hooks.example.com:{port}/x", ssl.create_default_context(), nothing)
    assert told(judge_address("webhooks", "WEBHOOK_URL", "hooks.example.com", reached, NOW_S)) == (
        "ok",
        "hooks.example.com can be reached, without TLS",
        "",
    )


async def test_nobody_listens() -> None:
    reached = await look_at_address(f"http://a.example.com:{free_port()}", ssl.create_default_context(), nothing)
    assert told(judge_address("webhooks", "WEBHOOK_URL", "a.example.com", reached, NOW_S)) == (
        "failed",
        "a.example.com: no connection",
        "Start what serves WEBHOOK_URL, or open the firewall; check host and port in WEBHOOK_URL.",
    )


async def test_a_name_that_leads_nowhere() -> None:
    async def unknown(_host: str, _port: int) -> list[str]:
        raise OSError("no such host")

    reached = await look_at_address("https://a.example.com", ssl.create_default_context(), unknown)
    assert told(judge_address("webhooks", "WEBHOOK_URL", "a.example.com", reached, NOW_S)) == (
        "failed",
        "a.example.com: the name resolves to no address",
        "Check the host in WEBHOOK_URL, and this machine's DNS.",
    )


async def test_the_guard_closes_private_networks_before_anything_is_connected_to() -> None:
    async with listening(None) as port:
        url = f"http://a.example.com:{port}"
        closed = await look_at_address(url, ssl.create_default_context(), nothing, allow=())
        opened = await look_at_address(url, ssl.create_default_context(), nothing, allow=(LOOPBACK,))
    assert (closed.trouble, closed.private, opened.trouble) == (Trouble.CLOSED, True, None)
    assert told(judge_address("webhooks", "WEBHOOK_URL", "a.example.com", closed, NOW_S)) == (
        "failed",
        "a.example.com: it is not on the public internet, and EGRESS_ALLOW does not open it",
        "If you trust this network, put it into EGRESS_ALLOW.",
    )


async def test_a_second_address_is_tried(authority: Authority, tmp_path: Path) -> None:
    async def two(_host: str, _port: int) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]

    async with listening(authority.server_context(tmp_path)) as port:
        reached = await look_at_address(f"https://localhost:{port}", authority.client_context(), two)
    assert reached.trouble is None


def test_every_trouble_has_advice() -> None:
    for trouble in Trouble:
        finding = judge_address("n", "WEBHOOK_URL", "h", Reached(trouble), NOW_S)
        assert finding.advice and "{" not in finding.advice


async def test_one_that_takes_the_connection_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.doctor.reach.CONNECT_TIMEOUT_S", 0.1)
    async with listening(None) as port:
        reached = await look_at_address(f"https://localhost:{port}", ssl.create_default_context(), nothing)
    assert told(judge_address("TLS", "PUBLIC_URL", "localhost", reached, NOW_S)) == (
        "failed",
        "localhost: no connection in time",
        "Open the firewall between this machine and the host in PUBLIC_URL.",
    )


async def test_all_addresses_fail_and_a_name_may_have_none() -> None:
    async def none(_host: str, _port: int) -> list[str]:
        return []

    reached = await look_at_address("https://a.example.com", ssl.create_default_context(), none)
    assert reached.trouble is Trouble.NO_NAME
