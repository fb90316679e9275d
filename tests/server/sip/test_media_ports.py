from __future__ import annotations

import contextlib
import errno
import random
import socket
import sys

import pytest

from bridge.errors import ConfigError
from bridge.server.sip import media_ports
from bridge.server.sip.media_ports import NoPorts, PortOptions, PortPair, RtpPorts
from tests.kit.rtp_ports import free_ports

HOST = "127.0.0.1"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def ports(pairs: int, clock: Clock | None = None) -> RtpPorts:
    first = free_ports(pairs)
    options = PortOptions(HOST, "203.0.113.1", first, first + 2 * pairs - 1)
    return RtpPorts(options, clock or Clock(), random.Random(1))


def close(*pairs: PortPair) -> None:
    for pair in pairs:
        pair.rtp.close()
        pair.rtcp.close()


def test_a_pair_is_an_even_port_and_the_next() -> None:
    book = ports(1)
    pair = book.take()
    assert pair.port % 2 == 0
    assert pair.rtp.getsockname() == (HOST, pair.port)
    assert pair.rtcp.getsockname() == (HOST, pair.port + 1)
    assert pair.announced == ("203.0.113.1", pair.port)
    assert pair.stale == {}
    assert not pair.rtp.getblocking()
    assert pair.rtp.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 46 << 2
    book.give_back(pair)
    assert (pair.rtp.fileno(), pair.rtcp.fileno()) == (-1, -1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says when a datagram came")
def test_the_kernel_says_when_a_datagram_came() -> None:
    book = ports(1)
    pair = book.take()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.sendto(b"x", (HOST, pair.port))
        _, ancillary, _, _ = pair.rtp.recvmsg(10, 64)
    book.give_back(pair)
    assert [(level, kind, len(data)) for level, kind, data in ancillary] == [(socket.SOL_SOCKET, 35, 16)]


def test_ipv6() -> None:
    first = free_ports(1, "::1")
    book = RtpPorts(PortOptions("::1", "2001:db8::1", first, first + 1))
    pair = book.take()
    assert pair.rtp.getsockname()[:2] == ("::1", first)
    assert pair.rtp.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS) == 46 << 2
    book.give_back(pair)


def test_when_all_are_in_use_there_is_none_until_one_comes_back() -> None:
    clock = Clock()
    book = ports(2, clock)
    first, second = book.take(), book.take()
    assert (book.in_use, book.available) == (2, 0)
    with pytest.raises(NoPorts, match=r"^RTP: no free port in \d+-\d+: 2 of 2 pairs in use, 0 resting$"):
        book.take()
    book.give_back(first)
    with pytest.raises(NoPorts, match="1 of 2 pairs in use, 1 resting$"):
        book.take()
    assert (book.refused, book.available) == (2, 0)
    clock.now += 2.0
    assert book.available == 1
    again = book.take()
    assert again.port == first.port
    book.give_back(second)
    book.give_back(again)
    assert book.in_use == 0


def test_a_pair_rests_while_others_are_free() -> None:
    clock = Clock()
    book = ports(3, clock)
    used = []
    for _ in range(3):
        pair = book.take()
        used.append(pair.port)
        book.give_back(pair)
        clock.now += 5
    assert len(set(used)) == 3
    clock.now += 30
    for port in used:  # then in the order in which they came back
        pair = book.take()
        assert pair.port == port
        close(pair)


def test_rested_pairs_go_behind_those_that_are_free() -> None:
    clock = Clock()
    book = ports(3, clock)
    pair = book.take()
    book.give_back(pair)
    clock.now += 30
    pairs = [book.take() for _ in range(3)]
    assert pairs[2].port == pair.port
    close(*pairs)


def test_what_was_heard_last_goes_to_the_next_user() -> None:
    clock = Clock()
    book = ports(1, clock)
    book.give_back(book.take(), {7: 500})
    clock.now += 30
    pair = book.take()
    assert pair.stale == {7: 500}
    book.give_back(pair)
    clock.now += 30
    pair = book.take()
    assert pair.stale == {}
    close(pair)


def test_ports_of_other_processes_are_passed_over() -> None:
    book = ports(3)
    first = book.options.first_port
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        one.bind((HOST, first))
        other.bind((HOST, first + 3))
        pair = book.take()
        assert pair.port == first + 4
        with pytest.raises(NoPorts):
            book.take()
        assert book.available == 2
    pairs = [book.take(), book.take()]
    assert {one.port for one in pairs} == {first, first + 2}
    close(pair, *pairs)


def test_there_is_an_end_to_passing_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_ports, "MAX_ATTEMPTS", 2)
    book = ports(3)
    first = book.options.first_port
    with contextlib.ExitStack() as foreign:
        for port in range(first, first + 6):
            foreign.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).bind((HOST, port))
        before = [one.port for one in book._free]
        with pytest.raises(NoPorts):
            book.take()
        assert [one.port for one in book._free] == [before[2], before[0], before[1]]


def test_elsewhere_the_kernel_is_not_asked_for_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    book = ports(1)
    pair = book.take()
    assert not pair.rtp.getsockopt(socket.SOL_SOCKET, 35)
    book.give_back(pair)


def test_without_file_descriptors_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    book = ports(1)

    def full(*_: object) -> None:
        raise OSError(errno.EMFILE, "too many")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", full)
        with pytest.raises(NoPorts, match=r"^RTP: the process has no more file descriptors \(ulimit -n\)$"):
            book.take()
    close(book.take())


def test_the_order_is_shuffled() -> None:
    options = PortOptions(HOST, HOST, 10_000, 10_199)
    orders = {tuple(one.port for one in RtpPorts(options, random=random.Random(seed))._free) for seed in range(3)}
    assert len(orders) == 3
    assert all(sorted(order) == list(range(10_000, 10_200, 2)) for order in orders)


@pytest.mark.parametrize(("port_min", "port_max"), [(80, 90), (20_000, 20_000), (20_001, 20_002), (30_000, 70_000)])
def test_a_range_without_a_pair_is_refused(port_min: int, port_max: int) -> None:
    words = rf"^RTP ports {port_min}-{port_max}: .*\(SIP_RTP_PORT_MIN, SIP_RTP_PORT_MAX\)$"
    with pytest.raises(ConfigError, match=words):
        PortOptions(HOST, HOST, port_min, port_max)


@pytest.mark.parametrize(
    ("port_min", "port_max", "first", "count"),
    [
        (20_000, 20_001, 20_000, 1),
        (20_001, 20_003, 20_002, 1),
        (20_001, 20_004, 20_002, 1),
        (10_000, 20_000, 10_000, 5000),
    ],
)
def test_the_pairs_of_a_range(port_min: int, port_max: int, first: int, count: int) -> None:
    options = PortOptions(HOST, HOST, port_min, port_max)
    assert (options.first_port, options.count) == (first, count)
