"""``bridge.server.recording.encoders``: what players find in the files."""

from __future__ import annotations

import io
import sys
import wave

import numpy as np
import pytest

from bridge.errors import ConfigError, RemoteError
from bridge.media.format import SUPPORTED_RATES_HZ
from bridge.server.recording.encoders import (
    MP3_KBPS,
    Mp3Encoder,
    WavEncoder,
    load_lame,
    mp3_kbps,
    new_encoder,
    wav_rate_hz,
)
from tests.kit.recordings import mp3_frames, stereo


def test_the_wav_header_to_the_byte() -> None:
    assert WavEncoder(8000).header(64_000).hex(" ", 4) == (
        "52494646 24fa0000 57415645 666d7420 10000000 01000200 401f0000 007d0000 04001000 64617461 00fa0000"
    )


@pytest.mark.parametrize("rate_hz", SUPPORTED_RATES_HZ)
def test_wav_is_what_the_standard_library_reads(rate_hz: int) -> None:
    encoder, pcm = WavEncoder(rate_hz), stereo(rate_hz, 0.1)
    data = encoder.encode(pcm) + encoder.flush()
    with wave.open(io.BytesIO(encoder.header(len(data)) + data)) as reader:
        assert (reader.getnchannels(), reader.getsampwidth(), reader.getframerate()) == (2, 2, rate_hz)
        assert reader.readframes(10**6) == pcm
    assert wav_rate_hz(encoder.header(len(data))) == rate_hz


@pytest.mark.parametrize(
    ("at", "value"), [(0, b"RIFX"), (8, b"AIFF"), (20, b"\x07"), (22, b"\x01"), (24, b"\x01"), (36, b"LIST")]
)
def test_other_wav_files_are_refused(at: int, value: bytes) -> None:
    header = bytearray(WavEncoder(8000).header(4))
    header[at : at + len(value)] = value
    with pytest.raises(RemoteError, match="the recording is no WAV file of this program"):
        wav_rate_hz(bytes(header))


def test_half_a_wav_header_is_refused() -> None:
    with pytest.raises(RemoteError, match="the recording has no whole WAV header"):
        wav_rate_hz(WavEncoder(8000).header(4)[:43])


@pytest.mark.parametrize("rate_hz", SUPPORTED_RATES_HZ)
def test_mp3_is_whole_frames_of_the_right_kind_and_length(rate_hz: int) -> None:
    encoder = new_encoder("mp3", rate_hz)
    assert encoder.header(0) == b""
    pcm = stereo(rate_hz, 3.0)
    data = b"".join(encoder.encode(pcm[at : at + 4 * rate_hz]) for at in range(0, len(pcm), 4 * rate_hz))
    data += encoder.flush()
    frames = mp3_frames(data)
    assert {(frame.rate_hz, frame.kbps, frame.channels) for frame in frames} == {(rate_hz, MP3_KBPS[rate_hz], 2)}
    assert sum(frame.size for frame in frames) == len(data)
    assert 3.0 <= sum(frame.samples for frame in frames) / rate_hz <= 3.25
    assert mp3_kbps(data) == MP3_KBPS[rate_hz]


def test_mp3_holds_little_back() -> None:
    encoder = Mp3Encoder(8000)
    sizes = [len(encoder.encode(stereo(8000, 1.0))) for _ in range(5)]
    assert sum(sizes) * 8 / MP3_KBPS[8000] >= 5000 - 200


def test_mp3_does_not_depend_on_how_it_was_cut() -> None:
    pcm = stereo(8000, 2.0)

    def encoded(block: int) -> bytes:
        encoder = Mp3Encoder(8000)
        return b"".join(encoder.encode(pcm[at : at + block]) for at in range(0, len(pcm), block)) + encoder.flush()

    assert encoded(4 * 160) == encoded(4 * 7777) == encoded(len(pcm))


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xe3\x48", b"RIFF", b"\xff\xff\xf8\x00", b"\xff\xe7\x48\x64", b"\xff\xe3\xf0\x00"]
)
def test_what_is_no_mp3_frame_has_no_bit_rate(data: bytes) -> None:
    assert mp3_kbps(data) == 0


def test_without_lame_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lameenc", None)
    for wanting in (load_lame, lambda: Mp3Encoder(8000)):
        with pytest.raises(ConfigError, match=r"MP3 needs the package lameenc: pip install 'telephony-bridge\[mp3\]'"):
            wanting()
    assert np.frombuffer(new_encoder("wav", 8000).encode(b"\0\0\0\0"), "<i2").tolist() == [0, 0]
