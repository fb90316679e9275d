"""``bridge.media.inband``: keys found in live audio, when they were pressed, and what it costs to look for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.media.format import ALAW_8K, PCM_8K, PCM_16K, ULAW_8K, Encoding, MediaFormat
from bridge.media.g711 import pcm_to_alaw, pcm_to_ulaw
from bridge.media.inband import BLANK_MARGIN_S, STEP_S, InbandDtmf, InbandTone
from bridge.media.tones import DTMF_FREQUENCIES_HZ, PEAK_AT_0_DBM0, DtmfDetector, dtmf, tone

KEYS = "0123456789*#ABCD"
ENCODERS: dict[Encoding, Callable[[bytes], bytes]] = {
    Encoding.ULAW: pcm_to_ulaw,
    Encoding.ALAW: pcm_to_alaw,
    Encoding.L16: bytes,
}


def silence(duration_ms: float, rate_hz: int = 8000) -> bytes:
    return bytes(2 * int(rate_hz * duration_ms / 1000))


def listen(pcm: bytes, media: MediaFormat = PCM_8K, size_ms: float = 20, at_s: float = 100.0) -> list[InbandTone]:
    """All reports; the audio comes as it is spoken, from ``at_s`` on."""
    inband = InbandDtmf(media)
    payload = ENCODERS[media.encoding](pcm)
    size = media.size_bytes(size_ms)
    found: list[InbandTone] = []
    for start in range(0, len(payload), size):
        piece = payload[start : start + size]
        at_s += media.duration_ms(len(piece)) / 1000
        found += inband.feed(piece, at_s)
    return found


def presses(found: list[InbandTone]) -> list[InbandTone]:
    return [each for each in found if each.is_over]


def keys(pcm: bytes, media: MediaFormat = PCM_8K, size_ms: float = 20) -> str:
    return "".join(each.digit for each in presses(listen(pcm, media, size_ms)))


# --- what is found -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "media", [ULAW_8K, ALAW_8K, PCM_8K, PCM_16K, MediaFormat(Encoding.L16, 24000), MediaFormat(Encoding.L16, 48000)]
)
def test_every_key_in_every_format(media: MediaFormat) -> None:
    pcm = silence(90, media.rate_hz) + dtmf(KEYS, media.rate_hz, 60, 60) + silence(120, media.rate_hz)
    assert keys(pcm, media) == KEYS


@pytest.mark.parametrize("offset_ms", range(0, 20, 3))
def test_the_shortest_press_wherever_its_frames_begin(offset_ms: int) -> None:
    assert keys(silence(100 + offset_ms) + dtmf("159#", 8000, 42, 42) + silence(120)) == "159#"


@pytest.mark.parametrize("level_dbm0", [-3.0, -10.0, -25.0])
def test_levels_that_telephones_send(level_dbm0: float) -> None:
    assert keys(silence(50) + dtmf("147*", 8000, 50, 50, level_dbm0) + silence(100), ULAW_8K) == "147*"


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(("deviation", "low_db", "high_db"), [(1.015, -10, -14), (0.985, -10, -7), (1.015, -14, -10)])
def test_what_the_detector_takes_passes_the_quick_look(
    key: str, deviation: float, low_db: float, high_db: float
) -> None:
    wave = np.zeros(8 * 50)
    for frequency_hz, level_db in zip(DTMF_FREQUENCIES_HZ[key], (low_db, high_db), strict=True):
        amplitude = PEAK_AT_0_DBM0 * 10 ** (level_db / 20)
        wave += np.frombuffer(tone((frequency_hz * deviation,), 50, 8000, amplitude), "<i2")
    pcm = silence(55) + np.rint(wave).astype("<i2").tobytes() + silence(100)
    whole = DtmfDetector(8000)
    assert [hit.digit for hit in whole.process(pcm) + whole.flush()] == [key]
    assert keys(pcm) == key


def test_tones_in_noise() -> None:
    pcm = silence(60) + dtmf("8246", 8000, 60, 60) + silence(100)
    noise = np.random.default_rng(3).normal(0, 500, len(pcm) // 2)
    noisy = (np.frombuffer(pcm, "<i2") + noise).clip(-32768, 32767).astype("<i2").tobytes()
    assert keys(noisy) == "8246"


@pytest.mark.parametrize("size_ms", [5, 7.5, 30, 100, 250])
def test_payloads_of_any_size(size_ms: float) -> None:
    assert keys(silence(90) + dtmf("90210", 8000, 60, 60) + silence(300), ULAW_8K, size_ms) == "90210"


def test_half_a_sample_waits_for_its_other_half() -> None:
    inband = InbandDtmf(PCM_16K)
    pcm = dtmf("42", 16000, 80, 80) + silence(200, 16000)
    found = [each for start in range(0, len(pcm), 77) for each in inband.feed(pcm[start : start + 77], start / 32000)]
    assert "".join(each.digit for each in found if each.is_over) == "42"


def test_a_tone_that_begins_with_the_stream() -> None:
    assert keys(dtmf("1", 8000, 60, 60) + silence(100)) == "1"


# --- what is not ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frequencies", [(), (440,), (350, 440), (1400, 2060), (697,), (1209,)])
def test_other_tones_are_no_keys(frequencies: tuple[int, ...]) -> None:
    assert listen(tone(frequencies, 2000, 8000, 6000), ULAW_8K) == []


def test_noise_is_no_key() -> None:
    wave = np.random.default_rng(5).normal(0, 4000, 8000 * 5).clip(-32768, 32767)
    assert listen(wave.astype("<i2").tobytes(), ULAW_8K) == []


def test_stereo_is_not_listened_to() -> None:
    with pytest.raises(ValueError, match="keypad tones are looked for in mono audio, not in 2 channels"):
        InbandDtmf(MediaFormat(Encoding.L16, 8000, 2))


@given(st.lists(st.binary(max_size=700), max_size=30), st.sampled_from([ULAW_8K, PCM_16K]))
@settings(max_examples=50)
def test_any_audio_is_taken(payloads: list[bytes], media: MediaFormat) -> None:
    inband = InbandDtmf(media)
    for number, payload in enumerate(payloads):
        inband.feed(payload, number / 50)


# --- when ----------------------------------------------------------------------------------------------------


def test_a_press_has_its_times() -> None:
    found = listen(silence(2000) + dtmf("5", 8000, 100, 0) + silence(500), ULAW_8K)
    [press] = presses(found)
    assert press.from_s == pytest.approx(102.0, abs=0.006)
    assert press.to_s == pytest.approx(102.1, abs=0.006)
    assert press.duration_s == pytest.approx(0.1, abs=0.006)
    assert (press.blank_from_s, press.blank_to_s) == (press.from_s - BLANK_MARGIN_S, press.to_s + BLANK_MARGIN_S)
    assert repr(press) == "InbandTone(...)"


def test_a_second_press_has_its_times_too() -> None:
    pcm = silence(500) + dtmf("5", 8000, 80, 0) + silence(1000) + dtmf("6", 8000, 80, 0) + silence(300)
    first, second = presses(listen(pcm, ULAW_8K, 60))
    assert (first.digit, second.digit) == ("5", "6")
    assert second.from_s - first.from_s == pytest.approx(1.08, abs=0.006)


def test_a_long_press_is_reported_while_it_goes_on() -> None:
    found = listen(silence(500) + dtmf("0", 8000, 2000, 0) + silence(300), ULAW_8K)
    going_on, press = found[:-1], found[-1]
    assert press.is_over and not any(each.is_over for each in going_on)
    assert press.duration_s == pytest.approx(2.0, abs=0.006)
    assert len(going_on) == pytest.approx(2.0 / STEP_S, abs=2)
    assert all(each.from_s == pytest.approx(press.from_s) for each in going_on)
    ends = [each.to_s for each in found]
    assert all(0 < later - earlier < 2 * STEP_S for earlier, later in zip(ends, ends[1:], strict=False))


def test_after_a_stall_the_tone_may_lie_anywhere_in_it() -> None:
    inband = InbandDtmf(ULAW_8K)
    spoken = pcm_to_ulaw(silence(400) + dtmf("7", 8000, 100, 0) + silence(300))
    found: list[InbandTone] = []
    for number in range(40):
        arrives_s = (number + 1) / 50
        if 0.4 < arrives_s < 0.7:
            arrives_s = 0.7  # what was spoken in 0.3 s comes in one burst
        found += inband.feed(spoken[160 * number : 160 * (number + 1)], 50 + arrives_s)
    [press] = presses(found)
    assert press.from_s == pytest.approx(50.4, abs=0.006)
    assert press.to_s >= 50.5


def test_a_stall_is_forgotten() -> None:
    inband = InbandDtmf(ULAW_8K)
    for number in range(100):
        inband.feed(b"\xff" * 160, number / 50)
    found: list[InbandTone] = []
    spoken = pcm_to_ulaw(silence(2000) + dtmf("7", 8000, 100, 0) + silence(300))
    for number in range(120):  # the stream went on 5 s later
        found += inband.feed(spoken[160 * number : 160 * (number + 1)], 7 + number / 50)
    [press] = presses(found)
    assert press.from_s == pytest.approx(8.98, abs=0.006)


# --- what it costs -------------------------------------------------------------------------------------------


def test_the_detector_runs_only_where_tones_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    seen_bytes = 0
    process = DtmfDetector.process

    def counted(self: DtmfDetector, pcm: bytes) -> object:
        nonlocal seen_bytes
        seen_bytes += len(pcm)
        return process(self, pcm)

    monkeypatch.setattr(DtmfDetector, "process", counted)
    hiss = np.random.default_rng(9).normal(0, 1500, 8000 * 10).astype("<i2").tobytes()
    listen(silence(10_000) + hiss)
    assert seen_bytes <= 0.02 * 2 * len(hiss)
    listen(silence(5000) + dtmf("1", 8000, 100, 0) + silence(5000))
    assert seen_bytes <= 0.02 * 2 * len(hiss) + 2 * 8 * 300
