"""What one address may ask for: rates, counts, and books that stay small."""

from __future__ import annotations

import pytest

from bridge.server.sip.limits import ConnectionLimit, LimitOptions, MessageLimit, counted_as

OPTIONS = LimitOptions(
    messages_per_s=10.0,
    burst=3,
    max_addresses=2,
    max_connections_per_address=2,
    max_stranger_connections=3,
    max_connections=5,
)


def nobody(_: str) -> bool:
    return False


def test_a_burst_passes_and_then_the_rate() -> None:
    limit = MessageLimit(OPTIONS, nobody)
    assert [limit.admit("192.0.2.1", 100.0) for _ in range(4)] == [True, True, True, False]
    assert limit.admit("192.0.2.2", 100.0), "each address has its own share"
    assert [limit.admit("192.0.2.1", 100.125) for _ in range(2)] == [True, False]
    assert [limit.admit("192.0.2.1", 900.0) for _ in range(4)] == [True, True, True, False], "no more is saved up"


def test_whoever_is_trusted_is_never_held_back_and_asked_about_only_when_it_matters() -> None:
    asked: list[str] = []

    def is_trusted(host: str) -> bool:
        asked.append(host)
        return True

    limit = MessageLimit(OPTIONS, is_trusted)
    assert all(limit.admit("192.0.2.1", 100.0) for _ in range(3))
    assert asked == []
    assert all(limit.admit("192.0.2.1", 100.0) for _ in range(100))
    assert "192.0.2.1" in asked
    assert limit.delay_s("192.0.2.1", 1000, 100.0) == 0.0


def test_a_stream_pays_afterwards() -> None:
    limit = MessageLimit(OPTIONS, nobody)
    assert limit.delay_s("192.0.2.1", 3, 100.0) == 0.0
    assert limit.delay_s("192.0.2.1", 5, 100.0) == 0.5
    assert not limit.admit("192.0.2.1", 100.25), "debts count for datagrams too"
    assert limit.delay_s("192.0.2.1", 1, 100.5) == pytest.approx(0.1)


def test_the_book_forgets_whoever_was_quiet_for_longest() -> None:
    limit = MessageLimit(OPTIONS, nobody)
    for host in ("192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.3"):
        limit.admit(host, 100.0)
    assert len(limit) == 2
    assert not limit.admit("192.0.2.1", 100.0), "this one is still known"
    assert limit.admit("192.0.2.2", 100.0)


def test_ipv6_counts_by_network() -> None:
    assert counted_as("2001:db8::1") == counted_as("2001:db8::ffff:1") != counted_as("2001:db8:0:1::1")
    assert counted_as("192.0.2.1") == "192.0.2.1"
    assert counted_as("no:address") == "no:address"
    limit = MessageLimit(OPTIONS, nobody)
    assert [limit.admit(f"2001:db8::{n}", 100.0) for n in range(4)] == [True, True, True, False]


def test_connections_of_one_address() -> None:
    limit = ConnectionLimit(OPTIONS, nobody)
    first, second = limit.admit("192.0.2.1"), limit.admit("192.0.2.1")
    assert first is not None and second is not None
    assert limit.admit("192.0.2.1") is None
    limit.release(first)
    assert limit.admit("192.0.2.1") is not None
    limit.release(second)
    limit.release(second)
    assert len(limit) == 0


def test_strangers_leave_room_for_trusted_peers() -> None:
    limit = ConnectionLimit(OPTIONS, lambda host: host == "198.51.100.1")
    assert all(limit.admit(f"192.0.2.{n}") is not None for n in range(3))
    assert limit.admit("192.0.2.9") is None, "all that strangers may have"
    tickets = [limit.admit("198.51.100.1") for _ in range(3)]
    assert tickets == ["", "", None], "there is an end for everybody"
    limit.release("")
    assert len(limit) == 4
    assert limit.admit("192.0.2.9") is None
    assert limit.admit("198.51.100.1") == ""
