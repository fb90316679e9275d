"""Packaging: the files around the code name only what exists, and agree with each other."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import bridge
from bridge.config import CONFIG_FILE_VARIABLE, Settings
from bridge.settings.sip import SipSettings
from bridge.settings.tracing import TracingSettings

ROOT = Path(__file__).parents[1]
SETTINGS = {
    name.upper() for topic in (Settings, SipSettings, TracingSettings) for name in topic.model_fields
} | {CONFIG_FILE_VARIABLE}  # fmt: skip
COMPOSE = {
    "SITE_ADDRESS",
    "BRIDGE_UPSTREAMS",
    "POSTGRES_PASSWORD",
    "METRICS_KEY",
    "GRAFANA_ADMIN_PASSWORD",
}
"""What only the compose file reads, of those who stand beside the bridge."""
SECRETS_OF_COMPOSE = {"POSTGRES_PASSWORD", "METRICS_KEY", "GRAFANA_ADMIN_PASSWORD"}
# What the image sets for Python and the shell, not for the bridge.
NOT_OURS = {"PATH", "PIP_NO_CACHE_DIR", "PIP_DISABLE_PIP_VERSION_CHECK", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def project() -> dict[str, Any]:
    metadata: dict[str, Any] = tomllib.loads(text_of("pyproject.toml"))["project"]
    return metadata


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text_of("docker-compose.yml"))["services"]
    return found


def test_the_version_is_the_same_everywhere() -> None:
    assert bridge.__version__ == project()["version"]


def test_every_dependency_has_a_lower_bound() -> None:
    extras = project()["optional-dependencies"].values()
    own = f"{project()['name']}["  # one extra that takes in others, of this very version
    named = [*project()["dependencies"], *(line for extra in extras for line in extra)]
    dependencies = [line for line in named if not line.startswith(own)]
    assert len(dependencies) > 15
    assert [line for line in dependencies if not re.match(r"[A-Za-z0-9_.-]+(\[[a-z,]+\])?>=\d", line)] == []


def test_the_licence_is_apache_2_in_full() -> None:
    licence = text_of("LICENSE")
    assert project()["license"] == "Apache-2.0"
    assert licence.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert "END OF TERMS AND CONDITIONS" in licence


def test_the_example_settings_exist_and_set_nothing_by_themselves() -> None:
    lines = [line for line in text_of(".env.example").splitlines() if line and not line.startswith("#")]
    assert len(lines) >= 5
    assert {line.partition("=")[0] for line in lines} <= SETTINGS | COMPOSE
    assert all(line.endswith("=") for line in lines)


def test_the_example_settings_have_every_secret_and_each_is_explained() -> None:
    lines = text_of(".env.example").splitlines()
    fields = {**Settings.model_fields, **SipSettings.model_fields, **TracingSettings.model_fields}
    secrets = {name.upper() for name, field in fields.items() if "SecretStr" in repr(field.annotation)}
    optional = {"TWILIO_SUBACCOUNT_TOKENS", "DTMF_WEBHOOK_HEADERS"}  # for the few who need them: the README's tables
    assert secrets | SECRETS_OF_COMPOSE <= {line.partition("=")[0] for line in lines} | optional
    for number, line in enumerate(lines):
        if line.endswith("="):
            above = lines[number - 1]
            assert above.startswith("#") or above.endswith("="), f"{line} stands alone"


def test_compose_names_only_settings_that_exist() -> None:
    named = set(services()["bridge"]["environment"])
    assert named and named <= SETTINGS
    assert set(re.findall(r"\$\{([A-Z0-9_]+)", text_of("docker-compose.yml"))) <= SETTINGS | COMPOSE


def test_compose_comes_up_without_a_single_secret() -> None:
    for variable, default in re.findall(r"\$\{([A-Z0-9_]+)(.*?)\}", text_of("docker-compose.yml")):
        assert default.startswith(":-"), f"{variable} has no default"
    assert services()["bridge"]["env_file"] == [{"path": ".env", "required": False}]


def test_everything_in_compose_is_pinned_and_tells_its_health() -> None:
    for name, service in services().items():
        assert service["image"] == "telephony-bridge" or re.search(r":v?\d+\.\d+\.?\d*", service["image"]), name
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert all(" " not in part for part in service["healthcheck"]["test"]), "some engines split at blanks"


def test_redis_and_the_database_are_reached_by_the_bridge_alone() -> None:
    compose = yaml.safe_load(text_of("docker-compose.yml"))
    assert compose["networks"]["stores"] == {"internal": True}
    inside = {name for name, service in services().items() if "stores" in service["networks"]}
    assert inside == {"bridge", "redis", "postgres"}
    for name in ("redis", "postgres"):
        assert services()[name]["networks"] == ["stores"]
        assert "ports" not in services()[name]


def test_carriers_and_trunks_find_their_ports() -> None:
    assert services()["caddy"]["ports"] == ["80:80", "443:443"]
    ports = services()["bridge"]["ports"]
    assert ports[:4] == ["127.0.0.1:8080:8080", "5060:5060/udp", "5060:5060/tcp", "5061:5061/tcp"]
    variables = services()["bridge"]["environment"]
    low, high = variables["SIP_RTP_PORT_MIN"], variables["SIP_RTP_PORT_MAX"]
    assert ports[4] == f"{low}-{high}:{low}-{high}/udp"
    for name in ("prometheus", "grafana"):
        assert all(port.startswith("127.0.0.1:") for port in services()[name]["ports"])
        assert services()[name]["profiles"] == ["observability"]


def test_the_image_installs_what_the_project_asks_for_at_one_version_each() -> None:
    extras = project()["optional-dependencies"]
    wanted = {
        re.split(r"[\[>=;]", line)[0].lower().replace("_", "-")
        for line in (*project()["dependencies"], *extras["mp3"], *extras["otel"], *extras["s3"])
    }
    pins = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)$", text_of("deploy/image/requirements.txt"), re.MULTILINE))
    assert wanted <= {name.lower().replace("_", "-") for name in pins}
    assert len(pins) > len(wanted)


def test_the_image_sets_only_settings_that_exist() -> None:
    lines = [line for line in text_of("Dockerfile").splitlines() if line.startswith("ENV ")]
    named = {name for line in lines for name in re.findall(r"(\w+)=", line)}
    assert "BRIDGE_HOST" in named
    assert named <= SETTINGS | NOT_OURS


def test_compose_waits_longer_than_the_bridge_drains() -> None:
    grace = str(services()["bridge"]["stop_grace_period"])
    assert float(grace.removesuffix("s")) > Settings().drain_timeout_s


def test_the_simulated_agent_starts_only_on_demand() -> None:
    agent = services()["agent"]
    assert agent["profiles"] == ["demo"]
    assert agent["command"] == ["bridge", "agent", "--host", "0.0.0.0", "--port", "9090"]


def test_the_containers_cannot_write_or_gain_rights() -> None:
    for service in services().values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert {name for name, service in services().items() if "cap_add" in service} == {"caddy"}
    assert re.search(r"^USER 10001:10001$", text_of("Dockerfile"), re.MULTILINE)


def test_the_image_gets_what_it_copies_and_no_more() -> None:
    lines = text_of(".dockerignore").splitlines()
    assert "*" in lines
    admitted = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", text_of("Dockerfile"), re.MULTILINE)
    assert {source for copy in copies for source in copy.split()} == admitted


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_passes_arguments_on() -> None:
    for target in ("demo", "bench"):
        dry_run = subprocess.run(
            ["make", "--dry-run", target, "ARGS=--once --json"], cwd=ROOT, capture_output=True, text=True
        )
        assert f".venv/bin/bridge {target} --once --json" in dry_run.stdout


def test_an_old_python_is_refused_in_words(tmp_path: Path) -> None:
    old = tmp_path / "python3.10"
    old.write_text('#!/bin/sh\ncase "$2" in *exit*) exit 1;; *) echo 3.10;; esac\n')
    old.chmod(0o755)
    run = subprocess.run(
        [ROOT / ".ci" / "venv", tmp_path / "venv", "."],
        env={"PYTHON": str(old), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.startswith(f"Python 3.11 or newer is needed; {old} here is: 3.10.\n")
    assert not (tmp_path / "venv").exists()


# --- .ci/system-packages, on a path that holds nothing but stand-ins ------------------------------------------

REAL_TOOLS = ("bash", "env", "grep")
APT_INSTALL = "apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends haproxy"


class StandIns:
    """A folder of commands that write down how they were called and answer as told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls_file = folder / "calls"
        self.calls_file.touch()
        for name in REAL_TOOLS:
            (folder / name).symlink_to(str(shutil.which(name)))

    def add(self, name: str, body: str) -> None:
        command = self.folder / name
        command.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >>"{self.calls_file}"\n{body}\n')
        command.chmod(0o755)

    def run(self) -> subprocess.CompletedProcess[str]:
        script = [str(self.folder / "bash"), str(ROOT / ".ci" / "system-packages"), "haproxy"]
        return subprocess.run(
            script, env={"PATH": str(self.folder)}, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )

    def calls_of(self, name: str) -> list[str]:
        return [line for line in self.calls_file.read_text().splitlines() if line.startswith(name)]


