"""``bridge.media.resample``, with offline soxr at its best quality as the reference."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.format import SUPPORTED_RATES_HZ
from bridge.media.resample import Resampler

Floats = npt.NDArray[np.float64]

PAIRS = list(itertools.permutations(SUPPORTED_RATES_HZ, 2))
PASSBAND = 3300 / 8000
"""What passes untouched, as a part of the lower of both rates."""
STOPBAND = 4700 / 8000
"""From here on nothing may be folded or imaged into the pass-band."""


def l16(wave: Floats) -> bytes:
    return np.rint(wave).clip(-32768, 32767).astype("<i2").tobytes()


def floats(pcm: bytes) -> Floats:
    return np.frombuffer(pcm, "<i2").astype(np.float64)


def sine(frequency_hz: float, rate_hz: int, duration_s: float = 0.5, peak: float = 16000) -> Floats:
    wave: Floats = peak * np.sin(2 * np.pi * frequency_hz * np.arange(int(rate_hz * duration_s)) / rate_hz)
    return wave


def convert(from_hz: int, to_hz: int, wave: Floats) -> Floats:
    return floats(Resampler(from_hz, to_hz).process(l16(wave)))


def fit_sine(wave: Floats, frequency_hz: float, rate_hz: int, first: int) -> tuple[complex, Floats]:
    """Amplitude with phase of the sine in ``wave[first:]`` (time counted from the wave's start), and what is left."""
    angle = 2 * np.pi * frequency_hz * np.arange(first, len(wave)) / rate_hz
    basis = np.stack((np.sin(angle), np.cos(angle)), axis=1)
    (in_phase, quadrature), *_ = np.linalg.lstsq(basis, wave[first:], rcond=None)
    return complex(in_phase, quadrature), wave[first:] - basis @ (in_phase, quadrature)


def sinad_db(wave: Floats, frequency_hz: float, rate_hz: int) -> float:
    amplitude, rest = fit_sine(wave, frequency_hz, rate_hz, first=rate_hz // 50)
    return float(10 * np.log10(abs(amplitude) ** 2 / 2 / np.mean(rest * rest)))


def strongest_db(wave: Floats, rate_hz: int, peak: float) -> float:
    """Level of the strongest line of the spectrum against a sine of this peak, once the filter has settled."""
    settled = wave[rate_hz // 50 :]
    window = np.blackman(len(settled))
    return float(20 * np.log10(np.max(abs(np.fft.rfft(settled * window))) * 2 / window.sum() / peak + 1e-12))


def noise(rate_hz: int, highest_hz: float, duration_s: float = 0.5) -> Floats:
    """Noise with nothing above ``highest_hz``, faded in and out."""
    generator = np.random.default_rng(20)
    count = int(rate_hz * duration_s)
    spectrum = np.fft.rfft(generator.normal(size=count))
    spectrum[np.fft.rfftfreq(count, 1 / rate_hz) > highest_hz] = 0
    wave = np.fft.irfft(spectrum, count) * np.hanning(count)
    scaled: Floats = wave * 20000 / np.max(abs(wave))
    return scaled


def delayed(wave: Floats, delay_s: float, rate_hz: int) -> Floats:
    turns = np.fft.rfftfreq(len(wave), 1 / rate_hz) * delay_s
    shifted: Floats = np.fft.irfft(np.fft.rfft(wave) * np.exp(-2j * np.pi * turns), len(wave))
    return shifted


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
def test_passband_equals_soxr_after_the_delay(from_hz: int, to_hz: int) -> None:
    wave = floats(l16(noise(from_hz, PASSBAND * min(from_hz, to_hz))))
    resampler = Resampler(from_hz, to_hz)
    ours = floats(resampler.process(l16(wave)))
    reference = soxr.resample(wave, from_hz, to_hz, quality="VHQ")[: len(ours)]
    wanted = delayed(reference, resampler.delay_ms / 1000, to_hz)
    error = ours[: len(wanted)] - wanted
    assert 10 * np.log10(np.mean(wanted**2) / np.mean(error**2)) > 72


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
@pytest.mark.parametrize("frequency_hz", [1000, 3300])
def test_sinad(from_hz: int, to_hz: int, frequency_hz: int) -> None:
    assert sinad_db(convert(from_hz, to_hz, sine(frequency_hz, from_hz)), frequency_hz, to_hz) > 80


@pytest.mark.parametrize(("from_hz", "to_hz"), [pair for pair in PAIRS if STOPBAND * pair[1] < 0.49 * pair[0]])
def test_what_would_alias_is_gone(from_hz: int, to_hz: int) -> None:
    for frequency_hz in (STOPBAND * to_hz, 5000 / 8000 * to_hz, 0.49 * from_hz):
        if STOPBAND * to_hz <= frequency_hz < from_hz / 2:
            alias = convert(from_hz, to_hz, sine(frequency_hz, from_hz, peak=30000))
            assert strongest_db(alias, to_hz, 30000) < -80


@pytest.mark.parametrize("to_hz", [16000, 22050, 24000, 44100, 48000])
def test_the_image_of_3300_hz_at_4700_hz_is_gone(to_hz: int) -> None:
    wave = convert(8000, to_hz, sine(3300, 8000, peak=30000))
    _, rest = fit_sine(wave, 3300, to_hz, first=to_hz // 50)
    image, _ = fit_sine(np.concatenate((np.zeros(to_hz // 50), rest)), 4700, to_hz, first=to_hz // 50)
    assert 20 * np.log10(abs(image) / 30000) < -80


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
def test_delay_is_what_it_says(from_hz: int, to_hz: int) -> None:
    resampler = Resampler(from_hz, to_hz)
    amplitude, _ = fit_sine(floats(resampler.process(l16(sine(100, from_hz)))), 100, to_hz, first=to_hz // 50)
    measured_ms = -np.angle(amplitude) / (2 * np.pi * 100) * 1000
    assert resampler.delay_ms == pytest.approx(measured_ms, abs=0.002)


@pytest.mark.parametrize(
    ("lower_hz", "limit_ms"), [(8000, 2.0), (16000, 1.0), (22050, 0.73), (24000, 0.67), (44100, 0.37)]
)
def test_delay_is_short(lower_hz: int, limit_ms: float) -> None:
    for pair in PAIRS:
        if min(pair) == lower_hz:
            assert 0 < Resampler(*pair).delay_ms < limit_ms


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
def test_a_20_ms_frame_gives_exactly_20_ms_every_time(from_hz: int, to_hz: int) -> None:
    resampler = Resampler(from_hz, to_hz)
    sizes = {len(resampler.process(bytes(2 * from_hz // 50))) for _ in range(10)}
    assert sizes == {2 * to_hz // 50}


@given(st.sampled_from(PAIRS), st.lists(st.one_of(st.integers(0, 5), st.integers(0, 3000)), max_size=12))
def test_counts_are_exact_and_bits_the_same_in_any_chunking(pair: tuple[int, int], sizes: list[int]) -> None:
    from_hz, to_hz = pair
    pcm = l16(np.random.default_rng(len(sizes)).normal(0, 9000, sum(sizes)))
    resampler = Resampler(from_hz, to_hz)
    out = b""
    taken = 0
    for size in sizes:
        out += resampler.process(pcm[2 * taken : 2 * (taken + size)])
        taken += size
        assert len(out) == 2 * (taken * to_hz // from_hz)
    assert out == Resampler(from_hz, to_hz).process(pcm)


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
def test_sample_by_sample_is_the_same_as_frames_and_as_one_piece(from_hz: int, to_hz: int) -> None:
    pcm = l16(noise(from_hz, from_hz / 2, duration_s=0.05))
    whole = Resampler(from_hz, to_hz).process(pcm)
    assert len(whole) == 2 * (len(pcm) // 2 * to_hz // from_hz)
    for size in (2, 2 * (from_hz // 50), 2 * (from_hz // 50) - 2):
        resampler = Resampler(from_hz, to_hz)
        assert b"".join(resampler.process(pcm[at : at + size]) for at in range(0, len(pcm), size)) == whole


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
def test_constants_come_out_exactly_up_to_full_scale(from_hz: int, to_hz: int) -> None:
    for level in (-32768, -1, 0, 1, 1234, 32767):
        out = convert(from_hz, to_hz, np.full(from_hz // 20, float(level)))
        assert set(out[to_hz // 100 :].tolist()) == {float(level)}


@pytest.mark.parametrize(("from_hz", "to_hz"), [(8000, 16000), (16000, 8000), (24000, 8000), (8000, 22050)])
def test_overshoot_is_clipped_and_does_not_wrap(from_hz: int, to_hz: int) -> None:
    square = np.where(np.arange(from_hz // 10) // 40 % 2 == 0, 32767.0, -32768.0)
    out = convert(from_hz, to_hz, square)
    quarter = convert(from_hz, to_hz, square / 4) * 4
    over = quarter > 32767 + 8
    under = quarter < -32768 - 8
    assert np.count_nonzero(over) > 10
    assert np.count_nonzero(under) > 10
    assert set(out[over].tolist()) == {32767.0}
    assert set(out[under].tolist()) == {-32768.0}
    inside = abs(quarter) < 32000
    assert np.max(abs(out - quarter)[inside]) <= 8


def test_samples_are_rounded_to_the_nearest() -> None:
    wave = floats(l16(1000 + sine(440, 8000, peak=200)))
    resampler = Resampler(8000, 22050)
    ours = floats(resampler.process(l16(wave)))
    reference = delayed(soxr.resample(wave, 8000, 22050, quality="VHQ"), resampler.delay_ms / 1000, 22050)
    error = (ours - reference[: len(ours)])[2000:-2000]
    assert abs(np.mean(error)) < 0.02
    assert np.max(abs(error)) < 0.6


def test_reset_forgets_the_past() -> None:
    pcm = l16(noise(8000, 3000, duration_s=0.1))
    resampler = Resampler(8000, 16000)
    first = resampler.process(pcm)
    resampler.process(pcm[:322])
    resampler.reset()
    assert resampler.process(pcm) == first


def test_two_calls_share_tables_but_no_state() -> None:
    pcm = l16(noise(8000, 3000, duration_s=0.1))
    one, other = Resampler(8000, 16000), Resampler(8000, 16000)
    expected = one.process(pcm)
    assert other.process(pcm) == expected


def test_nothing_gives_nothing() -> None:
    assert Resampler(8000, 16000).process(b"") == b""


def test_half_a_sample_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="^L16 audio of 3 bytes is not a whole number of 16-bit samples$"):
        Resampler(8000, 16000).process(b"\x00\x00\x00")


@pytest.mark.parametrize(("from_hz", "to_hz"), [(8000, 8000), (8000, 11025), (11025, 8000)])
def test_rates_must_be_known_and_differ(from_hz: int, to_hz: int) -> None:
    with pytest.raises(ValueError, match=rf"^cannot resample {from_hz} to {to_hz} Hz; use two of \(8000, "):
        Resampler(from_hz, to_hz)
