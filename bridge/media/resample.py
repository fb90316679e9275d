"""Sample-rate conversion for live audio: a polyphase FIR low-pass with carried state, at most 2 ms of delay.

Public: ``Resampler``.

After n input samples in total exactly ``floor(n * to_hz / from_hz)`` samples have come out, whatever the
chunks were, so a 20 ms frame in is a 20 ms frame out and nothing is held back or comes in bursts. It is not
meant for recordings, where delay costs nothing and ``soxr`` filters more sharply.

Theory of operation. With L/M the ratio in lowest terms, output m is the sum over j of
h[u mod L + j*L] * x[u div L - j], where u = (m + 1) * M - 1 makes x[u div L] the newest sample that is there
when the output is due. h is a sinc under a Kaiser window (A. V. Oppenheim, R. W. Schafer, "Discrete-Time
Signal Processing", section 7.5). The pattern of phases repeats in blocks, so a chunk is one gather of
overlapping input windows and one small matrix product with a table that all calls share.

Coefficients are multiples of 2**-24 and samples are integers, so every partial sum fits the 53 bits of a
float64: the sum is exact in any order. Hence the output is the same bit by bit for any chunking, processor
and BLAS, and a block that is cut by the end of a chunk is just computed again when the rest has come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bridge.media.format import FRAME_MS, SUPPORTED_RATES_HZ

_Floats = npt.NDArray[np.float64]
_Integers = npt.NDArray[np.intp]
_Samples = npt.NDArray[np.int16]

_L16 = np.dtype("<i2")
# Arrays, because a scalar operand costs every ufunc call 0.3 us of conversion.
_LOWEST = np.array(-32768.0)
_HIGHEST = np.array(32767.0)

_TAPS_AT_LOWER_RATE = 32
"""Length of the filter in samples of the lower of both rates; half of it is the delay, 2 ms at 8 kHz. With 8 kHz
as the lower rate, 0 to 3.3 kHz pass within 0.001 dB, and what would fold or be imaged into them is 84 dB down."""
_KAISER_BETA = 8.2
"""The best trade of pass-band edge against stop-band depth at that length."""
_COEFFICIENT_BITS = 24
"""Fraction bits of a coefficient. 16-bit samples times these leave 12 bits of a float64 for the sum of up to 192
products: exact. Rounding the coefficients costs noise that is 120 dB down."""

_UNSTEADY = -1
"""In place of a chunk's size: the next chunk needs views of its own."""

_MIN_CYCLES_PER_WINDOW = 16
"""Periods of a simple ratio computed from one window, at least. Longer windows waste products on zeros, shorter ones
cost more copying; 16 was the fastest for 20 ms frames."""
_OUTPUTS_PER_GROUP = 24
"""The most outputs from one window for ratios such as 441/160, where every window has a table of its own."""
_SIMPLE_RATIO = 6
"""Up to this L and M (48 to 8 kHz) one table serves every window."""
_STEP_S = 0.04
"""The longest piece computed at once. It bounds the memory of a call, holds a 20 ms frame at any position, and keeps
the product under 2**18 multiplications, from where on OpenBLAS would wake its threads, which spin."""


@dataclass(frozen=True, slots=True)
class _FilterBank:
    """The tables of one pair of rates: shared by all calls and read-only."""

    up: int
    """L of the ratio L/M."""
    down: int
    """M of the ratio L/M."""
    delay_ms: float
    block_in: int
    """Input samples after which the windows repeat, a multiple of M."""
    block_out: int
    """Output samples of a block."""
    history: int
    """Input samples before a block that its first output needs."""
    table: _Floats
    """Coefficients by (input of the window, output); by (window, input, output) if the ratio is not simple."""
    windows: _Integers
    """Where in the buffer each input of a window is, by (block, input) or (block, window, 1, input)."""


class _StepViews(NamedTuple):
    """Slices of a resampler's buffers for a chunk of one size at one position.

    Chunks that leave the position as it was, such as whole frames, go on using them.
    """

    incoming: _Floats
    windows: _Integers
    gathered: _Floats
    filtered: _Floats
    due: _Floats
    rounded: _Samples
    kept: _Floats
    to_keep: _Floats
    next_position: int


