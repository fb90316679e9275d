"""What the SIP sockets are told at start, and what they count."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bridge.server.sip.limits import LimitOptions
from bridge.sip.flow import Transport
from bridge.sip.parse import DEFAULT_LIMITS, Limits


@dataclass(frozen=True, slots=True)
class Listen:
    """One place to listen."""

    transport: Transport
    host: str
    """Numeric address, IPv6 without brackets; ``0.0.0.0`` or ``::`` for every interface of that family."""
    port: int
    """0 = any, for tests."""
    setting: str
    """The setting that the port comes from, for the message when it is taken."""


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """Certificates, all in PEM files."""

    certificate_file: Path | None = None
    """Ours, then those that lead to its authority. Shown to callers and, where they ask, to those whom we call."""
    key_file: Path | None = None
    """Its private key, without a password; None = in the same file."""
    ca_file: Path | None = None
    """Authorities trusted for peers whom we call, besides those of the system."""
    client_ca_file: Path | None = None
    """Authorities of callers: with it, every caller must show a certificate of theirs. None = none is asked for."""
    certificate_setting: str = "SIP_TLS_CERT"
    """How the settings are called, for messages."""
    key_setting: str = "SIP_TLS_KEY"
    """See ``certificate_setting``."""
    ca_setting: str = "SIP_TLS_CA"
    """See ``certificate_setting``."""
    client_ca_setting: str = "SIP_TLS_CLIENT_CA"
    """See ``certificate_setting``."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How connections of TCP and TLS are treated."""

    connect_timeout_s: float = 5.0
    """TCP and TLS handshake together, of connections that we open: next targets must still fit a caller's patience."""
    handshake_timeout_s: float = 10.0
    """TLS handshake of connections that peers open; the slow-loris of TLS."""
    unfinished_s: float = 10.0
    """How long a message may take from its first to its last byte."""
    first_message_s: float = 30.0
    """How long a stranger's connection may last without a message."""
    idle_s: float = 600.0
    """How long a connection may last without use; RFC 3261 section 18 wants 32 s at least after the last message."""
    keepalive_s: float = 30.0
    """How often we ping on connections that we opened, so that firewalls keep them; 0 = never."""
    user_timeout_s: float = 20.0
    """How long sent bytes may stay unacknowledged before the kernel gives a connection up (TCP_USER_TIMEOUT): less
    than the 32 s of a transaction, so that a dead connection is replaced while its request still counts."""
    max_pending: int = 256
    """Messages that wait for one connection to open."""
    max_connecting: int = 256
    """Connections that are being opened at once."""
    max_write_bytes: int = 256 * 1024
    """Unsent bytes at which a connection counts as stuck and is given up."""


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """Everything that ``Transports`` is told."""

    listen: tuple[Listen, ...]
    """Where to listen; for UDP one place for each family of addresses, which is also where datagrams leave from."""
    message_limits: Limits = DEFAULT_LIMITS
    """Sizes of messages."""
    limits: LimitOptions = LimitOptions()
    """What one address may ask for."""
    streams: StreamOptions = StreamOptions()
    """TCP and TLS."""
    tls: TlsOptions = TlsOptions()
    """Certificates; a TLS listener needs one."""
    sweep_s: float = 1.0
    """How often connections are looked through for those whose time is up."""
    certificate_poll_s: float = 30.0
    """How often certificate files are looked at for a new one; 0 = only when told to."""
    close_grace_s: float = 2.0
    """How long connections may take to send what is left when everything closes."""


@dataclass(slots=True)
class TransportCounts:
    """What happened since the start; plain numbers for the metrics."""

    received: dict[str, int] = field(default_factory=lambda: {each.value: 0 for each in Transport})
    """Messages in, by transport."""
    sent: dict[str, int] = field(default_factory=lambda: {each.value: 0 for each in Transport})
    """Messages out, by transport."""
    not_sip: int = 0
    """Datagrams that were no SIP, and connections that were closed because of their bytes."""
    limited: int = 0
    """Datagrams dropped and pauses made because an address sent too much."""
    refused_connections: int = 0
    """Connections closed at once: too many."""
    failed_handshakes: int = 0
    """Callers who did not get through the TLS handshake."""
    slow_connections: int = 0
    """Connections closed because a message, or the first one, did not come to its end in time."""
    failed_connects: int = 0
    """Connections that we could not open."""
    dropped: int = 0
    """Messages that could not be sent."""
