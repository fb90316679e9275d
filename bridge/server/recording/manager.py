"""All recordings of one process: tapes in, files out.

Theory of operation
-------------------
A call's tape is filled within the media path and never does more there than append. Once a second each tape is
emptied into its file by a worker thread: the calls are dealt into ``SLICES``, and every tenth of a second one slice is
written, so that the work is spread rather than done in one go. What a crash takes is thus the last second, the
``SETTLE_S`` by which a tape is taken late, and what an MP3 encoder holds: less than 2 s together.

A recording that fails (a full disk, a broken one) never touches its call: it ends there, what was written stays valid,
and it is marked, counted and logged. While free space is below the floor nothing is recorded at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from bridge.calls.record import Recording
from bridge.calls.recording import SETTLE_S, StereoTape
from bridge.errors import ConfigError, LocalError
from bridge.media.format import MediaFormat
from bridge.server.logs import get_logger
from bridge.server.recording.bucket import Bucket
from bridge.server.recording.encoders import load_lame, new_encoder
from bridge.server.recording.files import GrowingFile, Write, recover
from bridge.server.recording.library import AudioLibrary
from bridge.server.recording.names import file_name
from bridge.server.recording.options import RecordingOptions
from bridge.server.recording.uploads import Uploader

_T = TypeVar("_T")

PERIOD_S = 1.0
"""How often each tape is written."""
SLICES = 10
"""In how many portions, spread over the period."""
CLOSERS = 4
"""Threads that end recordings: each waits for the disk (fsync), which must not hold up those that write."""


@dataclass(slots=True)
class RecorderStats:
    """What happened so far, for metrics."""

    started: int = 0
    finished: int = 0
    """All that ended, incomplete ones included."""
    incomplete: int = 0
    """Those that hold less than their call: disk full, disk too slow, longer than the longest."""
    recovered: int = 0
    """Completed for a process that died."""
    written_bytes: int = 0
    """Of finished files."""
    dropped_bytes: int = 0
    """Call audio that waited too long for the disk."""
    round_s: float = 0.0
    """How long it took lately to write all tapes once; well over a second means that the threads are not enough."""


class CallTape(StereoTape):
    """The tape of a call that is recorded, and the file it goes to. Its methods cost microseconds."""

    __slots__ = ("call_id", "failure", "file", "lock", "name", "written_s")

    def __init__(self, call_id: str, name: str, media: MediaFormat, started_s: float) -> None:
        super().__init__(media, started_s)
        self.call_id = call_id
        self.name = name
        self.file: GrowingFile | None = None
        """Made by the worker, with the first audio."""
        self.failure = ""
        """Why recording ended before the call; the worker sets it."""
        self.written_s = 0.0
        """How much is in the file."""
        self.lock = threading.Lock()
        """Of the workers: one at a time has the tape."""


class Recorder:
    """Records calls. Create it, ``open`` it in the running event loop, ``recover``, and ``close`` it at the end."""

    def __init__(
        self, options: RecordingOptions, clock: Callable[[], float] = monotonic, *, write: Write = os.write
    ) -> None:
        """``clock`` is the one that ``now`` is read from. Raises ``ConfigError`` for what cannot work."""
        self.stats = RecorderStats()
        bucket = Bucket(options.s3) if options.s3 else None
        self.audio = AudioLibrary(options.folder, bucket)
        """Reads and deletes what was recorded."""
        self._options = options
        self._clock = clock
        self._write_call = write
        self._bucket = bucket
        self._uploader = Uploader(options.folder, bucket) if bucket else None
        self._tapes: list[dict[str, CallTape]] = [{} for _ in range(SLICES)]
        self._has_space = True
        self._pool = ThreadPoolExecutor(options.threads, "recorder")
        self._closers = ThreadPoolExecutor(CLOSERS, "recorder-end")
        self._task: asyncio.Task[None] | None = None
        self._log: Any = get_logger()

    @property
    def active(self) -> int:
        """Calls being recorded."""
        return sum(map(len, self._tapes))

    @property
    def uploads(self) -> Uploader | None:
        """The uploader, where there is a bucket: its counters are for metrics."""
        return self._uploader

    # --- life ---

    async def open(self) -> None:
        """Make the folder and begin. Raises ``ConfigError`` if it cannot be written, or MP3 not made."""
        if self._options.format == "mp3":
            load_lame()
        await self._run_in_pool(self._prepare_folder)
        self._has_space = await self._run_in_pool(self._look_for_space)
        if not self._has_space:
            self._log_space()
        if self._uploader is not None:
            self._uploader.start()
        self._task = asyncio.create_task(self._run())

    async def recover(self) -> list[tuple[str, Recording]]:
        """Complete what dead processes left: (call id, its recording), to be put into their records."""
        found, failed = await self._run_in_pool(partial(recover, self._options.folder))
        for name in failed:
            self._log.error("recording_not_recovered", recording=name)
        for _, recording in found:
            recording.location = self._located(recording.location)
        self.stats.recovered += len(found)
        self.stats.incomplete += len(found)
        if found:
            self._log.warning("recordings_recovered", count=len(found))
        self._upload([recording.location.rpartition("/")[2] for _, recording in found])
        return found

    async def close(self) -> None:
        """Finish every recording and stop; uploads go on in the next process."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.gather(*(self.finish(call_id) for tapes in self._tapes for call_id in tuple(tapes)))
        if self._uploader is not None:
            await self._uploader.close()
        self._pool.shutdown(wait=False)
        self._closers.shutdown(wait=False)
        if self._bucket is not None:
            self._bucket.close()

    # --- calls ---

    def start(self, call_id: str, media: MediaFormat, now: float) -> CallTape:
        """Record a call from now on. Returns at once; the file is made by a worker.

        Raises ``LocalError`` for an id that is no plain word, or that is being recorded.
        """
        tape = CallTape(call_id, file_name(call_id, self._options.format), media, now)
        if any(call_id in tapes for tapes in self._tapes):
            raise LocalError("this call is being recorded already")
        min(self._tapes, key=len)[call_id] = tape
        self.stats.started += 1
        if not self._has_space:
            self._fail(tape, "too little free space")
        return tape

    def recording_of(self, tape: CallTape) -> Recording:
        """What the record says while the call lasts: where the audio will be, and the pauses so far."""
        pauses = [(begin, end) for begin, end in tape.pauses if math.isfinite(end)]
        return Recording(location=self._located(tape.name), format=self._options.format, pauses=pauses)

    async def finish(self, call_id: str) -> Recording:
        """End a call's recording: the rest is written, the file gets its name, its upload begins.

        Takes ``finish_timeout_s`` at most; a disk that is slower leaves the recording marked incomplete. Raises
        ``LocalError`` for a call that is not being recorded.
        """
        tape = next((tapes.pop(call_id) for tapes in self._tapes if call_id in tapes), None)
        if tape is None:
            raise LocalError("this call is not being recorded")
        tape.finish(self._clock())
        job = asyncio.get_running_loop().run_in_executor(self._closers, self._end, tape)
        job.add_done_callback(lambda done: self._ended(tape, done))
        recording = self.recording_of(tape)
        try:
            recording.size_bytes = await asyncio.wait_for(asyncio.shield(job), self._options.finish_timeout_s)
        except TimeoutError:
            tape.failure = tape.failure or "the disk did not take the end in time"
        recording.duration_ms = round(tape.written_s * 1000)
        recording.complete = not tape.failure and not tape.dropped_bytes
        self.stats.finished += 1
        self.stats.written_bytes += recording.size_bytes
        self.stats.dropped_bytes += tape.dropped_bytes
        if not recording.complete:
            self.stats.incomplete += 1
            problem = tape.failure or "the disk was too slow for the call's audio"
            self._log.error("recording_incomplete", call_id=call_id, problem=problem, dropped_bytes=tape.dropped_bytes)
        return recording

    # --- the background ---

    async def _run(self) -> None:
        while True:
            try:
                await self._round()
            except Exception:  # a bug of ours must not end all recordings for good
                self._log.exception("recording_bug")
                await asyncio.sleep(PERIOD_S)

    async def _round(self) -> None:
        """Write every tape once, evenly over the period."""
        began_s = next_s = self._clock()
        for tapes in self._tapes:
            next_s += PERIOD_S / SLICES
            await asyncio.sleep(next_s - self._clock())
            await self._write_some(list(tapes.values()))
        self.stats.round_s = self._clock() - began_s
        had_space, self._has_space = self._has_space, await self._run_in_pool(self._look_for_space)
        if had_space != self._has_space:
            self._log_space()
        if not self._has_space:
            for tape in (tape for tapes in self._tapes for tape in tapes.values()):
                self._fail(tape, "too little free space")

    async def _write_some(self, tapes: list[CallTape]) -> None:
        """Write these tapes, in as many threads as there are."""
        until_s = self._clock() - SETTLE_S
        shares = [tapes[number :: self._options.threads] for number in range(self._options.threads)]
        jobs = [self._run_in_pool(partial(self._write_each, share, until_s)) for share in shares if share]
        await asyncio.gather(*jobs)
        for tape in tapes:
            if tape.failure:
                self._fail(tape, tape.failure)

    def _fail(self, tape: CallTape, problem: str) -> None:
        """Recording ends here, before the call does; said once."""
        if not tape.is_finished:
            tape.failure = tape.failure or problem
            tape.finish(self._clock())
            self._log.error("recording_stopped", call_id=tape.call_id, problem=tape.failure)

    def _upload(self, names: list[str]) -> None:
        if self._uploader is not None:
            self._uploader.add(names)

    def _located(self, name: str) -> str:
        return self._bucket.location(name) if self._bucket else name

    async def _run_in_pool(self, job: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, job)

    def _ended(self, tape: CallTape, job: asyncio.Future[int]) -> None:
        """The file has its name, perhaps long after ``finish`` gave up on it."""
        if not job.cancelled() and job.exception() is None and job.result():
            self._upload([tape.name])

    def _log_space(self) -> None:
        if self._has_space:
            self._log.info("recording_space_again")
        else:
            self._log.error("recording_space_low", min_free_bytes=self._options.min_free_bytes)

    # --- in the threads ---

    def _prepare_folder(self) -> None:
        folder = self._options.folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(13, "not writable")
        except OSError as error:
            raise ConfigError(f"the folder for recordings cannot be used: {error.strerror}: {folder}") from None

    def _look_for_space(self) -> bool:
        """Whether there is more free space than the floor; unknown counts as yes, writing will tell."""
        try:
            found = os.statvfs(self._options.folder)
        except OSError:
            return True
        return found.f_bavail * found.f_frsize >= self._options.min_free_bytes

    def _write_each(self, tapes: list[CallTape], until_s: float) -> None:
        for tape in tapes:
            with tape.lock:
                self._write(tape, until_s)

    def _write(self, tape: CallTape, until_s: float) -> None:
        """Move what the tape has until then to the file; a failure is left in ``tape.failure``."""
        if tape.failure:
            return
        try:
            while block := tape.take(until_s):
                if tape.file is None:
                    encoder = new_encoder(self._options.format, tape.format.rate_hz)
                    tape.file = GrowingFile(self._options.folder / tape.name, encoder, self._write_call)
                tape.file.append(block)
                tape.written_s = tape.taken_s
                if tape.written_s >= self._options.longest_s:
                    tape.failure = "longer than the longest recording"
                    return
        except OSError as error:
            tape.failure = error.strerror or type(error).__name__
        except Exception as error:  # a bug of ours must not take the other recordings along
            tape.failure = f"bug: {type(error).__name__}"
            self._log.exception("recording_bug", call_id=tape.call_id)

    def _end(self, tape: CallTape) -> int:
        """Write the rest and close the file; returns its size."""
        with tape.lock:
            self._write(tape, math.inf)
            if tape.file is None:
                return 0
            try:
                return tape.file.end(flush=not tape.failure)
            except OSError as error:
                tape.failure = tape.failure or error.strerror or type(error).__name__
            except Exception as error:
                tape.failure = f"bug: {type(error).__name__}"
                self._log.exception("recording_bug", call_id=tape.call_id)
            return 0