class Resampler:
    """Converts one direction of one call from one sample rate to another; L16 mono in and out.

    Both rates are of ``SUPPORTED_RATES_HZ`` and differ, otherwise ``ValueError``. Not for two threads at once.
    """

    __slots__ = (
        "_bank",
        "_buffer",
        "_filtered",
        "_gathered",
        "_position",
        "_product",
        "_rounded",
        "_table",
        "_steady_bytes",
        "_views",
    )

    def __init__(self, from_hz: int, to_hz: int) -> None:
        if from_hz not in SUPPORTED_RATES_HZ or to_hz not in SUPPORTED_RATES_HZ or from_hz == to_hz:
            raise ValueError(f"cannot resample {from_hz} to {to_hz} Hz; use two of {SUPPORTED_RATES_HZ}")
        bank = _filter_bank(from_hz, to_hz)
        self._bank = bank
        # History, then the blocks in work. Windows may reach past the last block; zeros meet what they read there.
        self._buffer = np.zeros(int(bank.windows.max()) + 1 + bank.block_in)
        self._gathered = np.zeros(bank.windows.shape)
        self._filtered = np.zeros((*bank.windows.shape[:-1], bank.table.shape[-1]))
        self._rounded: _Samples = np.zeros(len(bank.windows) * bank.block_out, _L16)
        self._position = 0  # input samples already in the first block of the buffer
        self._table = bank.table
        # dot is the cheaper call, but only matmul takes a stack of tables.
        self._product: Callable[[_Floats, _Floats, _Floats], object] = np.dot if bank.table.ndim == 2 else np.matmul
        self._steady_bytes = _UNSTEADY
        self._views = self._views_for(0, 0)

    @property
    def delay_ms(self) -> float:
        """By how much the output lags behind the input, in milliseconds."""
        return self._bank.delay_ms

    def process(self, pcm: bytes) -> bytes:
        """Convert the next chunk, of any length; what its samples make due comes out at once.

        Raises ``ValueError`` if the chunk is not a whole number of samples.
        """
        if len(pcm) == self._steady_bytes:
            return self._step(np.frombuffer(pcm, _L16))
        if len(pcm) % 2:
            raise ValueError(f"L16 audio of {len(pcm)} bytes is not a whole number of 16-bit samples")
        samples: _Samples = np.frombuffer(pcm, _L16)
        pieces = []
        while len(samples):
            room = len(self._bank.windows) * self._bank.block_in - self._position
            piece, samples = samples[:room], samples[room:]
            views = self._views = self._views_for(self._position, len(piece))
            self._steady_bytes = 2 * len(piece) if views.next_position == self._position else _UNSTEADY
            pieces.append(self._step(piece))
            self._position = views.next_position
        return b"".join(pieces)

    def reset(self) -> None:
        """Forget the past, as if nothing had been processed."""
        self._buffer.fill(0)
        self._position = 0
        self._steady_bytes = _UNSTEADY

    def _step(self, samples: _Samples) -> bytes:
        """Convert the samples for which the views were made: the hot path, in as few numpy calls as it takes.

        Assignment through ``[...]`` costs half of ``numpy.copyto`` at this size.
        """
        incoming, windows, gathered, filtered, due, rounded, kept, to_keep, _ = self._views
        incoming[...] = samples
        self._buffer.take(windows, None, gathered, "clip")
        self._product(gathered, self._table, filtered)
        np.minimum(due, _HIGHEST, out=due)
        np.maximum(due, _LOWEST, out=due)
        np.rint(due, due)
        rounded[...] = due
        kept[...] = to_keep
        return rounded.tobytes()

    def _views_for(self, position: int, count: int) -> _StepViews:
        """Slice the buffers for ``count`` samples that come when ``position`` samples of the first block are there."""
        bank = self._bank
        end = position + count
        first_due, end_due = position * bank.up // bank.down, end * bank.up // bank.down
        blocks = -(-end_due // bank.block_out)
        done, next_position = divmod(end, bank.block_in)
        keep = bank.history + next_position
        return _StepViews(
            incoming=self._buffer[bank.history + position : bank.history + end],
            windows=bank.windows[:blocks],
            gathered=self._gathered[:blocks],
            filtered=self._filtered[:blocks],
            due=self._filtered.reshape(-1)[first_due:end_due],
            rounded=self._rounded[: end_due - first_due],
            kept=self._buffer[:keep],
            to_keep=self._buffer[done * bank.block_in :][:keep],
            next_position=next_position,
        )


@lru_cache(maxsize=len(SUPPORTED_RATES_HZ) * (len(SUPPORTED_RATES_HZ) - 1))
def _filter_bank(from_hz: int, to_hz: int) -> _FilterBank:
    """Design the filter of a pair of rates and lay it out in windows and tables."""
    common = gcd(from_hz, to_hz)
    up, down = to_hz // common, from_hz // common
    simple = max(up, down) <= _SIMPLE_RATIO
    cycles = _cycles_per_window(from_hz // down) if simple else 1
    block_in, block_out = down * cycles, up * cycles
    group = block_out if simple else max(n for n in range(1, _OUTPUTS_PER_GROUP + 1) if block_out % n == 0)

    phases = _phases(up, down)
    taps = phases.shape[1]
    due = (np.arange(block_out) + 1) * down - 1
    newest = due // up
    starts = newest[::group] - (taps - 1)
    length = int(np.max(newest[group - 1 :: group] - starts)) + 1
    table = np.zeros((len(starts), length, group))
    for output in range(block_out):
        row, column = divmod(output, group)
        first = newest[output] - (taps - 1) - starts[row]
        table[row, first : first + taps, column] = phases[due[output] % up, ::-1]

    history = -int(starts[0])
    blocks = max(1, int(from_hz * _STEP_S) // block_in)
    windows = (
        np.arange(blocks)[:, None, None, None] * block_in
        + (starts + history)[:, None, None]
        + np.arange(length, dtype=np.intp)
    )
    delay_samples = _half_length(up, down) - (down - 1)
    return _FilterBank(
        up=up,
        down=down,
        delay_ms=delay_samples * 1000 / (up * from_hz),
        block_in=block_in,
        block_out=block_out,
        history=history,
        table=table[0] if simple else table,
        windows=windows[:, 0, 0] if simple else windows,
    )


def _cycles_per_window(cycles_per_s: int) -> int:
    """Periods of the ratio for one window, such that a 20 ms frame is a whole number of windows."""
    cycles_per_frame = cycles_per_s * FRAME_MS // 1000
    return next(n for n in range(_MIN_CYCLES_PER_WINDOW, cycles_per_frame + 1) if cycles_per_frame % n == 0)


def _half_length(up: int, down: int) -> int:
    """Taps on either side of the middle one, at the rate that both rates divide: odd ends of a half-band are zero."""
    return _TAPS_AT_LOWER_RATE // 2 * max(up, down) - 1


def _phases(up: int, down: int) -> _Floats:
    """Coefficients by (phase, age of the input sample), each phase with a gain of exactly 1 at 0 Hz."""
    half = _half_length(up, down)
    offset = np.arange(-half, half + 1)
    prototype = np.sinc(offset / max(up, down)) * np.kaiser(len(offset), _KAISER_BETA)
    taps = -(-len(prototype) // up)
    padded = np.zeros(taps * up)
    padded[: len(prototype)] = prototype
    phases = padded.reshape(taps, up).T
    scale = float(2**_COEFFICIENT_BITS)
    steps: _Floats = np.rint(phases / phases.sum(axis=1, keepdims=True) * scale)
    # Rounding leaves the sum a few steps off; the largest coefficient takes them, so that silence with an offset
    # and full scale come out as they went in.
    largest = np.argmax(np.abs(steps), axis=1)
    steps[np.arange(up), largest] += scale - steps.sum(axis=1)
    return steps / scale
