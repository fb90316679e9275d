"""``bridge.server.recording.files``: a file is valid at every moment, and left-overs are completed."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from pathlib import Path

import pytest

from bridge.calls.record import Recording
from bridge.server.recording.encoders import Mp3Encoder, WavEncoder
from bridge.server.recording.files import NEWBORN_S, GrowingFile, recover
from tests.kit.recordings import mp3_frames, read_wav, stereo

SECOND = stereo(8000, 1.0)


def long_after() -> float:
    return time.time() + NEWBORN_S + 1


class FullDisk:
    """Writes until so many bytes are on the disk, then fails as disks do: first with less, then with nothing."""

    def __init__(self, room: int) -> None:
        self.room = room

    def __call__(self, fd: int, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(fd, bytes(data)[: self.room])
        self.room -= written
        return written


def test_a_wav_is_valid_after_every_block(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    file = GrowingFile(path, WavEncoder(8000))
    part = tmp_path / "call.wav.part"
    assert len(read_wav(part)[1]) == 0
    for count in (1, 2, 3):
        file.append(SECOND)
        assert len(read_wav(part)[1]) == count * 8000
    assert not path.exists()
    assert file.end() == path.stat().st_size == 44 + 3 * 32_000
    assert not part.exists()
    assert read_wav(path)[1].tobytes() == 3 * SECOND


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        file = GrowingFile(tmp_path / "call.wav", WavEncoder(8000))
        file.append(SECOND)
        file.end()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "call.wav").stat().st_mode) == 0o600


def test_an_mp3_ends_with_what_the_encoder_held(tmp_path: Path) -> None:
    path = tmp_path / "call.mp3"
    file = GrowingFile(path, Mp3Encoder(8000))
    for _ in range(3):
        file.append(SECOND)
    assert file.end() == path.stat().st_size
    frames = mp3_frames(path.read_bytes())
    assert 3.0 <= sum(frame.samples for frame in frames) / 8000 <= 3.25


@pytest.mark.parametrize("name", ["call.wav", "call.wav.part"])
def test_a_recording_is_never_written_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"before")
    with pytest.raises(FileExistsError):
        GrowingFile(tmp_path / "call.wav", WavEncoder(8000))
    assert (tmp_path / name).read_bytes() == b"before"


def test_a_link_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "call.wav.part").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        GrowingFile(tmp_path / "call.wav", WavEncoder(8000))
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("audio_format", ["wav", "mp3"])
def test_without_audio_there_is_no_file(tmp_path: Path, audio_format: str) -> None:
    file = GrowingFile(
        tmp_path / f"call.{audio_format}", WavEncoder(8000) if audio_format == "wav" else Mp3Encoder(8000)
    )
    assert file.end() == 0
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_what_was_written_before(tmp_path: Path) -> None:
    file = GrowingFile(tmp_path / "call.wav", WavEncoder(8000), FullDisk(44 + 32_000 + 12_345))
    file.append(SECOND)
    with pytest.raises(OSError, match="No space left on device"):
        file.append(SECOND)
    assert read_wav(tmp_path / "call.wav.part")[1].tobytes() == SECOND
    assert (tmp_path / "call.wav.part").stat().st_size == 44 + 32_000
    assert file.end(flush=False) == 44 + 32_000
    assert read_wav(tmp_path / "call.wav")[1].tobytes() == SECOND


def test_a_disk_that_is_full_from_the_start_is_left_clean(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device"):
        GrowingFile(tmp_path / "call.wav", WavEncoder(8000), FullDisk(7))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_at_the_very_end_leaves_the_rest(tmp_path: Path) -> None:
    disk = FullDisk(10**9)
    file = GrowingFile(tmp_path / "call.mp3", Mp3Encoder(8000), disk)
    file.append(SECOND)
    disk.room = 0
    with pytest.raises(OSError, match="No space left on device"):
        file.end()
    assert mp3_frames((tmp_path / "call.mp3").read_bytes())


# --- left-overs ---


def leave(path: Path, data: bytes) -> None:
    path.with_name(path.name + ".part").write_bytes(data)


def test_left_overs_are_completed(tmp_path: Path) -> None:
    leave(tmp_path / "a.wav", WavEncoder(8000).header(32_000) + 2 * SECOND + b"\1\2\3")  # died between audio and header
    encoder = Mp3Encoder(16000)
    encoded = b"".join(encoder.encode(stereo(16000, 1.0)) for _ in range(3))
    leave(tmp_path / "b.mp3", encoded)
    (tmp_path / "done.wav").write_bytes(b"finished before")
    (tmp_path / "notes.txt.part").write_bytes(b"not ours")
    found, failed = recover(tmp_path)
    assert failed == []
    assert found == [
        ("a", Recording(location="a.wav", format="wav", duration_ms=2000, size_bytes=44 + 64_000, complete=False)),
        (
            "b",
            Recording(
                location="b.mp3",
                format="mp3",
                duration_ms=len(encoded) * 8 // 48,
                size_bytes=len(encoded),
                complete=False,
            ),
        ),
    ]
    assert read_wav(tmp_path / "a.wav")[1].tobytes() == 2 * SECOND
    assert (tmp_path / "b.mp3").read_bytes() == encoded
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "b.mp3", "done.wav", "notes.txt.part"]
    assert recover(tmp_path) == ([], [])


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    file = GrowingFile(tmp_path / "call.wav", WavEncoder(8000))
    file.append(SECOND)
    assert recover(tmp_path, long_after) == ([], [])
    assert file.end() == 44 + 32_000


@pytest.mark.parametrize("name", ["a.wav", "a.mp3"])
def test_left_overs_without_audio_are_removed_but_not_while_they_may_be_newborn(tmp_path: Path, name: str) -> None:
    leave(tmp_path / name, b"")
    assert recover(tmp_path) == ([], [])
    assert len(list(tmp_path.iterdir())) == 1
    assert recover(tmp_path, long_after) == ([], [])
    assert list(tmp_path.iterdir()) == []
    leave(tmp_path / "b.wav", WavEncoder(8000).header(0) + b"\1\2\3")
    assert recover(tmp_path) == ([], [])
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_completed_is_named_and_kept(tmp_path: Path) -> None:
    leave(tmp_path / "a.wav", b"x" * 100)
    leave(tmp_path / "b.mp3", b"y" * 100)
    (tmp_path / "c.wav.part").symlink_to(tmp_path / "a.wav.part")
    assert recover(tmp_path) == ([], ["a.wav.part", "b.mp3.part", "c.wav.part"])
    assert (tmp_path / "a.wav.part").read_bytes() == b"x" * 100


def test_two_processes_that_recover_at_once_do_not_do_it_twice(tmp_path: Path) -> None:
    leave(tmp_path / "a.wav", WavEncoder(8000).header(0) + SECOND)
    with (tmp_path / "a.wav.part").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert recover(tmp_path) == ([], [])
    assert [call_id for call_id, _ in recover(tmp_path)[0]] == ["a"]
