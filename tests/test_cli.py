"""The command line: names and options, how mistakes are told, and that help is quick."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bridge import __version__, cli
from bridge.calls.http_tools import HttpTool
from bridge.calls.routing import RoutingTable
from bridge.config import Settings
from bridge.errors import ConfigError
from bridge.server.watch import ConfigurationSource
from bridge.simulators.agent_scenarios import SCENARIOS
from bridge.sip.trunks import Trunk
from tests.kit import logs

runner = CliRunner()


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No settings of whoever runs the tests, and logging as it was."""
    monkeypatch.chdir(tmp_path)
    for name in (*Settings.model_fields, "bridge_config"):
        monkeypatch.delenv(name.upper(), raising=False)
    with logs.unconfigured():
        yield


def run(*arguments: str, code: int = 0, env: dict[str, str] | None = None) -> tuple[str, str]:
    """Standard output and standard error."""
    result = runner.invoke(cli.app, arguments, env=env)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def test_the_version() -> None:
    assert run("--version") == (f"telephony-bridge {__version__}\n", "")


@pytest.mark.parametrize("command", ["serve", "demo", "agent", "call", "bench"])
def test_every_command_explains_itself(command: str) -> None:
    out, _ = run(command, "--help")
    assert "Usage: " in out
    assert command in run("--help")[0]


def test_help_does_not_load_what_commands_need() -> None:
    script = (
        "import sys\nfrom typer.testing import CliRunner\nfrom bridge import cli\n"
        "assert CliRunner().invoke(cli.app, ['--help']).exit_code == 0\n"
        "print([name for name in ('numpy', 'fastapi', 'uvicorn', 'pydantic', 'picows') if name in sys.modules])"
    )
    root = str(Path(cli.__file__).parent.parent)
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_all_mistakes_in_the_settings_are_told_at_once(command: str) -> None:
    out, err = run(command, code=2, env={"BRIDGE_PORT": "many", "PUBLIC_URL": "ftp://x", "TWILIO_ACCOUNT_SID": "AC1"})
    assert out == ""
    assert err.startswith("the settings do not work:\n")
    for name in ("BRIDGE_PORT", "PUBLIC_URL", "TWILIO_ACCOUNT_SID"):
        assert f"  - {name} (from environment)" in err
    assert "Traceback" not in err


def test_more_than_one_worker_is_refused_with_a_reason() -> None:
    _, err = run("serve", "--workers", "2", code=2)
    assert err.startswith("--workers: one process runs one worker. For more, run several instances")
    assert "REDIS_URL" in err and "DATABASE_URL" in err


def test_serve_runs_the_server_with_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[Settings, RoutingTable, ConfigurationSource]] = []

    async def serve(
        settings: Settings,
        *,
        routing: RoutingTable,
        tools: Mapping[str, HttpTool],
        trunks: tuple[Trunk, ...],
        source: ConfigurationSource,
    ) -> None:
        assert list(tools) == ["order_status"]
        assert [trunk.name for trunk in trunks] == ["berlin"]
        seen.append((settings, routing, source))

    monkeypatch.setattr("bridge.server.serve.serve", serve)
    toml = tmp_path / "mine.toml"
    toml.write_text(
        '[[routes]]\nnumber = "+15550199"\nagent = "agent_7"\n'
        '[tools.order_status]\ndescription = "Looks up."\nurl = "https://shop.example.com/orders"\n'
        '[trunks.berlin]\nallowed_addresses = ["192.0.2.7"]\n'
    )
    run("serve", env={"BRIDGE_PORT": "1234", "BRIDGE_CONFIG": str(toml)})
    [(settings, routing, source)] = seen
    assert settings.bridge_port == 1234
    assert [route.agent for route in routing.routes] == ["agent_7"]
    assert source.files == (toml, Path(".env")), "what is watched is what was read"


def test_what_cannot_be_served_is_told_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(settings: Settings, **_more: object) -> None:
        raise ConfigError("DATABASE_URL: the database does not work: no such host")

    monkeypatch.setattr("bridge.server.serve.serve", serve)
    _, err = run("serve", code=2)
    assert err == "DATABASE_URL: the database does not work: no such host\n"


@pytest.mark.parametrize("arguments", [(), ("--voice", "http://x/v", "--to", "ws://x/m")])
def test_a_call_goes_to_one_address(arguments: tuple[str, ...]) -> None:
    _, err = run("call", "twilio", *arguments, code=2)
    assert err == "give --voice URL or --to URL, one of them\n"


def test_a_call_that_reaches_nobody_fails(unused_tcp_port: int) -> None:
    out, err = run("call", "twilio", "--to", f"ws://127.0.0.1:{unused_tcp_port}/twilio/media", "--json", code=1)
    result = json.loads(out)
    assert result["ended_by"] == "refused"
    assert result["violations"][0]["code"] == 31901
    assert err == f"calling ws://127.0.0.1:{unused_tcp_port}/twilio/media\n"


def test_a_call_for_people(unused_tcp_port: int) -> None:
    out, _ = run("call", "twilio", "--voice", f"http://127.0.0.1:{unused_tcp_port}/twilio/voice", code=1)
    assert "ended by refused with 0 after 0.0 s" in out
    assert "TwiML: none; gaps: 0" in out
    assert "breach 11200: POST /twilio/voice: ConnectError" in out


def test_scenarios_are_listed() -> None:
    out, _ = run("agent", "--list")
    assert set(SCENARIOS) < set(out.splitlines())


def test_an_unknown_scenario() -> None:
    _, err = run("agent", "--scenario", "nonsense", code=2)
    assert err.startswith("scenario 'nonsense' is not known; known are ")


def test_a_script_that_is_no_scenario(tmp_path: Path) -> None:
    script = tmp_path / "mine.json"
    script.write_text('{"name":"mine","steps":[{"step":"dance"}]}')
    _, err = run("agent", "--script", str(script), code=2)
    assert "mine.json" in err and "dance" in err


def test_an_agent_on_a_taken_port(unused_tcp_port: int) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", unused_tcp_port))
        other.listen()
        _, err = run("agent", "--port", str(unused_tcp_port), code=2)
    assert err.startswith(f"cannot listen on 127.0.0.1:{unused_tcp_port}: ")
    assert err.endswith("choose another --port\n")


def test_options_reach_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    class Report:
        def to_json(self) -> str:
            return '{"fine":true}'

        def render_text(self) -> str:
            return "fine"

    def run_bench(options: Any, say: Any) -> Report:
        seen.append(options)
        return Report()

    monkeypatch.setattr("bridge.bench.runner.run_bench", run_bench)
    assert run("bench", "--calls", "3", "--target", "bridge", "--json")[0] == '{"fine":true}\n'
    assert run("bench", "--mode", "convert")[0] == "fine\n"
    assert (seen[0].calls, seen[0].targets) == (3, ("bridge",))
    assert seen[1].mode == "convert"


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 130
