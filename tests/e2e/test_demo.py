"""``bridge demo``: one whole conversation with real speech, and what it leaves."""

from __future__ import annotations

import asyncio
import json
import sys
import wave
from asyncio.subprocess import PIPE
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.kit.process import environment
from tests.kit.server import free_port

pytestmark = pytest.mark.e2e


async def run_demo(folder: Path, **settings: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", "demo", "--once", "--json"),
        env=environment({"DATA_DIR": str(folder), "BRIDGE_PORT": str(free_port()), **settings}),
        cwd=folder,
        stdout=PIPE,
        stderr=PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_demo_call(tmp_path: Path) -> None:
    code, out, err = await run_demo(tmp_path)
    assert code == 0, err
    figures = json.loads(out)
    assert figures["end"] == {"result": "success", "reason": "agent_hangup"}
    assert figures["gaps"] == {"count": 0, "ms": 0}
    assert figures["caller"]["violations"] == []
    assert 10_000 < figures["duration_ms"] < 40_000
    frames = figures["frames"]
    assert frames["caller_to_agent"] == pytest.approx(figures["duration_ms"] / 20, abs=25)
    assert 300 < frames["agent_to_caller"] < frames["caller_to_agent"]
    for hop in ("caller_to_agent", "agent_to_caller"):
        added = figures["added_latency_ms"][hop]
        assert added["count"] > 5
        assert 0 < added["p50"] <= added["p99"] <= added["max"]
        assert added["p50"] < 5
    assert (figures["clear_reaction_ms"]["count"], figures["counters"]["clears"]) == (1, 1)
    assert figures["counters"]["tool_calls"] == 1
    assert figures["formats"] == "audio passes unchanged"
    assert [verb.split()[0] for verb in figures["caller"]["verbs"]] == ["Connect", "Redirect", "Hangup"]
    assert "agent audible" in err and "clear, " in err

    recording = tmp_path / "demo" / "call.wav"
    assert figures["recording"] == str(recording)
    with wave.open(str(recording)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)
        sides = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2).astype(float)
    seconds = np.abs(sides[: len(sides) // 8000 * 8000]).reshape(-1, 8000, 2).max(axis=1)
    assert (seconds > 2000).sum(axis=0).min() >= 3, "somebody hardly speaks"
    picture = ElementTree.parse(tmp_path / "demo" / "call.svg")
    assert picture.getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert json.loads((tmp_path / "demo" / "call.json").read_text()) == figures


async def test_a_demo_that_fails_says_so_with_its_exit_code(tmp_path: Path) -> None:
    """With a key and an agent of one's own, the real way is taken; here to where nobody listens."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    code, out, _ = await run_demo(
        tmp_path, ELEVENLABS_API_KEY="sk_test", ELEVENLABS_AGENT_ID="agent_1", ELEVENLABS_BASE_URL=nowhere
    )
    assert code == 1
    assert json.loads(out)["end"] == {"result": "upstream_error", "reason": "agent_unreachable"}
