"""``bridge.media.transcode``."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.format import ALAW_8K, PCM_8K, PCM_16K, ULAW_8K, Encoding, MediaFormat
from bridge.media.g711 import alaw_to_pcm, pcm_to_alaw, pcm_to_ulaw, ulaw_to_pcm
from bridge.media.resample import Resampler
from bridge.media.tones import PEAK_AT_0_DBM0, dominant_frequencies, tone
from bridge.media.transcode import Transcoder

FORMATS = [ULAW_8K, ALAW_8K, PCM_8K, PCM_16K, MediaFormat(Encoding.L16, 24000), MediaFormat(Encoding.L16, 44100)]
A_TONE_8K = tone((1000,), 200, 8000, PEAK_AT_0_DBM0 / 4)


def test_equal_formats_give_the_very_same_object() -> None:
    same = Transcoder(ULAW_8K, MediaFormat(Encoding.ULAW, 8000))
    payload = b"\x01\x02\x03"
    assert same.process(payload) is payload
    assert same.is_identity
    assert same.delay_ms == 0.0
    same.reset()


@pytest.mark.parametrize(
    ("source", "target", "text"),
    [
        (ULAW_8K, ULAW_8K, "ulaw_8000 -> ulaw_8000"),
        (ULAW_8K, PCM_16K, "ulaw_8000 -> decode -> resample 8000:16000 -> pcm_16000"),
        (PCM_16K, ULAW_8K, "pcm_16000 -> resample 16000:8000 -> encode -> ulaw_8000"),
        (ULAW_8K, ALAW_8K, "ulaw_8000 -> decode -> encode -> alaw_8000"),
        (ALAW_8K, PCM_8K, "alaw_8000 -> decode -> pcm_8000"),
        (PCM_8K, PCM_16K, "pcm_8000 -> resample 8000:16000 -> pcm_16000"),
    ],
)
def test_describe(source: MediaFormat, target: MediaFormat, text: str) -> None:
    assert Transcoder(source, target).describe() == text


@pytest.mark.parametrize(
    ("source", "target", "payload", "expected"),
    [
        (ULAW_8K, PCM_8K, b"\x80\x00\xff", ulaw_to_pcm(b"\x80\x00\xff")),
        (ALAW_8K, PCM_8K, b"\xaa\x2a\xd5", alaw_to_pcm(b"\xaa\x2a\xd5")),
        (PCM_8K, ULAW_8K, A_TONE_8K, pcm_to_ulaw(A_TONE_8K)),
        (PCM_8K, ALAW_8K, A_TONE_8K, pcm_to_alaw(A_TONE_8K)),
        (ULAW_8K, ALAW_8K, b"\x80\x00", pcm_to_alaw(ulaw_to_pcm(b"\x80\x00"))),
        (PCM_8K, PCM_16K, A_TONE_8K, Resampler(8000, 16000).process(A_TONE_8K)),
        (PCM_16K, ULAW_8K, A_TONE_8K, pcm_to_ulaw(Resampler(16000, 8000).process(A_TONE_8K))),
    ],
)
def test_stages(source: MediaFormat, target: MediaFormat, payload: bytes, expected: bytes) -> None:
    transcoder = Transcoder(source, target)
    assert transcoder.process(payload) == expected
    assert not transcoder.is_identity


@pytest.mark.parametrize("source", FORMATS, ids=lambda media: media.name)
@pytest.mark.parametrize("target", FORMATS, ids=lambda media: media.name)
def test_a_tone_survives_every_conversion(source: MediaFormat, target: MediaFormat) -> None:
    encoded = Transcoder(PCM_8K, source).process(A_TONE_8K)
    converted = Transcoder(source, target).process(encoded)
    heard = Transcoder(target, PCM_8K).process(converted)
    (peak,) = dominant_frequencies(heard, 8000)
    assert peak.frequency_hz == pytest.approx(1000, abs=2)
    assert peak.level_dbm0 == pytest.approx(-12.0, abs=0.5)
    assert target.duration_ms(len(converted)) == pytest.approx(200, abs=0.3)


@pytest.mark.parametrize("target", [ULAW_8K, PCM_16K], ids=lambda media: media.name)
@given(cuts=st.lists(st.integers(0, len(A_TONE_8K)), max_size=6))
def test_chunks_may_be_cut_inside_a_sample(target: MediaFormat, cuts: list[int]) -> None:
    transcoder = Transcoder(PCM_8K, target)
    edges = [0, *sorted(cuts), len(A_TONE_8K)]
    pieces = [transcoder.process(A_TONE_8K[a:b]) for a, b in zip(edges, edges[1:], strict=False)]
    assert b"".join(pieces) == Transcoder(PCM_8K, target).process(A_TONE_8K)


def test_reset_forgets_half_samples_and_filter_state() -> None:
    transcoder = Transcoder(PCM_8K, PCM_16K)
    transcoder.process(A_TONE_8K[:333])
    transcoder.reset()
    assert transcoder.process(A_TONE_8K) == Transcoder(PCM_8K, PCM_16K).process(A_TONE_8K)
    plain = Transcoder(PCM_8K, ULAW_8K)
    plain.process(b"\x01")
    plain.reset()
    assert plain.process(b"\x00\x00") == b"\xff"


def test_delay_is_the_resamplers() -> None:
    assert Transcoder(ULAW_8K, PCM_16K).delay_ms == Resampler(8000, 16000).delay_ms
    assert Transcoder(ULAW_8K, ALAW_8K).delay_ms == 0.0


def test_stereo_is_refused_on_either_side() -> None:
    stereo = MediaFormat(Encoding.L16, 8000, 2)
    for source, target in ((stereo, PCM_8K), (PCM_8K, stereo), (stereo, stereo)):
        with pytest.raises(ValueError, match="^pcm_8000 with 2 channels cannot be transcoded, only mono can$"):
            Transcoder(source, target)


def test_a_20_ms_frame_gives_exactly_20_ms() -> None:
    up, down = Transcoder(ULAW_8K, PCM_16K), Transcoder(PCM_16K, ULAW_8K)
    for _ in range(5):
        wide = up.process(bytes(np.full(160, 0xFF, np.uint8)))
        assert wide == bytes(640)
        assert down.process(wide) == b"\xff" * 160
