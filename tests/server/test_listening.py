"""Who listens to a call: its recorder, and whoever looks for keypad tones; redacted ones are blanked on the tape."""

from __future__ import annotations

import asyncio
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from bridge.calls.tap import Tap
from bridge.media.format import ULAW_8K
from bridge.media.g711 import pcm_to_ulaw
from bridge.media.inband import InbandTone
from bridge.media.tones import dtmf
from bridge.server.listening import Taps, ToneListener
from bridge.server.recording.manager import Recorder
from bridge.server.recording.options import RecordingOptions
from tests.kit import convai, twilio
from tests.kit.offline import offline_bridge
from tests.kit.sessions import Table


class Ear(Tap):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes, float]] = []

    def caller(self, payload: bytes, now: float) -> None:
        self.heard.append(("caller", payload, now))

    def agent(self, payload: bytes, now: float) -> None:
        self.heard.append(("agent", payload, now))

    def flush(self, now: float) -> None:
        self.heard.append(("flush", b"", now))


def key(digit: str) -> list[bytes]:
    """A pressed key and a pause, as 20 ms frames."""
    audio = pcm_to_ulaw(dtmf(digit, 8000))
    return [audio[start : start + 160] for start in range(0, len(audio), 160)]


def test_several_listeners_hear_the_same() -> None:
    ears = Ear(), Ear()
    both = Taps(*ears)
    both.caller(b"a", 1.0)
    both.agent(b"b", 2.0)
    both.flush(3.0)
    assert [ear.heard for ear in ears] == [[("caller", b"a", 1.0), ("agent", b"b", 2.0), ("flush", b"", 3.0)]] * 2


def test_tones_are_looked_for_in_the_callers_audio_only() -> None:
    found: list[InbandTone] = []
    listener = ToneListener(ULAW_8K, found.append)
    for index, frame in enumerate(key("5")):
        listener.agent(frame, index * 0.02)
        listener.flush(index * 0.02)
    assert found == []
    for index, frame in enumerate(key("5")):
        listener.caller(frame, 1 + index * 0.02)
    assert [tone.digit for tone in found if tone.is_over] == ["5"]


@pytest.fixture
async def recorder(tmp_path: Path) -> AsyncIterator[Recorder]:
    made = Recorder(RecordingOptions(tmp_path, "wav", min_free_bytes=0))
    await made.open()
    yield made
    await made.close()


async def hear(table: Table, digits: str, pace_s: float = 0.0) -> None:
    for digit in digits:
        for frame in key(digit):
            table.session.on_message(twilio.media(frame))
            await asyncio.sleep(pace_s)
    await asyncio.sleep(0.01)


@pytest.mark.parametrize(("inband", "keys"), [("on", "42"), ("off", "")])
async def test_tones_are_keys_where_the_operator_wants_it(inband: str, keys: str) -> None:
    table = await Table(offline_bridge(BRIDGE_AUTH="off", DTMF_INBAND=inband, DTMF_TO_AGENT="each")).activate()
    await hear(table, "42")
    table.hang_up()
    assert "".join(entry.digit for entry in table.session.call.journal.digits) == keys
    assert len(convai.uploaded(table.agent.sent)) == 20, "the agent hears no less for it"


async def test_nobody_listens_where_nobody_wants_to() -> None:
    table = await Table().activate()
    assert table.session.call._uplink.tap is None
    table.hang_up()


@pytest.mark.parametrize(("redact", "is_audible"), [("off", True), ("on", False)])
async def test_redacted_tones_are_not_on_the_tape(
    recorder: Recorder, tmp_path: Path, redact: str, is_audible: bool
) -> None:
    bridge = offline_bridge(BRIDGE_AUTH="off", RECORDING="on", REDACT_DTMF=redact)
    bridge.parts.recorder = recorder
    table = await Table(bridge).activate()
    await hear(table, "4", 0.02)  # a tape goes by the clock
    table.hang_up()
    await table.settled()
    recording = table.records.last.recording
    assert recording is not None
    with wave.open(str(tmp_path / recording.location)) as file:
        samples = np.frombuffer(file.readframes(10**6), "<i2").reshape(-1, 2)
    assert (int(np.abs(samples[:, 0]).max()) > 2000) is is_audible
    assert table.session.call.journal.digits == [], "only what the carrier reports counts here"
