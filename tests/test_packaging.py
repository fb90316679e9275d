"""Packaging: the files around the code name only what exists, and agree with each other."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

import bridge
from bridge.config import CONFIG_FILE_VARIABLE, Settings

ROOT = Path(__file__).parents[1]
SETTINGS = {name.upper() for name in Settings.model_fields} | {CONFIG_FILE_VARIABLE}
# What the image sets for Python and the shell, not for the bridge.
NOT_OURS = {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}


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
    assert {line.partition("=")[0] for line in lines} <= SETTINGS
    assert all(line.endswith("=") for line in lines)


def test_compose_names_only_settings_that_exist() -> None:
    named = {name for service in services().values() for name in service.get("environment", {})}
    assert named and named <= SETTINGS
    assert set(re.findall(r"\$\{?([A-Z_]+)", text_of("docker-compose.yml"))) <= SETTINGS


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
    assert re.search(r"^USER bridge$", text_of("Dockerfile"), re.MULTILINE)


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
