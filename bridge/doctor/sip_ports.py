"""Whether the ports for SIP and RTP can be had on this machine, or who has them.

A port is opened for a moment and let go of again. Where that does not work, whoever has it is asked with OPTIONS: the
bridge that runs names itself in its answer, even if that is a refusal. Of a large range of RTP ports a sample is tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bridge.doctor.findings import Finding, failed, ok, skipped, warning
from bridge.doctor.reach import Trouble
from bridge.doctor.sip_ask import Answer, Asking, Question, Silence, ask, bracketed
from bridge.doctor.sip_settings import RANGE_NAME, judge_range, options_of_range
from bridge.doctor.tools import Tools
from bridge.errors import ConfigError
from bridge.server.sip.binding import open_socket
from bridge.server.sip.media_ports import PortOptions
from bridge.server.sip.options import Listen
from bridge.server.sip.wiring import PRODUCT
from bridge.sip.flow import Flow, Transport

MAX_PAIRS_TRIED = 64
"""Pairs of RTP ports: a few milliseconds, whatever the size of the range."""
MANY = 0.25
"""Share of taken pairs from which on it is worth a word."""
ELSEWHERE = "--at names a bridge elsewhere, whose ports cannot be tried from here"

UNSPECIFIED = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""Hosts that stand for all addresses of this machine, and where to ask it then."""


def ports_name(listen: Listen) -> str:
    """The check's name."""
    return f"SIP: {listen.transport.value} port"


# --- signalling ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PortSeen:
    """What came of opening a port."""

    problem: str = ""
    """Why it cannot be opened, with the setting's name and the mend; empty = it can."""
    answer: Answer | None = None
    """What whoever is there said to OPTIONS; None = nobody was asked: the port is free, or the address not ours."""


async def look_at_port(listen: Listen, asking: Asking) -> PortSeen:
    """Open it, or ask who is there."""
    try:
        open_socket(listen).close()
    except ConfigError as error:
        if not _is_ours(listen.host):  # another machine has not taken a port of this one
            return PortSeen(str(error))
        host = UNSPECIFIED.get(listen.host, listen.host)
        question = Question(f"sip:{bracketed(host)}:{listen.port}", bracketed(host), f"{PRODUCT} doctor")
        return PortSeen(str(error), await ask(Flow(listen.transport, host, listen.port), question, asking))
    return PortSeen()


def _is_ours(host: str) -> bool:
    try:
        _bound(host, 0).close()
    except OSError:
        return False
    return True


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def judge_port(listen: Listen, seen: PortSeen, *, is_silent: bool, wants_certificate: bool) -> Finding:
    """What to make of it. ``is_silent``: strangers get no answer; ``wants_certificate``: of whoever connects."""
    name = ports_name(listen)
    place = f"{listen.host} port {listen.port}"
    if not seen.problem:
        return ok(name, f"{place} is free; no bridge listens there now")
    answer = seen.answer or Answer(Flow(listen.transport, listen.host, listen.port))
    product, ours = answer.product, PRODUCT.partition("/")[0]
    if product == PRODUCT:
        return ok(name, f"{place}: the running bridge answers OPTIONS there")
    if product.partition("/")[0] == ours:
        return warning(
            name,
            f"{place}: a bridge of another version than this doctor answers there",
            "Restart the bridge with this version.",
        )
    setting, _, words = seen.problem.partition(": ")
    words, _, mend = words.partition("; ")
    mend = f"{setting}: {mend or 'look at this port and at SIP_HOST'}."
    if answer.status:
        return failed(name, f"{words}, and speaks SIP, too", mend)
    if _may_be_ours(answer, listen, is_silent=is_silent, wants_certificate=wants_certificate):
        return warning(
            name,
            f"{place} is taken, and who has it says nothing to this machine",
            "Right if that is the bridge: with these settings it does not talk to strangers. Else stop that program.",
        )
    return failed(name, words, mend)


def _may_be_ours(answer: Answer, listen: Listen, *, is_silent: bool, wants_certificate: bool) -> bool:
    if answer.trouble is Trouble.NO_TLS and listen.transport is Transport.TLS:
        return wants_certificate
    return is_silent and answer.trouble is Silence.TIME_OUT


def own_tls() -> ssl.SSLContext:
    """For asking this machine itself who it is; whether the certificate is right is another check."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def check_port(tools: Tools, listen: Listen, asking: Asking) -> Finding:
    """One port for signalling."""
    if tools.options.at:
        return skipped(ports_name(listen), ELSEWHERE)
    settings = tools.settings
    seen = await look_at_port(listen, replace(asking, tls=own_tls()))
    return judge_port(
        listen,
        seen,
        is_silent=settings.sip_unknown == "silent",
        wants_certificate=settings.sip_tls_client_ca is not None,
    )


# --- audio -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RangeSeen:
    """What came of opening pairs of RTP ports."""

    tried: int
    problems: Counter[int]
    """How many failed, by ``errno``."""


def sample(options: PortOptions) -> Sequence[int]:
    """Even ports all over the range, the first and the last one among them."""
    count = min(options.count, MAX_PAIRS_TRIED)
    last = options.count - 1
    return [options.first_port + 2 * (last * number // max(count - 1, 1)) for number in range(count)]


def look_at_range(options: PortOptions) -> RangeSeen:
    """Open the pairs one after the other."""
    ports = sample(options)
    problems: Counter[int] = Counter()
    for port in ports:
        with contextlib.ExitStack() as stack:
            try:
                for each in (port, port + 1):
                    stack.enter_context(_bound(options.bind_host, each))
            except OSError as error:
                problems[error.errno or 0] += 1
    return RangeSeen(len(ports), problems)


def judge_ports(options: PortOptions, seen: RangeSeen, max_calls: int) -> Finding:
    """What to make of range and sample."""
    about = f"{options.port_min} to {options.port_max}"
    taken = seen.problems[errno.EADDRINUSE]
    others = [number for number in seen.problems if number != errno.EADDRINUSE]
    if others:
        return failed(
            RANGE_NAME,
            f"{about} cannot be opened on {options.bind_host}: {os.strerror(others[0])}",
            "Set SIP_HOST to an address of this machine, or to 0.0.0.0.",
        )
    if taken == seen.tried:
        return failed(
            RANGE_NAME,
            f"{about}: none of {seen.tried} pairs that were tried is free",
            "Set SIP_RTP_PORT_MIN and SIP_RTP_PORT_MAX to ports that no other program uses; if the bridge is full of "
            "calls just now, make the range larger.",
        )
    short = judge_range(options.count, options.first_port, options.port_max, max_calls)
    if short is not None:
        return short
    seen_words = f"{about}: enough for {options.count} calls"
    if not taken:
        return ok(RANGE_NAME, seen_words)
    seen_words += f"; {taken} of {seen.tried} pairs that were tried are taken, by calls or other programs"
    if taken < seen.tried * MANY:
        return ok(RANGE_NAME, seen_words)
    return warning(
        RANGE_NAME, seen_words, "If these are no calls, set SIP_RTP_PORT_MIN and SIP_RTP_PORT_MAX to other ports."
    )


async def check_range(tools: Tools) -> Finding:
    """The ports for RTP."""
    options = options_of_range(tools.settings)
    if isinstance(options, Finding):
        return options
    max_calls = tools.settings.bridge_max_calls
    if tools.options.at:
        short = judge_range(options.count, options.first_port, options.port_max, max_calls)
        return short if short is not None else skipped(RANGE_NAME, ELSEWHERE)
    return judge_ports(options, await asyncio.to_thread(look_at_range, options), max_calls)
