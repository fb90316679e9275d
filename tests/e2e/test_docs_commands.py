"""The commands of the documentation, run as they stand there: by a shell, against bridges of this machine.

What differs from the page: ports (free ones), the public name (``bridge.example.com`` is the bridge of the test),
``CALL`` (the id of a call that was placed with a command of the same pages), and the load of the bench (five calls).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.bench.floor import find_haproxy
from tests.kit.database import PostgresServer, postgres_programs, shared_postgres
from tests.kit.redis import redis_binary
from tests.kit.server import free_port
from tests.test_docs import COMMANDS, COVERAGE, ROOT, RUN

__all__ = ["shared_postgres"]

pytestmark = pytest.mark.e2e

TIMEOUT_S = 90.0
"""Of one command; a call with a real voice takes some fifteen seconds, a bench of five calls twenty."""
START_S = 30.0
POLL_S = 0.05
KEYS = {
    "BRIDGE_API_KEY": "admin_key_of_the_documentation",
    "TWILIO_ACCOUNT_SID": "AC00000000000000000000000000000000",
    "TWILIO_AUTH_TOKEN": "12345678901234567890123456789012",
    "GENESYS_API_KEY": "genesys_key_of_the_documentation",
    "GENESYS_CLIENT_SECRET": "c2VjcmV0IG9mIHRoZSBkb2N1bWVudGF0aW9uIQ==",
    "VONAGE_SIGNATURE_SECRET": "vonage_secret_of_the_documentation_0123456789",
}

OPEN = frozenset({
    "bridge call vonage --to ws://127.0.0.1:8080/vonage/media",
    "bridge call sip sip:+15550199@127.0.0.1:5060 --recording call.wav",
    "bridge call sip 'sip:+15550199@127.0.0.1:5060;transport=tcp' --digits 12# --trace",
    "sipp -sn uac 127.0.0.1:5060 -m 10 -r 1 -d 3000",
})  # fmt: skip
"""Their pages say that they are for a bridge with ``BRIDGE_AUTH=off``."""

SERVERS = {
    "bridge agent": "agent listens at",
    "BRIDGE_AUTH=off ELEVENLABS_BASE_URL=http://127.0.0.1:9090 ELEVENLABS_AGENT_ID=demo "
    "SIP_UDP_PORT=5060 SIP_TCP_PORT=5060 bridge serve": "listening",
}
"""Commands that go on until they are told to stop, and what they say when they are up."""

DOCTOR = frozenset({"bridge doctor", "bridge doctor --no-conversation", "bridge doctor --json"})
"""They find, rightly, that this machine has no public address: exit code 1."""

SCRIPTS = ("mkdir -p -m 700 backup", "export TWILIO_ACCOUNT_SID=", "curl -s -f -H")
"""Blocks whose commands belong together hold one of these; such a block is run as one script."""

MISSING = {"sipp": "sip-tester", "sqlite3": "sqlite3", "curl": "curl", "openssl": "openssl"}
"""Programs, and the package that has them."""


def scripts() -> list[str]:
    """The blocks that are scripts, as the lines that they hold."""
    blocks = dict.fromkeys(command.block for command in COMMANDS if any(begin in command.block for begin in SCRIPTS))
    return ["\n".join(command.text for command in COMMANDS if command.block == block) for block in blocks]


def singles() -> list[str]:
    """The commands that are run by themselves."""
    together = {line for script in scripts() for line in script.splitlines()}
    alone = [text for text, how in COVERAGE.items() if how == RUN and text not in together and text not in SERVERS]
    return [text for text in alone if not text.startswith("pg_")]


@dataclass
class Ports:
    """Where what the page speaks of really is."""

    http: int = field(default_factory=free_port)
    sip: int = field(default_factory=free_port)
    agent: int = field(default_factory=free_port)
    rest: int = field(default_factory=free_port)

    def in_place(self, text: str) -> str:
        """The text with these ports in it."""
        for on_the_page, here in (
            ("https://bridge.example.com", f"http://127.0.0.1:{self.http}"),
            ("127.0.0.1:8080", f"127.0.0.1:{self.http}"),
            ("127.0.0.1:5060", f"127.0.0.1:{self.sip}"),
            ("127.0.0.1:9090", f"127.0.0.1:{self.agent}"),
            ("127.0.0.1:8099", f"127.0.0.1:{self.rest}"),
            ("--rest-port 8099", f"--rest-port {self.rest}"),
            ("_PORT=5060", f"_PORT={self.sip}"),
            ("--calls 100", "--calls 5"),
        ):
            text = text.replace(on_the_page, here)
        return f"{text} --port {self.agent}" if text == "bridge agent" else text


@dataclass
class Stage:
    """A folder with the files that commands speak of, and how to run them in it."""

    folder: Path
    ports: Ports
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        """The environment of commands: a few variables of this process, the keys, ``bridge`` on the path."""
        inherited = {name: os.environ[name] for name in ("HOME", "LANG", "SSL_CERT_FILE") if name in os.environ}
        path = f"{self.folder / 'bin'}:{os.environ.get('PATH', '')}:/usr/sbin"
        return {**inherited, "PATH": path, "PYTHONPATH": str(ROOT), "LOG_FORMAT": "json", **KEYS, **self.settings}

    def prepare(self) -> None:
        """Put ``bridge`` on the path, and the files of the repository that commands name."""
        program = self.folder / "bin" / "bridge"
        program.parent.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m bridge "$@"\n', encoding="utf-8")
        program.chmod(0o755)
        shutil.copy(ROOT / ".env.example", self.folder)

    def run(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run it by a shell that stops at the first mistake; whatever it leaves running is ended with it."""
        out, err = self.folder / "stdout", self.folder / "stderr"
        with out.open("w", encoding="utf-8") as out_file, err.open("w", encoding="utf-8") as err_file:
            shell = subprocess.Popen(
                ["bash", "-e", "-o", "pipefail", "-c", script],
                cwd=self.folder,
                env={**self.variables, **variables},
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=out_file,  # no pipes: what a script leaves in the background would keep them open
                stderr=err_file,
            )
        try:
            code = shell.wait(TIMEOUT_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
        return subprocess.CompletedProcess(script, code, out.read_text("utf-8"), err.read_text("utf-8"))

    @contextlib.contextmanager
    def running(self, command: str, ready: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command that goes on, from when it says that it is ready until the end of the context."""
        log = self.folder / f"{abs(hash(command + str(settings)))}.log"
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                ["bash", "-c", command], cwd=self.folder, env={**self.variables, **settings}, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, text=True,
            )  # fmt: skip
        try:
            deadline_s = time.monotonic() + START_S
            while ready not in log.read_text(encoding="utf-8"):
                assert process.poll() is None and time.monotonic() < deadline_s, log.read_text(encoding="utf-8")
                time.sleep(POLL_S)
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(START_S)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def ask(self, path: str) -> Any:
        """The JSON that the bridge answers."""
        with httpx.Client(trust_env=False, headers={"X-API-Key": KEYS["BRIDGE_API_KEY"]}) as client:
            return client.get(f"http://127.0.0.1:{self.ports.http}{path}").raise_for_status().json()

    def call_over(self, provider: str) -> str:
        """The id of an ended call of this carrier; one is placed where there is none."""
        command = {
            "twilio": 'bridge call twilio --voice http://127.0.0.1:8080/twilio/voice --auth-token "$TWILIO_AUTH_TOKEN"',
            "sip": "bridge call sip sip:+15550199@127.0.0.1:5060",
        }[provider]
        assert COVERAGE[command] == RUN
        deadline_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline_s:
            calls = self.ask(f"/v1/calls?provider={provider}&direction=inbound&result=success")["calls"]
            if calls:
                return str(calls[0]["id"])
            done = self.run(self.ports.in_place(command))
            assert done.returncode == 0, done.stdout + done.stderr
            time.sleep(1.0)  # its record is on the way to the database
        pytest.fail(f"no call over {provider} is in the records")


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an agent for all bridges here."""
    stage = Stage(tmp_path_factory.mktemp("agent"), Ports())
    stage.prepare()
    with stage.running(stage.ports.in_place("bridge agent"), SERVERS["bridge agent"]):
        yield stage.ports.agent


@pytest.fixture(scope="module")
def guarded(agent: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Beside a bridge with keys for all carriers."""
    stage = Stage(tmp_path_factory.mktemp("guarded"), Ports(agent=agent))
    stage.prepare()
    stage.settings = {
        "BRIDGE_PORT": str(stage.ports.http),
        "ELEVENLABS_BASE_URL": f"http://127.0.0.1:{agent}",
        "ELEVENLABS_AGENT_ID": "demo",
        "TWILIO_FROM_NUMBERS": "+15550199",
        "TWILIO_API_BASE_URL": f"http://127.0.0.1:{stage.ports.rest}",
        "SIP_UDP_PORT": str(stage.ports.sip),
        "SIP_TCP_PORT": str(stage.ports.sip),
        "SIP_ALLOWED_ADDRESSES": "127.0.0.1",
        "FLIGHT_RECORDER": "all",
        "RECORDING": "on",
        "DRAIN_TIMEOUT_S": "1",
    }
    with stage.running("bridge serve", "listening"):
        yield stage


@pytest.fixture(scope="module")
def opened(agent: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Beside the bridge of sip.md, which lets everybody of this machine in."""
    stage = Stage(tmp_path_factory.mktemp("opened"), Ports(agent=agent))
    stage.prepare()
    (command,) = [text for text in SERVERS if text.endswith("bridge serve")]
    own = {"BRIDGE_PORT": str(stage.ports.http), "DRAIN_TIMEOUT_S": "1", "SIP_RTP_PORT_MIN": "30000"}
    with stage.running(stage.ports.in_place(command), SERVERS[command], **own, SIP_RTP_PORT_MAX="30999"):
        yield stage


def skip_without(script: str) -> None:
    for program, package in MISSING.items():
        if f"{program} " in script and shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (package {package})")
    if "bridge bench" in script and "--target floor" in script and find_haproxy() is None:
        pytest.skip("haproxy is not installed")
    if "bridge bench --admission" in script:
        redis_binary()


def with_call(stage: Stage, text: str) -> str:
    """The text with the id of a call in the place of CALL."""
    if "/calls/CALL" not in text:
        return text
    return text.replace("/calls/CALL", f"/calls/{stage.call_over('sip' if 'sip-messages' in text else 'twilio')}")


@pytest.mark.parametrize("text", singles(), ids=lambda text: re.sub(r"[^A-Za-z0-9]+", "-", text)[:60])
def test_a_command(text: str, request: pytest.FixtureRequest) -> None:
    skip_without(text)
    stage: Stage = request.getfixturevalue("opened" if text in OPEN else "guarded")
    script = with_call(stage, stage.ports.in_place(text))
    with contextlib.ExitStack() as stack:
        if "Idempotency-Key" in script:  # it places a call: there must be a Twilio to take the order
            twilio = f"bridge call twilio --rest-port {stage.ports.rest}"
            stack.enter_context(stage.running(twilio, "waiting for calls"))
            script = script.replace("order-427", f"order-{stage.ports.rest}-{len(script)}")  # each page has its own
        done = stage.run(script.replace("curl ", "curl --no-progress-meter --fail-with-body "))
    said = done.stdout + done.stderr
    assert done.returncode in ((0, 1) if text in DOCTOR else (0,)), said
    assert "Traceback" not in said
    if text in DOCTOR:
        assert "PUBLIC_URL" in said


def test_servers_run_until_they_are_stopped(agent: int, opened: Stage) -> None:
    """The fixtures have started them, with the very commands; here they answer."""
    with httpx.Client(trust_env=False) as client:
        assert client.get(f"http://127.0.0.1:{opened.ports.http}/readyz").json()["ready"] is True
    assert set(SERVERS) <= {text for text, how in COVERAGE.items() if how == RUN}
    assert opened.ports.agent == agent


@pytest.mark.parametrize("script", scripts(), ids=lambda script: script.split(" ")[0] + script.split(" ")[-1])
def test_commands_that_belong_together(script: str, guarded: Stage) -> None:
    ports, variables = guarded.ports, {}
    if "&\n" in script:  # a bridge of its own in the background: the shell's user waits until it listens
        ports = Ports(agent=guarded.ports.agent)
        variables = {
            "BRIDGE_PORT": str(ports.http), "DATA_DIR": "data-of-the-script", "SIP_UDP_PORT": "", "SIP_TCP_PORT": "",
        }  # fmt: skip
        up = f"until curl -sf http://127.0.0.1:{ports.http}/healthz > health; do sleep 0.1; done"
        script = script.replace("&\n", f"&\n{up}\n")
    skip_without(script)
    done = guarded.run(with_call(guarded, ports.in_place(script)), **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    if "backup" in script:
        assert "ok" in done.stdout.splitlines(), "the copy of the database is whole"
        assert (guarded.folder / "backup" / "files.tar.gz").stat().st_size > 0
    if "replay" in script:
        assert "the same again" in done.stdout
        assert (guarded.folder / "call.svg").read_text(encoding="utf-8").startswith("<svg")


def test_a_dump_of_postgresql_comes_back(tmp_path: Path, shared_postgres: PostgresServer) -> None:
    skip_without("curl ")
    dump, restore = (text for text in COVERAGE if text.startswith(("pg_dump ", "pg_restore ")))
    stage = Stage(tmp_path / "stage", Ports(), {"DATABASE_URL": shared_postgres.new_database()})
    stage.prepare()
    (stage.folder / "backup").mkdir()
    path = f"{postgres_programs()}:{stage.variables['PATH']}"
    own = {"BRIDGE_PORT": str(stage.ports.http), "TWILIO_FROM_NUMBERS": ""}
    with stage.running("bridge serve", "listening", **own):
        done = stage.run(
            f"curl -sf -X PUT -H 'X-API-Key: {KEYS['BRIDGE_API_KEY']}' -H 'Content-Type: application/json' "
            f"""-d '{{"number": "+4930*", "agent": "agent_kept"}}' http://127.0.0.1:{stage.ports.http}/v1/routes"""
        )
        assert done.returncode == 0, done.stdout + done.stderr
        done = stage.run(dump, PATH=path)
        assert done.returncode == 0, done.stderr
    stage.settings["DATABASE_URL"] = shared_postgres.new_database()
    done = stage.run(restore, PATH=path)
    assert done.returncode == 0, done.stderr
    with stage.running("bridge serve", "listening", **own):
        assert "agent_kept" in str(stage.ask("/v1/routes"))
