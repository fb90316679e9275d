"""Frames of G.711: loudness and blending."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.errors import LocalError
from bridge.media.format import Encoding
from bridge.sip.g711_frames import blend, decode, encode, is_quiet

LAWS = [Encoding.ULAW, Encoding.ALAW]


@pytest.mark.parametrize("law", LAWS)
def test_every_code_comes_back(law: Encoding) -> None:
    codes = bytes(range(256))
    assert np.array_equal(decode(encode(decode(codes, law), law), law), decode(codes, law))


def test_only_g711() -> None:
    with pytest.raises(LocalError, match="pcm is not G.711"):
        decode(b"\0\0", Encoding.L16)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("peak", "quiet"), [(0, True), (400, True), (900, False), (-30000, False)])
def test_loudness(law: Encoding, peak: float, quiet: bool) -> None:
    samples = np.zeros(160, np.float32)
    samples[77] = peak
    assert is_quiet(encode(samples, law), law) is quiet


@pytest.mark.parametrize("law", LAWS)
def test_a_blend_begins_as_one_and_ends_as_the_other(law: Encoding) -> None:
    low, high = encode(np.full(160, -8000, np.float32), law), encode(np.full(160, 8000, np.float32), law)
    samples = decode(blend(low, high, law), law)
    assert samples[0] == pytest.approx(-8000, abs=400)
    assert samples[-1] == pytest.approx(8000, abs=400)
    assert np.all(np.diff(samples) >= 0)


def test_too_loud_is_clipped() -> None:
    assert encode(np.array([99_000, -99_000], np.float32), Encoding.ULAW) == b"\x80\x00"
