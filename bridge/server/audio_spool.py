"""Audio of the vendor's ``post_call_audio`` while it waits to be passed on: files in a folder, for some days.

Not recordings of ours (``bridge.server.recording``): these belong to nobody's record and go by age alone. A file is
written under another name first, so that one with its right name is whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import BridgeError
from bridge.server.outbox_audio import AudioMissing, AudioOpener

PREFIX = "spool/"
"""Of locations in here; recordings' locations are names without a folder, or begin with ``s3://``."""
BLOCK_BYTES = 256 * 1024
DAY_S = 86_400.0

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,80}\.mp3")


class SpoolFull(BridgeError):
    """There is no room for more audio; deliveries make some, and so does time."""


@dataclass(frozen=True, slots=True)
class SpoolOptions:
    """Where, how much, how long."""

    folder: Path
    max_bytes: int = 2 * 1024**3
    """All files together: some 300 calls of ten minutes."""
    keep_s: float = 7 * DAY_S
    """Longer than an event is tried, and as long as a dead one can be replayed for certain."""


class AudioSpool:
    """The folder. Used from one event loop; files are read and written in threads."""

    def __init__(self, options: SpoolOptions, unix: Callable[[], float] = time.time) -> None:
        self._options = options
        self._unix = unix

    async def save(self, name: str, pieces: Iterable[bytes]) -> str:
        """Keep audio under this name (the same again replaces it); returns its location. Raises ``SpoolFull``."""
        return await asyncio.to_thread(self._save, f"{name}.mp3", pieces)

    def opener(self, others: AudioOpener) -> AudioOpener:
        """Opens what is in here, and everything else with ``others``."""

        async def opened(location: str) -> AsyncIterator[bytes]:
            source = self._read(location) if location.startswith(PREFIX) else others(location)
            async for piece in source:
                yield piece

        return opened

    async def _read(self, location: str) -> AsyncIterator[bytes]:
        name = location.removeprefix(PREFIX)
        if not _NAME.fullmatch(name):
            raise AudioMissing("this is no location of audio")
        try:
            file = await asyncio.to_thread((self._options.folder / name).open, "rb")
        except FileNotFoundError:
            raise AudioMissing("the audio is not there any more") from None
        try:
            while block := await asyncio.to_thread(file.read, BLOCK_BYTES):
                yield block
        finally:
            file.close()

    def _save(self, name: str, pieces: Iterable[bytes]) -> str:
        folder = self._options.folder
        folder.mkdir(parents=True, exist_ok=True)
        assert _NAME.fullmatch(name)
        room = self._options.max_bytes - self._sweep()
        path, part = folder / name, folder / f"{name}.{os.getpid()}.part"
        try:
            with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
                for piece in pieces:
                    room -= len(piece)
                    if room < 0:
                        raise SpoolFull(f"more than {self._options.max_bytes} bytes of audio wait to be passed on")
                    file.write(piece)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return PREFIX + name

    def _sweep(self) -> int:
        """Delete what is too old; returns how many bytes are left."""
        oldest = self._unix() - self._options.keep_s
        total = 0
        with os.scandir(self._options.folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another process sweeps the same folder
                    status = entry.stat(follow_symlinks=False)
                    if status.st_mtime < oldest:
                        os.unlink(entry.path)
                    else:
                        total += status.st_size
        return total
