"""``bridge doctor``: its exit codes, its two shapes of output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from bridge.cli_doctor import doctor
from bridge.config import Configuration
from bridge.doctor import plan
from bridge.doctor.findings import Finding, failed, ok, warning
from bridge.doctor.runner import Say
from bridge.doctor.tools import DoctorOptions


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(doctor)
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without settings."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[DoctorOptions]:
    """An examination that finds a warning; what it was asked for."""
    options_seen: list[DoctorOptions] = []

    async def examine(_configuration: Configuration, options: DoctorOptions, say: Say) -> list[Finding]:
        options_seen.append(options)
        say("still looking: Redis")
        return [ok("settings", "fine"), warning("PUBLIC_URL", "it is not set", "Set it.")]

    monkeypatch.setattr(plan, "examine", examine)
    return options_seen


def test_warnings_are_no_failure(asked: list[DoctorOptions]) -> None:
    done = run()
    assert done.exit_code == 0
    assert done.stderr == "still looking: Redis\n"
    assert "-> Set it." in done.stdout
    assert asked == [DoctorOptions(conversation=True, at="")]


def test_json_has_standard_output_to_itself(asked: list[DoctorOptions]) -> None:
    done = run("--json", "--no-conversation", "--at", "http://10.0.0.5:8080")
    assert done.exit_code == 0
    assert [check["name"] for check in json.loads(done.stdout)["checks"]] == ["settings", "PUBLIC_URL"]
    assert asked == [DoctorOptions(conversation=False, at="http://10.0.0.5:8080")]


def test_a_failure_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    async def examine(*_: object) -> list[Finding]:
        return [failed("Redis", "no connection", "Start Redis.")]

    monkeypatch.setattr(plan, "examine", examine)
    assert run().exit_code == 1


def test_settings_that_do_not_work_are_all_named_with_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIDGE_PORT", "none")
    monkeypatch.setenv("ELEVENLABS_BASE_URL", "nowhere")
    told = run()
    assert (told.exit_code, told.stdout) == (2, "")
    assert "BRIDGE_PORT" in told.stderr and "ELEVENLABS_BASE_URL" in told.stderr
    as_json = run("--json")
    (check,) = json.loads(as_json.stdout)["checks"]
    assert (as_json.exit_code, check["name"], check["verdict"]) == (2, "settings", "failed")
    assert "BRIDGE_PORT" in check["seen"] and "ELEVENLABS_BASE_URL" in check["seen"]


def test_an_address_that_is_none() -> None:
    refused = run("--at", "bridge:8080")
    assert (refused.exit_code, refused.stderr) == (2, "--at: give an address such as http://10.0.0.5:8080\n")
