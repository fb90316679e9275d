"""Loss concealment: the voice goes on and fades; what came is not touched."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.media.format import Encoding
from bridge.sip.concealment import Concealer
from bridge.sip.g711_frames import Samples, decode, encode

LAWS = [Encoding.ULAW, Encoding.ALAW]
SILENCE = {Encoding.ULAW: b"\xff" * 160, Encoding.ALAW: b"\xd5" * 160}


def voice(first_frame: int, count: int, law: Encoding, pitch_hz: float = 130.0) -> list[bytes]:
    """Frames of a buzz with harmonics, as a voice has them."""
    when = (np.arange(count * 160) + first_frame * 160) / 8000
    wave = sum(4000 / k * np.sin(2 * np.pi * k * pitch_hz * when) for k in range(1, 8))
    samples = np.asarray(wave, np.float32)
    return [encode(samples[start : start + 160], law) for start in range(0, len(samples), 160)]


def rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(samples * samples)))


@pytest.mark.parametrize("law", LAWS)
def test_what_came_passes_as_it_is(law: Encoding) -> None:
    concealer = Concealer(law)
    for frame in voice(0, 10, law):
        assert concealer.good(frame) is frame
    assert not concealer.is_concealing


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("pitch_hz", [70, 100, 130, 199])
def test_one_lost_frame_of_a_steady_voice_is_hardly_missed(law: Encoding, pitch_hz: float) -> None:
    frames = voice(0, 8, law, pitch_hz)
    concealer = Concealer(law)
    for frame in frames[:5]:
        concealer.good(frame)
    made, lost = decode(concealer.conceal(), law), decode(frames[5], law)
    assert concealer.is_concealing
    # The first 10 ms, before it fades: far nearer to what was lost than silence would be.
    assert rms((made - lost)[:80]) < 0.35 * rms(lost[:80])


@pytest.mark.parametrize("law", LAWS)
def test_it_fades_to_silence_within_60_ms(law: Encoding) -> None:
    concealer = Concealer(law)
    for frame in voice(0, 5, law):
        concealer.good(frame)
    levels = [rms(decode(concealer.conceal(), law)) for _ in range(4)]
    assert levels[0] > levels[1] > levels[2] > 10
    assert concealer.conceal() == SILENCE[law]


@pytest.mark.parametrize("law", LAWS)
def test_the_return_makes_no_step(law: Encoding) -> None:
    frames = voice(0, 8, law)
    concealer = Concealer(law)
    for frame in frames[:5]:
        concealer.good(frame)
    made = concealer.conceal()
    back = concealer.good(frames[6])
    assert len(back) == 160
    assert back[40:] == frames[6][40:]
    assert not concealer.is_concealing
    joined = decode(made + back, law)
    assert np.max(np.abs(np.diff(joined[150:210]))) < 1.3 * np.max(np.abs(np.diff(decode(frames[6], law))))


def test_nothing_before_is_silence() -> None:
    concealer = Concealer(Encoding.ALAW)
    assert concealer.conceal() == SILENCE[Encoding.ALAW]
    assert concealer.good(b"\x55" * 160) == b"\x55" * 160


def test_a_short_past_is_repeated_too() -> None:
    concealer = Concealer(Encoding.ULAW)
    only = voice(0, 1, Encoding.ULAW)[0]
    concealer.good(only)
    assert concealer.conceal()[:80] == only[:80]


def test_after_a_pause_nothing_is_left() -> None:
    concealer = Concealer(Encoding.ULAW)
    frames = voice(0, 4, Encoding.ULAW)
    for frame in frames:
        concealer.good(frame)
    concealer.conceal()
    concealer.pause()
    assert not concealer.is_concealing
    assert concealer.good(frames[0]) is frames[0]
    concealer.pause()
    assert concealer.conceal() == SILENCE[Encoding.ULAW]


def test_silence_stays_silence() -> None:
    concealer = Concealer(Encoding.ULAW)
    for _ in range(4):
        concealer.good(SILENCE[Encoding.ULAW])
    assert rms(decode(concealer.conceal(), Encoding.ULAW)) == 0
