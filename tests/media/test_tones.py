"""``bridge.media.tones``: Q.23 out, Q.24 in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.g711 import alaw_to_pcm, pcm_to_alaw, pcm_to_ulaw, ulaw_to_pcm
from bridge.media.tones import (
    DTMF_FREQUENCIES_HZ,
    PEAK_AT_0_DBM0,
    DtmfDetector,
    DtmfHit,
    dominant_frequencies,
    dtmf,
    tone,
)

KEYS = "0123456789*#ABCD"


def floats(pcm: bytes) -> npt.NDArray[np.float64]:
    return np.frombuffer(pcm, "<i2").astype(np.float64)


def l16(wave: npt.NDArray[np.float64]) -> bytes:
    return np.rint(wave).clip(-32768, 32767).astype("<i2").tobytes()


def detect(pcm: bytes, rate_hz: int = 8000) -> list[DtmfHit]:
    detector = DtmfDetector(rate_hz)
    return detector.process(pcm) + detector.flush()


def digits(pcm: bytes, rate_hz: int = 8000) -> str:
    return "".join(hit.digit for hit in detect(pcm, rate_hz))


def noisy(pcm: bytes, noise_peak: float, seed: int = 7) -> bytes:
    wave = floats(pcm)
    return l16(wave + np.random.default_rng(seed).normal(0, noise_peak, len(wave)))


def pair(low_hz: float, high_hz: float, duration_ms: float, low_db: float = -10, high_db: float = -10) -> bytes:
    """Two tones of their own levels at 8 kHz between two silences."""
    wave = np.zeros(int(8 * duration_ms))
    for frequency_hz, level_db in ((low_hz, low_db), (high_hz, high_db)):
        wave += floats(tone((frequency_hz,), duration_ms, 8000, PEAK_AT_0_DBM0 * 10 ** (level_db / 20)))
    return bytes(300) + l16(wave) + bytes(800)


# --- making tones


def test_the_keypad_is_q23() -> None:
    assert [DTMF_FREQUENCIES_HZ[key] for key in "159D"] == [(697, 1209), (770, 1336), (852, 1477), (941, 1633)]
    assert [DTMF_FREQUENCIES_HZ[key] for key in "A*0#"] == [(697, 1633), (941, 1209), (941, 1336), (941, 1477)]
    assert sorted(DTMF_FREQUENCIES_HZ) == sorted(KEYS)


@pytest.mark.parametrize("rate_hz", [8000, 16000, 48000])
@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_its_two_tones_at_the_level(key: str, rate_hz: int) -> None:
    peaks = sorted(dominant_frequencies(dtmf(key, rate_hz, tone_ms=100, gap_ms=0), rate_hz, 4))
    assert [peak.frequency_hz for peak in peaks] == pytest.approx(DTMF_FREQUENCIES_HZ[key], abs=1)
    assert [peak.level_dbm0 for peak in peaks] == pytest.approx([-10.0, -10.0], abs=0.4)


def test_lengths_of_tones_gaps_and_pauses() -> None:
    assert len(dtmf("12", 8000, tone_ms=70, gap_ms=50)) == 2 * 8 * 2 * (70 + 50)
    assert len(dtmf("1", 16000)) == 2 * 16 * (100 + 100)
    assert dtmf("w", 8000) == bytes(2 * 4000)
    assert dtmf("W", 8000) == bytes(2 * 8000)
    assert dtmf("1wW2", 8000) == dtmf("1", 8000) + bytes(2 * 12000) + dtmf("2", 8000)
    assert dtmf("", 8000) == b""


@pytest.mark.parametrize("bad", ["x", "a", " ", "٣"])
def test_an_unknown_key_is_refused_by_name(bad: str) -> None:
    with pytest.raises(ValueError) as caught:
        dtmf("1" + bad, 8000)
    assert str(caught.value) == f"{bad!r} is not a keypad tone; known are 0-9 * # A-D and the pauses w and W"


def test_a_tone_has_smooth_edges_and_full_height_between_them() -> None:
    wave = floats(tone((1000,), 20, 8000, 10000))
    assert len(wave) == 160
    assert abs(wave[:2]).max() < 600
    assert abs(wave[-2:]).max() < 600
    assert abs(wave[16:24]).max() == 10000
    assert abs(wave[136:144]).max() == 10000


def test_a_sum_over_16_bits_is_clipped() -> None:
    wave = floats(tone((500, 500), 20, 8000, 30000))
    assert (wave.min(), wave.max()) == (-32768, 32767)


def test_tones_of_no_length_or_no_frequency() -> None:
    assert tone((1000,), 0, 8000, 10000) == b""
    assert len(tone((1000,), 0.2, 8000, 10000)) == 2
    assert tone((), 20, 8000, 10000) == bytes(320)


def test_0_dbm0_is_where_g711_says() -> None:
    assert pytest.approx(22656, abs=1) == PEAK_AT_0_DBM0
    # The digital milliwatt of G.711 table 5: a sine of 1 kHz and 0 dBm0 in mu-law.
    milliwatt = ulaw_to_pcm(bytes.fromhex("1e0b0b1e9e8b8b9e") * 100)
    (peak,) = dominant_frequencies(milliwatt, 8000)
    assert peak.frequency_hz == pytest.approx(1000, abs=0.1)
    assert peak.level_dbm0 == pytest.approx(0, abs=0.15)


# --- finding DTMF


@pytest.mark.parametrize("rate_hz", [8000, 16000])
@pytest.mark.parametrize("level_dbm0", [0, -3, -10, -20, -30])
@pytest.mark.parametrize("tone_ms", [40, 100])
def test_all_keys_are_found_clean_and_through_g711(rate_hz: int, level_dbm0: float, tone_ms: int) -> None:
    pcm = dtmf(KEYS, rate_hz, tone_ms, tone_ms, level_dbm0)
    assert digits(pcm, rate_hz) == KEYS
    assert digits(ulaw_to_pcm(pcm_to_ulaw(pcm)), rate_hz) == KEYS
    assert digits(alaw_to_pcm(pcm_to_alaw(pcm)), rate_hz) == KEYS


@pytest.mark.parametrize("rate_hz", [8000, 16000])
@pytest.mark.parametrize("level_dbm0", [-3, -10, -30])
@pytest.mark.parametrize("seed", range(5))
def test_all_keys_are_found_in_noise_15_db_below(rate_hz: int, level_dbm0: float, seed: int) -> None:
    pcm = dtmf(KEYS, rate_hz, 40, 40, level_dbm0)
    power = PEAK_AT_0_DBM0 * 10 ** (level_dbm0 / 20)  # both tones together: peak squared
    heard = ulaw_to_pcm(pcm_to_ulaw(noisy(pcm, power * 10 ** (-15 / 20), seed)))
    assert digits(heard, rate_hz) == KEYS


@pytest.mark.parametrize("rate_hz", [8000, 16000, 24000, 48000])
@pytest.mark.parametrize("tone_ms", [40, 60, 100, 400])
def test_where_and_how_long(rate_hz: int, tone_ms: int) -> None:
    hits = detect(bytes(2 * rate_hz // 10) + dtmf("5", rate_hz, tone_ms), rate_hz)
    assert [hit.digit for hit in hits] == ["5"]
    assert hits[0].start_sample / rate_hz == pytest.approx(0.1, abs=0.005)
    assert hits[0].duration_ms == pytest.approx(tone_ms, abs=6)


@pytest.mark.parametrize("key", KEYS)
def test_short_tones_do_not_count_and_40_ms_do(key: str) -> None:
    frequencies = DTMF_FREQUENCIES_HZ[key]
    for lead in range(0, 34, 7):
        for too_short_ms in (10, 20, 23):
            assert detect(bytes(2 * lead) + pair(*frequencies, too_short_ms)) == []
        assert digits(bytes(2 * lead) + pair(*frequencies, 40)) == key


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("forward_twist_db", "found"), [(10.5, False), (8, True), (4, True), (0, True), (-4, True), (-6.5, False)]
)
def test_twist(key: str, forward_twist_db: float, found: bool) -> None:
    heard = digits(pair(*DTMF_FREQUENCIES_HZ[key], 50, low_db=-12, high_db=-12 - forward_twist_db))
    assert heard == (key if found else "")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("deviation", "found"),
    [(-0.035, False), (-0.03, False), (-0.015, True), (0.015, True), (0.03, False), (0.035, False)],
)
def test_frequency_deviation(key: str, deviation: float, found: bool) -> None:
    low_hz, high_hz = DTMF_FREQUENCIES_HZ[key]
    assert digits(pair(low_hz * (1 + deviation), high_hz * (1 + deviation), 50)) == (key if found else "")
    if not found:
        assert digits(pair(low_hz * (1 + deviation), high_hz, 50)) == ""
        assert digits(pair(low_hz, high_hz * (1 + deviation), 50)) == ""


@pytest.mark.parametrize("key", KEYS)
def test_an_interruption_of_10_ms_does_not_split_a_press_and_a_pause_of_40_ms_does(key: str) -> None:
    press = tone(DTMF_FREQUENCIES_HZ[key], 60, 8000, 6000)
    assert digits(press + bytes(2 * 80) + press + bytes(800)) == key
    assert digits(press + bytes(2 * 320) + press + bytes(800)) == key + key


def test_a_long_press_is_one_hit() -> None:
    (hit,) = detect(dtmf("9", 8000, tone_ms=3000))
    assert hit.digit == "9"
    assert hit.duration_ms == pytest.approx(3000, abs=6)


def test_keys_without_a_gap_between_them_are_two() -> None:
    assert digits(dtmf("17", 8000, tone_ms=60, gap_ms=0) + bytes(800)) == "17"


def test_too_quiet_is_not_heard() -> None:
    assert digits(dtmf(KEYS, 8000, level_dbm0=-46)) == ""


def test_a_press_is_reported_once_it_is_over() -> None:
    detector = DtmfDetector(8000)
    assert detector.process(tone(DTMF_FREQUENCIES_HZ["3"], 200, 8000, 6000)) == []
    (hit,) = detector.process(bytes(2 * 8 * 40))
    assert hit.digit == "3"
    assert detector.process(bytes(1600)) == []
    assert detector.flush() == []


def test_flush_reports_a_press_that_the_end_cut_off_and_starts_afresh() -> None:
    detector = DtmfDetector(8000)
    pcm = tone(DTMF_FREQUENCIES_HZ["3"], 200, 8000, 6000)
    assert detector.process(pcm) == []
    (first,) = detector.flush()
    assert detector.process(pcm) == []
    assert detector.flush() == [first]
    assert first.start_sample < 50


MESSAGE = noisy(dtmf("159#wD", 8000, 50, 50), 300)
WHOLE_MESSAGE = detect(MESSAGE)


def test_byte_by_byte_is_the_same_as_whole() -> None:
    detector = DtmfDetector(8000)
    hits = [hit for at in range(len(MESSAGE)) for hit in detector.process(MESSAGE[at : at + 1])]
    assert hits + detector.flush() == WHOLE_MESSAGE
    assert [hit.digit for hit in WHOLE_MESSAGE] == ["1", "5", "9", "#", "D"]


@given(st.lists(st.integers(0, len(MESSAGE)), max_size=30))
def test_any_chunking_is_the_same_as_whole(cuts: list[int]) -> None:
    detector = DtmfDetector(8000)
    edges = [0, *sorted(cuts), len(MESSAGE)]
    hits = [hit for a, b in zip(edges, edges[1:], strict=False) for hit in detector.process(MESSAGE[a:b])]
    assert hits + detector.flush() == WHOLE_MESSAGE


# --- what is no key press


def voice(pitch_hz: float, seed: int) -> bytes:
    """Four seconds like a voiced sound: harmonics of a gliding pitch under four moving formants."""
    generator = np.random.default_rng(seed)
    time_s = np.arange(4 * 8000) / 8000
    pitch = pitch_hz * (1 + 0.15 * np.sin(2 * np.pi * 2.3 * time_s + generator.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(pitch) / 8000
    formants = [
        (middle + swing * np.sin(2 * np.pi * generator.uniform(0.5, 2) * time_s + generator.uniform(0, 6)), gain)
        for middle, swing, gain in ((500, 250, 1.0), (1400, 500, 0.6), (2500, 300, 0.4), (3300, 100, 0.25))
    ]
    wave = np.zeros(len(time_s))
    for order in range(1, int(3800 / pitch_hz / 1.15)):
        gain = sum(weight / (1 + ((order * pitch - formant) / 100) ** 2) for formant, weight in formants)
        wave += gain * np.sin(order * phase)
    return l16(wave * 12000 / abs(wave).max())


@pytest.mark.parametrize("pitch_hz", [80, 95, 110, 125, 140, 160, 180, 200])
def test_voices_are_no_keys(pitch_hz: float) -> None:
    for seed in range(3):
        assert detect(voice(pitch_hz, seed)) == []


def test_single_tones_silence_and_noise_are_no_keys() -> None:
    for frequency_hz in (350, 440, 697, 941, 1000, 1209, 1633, 2100):
        assert detect(tone((frequency_hz,), 500, 8000, 8000)) == []
    assert detect(tone((350, 440), 500, 8000, 8000)) == []
    assert detect(bytes(8000)) == []
    assert detect(noisy(bytes(2 * 8000), 5000)) == []


@pytest.mark.parametrize("key", KEYS)
def test_a_third_strong_tone_is_no_key(key: str) -> None:
    assert digits(tone((*DTMF_FREQUENCIES_HZ[key], 440), 100, 8000, 6000) + bytes(800)) == ""


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("group", [(697, 941), (1209, 1633)])
def test_a_second_tone_of_the_same_group_is_no_key(key: str, group: tuple[int, int]) -> None:
    low_hz, high_hz = DTMF_FREQUENCIES_HZ[key]
    own_hz = low_hz if group[0] == 697 else high_hz
    other_hz = max(group, key=lambda frequency_hz: abs(frequency_hz - own_hz))
    press = floats(pair(low_hz, high_hz, 100))
    # At 7 dB below the key's own tones these keep 0.91 of the energy: their ratio is what speaks against it.
    assert digits(l16(press + floats(pair(other_hz, other_hz, 100, -23, -23)))) == ""
    assert digits(l16(press + floats(pair(other_hz, other_hz, 100, -30, -30)))) == key


@pytest.mark.parametrize("key", KEYS)
def test_second_harmonics_are_no_key(key: str) -> None:
    low_hz, high_hz = DTMF_FREQUENCIES_HZ[key]
    press = floats(pair(low_hz, high_hz, 100))
    assert digits(l16(press + floats(pair(2 * high_hz, 2 * low_hz, 100, -36, -36)))) == key
    # About as strong a third tone does not hurt elsewhere: what speaks against it is its place.
    assert digits(l16(press + floats(pair(3600, 3600, 100, -26, -26)))) == key
    assert digits(l16(press + floats(pair(2 * high_hz, 2 * high_hz, 100, -24, -24)))) == ""
    if low_hz == 941:  # the second harmonics of other rows cannot be told from a column's leak
        assert digits(l16(press + floats(pair(2 * low_hz, 2 * low_hz, 100, -22, -22)))) == ""


# --- looking at audio


def test_dominant_frequencies_strongest_first() -> None:
    pcm = l16(floats(tone((440,), 100, 8000, 2000)) + floats(tone((1000,), 100, 8000, 8000)))
    peaks = dominant_frequencies(pcm, 8000, 5)
    assert [peak.frequency_hz for peak in peaks] == pytest.approx([1000, 440], abs=1)
    assert peaks[0].level_dbm0 - peaks[1].level_dbm0 == pytest.approx(20 * np.log10(4), abs=0.1)
    assert dominant_frequencies(pcm, 8000) == peaks[:1]


@pytest.mark.parametrize("frequency_hz", [300, 697, 1004.3, 2100, 3400])
def test_dominant_frequency_survives_g711(frequency_hz: float) -> None:
    pcm = tone((frequency_hz,), 60, 8000, 8000)
    for coded in (pcm, ulaw_to_pcm(pcm_to_ulaw(pcm)), alaw_to_pcm(pcm_to_alaw(pcm))):
        (peak,) = dominant_frequencies(coded, 8000)
        assert peak.frequency_hz == pytest.approx(frequency_hz, abs=2)


def test_tones_closer_than_the_main_lobe_are_one_peak() -> None:
    apart = dominant_frequencies(tone((1000, 1060), 100, 8000, 5000), 8000, 3)
    assert [peak.frequency_hz for peak in sorted(apart)] == pytest.approx([1000, 1060], abs=3)
    assert len(dominant_frequencies(tone((1000, 1035), 100, 8000, 5000), 8000, 3)) == 1


def test_no_peaks_in_silence_or_next_to_nothing() -> None:
    assert dominant_frequencies(bytes(1600), 8000, 3) == []
    assert dominant_frequencies(alaw_to_pcm(b"\xd5" * 800), 8000, 3) == []
    assert dominant_frequencies(b"", 8000) == []
    assert dominant_frequencies(b"\x00\x40" * 7, 8000) == []


def test_a_press_is_known_before_it_is_over() -> None:
    detector = DtmfDetector(8000)

    def pressing_now() -> DtmfHit | None:
        return detector.pressing

    assert pressing_now() is None
    assert detector.process(bytes(800) + dtmf("5", 8000, 28, 0)) == []
    assert pressing_now() is None  # too short to count
    assert detector.process(dtmf("5", 8000, 80, 0)) == []
    pressing = pressing_now()
    assert pressing is not None
    assert pressing.digit == "5"
    assert pressing.start_sample == pytest.approx(400, abs=60)
    [hit] = detector.process(bytes(1600))
    assert (hit.digit, hit.start_sample) == ("5", pressing.start_sample)
    assert hit.duration_ms >= pressing.duration_ms
    assert pressing_now() is None
