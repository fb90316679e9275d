"""From names to ways: SRV and addresses of a DNS server on loopback, its faults, and what is remembered."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import dns.asyncresolver
import dns.resolver
import pytest
from dnslib import AAAA, CNAME, QTYPE, RCODE, RR, SRV, A, DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from bridge.server.sip.resolver import Resolver, ResolverOptions, SrvRecord, order_srv
from bridge.sip.flow import Flow, Transport
from tests.server.sip.net_fakes import until

UDP, TCP, TLS = Transport.UDP, Transport.TCP, Transport.TLS
NAME = "trunk.example"


class Names(asyncio.DatagramProtocol):
    """A DNS server: a table of records, and faults."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[Any]] = {}
        self.asked: list[tuple[str, str]] = []
        self.ttl_s = 60
        self.code = RCODE.NXDOMAIN
        """What unknown names get."""
        self.is_silent = False
        self.is_broken = False
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        request = DNSRecord.parse(data)
        name, kind = str(request.q.qname).rstrip("."), QTYPE[request.q.qtype]
        self.asked.append((name, kind))
        if self.is_silent:
            return
        assert self.transport is not None
        reply = request.reply()
        if self.is_broken:
            reply.header.rcode = RCODE.SERVFAIL
        else:
            self._fill(reply, name, kind)
        self.transport.sendto(reply.pack(), addr)

    def _fill(self, reply: DNSRecord, name: str, kind: str) -> None:
        alias = self.records.get((name, "CNAME"))
        if alias:
            reply.add_answer(RR(name, QTYPE.CNAME, rdata=alias[0], ttl=self.ttl_s))
            name = str(alias[0].label).rstrip(".")
        found = self.records.get((name, kind), [])
        for data in found:
            reply.add_answer(RR(name, getattr(QTYPE, kind), rdata=data, ttl=self.ttl_s))
        if not found and not any(each == name for each, _ in self.records):
            reply.header.rcode = self.code

    def srv(self, service: str, *records: tuple[int, int, int, str]) -> None:
        self.records[f"{service}.{NAME}", "SRV"] = [SRV(*record) for record in records]

    def a(self, name: str, *addresses: str) -> None:
        self.records[name, "A"] = [A(address) for address in addresses]


