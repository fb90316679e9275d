"""Tones: keypad tones (DTMF) made and found again in L16 mono audio, and the frequencies of a piece of audio.

Public: ``DTMF_FREQUENCIES_HZ``, ``dtmf``, ``tone``, ``DtmfDetector``, ``DtmfHit``, ``dominant_frequencies``, ``Peak``.

This is for audio in which tones are part of the sound; carriers that report keys in messages need none of it.
Sources: ITU-T Q.23 (frequencies), ITU-T Q.24 table A.1 (what a receiver accepts; the limits used are those of
AT&T there, with 23 ms as the longest tone that must not count).

Levels are dBm0 per frequency, as in Q.24: a sine of 0 dBm0 has a peak of 22 656, because G.711 mu-law (peak
32 636) overloads at +3.17 dBm0. Two tones above -2.7 dBm0 each exceed 16 bits in sum and are clipped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]
_Indices = npt.NDArray[np.intp]
_Complexes = npt.NDArray[np.complex128]

_L16 = np.dtype("<i2")
_ROWS_HZ = (697, 770, 852, 941)
_COLUMNS_HZ = (1209, 1336, 1477, 1633)
_KEYS = "123A456B789C*0#D"
"""The keypad, row by row."""

DTMF_FREQUENCIES_HZ = {key: (_ROWS_HZ[i // 4], _COLUMNS_HZ[i % 4]) for i, key in enumerate(_KEYS)}
"""The low and the high frequency of each key (Q.23)."""

PEAK_AT_0_DBM0 = 32636 / 10 ** (3.17 / 20)
"""Peak of a sine of 0 dBm0 in units of L16."""

# --- making tones ----------------------------------------------------------------------------------------

_EDGE_MS = 2.0
"""Rise and fall of a tone: long enough against clicks, well under the 5 ms that Q.24 lets a rise take."""
_PAUSES_MS = {"w": 500, "W": 1000}


def tone(frequencies: Sequence[float], duration_ms: float, rate_hz: int, amplitude: float) -> bytes:
    """A sum of sines as L16 with smooth edges; clipped where the sum exceeds 16 bits.

    ``amplitude`` is the peak of each sine (see ``PEAK_AT_0_DBM0``); no frequencies give silence.
    """
    count = int(rate_hz * duration_ms / 1000)
    time_s = np.arange(count) / rate_hz
    wave = np.zeros(count)
    for frequency_hz in frequencies:
        wave += amplitude * np.sin(2 * np.pi * frequency_hz * time_s)
    edge = min(int(rate_hz * _EDGE_MS / 1000), count // 2)
    rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / max(edge, 1))
    wave[:edge] *= rise
    wave[count - edge :] *= rise[::-1]
    return np.rint(wave).clip(-32768, 32767).astype(_L16).tobytes()


def dtmf(digits: str, media_rate_hz: int, tone_ms: int = 100, gap_ms: int = 100, level_dbm0: float = -10.0) -> bytes:
    """Keypad tones as L16: each key is ``tone_ms`` of sound and ``gap_ms`` of silence.

    ``digits`` are ``0-9 * # A-D``; ``w`` is 0.5 s and ``W`` 1 s of silence. ``level_dbm0`` is the level of each of
    both frequencies; -10 is what telephones send. Raises ``ValueError`` that names an unknown character.
    """
    amplitude = PEAK_AT_0_DBM0 * 10 ** (level_dbm0 / 20)
    pieces = []
    for key in digits:
        if key in _PAUSES_MS:
            pieces.append(tone((), _PAUSES_MS[key], media_rate_hz, 0))
        elif key in DTMF_FREQUENCIES_HZ:
            pieces.append(tone(DTMF_FREQUENCIES_HZ[key], tone_ms, media_rate_hz, amplitude))
            pieces.append(tone((), gap_ms, media_rate_hz, 0))
        else:
            raise ValueError(f"{key!r} is not a keypad tone; known are 0-9 * # A-D and the pauses w and W")
    return b"".join(pieces)


# --- finding DTMF ----------------------------------------------------------------------------------------

_HOP_S = 0.00425
_HOPS_PER_WINDOW = 3
"""Windows of 12.75 ms (102 samples at 8 kHz), one every third of that: short enough that a tone of 40 ms fills several,
long enough to tell 697 from 770 Hz."""
_COVERAGE = 0.7
"""The part of a window that a tone must fill for the window to show it; follows from the limits below."""
_MIN_DURATION_MS = 31.5
"""Between the 23 ms that must not count and the 40 ms that must."""
_RELEASE_WINDOWS = 5
"""Windows without the tone that end a press (21 ms): an interruption of 10 ms does not, a pause of 40 ms does."""

_MIN_LEVEL_DBM0 = -40.0
"""-30 dBm0 with the full twist, and 2 dB less where a tone fills only part of the window."""
_FORWARD_TWIST_DB = 8.0
"""How much stronger the low tone may be (lines attenuate high tones)."""
_REVERSE_TWIST_DB = 4.0
"""How much stronger the high tone may be."""
_TWIST_TOLERANCE_DB = 1.0
"""What a window's estimate of a level is off by with 15 dB of noise."""
_DOMINANCE_DB = 8.0
"""How much a tone must exceed the others of its group."""
_MIN_ENERGY_RATIO = 0.65
"""Share of the window's energy that lies in both tones for it to show them. Tones off by 1.5 % keep 0.8 of it."""
_PURE_ENERGY_RATIO = 0.85
"""The same, corrected for such deviation, where the tones fill the window: 15 dB of noise leave 0.97."""
_MAX_DEVIATION = 0.025
"""How far each tone of a pure window may be off its frequency: 1.5 % must be accepted, 3.5 % must not. Voices seldom
hold two of their harmonics that well."""
_IMPURE_WINDOWS = 2
"""How many windows of a press may fail these two, or a quarter if that is more: the tones fill windows at either end
and next to an interruption only in part, which also bends their phase."""
_MAX_SECOND_HARMONIC_DB = -10.0
"""Highest second harmonic relative to its tone: voices have strong ones, keypads none."""
_FREQUENCY_TOLERANCE = 0.018
"""Off by up to this, the column's leak into the measurement of the row's second harmonic is allowed for."""


