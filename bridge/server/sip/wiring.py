"""The SIP side put together from the operator's settings."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

from bridge import __version__
from bridge.auth.sip_digest import DigestOptions, DigestServer
from bridge.calls.number_list import is_listed
from bridge.config import Settings
from bridge.server.sip.control import SipControl
from bridge.server.sip.media_engine import MediaEngine
from bridge.server.sip.media_ports import PortOptions, RtpPorts
from bridge.server.sip.message_trail import MessageTrail, TraceSink
from bridge.server.sip.options import Listen, TlsOptions, TransportOptions
from bridge.server.sip.resolver import Resolver, ResolverOptions
from bridge.server.sip.service import SipParts, SipService, new_id
from bridge.server.sip.transports import Transports
from bridge.sip import leg
from bridge.sip.access import AccessGate, AccessOptions, AccessTools, Refusal, Unknown
from bridge.sip.call import SipCall
from bridge.sip.call_facts import SipCallFacts, call_facts
from bridge.sip.envelope import Envelope, read_request
from bridge.sip.flow import Announced, Flow, Transport
from bridge.sip.media_options import KeyWay, MediaOptions
from bridge.sip.trunks import DtmfWay, Trunk, Trunks
from bridge.sip.ua_options import AgentOptions
from bridge.sip.user_agent import UserAgent

if TYPE_CHECKING:
    from bridge.server.service import Bridge

SECRET_BYTES = 32
PRODUCT = f"telephony-bridge/{__version__}"

_KEY_WAYS = {
    DtmfWay.AUTO: KeyWay.AUTO,
    DtmfWay.RFC4733: KeyWay.AUTO,
    DtmfWay.INFO: KeyWay.INFO,
    DtmfWay.INBAND: KeyWay.INBAND,
}


def media_options(settings: Settings, trunk: Trunk) -> MediaOptions:
    """See ``MediaOptions``."""
    return MediaOptions(
        key_way=_KEY_WAYS[trunk.dtmf],
        has_inband_detection=trunk.detects_tones,
        first_media_timeout_s=settings.sip_first_media_timeout_s,
        media_timeout_s=settings.sip_rtp_timeout_s,
    )


def facts_of(call: SipCall) -> SipCallFacts:
    """What the INVITE of an admitted call says."""
    envelope = read_request(call.request)
    assert isinstance(envelope, Envelope)  # it was admitted
    return call_facts(call.request, envelope, call.trunk)


def listens(settings: Settings) -> tuple[Listen, ...]:
    """Where to listen."""
    host = settings.sip_host
    ports = (
        (Transport.UDP, settings.sip_udp_port, "SIP_UDP_PORT"),
        (Transport.TCP, settings.sip_tcp_port, "SIP_TCP_PORT"),
        (Transport.TLS, settings.sip_tls_port, "SIP_TLS_PORT"),
    )
    return tuple(Listen(transport, host, port, name) for transport, port, name in ports if port is not None)


def announced(settings: Settings) -> dict[Transport, Announced]:
    """What peers are told of each transport."""
    host = settings.sip_announced_host
    bracketed = f"[{host}]" if ":" in host else host
    return {listen.transport: Announced(bracketed, listen.port) for listen in listens(settings)}


def transport_options(settings: Settings) -> TransportOptions:
    """See ``TransportOptions``."""
    tls = TlsOptions(
        settings.sip_tls_cert,
        settings.sip_tls_key,
        settings.sip_tls_ca,
        settings.sip_tls_client_ca,
        certificate_setting="SIP_TLS_CERT",
        key_setting="SIP_TLS_KEY",
        ca_setting="SIP_TLS_CA",
        client_ca_setting="SIP_TLS_CLIENT_CA",
    )
    return TransportOptions(listens(settings), tls=tls)


def resolver_options(settings: Settings) -> ResolverOptions:
    """See ``ResolverOptions``: whatever we could not be answered over is not asked for."""
    ours = {listen.transport for listen in listens(settings)}
    order = tuple(each for each in (Transport.TLS, Transport.TCP, Transport.UDP) if each in ours)
    return ResolverOptions(transports=order, ipv6=":" in settings.sip_host)


def port_options(settings: Settings) -> PortOptions:
    """See ``PortOptions``."""
    return PortOptions(
        settings.sip_host, settings.sip_announced_host, settings.sip_rtp_port_min, settings.sip_rtp_port_max
    )


def known_trunks(bridge: Bridge) -> Trunks:
    """The operator's trunks; with BRIDGE_AUTH=off also everybody on this machine."""
    local = (bridge.settings.local_trunk,) if bridge.settings.bridge_auth == "off" else ()
    return Trunks((*bridge.trunks, *local))


