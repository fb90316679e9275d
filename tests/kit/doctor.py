"""What tests of the doctor work with: tools whose HTTP is answered by the test, and certificates made on the fly."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bridge.calls.routing import RoutingTable
from bridge.doctor.findings import Finding
from bridge.doctor.tools import DoctorOptions, Tools, new_http
from tests.kit.server import settings_for

Answer = Callable[[httpx.Request], httpx.Response]
NO_ROUTES = RoutingTable()
NOW_S = 1_800_000_000.0


async def nothing(_host: str, _port: int) -> list[str]:
    """A resolver for which every name is this machine."""
    return ["127.0.0.1"]


@contextlib.asynccontextmanager
async def tools_for(
    answer: Answer | None = None,
    given: Mapping[str, str] | None = None,
    /,
    *,
    routing: RoutingTable = NO_ROUTES,
    options: DoctorOptions | None = None,
    tls: ssl.SSLContext | None = None,
    **settings: str,
) -> AsyncIterator[Tools]:
    """Tools with these settings and the given ones. ``answer`` stands in for HTTP's network; None = the real one."""
    context = tls if tls is not None else ssl.create_default_context()
    http = new_http(context) if answer is None else httpx.AsyncClient(transport=httpx.MockTransport(answer))
    tools = Tools(
        settings_for({**(given or {}), **settings}),
        routing,
        http,
        context,
        options or DoctorOptions(),
        resolver=nothing,
    )
    async with http:
        try:
            yield tools
        finally:
            await tools.close()


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]


@contextlib.asynccontextmanager
async def tcp_server(handle: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that does this with every connection, and leaves none behind; its port."""
    tasks: set[asyncio.Task[object]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            await handle(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0)  # connections that were accepted just now get their task
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def told(finding: Finding) -> tuple[str, str, str]:
    """Verdict, what was seen, advice."""
    return finding.verdict.value, finding.seen, finding.advice


# --- certificates ----------------------------------------------------------------------------------------


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority of the test's own."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def client_context(self) -> ssl.SSLContext:
        """Trusts this authority alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()
        context.load_verify_locations(cadata=pem)
        return context

    def server_context(
        self, folder: Path, host: str = "localhost", days: float = 90.0, begins: float = -100.0, *, trusted: bool = True
    ) -> ssl.SSLContext:
        """A server's, with a certificate for ``host`` that ends in ``days`` days; not ``trusted``: signed by itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        subject = _name(host)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.certificate.subject if trusted else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=begins))
            .not_valid_after(now + datetime.timedelta(days=days, minutes=5))
            .add_extension(x509.SubjectAlternativeName([_alternative(host)]), critical=False)
            .sign(self.key if trusted else key, hashes.SHA256())
        )
        path = folder / f"{host}-{days}-{begins}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def new_authority() -> Authority:
    """An authority, good for a year."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = _name("test authority")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=200))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(key, certificate)
