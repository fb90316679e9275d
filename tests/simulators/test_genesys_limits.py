from __future__ import annotations

import pytest

from bridge.simulators.genesys_limits import Limits, Rate, TokenBucket

T = 77.0


def test_the_defaults_are_those_of_genesys() -> None:
    limits = Limits()
    assert (limits.binary, limits.text, limits.pause_resume) == (Rate(5, 25), Rate(5, 25), Rate(2, 4))
    assert limits.max_message_bytes == 64_000
    assert (limits.open_timeout_s, limits.pong_timeout_s, limits.close_timeout_s) == (5.0, 5.0, 10.0)


def test_a_burst_passes_and_not_one_more() -> None:
    bucket = TokenBucket(Rate(5, 25), T)
    assert [bucket.take(T) for _ in range(25)] == [0.0] * 25
    assert bucket.take(T) == pytest.approx(0.2)
    assert bucket.take(T + 0.05) == pytest.approx(0.15)
    assert bucket.least_tokens == 0.0


def test_the_average_may_go_on_for_ever() -> None:
    bucket = TokenBucket(Rate(5, 1), T)
    assert [bucket.take(T + n / 5) for n in range(5_000)] == [0.0] * 5_000


def test_what_came_too_early_does_not_count() -> None:
    bucket = TokenBucket(Rate(5, 1), T)
    assert bucket.take(T) == 0.0
    assert bucket.take(T + 0.1) > 0
    assert bucket.take(T + 0.2) == 0.0


def test_a_rest_fills_it_up_to_the_burst() -> None:
    bucket = TokenBucket(Rate(5, 3), T)
    assert [bucket.take(T + 100) == 0.0 for _ in range(4)] == [True, True, True, False]


def test_time_that_goes_back_brings_nothing() -> None:
    bucket = TokenBucket(Rate(5, 1), T)
    bucket.take(T)
    assert bucket.take(T - 10) == pytest.approx(0.2)
    assert bucket.take(T + 0.2) == 0.0
