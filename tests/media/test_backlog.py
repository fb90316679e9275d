"""Audio that waits: in order, bounded, the oldest dropped first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.media.backlog import Backlog


def test_what_waits_comes_out_in_order_and_once() -> None:
    backlog = Backlog(limit_bytes=10)
    assert [backlog.push(payload) for payload in (b"abc", b"de", b"fghij")] == [0, 0, 0]
    assert backlog.take() == [b"abc", b"de", b"fghij"]
    assert backlog.take() == []


def test_the_oldest_goes_first() -> None:
    backlog = Backlog(limit_bytes=5)
    backlog.push(b"abc")
    backlog.push(b"de")
    assert backlog.push(b"f") == 3
    assert backlog.take() == [b"de", b"f"]
    assert backlog.push(b"12345") == 0  # the room of what was taken is free again


def test_what_is_larger_than_the_bound_does_not_wait() -> None:
    backlog = Backlog(limit_bytes=2)
    assert backlog.push(b"abc") == 3
    assert backlog.take() == []


@given(st.lists(st.binary(max_size=8)), st.integers(0, 20))
def test_nothing_is_lost_but_what_is_counted(payloads: list[bytes], limit_bytes: int) -> None:
    backlog = Backlog(limit_bytes)
    dropped_bytes = sum(backlog.push(payload) for payload in payloads)
    left = b"".join(backlog.take())
    assert len(left) <= limit_bytes
    assert b"".join(payloads)[dropped_bytes:] == left