@dataclass(frozen=True, slots=True)
class DtmfHit:
    """One press of a key, reported when it is over."""

    digit: str
    start_sample: int
    """Where the tone begins, in samples since the start of the stream; good to about 5 ms."""
    duration_ms: float
    """How long it lasts; good to about 5 ms."""


class DtmfDetector:
    """Finds key presses in a stream of L16 mono audio at ``rate_hz``.

    Each window is correlated with the eight frequencies and their second harmonics (what Goertzel's recursion
    computes, here as one matrix product). A press is a run of windows that show the same key.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._hop = round(rate_hz * _HOP_S)
        self._window = self._hop * _HOPS_PER_WINDOW
        self._leakage = _row_harmonic_leakage(self._window / rate_hz)
        frequencies = np.array(_ROWS_HZ + _COLUMNS_HZ)
        turns = np.outer(np.arange(self._window), np.hstack((frequencies, 2 * frequencies))) / rate_hz
        self._probes: _Complexes = np.exp(-2j * np.pi * turns) * (2 / self._window)
        self._held = b""
        self._windows_done = 0
        self._key = ""
        self._first_window = 0
        self._last_window = 0
        self._shown = 0
        self._impure = 0
        self._phasors = np.zeros(len(frequencies), np.complex128)  # of the last window, to see how far phases advance

    def process(self, pcm: bytes) -> list[DtmfHit]:
        """Take the next chunk, of any length, and return the presses that ended in it."""
        stream = self._held + pcm
        count = max(0, (len(stream) // _L16.itemsize - self._window) // self._hop + 1)
        self._held = stream[count * self._hop * _L16.itemsize :]
        if not count:
            return []
        samples = np.frombuffer(stream, _L16, len(stream) // _L16.itemsize).astype(np.float64)
        windows = np.lib.stride_tricks.sliding_window_view(samples, self._window)[:: self._hop]
        hits: list[DtmfHit] = []
        for number, pure in self._keys_shown(windows):
            self._advance(_KEYS[number : number + 1], pure, hits)
        return hits

    def flush(self) -> list[DtmfHit]:
        """Say that the audio has ended; returns the press that it cut off, if any. Then start afresh."""
        hits: list[DtmfHit] = []
        self._finish(hits)
        self._held = b""
        self._windows_done = 0
        self._phasors.fill(0)
        return hits

    @property
    def pressing(self) -> DtmfHit | None:
        """The press that goes on, as long as it is by now, if it is long enough to count."""
        hop_ms = self._hop * 1000 / self._rate_hz
        unseen_ms = (2 * _COVERAGE - 1) * self._window * 1000 / self._rate_hz
        long_enough = self._shown * hop_ms + unseen_ms >= _MIN_DURATION_MS
        pure_enough = self._impure <= max(_IMPURE_WINDOWS, self._shown // 4)
        if not (self._key and long_enough and pure_enough):
            return None
        before = round((1 - _COVERAGE) * self._window - self._hop / 2)
        windows = self._last_window - self._first_window + 1
        return DtmfHit(self._key, self._first_window * self._hop + before, windows * hop_ms + unseen_ms)

    def _keys_shown(self, windows: _Floats) -> list[tuple[int, bool]]:
        """For each window the number of the key whose tones it shows (16 = none), and whether they are pure."""
        phasors = windows @ self._probes
        levels = np.abs(phasors)
        low, high, low_harmonics, high_harmonics = np.split(levels, 4, axis=1)
        row, column = low.argmax(axis=1), high.argmax(axis=1)
        each = np.arange(len(windows))
        energy = np.mean(windows * windows, axis=1)
        row_level, column_level = low[each, row], high[each, column]

        weakest = PEAK_AT_0_DBM0 * _ratio(_MIN_LEVEL_DBM0)
        dominated = _ratio(-_DOMINANCE_DB)
        harmonic = _ratio(_MAX_SECOND_HARMONIC_DB)
        leaked = self._leakage[row, column] * column_level
        passed = (
            (np.minimum(row_level, column_level) >= weakest)
            & (row_level <= column_level * _ratio(_FORWARD_TWIST_DB + _TWIST_TOLERANCE_DB))
            & (column_level <= row_level * _ratio(_REVERSE_TWIST_DB + _TWIST_TOLERANCE_DB))
            & (np.sort(low, axis=1)[:, -2] <= row_level * dominated)
            & (np.sort(high, axis=1)[:, -2] <= column_level * dominated)
            & ((row_level**2 + column_level**2) / 2 >= _MIN_ENERGY_RATIO * energy)
            & (low_harmonics[each, row] <= row_level * harmonic + leaked)
            & (high_harmonics[each, column] <= column_level * harmonic)
        )
        pure = self._purity(phasors[:, : len(self._phasors)], row, len(_ROWS_HZ) + column, energy)
        shown = np.where(passed, 4 * row + column, len(_KEYS))
        return list(zip(shown.tolist(), pure.tolist(), strict=True))

    def _purity(self, phasors: _Complexes, row: _Indices, column: _Indices, energy: _Floats) -> npt.NDArray[np.bool_]:
        """For each window whether both tones are in tune and hold nearly all of its energy.

        A tone's frequency follows from how far its phase has advanced since the window before.
        """
        before = np.vstack((self._phasors, phasors[:-1]))
        self._phasors = phasors[-1].copy()
        hop_s = self._hop / self._rate_hz
        frequencies = np.array(_ROWS_HZ + _COLUMNS_HZ)
        expected = np.exp(2j * np.pi * hop_s * frequencies)
        deviation_hz = np.angle(phasors * np.conj(before * expected)) / (2 * np.pi * hop_s)
        limit_hz = _MAX_DEVIATION * frequencies
        in_tune = np.abs(deviation_hz) <= limit_hz
        lobes = deviation_hz.clip(-limit_hz, limit_hz) * self._window / self._rate_hz
        power = (np.abs(phasors) / np.sinc(lobes)) ** 2 / 2
        each = np.arange(len(phasors))
        share_is_high = power[each, row] + power[each, column] >= _PURE_ENERGY_RATIO * energy
        pure: npt.NDArray[np.bool_] = in_tune[each, row] & in_tune[each, column] & share_is_high
        return pure

    def _advance(self, key: str, pure: bool, hits: list[DtmfHit]) -> None:
        """Take the next window's key into account; empty text where it shows none."""
        number = self._windows_done
        self._windows_done += 1
        if key != self._key and (key or number - self._last_window >= _RELEASE_WINDOWS):
            self._finish(hits)
            self._key, self._first_window, self._shown, self._impure = key, number, 0, 0
        if key:
            self._last_window = number
            self._shown += 1
            self._impure += not pure

    def _finish(self, hits: list[DtmfHit]) -> None:
        """End the press in work, and report it if the key was shown for long enough."""
        press = self.pressing
        if press is not None:
            hits.append(press)
        self._key = ""


