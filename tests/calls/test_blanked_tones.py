"""Tones that must not be recorded: what the in-band listener finds is silent on the tape, whatever the network does."""

from __future__ import annotations

import random

import numpy as np
import pytest

from bridge.calls.recording import SETTLE_S, Channel, StereoTape
from bridge.media.format import ULAW_8K
from bridge.media.g711 import pcm_to_ulaw
from bridge.media.inband import InbandDtmf
from bridge.media.tones import DtmfDetector, dominant_frequencies, dtmf, tone

START_S = 50.0
HUM = tone((300,), 600, 8000, 4000)
"""Stands for speech: it must stay."""


def silence(duration_ms: int) -> bytes:
    return bytes(16 * duration_ms)


def arrivals_s(count: int, network: str) -> list[float]:
    """When each payload of 20 ms arrives."""
    spoken = [START_S + 0.02 * (number + 1) for number in range(count)]
    chance = random.Random(4)
    if network == "jitter":
        late = [each + chance.uniform(0, 0.06) for each in spoken]
    elif network == "stall":
        late = [max(each, START_S + 1.6) if START_S + 1.3 < each < START_S + 1.6 else each for each in spoken]
    else:
        late = spoken
    for place in range(1, count):  # in order all the same
        late[place] = max(late[place], late[place - 1])
    return late


def recorded(spoken: bytes, network: str) -> bytes:
    """The caller's channel after a recorder that takes half a second behind, while the listener blanks."""
    tape, inband = StereoTape(ULAW_8K, START_S), InbandDtmf(ULAW_8K)
    payload = pcm_to_ulaw(spoken)
    pieces = [payload[start : start + 160] for start in range(0, len(payload), 160)]
    taken: list[bytes] = []
    for piece, now in zip(pieces, arrivals_s(len(pieces), network), strict=True):
        tape.caller(piece, now)
        for found in inband.feed(piece, now):
            tape.blank(Channel.CALLER, found.blank_from_s, found.blank_to_s)
        taken.append(tape.take(now - SETTLE_S))
    tape.finish(START_S + len(pieces) / 50)
    while piece := tape.take(float("inf")):
        taken.append(piece)
    return np.frombuffer(b"".join(taken), "<i2")[::2].tobytes()


def found_on(pcm: bytes) -> list[str]:
    detector = DtmfDetector(8000)
    return [hit.digit for hit in detector.process(pcm) + detector.flush()]


@pytest.mark.parametrize("network", ["even", "jitter", "stall"])
def test_no_tone_is_left_and_speech_is(network: str) -> None:
    spoken = HUM + silence(400) + dtmf("4711", 8000, 80, 80) + silence(200) + dtmf("9", 8000, 1500, 0) + silence(400)
    spoken += HUM + silence(1000)
    heard = recorded(spoken, network)
    assert found_on(spoken) == ["4", "7", "1", "1", "9"]
    assert found_on(heard) == []
    tones = heard[16 * 1000 : 16 * 3200]
    assert not [peak for peak in dominant_frequencies(tones, 8000, 8) if peak.level_dbm0 > -45]
    hums = (heard[16 * 50 : 16 * 550], heard[16 * 4000 : 16 * 4500])
    assert [round(dominant_frequencies(hum, 8000)[0].frequency_hz) for hum in hums] == [300, 300]
