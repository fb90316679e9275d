"""``bridge replay``: what it shows, its exit codes, files that are none, and the picture."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer
from typer.testing import CliRunner, Result

from bridge import cli_replay
from bridge.calls.flight import FlightOptions
from bridge.cli_replay import replay_command
from tests.kit import convai, twilio
from tests.kit.flights import RecordedLine

app = typer.Typer()
app.command()(replay_command)


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(params=[False, True], ids=["sizes", "audio"])
def file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    line = RecordedLine(flight=FlightOptions(keep_audio=request.param))
    line.offer()
    line.activate()
    for _ in range(25):
        line.carrier(twilio.media(b"\x1f" * 160))
        line.run(0.02)
    line.agent(convai.audio(b"\x55" * 8000, 4), convai.interruption(4))
    line.carrier(twilio.STOP)
    path = tmp_path / "c1.flight.gz"
    path.write_bytes(line.file())
    return path


def test_the_same_again(file: Path) -> None:
    shown = run(file)
    assert shown.exit_code == 0
    assert shown.output.startswith("call c1 (twilio), recorded by bridge")
    assert "call        agent_ready: audio passes unchanged" in shown.output
    assert 'to carrier  {"event":"clear"' in shown.output
    assert shown.output.rstrip().endswith("entries, the same again")


def test_as_json(file: Path) -> None:
    shown = run(file, "--json")
    assert shown.exit_code == 0
    document = json.loads(shown.output)
    assert document["same"] is True
    assert document["differences"] == []
    assert document["call"]["call_id"] == "c1"
    assert [state["state"] for state in document["states"]] == ["admitting", "connecting", "active", "ended"]
    assert {"kind": "note", "what": "finished: success/caller_hangup: stop"}.items() <= document["events"][-1].items()


def test_where_they_part(file: Path) -> None:
    text = gzip.decompress(file.read_bytes()).replace(b"audio passes unchanged", b"something else")
    file.write_bytes(gzip.compress(text))
    shown = run(file)
    assert shown.exit_code == 1
    assert "s (note)\n  recorded: agent_ready: something else\n  replayed: agent_ready: audio passes" in shown.output
    assert shown.output.rstrip().endswith("entries, not the same")
    document = json.loads(run(file, "--json").output)
    assert (document["same"], document["differences"][0]["stream"]) == (False, "note")


def test_a_picture(file: Path, tmp_path: Path) -> None:
    picture = tmp_path / "call.svg"
    assert run(file, "--svg", picture).exit_code == 0
    texts = "".join(ElementTree.fromstring(picture.read_text("utf-8")).itertext())
    assert "Replay of call c1" in texts
    assert "the same again" in texts
    assert "interruption" in texts


def test_a_record_with_a_gap(tmp_path: Path) -> None:
    line = RecordedLine(flight=FlightOptions(max_bytes=15_000))
    line.activate()
    for number in range(3000):
        if number % 500 == 0:
            line.agent(convai.ping(number))
        line.carrier(twilio.media(b"\x1f" * 160))
        line.run(0.02)
    path = tmp_path / "c1.flight.gz"
    path.write_bytes(line.file())
    shown = run(path)
    assert shown.exit_code == 0
    assert "there the record has a gap" in shown.output
    assert "in progress" in shown.output


def test_a_crash_is_shown(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("bridge.calls.downlink.Downlink.open", fail)
    shown = run(file)
    assert shown.exit_code == 1
    assert "the code raised RuntimeError: boom" in shown.output


def test_what_cannot_be_read(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = run(tmp_path / "nothing.gz")
    assert (missing.exit_code, "No such file or directory" in missing.output) == (2, True)
    file.write_bytes(file.read_bytes()[:100])
    cut = run(file)
    assert cut.exit_code == 2
    assert "flight record" in cut.output
    monkeypatch.setattr(cli_replay, "MAX_FILE_BYTES", 10)
    assert "it has more than 10 bytes" in run(file).output
