"""Peers on loopback for the tests of the SIP sockets, certificates of our own, and somebody who writes down."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bridge.server.sip.options import Listen, TransportOptions
from bridge.server.sip.transports import Transports
from bridge.sip.flow import Flow, Transport
from bridge.sip.message import Message

PATIENCE_S = 5.0
"""How long a test waits for what must happen at once: machines are busy at times."""

OPTIONS_LINES = (
    "OPTIONS sip:bridge@127.0.0.1 SIP/2.0\r\n"
    "Via: SIP/2.0/{transport} client.example;branch=z9hG4bK{number};rport\r\n"
    "From: <sip:a@example.com>;tag=1\r\n"
    "To: <sip:b@example.com>\r\n"
    "Call-ID: {number}@example.com\r\n"
    "CSeq: 1 OPTIONS\r\n"
    "Max-Forwards: 70\r\n"
)


def options(number: int = 1, transport: str = "TCP", length: int | None = 0, body: bytes = b"") -> bytes:
    """An OPTIONS request as bytes."""
    head = OPTIONS_LINES.format(number=number, transport=transport)
    if length is not None:
        head += f"Content-Length: {length}\r\n"
    return head.encode() + b"\r\n" + body


RESPONSE = (
    b"SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK1\r\nFrom: <sip:a@example.com>;tag=1\r\n"
    b"To: <sip:b@example.com>;tag=2\r\nCall-ID: 1@example.com\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)


class Desk:
    """Writes down what transports report, and makes them."""

    def __init__(self) -> None:
        self.messages: list[tuple[Message, Flow]] = []
        self.failed: list[str] = []
        self.trusted: set[str] = set()
        self.needed: set[int] = set()
        self.shift_s = 0.0
        """How far its clock is ahead of the machine's."""
        self.on_message: Callable[[Message, Flow], None] = lambda *_: None

    def take(self, message: Message, flow: Flow) -> None:
        self.messages.append((message, flow))
        self.on_message(message, flow)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() + self.shift_s

    def transports(self, options: TransportOptions) -> Transports:
        return Transports(
            options,
            self.take,
            self.failed.append,
            is_trusted=self.trusted.__contains__,
            is_needed=self.needed.__contains__,
            monotonic=self.monotonic,
        )

    async def got(self, count: int) -> list[tuple[Message, Flow]]:
        """Wait until so many messages have come, and no more."""
        await until(lambda: len(self.messages) >= count)
        await asyncio.sleep(0.02)
        assert len(self.messages) == count
        return self.messages


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what must happen soon."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - conditions of any kind
            await asyncio.sleep(0.005)


def listen(*transports: Transport, host: str = "127.0.0.1") -> tuple[Listen, ...]:
    """Places on free ports."""
    return tuple(Listen(transport, host, 0, f"SIP_{transport.value}_PORT") for transport in transports)


ALL = listen(Transport.UDP, Transport.TCP)


@asynccontextmanager
async def running(desk: Desk, given: TransportOptions | None = None, **changes: Any) -> AsyncIterator[Transports]:
    """Started transports that must leave nothing behind."""
    before = asyncio.all_tasks()
    transports = desk.transports(replace(given or TransportOptions(ALL), **changes))
    await transports.start()
    try:
        yield transports
    finally:
        await transports.close()
        assert transports.connections == 0
        assert asyncio.all_tasks() == before, "tasks left behind"


@asynccontextmanager
async def connected(
    transports: Transports, tls: ssl.SSLContext | None = None, name: str = "localhost"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A peer's connection to the bridge."""
    port = transports.port(Transport.TCP if tls is None else Transport.TLS)
    extra: dict[str, Any] = {} if tls is None else {"ssl": tls, "server_hostname": name}
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **extra)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


class Peer:
    """A peer that listens: bytes of all its connections, and how many there were."""

    def __init__(self) -> None:
        self.server: asyncio.Server | None = None
        self.received = b""
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.names: list[str | None] = []
        self.answer: Callable[[asyncio.StreamWriter], None] = lambda _: None

    @property
    def port(self) -> int:
        assert self.server is not None
        port: int = self.server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while data := await reader.read(65536):
                self.received += data
                self.answer(writer)
        except OSError:
            pass
        finally:
            writer.transport.abort()

    @classmethod
    @asynccontextmanager
    async def listening(
        cls, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
    ) -> AsyncIterator[Peer]:
        peer = cls()
        if tls is not None:
            tls.sni_callback = lambda _object, name, _context: peer.names.append(name)
        peer.server = await asyncio.start_server(peer._serve, host, port, ssl=tls)
        try:
            yield peer
        finally:
            peer.server.close()
            for writer in peer.writers:
                writer.transport.abort()
            await asyncio.sleep(0.01)

    def flow(self, transport: Transport = Transport.TCP, server_name: str = "") -> Flow:
        return Flow(transport, "127.0.0.1", self.port, server_name=server_name)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port where nobody listens."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


# --- certificates ---

BEGIN = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
END = datetime.datetime(2090, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, in files."""

    certificate_file: Path
    key_file: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def certificate(
    folder: Path,
    label: str,
    *,
    names: tuple[str, ...] = (),
    addresses: tuple[str, ...] = (),
    issuer: Certificate | None = None,
    end: datetime.datetime = END,
) -> Certificate:
    """Make a certificate; without issuer it is an authority's."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label)])
    signer = key if issuer is None else issuer.key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGIN)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if issuer is None:
        builder = builder.add_extension(
            x509.KeyUsage(True, False, False, False, False, True, True, False, False), critical=True
        )
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    made = builder.sign(signer, hashes.SHA256())
    certificate_file, key_file = folder / f"{label}.pem", folder / f"{label}.key"
    write_certificate(certificate_file, made)
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Certificate(certificate_file, key_file, made, key)


def write_certificate(path: Path, made: x509.Certificate) -> None:
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def server_context(mine: Certificate) -> ssl.SSLContext:
    """For a peer that listens."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(mine.certificate_file, mine.key_file)
    return context


def client_context(authority: Certificate, mine: Certificate | None = None) -> ssl.SSLContext:
    """For a peer that connects."""
    context = ssl.create_default_context(cafile=str(authority.certificate_file))
    if mine is not None:
        context.load_cert_chain(mine.certificate_file, mine.key_file)
    return context
