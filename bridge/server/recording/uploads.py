"""Finished recordings on their way into the bucket.

The folder is the queue: every finished file in it is to be uploaded, so nothing is lost when the process dies. A file
is removed once the bucket has it. While the bucket does not answer, all wait together, with back-off. Several
processes may share the folder; a lock on the file says who uploads it.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import fcntl
import os
import random
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from bridge.server.logs import get_logger
from bridge.server.recording.bucket import BucketError
from bridge.server.recording.names import parse_name

AT_ONCE = 4
"""Uploads at once: enough for a thousand calls a few minutes long, without taking the network from the calls."""
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 300.0
RESCAN_S = 300.0
"""How often the folder is looked through for files that another process has left."""
CLOSE_S = 5.0
"""How long uploads in progress may take to notice that the process stops."""


class Storage(Protocol):
    """What uploads need of a bucket."""

    def upload(self, path: Path, name: str, on_progress: Callable[[int], None]) -> None:
        """Put a file there; see ``Bucket.upload``."""

    def delete(self, name: str) -> None:
        """Remove it."""


class _Outcome(enum.Enum):
    DONE = "done"
    GONE = "gone"
    """Deleted, or another process's."""
    FAILED = "failed"


class _StoppedError(Exception):
    """The process stops; breaks an upload off."""


class Uploader:
    """Uploads what ``add`` names and what the folder holds."""

    def __init__(
        self,
        folder: Path,
        storage: Storage,
        *,
        first_retry_s: float = FIRST_RETRY_S,
        rescan_s: float = RESCAN_S,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.uploaded = 0
        """Files, ever."""
        self.failures = 0
        """Attempts, ever."""
        self._folder = folder
        self._storage = storage
        self._first_retry_s = first_retry_s
        self._rescan_s = rescan_s
        self._jitter = jitter
        self._names: deque[str] = deque()
        self._known: set[str] = set()  # the same names, and those in progress
        self._wake = asyncio.Event()
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(AT_ONCE, "recording-upload")
        self._task: asyncio.Task[None] | None = None
        self._running: list[asyncio.Future[_Outcome]] = []
        self._log: Any = get_logger()

    @property
    def pending(self) -> int:
        """Files that are not in the bucket yet."""
        return len(self._known)

    def start(self) -> None:
        """Begin; needs a running event loop."""
        self._task = asyncio.create_task(self._run())

    def add(self, names: Iterable[str]) -> None:
        """Upload these finished files; those already waiting are left where they are."""
        for name in names:
            if name not in self._known:
                self._known.add(name)
                self._names.append(name)
        if self._names:
            self._wake.set()

    async def close(self) -> None:
        """Stop; what is not uploaded stays in the folder for the next process."""
        self._stopping.set()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._running:
            await asyncio.wait(self._running, timeout=CLOSE_S)
        self._pool.shutdown(wait=False, cancel_futures=True)

    # --- own ---

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        failed_rounds, scanned_s = 0, -self._rescan_s
        while True:
            if loop.time() - scanned_s >= self._rescan_s:
                scanned_s = loop.time()
                self.add(await loop.run_in_executor(self._pool, self._scan))
            if not self._names:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), max(0.0, scanned_s + self._rescan_s - loop.time()))
                continue
            outcomes = await self._upload_some()
            if _Outcome.FAILED not in outcomes or _Outcome.DONE in outcomes:
                failed_rounds = 0
                continue
            delay_s = min(LONGEST_RETRY_S, self._first_retry_s * 2**failed_rounds) * (0.5 + self._jitter() / 2)
            failed_rounds = min(failed_rounds + 1, 30)  # 2**30 is beyond any delay
            self._log.warning("recording_upload_waits", pending=self.pending, retry_s=round(delay_s, 1))
            await asyncio.sleep(delay_s)

    async def _upload_some(self) -> list[_Outcome]:
        """Try the next files, a few at once; those that fail go to the end."""
        loop = asyncio.get_running_loop()
        names = [self._names.popleft() for _ in range(min(AT_ONCE, len(self._names)))]
        self._running = [loop.run_in_executor(self._pool, self._upload, name) for name in names]
        outcomes = await asyncio.gather(*map(asyncio.shield, self._running))
        for name, outcome in zip(names, outcomes, strict=True):
            if outcome is _Outcome.FAILED:
                self.failures += 1
                self._names.append(name)
                continue
            self._known.discard(name)
            self.uploaded += outcome is _Outcome.DONE
        return outcomes

    def _scan(self) -> list[str]:
        """The finished files of the folder, oldest first."""
        with os.scandir(self._folder) as entries:
            found = [(entry.stat().st_mtime, entry.name) for entry in entries if parse_name(entry.name)]
        return [name for _, name in sorted(found)]

    def _upload(self, name: str) -> _Outcome:
        path = self._folder / name
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return _Outcome.GONE
        except OSError as error:
            return self._failed(name, error)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._storage.upload(path, name, self._go_on)
            try:
                path.unlink()
            except FileNotFoundError:  # deleted while it went up: then it must not be in the bucket either
                self._take_back(name)
                return _Outcome.GONE
        except (BlockingIOError, FileNotFoundError):
            return _Outcome.GONE
        except (BucketError, OSError, _StoppedError) as error:
            return self._failed(name, error)
        finally:
            os.close(fd)
        return _Outcome.DONE

    def _take_back(self, name: str) -> None:
        try:
            self._storage.delete(name)
        except BucketError as error:
            self._log.error("recording_not_deleted", recording=name, problem=str(error))

    def _failed(self, name: str, error: Exception) -> _Outcome:
        if not self._stopping.is_set():
            self._log.warning("recording_upload_failed", recording=name, problem=str(error))
        return _Outcome.FAILED

    def _go_on(self, _size: int) -> None:
        if self._stopping.is_set():
            raise _StoppedError
