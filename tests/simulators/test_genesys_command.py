"""``bridge call genesys``: how its options reach the caller, and what it prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bridge import cli
from bridge.simulators.genesys_caller import GenesysCall
from bridge.simulators.genesys_person import Hold, press_keys
from bridge.simulators.genesys_result import GenesysResult

runner = CliRunner()

SECRET = "TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU="


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No settings of whoever runs the tests."""
    for name in ("GENESYS_API_KEY", "GENESYS_CLIENT_SECRET", "GENESYS_ORGANIZATION_ID", "PUBLIC_URL"):
        monkeypatch.delenv(name, raising=False)
    yield


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[GenesysCall]:
    """The calls that would have been placed; each goes well."""
    placed: list[GenesysCall] = []

    async def run(call: GenesysCall) -> GenesysResult:
        placed.append(call)
        return GenesysResult(ended_by="caller", opened_ms=1.5)

    monkeypatch.setattr(GenesysCall, "run", run)
    return placed


def run(*arguments: str, code: int = 0, env: dict[str, str] | None = None) -> tuple[str, str]:
    """Standard output and standard error."""
    result = runner.invoke(cli.app, ("call", "genesys", *arguments), env=env)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def test_all_options_reach_the_call(calls: list[GenesysCall], tmp_path: Path) -> None:
    script = tmp_path / "mine.json"
    script.write_text('[{"action":"hold","ms":500}]')
    out, err = run(
        *("--to", "wss://bridge.example.com/genesys/", "--connector-id", "agent_1?x=1"),
        *("--organization-id", "org,other", "--public-url", "https://public.example.com", "--caller", "+15550101"),
        *("--called", "sip:desk@example.com", "--variable", "a=1", "--variable", "b=2", "--custom-config", '{"c":3}'),
        *("--language", "de-DE", "--media", "both", "--script", str(script), "--retries", "2"),
        *("--recording", "call.wav", "--max-duration-s", "9", "--probe"),
        env={"GENESYS_API_KEY": "new,old", "GENESYS_CLIENT_SECRET": f"{SECRET},b2xk"},
    )
    [call] = calls
    options = call.options
    assert call.url == "wss://bridge.example.com/genesys/agent_1?x=1"
    assert (options.api_key, options.client_secret) == ("new", SECRET)
    assert (options.organization_id, options.public_url) == ("org", "https://public.example.com")
    assert (options.caller, options.called) == ("+15550101", "sip:desk@example.com")
    assert (options.input_variables, options.custom_config) == ({"a": "1", "b": "2"}, {"c": 3})
    assert (options.language, options.media, options.probe) == ("de-DE", "both", True)
    assert (options.actions, options.retries) == ((Hold(ms=500),), 2)
    assert (options.recording, options.max_duration_s) == (Path("call.wav"), 9.0)
    assert err == "calling wss://bridge.example.com/genesys/agent_1?x=1\n"
    assert out.startswith("ended by caller after 0.0 s, opened after 1.5 ms\n")


def test_keys_and_json(calls: list[GenesysCall]) -> None:
    out, _ = run("--to", "ws://h/", "--digits", "12#", "--json")
    assert calls[0].options.actions == press_keys("12#")
    assert json.loads(out)["ended_by"] == "caller"


def test_a_call_that_reaches_nobody_fails(unused_tcp_port: int) -> None:
    out, _ = run("--to", f"ws://127.0.0.1:{unused_tcp_port}/genesys/a", code=1)
    assert "ended by refused (no connection: ConnectionRefusedError) after 0.0 s, never opened" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", "http://h/"), "to must begin with ws:// or wss://\n"),
        (("--to", "ws://h/", "--variable", "x"), "an input variable is given as NAME=VALUE\n"),
        (("--to", "ws://h/", "--custom-config", "x"), "the custom configuration is not a JSON object\n"),
        (("--to", "ws://h/", "--digits", "x"), "digits are 0-9 * # A-D\n"),
        (("--to", "ws://h/", "--client-secret", SECRET), "client_secret needs api_key: the signature names it\n"),
    ],
)
def test_mistakes_are_told(arguments: tuple[str, ...], message: str) -> None:
    assert run(*arguments, code=2) == ("", message)


def test_a_script_that_is_not_there(tmp_path: Path) -> None:
    _, err = run("--to", "ws://h/", "--script", str(tmp_path / "missing.json"), code=2)
    assert "missing.json" in err
