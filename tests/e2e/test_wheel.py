"""The plain way: the wheel in a fresh environment carries all that runs, the console and the migrations included."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import sysconfig
import zipfile
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge import __version__
from tests.kit.server import DEADLINE_S, free_port

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
BUILD = """
import sys
from hatchling.build import build_wheel
print(build_wheel(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree."""
    pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run([sys.executable, "-c", BUILD, folder], cwd=ROOT, capture_output=True, text=True, check=True)
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bridge`` out of that wheel, in an environment of its own; what it depends on is shared with this one."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    shared = "\n".join(path for path in sys.path if path.endswith("site-packages"))
    (packages / "shared.pth").write_text(shared, encoding="utf-8")  # after its own folder: its own bridge wins
    script = folder / "bin" / "bridge"
    script.write_text(f"#!{folder}/bin/python\nimport sys\nfrom bridge.cli import main\nsys.exit(main())\n")
    script.chmod(0o755)
    return script


def test_it_has_what_is_no_python(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    source = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "bridge").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert source <= inside, f"missing: {sorted(source - inside)}"
    assert not any(name.startswith(("tests", "deploy")) or name.endswith(".env") for name in inside)


def test_it_is_the_bridge_of_the_wheel_that_runs(program: Path, tmp_path: Path) -> None:
    python = program.with_name("python")
    done = subprocess.run(
        [python, "-c", "import bridge; print(bridge.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(program.parents[1]))


async def test_it_serves_without_any_setting_and_says_what_to_set(program: Path, tmp_path: Path) -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        program, "serve", cwd=tmp_path, stderr=PIPE,
        env={"PATH": "/usr/bin:/bin", "BRIDGE_PORT": str(port), "LOG_FORMAT": "json"},
    )  # fmt: skip
    assert process.stderr is not None
    lines: list[dict[str, Any]] = []
    try:
        async with asyncio.timeout(DEADLINE_S):
            while "listening" not in [line["event"] for line in lines]:
                lines.append(json.loads(await process.stderr.readline()))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            health, ready, page = [await client.get(path) for path in ("/healthz", "/readyz", "/")]
        assert health.json()["version"] == __version__
        assert any("ELEVENLABS_AGENT_ID" in problem for problem in ready.json()["problems"])
        assert ready.json()["database"] == "ok", "the migrations ran"
        assert page.status_code == 200
    finally:
        process.terminate()
        rest = await process.stderr.read()
        assert await process.wait() == 0, rest.decode()


async def test_its_simulators_hold_a_call(program: Path, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        program, "demo", "--once", "--json", cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()[-2000:]
    assert json.loads(out)
