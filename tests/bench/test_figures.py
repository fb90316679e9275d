from __future__ import annotations

from bridge.bench.figures import LatencyLog, PathTally, Spread, Window, percentile, spread


def test_percentile_is_nearest_rank() -> None:
    hundred = [float(value) for value in range(1, 101)]
    assert percentile(hundred, 0.50) == 50.0
    assert percentile(hundred, 0.99) == 99.0
    assert percentile(hundred, 1.0) == 100.0
    assert percentile(hundred, 0.0) == 1.0


def test_percentile_of_few_values_is_one_that_occurred() -> None:
    assert percentile([3.0], 0.99) == 3.0
    assert percentile([1.0, 2.0, 9.0], 0.5) == 2.0
    assert percentile([1.0, 2.0], 0.99) == 2.0


def test_percentile_of_nothing_is_zero() -> None:
    assert percentile([], 0.99) == 0.0


def test_spread_takes_values_in_any_order() -> None:
    assert spread([9.0, 1.0, 5.0]) == Spread(count=3, p50=5.0, p99=9.0, max=9.0)
    assert spread([]) == Spread(count=0, p50=0.0, p99=0.0, max=0.0)


def test_window_holds_from_its_opening_to_just_before_its_close() -> None:
    window = Window()
    assert not window.holds(5)
    window.open(10)
    assert [window.holds(at) for at in (9, 10, 10**18)] == [False, True, True]
    window.close(20)
    assert [window.holds(at) for at in (19, 20)] == [True, False]


def test_latency_counts_for_what_was_sent_inside_the_window() -> None:
    window = Window()
    log = LatencyLog(window)
    log.note(0, 1_000_000)
    window.open(10)
    log.note(9, 2_000_009)
    log.note(10, 2_500_010)
    log.note(20, 1_000_020, extra_ms=2.0)
    assert list(log.values_ms) == [2.5, 3.0]


def test_tallies_add_up() -> None:
    total = PathTally(sent_ms=100, lost_ms=20)
    total.add(PathTally(sent_ms=40, lost_ms=0, duplicated=2))
    assert total == PathTally(sent_ms=140, lost_ms=20, duplicated=2)


def test_clean_means_that_all_came_or_was_rightly_discarded() -> None:
    assert PathTally(sent_ms=100, received_ms=80, discarded_ms=20).is_clean()
    assert not PathTally(sent_ms=100, received_ms=80, lost_ms=20).is_clean()
    assert not PathTally(stale_bytes=160).is_clean()
