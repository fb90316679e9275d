"""TLS for SIP: contexts for both directions, and certificates that are exchanged while calls go on.

TLS 1.2 and later. Peers whom we call must show a certificate that is good for the name (or address) that was called
and that leads to an authority of the system or of ``ca_file``; there is no way to switch that off. Names in
certificates are matched as for HTTPS (DNS names and addresses); the ``sip:`` URIs of RFC 5922 section 7.1 are not.
No ALPN: some carriers end the handshake when they see one.

A reload makes new contexts and takes them only if everything about them is right; handshakes to come use them, and
connections that are open keep theirs. Sources: RFC 3261 section 26.3, RFC 5922, RFC 5630.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from bridge.errors import ConfigError
from bridge.server.logs import get_logger
from bridge.server.sip.options import TlsOptions

_Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class _Contexts:
    server: ssl.SSLContext | None
    client: ssl.SSLContext
    expires_at: float | None


class TlsContexts:
    """The contexts in use. Reading files blocks for some milliseconds: at start, and at a reload."""

    def __init__(self, options: TlsOptions) -> None:
        """Read everything. Raises ``ConfigError`` naming the setting and what is wrong with its file."""
        self._options = options
        self._files = [
            path
            for path in (options.certificate_file, options.key_file, options.ca_file, options.client_ca_file)
            if path is not None
        ]
        self._stamp = self._stamp_now()
        self._contexts = _load(options)

    @property
    def server(self) -> ssl.SSLContext | None:
        """For connections that peers open; None = no certificate is configured."""
        return self._contexts.server

    @property
    def client(self) -> ssl.SSLContext:
        """For connections that we open."""
        return self._contexts.client

    @property
    def expires_at(self) -> float | None:
        """When our certificate ends, in seconds since 1970; None = there is none."""
        return self._contexts.expires_at

    @property
    def is_configured(self) -> bool:
        """Whether there are files to look at."""
        return bool(self._files)

    def reload(self) -> bool:
        """Read all files anew; False = they do not work and the old contexts stay, which is logged with the reason."""
        self._stamp = self._stamp_now()
        try:
            self._contexts = _load(self._options)
        except ConfigError as error:
            get_logger().error("sip_certificate_not_reloaded", problem=str(error), expires_at=self.expires_at)
            return False
        get_logger().info("sip_certificate_reloaded", expires_at=self.expires_at)
        return True

    def reload_if_changed(self) -> bool:
        """Reload where a file is another one than last time, broken or not; whether new contexts are in use."""
        return self._stamp_now() != self._stamp and self.reload()

    def _stamp_now(self) -> _Stamp:
        return tuple(_stamp(path) for path in self._files)


def _stamp(path: Path) -> tuple[int, int, int]:
    """What changes when a file is written or replaced, links followed: mounted secrets are links."""
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_ino, found.st_size)


def _load(options: TlsOptions) -> _Contexts:
    client = ssl.create_default_context()
    # Python 3.13 refuses authorities without key identifiers, as telephone systems make their own; 3.11 takes them.
    client.verify_flags &= ~ssl.VERIFY_X509_STRICT
    client.minimum_version = ssl.TLSVersion.TLSv1_2
    if options.ca_file is not None:
        _load_authorities(client, options.ca_file, options.ca_setting)
    if options.certificate_file is None:
        return _Contexts(None, client, None)
    expires_at = _end_of(options.certificate_file, options)
    _load_own(client, options.certificate_file, options)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_own(server, options.certificate_file, options)
    if options.client_ca_file is not None:
        _load_authorities(server, options.client_ca_file, options.client_ca_setting)
        server.verify_mode = ssl.CERT_REQUIRED
    return _Contexts(server, client, expires_at)


def _load_own(context: ssl.SSLContext, certificate_file: Path, options: TlsOptions) -> None:
    key_file = options.key_file
    setting = options.certificate_setting if key_file is None else options.key_setting
    try:
        # The empty password keeps OpenSSL from asking for one at the terminal.
        context.load_cert_chain(certificate_file, key_file, password="")
    except ssl.SSLError as error:
        raise ConfigError(
            f"{setting}: certificate and key do not work together ({error.reason or 'not readable as PEM'}); "
            "give a PEM certificate chain and its own key without a password"
        ) from None
    except OSError as error:
        raise ConfigError(f"{setting}: the file cannot be read ({os.strerror(error.errno or 0)})") from None


def _load_authorities(context: ssl.SSLContext, path: Path, setting: str) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise ConfigError(f"{setting}: the file holds no PEM certificate") from None
    except OSError as error:
        raise ConfigError(f"{setting}: the file cannot be read ({os.strerror(error.errno or 0)})") from None


def _end_of(path: Path, options: TlsOptions) -> float:
    """When the first certificate of a file ends: the one that is shown as ours."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp()
    except OSError as error:
        problem = f"the file cannot be read ({os.strerror(error.errno or 0)})"
    except ValueError:
        problem = "the file holds no PEM certificate"
    raise ConfigError(f"{options.certificate_setting}: {problem}")
