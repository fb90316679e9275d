from __future__ import annotations

import json
from dataclasses import replace

from bridge.bench.figures import PathTally, Spread
from bridge.bench.report import BenchReport, RoundFigures, TargetReport

ROUND = RoundFigures(
    calls=400,
    seconds=15.0,
    server_cpu_percent=32.0,
    other_cpu_percent=1.0,
    rss_idle_bytes=60 * 2**20,
    rss_calls_bytes=80 * 2**20,
    rss_after_bytes=62 * 2**20,
    cpu_after_percent=0.5,
    up=PathTally(sent_ms=7_200_000, received_ms=7_200_000),
    down=PathTally(sent_ms=7_200_000, received_ms=7_190_000, discarded_ms=10_000),
    latency_up_ms=Spread(300_000, 0.3, 0.75, 4.04),
    latency_down_ms=Spread(60_000, 0.31, 0.8, 5.0),
    barge_in_ms=Spread(1500, 0.32, 0.9, 3.0),
    interruptions=1500,
    missed_clears=0,
    bad_messages=0,
    complaints=[],
    leaked_connections=0,
    unexpected_connections=0,
    gaps=0,
    gap_ms=0.0,
    longest_gap_ms=0.0,
    frames_per_call_s=50.0,
    speech_per_call_s=10.0,
    load_cpu_percent=55.0,
    load_lateness_ms=Spread(15_000, 0.5, 1.2, 3.0),
)
FLOOR = TargetReport("floor", "HAProxy", [replace(ROUND, server_cpu_percent=16.0)])


def _report(*targets: TargetReport) -> BenchReport:
    return BenchReport("passthrough", 15, 3, {"cores": 2, "python": "3.11.7"}, list(targets))


def _line(text: str, label: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(label))


def test_table_has_a_column_per_target_and_the_ratio_between_them() -> None:
    text = _report(TargetReport("bridge", "bridge serve", [ROUND]), FLOOR).render_text()
    assert text.startswith("passthrough: 15 s measured after 3 s warm-up; cores 2, python 3.11.7\n")
    assert _line(text, "CPU of one core per call").split()[-4:] == ["0.080", "%", "0.040", "%"]
    assert _line(text, "  against floor").split()[-4:] == ["2.00", "x", "1.00", "x"]
    assert "against plain" not in text
    assert "0.30 / 0.75 / 4.0 ms" in _line(text, "added latency up")
    assert "0.32 / 0.90 / 3.0 ms" in _line(text, "barge-in to clear")
    assert "0 of 1500" in _line(text, "interruptions without clear")
    assert "0 ms of 7200 s" in _line(text, "lost up")
    assert "51 KiB" in _line(text, "memory per call")
    assert _line(text, "load: CPU").endswith("55 %, 1.2 ms")
    assert "warning" not in text
    assert "after each round" not in text


def test_genesys_has_its_own_words_and_rows() -> None:
    figures = replace(ROUND, opens_per_s=50.2, opened_ms=Spread(200, 0.5, 2.6, 2.7), pong_ms=Spread(9, 0.1, 0.2, 0.3))
    report = BenchReport("passthrough", 8, 2, {}, [TargetReport("bridge", "", [figures])], carrier="genesys")
    text = report.render_text()
    assert text.startswith("genesys, passthrough: 8 s measured")
    assert "0 of 1500" in _line(text, "interruptions without barge_in")
    assert "0 bytes" in _line(text, "old audio after barge_in")
    assert "0.50 / 2.60 / 2.7 ms" in _line(text, "open to opened")
    assert _line(text, "  at opens a second").endswith("50.2")
    assert _line(text, "first audio of a turn").endswith(" -")
    assert "0.10 / 0.20 / 0.3 ms" in _line(text, "ping to pong")
    assert "clear" not in text
    assert "opened" not in _report(TargetReport("bridge", "", [figures])).render_text()