@pytest.fixture
def commands(tmp_path: Path) -> StandIns:
    stand_ins = StandIns(tmp_path)
    stand_ins.add("dpkg-query", "exit 1")
    stand_ins.add("id", "echo 0")
    stand_ins.add("apt-get", "exit 0")
    return stand_ins


def test_installed_packages_are_left_alone(commands: StandIns) -> None:
    commands.add("dpkg-query", "echo install ok installed")
    assert commands.run().returncode == 0
    assert commands.calls_of("apt-get") == []


def test_root_installs_without_refreshing_the_lists_where_that_will_do(commands: StandIns) -> None:
    run = commands.run()
    assert (run.returncode, run.stdout) == (0, "")
    assert commands.calls_of("apt-get") == [APT_INSTALL]


def test_the_lists_are_refreshed_when_the_package_is_not_in_them(commands: StandIns) -> None:
    fresh = commands.folder / "fresh"
    commands.add("apt-get", f'case "$*" in *update) : >"{fresh}";; *) [ -e "{fresh}" ];; esac')
    assert commands.run().returncode == 0
    assert commands.calls_of("apt-get") == [APT_INSTALL, "apt-get -qq -o Dpkg::Use-Pty=0 update", APT_INSTALL]


def test_sudo_is_used_where_it_asks_nothing(commands: StandIns) -> None:
    commands.add("id", "echo 1000")
    commands.add("sudo", 'if [ "$1" = -n ]; then exit 0; fi; exec "$@"')
    assert commands.run().returncode == 0
    assert len(commands.calls_of("sudo")) == 2
    assert commands.calls_of("apt-get") == [APT_INSTALL]


@pytest.mark.parametrize(
    ("sudo", "problem"),
    [("", "and you are neither root nor is there sudo."), ("exit 1", "and sudo wants a password.")],
)
def test_without_rights_the_command_to_run_is_said(commands: StandIns, sudo: str, problem: str) -> None:
    commands.add("id", "echo 1000")
    if sudo:
        commands.add("sudo", sudo)
    run = commands.run()
    assert run.returncode == 1
    assert run.stderr == (
        f"This needs haproxy, {problem} Please run this once, then try again:\n"
        "    apt-get update && apt-get install -y haproxy\n"
    )
    assert commands.calls_of("apt-get") == []
