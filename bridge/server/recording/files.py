"""One recording's file while it grows, and what is done with the files of a process that died.

A file is valid after every write: audio first, then the header that counts it, so that a crash in between leaves a
little more audio than the header says, never less. ``fsync`` is called once, at the end: what was written survives
the death of the process without it, and once a second for hundreds of files it would occupy a disk; only a power
cut can take what the kernel has not written yet, some 30 s. The file carries ``.part`` until it is whole,
and a lock by which another process sees that it is alive.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from bridge.calls.record import Recording
from bridge.errors import RemoteError
from bridge.server.recording.encoders import FRAME_BYTES, WAV_HEADER_BYTES, Encoder, WavEncoder, mp3_kbps, wav_rate_hz
from bridge.server.recording.names import PART, parse_name

_MODE = 0o600
NEWBORN_S = 60.0
"""An empty file younger than this may belong to a process that is about to lock it."""

Write = Callable[[int, bytes], int]
"""``os.write``, or something that fails as a disk does."""


class GrowingFile:
    """The file of one recording. All methods may raise ``OSError``; the file is valid then up to the last write."""

    __slots__ = ("_begun", "_encoder", "_fd", "_header_bytes", "_part", "_path", "_write", "data_bytes")

    def __init__(self, path: Path, encoder: Encoder, write: Write = os.write) -> None:
        """Raises ``FileExistsError`` if there is a recording of this name already."""
        self._path = path
        self._part = path.with_name(path.name + PART)
        self._encoder = encoder
        self._write = write
        self._begun = False
        self.data_bytes = 0
        """Encoded audio in the file."""
        header = encoder.header(0)
        self._header_bytes = len(header)
        if path.exists():
            raise FileExistsError(17, "there is a recording of this call already")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self._part, flags, _MODE)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write_all(header, 0)
        except OSError:
            self._abandon()
            raise

    def append(self, pcm: bytes) -> None:
        """Encode a block of stereo L16 and write it."""
        self._begun = True
        self._append(self._encoder.encode(pcm))

    def end(self, *, flush: bool = True) -> int:
        """Make the file durable and give it its name; returns its size in bytes, 0 if nothing was recorded.

        ``flush`` = first write what the encoder still holds; not after a failure, which left a hole before it.
        """
        try:
            if flush and self._begun:
                self._append(self._encoder.flush())
        finally:
            size = self._close()
        return size

    def _close(self) -> int:
        try:
            os.fsync(self._fd)
            if not self.data_bytes:
                self._part.unlink()
                return 0
            self._part.rename(self._path)
            sync_folder(self._path.parent)
            return self._header_bytes + self.data_bytes
        finally:
            os.close(self._fd)

    def _append(self, data: bytes) -> None:
        if not data:
            return
        self._write_all(data, self._header_bytes + self.data_bytes)
        self.data_bytes += len(data)
        if self._header_bytes:
            os.pwrite(self._fd, self._encoder.header(self.data_bytes), 0)

    def _write_all(self, data: bytes, size_before: int) -> None:
        """Write at the end; on failure the file is as it was."""
        view = memoryview(data)
        try:
            while view:
                view = view[self._write(self._fd, view) :]  # type: ignore[arg-type]  # any buffer will do
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, size_before)
                os.lseek(self._fd, size_before, os.SEEK_SET)
            raise

    def _abandon(self) -> None:
        os.close(self._fd)
        self._part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# --- left-overs ------------------------------------------------------------------------------------------


def recover(folder: Path, unix_s: Callable[[], float] = time.time) -> tuple[list[tuple[str, Recording]], list[str]]:
    """Complete the files that dead processes left: (call id, recording) of each, and the names of those that failed.

    A recording's location is its file's name. Files that a living process writes are left alone.
    """
    recovered: list[tuple[str, Recording]] = []
    failed: list[str] = []
    for part in sorted(folder.glob(f"*{PART}")):
        parsed = parse_name(part.name.removesuffix(PART))
        if parsed is None:
            continue
        try:
            recording = _complete(part, unix_s())
        except (OSError, RemoteError):
            failed.append(part.name)
            continue
        if recording is not None:
            recovered.append((parsed[0], recording))
    return recovered, failed


def _complete(part: Path, unix_s: float) -> Recording | None:
    """Complete one file, unless somebody writes it; one without audio is removed."""
    fd = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        found = os.fstat(fd)
        if not found.st_nlink or (found.st_size == 0 and unix_s - found.st_mtime < NEWBORN_S):
            return None
        name = part.name.removesuffix(PART)
        recording = _mend_wav(fd, name, found.st_size) if name.endswith(".wav") else _look_at_mp3(fd, name)
        if not recording.duration_ms:
            part.unlink()
            return None
        os.fsync(fd)
        part.rename(part.with_name(name))
        sync_folder(part.parent)
        return recording
    finally:
        os.close(fd)


def _mend_wav(fd: int, name: str, size: int) -> Recording:
    """Count what is there, to the last whole sample, and say so in the header."""
    data_bytes = max(0, size - WAV_HEADER_BYTES) // FRAME_BYTES * FRAME_BYTES
    if not data_bytes:
        return Recording(location=name, format="wav")
    rate_hz = wav_rate_hz(os.pread(fd, WAV_HEADER_BYTES, 0))
    os.ftruncate(fd, WAV_HEADER_BYTES + data_bytes)
    os.pwrite(fd, WavEncoder(rate_hz).header(data_bytes), 0)
    duration_ms = data_bytes * 1000 // (FRAME_BYTES * rate_hz)
    return Recording(location=name, format="wav", duration_ms=duration_ms, size_bytes=WAV_HEADER_BYTES + data_bytes)


def _look_at_mp3(fd: int, name: str) -> Recording:
    """An MP3 needs no mending: decoders skip a last frame that is not whole. Its bit rate gives the duration."""
    size, kbps = os.fstat(fd).st_size, mp3_kbps(os.pread(fd, 4, 0))
    if size and not kbps:
        raise RemoteError("the recording is no MP3 file of this program")
    return Recording(location=name, format="mp3", duration_ms=size * 8 // (kbps or 1), size_bytes=size)
