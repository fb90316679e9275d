from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from bridge.bench import runner
from bridge.bench.floor import find_haproxy
from bridge.bench.options import BenchOptions, usual_options
from bridge.bench.runner import run_bench


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="mode is 'opus'; known are passthrough, convert"):
        BenchOptions(mode="opus")
    with pytest.raises(ValueError, match=re.escape("unknown targets ['nginx']")):
        BenchOptions(targets=("nginx",))
    with pytest.raises(ValueError, match="carrier is 'jambonz'; known are twilio, genesys, vonage"):
        BenchOptions(carrier="jambonz")
    with pytest.raises(ValueError, match="mode is 'convert-24k'; known are passthrough, convert"):
        BenchOptions(mode="convert-24k")
    assert BenchOptions(carrier="vonage", mode="convert-24k", targets=("bridge", "floor")).mode == "convert-24k"
    with pytest.raises(ValueError, match=re.escape("unknown targets ['plain']; known are bridge, floor")):
        BenchOptions(carrier="genesys", targets=("plain",))
    with pytest.raises(ValueError, match="calls is 0"):
        BenchOptions(calls=0)
    with pytest.raises(ValueError, match="rounds and plain_calls must be at least 1"):
        BenchOptions(rounds=0)
    with pytest.raises(ValueError, match="duration_s must be above 0"):
        BenchOptions(duration_s=0)


def test_what_is_left_open_suits_the_carrier() -> None:
    twilio, genesys = usual_options("twilio"), usual_options("genesys")
    assert (twilio.calls, twilio.ramp_s, twilio.targets) == (400, 4.0, ("bridge", "floor", "plain"))
    assert (genesys.calls, genesys.ramp_s, genesys.targets) == (200, 4.0, ("bridge", "floor"))
    given = usual_options("genesys", calls=10, ramp_s=1.0, targets=("floor",), mode="convert")
    assert (given.calls, given.ramp_s, given.targets, given.mode) == (10, 1.0, ("floor",), "convert")
    assert usual_options("genesys", calls=10).ramp_s == 0.2
    sip = usual_options("sip")
    assert (sip.calls, sip.ramp_s, sip.targets) == (150, 4.0, ("bridge", "floor"))
    with pytest.raises(ValueError, match="carrier is 'fax'"):
        usual_options("fax")


def test_sip_has_a_floor_and_settings_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runner, "find_haproxy", lambda: None)
    bridge, floor = runner._targets(usual_options("sip", calls=100), [])
    environment = bridge.env(8000, 9000, tmp_path)
    assert (environment["SIP_UDP_PORT"], environment["SIP_RTP_PORT_MIN"]) == ("8000", "10000")
    assert environment["SIP_RTP_PORT_MAX"] == "10440"
    assert floor.command(8000, 9000, tmp_path)[1:] == ["-m", "bridge.bench.sip_floor", "8000", "9000"]


def test_servers_do_not_see_the_operators_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELEVENLABS_API_KEY", "secret")
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere")
    monkeypatch.setenv("RETENTION_RECORDS_DAYS", "0")
    monkeypatch.setenv("BRIDGE_CONFIG", "mine.toml")
    monkeypatch.setenv("LANG", "C")
    environment = runner.server_environment({"BRIDGE_PORT": "1"})
    assert "ELEVENLABS_API_KEY" not in environment
    assert not {"REDIS_URL", "RETENTION_RECORDS_DAYS", "BRIDGE_CONFIG"} & set(environment)
    assert environment["BRIDGE_PORT"] == "1"
    assert environment["LANG"] == "C"


def test_floor_is_skipped_with_a_note_where_haproxy_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "find_haproxy", lambda: None)
    notes: list[str] = []
    targets = list(runner._targets(BenchOptions(targets=("floor", "plain")), notes))
    assert [target.name for target in targets] == ["plain"]
    assert notes == ["floor skipped: haproxy is not installed"]


def test_plain_design_gets_no_more_calls_than_it_can_carry() -> None:
    targets = {target.name: target for target in runner._targets(BenchOptions(calls=400), [])}
    assert targets["bridge"].calls == 400
    assert targets["plain"].calls == 100


