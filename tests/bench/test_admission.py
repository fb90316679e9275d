"""The bench of admission runs, measures something, and says what it lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.bench.admission import AdmissionFigures, measure_admission, redis_command
from tests.kit.redis import redis_binary


@pytest.mark.e2e
def test_it_measures() -> None:
    redis_binary()
    figures = measure_admission(seconds=0.2)
    assert figures.refused == 0
    assert figures.decisions_per_s > 100
    assert figures.paced_per_s > 100
    assert 0 < figures.p50_ms <= figures.p99_ms <= figures.max_ms
    assert figures.decider_cpu_us > 0


def test_the_text_for_people() -> None:
    figures = AdmissionFigures(5387.0, 84.0, 68.0, 1000.0, 1.11, 5.88, 12.1, 0, shared_core=False)
    assert figures.render_text().splitlines() == [
        "most decisions: 5387/s (84 us of CPU here, 68 us in Redis, each)",
        "at 1000/s: p50 1.11 ms, p99 5.88 ms, max 12.1 ms",
    ]
    doubtful = AdmissionFigures(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2, shared_core=True)
    assert doubtful.render_text().splitlines()[2:] == [
        "warning: 2 decisions were refused or not made by Redis",
        "note: only one core: Redis and the decider share it",
    ]


def test_a_missing_redis_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(FileNotFoundError, match="^redis-server is missing: install the package redis-server$"):
        redis_command(1, Path("."))
