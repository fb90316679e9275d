"""When certificates end: of files, and of whoever answers at an address."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bridge.server.certificates import CertificateOptions, Certificates
from tests.kit import logs
from tests.kit.server import until

ENDS = datetime.datetime(2020, 3, 1, tzinfo=datetime.UTC)
"""Long ago: an expired certificate is what one wants to hear of."""


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """A certificate and its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sip.example")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(ENDS - datetime.timedelta(days=90))
        .not_valid_after(ENDS)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


def spoil(path: Path) -> None:
    path.write_text("no certificate")


def forget(path: Path) -> None:
    path.unlink()


async def test_the_end_of_a_file(pem: Path) -> None:
    certificates = Certificates(CertificateOptions(files={"sip": pem}))
    assert next(certificates()).samples == []
    await certificates.look()
    (sample,) = next(certificates()).samples
    assert (sample.labels, sample.value) == ({"use": "sip"}, ENDS.timestamp())


async def test_what_cannot_be_read_is_not_known_any_more(pem: Path) -> None:
    certificates = Certificates(CertificateOptions(files={"sip": pem}))
    await certificates.look()
    spoil(pem)
    with logs.captured() as lines:
        await certificates.look()
    assert certificates.expires_unix_s == {}
    assert [(line["event"], line["use"], line["detail"]) for line in lines] == [
        ("certificate_unknown", "sip", "ValueError")
    ]
    forget(pem)
    await certificates.look()
    assert certificates.expires_unix_s == {}


async def test_the_end_of_what_an_address_shows(pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.server.certificates.FIRST_LOOK_S", 0.0)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    certificates = Certificates(CertificateOptions(urls={"public_url": f"https://127.0.0.1:{port}/prefix"}))
    running = asyncio.create_task(certificates.run())
    await until(lambda: bool(certificates.expires_unix_s))
    running.cancel()
    assert certificates.expires_unix_s == {"public_url": ENDS.timestamp()}
    server.close()
    await server.wait_closed()
    await certificates.look()
    assert certificates.expires_unix_s == {}, "nobody answers there any more"


async def test_an_address_without_tls_has_none() -> None:
    certificates = Certificates(CertificateOptions(urls={"public_url": "http://127.0.0.1:9"}))
    await certificates.look()
    assert certificates.expires_unix_s == {}
