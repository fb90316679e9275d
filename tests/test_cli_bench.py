"""``bridge bench``: what its options come to. Measuring is tested with the bench."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from bridge import cli
from bridge.bench.admission import AdmissionFigures
from bridge.bench.figures import Spread
from bridge.bench.lists import ListFigures
from bridge.bench.load import BenchError

runner = CliRunner()


class Report:
    def to_json(self) -> str:
        return '{"fine":true}'

    def render_text(self) -> str:
        return "fine"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Options that reached the bench."""
    options: list[Any] = []

    def run_bench(given: Any, say: Any) -> Report:
        options.append(given)
        return Report()

    monkeypatch.setattr("bridge.bench.runner.run_bench", run_bench)
    return options


def run(*arguments: str, code: int = 0) -> tuple[str, str]:
    """Standard output and standard error."""
    result = runner.invoke(cli.app, ("bench", *arguments))
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def test_the_carrier_brings_its_own_numbers(seen: list[Any]) -> None:
    assert run("--carrier", "genesys") == ("fine\n", "")
    assert run("--carrier", "genesys", "--calls", "10", "--ramp-s", "2", "--json") == ('{"fine":true}\n', "")
    assert [(one.carrier, one.calls, one.ramp_s, one.targets) for one in seen] == [
        ("genesys", 200, 4.0, ("bridge", "floor")),
        ("genesys", 10, 2.0, ("bridge", "floor")),
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--carrier", "fax"), "carrier is 'fax'; known are twilio, genesys, vonage, sip"),
        (("--carrier", "genesys", "--target", "plain"), "unknown targets ['plain']; known are bridge, floor"),
        (("--admission", "--lists"), "give --admission or --lists, one of them"),
    ],
)
def test_what_makes_no_sense_is_told(seen: list[Any], arguments: tuple[str, ...], text: str) -> None:
    assert run(*arguments, code=2) == ("", f"{text}\n")
    assert seen == []


def test_what_cannot_be_measured_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_bench(given: Any, say: Any) -> Report:
        raise BenchError("bridge: it ended before it was ready")

    monkeypatch.setattr("bridge.bench.runner.run_bench", run_bench)
    assert run(code=2) == ("", "bridge: it ended before it was ready\n")


def test_admission_instead(monkeypatch: pytest.MonkeyPatch, seen: list[Any]) -> None:
    figures = AdmissionFigures(5387.0, 84.0, 68.0, 1000.0, 1.11, 5.88, 12.1, 0, shared_core=False)
    monkeypatch.setattr("bridge.bench.admission.measure_admission", lambda: figures)
    assert run("--admission")[0].startswith("most decisions: 5387/s")
    assert json.loads(run("--admission", "--json")[0])["p99_ms"] == 5.88
    assert seen == []


def test_admission_without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> AdmissionFigures:
        raise FileNotFoundError("redis-server is missing: install the package redis-server")

    monkeypatch.setattr("bridge.bench.admission.measure_admission", missing)
    assert run("--admission", code=2)[1] == "redis-server is missing: install the package redis-server\n"


def test_lists_instead(monkeypatch: pytest.MonkeyPatch, seen: list[Any]) -> None:
    ms = Spread(200, 5.0, 17.0, 19.5)
    figures = ListFigures(10_000, 50, ms, ms, ms, ms, 26 * 1024, 10_000)

    def measure(say: Any) -> ListFigures:
        say("asking")
        return figures

    monkeypatch.setattr("bridge.bench.lists.measure_lists", measure)
    out, err = run("--lists")
    assert (out.splitlines()[0], err) == ("10000 calls stored, 50 a page, 26 KiB each", "asking\n")
    assert json.loads(run("--lists", "--json")[0])["first_page_ms"]["p99"] == 17.0


def test_a_bridge_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(say: Any) -> ListFigures:
        raise RuntimeError("the bridge did not start: no space left")

    monkeypatch.setattr("bridge.bench.lists.measure_lists", measure)
    assert run("--lists", code=2)[1] == "the bridge did not start: no space left\n"
