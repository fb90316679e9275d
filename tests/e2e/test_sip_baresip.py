"""baresip, a telephone that others made, against a bridge that listens."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.media.format import Encoding, MediaFormat
from bridge.media.tones import dominant_frequencies
from bridge.simulators.agent_scenarios import Close, EndCall, Say, Scenario
from bridge.simulators.speech import load_clip
from tests.kit.baresip import needs_baresip, running_baresip
from tests.kit.server import Start, until
from tests.kit.sip import API_KEY, OURS, place_call, start_sip

pytestmark = [pytest.mark.e2e, needs_baresip]

L16_8K = MediaFormat(Encoding.L16, 8000)
LISTEN = Scenario(name="listen")
TONE = Scenario(name="tone", steps=(Say(tone_hz=1000.0, duration_ms=2000, speed=0), EndCall(), Close()))


def likeness(said: bytes, heard: bytes) -> float:
    """How alike two pieces of L16 are where they fit best: 1 = the same.

    Piece by piece of half a second, because a packet that was late anywhere shifts all that follows.
    """
    line = np.frombuffer(heard, "<i2").astype(np.float64)
    speech = np.frombuffer(said, "<i2").astype(np.float64)
    pieces = [speech[start : start + 4000] for start in range(0, len(speech) - 4000, 4000)]
    return float(np.mean([_best(piece, line) for piece in pieces]))


def _best(piece: np.ndarray[Any, np.dtype[np.float64]], line: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """The greatest correlation of a piece with any place of a line."""
    size = 1 << (len(line) + len(piece)).bit_length()
    products = np.fft.irfft(np.fft.rfft(line, size) * np.conj(np.fft.rfft(piece, size)), size)[: len(line)]
    place = int(np.argmax(products))
    there = line[place : place + len(piece)]
    return float(products[place] / (np.linalg.norm(piece) * np.linalg.norm(there) + 1e-9))


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_what_is_said_comes_back_from_an_echo(start: Start, tmp_path: Path, transport: str) -> None:
    bridge = await start_sip(start)
    async with running_baresip(tmp_path, speaks="caller_question", transport=transport) as phone:
        await phone.dial(bridge.ports.uri(transport=transport))
        await phone.wait("CALL_ESTABLISHED")
        await asyncio.sleep(5.0)
        await phone.hang_up()
        await until(lambda: bridge.at.logged("call_ended"), "the bridge goes on")
        await phone.command("quit")
        assert likeness(load_clip("caller_question", L16_8K), phone.heard()) > 0.75
    assert await bridge.ended() == ["success/caller_hangup"]


async def test_the_agent_hangs_up(start: Start, tmp_path: Path) -> None:
    bridge = await start_sip(start, TONE)
    async with running_baresip(tmp_path) as phone:
        await phone.dial(bridge.ports.uri())
        await phone.wait("CALL_CLOSED", 15.0)
        [peak] = dominant_frequencies(phone.heard()[4000:20_000], 8000)
        assert peak.frequency_hz == pytest.approx(1000, abs=5)
    await bridge.ended()


async def test_keys_and_hold(start: Start, tmp_path: Path) -> None:
    bridge = await start_sip(start, LISTEN)
    async with running_baresip(tmp_path) as phone:
        await phone.dial(bridge.ports.uri())
        await phone.wait("CALL_ESTABLISHED")
        await asyncio.sleep(0.5)
        for key in "42#":
            await phone.press(key)
            await asyncio.sleep(0.3)
        await phone.command("hold")
        await asyncio.sleep(1.0)
        await phone.command("resume")
        await asyncio.sleep(1.0)
        assert phone.happened("CALL_CLOSED") == []
        await phone.hang_up()
    await bridge.ended()
    [record] = await bridge.at.records()
    assert [key.digit for key in record.journal.digits] == ["4", "2", "#"]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_it_takes_a_call_of_the_bridge(start: Start, tmp_path: Path, transport: str) -> None:
    async with running_baresip(tmp_path, answers=True, transport=transport) as phone:
        bridge = await start_sip(
            start,
            TONE,
            SIP_OUTBOUND_ADDRESS=phone.address,
            SIP_OUTBOUND_TRANSPORT=transport,
            SIP_OUTBOUND_CALLER_ID=OURS,
            BRIDGE_API_KEY=f"admin:{API_KEY}",
        )
        answer = await place_call(bridge.at, phone.number)
        assert answer.status_code == 201, answer.text
        await phone.wait("CALL_ESTABLISHED")
        await phone.wait("CALL_CLOSED", 15.0)
        [peak] = dominant_frequencies(phone.heard()[8000:24_000], 8000)
        assert peak.frequency_hz == pytest.approx(1000, abs=5)
    await bridge.ended()