def _ratio(level_db: float) -> float:
    """Ratio of amplitudes."""
    return math.pow(10, level_db / 20)


def _row_harmonic_leakage(window_s: float) -> _Floats:
    """By (row, column): how much of the column's tone appears at the row's second harmonic.

    697 Hz, for one, has its second harmonic 58 Hz from the column of 1336 Hz, closer than a window resolves.
    """
    leakage = np.zeros((len(_ROWS_HZ), len(_COLUMNS_HZ)))
    for (row, column), _ in np.ndenumerate(leakage):
        distance_hz = abs(2 * _ROWS_HZ[row] - _COLUMNS_HZ[column]) - _FREQUENCY_TOLERANCE * _COLUMNS_HZ[column]
        lobes = max(distance_hz, 0.0) * window_s
        leakage[row, column] = np.sinc(lobes) if lobes < 0.5 else 1 / (math.pi * lobes)
    return leakage


# --- looking at audio ------------------------------------------------------------------------------------

_BLACKMAN_HARRIS = (0.35875, -0.48829, 0.14128, -0.01168)
"""Cosine terms of the window: side lobes 92 dB down, so that one pure tone is one peak (F. J. Harris, 1978)."""
_MAIN_LOBE_BINS = 4
"""Half the width of the window's main lobe: tones closer than that are one peak."""
_OVERSAMPLING = 4
"""Interpolation of the spectrum by zero padding, which leaves a parabola little to guess."""
_QUIETEST_DBM0 = -70.0
"""Below this is silence: the noise of A-law's smallest step is about -66 dBm0."""


