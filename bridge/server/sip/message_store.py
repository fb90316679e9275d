"""The SIP messages of calls that are over, as files below ``DATA_DIR/sip``: ``<call id>.sip.json.gz``.

Which calls are kept, and for how long, are the operator's settings; how files are written is the business of
``bridge.server.call_files``. A call that is on has its messages in memory (``bridge.server.sip.message_trail``).
"""

from __future__ import annotations

import asyncio
import enum
import gzip
import io
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from bridge.errors import RemoteError
from bridge.server.call_files import CallFileOptions, CallFiles, CallFileStats
from bridge.sip.message_log import SipTrace

SUFFIX = ".sip.json.gz"
MAX_UNPACKED_BYTES = 8 * 1024 * 1024
"""Of one file; a log of the largest messages has a quarter of it."""


class MessagesKept(enum.Enum):
    """Whose messages are written; the value is the setting's."""

    OFF = "off"
    ERRORS = "errors"
    """Of calls that did not end in success."""
    ALL = "all"


@dataclass(frozen=True, slots=True)
class MessageStoreOptions:
    """The operator's settings."""

    folder: Path
    kept: MessagesKept = MessagesKept.ALL
    keep_days: float = 30.0
    """0 = none is written."""
    max_total_bytes: int = 200_000_000
    """About a hundred thousand calls; the oldest go when there is more."""


class MessageStore:
    """The folder. Built and used in the event loop's thread."""

    def __init__(
        self,
        options: MessageStoreOptions,
        live: Callable[[str], SipTrace | None] = lambda call_id: None,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        """``live`` finds the messages of a call that is on, by our id of it."""
        self.live = live
        self._kept = options.kept
        self._files = CallFiles(_file_options(options), "sip_messages", unix_s)
        self._keeping: dict[str, SipTrace] = {}  # what is being written: nobody finds the call gone meanwhile
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def stats(self) -> CallFileStats:
        """What happened so far."""
        return self._files.stats

    def configure(self, options: MessageStoreOptions) -> None:
        """Go by these settings from now on; the folder stays."""
        self._kept = options.kept
        self._files.options = replace(_file_options(options), folder=self._files.options.folder)

    def put(self, call_id: str, trace: SipTrace, *, failed: bool) -> None:
        """Keep a call's messages if such calls are kept. Returns at once; raises nothing."""
        wanted = self._kept is MessagesKept.ALL or (self._kept is MessagesKept.ERRORS and failed)
        if not wanted:
            return
        self._keeping[call_id] = trace
        self._tasks.add(task := asyncio.get_running_loop().create_task(self._keep(call_id, trace)))
        task.add_done_callback(self._tasks.discard)

    async def trace(self, call_id: str) -> SipTrace:
        """The messages of a call that is on or over. Raises ``NoCallFileError``, ``OSError``, ``RemoteError``."""
        found = self.live(call_id) or self._keeping.get(call_id)
        return decode_trace(await self._files.read(call_id)) if found is None else found

    async def delete(self, call_id: str) -> None:
        """Delete a call's messages; again is no mistake. Raises ``OSError``."""
        await self._files.delete(call_id)

    async def prune(self) -> None:
        """Delete what is too old or too much, now."""
        await self._files.prune(at_once=True)

    async def aclose(self) -> None:
        """Wait for what is being written."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._files.aclose()

    async def _keep(self, call_id: str, trace: SipTrace) -> None:
        await self._files.write(call_id, lambda: encode_trace(trace))
        if self._keeping.get(call_id) is trace:
            del self._keeping[call_id]


def encode_trace(trace: SipTrace) -> bytes:
    """A trace as its file has it."""
    return gzip.compress(msgspec.json.encode(trace), compresslevel=6, mtime=0)


def decode_trace(data: bytes) -> SipTrace:
    """A trace from its file. Raises ``RemoteError`` if that is damaged, or not a trace."""
    try:
        with gzip.open(io.BytesIO(data)) as file:
            unpacked = file.read(MAX_UNPACKED_BYTES + 1)
        if len(unpacked) <= MAX_UNPACKED_BYTES:
            return msgspec.json.decode(unpacked, type=SipTrace)
    except (OSError, EOFError, zlib.error, msgspec.DecodeError, UnicodeError):
        pass
    raise RemoteError("the file of SIP messages is damaged")


def _file_options(options: MessageStoreOptions) -> CallFileOptions:
    return CallFileOptions(options.folder, SUFFIX, options.keep_days, options.max_total_bytes)
