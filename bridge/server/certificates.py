"""When the certificates end that callers' connections depend on: looked at from time to time, for metrics and alerts.

Two kinds: files, such as the SIP port's own, and what the proxy at PUBLIC_URL shows. A certificate is only read here,
whatever it is: whether it is trusted is the doctor's question.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from prometheus_client.core import Metric

from bridge.server.logs import get_logger
from bridge.server.metric_catalogue import gauge

LOOK_EVERY_S = 3600.0
"""Certificates last for weeks; alerts come days ahead."""
FIRST_LOOK_S = 60.0
"""After the start: a proxy that started with the bridge may be getting its certificate still."""
CONNECT_TIMEOUT_S = 5.0
MAX_FILE_BYTES = 1 << 20
"""A chain of certificates has some kilobytes."""


@dataclass(frozen=True, slots=True)
class CertificateOptions:
    """What is looked at, by the metric's label ``use``."""

    urls: Mapping[str, str] = field(default_factory=dict)
    """``https`` addresses; others are passed over."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """PEM files; the first certificate counts."""


class Certificates:
    """Looks at certificates and knows their ends; a source of ``Metrics``."""

    def __init__(self, options: CertificateOptions) -> None:
        self._options = options
        self.expires_unix_s: dict[str, float] = {}
        """By use; what could not be read is not in it."""

    def __call__(self) -> Iterator[Metric]:
        """The samples as of the last look."""
        ends = [((use,), at_s) for use, at_s in self.expires_unix_s.items()]
        yield gauge("bridge_certificate_expires_timestamp_seconds", ends)

    async def run(self) -> None:
        """Look, until cancelled."""
        await asyncio.sleep(FIRST_LOOK_S)
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Look at all of them now. What cannot be reached or read is logged, and not known."""
        for use, path in self._options.files.items():
            try:
                self._note(use, await asyncio.to_thread(_read, path))
            except (OSError, ValueError) as error:
                self._fail(use, type(error).__name__)
        for use, url in self._options.urls.items():
            parts = urlsplit(url)
            if parts.scheme != "https" or parts.hostname is None:
                continue
            try:
                self._note(use, await _shown_by(parts.hostname, parts.port or 443))
            except (OSError, ValueError) as error:  # time-outs and TLS errors are OSErrors
                self._fail(use, type(error).__name__)

    def _note(self, use: str, pem: bytes) -> None:
        self.expires_unix_s[use] = x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()

    def _fail(self, use: str, detail: str) -> None:
        self.expires_unix_s.pop(use, None)
        get_logger().warning("certificate_unknown", use=use, detail=detail)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES)


async def _shown_by(host: str, port: int) -> bytes:
    """The certificate of whoever answers there, as PEM; unchecked, because an expired one is to be seen too."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        _, writer = await asyncio.open_connection(host, port, ssl=tls, server_hostname=host)
    try:
        found: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()
        with contextlib.suppress(OSError):  # how the peer parts is its own affair
            async with asyncio.timeout(1.0):
                await writer.wait_closed()
    if not found:
        raise ValueError("no certificate was shown")
    return ssl.DER_cert_to_PEM_cert(found).encode()