class Peak(NamedTuple):
    """A tone in a piece of audio."""

    frequency_hz: float
    level_dbm0: float


def dominant_frequencies(pcm: bytes, rate_hz: int, count: int = 1) -> list[Peak]:
    """The strongest tones of a piece of L16 mono audio, strongest first, at most ``count``; none in silence.

    Tones must be 4 / duration apart (40 Hz in 100 ms). A tone's level is its average over the whole piece.
    """
    samples = np.frombuffer(pcm, _L16).astype(np.float64)
    if len(samples) < 2 * _MAIN_LOBE_BINS:
        return []
    turns = 2 * np.pi * np.arange(len(samples)) / len(samples)
    window = sum(weight * np.cos(order * turns) for order, weight in enumerate(_BLACKMAN_HARRIS))
    spectrum = np.abs(np.fft.rfft(samples * window, _OVERSAMPLING * len(samples)))
    full_scale = PEAK_AT_0_DBM0 * _BLACKMAN_HARRIS[0] * len(samples) / 2
    levels_db = 20 * np.log10(np.maximum(spectrum / full_scale, 1e-12))
    is_peak = (levels_db[1:-1] > levels_db[:-2]) & (levels_db[1:-1] >= levels_db[2:])
    candidates = np.flatnonzero(is_peak & (levels_db[1:-1] >= _QUIETEST_DBM0)) + 1

    peaks: list[Peak] = []
    taken: list[int] = []
    for index in sorted(candidates.tolist(), key=lambda index: -levels_db[index]):
        if len(peaks) == count:
            break
        if all(abs(index - other) > _MAIN_LOBE_BINS * _OVERSAMPLING for other in taken):
            taken.append(index)
            left, middle, right = levels_db[index - 1 : index + 2].tolist()
            shift = (left - right) / (2 * (left - 2 * middle + right))
            frequency_hz = (index + shift) * rate_hz / (_OVERSAMPLING * len(samples))
            peaks.append(Peak(frequency_hz, middle - (left - right) * shift / 4))
    return peaks
