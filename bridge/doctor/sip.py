"""The checks of SIP, from the settings and the trunks; a single line where no port of SIP is set."""

from __future__ import annotations

import asyncio
import secrets
from functools import partial

from bridge.doctor import sip_certificate, sip_ports, sip_settings, sip_trunks
from bridge.doctor.findings import Finding, skipped
from bridge.doctor.runner import Check
from bridge.doctor.sip_ask import ASK_TIMEOUT_S, Asking, Question, bracketed
from bridge.doctor.tools import Tools
from bridge.server.sip.resolver import Resolver, ResolverOptions
from bridge.server.sip.wiring import PRODUCT, listens, resolver_options
from bridge.sip.flow import Flow
from bridge.sip.trunks import IpAddress, Outbound, Trunk, parse_ip

NAME = "SIP"
MAX_TRUNKS = 20
"""Trunks that are asked; each costs a question per way."""
LOOK_UP_S = ResolverOptions().timeout_s
TRUNK_TIMEOUT_S = LOOK_UP_S + ASK_TIMEOUT_S + 3.0
"""Name, question, parting."""
ID_BYTES = 12


def sip_checks(tools: Tools) -> list[Check]:
    """All of them for this configuration."""
    settings = tools.settings
    if not settings.has_sip:
        return [Check(NAME, _no_port)]
    asking = Asking(lambda: secrets.token_hex(ID_BYTES), tools.monotonic)
    placing = [trunk for trunk in tools.trunks if trunk.outbound is not None]
    return [
        Check(sip_settings.TRUNKS_NAME, partial(check_trunks, tools)),
        Check(sip_settings.ADDRESS_NAME, partial(check_address, tools)),
        *(
            Check(sip_ports.ports_name(listen), partial(sip_ports.check_port, tools, listen, asking))
            for listen in listens(settings)
        ),
        Check(sip_settings.RANGE_NAME, partial(sip_ports.check_range, tools)),
        Check(sip_certificate.NAME, partial(sip_certificate.check_certificate, tools)),
        *(
            Check(sip_trunks.trunk_name(trunk), partial(check_trunk, tools, trunk, asking), TRUNK_TIMEOUT_S)
            for trunk in placing[:MAX_TRUNKS]
        ),
        *([Check(NAME, partial(_left_out, len(placing) - MAX_TRUNKS))] if len(placing) > MAX_TRUNKS else []),
    ]


async def _no_port() -> Finding:
    return skipped(NAME, "none of SIP_UDP_PORT, SIP_TCP_PORT and SIP_TLS_PORT is set: no SIP trunks")


async def _left_out(count: int) -> Finding:
    return skipped(NAME, f"{count} more trunks place calls; only the first {MAX_TRUNKS} are asked")


async def check_trunks(tools: Tools) -> Finding:
    """Who can call, and where calls go, from the settings alone."""
    return sip_settings.judge_trunks(tools.trunks, is_auth_on=tools.settings.bridge_auth == "on")


async def check_address(tools: Tools) -> Finding:
    """Where the bridge listens and what it tells trunks, against where these are."""
    placing = [(trunk.name, trunk.outbound) for trunk in tools.trunks if trunk.outbound is not None]
    found = await asyncio.gather(*(find_ways(tools, outbound) for _, outbound in placing[:MAX_TRUNKS]))
    outbound = {name: _addresses(ways) for (name, _), ways in zip(placing, found, strict=False)}
    peers = sip_settings.peers_of(tools.trunks, outbound)
    return sip_settings.judge_address(tools.settings, peers, tools.settings.sip_announced_host)


def _addresses(ways: tuple[Flow, ...]) -> tuple[IpAddress, ...]:
    return tuple(address for flow in ways if (address := parse_ip(flow.host)) is not None)


async def check_trunk(tools: Tools, trunk: Trunk, asking: Asking) -> Finding:
    """One trunk that calls are placed over."""
    settings, outbound = tools.settings, trunk.outbound
    assert outbound is not None, "others are not looked at"
    tls = await tools.once("SIP: TLS", lambda: asyncio.to_thread(sip_certificate.client_context, settings))
    own = bracketed(settings.sip_announced_host)
    bind_host = "" if settings.sip_host in sip_ports.UNSPECIFIED else settings.sip_host
    seen = await sip_trunks.look_at_trunk(
        outbound,
        partial(find_ways, tools),
        [listen.transport for listen in listens(settings)],
        lambda uri: Question(uri, own, f"{PRODUCT} doctor", bind_host),
        Asking(asking.new_id, asking.monotonic, tls),
    )
    return sip_trunks.judge_trunk(trunk, seen, settings.sip_announced_host, tools.unix())


async def find_ways(tools: Tools, outbound: Outbound) -> tuple[Flow, ...]:
    """The ways that a call would take, looked up once for all checks."""

    async def find() -> tuple[Flow, ...]:
        resolver = Resolver(resolver_options(tools.settings))
        try:
            return await resolver.find(outbound.host, outbound.port, outbound.transport, is_secure=False)
        finally:
            await resolver.close()

    return await tools.once(f"SIP: {outbound.host} {outbound.port} {outbound.transport}", find)
