"""What delay is asked for: bounds, growth and decline, clocks that drift."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from bridge.sip.jitter_delay import BUCKET_SAMPLES, DelayEstimator


def estimator() -> DelayEstimator:
    return DelayEstimator(160, 1600, 320, 8000)


def feed(one: DelayEstimator, transits: list[int], start: int = 0) -> int:
    """Packets each 20 ms; returns the time after the last."""
    for number, transit in enumerate(transits):
        one.observe(transit, start + 160 * number)
    return start + 160 * len(transits)


def test_an_even_network_needs_the_least_once_it_is_known() -> None:
    one = estimator()
    feed(one, [1000] * 90)
    assert one.target == 320
    feed(one, [1000] * 20, 90 * 160)
    assert one.target == 160
    assert one.floor == 1000 // BUCKET_SAMPLES * BUCKET_SAMPLES
    assert one.wanted == one.floor + 160


def test_jitter_is_answered_within_a_few_packets_and_forgotten_in_seconds() -> None:
    one = estimator()
    now = feed(one, [0] * 500)
    now = feed(one, [0, 700] * 8, now)
    assert one.target >= 720
    now = feed(one, [0] * 200, now)
    assert one.target >= 720
    feed(one, [0] * 2500, now)
    assert one.target == 160


def test_one_in_a_hundred_may_be_late() -> None:
    one = estimator()
    feed(one, ([0] * 199 + [1500]) * 5)
    assert one.target == 160


def test_the_target_has_bounds() -> None:
    one = estimator()
    feed(one, [0, 100_000] * 50)
    assert one.target == 1600


def test_a_floor_that_rises_is_followed_after_two_windows() -> None:
    one = estimator()
    now = feed(one, [0] * 100)
    now = feed(one, [800] * 300, now)
    assert one.floor == 0
    feed(one, [800] * 300, now)
    assert one.floor == 800
    assert one.target == 160


def test_a_floor_that_falls_is_followed_at_once() -> None:
    one = estimator()
    now = feed(one, [8000] * 200)
    one.observe(7200, now)
    assert one.floor == 7200
    # What was on the old floor is now far above it.
    assert one.target == 880
    one.observe(-100_000, now)
    assert one.floor == -100_000


def test_a_new_stream_begins_afresh() -> None:
    one = estimator()
    feed(one, [5000] * 300)
    one.reset()
    feed(one, [-90_000] * 10)
    assert one.floor == -90_000
    assert one.target >= 320


@given(st.lists(st.integers(-(2**33), 2**33), max_size=300), st.integers(0, 10_000))
def test_any_arrivals_keep_the_target_in_bounds(transits: list[int], step: int) -> None:
    one = estimator()
    for number, transit in enumerate(transits):
        one.observe(transit, number * step)
        assert 160 <= one.target <= 1600


def test_exponential_jitter_leaves_about_one_in_a_hundred_late() -> None:
    chance = random.Random(3)
    one = estimator()
    late = total = 0
    for number in range(6000):
        transit = 1000 + round(chance.expovariate(1 / 80))
        if number > 1000:
            total += 1
            late += transit > one.wanted
        one.observe(transit, number * 160)
    assert late / total < 0.02
    assert one.target <= 800
