from __future__ import annotations

import re
import wave
from pathlib import Path

import numpy as np
import pytest

from bridge.media.format import PCM_8K, PCM_16K, ULAW_8K, MediaFormat
from bridge.media.g711 import pcm_to_ulaw, ulaw_to_pcm
from bridge.simulators.speech import ASSETS, CLIP_TEXTS, convert, load_clip, tone, write_stereo_wav

DURATION_MS = {
    "agent_greeting": (2400, 2900),
    "agent_answer": (4500, 5500),
    "agent_reply": (2400, 2900),
    "agent_goodbye": (2000, 2900),
    "caller_question": (2200, 2800),
    "caller_interruption": (1200, 1700),
    "caller_thanks": (900, 1500),
}


@pytest.mark.parametrize("name", DURATION_MS)
def test_clips_are_mono_16_bit_of_8_khz_and_as_long_as_the_scenarios_count_on(name: str) -> None:
    with wave.open(str(ASSETS / f"{name}.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 8000)
        shortest, longest = DURATION_MS[name]
        assert shortest <= file.getnframes() / 8 <= longest


def test_all_clips_together_are_small() -> None:
    assert sorted(path.stem for path in ASSETS.glob("*.wav")) == sorted(CLIP_TEXTS) == sorted(DURATION_MS)
    assert sum(path.stat().st_size for path in ASSETS.glob("*.wav")) <= 300_000


def test_the_script_speaks_the_texts_that_the_transcripts_show() -> None:
    script = (ASSETS / "make.sh").read_text().replace("\\\n", "")
    spoken = dict(re.findall(r'^say (\w+) .* "(.*)"$', script, re.MULTILINE))
    assert spoken == CLIP_TEXTS


@pytest.mark.parametrize("target", ["ulaw_8000", "alaw_8000", "pcm_8000", "pcm_16000", "pcm_22050", "pcm_48000"])
def test_a_clip_lasts_equally_long_in_every_format(target: str) -> None:
    media = MediaFormat.parse(target)
    expected_ms = PCM_8K.duration_ms(len(load_clip("caller_thanks", PCM_8K)))
    assert media.duration_ms(len(load_clip("caller_thanks", media))) == pytest.approx(expected_ms, abs=0.2)


def test_a_tone_survives_conversion_both_ways() -> None:
    there = convert(tone(1000, ULAW_8K, 1000), ULAW_8K, PCM_16K)
    back = convert(there, PCM_16K, PCM_8K)
    spectrum = np.abs(np.fft.rfft(np.frombuffer(back, "<i2").astype(float)))
    assert len(back) == 16_000
    assert int(spectrum.argmax()) == 1000  # 1 s: one bin is 1 Hz
    assert convert(b"\x00\x01", PCM_16K, PCM_16K) == b"\x00\x01"
    assert (
        convert(MediaFormat.parse("alaw_8000").silence(160), MediaFormat.parse("alaw_8000"), PCM_8K)
        == b"\x08\x00" * 160
    )


def test_a_tone_can_be_continued_without_a_click() -> None:
    pieces = b"".join(tone(437, PCM_16K, 20, start_sample=320 * index) for index in range(50))
    assert pieces == tone(437, PCM_16K, 1000)


def test_a_clip_can_be_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(tone(440, PCM_16K, 500))
    assert load_clip(str(path), PCM_16K) == tone(440, PCM_16K, 500)


def test_wrong_clips_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^clip 'laughter' is not known; known are agent_greeting, .*, or the path of"
    ):
        load_clip("laughter")
    path = tmp_path / "stereo.wav"
    write_stereo_wav(path, b"\xff" * 8, b"\xff" * 8)
    with pytest.raises(ValueError, match=r"^stereo.wav has 2 channels of 16 bit; clips are mono, 16 bit$"):
        load_clip(str(path))


def test_a_recording_has_the_caller_left_and_the_agent_right_and_pads_the_shorter(tmp_path: Path) -> None:
    left, right = pcm_to_ulaw(b"\x00\x10" * 10_000), bytearray(pcm_to_ulaw(b"\x00\xf0" * 4_000))
    path = tmp_path / "call.wav"
    write_stereo_wav(path, left, right)
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (
            2,
            2,
            8000,
            10_000,
        )
        samples = np.frombuffer(file.readframes(10_000), "<i2").reshape(-1, 2)
    assert samples[:, 0].tobytes() == ulaw_to_pcm(left)
    assert samples[:4_000, 1].tobytes() == ulaw_to_pcm(bytes(right))
    assert not samples[4_000:, 1].any()
