"""``bridge.media.g711`` against the tables of ITU-T G.711."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from bridge.media.g711 import alaw_to_pcm, pcm_to_alaw, pcm_to_ulaw, ulaw_to_pcm

ALL_CODES = bytes(range(256))
ALL_SAMPLES = np.arange(-32768, 32768).astype("<i2").tobytes()
ULAW_OVERLOAD = 4 * 8159
"""Mu-law's virtual decision value: louder samples are clipped."""


def samples(pcm: bytes) -> npt.NDArray[np.int64]:
    return np.frombuffer(pcm, "<i2").astype(np.int64)


def ulaw_by_table(code: int) -> int:
    """G.711 table 2, scaled by 4: the code is sent inverted; sign, segment, step."""
    inverted = code ^ 0xFF
    magnitude = ((((inverted & 0x0F) << 3) + 0x84) << (inverted >> 4 & 7)) - 0x84
    return -magnitude if inverted & 0x80 else magnitude


def alaw_by_table(code: int) -> int:
    """G.711 table 1, scaled by 8: even bits are sent inverted; sign (1 = positive), segment, step."""
    plain = code ^ 0x55
    segment, magnitude = plain >> 4 & 7, ((plain & 0x0F) << 4) + 8
    if segment:
        magnitude = (magnitude + 0x100) << (segment - 1)
    return magnitude if plain & 0x80 else -magnitude


def test_every_ulaw_code_decodes_as_the_table_says() -> None:
    assert samples(ulaw_to_pcm(ALL_CODES)).tolist() == [ulaw_by_table(code) for code in range(256)]


def test_every_alaw_code_decodes_as_the_table_says() -> None:
    assert samples(alaw_to_pcm(ALL_CODES)).tolist() == [alaw_by_table(code) for code in range(256)]


def test_every_ulaw_code_round_trips_but_negative_zero() -> None:
    expected = bytes(0xFF if code == 0x7F else code for code in range(256))
    assert pcm_to_ulaw(ulaw_to_pcm(ALL_CODES)) == expected


def test_every_alaw_code_round_trips() -> None:
    assert pcm_to_alaw(alaw_to_pcm(ALL_CODES)) == ALL_CODES


def test_known_values() -> None:
    extremes = np.array([32767, -32768, 0], "<i2").tobytes()
    assert pcm_to_ulaw(extremes) == b"\x80\x00\xff"
    assert pcm_to_alaw(extremes) == b"\xaa\x2a\xd5"
    assert samples(ulaw_to_pcm(b"\x80\x00\xff")).tolist() == [32124, -32124, 0]
    assert samples(alaw_to_pcm(b"\xaa\x2a\xd5")).tolist() == [32256, -32256, 8]


def test_ulaw_encoding_is_monotonic_and_within_half_a_step() -> None:
    values = samples(ALL_SAMPLES)
    codes = pcm_to_ulaw(ALL_SAMPLES)
    decoded = samples(ulaw_to_pcm(codes))
    assert np.all(np.diff(decoded) >= 0)
    half_step = 4 << ((np.frombuffer(codes, np.uint8).astype(np.int64) ^ 0xFF) >> 4 & 7)
    inside = abs(values) <= ULAW_OVERLOAD
    # The two bits below G.711's 14 decide nothing.
    assert np.all((abs(values - decoded) <= half_step + 3)[inside])
    assert set(abs(decoded[~inside]).tolist()) == {32124}


def test_alaw_encoding_is_monotonic_and_within_half_a_step() -> None:
    values = samples(ALL_SAMPLES)
    codes = pcm_to_alaw(ALL_SAMPLES)
    decoded = samples(alaw_to_pcm(codes))
    assert np.all(np.diff(decoded) >= 0)
    segment = (np.frombuffer(codes, np.uint8).astype(np.int64) ^ 0x55) >> 4 & 7
    half_step = 8 << np.maximum(segment - 1, 0)
    # The three bits below G.711's 13 decide nothing.
    assert np.all(abs(values - decoded) <= half_step + 7)


@pytest.mark.parametrize("encode", [pcm_to_ulaw, pcm_to_alaw])
def test_half_a_sample_is_refused_in_words(encode: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ValueError, match="^L16 audio of 3 bytes is not a whole number of 16-bit samples$"):
        encode(b"\x00\x00\x00")


@pytest.mark.parametrize("function", [ulaw_to_pcm, alaw_to_pcm, pcm_to_ulaw, pcm_to_alaw])
def test_nothing_gives_nothing(function: Callable[[bytes], bytes]) -> None:
    assert function(b"") == b""


def test_users_never_see_the_deprecation_of_audioop() -> None:
    program = "import bridge.media.g711"
    run = subprocess.run([sys.executable, "-W", "error::DeprecationWarning", "-c", program], capture_output=True)
    assert (run.returncode, run.stderr) == (0, b"")
