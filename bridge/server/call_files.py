"""One small file for each call in one folder: written whole or not at all, kept for days and within a size.

What is in them is their owner's business. Building and writing run in a thread of their own, one file after the
other: neither a call's end nor the audio of the others waits for it. Several processes may share the folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bridge.errors import BridgeError, LocalError
from bridge.server.logs import get_logger

PART = ".part"
"""Behind the name while a file is written."""
STALE_PART_S = 3600.0
"""An unfinished file this old is of a process that died."""
MAX_WAITING = 256
"""Files that wait to be written: a disk that stands still must not fill the memory. What comes then is dropped."""
PRUNE_EVERY_S = 60.0
"""How often the folder is looked through, at the most."""

_MODE = 0o600
_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class CallFileOptions:
    """Where, and for how long."""

    folder: Path
    suffix: str
    """Of every file, with its dot; the rest of the name is our id of the call."""
    keep_days: float = 30.0
    """Older ones are deleted; 0 = none is written."""
    max_total_bytes: int = 500_000_000
    """The oldest go when there is more."""


@dataclass(slots=True)
class CallFileStats:
    """What happened so far."""

    written: int = 0
    failed: int = 0
    dropped: int = 0
    """Not written because too many were waiting."""
    deleted: int = 0
    """For their age, or for want of room."""


class NoCallFileError(BridgeError):
    """There is no file of this call."""


class CallFiles:
    """The folder. Built and used in the event loop's thread."""

    def __init__(self, options: CallFileOptions, kind: str, unix_s: Callable[[], float] = time.time) -> None:
        """``kind`` names these files in the log: ``sip_messages``."""
        self.options = options
        """May be replaced at any time; folder and suffix stay."""
        self.stats = CallFileStats()
        self._kind = kind
        self._unix_s = unix_s
        self._pool = ThreadPoolExecutor(1, kind)
        self._waiting = 0
        self._prune_at_s = -PRUNE_EVERY_S

    async def write(self, call_id: str, build: Callable[[], bytes]) -> bool:
        """Write what ``build`` gives (in the thread), then tidy up. False = it was not written; the log says why."""
        if not self.options.keep_days:
            return False
        path = self._path(call_id)
        if self._waiting >= MAX_WAITING:
            self.stats.dropped += 1
            get_logger().warning(f"{self._kind}_dropped", call_id=call_id, detail=f"{MAX_WAITING} are waiting")
            return False
        self._waiting += 1
        try:
            await self._in_thread(lambda: _write(path, build()))
        except OSError as error:
            self.stats.failed += 1
            get_logger().error(f"{self._kind}_failed", call_id=call_id, detail=error.strerror or type(error).__name__)
            return False
        finally:
            self._waiting -= 1
        self.stats.written += 1
        await self.prune()
        return True

    async def read(self, call_id: str) -> bytes:
        """The file of a call. Raises ``NoCallFileError``, ``OSError``."""
        path = self._path(call_id)
        try:
            return await self._in_thread(path.read_bytes)
        except FileNotFoundError:
            raise NoCallFileError("there is no such file of this call") from None

    async def delete(self, call_id: str) -> None:
        """Delete a call's file; again is no mistake. Raises ``OSError``."""
        path = self._path(call_id)
        await self._in_thread(lambda: path.unlink(missing_ok=True))

    async def prune(self, *, at_once: bool = False) -> None:
        """Delete what is too old or too much; not more often than ``PRUNE_EVERY_S`` unless told so."""
        now = self._unix_s()
        if not at_once and now < self._prune_at_s:
            return
        self._prune_at_s = now + PRUNE_EVERY_S
        options = self.options
        try:
            self.stats.deleted += await self._in_thread(lambda: _prune(options, now))
        except OSError as error:
            get_logger().warning(f"{self._kind}_not_pruned", detail=error.strerror or type(error).__name__)

    async def aclose(self) -> None:
        """Wait for what is being written."""
        await asyncio.to_thread(self._pool.shutdown)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _path(self, call_id: str) -> Path:
        if not _CALL_ID.fullmatch(call_id):
            raise LocalError("a call's id is 1 to 128 letters, digits, '_' and '-'")
        return self.options.folder / f"{call_id}{self.options.suffix}"


def _write(path: Path, data: bytes) -> None:
    """Under its name stands the whole file, or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(path.name + PART)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(part, flags, _MODE)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def _files(options: CallFileOptions) -> list[tuple[float, int, Path]]:
    """(time, size, path) of every file, the oldest first."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(options.folder):
            if entry.name.endswith(options.suffix) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):  # another process tidies up as well
                    about = entry.stat(follow_symlinks=False)
                    found.append((about.st_mtime, about.st_size, Path(entry.path)))
    return sorted(found)


def _prune(options: CallFileOptions, now: float) -> int:
    """Delete what is too old, then the oldest until the rest fits; returns how many went."""
    files = _files(options)
    total_bytes = sum(size for _, size, _ in files)
    gone = 0
    for written_at, size, path in files:
        if written_at >= now - options.keep_days * 86_400 and total_bytes <= options.max_total_bytes:
            break
        path.unlink(missing_ok=True)
        total_bytes -= size
        gone += 1
    for part in options.folder.glob(f"*{options.suffix}{PART}"):
        with contextlib.suppress(FileNotFoundError):
            if part.stat().st_mtime < now - STALE_PART_S:
                part.unlink()
    return gone
