"""REDACT_DTMF: what callers type is in the body of one webhook, and nowhere else that can be searched.

The caller's keys come both as messages and as tones in the audio, as from a trunk that does both.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import wave
import zlib
from pathlib import Path
from typing import Any

import pytest

from bridge.media.format import Encoding, MediaFormat
from bridge.media.g711 import pcm_to_ulaw
from bridge.media.inband import InbandDtmf
from bridge.media.tones import dtmf
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_scenarios import Say, Scenario
from bridge.simulators.agent_server import AgentServer
from tests.kit import twilio
from tests.kit.caller import FRAME_BYTES, WireCaller
from tests.kit.process import bridge_process
from tests.kit.recordings import read_wav
from tests.kit.server import until
from tests.kit.webhooks import SECRET, receiver

pytestmark = pytest.mark.e2e

DIGITS = "739184"
SINGLE = re.compile(rb'"?digits?"?\s*[:=]\s*"?[1-9*#]')
"""A single key beside its name, in JSON or in a log line; a flight has 0 in the place of each."""


def every_file(folder: Path) -> dict[str, bytes]:
    """All files below, those that are compressed unpacked."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for name, content in found.items():
        if content[:2] == b"\x1f\x8b":
            with contextlib.suppress(zlib.error):
                found[name] = zlib.decompress(content, 16 + zlib.MAX_WBITS)
    return found


def find(content: bytes) -> bytes:
    """The first digits in it, with what stands around them."""
    match = re.search(DIGITS.encode(), content) or SINGLE.search(content)
    return b"" if match is None else content[max(match.start() - 60, 0) : match.end() + 60]


def keys_in(path: Path) -> list[str]:
    """Keypad tones on either side of a recording."""
    rate_hz, samples = read_wav(path)
    found: list[str] = []
    for channel in range(2):
        detector = InbandDtmf(MediaFormat(Encoding.L16, rate_hz))
        pcm = samples[:, channel].tobytes()
        for start in range(0, len(pcm), rate_hz // 25):
            tones = detector.feed(pcm[start : start + rate_hz // 25], start / 2 / rate_hz)
            found += [tone.digit for tone in tones if tone.is_over]
    return found


async def type_in(caller: WireCaller, digits: str) -> None:
    """Press keys, in real time."""
    for digit in digits:
        await caller.send(twilio.dtmf(digit))
        audio = pcm_to_ulaw(dtmf(digit, 8000))
        for start in range(0, len(audio), FRAME_BYTES):
            await caller.send(twilio.media(audio[start : start + FRAME_BYTES]))
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("redact", ["on", "off"])
async def test_what_callers_type_is_nowhere_but_in_its_webhook(tmp_path: Path, redact: str) -> None:
    """The other way round it is everywhere: the search finds what there is."""
    async with contextlib.AsyncExitStack() as stack:
        greeting = Scenario(name="greeting", steps=(Say(duration_ms=100),))
        agent = await stack.enter_async_context(AgentServer(AgentOptions(scenario=greeting)))
        events = await stack.enter_async_context(receiver())
        entries = await stack.enter_async_context(receiver())
        settings = {
            "ELEVENLABS_BASE_URL": agent.base_url,
            "REDACT_DTMF": redact,
            "DTMF_INBAND": "on",
            "DTMF_WEBHOOK_URL": entries.url,
            "DTMF_PAUSE_S": "0.8",
            "WEBHOOK_URL": events.url,
            "WEBHOOK_SECRET": SECRET,
            "EGRESS_ALLOW": "127.0.0.0/8",
            "RECORDING": "on",
            "RECORDING_FORMAT": "wav",
            "FLIGHT_RECORDER": "all",
            "LOG_LEVEL": "debug",
        }
        at = await stack.enter_async_context(bridge_process(tmp_path, **settings))
        caller = await stack.enter_async_context(WireCaller(at))
        await caller.dial_in()
        await type_in(caller, DIGITS)
        told = agent.conversations[0].messages
        if redact == "on":
            await until(lambda: entries.taken, "nobody was told")
        else:
            await until(lambda: DIGITS in str(told), "the agent was not told")
        await caller.send(twilio.STOP)
        await caller.closed()
        await until(lambda: at.logged("call_ended"))
        await until(lambda: ("call.ended" in str(events.events())) and "post_call_audio" in str(events.events()))
        at.process.terminate()
        await at.exited()
        searched: dict[str, Any] = every_file(tmp_path)
        searched["log"] = bytes(at.raw)
        searched["agent"] = json.dumps([list(message) for message in told]).encode()
        searched |= {f"webhook {number}": request.body for number, request in enumerate(events.received)}
        [recording] = [tmp_path / name for name in searched if name.endswith(".wav")]
    with_digits = {name: find(content) for name, content in searched.items() if find(content)}
    if redact == "on":
        assert with_digits == {}
        assert keys_in(recording) == []
        [entry] = entries.taken
        assert DIGITS in entry.body.decode()
    else:
        assert "agent" in with_digits
        assert any(".sqlite3" in name for name in with_digits), "the record"
        assert "".join(keys_in(recording)) == DIGITS
        assert entries.received == []
    with wave.open(str(recording)) as file:
        assert file.getnframes() > 8000
