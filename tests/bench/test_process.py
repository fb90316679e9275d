from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import pytest

from bridge.bench.process import (
    CorePlan,
    ServerProcess,
    parse_core_busy_s,
    parse_cpu_s,
    pinned,
    plan_cores,
    raise_open_files,
    wait_for_port,
)


def test_server_gets_one_core_and_the_load_the_others() -> None:
    assert plan_cores({0, 1, 2}, None) == CorePlan(0, frozenset({1, 2}))
    assert plan_cores({0, 1, 2}, 1) == CorePlan(1, frozenset({0, 2}))
    assert not plan_cores({0, 1}, None).shared


def test_a_single_core_is_shared_and_said_so() -> None:
    plan = plan_cores({3}, None)
    assert plan == CorePlan(3, frozenset({3}))
    assert plan.shared


def test_a_core_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"core 7 is not available; available are \[0, 1\]"):
        plan_cores({0, 1}, 7)


def test_pinning_is_undone() -> None:
    before = os.sched_getaffinity(0)
    with pinned(frozenset({min(before)})):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_cpu_time_is_read_behind_any_name() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    stat = f"42 (a) (b c) S 1 2 3 4 5 6 7 8 9 10 {ticks} {ticks * 2} {ticks * 3} {ticks * 4} 20 0 1"
    assert parse_cpu_s(stat) == 10.0


def test_busy_time_of_one_core_is_read() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    lines = (
        "cpu  9 9 9 9 9 9 9 9 0 0",
        "cpu0 1 1 1 1 1 1 1 1 0 0",
        f"cpu1 {ticks} 0 {ticks} 999 999 0 {ticks} {ticks} 0 0",
        "intr 5",
    )
    stat = "\n".join(lines)
    assert parse_core_busy_s(stat, 1) == 4.0
    assert parse_core_busy_s(stat, 7) == 0.0


def test_too_low_a_hard_limit_of_open_files_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 1000))
    monkeypatch.setattr(resource, "setrlimit", lambda which, pair: limits.append(pair))
    assert raise_open_files(400) == ""
    assert limits == [(1000, 1000)]
    assert raise_open_files(500) == ("500 calls need 1200 open files but the hard limit is 1000: raise it (ulimit -Hn)")


def test_a_limit_that_suffices_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(which: int, pair: tuple[int, int]) -> None:
        raise AssertionError("must not be called")

    monkeypatch.setattr(resource, "getrlimit", lambda which: (20_000, 20_000))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_open_files(400) == ""


@pytest.mark.e2e
def test_server_is_measured_and_ended_with_its_children(tmp_path: Path) -> None:
    child = "import time; time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    server = ServerProcess([sys.executable, "-c", parent], dict(os.environ), min(os.sched_getaffinity(0)), tmp_path)
    server.start()
    try:
        assert server.alive
        assert server.rss_bytes() > 0
        assert server.cpu_s() >= 0
    finally:
        server.stop()
    assert not server.alive


@pytest.mark.e2e
def test_waiting_for_a_server_that_ends_is_over_at_once(tmp_path: Path) -> None:
    server = ServerProcess(
        [sys.executable, "-c", "print('no such setting')"],
        dict(os.environ),
        min(os.sched_getaffinity(0)),
        tmp_path,
    )
    server.start()
    try:
        assert not wait_for_port(server, 1, b"", timeout_s=30)
        assert server.log_tail() == "no such setting"
    finally:
        server.stop()
