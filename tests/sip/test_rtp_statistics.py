"""The figures of RFC 3550: sequence numbers, loss, jitter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sip.rtp_statistics import Place, StreamStatistics


def test_an_even_stream() -> None:
    statistics = StreamStatistics(10)
    assert [statistics.place(number) for number in range(11, 16)] == [Place.NEW] * 5
    assert (statistics.expected, statistics.received, statistics.lost) == (6, 6, 0)
    assert statistics.extended_highest == 15


def test_the_wrap_is_counted() -> None:
    statistics = StreamStatistics(65534)
    assert [statistics.place(number) for number in (65535, 0, 1)] == [Place.NEW] * 3
    assert statistics.extended_highest == 65537
    assert (statistics.expected, statistics.lost) == (4, 0)


def test_loss_reordering_and_duplicates() -> None:
    statistics = StreamStatistics(1)
    places = [statistics.place(number) for number in (2, 5, 4, 4, 5, 1, 8)]
    assert places == [
        Place.NEW, Place.NEW, Place.REORDERED, Place.DUPLICATE, Place.DUPLICATE, Place.DUPLICATE, Place.NEW,
    ]  # fmt: skip
    assert (statistics.expected, statistics.received, statistics.lost) == (8, 5, 3)
    assert (statistics.reordered, statistics.duplicates, statistics.cumulative_lost) == (1, 3, 3)


def test_a_packet_from_before_the_first_makes_no_negative_loss() -> None:
    statistics = StreamStatistics(100)
    assert statistics.place(99) is Place.REORDERED
    assert (statistics.lost, statistics.cumulative_lost) == (0, -1)


def test_a_jump_counts_once_it_goes_on() -> None:
    statistics = StreamStatistics(1)
    assert statistics.place(30000) is Place.JUMP
    assert statistics.place(2) is Place.NEW
    assert statistics.place(40000) is Place.JUMP
    assert statistics.place(40001) is Place.RESTART
    assert statistics.place(40002) is Place.NEW
    assert (statistics.expected, statistics.received) == (2, 2)


def test_what_is_near_is_said_without_a_trace() -> None:
    statistics = StreamStatistics(1)
    assert [statistics.is_near(number) for number in (1, 2, 3000, 65535, 3001, 65437)] == [True] * 4 + [False] * 2
    assert (statistics.highest, statistics.received) == (1, 1)


def test_the_fraction_is_of_what_came_since_the_last_report() -> None:
    statistics = StreamStatistics(0)
    for number in (1, 2, 3, 5, 6, 7):
        statistics.place(number)
    assert statistics.take_fraction_lost() == 256 // 8
    for number in range(8, 16):
        statistics.place(number)
    assert statistics.take_fraction_lost() == 0
    assert statistics.take_fraction_lost() == 0
    statistics.place(1015)
    assert statistics.take_fraction_lost() == 255
    statistics.place(1014)  # came late: more came than was expected since
    assert statistics.take_fraction_lost() == 0


def test_jitter_is_that_of_the_rfc() -> None:
    statistics = StreamStatistics(0)
    for arrival, timestamp in ((1.000, 0), (1.020, 160), (1.048, 320), (1.060, 480)):
        statistics.arrived(timestamp, arrival)
    # 8 ms late, then back: 64 samples twice.
    first = 64 / 16
    assert statistics.jitter_ms == pytest.approx((first + (64 - first) / 16) / 8, abs=0.02)
    assert statistics.jitter == 7


def test_jitter_survives_the_wrap_and_a_jump_of_the_clock() -> None:
    statistics = StreamStatistics(0)
    statistics.arrived(0xFFFFFF60, 10.0)
    statistics.arrived(0, 10.02)
    assert statistics.jitter == 0
    statistics.arrived(5_000_000, 10.04)
    statistics.arrived(5_000_160, 10.06)
    assert statistics.jitter == 0


@given(st.lists(st.integers(0, 0xFFFF), max_size=200))
def test_any_numbers_keep_the_figures_in_range(numbers: list[int]) -> None:
    statistics = StreamStatistics(5)
    for number in numbers:
        statistics.place(number)
        assert 0 <= statistics.take_fraction_lost() <= 255
        assert statistics.lost >= 0
    assert -0x800000 <= statistics.cumulative_lost <= 0x7FFFFF