def add_control(bridge: Bridge) -> None:
    """Have the bridge place calls and transfer callers over SIP, once the service runs."""
    if bridge.settings.has_sip:
        bridge.parts.controls[leg.NAME] = SipControl(known_trunks(bridge))


@contextlib.asynccontextmanager
async def sip_service(bridge: Bridge) -> AsyncIterator[SipService | None]:
    """The SIP side of a bridge, running while this context is open; None where no port of SIP is set.

    Raises ``ConfigError`` for what cannot work: a port that is taken, a certificate that cannot be read.
    """
    if not bridge.settings.has_sip:
        yield None
        return
    store = bridge.parts.sip_messages
    service = open_service(bridge, store)
    if store is not None:
        store.live = service.trace
    try:
        await service.start()
        yield service
    finally:
        await service.close()


def open_service(bridge: Bridge, sink: TraceSink | None) -> SipService:
    """The service, its parts joined; not started."""
    settings = bridge.settings
    gate = _open_gate(bridge, lambda flow: service.transports.peer_names(flow))
    parts = SipParts(
        UserAgent(AgentOptions(announced(settings), user_agent=PRODUCT), gate, new_id),
        MediaEngine(RtpPorts(port_options(settings))),
        Resolver(resolver_options(settings)),
        facts_of,
        lambda trunk: media_options(bridge.settings, trunk),
        lambda: bridge.settings.sip_when_full,
    )

    def open_transports(own: SipService) -> Transports:
        return Transports(
            transport_options(settings),
            own.on_message,
            own.on_send_failed,
            is_trusted=lambda host: gate.is_trusted(host, monotonic()),
            is_needed=own.needs_connection,
        )

    service = SipService(bridge, parts, open_transports, MessageTrail(bridge.metrics.sip, sink))
    _follow_settings(bridge, service, gate)
    _show_metrics(bridge, service, gate)
    return service


def _open_gate(bridge: Bridge, names_of: Callable[[Flow], tuple[str, ...]]) -> AccessGate:
    """Who may call; ``names_of`` reads the certificate of whoever is at the other end."""
    settings, trunks = bridge.settings, known_trunks(bridge)
    if not len(trunks):
        advice = (
            "Set SIP_ALLOWED_ADDRESSES, or SIP_USERNAME and SIP_PASSWORD, or [trunks.NAME]: nobody can call by SIP."
        )
        bridge.log.warning("not_configured", advice=advice)
    options = DigestOptions(settings.sip_realm, algorithms=settings.sip_digest_algorithms)
    tools = AccessTools(
        DigestServer(options, secrets.token_bytes(SECRET_BYTES)),
        secrets.token_bytes(SECRET_BYTES),
        secrets.token_bytes,
        time.time,
        is_listed,
        names_of=names_of,
        on_refused=lambda refusal, flow: _refused(bridge, refusal, flow),
        on_banned=lambda flow: _banned(bridge, flow),
    )
    return AccessGate(trunks, tools, AccessOptions(Unknown(settings.sip_unknown)))


def _follow_settings(bridge: Bridge, service: SipService, gate: AccessGate) -> None:
    """Give the control client its service, and both the trunks whenever they change."""
    control = bridge.parts.controls.get(leg.NAME)
    assert isinstance(control, SipControl)  # see ``add_control``
    control.service = service

    def follow() -> None:
        fresh = known_trunks(bridge)
        gate.replace_trunks(fresh)
        gate.options = replace(gate.options, unknown=Unknown(bridge.settings.sip_unknown))
        control.trunks = fresh
        service.transports.reload_certificate()

    bridge.on_apply.append(follow)


def _show_metrics(bridge: Bridge, service: SipService, gate: AccessGate) -> None:
    """Have the metrics of SIP ask this service."""
    sip, media, transports = bridge.metrics.sip, service.media, service.transports
    sip.live = lambda: list(service.lines.values())
    sip.transactions = lambda: service.agent.open_transactions
    sip.banned = lambda: gate.banned(monotonic())
    sip.connections = lambda: transports.open_connections
    sip.ports = lambda: (2 * media.ports.in_use, 2 * media.ports.options.count)
    sip.malformed = lambda: transports.counts.not_sip
    sip.pacing = lambda: media.pacing
    bridge.metrics.sources.append(sip)


def _refused(bridge: Bridge, refusal: Refusal, flow: Flow) -> None:
    bridge.metrics.sip.refused.labels(refusal.value).inc()
    if refusal not in (Refusal.CHALLENGED, Refusal.BANNED, Refusal.THROTTLED):  # a scanner must not fill the log
        bridge.log.warning(
            "sip_request_refused", reason=refusal.value, source=flow.host, transport=flow.transport.value
        )


def _banned(bridge: Bridge, flow: Flow) -> None:
    bridge.metrics.sip.bans.inc()
    bridge.log.warning("sip_source_banned", source=flow.host, advice="It guesses; it gets no answer for a while.")
