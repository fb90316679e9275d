"""Whether an address can be reached: its name, its port, its TLS; and how long its certificate is good for.

Nothing is sent but the TLS handshake. Where outgoing requests are guarded (``bridge.server.egress``), only addresses
that the guard lets through are tried.

Source: OpenSSL's ``verify(1)`` for the codes of refused certificates, RFC 8446 and RFC 5246 for versions.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from bridge.doctor.findings import Finding, failed, ok, warning
from bridge.server.egress import Resolver
from bridge.server.egress_addresses import Network, address_allowed

CONNECT_TIMEOUT_S = 4.0
"""TCP and TLS to one address."""
MAX_TRIED = 3
"""Addresses of one name that are tried."""
EXPIRY_WARNING_DAYS = 14
"""Certificates of the usual authority are renewed 30 days before their end; at 14 something is stuck."""
DAY_S = 86_400.0


class Trouble(enum.Enum):
    """Why an address cannot be used."""

    NO_NAME = "the name resolves to no address"
    CLOSED = "it is not on the public internet, and EGRESS_ALLOW does not open it"
    NO_CONNECTION = "no connection"
    TIME_OUT = "no connection in time"
    EXPIRED = "the certificate has expired"
    NOT_YET = "the certificate is not valid yet"
    SELF_SIGNED = "the certificate is signed by no public authority"
    CHAIN = "the certificate's chain is not complete"
    HOSTNAME = "the certificate is for another name"
    NO_TLS = "the TLS handshake failed"


_BY_VERIFY_CODE = {
    9: Trouble.NOT_YET,
    10: Trouble.EXPIRED,
    18: Trouble.SELF_SIGNED,
    19: Trouble.SELF_SIGNED,
    20: Trouble.CHAIN,
    21: Trouble.CHAIN,
    62: Trouble.HOSTNAME,
    64: Trouble.HOSTNAME,
}

_ADVICE = {
    Trouble.NO_NAME: "Check the host in {setting}, and this machine's DNS.",
    Trouble.CLOSED: "If you trust this network, put it into EGRESS_ALLOW.",
    Trouble.NO_CONNECTION: "Start what serves {setting}, or open the firewall; check host and port in {setting}.",
    Trouble.TIME_OUT: "Open the firewall between this machine and the host in {setting}.",
    Trouble.EXPIRED: "Renew the certificate of the host in {setting}, and find out why that did not happen by itself.",
    Trouble.NOT_YET: "Set this machine's clock; if it is right, have the certificate issued again.",
    Trouble.SELF_SIGNED: "Get a certificate from a public authority (such as Let's Encrypt) for the host in {setting}.",
    Trouble.CHAIN: "Serve the whole chain (fullchain.pem, not cert.pem), from a public authority.",
    Trouble.HOSTNAME: "Get a certificate for the very host in {setting}, or correct {setting}.",
    Trouble.NO_TLS: "Check that {setting} names an https port and that TLS 1.2 or 1.3 is on there.",
}


@dataclass(frozen=True, slots=True)
class Reached:
    """What was seen of an address."""

    trouble: Trouble | None = None
    private: bool = False
    """Whether the name resolves to an address that is not on the public internet."""
    tls_version: str = ""
    """Such as ``TLSv1.3``; empty = no TLS."""
    expires_unix_s: float | None = None
    """End of the certificate."""


async def look_at_address(
    url: str, tls: ssl.SSLContext, resolver: Resolver, *, allow: Sequence[Network] | None = None
) -> Reached:
    """Resolve, connect, shake hands, hang up. ``allow`` = the guard's networks; None = nothing is guarded."""
    parts = urlsplit(url)
    secure = parts.scheme in ("https", "wss")
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            texts = await resolver(host, port)
    except (OSError, UnicodeError):
        return Reached(Trouble.NO_NAME)
    addresses = [ipaddress.ip_address(text.partition("%")[0]) for text in texts]
    private = any(not address_allowed(address) for address in addresses)
    if allow is not None:
        addresses = [address for address in addresses if address_allowed(address, allow)]
        if not addresses:
            return Reached(Trouble.CLOSED, private)
    result = Reached(Trouble.NO_NAME, private)
    for address in addresses[:MAX_TRIED]:
        result = await _connect(str(address), port, host if secure else "", tls, private)
        if result.trouble is None:
            break
    return result


async def _connect(address: str, port: int, tls_name: str, tls: ssl.SSLContext, private: bool) -> Reached:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(
                address, port, ssl=tls if tls_name else None, server_hostname=tls_name or None
            )
    except ssl.SSLError as error:
        return Reached(handshake_trouble(error), private)
    except TimeoutError:
        return Reached(Trouble.TIME_OUT, private)
    except OSError:  # a peer that hangs up in the middle of the handshake is one, too
        return Reached(Trouble.NO_CONNECTION, private)
    try:
        session = writer.get_extra_info("ssl_object")
        if session is None:
            return Reached(private=private)
        expires = ssl.cert_time_to_seconds(session.getpeercert()["notAfter"])
        return Reached(private=private, tls_version=session.version() or "", expires_unix_s=expires)
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):  # how the peer parts is its own affair
            async with asyncio.timeout(1.0):
                await writer.wait_closed()


def handshake_trouble(error: ssl.SSLError) -> Trouble:
    """Why a TLS handshake came to nothing."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _BY_VERIFY_CODE.get(error.verify_code, Trouble.SELF_SIGNED)
    return Trouble.NO_TLS


def judge_address(name: str, setting: str, host: str, reached: Reached, now_unix_s: float) -> Finding:
    """What to make of it."""
    if reached.trouble is not None:
        return failed(name, f"{host}: {reached.trouble.value}", _ADVICE[reached.trouble].format(setting=setting))
    if reached.expires_unix_s is None:
        return ok(name, f"{host} can be reached, without TLS")
    days = int((reached.expires_unix_s - now_unix_s) // DAY_S)
    seen = f"{host}: {reached.tls_version}, certificate good for {days} days"
    if days < EXPIRY_WARNING_DAYS:
        return warning(name, seen, f"Renew the certificate of the host in {setting} now; see why it is not automatic.")
    return ok(name, seen)