class Clock:
    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def asking(clock: Clock | None = None, **options: Any) -> AsyncIterator[tuple[Names, Resolver]]:
    """A DNS server and a resolver that asks it."""
    before = asyncio.all_tasks()
    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(Names, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    made = ResolverOptions(nameservers=("127.0.0.1",), nameserver_port=port, **options)
    resolver = Resolver(made, monotonic=clock or Clock(), draw=lambda: 0.5)
    try:
        yield names, resolver
    finally:
        await resolver.close()
        transport.close()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before, "tasks left behind"


def flows(transport: Transport, *places: tuple[str, int], name: str = "") -> tuple[Flow, ...]:
    return tuple(Flow(transport, host, port, server_name=name) for host, port in places)


@pytest.mark.parametrize(
    ("host", "port", "transport", "is_secure", "expected"),
    [
        ("192.0.2.1", None, None, False, flows(UDP, ("192.0.2.1", 5060))),
        ("192.0.2.1", 5080, TCP, False, flows(TCP, ("192.0.2.1", 5080))),
        ("[2001:DB8::1]", None, TLS, False, flows(TLS, ("2001:db8::1", 5061), name="2001:db8::1")),
        ("192.0.2.1", None, UDP, True, flows(TLS, ("192.0.2.1", 5061), name="192.0.2.1")),
        ("192.0.2.1", 5060, None, True, flows(TLS, ("192.0.2.1", 5060), name="192.0.2.1")),
    ],
)
async def test_numeric_addresses_are_taken_as_they_are(
    host: str, port: int | None, transport: Transport | None, is_secure: bool, expected: tuple[Flow, ...]
) -> None:
    async with asking() as (names, resolver):
        assert await resolver.find(host, port, transport, is_secure) == expected
        assert names.asked == []


async def test_a_port_means_a_host() -> None:
    async with asking() as (names, resolver):
        names.srv("_sip._udp", (1, 1, 9999, "wrong.example"))
        names.a(NAME, "192.0.2.1", "192.0.2.2")
        expected = flows(UDP, ("192.0.2.1", 5080), ("192.0.2.2", 5080))
        assert sorted(await resolver.find(NAME, 5080, None, False), key=lambda flow: flow.host) == list(expected)
        assert names.asked == [(NAME, "A")]
        assert (await resolver.find("Trunk.Example.", 5061, TLS, False))[0].server_name == NAME
        assert names.asked == [(NAME, "A")], "case and a final dot make no other name"


async def test_srv_of_the_wanted_transport_by_priority() -> None:
    async with asking() as (names, resolver):
        names.srv("_sip._tcp", (20, 0, 5062, "c.example"), (10, 0, 5061, "b.example"), (10, 100, 5060, "a.example"))
        names.srv("_sip._udp", (1, 1, 9999, "wrong.example"))
        for host, address in (("a", "192.0.2.1"), ("b", "192.0.2.2"), ("c", "192.0.2.3")):
            names.a(f"{host}.example", address)
        expected = flows(TCP, ("192.0.2.1", 5060), ("192.0.2.2", 5061), ("192.0.2.3", 5062))
        assert await resolver.find(NAME, None, TCP, False) == expected


async def test_sips_asks_for_tls_only_and_verifies_the_name_that_was_asked_for() -> None:
    async with asking() as (names, resolver):
        names.srv("_sips._tcp", (1, 1, 5071, "a.example"))
        names.a("a.example", "192.0.2.1")
        assert await resolver.find(NAME, None, None, True) == flows(TLS, ("192.0.2.1", 5071), name=NAME)
        assert names.asked == [(f"_sips._tcp.{NAME}", "SRV"), ("a.example", "A")]


async def test_any_transport_that_srv_names_best_first() -> None:
    async with asking() as (names, resolver):
        names.srv("_sip._udp", (1, 1, 5060, "a.example"))
        names.srv("_sips._tcp", (9, 1, 5061, "a.example"))
        names.a("a.example", "192.0.2.1")
        expected = (*flows(TLS, ("192.0.2.1", 5061), name=NAME), *flows(UDP, ("192.0.2.1", 5060)))
        assert await resolver.find(NAME, None, None, False) == expected
    async with asking(transports=(UDP,)) as (names, resolver):
        names.srv("_sips._tcp", (9, 1, 5061, "a.example"))
        names.a(NAME, "192.0.2.7")
        assert await resolver.find(NAME, None, None, False) == flows(UDP, ("192.0.2.7", 5060))


@pytest.mark.parametrize(("transport", "port"), [(None, 5060), (TCP, 5060), (TLS, 5061)])
async def test_without_srv_the_name_is_a_host(transport: Transport | None, port: int) -> None:
    async with asking() as (names, resolver):
        names.a(NAME, "192.0.2.1")
        name = NAME if transport is TLS else ""
        assert await resolver.find(NAME, None, transport, False) == flows(
            transport or UDP, ("192.0.2.1", port), name=name
        )


async def test_a_service_that_is_decidedly_not_there() -> None:
    async with asking() as (names, resolver):
        names.srv("_sip._udp", (0, 0, 0, "."))
        names.a(NAME, "192.0.2.1")
        assert await resolver.find(NAME, None, UDP, False) == ()


async def test_ipv6_comes_second_and_only_where_wanted() -> None:
    async with asking(ipv6=True) as (names, resolver):
        names.a(NAME, "192.0.2.1")
        names.records[NAME, "AAAA"] = [AAAA("2001:db8::1")]
        assert await resolver.find(NAME, 5060, UDP, False) == flows(UDP, ("192.0.2.1", 5060), ("2001:db8::1", 5060))


async def test_aliases_and_numeric_srv_targets() -> None:
    async with asking() as (names, resolver):
        names.records[NAME, "CNAME"] = [CNAME("real.example")]
        names.a("real.example", "192.0.2.1")
        assert await resolver.find(NAME, 5060, UDP, False) == flows(UDP, ("192.0.2.1", 5060))
        names.srv("_sip._tcp", (1, 1, 5060, "192.0.2.9"))
        assert await resolver.find(NAME, None, TCP, False) == flows(TCP, ("192.0.2.9", 5060))


async def test_ways_are_bounded() -> None:
    async with asking(max_ways=3) as (names, resolver):
        names.srv("_sip._udp", *[(each, 1, 5060, f"h{each}.example") for each in range(20)])
        for each in range(20):
            names.a(f"h{each}.example", f"192.0.2.{each}", f"198.51.100.{each}")
        assert len(await resolver.find(NAME, None, UDP, False)) == 3
        assert len(names.asked) == 4, "and so are the questions"


# --- what is remembered ---


async def test_answers_are_kept_for_their_ttl() -> None:
    clock = Clock()
    async with asking(clock, max_ttl_s=100.0) as (names, resolver):
        names.a(NAME, "192.0.2.1")
        await resolver.find(NAME, 5060, UDP, False)
        names.a(NAME, "192.0.2.2")
        clock.now += 59
        assert await resolver.find(NAME, 5060, UDP, False) == flows(UDP, ("192.0.2.1", 5060))
        names.ttl_s = 10**6
        clock.now += 2
        assert await resolver.find(NAME, 5060, UDP, False) == flows(UDP, ("192.0.2.2", 5060))
        names.a(NAME, "192.0.2.3")
        clock.now += 101
        assert await resolver.find(NAME, 5060, UDP, False) == flows(UDP, ("192.0.2.3", 5060))
        assert len(names.asked) == 3


async def test_that_there_is_nothing_is_remembered_shortly() -> None:
    clock = Clock()
    async with asking(clock) as (names, resolver):
        names.a(NAME, "192.0.2.1")
        for _ in range(3):
            await resolver.find(NAME, None, TCP, False)
        assert names.asked == [(f"_sip._tcp.{NAME}", "SRV"), (NAME, "A")]
        names.srv("_sip._tcp", (1, 1, 5070, NAME))
        clock.now += 31
        assert await resolver.find(NAME, None, TCP, False) == flows(TCP, ("192.0.2.1", 5070))


async def test_the_book_is_bounded() -> None:
    async with asking(max_names=2) as (names, resolver):
        for each in range(4):
            names.a(f"h{each}.example", "192.0.2.1")
            await resolver.find(f"h{each}.example", 5060, UDP, False)
        assert len(resolver._book) == 2


async def test_several_questions_at_once_are_one() -> None:
    async with asking() as (names, resolver):
        names.a(NAME, "192.0.2.1")
        found = await asyncio.gather(*(resolver.find(NAME, 5060, UDP, False) for _ in range(20)))
        assert set(found) == {flows(UDP, ("192.0.2.1", 5060))}
        assert len(names.asked) == 1


# --- faults ---


@pytest.fixture
def no_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", refuse)


@pytest.mark.usefixtures("no_hosts")
async def test_names_that_nobody_knows() -> None:
    async with asking() as (names, resolver):
        assert await resolver.find(NAME, None, None, False) == ()
        assert len(names.asked) == 4
        names.code = RCODE.NOERROR
        assert await resolver.find("other.example", None, TCP, False) == ()


@pytest.mark.usefixtures("no_hosts")
@pytest.mark.parametrize("name", ["a..b", "a" * 64 + ".example", "x" * 300, "ä" * 80, "", " "])
async def test_names_that_are_none(name: str) -> None:
    async with asking() as (_, resolver):
        assert await resolver.find(name, None, None, False) == ()


async def test_names_of_the_hosts_file() -> None:
    async with asking() as (names, resolver):
        for _ in range(2):
            assert await resolver.find("localhost", None, UDP, False) == flows(UDP, ("127.0.0.1", 5060))
        assert names.asked == [("_sip._udp.localhost", "SRV"), ("localhost", "A")]


@pytest.mark.usefixtures("no_hosts")
@pytest.mark.parametrize("fault", ["is_silent", "is_broken"])
async def test_old_answers_serve_while_dns_is_down(fault: str) -> None:
    clock = Clock()
    async with asking(clock, query_timeout_s=0.1) as (names, resolver):
        names.srv("_sip._tcp", (1, 1, 5070, NAME))
        names.a(NAME, "192.0.2.1")
        expected = flows(TCP, ("192.0.2.1", 5070))
        assert await resolver.find(NAME, None, TCP, False) == expected
        setattr(names, fault, True)
        clock.now += 3600
        assert await resolver.find(NAME, None, TCP, False) == expected
        asked = len(names.asked)
        clock.now += 29
        assert await resolver.find(NAME, None, TCP, False) == expected
        assert len(names.asked) == asked, "not every call waits for a server that is down"
        clock.now += 86_400
        assert await resolver.find(NAME, None, TCP, False) == ()
        setattr(names, fault, False)
        assert await resolver.find(NAME, None, TCP, False) == expected


async def test_a_server_that_is_down_leaves_time_for_the_next() -> None:
    async with asking(query_timeout_s=1.0) as (names, resolver):
        names.a(NAME, "192.0.2.1")
        assert names.transport is not None
        port = names.transport.get_extra_info("sockname")[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.3", port))
            options = ResolverOptions(nameservers=("127.0.0.3", "127.0.0.1"), nameserver_port=port, query_timeout_s=1.0)
            patient = Resolver(options, monotonic=Clock())
            assert await patient.find(NAME, 5060, UDP, False) == flows(UDP, ("192.0.2.1", 5060))
        del resolver


async def test_a_look_up_is_bounded_in_time() -> None:
    async with asking(timeout_s=0.1, query_timeout_s=2.0) as (names, resolver):
        names.is_silent = True
        async with asyncio.timeout(1.5):
            assert await resolver.find(NAME, None, None, False) == ()
        assert await resolver.find(NAME, None, None, False) == ()
        assert len(names.asked) == 3, "those who come later wait for the same answer"


@pytest.mark.usefixtures("no_hosts")
async def test_nobody_waits_any_more_when_it_fails() -> None:
    async with asking(timeout_s=0.05, query_timeout_s=0.1) as (names, resolver):
        names.is_silent = True
        assert await resolver.find(NAME, 5060, UDP, False) == ()
        await until(lambda: resolver._running == {})


async def test_the_systems_own_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, **_: object) -> None:
            raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.asyncresolver, "Resolver", Broken)
    resolver = Resolver(ResolverOptions(), monotonic=Clock())
    assert await resolver.find("localhost", None, TCP, False) == flows(TCP, ("127.0.0.1", 5060))


