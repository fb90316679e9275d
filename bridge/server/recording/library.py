"""Recordings read back: for ``GET /v1/calls/{id}/audio`` and for webhooks, from the folder or from the bucket.

A location with ``s3://`` whose upload is still to come is read from the folder. Nothing is ever held in memory
but a block.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass, field
from pathlib import Path

from bridge.errors import RemoteError
from bridge.server.recording.bucket import BLOCK_BYTES, Bucket
from bridge.server.recording.encoders import CONTENT_TYPES, FRAME_BYTES, WAV_HEADER_BYTES, Mp3Encoder, wav_rate_hz
from bridge.server.recording.names import AudioNotFoundError, name_at, parse_name
from bridge.server.recording.options import AudioFormat
from bridge.server.recording.ranges import parse_range


class AudioFormatError(RemoteError):
    """A recording was asked for in a format that it cannot be given in."""


@dataclass(frozen=True, slots=True)
class StoredAudio:
    """Where a recording really is."""

    name: str
    format: AudioFormat
    size_bytes: int
    in_bucket: bool
    """Whether it is in the bucket already."""
    goes_to_bucket: bool
    """Whether it is there, or will be soon."""


@dataclass(frozen=True, slots=True)
class OpenAudio:
    """An answer to a request for audio: what a ``StreamingResponse`` takes."""

    status: int
    """200, or 206 for a range."""
    content_type: str
    chunks: AsyncIterator[bytes]
    headers: dict[str, str] = field(default_factory=dict)
    """``Accept-Ranges``, and as far as they are known ``Content-Length`` and ``Content-Range``."""
    size_bytes: int | None = None
    """Bytes in ``chunks``; None where they are made on the way."""


class AudioLibrary:
    """Reads and deletes recordings by their location."""

    def __init__(self, folder: Path, bucket: Bucket | None = None) -> None:
        self._folder = folder
        self._bucket = bucket

    async def open_audio(self, location: str, wanted: AudioFormat | None = None, range_header: str = "") -> OpenAudio:
        """A recording, whole or in part, in the format wanted (None: as it is).

        WAV becomes MP3 on the way, without ranges then. Raises ``AudioNotFoundError``, ``AudioFormatError`` for
        WAV of an MP3, ``RangeError``, ``ConfigError`` if MP3 is to be made and cannot be, ``BucketError``.
        """
        stored = await self.find(location)
        if wanted is None or wanted == stored.format:
            return self._as_it_is(stored, range_header)
        if wanted == "wav":
            raise AudioFormatError("this recording is an MP3 and cannot be had as WAV")
        head = b"".join([block async for block in self._read(stored, 0, min(stored.size_bytes, WAV_HEADER_BYTES))])
        encoder = Mp3Encoder(wav_rate_hz(head))
        return OpenAudio(200, CONTENT_TYPES["mp3"], self._to_mp3(stored, encoder), {"Accept-Ranges": "none"})

    async def find(self, location: str) -> StoredAudio:
        """Where a recording is and how large. Raises ``AudioNotFoundError``, ``BucketError``."""
        name = self._name(location)
        parsed = parse_name(name)
        assert parsed is not None
        size = await asyncio.to_thread(self._size_in_folder, name)
        if size is not None:
            return StoredAudio(name, parsed[1], size, in_bucket=False, goes_to_bucket=location.startswith("s3://"))
        if self._bucket is None or not location.startswith("s3://"):
            raise AudioNotFoundError("the folder has no such recording")
        size = await asyncio.to_thread(self._bucket.size, name)
        return StoredAudio(name, parsed[1], size, in_bucket=True, goes_to_bucket=True)

    async def presigned_url(self, location: str, ttl_s: int) -> str:
        """An address that lets anybody read it for so long, empty while it is in the folder. Raises as ``find``."""
        stored = await self.find(location)
        if not stored.in_bucket or self._bucket is None:
            return ""
        return await asyncio.to_thread(self._bucket.presigned_url, stored.name, ttl_s)

    async def delete_audio(self, location: str) -> None:
        """Delete a recording wherever it is; again is no mistake.

        Raises ``AudioNotFoundError`` for a location of another place, ``BucketError`` and ``OSError`` when it is not
        deleted.
        """
        name = self._name(location)
        # The folder first: an upload in progress then finds the file gone, and takes the object back itself.
        await asyncio.to_thread((self._folder / name).unlink, missing_ok=True)
        if self._bucket is not None and location.startswith("s3://"):
            await asyncio.to_thread(self._bucket.delete, name)

    # --- own ---

    def _name(self, location: str) -> str:
        """The file's name, if the location is one of ours."""
        name = name_at(location)
        if location.startswith("s3://") and (self._bucket is None or location != self._bucket.location(name)):
            raise AudioNotFoundError("the recording is in a bucket, or below a prefix, that is not set")
        return name

    def _size_in_folder(self, name: str) -> int | None:
        try:
            return os.stat(self._folder / name, follow_symlinks=False).st_size
        except FileNotFoundError:
            return None

    def _as_it_is(self, stored: StoredAudio, range_header: str) -> OpenAudio:
        part = parse_range(range_header, stored.size_bytes)
        start, stop = part or (0, stored.size_bytes)
        headers = {"Accept-Ranges": "bytes", "Content-Length": str(stop - start)}
        if part:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size_bytes}"
        chunks = self._read(stored, start, stop)
        return OpenAudio(206 if part else 200, CONTENT_TYPES[stored.format], chunks, headers, stop - start)

    async def _read(self, stored: StoredAudio, start: int, stop: int) -> AsyncIterator[bytes]:
        """Bytes of a recording, block by block; opened when the first is asked for."""
        blocks = self._blocks(stored, start, stop)
        try:
            while block := await asyncio.to_thread(next, blocks, b""):
                yield block
        finally:
            await asyncio.to_thread(blocks.close)

    def _blocks(self, stored: StoredAudio, start: int, stop: int) -> Generator[bytes, None, None]:
        if start >= stop:
            return
        if not stored.in_bucket:
            try:
                yield from _read_file(self._folder / stored.name, start, stop)
                return
            except AudioNotFoundError:
                if not stored.goes_to_bucket:
                    raise
        assert self._bucket is not None, "find() saw to it"
        yield from self._bucket.read(stored.name, start, stop)  # it went up since it was found

    async def _to_mp3(self, stored: StoredAudio, encoder: Mp3Encoder) -> AsyncIterator[bytes]:
        cut, begun = b"", False
        async for block in self._read(stored, WAV_HEADER_BYTES, stored.size_bytes):
            pcm = cut + block
            whole = len(pcm) - len(pcm) % FRAME_BYTES
            cut = pcm[whole:]
            begun = True
            if chunk := await asyncio.to_thread(encoder.encode, pcm[:whole]):
                yield chunk
        if begun:
            yield await asyncio.to_thread(encoder.flush)


def _read_file(path: Path, start: int, stop: int) -> Generator[bytes, None, None]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise AudioNotFoundError("the folder has no such recording") from None
    try:
        while start < stop and (block := os.pread(fd, min(BLOCK_BYTES, stop - start), start)):
            start += len(block)
            yield block
    finally:
        os.close(fd)
