"""Hold audio: a soft tone or the operator's own, in any format, for ever."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.calls.hold import MAX_HOLD_S, HoldAudio, HoldLoop, loop_for, soft_tone
from bridge.media.format import ULAW_8K, MediaFormat
from bridge.media.g711 import ulaw_to_pcm
from bridge.media.tones import dominant_frequencies


def test_the_soft_tone_is_soft_and_no_silence() -> None:
    pcm = np.frombuffer(soft_tone().pcm, "<i2").astype(float)
    assert len(pcm) == 15_200, "0.4 s of tone, 1.5 s of silence"
    assert 1900 < np.abs(pcm).max() < 2000
    assert dominant_frequencies(soft_tone().pcm[:6400], 8000, 1)[0].frequency_hz == pytest.approx(425, abs=5)
    assert not np.any(pcm[3200:])


@pytest.mark.parametrize("name", ["ulaw_8000", "pcm_8000", "pcm_16000", "pcm_24000"])
def test_the_loop_lasts_as_long_in_every_format(name: str) -> None:
    media = MediaFormat.parse(name)
    assert media.duration_ms(len(loop_for(media, soft_tone()))) == pytest.approx(1900, abs=5)


def test_the_loop_begins_again() -> None:
    loop = HoldLoop(MediaFormat.parse("pcm_8000"), HoldAudio(b"\x01\x00\x02\x00\x03\x00", 8000))
    assert loop.take(4) == b"\x01\x00\x02\x00"
    assert loop.take(10) == b"\x03\x00\x01\x00\x02\x00\x03\x00\x01\x00"
    assert loop.take(0) == b""


@pytest.mark.parametrize("audio", [None, HoldAudio(b"", 8000)])
def test_without_audio_of_the_operators_the_tone_plays(audio: HoldAudio | None) -> None:
    heard = ulaw_to_pcm(HoldLoop(ULAW_8K, audio).take(3200))
    assert dominant_frequencies(heard, 8000, 1)[0].frequency_hz == pytest.approx(425, abs=5)


def test_very_long_audio_is_cut() -> None:
    audio = HoldAudio(bytes(16000 * (MAX_HOLD_S + 1)), 8000)
    assert len(loop_for(MediaFormat.parse("pcm_8000"), audio)) == MAX_HOLD_S * 16000
