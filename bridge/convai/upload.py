"""Caller audio on its way to the agent: cut into messages, held with a bound while the socket is stuck."""

from __future__ import annotations

from functools import lru_cache

from bridge.media.backlog import Backlog
from bridge.media.format import MediaFormat

MAX_MESSAGE_MS = 250
"""Most audio in one message: what the vendor's own SDK sends (4000 samples at 16 kHz). No limit is published."""

BACKLOG_MS = 3000
"""Audio held while the agent's socket takes nothing. Older audio is dropped first: what was said more than three
seconds ago, on top of what the kernel's buffers hold, no longer helps a conversation."""


NO_SIZES = range(0)
"""No payload can go as it is."""


@lru_cache(maxsize=64)
def _sizes(least: int, most: int) -> range:
    """One object for all calls: what every call touches 50 times a second had better be in the processor's cache."""
    return range(least, most + 1)


class Uploader:
    """Collects caller audio into messages of at least ``chunk_ms`` and gives them out when the socket can take them."""

    __slots__ = (
        "_held",
        "_media",
        "_partial",
        "_whole",
        "_writable",
        "chunk_bytes",
        "direct_sizes",
        "dropped_bytes",
        "max_bytes",
    )

    def __init__(self, media: MediaFormat, chunk_ms: int) -> None:
        self._media = media
        self.chunk_bytes = media.size_bytes(chunk_ms)
        """Least audio in one message."""
        self.max_bytes = media.size_bytes(MAX_MESSAGE_MS)
        """Most audio in one message."""
        self._partial = bytearray()
        self._held = Backlog(media.size_bytes(BACKLOG_MS))
        self._writable = True  # the driver's transport says so
        self._whole = _sizes(self.chunk_bytes, self.max_bytes)
        self.direct_sizes = self._whole
        """Sizes of payloads that can be messages as they are, without ``push``: none while something is collected or
        the socket takes nothing. A range, because asking it is one operation on the media path."""
        self.dropped_bytes = 0
        """Audio that grew too old while the socket was stuck, ever."""

    def push(self, payload: bytes) -> list[bytes]:
        """Take caller audio; returns the payloads of the messages to send now."""
        self._partial += payload
        return self._cut(self.chunk_bytes)

    def flush(self) -> list[bytes]:
        """What is left, however short: the stream pauses or ends."""
        return self._cut(1)

    def pause(self) -> None:
        """The socket takes nothing."""
        self._writable = False
        self.direct_sizes = NO_SIZES

    def resume(self) -> list[bytes]:
        """The socket takes more again: everything that was held."""
        self._writable = True
        self.direct_sizes = NO_SIZES if self._partial else self._whole
        return self._held.take()

    def _cut(self, least_bytes: int) -> list[bytes]:
        pieces = []
        while len(self._partial) >= least_bytes and self._partial:
            pieces.append(bytes(self._partial[: self.max_bytes]))
            del self._partial[: self.max_bytes]
        self.direct_sizes = self._whole if self._writable and not self._partial else NO_SIZES
        if self._writable:
            return pieces
        for piece in pieces:
            self.dropped_bytes += self._held.push(piece)
        return []