# --- the order of SRV records ---


def record(priority: int, weight: int, target: str) -> SrvRecord:
    return SrvRecord(priority, weight, 5060, target)


def test_the_order_is_drawn_by_weight() -> None:
    light, heavy, last = record(1, 10, "light"), record(1, 30, "heavy"), record(2, 0, "last")
    for mark, expected in ((0.0, [light, heavy, last]), (0.24, [light, heavy, last]), (0.26, [heavy, light, last])):
        draws = iter((mark, 0.9, 0.9))
        assert order_srv([last, heavy, light], lambda draws=draws: next(draws)) == expected  # type: ignore[misc]


def test_weight_zero_has_a_small_chance() -> None:
    zero, one = record(1, 0, "zero"), record(1, 1, "one")
    assert order_srv([one, zero], lambda: 0.0) == [zero, one]
    assert order_srv([one, zero], lambda: 0.5) == [one, zero]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 65535))),
    st.floats(0, 1, exclude_max=True),
)
def test_every_record_stands_once_and_by_priority(entries: list[tuple[int, int]], mark: float) -> None:
    records = [record(priority, weight, str(number)) for number, (priority, weight) in enumerate(entries)]
    ordered = order_srv(records, lambda: mark)
    assert sorted(ordered, key=lambda each: int(each.target)) == records
    assert [each.priority for each in ordered] == sorted(each.priority for each in records)
