"""What tests of the doctor work with: tools whose HTTP is answered by the test, and certificates made on the fly."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bridge.calls.routing import RoutingTable
from bridge.doctor.findings import Finding
from bridge.doctor.tools import DoctorOptions, Tools, new_http
from bridge.sip.trunks import Trunk
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
    trunks: tuple[Trunk, ...] = (),
    **settings: str,
) -> AsyncIterator[Tools]:
    """Tools with these settings and the given ones; the trunk of the settings stands before ``trunks``.

    ``answer`` stands in for HTTP's network; None = the real one.
    """
    context = tls if tls is not None else ssl.create_default_context()
    http = new_http(context) if answer is None else httpx.AsyncClient(transport=httpx.MockTransport(answer))
    chosen = settings_for({**(given or {}), **settings})
    tools = Tools(
        chosen,
        routing,
        http,
        context,
        options or DoctorOptions(),
        trunks=trunks if chosen.default_trunk is None else (chosen.default_trunk, *trunks),
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


Reply = Callable[[str], Iterable[str | bytes]]


@contextlib.asynccontextmanager
async def udp_peer(reply: Reply) -> AsyncIterator[int]:
    """A peer that answers every datagram with what ``reply`` makes of it; its port."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Peer(reply), local_addr=("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()
        await asyncio.sleep(0)


class _Peer(asyncio.DatagramProtocol):
    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for text in self._reply(data.decode()):
            self._transport.sendto(text.encode() if isinstance(text, str) else text, addr)


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
        """A server's, with a certificate as ``certificate_file`` makes it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate_file(folder, host, days, begins, trusted=trusted))
        return context

    def authority_file(self, folder: Path) -> Path:
        """A file for those who shall trust this authority."""
        path = folder / "authority.pem"
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def certificate_file(
        self, folder: Path, host: str = "localhost", days: float = 90.0, begins: float = -100.0, *, trusted: bool = True
    ) -> Path:
        """Key and certificate for ``host`` (empty = no name) that ends in ``days`` days; not ``trusted``: signed by
        itself.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        subject = _name(host or "nobody")
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.certificate.subject if trusted else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=begins))
            .not_valid_after(now + datetime.timedelta(days=days, minutes=5))
        )
        if host:
            builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(host)]), critical=False)
        certificate = builder.sign(self.key if trusted else key, hashes.SHA256())
        path = folder / f"{host}-{days}-{begins}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return path


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