def test_rounds_show_memory_and_cpu_after_each_and_hide_no_loss() -> None:
    lossy = replace(ROUND, up=PathTally(sent_ms=1000, lost_ms=40), gaps=2, long_gaps=1, longest_gap_ms=41.0)
    target = TargetReport("bridge", "bridge serve", [lossy, ROUND])
    text = _report(target).render_text()
    assert _line(text, "memory after each round").split()[-3:] == ["+2.0", "+2.0", "MiB"]
    assert _line(text, "CPU after each round").split()[-3:] == ["0.5", "0.5", "%"]
    assert _line(text, "lost up").split()[2:] == ["40", "ms", "of", "7201", "s"]
    assert _line(text, "gaps heard").endswith("2, longest 41 ms")
    assert _line(text, "  over 40 ms").endswith(" 1")
    assert "warning: bridge: 1 gaps over 40 ms" in text
    assert "warning: bridge: audio up was not clean: lost_ms 40" in text
    assert not target.is_clean()


def test_doubtful_figures_are_warned_of() -> None:
    late = replace(
        ROUND,
        server_cpu_percent=97.0,
        other_cpu_percent=12.0,
        load_cpu_percent=99.0,
        load_lateness_ms=Spread(1, 1.0, 9.0, 9.0),
        missed_clears=2,
        bad_messages=1,
        complaints=["to the carrier: event 'stop'"],
        leaked_connections=3,
    )
    slow = replace(ROUND, opened_ms=Spread(200, 3.0, 25.0, 30.0), barge_in_ms=Spread(200, 1.0, 6.0, 7.0))
    assert _report(TargetReport("bridge", "", [slow])).warnings() == [
        "bridge: opened took 25.0 ms at p99; the aim is 20 ms",
        "bridge: the reaction to an interruption took 6.0 ms at p99; the aim is 5 ms",
    ]
    assert _report(TargetReport("plain", "FastAPI", [late])).warnings() == [
        "plain: the server used 97 % of its core: latencies are those of a queue; measure it with fewer calls",
        "plain: other work used 12 % of the server's core: measure on a quiet machine",
        "plain: the load was 9.0 ms late at p99: latencies include its own",
        "plain: the load used 99 % of its core: it may be the bottleneck",
        "plain: 2 missed clears",
        "plain: 1 bad messages",
        "plain: 3 leaked connections",
        "plain: the server's peer says: to the carrier: event 'stop'",
    ]
    idle = replace(ROUND, server_cpu_percent=1.0)
    assert _report(TargetReport("bridge", "", [idle])).warnings() == [
        "bridge: the server used 1.0 % of its core: too little to be exact; measure it with more calls"
    ]


def test_json_holds_all_figures_and_the_verdicts() -> None:
    document = json.loads(_report(TargetReport("bridge", "bridge serve", [ROUND]), FLOOR).to_json())
    assert document["schema"] == 1
    assert document["machine"] == {"cores": 2, "python": "3.11.7"}
    assert document["warnings"] == []
    bridge, floor = document["targets"]
    assert bridge["cpu_percent_of_core_per_call"] == 0.08
    assert bridge["ratio_to_floor"] == 2.0
    assert bridge["ratio_to_plain"] is None
    assert bridge["memory_per_call_bytes"] == 20 * 2**20 / 400
    assert bridge["clean"] is True
    assert bridge["rounds"][0]["latency_up_ms"] == {"count": 300_000, "p50": 0.3, "p99": 0.75, "max": 4.04}
    assert bridge["total_down"]["discarded_ms"] == 10_000
    assert floor["name"] == "floor"


def test_report_without_targets_still_renders_its_notes() -> None:
    report = _report()
    report.notes.append("floor skipped: haproxy is not installed")
    assert report.render_text().endswith("\nnote: floor skipped: haproxy is not installed\n")
    assert report.ratio("bridge", "floor") is None


def test_nothing_measured_shows_as_a_dash() -> None:
    quiet = replace(ROUND, barge_in_ms=Spread(0, 0.0, 0.0, 0.0))
    assert _line(_report(TargetReport("b", "", [quiet])).render_text(), "barge-in").endswith(" -")
