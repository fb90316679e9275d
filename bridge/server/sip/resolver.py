"""From a peer's name to the ways that lead there: SRV, then addresses, in the order in which to try them.

RFC 3263 without NAPTR: the order of transports comes from the options instead of the domain. A numeric address is
taken as it is. A port means that the name is a host. Otherwise the SRV records of the wanted transport are asked for,
of TLS, TCP and UDP in this order where none is wanted, and without any the name is a host on the default port. Names
that DNS does not know are looked up as the system does (hosts files).

Answers are kept as long as their TTL allows, in a bounded book. When DNS is down, an answer that has run out is used
all the same (RFC 8767): a trunk's address rarely changes in the minute in which a resolver fails. Every look-up is
bounded in time, and several for the same name at once are one. The order among SRV records of one priority is drawn
by weight (RFC 2782). Nothing here raises for what DNS says: no way found is an empty answer.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver
from dns.rdtypes.IN.SRV import SRV

from bridge.errors import RemoteError
from bridge.sip.flow import Flow, Transport

DEFAULT_NAMESERVER_PORT = 53


@dataclass(frozen=True, slots=True)
class ResolverOptions:
    """How names are looked up."""

    transports: tuple[Transport, ...] = (Transport.TLS, Transport.TCP, Transport.UDP)
    """What SRV is asked for where no transport is wanted, best first; the order of RFC 3263's example."""
    ipv6: bool = False
    """Whether IPv6 addresses are asked for, after IPv4: where nothing listens on IPv6 they lead nowhere."""
    timeout_s: float = 5.0
    """One whole look-up: what a caller hears as one ring."""
    query_timeout_s: float = 2.0
    """One question to DNS, repeats included, so that two in a row fit into the whole."""
    max_ways: int = 8
    """Ways given back: each may cost the time of a connection that fails."""
    max_names: int = 1000
    """Answers kept."""
    max_ttl_s: float = 3600.0
    """How long an answer is kept at most, whatever its TTL."""
    negative_ttl_s: float = 30.0
    """How long it is remembered that there is no such record, what hosts files say, and that DNS is down."""
    stale_s: float = 86_400.0
    """How long an answer that has run out serves while DNS fails; RFC 8767 section 5 suggests 1 to 3 days."""
    nameservers: tuple[str, ...] = ()
    """Numeric addresses; empty = those of the system."""
    nameserver_port: int = DEFAULT_NAMESERVER_PORT
    """For ``nameservers``."""


@dataclass(frozen=True, slots=True)
class SrvRecord:
    """One SRV record."""

    priority: int
    weight: int
    port: int
    target: str


def order_srv(records: Iterable[SrvRecord], draw: Callable[[], float]) -> list[SrvRecord]:
    """The records in the order to try them: by priority, within it drawn by weight (RFC 2782).

    ``draw`` gives numbers of 0.0 to below 1.0.
    """
    left = sorted(records, key=lambda record: (record.priority, record.weight))
    ordered: list[SrvRecord] = []
    while left:
        group = [record for record in left if record.priority == left[0].priority]
        mark = draw() * sum(record.weight for record in group)
        total = 0
        for chosen in group:  # those of weight 0 come first and have a small chance
            total += chosen.weight
            if total >= mark:
                break
        ordered.append(chosen)
        left.remove(chosen)
    return ordered


@dataclass(slots=True)
class _Entry:
    """An answer: texts of addresses, or SRV records; empty = there are none."""

    values: tuple[str | SrvRecord, ...]
    until: float
    """When to ask again."""
    stale_until: float = 0.0
    """How long it may stand in while DNS gives no answer."""


class _DnsFailed(RemoteError):
    """DNS gave no answer, neither a good nor a bad one."""


