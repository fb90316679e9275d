"""``bridge.media.format``."""

from __future__ import annotations

import pytest

from bridge.media.format import ALAW_8K, PCM_8K, PCM_16K, SUPPORTED_RATES_HZ, ULAW_8K, Encoding, MediaFormat


@pytest.mark.parametrize(
    ("name", "media"),
    [("ulaw_8000", ULAW_8K), ("alaw_8000", ALAW_8K), ("pcm_8000", PCM_8K), ("pcm_16000", PCM_16K)],
)
def test_names_round_trip(name: str, media: MediaFormat) -> None:
    assert MediaFormat.parse(name) == media
    assert media.name == name


@pytest.mark.parametrize("rate_hz", SUPPORTED_RATES_HZ)
def test_every_pcm_rate_parses(rate_hz: int) -> None:
    assert MediaFormat.parse(f"pcm_{rate_hz}") == MediaFormat(Encoding.L16, rate_hz)


@pytest.mark.parametrize(
    "name", ["", "pcm", "pcm_", "pcm_11025", "mp3_44100", "ulaw_8000_1", "pcm_16000hz", "PCM_16000"]
)
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError) as caught:
        MediaFormat.parse(name)
    assert str(caught.value) == (
        f"audio format {name!r} is not known; known are ulaw_8000, alaw_8000 and pcm_<rate> with rate in "
        "8000, 16000, 22050, 24000, 44100, 48000"
    )


def test_a_long_name_is_cut_in_the_message() -> None:
    with pytest.raises(ValueError, match=f"^audio format '{'x' * 40}' is not known"):
        MediaFormat.parse("x" * 5000)


def test_an_unknown_rate_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^rate_hz is 11025; supported are \(8000, "):
        MediaFormat(Encoding.L16, 11025)


@pytest.mark.parametrize("channels", [0, 3, -1])
def test_an_unknown_channel_count_is_refused(channels: int) -> None:
    with pytest.raises(ValueError, match=f"^channels is {channels}; supported are 1 and 2$"):
        MediaFormat(Encoding.L16, 8000, channels)


def test_equality_is_by_encoding_rate_and_channels() -> None:
    assert MediaFormat(Encoding.L16, 8000) == PCM_8K
    assert (
        len({PCM_8K, PCM_16K, ULAW_8K, ALAW_8K, MediaFormat(Encoding.L16, 8000, 2), MediaFormat(Encoding.L16, 8000)})
        == 5
    )


@pytest.mark.parametrize(
    ("media", "bytes_per_sample"),
    [(ULAW_8K, 1), (ALAW_8K, 1), (PCM_16K, 2), (MediaFormat(Encoding.L16, 48000, 2), 4)],
)
def test_bytes_per_sample(media: MediaFormat, bytes_per_sample: int) -> None:
    assert media.bytes_per_sample == bytes_per_sample


def test_bytes_samples_and_milliseconds_of_a_frame() -> None:
    assert (ULAW_8K.size_bytes(20), PCM_8K.size_bytes(20), PCM_16K.size_bytes(20)) == (160, 320, 640)
    assert (ULAW_8K.samples(160), PCM_16K.samples(640)) == (160, 320)
    assert (ULAW_8K.duration_ms(160), PCM_16K.duration_ms(640)) == (20.0, 20.0)


def test_parts_of_a_sample_are_rounded_down() -> None:
    assert PCM_16K.samples(5) == 2
    assert MediaFormat(Encoding.L16, 22050).size_bytes(1.01) == 44


def test_silence() -> None:
    assert ULAW_8K.silence(3) == b"\xff\xff\xff"
    assert ALAW_8K.silence(2) == b"\xd5\xd5"
    assert PCM_16K.silence(4) == b"\x00\x00\x00\x00"
    assert MediaFormat(Encoding.L16, 8000, 2).silence(8) == bytes(8)
    assert ULAW_8K.silence(0) == b""
