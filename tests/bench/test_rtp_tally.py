"""The books of RTP in a round: only what falls into the window counts."""

from __future__ import annotations

import pytest

from bridge.bench.figures import NS_PER_MS, Window
from bridge.bench.rtp_tally import RtpBook, RtpTally


def book(*packets: tuple[int, int, float], opened: bool = True) -> RtpTally:
    """Packets as sequence, timestamp and time in ms."""
    window = Window()
    if opened:
        window.open(0)
    tally = RtpTally(window)
    call = RtpBook(tally)
    for sequence, timestamp, at_ms in packets:
        call.received(sequence, timestamp, int(at_ms * NS_PER_MS), int(at_ms * NS_PER_MS))
    return tally


def test_a_perfect_stream_across_the_wraps() -> None:
    packets = [((65_530 + n) & 0xFFFF, (0xFFFFFF00 + 160 * n) & 0xFFFFFFFF, 20.0 * n) for n in range(20)]
    tally = book(*packets)
    assert (tally.packets, tally.lost, tally.disordered, tally.long_gaps) == (19, 0, 0, 0)
    assert max(tally.errors_ms) == 0
    assert tally.longest_ns == 20 * NS_PER_MS


def test_loss_disorder_and_lateness() -> None:
    tally = book((1, 160, 0), (3, 480, 45), (2, 320, 50), (3, 480, 51), (4, 640, 120))
    assert (tally.lost, tally.disordered, tally.packets, tally.long_gaps) == (1, 2, 2, 1)
    assert list(tally.errors_ms) == pytest.approx([5, 55])
    assert tally.longest_ns == 75 * NS_PER_MS


def test_outside_of_the_window_nothing_counts() -> None:
    tally = book((1, 160, 0), (5, 800, 500), (4, 640, 501), opened=False)
    assert (tally.packets, tally.lost, tally.disordered, tally.long_gaps, list(tally.errors_ms)) == (0, 0, 0, 0, [])


def test_what_comes_too_late_is_said() -> None:
    window = Window()
    call = RtpBook(RtpTally(window))
    assert call.received(9, 0, 0, 0)
    assert not call.received(8, 0, 1, 1)
    assert not call.received(9, 0, 2, 2)
    assert call.received(10, 160, 3, 3)
