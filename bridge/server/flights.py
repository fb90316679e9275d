"""Flight records on disk: written when a call ends badly, or always, or on demand; kept for days and within a size.

Files lie below ``DATA_DIR/flights`` as ``<call id>.flight.gz`` and appear whole or not at all. Packing and writing run
in a thread of their own, one record after the other: a call's end, and the audio of the others, do not wait for it.
Several processes may share the folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bridge.calls.flight import Snapshot
from bridge.calls.flight_file import FlightHeader, encode_flight
from bridge.calls.flight_privacy import Privacy
from bridge.errors import BridgeError, LocalError
from bridge.outcome import EndReason, Result
from bridge.server.logs import get_logger

SUFFIX = ".flight.gz"
PART = ".part"
"""Behind the name while a file is written."""

STALE_PART_S = 3600.0
"""An unfinished file this old is of a process that died."""

MAX_WAITING = 64
"""Records that wait to be packed: a disk that stands still must not fill the memory. What comes then is dropped."""

PRUNE_EVERY_S = 60.0
"""How often the folder is looked through, at the most."""

_MODE = 0o600
_T = TypeVar("_T")
_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


class FlightsKept(enum.Enum):
    """Whose records are written when calls end; the value is the setting's."""

    OFF = "off"
    ERRORS = "errors"
    """Of calls that did not end in success."""
    ALL = "all"


@dataclass(frozen=True, slots=True)
class FlightFileOptions:
    """The operator's settings for the files."""

    folder: Path
    kept: FlightsKept = FlightsKept.ERRORS
    keep_days: float = 30.0
    """Older ones are deleted; 0 = none is written, whoever asks."""
    max_total_bytes: int = 500_000_000
    """The oldest go when there is more."""


@dataclass(slots=True)
class FlightStats:
    """What happened so far, for metrics."""

    written: int = 0
    failed: int = 0
    dropped: int = 0
    """Not written because too many were waiting."""
    deleted: int = 0
    """For their age, or for want of room."""


class NoFlightError(BridgeError):
    """There is no flight record of this call."""


class Flights:
    """The folder. Built and used in the event loop's thread."""

    def __init__(self, options: FlightFileOptions, unix_s: Callable[[], float] = time.time) -> None:
        self.options = options
        """May be replaced at any time; the folder stays."""
        self.stats = FlightStats()
        self._unix_s = unix_s
        self._pool = ThreadPoolExecutor(1, "flights")
        self._waiting = 0
        self._prune_at_s = -PRUNE_EVERY_S
        self._wanted: set[str] = set()

    # --- writing ---

    def is_wanted(self, call_id: str, reason: EndReason) -> bool:
        """Whether the record of a call that ended so is to be written."""
        asked = call_id in self._wanted
        self._wanted.discard(call_id)
        if not self.options.keep_days:
            return False
        match self.options.kept:
            case FlightsKept.ALL:
                return True
            case FlightsKept.ERRORS:
                return asked or reason.result is not Result.SUCCESS
            case FlightsKept.OFF:
                return asked

    def want(self, call_id: str) -> None:
        """Somebody asked for this call's record while it was on: write it at the end, however that comes."""
        self._wanted.add(call_id)

    async def write(self, snapshot: Snapshot, header: FlightHeader, privacy: Privacy) -> bool:
        """Pack and write a record, then tidy up. False = it was not written; the log says why."""
        path = self._path(header.call_id)
        if self._waiting >= MAX_WAITING:
            self.stats.dropped += 1
            get_logger().warning("flight_dropped", call_id=header.call_id, detail=f"{MAX_WAITING} are waiting")
            return False
        self._waiting += 1
        try:
            await self._in_thread(lambda: _write(path, encode_flight(snapshot, header, privacy)))
        except OSError as error:
            self.stats.failed += 1
            get_logger().error("flight_failed", call_id=header.call_id, detail=error.strerror or type(error).__name__)
            return False
        finally:
            self._waiting -= 1
        self.stats.written += 1
        await self.prune()
        return True

    async def pack(self, snapshot: Snapshot, header: FlightHeader, privacy: Privacy) -> bytes:
        """The record of a call in progress, as a file would hold it."""
        return await self._in_thread(lambda: encode_flight(snapshot, header, privacy))

    # --- reading ---

    async def open(self, call_id: str) -> bytes:
        """The record of a call. Raises ``NoFlightError``, ``OSError``."""
        path = self._path(call_id)
        try:
            return await self._in_thread(path.read_bytes)
        except FileNotFoundError:
            raise NoFlightError("there is no flight record of this call") from None

    async def listed(self) -> list[str]:
        """Ids of the calls that have one, the newest first. Raises ``OSError``."""
        found = await self._in_thread(lambda: _files(self.options.folder))
        return [path.name.removesuffix(SUFFIX) for _, _, path in reversed(found)]

    async def delete(self, call_id: str) -> None:
        """Delete a call's record; again is no mistake. Raises ``OSError``."""
        path = self._path(call_id)
        await self._in_thread(lambda: path.unlink(missing_ok=True))

    # --- tidying up ---

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
            get_logger().warning("flights_not_pruned", detail=error.strerror or type(error).__name__)

    async def aclose(self) -> None:
        """Wait for what is being written."""
        await asyncio.to_thread(self._pool.shutdown)

    # --- inside ---

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _path(self, call_id: str) -> Path:
        if not _CALL_ID.fullmatch(call_id):
            raise LocalError("a call's id is 1 to 128 letters, digits, '_' and '-'")
        return self.options.folder / f"{call_id}{SUFFIX}"


def _write(path: Path, data: bytes) -> None:
    """Under its name stands the whole record, or nothing."""
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


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """(time, size, path) of every record, the oldest first."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            if entry.name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):  # another process tidies up as well
                    about = entry.stat(follow_symlinks=False)
                    found.append((about.st_mtime, about.st_size, Path(entry.path)))
    return sorted(found)


def _prune(options: FlightFileOptions, now: float) -> int:
    """Delete what is too old, then the oldest until the rest fits; returns how many went."""
    files = _files(options.folder)
    total_bytes = sum(size for _, size, _ in files)
    gone = 0
    for written_at, size, path in files:
        if written_at >= now - options.keep_days * 86_400 and total_bytes <= options.max_total_bytes:
            break
        path.unlink(missing_ok=True)
        total_bytes -= size
        gone += 1
    for part in options.folder.glob(f"*{SUFFIX}{PART}"):
        with contextlib.suppress(FileNotFoundError):
            if part.stat().st_mtime < now - STALE_PART_S:
                part.unlink()
    return gone
