"""``bridge.server.recording.library``: the folder's recordings read back; for a bucket's see ``test_bucket``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bridge.errors import ConfigError, RemoteError
from bridge.server.recording.encoders import Mp3Encoder, WavEncoder
from bridge.server.recording.library import AudioFormatError, AudioLibrary, OpenAudio
from bridge.server.recording.names import AudioNotFoundError
from bridge.server.recording.ranges import RangeError
from tests.kit.recordings import mp3_frames, stereo

PCM = stereo(8000, 10.0)
WAV = WavEncoder(8000).header(len(PCM)) + PCM


@pytest.fixture
def library(tmp_path: Path) -> AudioLibrary:
    (tmp_path / "call.wav").write_bytes(WAV)
    (tmp_path / "other.mp3").write_bytes(b"mp3 as it is")
    (tmp_path / "growing.wav.part").write_bytes(WAV)
    (tmp_path / "link.wav").symlink_to("/etc/hostname")
    return AudioLibrary(tmp_path)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def body(audio: OpenAudio) -> bytes:
    return b"".join([chunk async for chunk in audio.chunks])


async def test_a_whole_recording(library: AudioLibrary) -> None:
    audio = await library.open_audio("call.wav")
    assert (audio.status, audio.content_type, audio.size_bytes) == (200, "audio/wav", 320_044)
    assert audio.headers == {"Accept-Ranges": "bytes", "Content-Length": "320044"}
    assert await body(audio) == WAV
    assert await body(await library.open_audio("other.mp3", "mp3")) == b"mp3 as it is"


async def test_a_part_of_a_recording(library: AudioLibrary) -> None:
    audio = await library.open_audio("call.wav", "wav", "bytes=100000-299999")
    assert (audio.status, audio.size_bytes) == (206, 200_000)
    assert audio.headers == {
        "Accept-Ranges": "bytes",
        "Content-Length": "200000",
        "Content-Range": "bytes 100000-299999/320044",
    }
    assert await body(audio) == WAV[100_000:300_000]
    with pytest.raises(RangeError):
        await library.open_audio("call.wav", "wav", "bytes=320044-")


async def test_wav_becomes_mp3_on_the_way(library: AudioLibrary) -> None:
    audio = await library.open_audio("call.wav", "mp3", "bytes=0-9")
    assert (audio.status, audio.content_type, audio.size_bytes) == (200, "audio/mpeg", None)
    assert audio.headers == {"Accept-Ranges": "none"}
    encoder = Mp3Encoder(8000)
    assert await body(audio) == (whole := encoder.encode(PCM) + encoder.flush())
    assert 10.0 <= sum(frame.samples for frame in mp3_frames(whole)) / 8000 <= 10.25


async def test_mp3_is_made_block_by_block(library: AudioLibrary) -> None:
    audio = await library.open_audio("call.wav", "mp3")
    sizes = [len(chunk) async for chunk in audio.chunks]
    assert len(sizes) >= 5
    assert max(sizes) < 16_384


async def test_short_recordings_become_short_mp3s(tmp_path: Path, library: AudioLibrary) -> None:
    for samples, frames in ((0, 0), (80, 3)):
        (tmp_path / "short.wav").write_bytes(WavEncoder(8000).header(4 * samples) + bytes(4 * samples))
        assert len(mp3_frames(await body(await library.open_audio("short.wav", "mp3")))) == frames


async def test_what_cannot_be_given(library: AudioLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AudioFormatError, match="this recording is an MP3 and cannot be had as WAV"):
        await library.open_audio("other.mp3", "wav")
    (tmp_path / "broken.wav").write_bytes(b"x" * 100)
    with pytest.raises(RemoteError, match="no WAV file of this program"):
        await library.open_audio("broken.wav", "mp3")
    monkeypatch.setitem(sys.modules, "lameenc", None)
    with pytest.raises(ConfigError, match="lameenc"):
        await library.open_audio("call.wav", "mp3")


@pytest.mark.parametrize(
    "location",
    ["missing.wav", "growing.wav.part", "growing.wav", "../call.wav", "/etc/passwd", "", "s3://bucket/call.wav"],
)
async def test_what_is_not_there(library: AudioLibrary, location: str) -> None:
    with pytest.raises(AudioNotFoundError):
        await library.open_audio(location)
    with pytest.raises(AudioNotFoundError):
        await library.presigned_url(location, 60)


async def test_a_link_is_not_followed(library: AudioLibrary) -> None:
    audio = await library.open_audio("link.wav")
    with pytest.raises(OSError, match="symbolic links"):
        await body(audio)


async def test_a_file_that_goes_between_the_head_and_the_body(library: AudioLibrary, tmp_path: Path) -> None:
    audio = await library.open_audio("call.wav")
    (tmp_path / "call.wav").unlink()
    with pytest.raises(AudioNotFoundError):
        await body(audio)


async def test_deleting(library: AudioLibrary, tmp_path: Path) -> None:
    await library.delete_audio("call.wav")
    await library.delete_audio("call.wav")
    assert not (tmp_path / "call.wav").exists()
    for location in ("../call.wav", "growing.wav.part", "s3://bucket/other.mp3"):
        with pytest.raises(AudioNotFoundError):
            await library.delete_audio(location)
    assert (tmp_path / "growing.wav.part").exists()
    assert (tmp_path / "other.mp3").exists()


async def test_a_reader_who_leaves_early_leaves_nothing_open(library: AudioLibrary) -> None:
    before = open_files()
    audio = await library.open_audio("call.wav")
    async for _ in audio.chunks:
        break
    await audio.chunks.aclose()  # type: ignore[attr-defined]  # it is a generator
    assert open_files() == before
