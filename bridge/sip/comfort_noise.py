"""Comfort noise: from the description in an RTP packet (RFC 3389) to frames of G.711.

Public: ``ComfortNoise``, ``parse_noise``, ``NoiseDescription``.

Source: RFC 3389 section 3.1 (level: 0 to 127 below overload, in dBov), 3.2 (reflection coefficients, 8 bits each,
``258 * (N - 127)`` in units of 1/32768).

Theory of operation. White noise through an all-pole filter would cost a loop over every sample. Instead half a second
of noise is shaped once per description in the frequency domain; an inverse Fourier transform repeats without a seam,
so frames are cut from it round and round. Its phases are one table, made from a fixed seed: where a stream begins in
it is an argument, so that streams differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bridge.errors import RemoteError
from bridge.media.format import FRAME_MS, Encoding
from bridge.sip.g711_frames import encode

FRAME = 8000 * FRAME_MS // 1000
BLOCK = 26 * FRAME
"""0.52 s in whole frames: nobody hears noise repeat at that distance."""
MAX_ORDER = 12
"""Coefficients that are used; more describe detail that no ear needs, and RFC 3389 section 3.3 allows fewer."""
LOUDEST_DBOV = -30
"""Louder "comfort" noise is played at this: a peer's mistake, or malice, should not drown the call."""
_FULL_SCALE = 32767.0
_NEUTRAL = 127
_RESERVED = 255
"""No coefficient (section 3.2 goes to 254); taken as none."""
_LARGEST_REFLECTION = 0.99
"""Keeps the filter stable and its peaks finite."""
_PHASES = np.exp(2j * np.pi * np.random.default_rng(3389).random(BLOCK // 2 + 1))


@dataclass(frozen=True, slots=True)
class NoiseDescription:
    """What a comfort noise packet says."""

    level_dbov: int
    """0 to -127, relative to a square wave of full scale."""
    reflection: tuple[float, ...] = ()
    """Reflection coefficients of the all-pole model; none = white."""


def parse_noise(payload: bytes) -> NoiseDescription:
    """Read a packet's payload. Raises ``RemoteError`` if it is empty; every other one means something."""
    if not payload:
        raise RemoteError("comfort noise: the payload is empty")
    numbers = (_NEUTRAL if number == _RESERVED else number for number in payload[1 : 1 + MAX_ORDER])
    reflection = tuple(258 * (number - _NEUTRAL) / 32768 for number in numbers)
    return NoiseDescription(-(payload[0] & 0x7F), reflection)


class ComfortNoise:
    """The noise of one stream."""

    __slots__ = ("_block", "_encoding", "_payload", "_position")

    def __init__(self, encoding: Encoding, start_frame: int = 0) -> None:
        """``start_frame`` (any number) says where in the table of noise to begin."""
        self._encoding = encoding
        self._position = start_frame * FRAME % BLOCK
        self._payload: bytes | None = None
        self._block = b""

    def frame(self, payload: bytes) -> bytes:
        """The next 160 bytes of noise as the payload describes it (``JitterBuffer.noise``; empty = silence)."""
        if payload != self._payload:
            self._payload = payload
            description = parse_noise(payload) if payload else NoiseDescription(-127)
            self._block = _block(description, self._encoding)
        start = self._position
        self._position = (start + FRAME) % BLOCK
        return self._block[start : start + FRAME]


def _block(description: NoiseDescription, encoding: Encoding) -> bytes:
    """A block of noise that repeats without a seam."""
    level_dbov = min(description.level_dbov, LOUDEST_DBOV)
    spectrum = _PHASES / np.abs(np.fft.rfft(_predictor(description.reflection), BLOCK))
    spectrum[0] = 0  # no direct current
    wave = np.fft.irfft(spectrum, BLOCK)
    wave *= _FULL_SCALE * 10 ** (level_dbov / 20) / np.sqrt(np.mean(wave * wave))
    return encode(wave.astype(np.float32), encoding)


def _predictor(reflection: tuple[float, ...]) -> list[float]:
    """The polynomial A(z) of the all-pole filter 1 / A(z), by the step-up recursion."""
    polynomial = [1.0]
    for coefficient in reflection:
        bounded = max(-_LARGEST_REFLECTION, min(_LARGEST_REFLECTION, coefficient))
        forward = [*polynomial, 0.0]
        polynomial = [one + bounded * other for one, other in zip(forward, reversed(forward), strict=True)]
    return polynomial