class Resolver:
    """Looks names up; one for all trunks."""

    def __init__(
        self,
        options: ResolverOptions = ResolverOptions(),
        *,
        monotonic: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._options = options
        self._monotonic = monotonic
        self._draw = draw
        self._book: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._running: dict[tuple[str, str], asyncio.Task[_Entry]] = {}
        self._dns: dns.asyncresolver.Resolver | None = None

    async def find(self, host: str, port: int | None, transport: Transport | None, is_secure: bool) -> tuple[Flow, ...]:
        """The ways to a host, best first; empty = none, or none in time.

        ``host`` is a name or a numeric address, with or without brackets. ``port`` and ``transport`` are None where
        the URI leaves them open, ``is_secure`` is for ``sips``. TLS ways carry the name that the certificate must be
        good for: ``host``, whatever SRV says (RFC 5922 section 4).
        """
        if is_secure:
            transport = Transport.TLS
        name = host.strip("[]").rstrip(".").lower()
        if _is_numeric(name):
            return (_flow(transport or Transport.UDP, name, port, name),)
        try:
            async with asyncio.timeout(self._options.timeout_s):
                return (await self._find_name(name, port, transport))[: self._options.max_ways]
        except TimeoutError:
            return ()

    async def close(self) -> None:
        """Give up whatever is being looked up."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _find_name(self, name: str, port: int | None, transport: Transport | None) -> tuple[Flow, ...]:
        if port is None:
            wanted = self._options.transports if transport is None else (transport,)
            found = await asyncio.gather(*(self._find_service(name, each) for each in wanted))
            if any(each is not None for each in found):
                return tuple(flow for each in found for flow in each or ())
        transport = transport or Transport.UDP
        return tuple(_flow(transport, address, port, name) for address in await self._addresses(name))

    async def _find_service(self, name: str, transport: Transport) -> list[Flow] | None:
        """The ways that SRV names for one transport; None = it names none, and the name may be a host itself."""
        prefix = {Transport.TLS: "_sips._tcp", Transport.TCP: "_sip._tcp", Transport.UDP: "_sip._udp"}[transport]
        values = await self._look_up(f"{prefix}.{name}", "SRV")
        records = [value for value in values if isinstance(value, SrvRecord)]
        if not records:
            return None
        # A target of "." says that the service is decidedly not there (RFC 2782).
        ordered = [record for record in order_srv(records, self._draw) if record.target]
        ordered = ordered[: self._options.max_ways]
        hosts = await asyncio.gather(*(self._addresses(record.target) for record in ordered))
        return [
            _flow(transport, address, record.port, name)
            for record, addresses in zip(ordered, hosts, strict=True)
            for address in addresses
        ]

    async def _addresses(self, name: str) -> list[str]:
        if _is_numeric(name):  # in an SRV record, against the RFC
            return [name]
        kinds = ("A", "AAAA") if self._options.ipv6 else ("A",)
        found = await asyncio.gather(*(self._look_up(name, kind) for kind in kinds))
        addresses = [value for values in found for value in values if isinstance(value, str)]
        if addresses:
            return addresses
        return [value for value in await self._look_up(name, "hosts") if isinstance(value, str)]

    # --- the book ---

    async def _look_up(self, name: str, kind: str) -> tuple[str | SrvRecord, ...]:
        """The values from the book or from DNS; empty where there are none or nobody answers."""
        key = name, kind
        now = self._monotonic()
        known = self._book.get(key)
        if known is not None and now < known.until:
            return known.values
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(name, kind))
            self._running[key] = task
            task.add_done_callback(lambda done: self._on_done(key, done))
        try:
            entry = await asyncio.shield(task)  # others may wait for it too
        except _DnsFailed:
            if known is None or now >= known.stale_until:
                return ()
            known.until = now + self._options.negative_ttl_s  # calls to come need not wait for the same
            return known.values
        self._book[key] = entry
        self._book.move_to_end(key)
        if len(self._book) > self._options.max_names:
            self._book.popitem(last=False)
        return entry.values

    def _on_done(self, key: tuple[str, str], task: asyncio.Task[_Entry]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # those who waited may have given up before it failed

    async def _ask(self, name: str, kind: str) -> _Entry:
        if kind == "hosts":
            return await self._ask_system(name)
        try:
            answer = await self._resolver().resolve(
                name, kind, lifetime=self._options.query_timeout_s, search=kind != "SRV", raise_on_no_answer=False
            )
        except dns.resolver.NXDOMAIN:
            return _Entry((), self._monotonic() + self._options.negative_ttl_s)
        except (dns.exception.DNSException, OSError, UnicodeError):
            raise _DnsFailed from None
        if answer.rrset is None:
            return _Entry((), self._monotonic() + self._options.negative_ttl_s)
        ttl_s = min(float(answer.chaining_result.minimum_ttl), self._options.max_ttl_s)
        until = self._monotonic() + ttl_s
        return _Entry(tuple(_value(record) for record in answer.rrset), until, until + self._options.stale_s)

    async def _ask_system(self, name: str) -> _Entry:
        family = socket.AF_UNSPEC if self._options.ipv6 else socket.AF_INET
        try:
            found = await asyncio.get_running_loop().getaddrinfo(name, None, family=family, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            raise _DnsFailed from None
        values = tuple(dict.fromkeys(str(address[0]) for *_, address in found))
        return _Entry(values, self._monotonic() + self._options.negative_ttl_s)

    def _resolver(self) -> dns.asyncresolver.Resolver:
        """Made at first need: reading the system's configuration can fail, as a look-up can."""
        if self._dns is None:
            own = self._options.nameservers
            made = dns.asyncresolver.Resolver(configure=not own)
            if own:
                made.nameservers = list(own)
                made.port = self._options.nameserver_port
            # Two servers must get their turn within the time of one question.
            made.timeout = self._options.query_timeout_s / max(1, min(2, len(made.nameservers)))
            self._dns = made
        return self._dns


def _value(record: object) -> str | SrvRecord:
    if isinstance(record, SRV):
        target = cast(dns.name.Name, record.target).to_text(omit_final_dot=True).lower()
        return SrvRecord(record.priority, record.weight, record.port, "" if target in ("", ".") else target)
    return str(record)


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _flow(transport: Transport, address: str, port: int | None, name: str) -> Flow:
    """``name`` is set for TLS also where it is the address itself: then only connections of our own are used."""
    server_name = name if transport is Transport.TLS else ""
    return Flow(transport, address, transport.default_port if port is None else port, server_name=server_name)
