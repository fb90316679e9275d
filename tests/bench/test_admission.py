"""The bench of admission runs, measures something, and says what it lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.bench.admission import measure_admission, redis_command
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


def test_a_missing_redis_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(FileNotFoundError, match="^redis-server is missing: install the package redis-server$"):
        redis_command(1, Path("."))
