from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import LocalError
from bridge.media.talkspurt import HANGOVER_MS, MIN_TALKSPURT_MS, Talkspurt, find_talkspurts

RATE_HZ = 8000


def tone(duration_ms: int, level_dbfs: float = -20.0, rate_hz: int = RATE_HZ) -> bytes:
    """A 400 Hz tone with this RMS level."""
    time = np.arange(rate_hz * duration_ms // 1000) / rate_hz
    wave = 32768 * 10 ** (level_dbfs / 20) * np.sqrt(2) * np.sin(2 * np.pi * 400 * time)
    return bytes(wave.astype("<i2").tobytes())


def quiet(duration_ms: int, rate_hz: int = RATE_HZ) -> bytes:
    return bytes(rate_hz * duration_ms // 1000 * 2)


def test_talk_between_silences_is_found_where_it_is() -> None:
    pcm = quiet(500) + tone(300) + quiet(700) + tone(1000) + quiet(100)
    assert find_talkspurts(pcm, RATE_HZ) == [Talkspurt(500, 800), Talkspurt(1500, 2500)]


@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050, 24000, 44100, 48000])
def test_times_do_not_depend_on_the_rate(rate_hz: int) -> None:
    pcm = quiet(2000, rate_hz) + tone(1000, rate_hz=rate_hz) + quiet(2000, rate_hz)
    (spurt,) = find_talkspurts(pcm, rate_hz)
    assert abs(spurt.start_ms - 2000) <= 20
    assert abs(spurt.end_ms - 3000) <= 20


def test_a_pause_up_to_the_hangover_is_part_of_the_talkspurt() -> None:
    pcm = tone(200) + quiet(HANGOVER_MS) + tone(200)
    assert find_talkspurts(pcm, RATE_HZ) == [Talkspurt(0, 600)]


def test_a_longer_pause_ends_the_talkspurt() -> None:
    pcm = tone(200) + quiet(HANGOVER_MS + 20) + tone(200)
    assert find_talkspurts(pcm, RATE_HZ) == [Talkspurt(0, 200), Talkspurt(420, 620)]


def test_a_click_is_no_talk() -> None:
    assert find_talkspurts(quiet(400) + tone(MIN_TALKSPURT_MS - 20) + quiet(400), RATE_HZ) == []
    assert find_talkspurts(quiet(400) + tone(MIN_TALKSPURT_MS) + quiet(400), RATE_HZ) == [Talkspurt(400, 460)]


def test_the_threshold_lies_between_line_noise_and_speech() -> None:
    assert find_talkspurts(tone(1000, level_dbfs=-47), RATE_HZ) == []
    assert find_talkspurts(tone(1000, level_dbfs=-43), RATE_HZ) == [Talkspurt(0, 1000)]


def test_a_constant_offset_is_no_talk() -> None:
    assert find_talkspurts(np.full(RATE_HZ, 8000, "<i2").tobytes(), RATE_HZ) == []


def test_a_short_last_frame_counts_to_its_own_end() -> None:
    assert find_talkspurts(tone(410), RATE_HZ) == [Talkspurt(0, 410)]


def test_talk_across_the_blocks_of_a_long_recording_is_one_talkspurt() -> None:
    pcm = quiet(59_000) + tone(3000) + quiet(1000)
    assert find_talkspurts(pcm, RATE_HZ) == [Talkspurt(59_000, 62_000)]


def test_nothing_and_half_a_sample_hold_no_talk() -> None:
    assert find_talkspurts(b"", RATE_HZ) == []
    assert find_talkspurts(b"\x7f", RATE_HZ) == []


@pytest.mark.parametrize("rate_hz", [0, -8000, 49])
def test_a_rate_without_samples_is_refused(rate_hz: int) -> None:
    with pytest.raises(LocalError, match=f"rate_hz is {rate_hz}; a frame of 20 ms needs at least one sample"):
        find_talkspurts(b"\0\0", rate_hz)


@given(st.binary(max_size=4000), st.sampled_from([8000, 16000, 22050]))
def test_any_bytes_give_ordered_separate_talkspurts_within_the_audio(pcm: bytes, rate_hz: int) -> None:
    spurts = find_talkspurts(pcm, rate_hz)
    length_ms = len(pcm) // 2 * 1000 // rate_hz
    assert all(0 <= spurt.start_ms < spurt.end_ms <= length_ms for spurt in spurts)
    assert all(
        later.start_ms - earlier.end_ms > HANGOVER_MS for earlier, later in zip(spurts, spurts[1:], strict=False)
    )
