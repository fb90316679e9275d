"""Comfort noise: as loud and as coloured as described."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import RemoteError
from bridge.media.format import Encoding
from bridge.sip.comfort_noise import ComfortNoise, NoiseDescription, parse_noise
from bridge.sip.g711_frames import Samples, decode


def noise(payload: bytes, law: Encoding = Encoding.ULAW, start_frame: int = 0) -> Samples:
    generator = ComfortNoise(law, start_frame)
    return decode(b"".join(generator.frame(payload) for _ in range(52)), law)


def test_the_payload_is_read() -> None:
    assert parse_noise(b"\x32") == NoiseDescription(-50)
    assert parse_noise(b"\xb2\x7f\x00\xfe") == NoiseDescription(-50, (0.0, 258 * -127 / 32768, 258 * 127 / 32768))
    assert parse_noise(b"\x32\xff") == NoiseDescription(-50, (0.0,))
    assert len(parse_noise(bytes(40)).reflection) == 12


def test_an_empty_payload_is_named() -> None:
    with pytest.raises(RemoteError, match="comfort noise: the payload is empty"):
        parse_noise(b"")


@pytest.mark.parametrize("law", [Encoding.ULAW, Encoding.ALAW])
@pytest.mark.parametrize(("level", "expected_dbov"), [(35, -35), (50, -50), (5, -30)])
def test_it_is_as_loud_as_described_but_never_loud(law: Encoding, level: int, expected_dbov: int) -> None:
    samples = noise(bytes((level,)), law)
    measured = 20 * np.log10(np.sqrt(np.mean(samples**2)) / 32767)
    assert measured == pytest.approx(expected_dbov, abs=0.7)


def test_without_a_description_it_is_silent() -> None:
    assert not noise(b"").any()


def test_it_is_coloured_by_its_coefficients() -> None:
    def share_below_1_khz(payload: bytes) -> float:
        power = np.abs(np.fft.rfft(noise(payload))) ** 2
        return float(power[: len(power) // 4].sum() / power.sum())

    white, dark, bright = b"\x28", b"\x28\x1e", b"\x28\xe0"
    assert share_below_1_khz(white) == pytest.approx(0.25, abs=0.06)
    assert share_below_1_khz(dark) > 0.6
    assert share_below_1_khz(bright) < 0.1


def test_it_repeats_without_a_step_and_streams_differ() -> None:
    generator = ComfortNoise(Encoding.ULAW)
    frames = [generator.frame(b"\x28") for _ in range(53)]
    assert frames[0] == frames[26] == frames[52]
    assert len(set(frames[:26])) == 26
    assert {len(frame) for frame in frames} == {160}
    assert ComfortNoise(Encoding.ULAW, start_frame=33).frame(b"\x28") == frames[7]
    seam = decode(frames[25] + frames[26], Encoding.ULAW)
    assert abs(seam[160] - seam[159]) < 4 * np.std(np.diff(seam))


def test_a_new_description_takes_over() -> None:
    generator = ComfortNoise(Encoding.ULAW)
    loud, soft = generator.frame(b"\x1e"), generator.frame(b"\x46")
    assert np.abs(decode(loud, Encoding.ULAW)).max() > 20 * np.abs(decode(soft, Encoding.ULAW)).max()


@given(st.binary(max_size=40))
def test_every_payload_makes_a_frame(payload: bytes) -> None:
    assert len(ComfortNoise(Encoding.ALAW).frame(payload)) == 160
