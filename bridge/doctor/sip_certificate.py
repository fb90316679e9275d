"""Whether the bridge's own certificate for SIP over TLS can be used, for how long, and by the names that trunks call.

Files are read as the bridge reads them (``bridge.server.sip.tls``); names are looked up, nothing else is asked.
Sources: RFC 5922 section 7.2 (names of certificates), RFC 6125 section 6.4.3 (wildcards).
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509

from bridge.config import Settings
from bridge.doctor.findings import Finding, failed, ok, skipped, warning
from bridge.doctor.reach import DAY_S
from bridge.doctor.tools import Tools, listed
from bridge.errors import ConfigError
from bridge.server.sip.options import TlsOptions
from bridge.server.sip.tls import TlsContexts
from bridge.server.sip.wiring import transport_options
from bridge.sip.trunks import parse_ip

NAME = "SIP: certificate"
EXPIRY_WARNING_DAYS = 21
"""Renewal is due 30 days before the end; carriers that check refuse calls from the last day on, and all at once."""
LOOK_UP_S = 3.0
MAX_LOOKED_UP = 8
"""Names of one certificate that are looked up."""


@dataclass(frozen=True, slots=True)
class CertificateSeen:
    """What is in the files."""

    problem: str = ""
    """Why they cannot be used, with the setting's name and the mend."""
    begins_unix_s: float = 0.0
    expires_unix_s: float = 0.0
    names: tuple[str, ...] = ()
    """DNS names and addresses that it is good for."""
    leading_here: tuple[str, ...] = ()
    """Those of them that lead to the announced address."""
    is_self_signed: bool = False


def tls_options(settings: Settings) -> TlsOptions:
    """The files, as the bridge uses them."""
    return transport_options(settings).tls


def client_context(settings: Settings) -> ssl.SSLContext | None:
    """What the bridge calls trunks with; None = its files cannot be used. Blocks for some milliseconds."""
    try:
        return TlsContexts(tls_options(settings)).client
    except ConfigError:
        return None


def look_at_files(options: TlsOptions) -> CertificateSeen:
    """Read certificate, key and authorities. Blocks for some milliseconds."""
    assert options.certificate_file is not None, "looked at before"
    try:
        TlsContexts(options)
        return read_certificate(options.certificate_file)
    except ConfigError as error:
        return CertificateSeen(str(error))


def read_certificate(path: Path) -> CertificateSeen:
    """The first certificate of a file that ``TlsContexts`` could read: the one that is shown."""
    mine = x509.load_pem_x509_certificate(path.read_bytes())
    try:
        found = mine.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = (
            *(name.lower() for name in found.get_values_for_type(x509.DNSName)),
            *(str(address) for address in found.get_values_for_type(x509.IPAddress)),
        )
    except x509.ExtensionNotFound:
        names = ()
    return CertificateSeen(
        begins_unix_s=mine.not_valid_before_utc.timestamp(),
        expires_unix_s=mine.not_valid_after_utc.timestamp(),
        names=names,
        is_self_signed=mine.issuer == mine.subject,
    )


async def names_leading_here(tools: Tools, names: tuple[str, ...], announced: str) -> tuple[str, ...]:
    """Which of the names are the announced address, or are resolved to it."""
    here = parse_ip(announced)
    found = await asyncio.gather(*(_addresses(tools, name) for name in names[:MAX_LOOKED_UP]))
    return tuple(
        name for name, texts in zip(names, found, strict=False) if any(parse_ip(text) == here for text in texts)
    )


async def _addresses(tools: Tools, name: str) -> list[str]:
    if parse_ip(name) is not None or name.startswith("*"):
        return [name]
    try:
        async with asyncio.timeout(LOOK_UP_S):
            return await tools.resolver(name, 0)
    except (OSError, UnicodeError):  # a time-out is one
        return []


def judge_certificate(seen: CertificateSeen, announced: str, now_unix_s: float) -> Finding:
    """What to make of it. ``announced``: the address that trunks are told."""
    if seen.problem:
        return failed(NAME, seen.problem, "Mend the file; the bridge does not start without it.")
    if seen.begins_unix_s > now_unix_s:
        return failed(NAME, "it is not valid yet", "Set this machine's clock; if it is right, have it issued again.")
    days = int((seen.expires_unix_s - now_unix_s) // DAY_S)
    if days < 0:
        return failed(NAME, "it has expired", "Renew it; the bridge takes the new files by itself in half a minute.")
    about = f"good for {days} days, for {listed(seen.names)}" if seen.names else f"good for {days} days"
    if days < EXPIRY_WARNING_DAYS:
        return warning(NAME, about, "Renew it now; see why it is not automatic. No restart is needed.")
    if not seen.names:
        return warning(
            NAME,
            f"{about}, but names no host in subjectAltName; peers look there only",
            "Have it issued again, for the name that trunks call.",
        )
    if seen.is_self_signed:
        return warning(
            NAME,
            f"{about}, signed by itself",
            "Get one from a public authority; carriers refuse others, unless they were given this one.",
        )
    if not seen.leading_here and not any(name.startswith("*") for name in seen.names):
        return warning(
            NAME,
            f"{about}; from here none of these leads to {announced}",
            f"Have trunks call one of these names, and have it lead to {announced}; peers that check refuse others.",
        )
    return ok(NAME, about)


async def check_certificate(tools: Tools) -> Finding:
    """The certificate of the settings."""
    settings = tools.settings
    if settings.sip_tls_cert is None:
        return skipped(NAME, "SIP_TLS_CERT is not set: no SIP over TLS")
    seen = await asyncio.to_thread(look_at_files, tls_options(settings))
    announced = settings.sip_announced_host
    here = await names_leading_here(tools, seen.names, announced)
    return judge_certificate(replace(seen, leading_here=here), announced, tools.unix())