@pytest.mark.e2e
@pytest.mark.parametrize("mode", ["passthrough", "convert"])
def test_plain_relay_carries_five_calls(mode: str) -> None:
    lines: list[str] = []
    affinity = os.sched_getaffinity(0)
    options = BenchOptions(
        calls=5,
        mode=mode,
        duration_s=2.0,
        warmup_s=0.5,
        ramp_s=0.2,
        targets=("plain",),
        barge_in_every_s=1.0,
    )
    report = run_bench(options, lines.append)
    (target,) = report.targets
    figures = target.last
    assert lines[0] == "plain: starting"
    assert os.sched_getaffinity(0) == affinity
    assert (figures.calls, figures.bad_messages, figures.unexpected_connections) == (5, 0, 0)
    # Two a call, one more or less at the edges of the window.
    assert 5 <= figures.interruptions <= 15
    assert (figures.barge_in_ms.count, figures.missed_clears) == (figures.interruptions, 0)
    assert figures.leaked_connections == 0
    assert figures.server_cpu_percent > 0
    assert figures.rss_calls_bytes > 0
    if mode == "passthrough":
        assert figures.up.is_clean() and figures.down.is_clean(), (figures.up, figures.down)
        # At 50 frames and 10 messages a second, for two seconds; far fewer would mean a load that stood still.
        assert figures.latency_up_ms.count > 250
        assert figures.latency_down_ms.count > 50
    else:
        # Bursts every 500 ms; what the stream resampler holds back at the end is loss and shows as such.
        assert 10 <= figures.latency_up_ms.count <= 30
        assert figures.up.lost_ms < 5 * 200


@pytest.mark.e2e
@pytest.mark.skipif(find_haproxy() is None, reason="haproxy is not installed")
def test_floor_carries_five_calls_in_two_rounds() -> None:
    options = BenchOptions(
        calls=5, duration_s=1.0, warmup_s=0.2, ramp_s=0.1, rounds=2, targets=("floor",), barge_in_every_s=1.0
    )
    (target,) = run_bench(options, lambda line: None).targets
    assert len(target.rounds) == 2
    assert target.is_clean(), target


@pytest.mark.e2e
@pytest.mark.parametrize("target", ["bridge", "floor"])
def test_five_genesys_calls(target: str) -> None:
    if target == "floor" and find_haproxy() is None:
        pytest.skip("haproxy is not installed")
    options = BenchOptions(
        calls=5,
        carrier="genesys",
        duration_s=2.0,
        warmup_s=0.3,
        ramp_s=0.1,
        targets=(target,),
        barge_in_every_s=1.0,
    )
    report = run_bench(options, lambda line: None)
    figures = report.targets[0].last
    assert report.targets[0].is_clean(), (figures.up, figures.down, figures.complaints)
    assert figures.opened_ms.count == 5
    assert 5 <= figures.interruptions <= 15
    assert (figures.barge_in_ms.count, figures.missed_clears) == (figures.interruptions, 0)
    assert figures.first_audio_ms.count >= 5
    assert figures.pong_ms.count == 5
    # Five messages a second from each caller, for two seconds.
    assert figures.latency_up_ms.count == pytest.approx(50, abs=10)
    text = report.render_text()
    assert text.startswith("genesys, passthrough: 2 s measured")
    assert "barge-in to barge_in, p50/p99/max" in text
    assert "open to opened, p50/p99/max" in text


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("target", "mode"),
    [("bridge", "passthrough"), ("bridge", "convert"), ("bridge", "convert-24k"), ("floor", "passthrough")],
)
def test_five_vonage_calls(target: str, mode: str) -> None:
    if target == "floor" and find_haproxy() is None:
        pytest.skip("haproxy is not installed")
    options = BenchOptions(
        calls=5,
        carrier="vonage",
        mode=mode,
        duration_s=2.0,
        warmup_s=0.3,
        ramp_s=0.1,
        targets=(target,),
        barge_in_every_s=1.0,
    )
    report = run_bench(options, lambda line: None)
    figures = report.targets[0].last
    assert report.targets[0].is_clean(), (figures.up, figures.down, figures.complaints)
    assert 5 <= figures.interruptions <= 15
    assert (figures.barge_in_ms.count, figures.missed_clears) == (figures.interruptions, 0)
    if mode == "passthrough":
        assert figures.latency_up_ms.count == pytest.approx(500, abs=25)  # 50 frames a second from each caller
    text = report.render_text()
    assert text.startswith(f"vonage, {mode}: 2 s measured")
    assert "barge-in to clear, p50/p99/max" in text
    assert "  over 40 ms" in text


def test_the_flight_recorder_can_be_measured() -> None:
    assert runner.flight_setting(BenchOptions()) == {"FLIGHT_RECORDER": "off"}
    assert runner.flight_setting(BenchOptions(flight=True)) == {"FLIGHT_RECORDER": "errors"}
