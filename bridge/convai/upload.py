"""Caller audio on its way to the agent: cut into messages, held with a bound while the socket is stuck."""

from __future__ import annotations

from collections import deque

from bridge.media.format import MediaFormat

MAX_MESSAGE_MS = 250
"""Most audio in one message: what the vendor's own SDK sends (4000 samples at 16 kHz). No limit is published."""

BACKLOG_MS = 3000
"""Audio held while the agent's socket takes nothing. Older audio is dropped first: what was said more than three
seconds ago, on top of what the kernel's buffers hold, no longer helps a conversation."""


class Uploader:
    """Collects caller audio into messages of at least ``chunk_ms`` and gives them out when the socket can take them."""

    def __init__(self, media: MediaFormat, chunk_ms: int) -> None:
        self._media = media
        self._chunk_bytes = media.size_bytes(chunk_ms)
        self._max_bytes = media.size_bytes(MAX_MESSAGE_MS)
        self._backlog_bytes = media.size_bytes(BACKLOG_MS)
        self._partial = bytearray()
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        self.writable = True
        """Whether the socket takes more; the driver's transport says so."""
        self.dropped_bytes = 0
        """Audio that grew too old while the socket was stuck, ever."""

    def push(self, payload: bytes) -> list[bytes]:
        """Take caller audio; returns the payloads of the messages to send now."""
        if not self._partial and self.writable and self._chunk_bytes <= len(payload) <= self._max_bytes:
            return [payload]
        self._partial += payload
        return self._cut(self._chunk_bytes)

    def flush(self) -> list[bytes]:
        """What is left, however short: the stream pauses or ends."""
        return self._cut(1)

    def resume(self) -> list[bytes]:
        """The socket takes more again: everything that was held."""
        self.writable = True
        held = list(self._held)
        self._held.clear()
        self._held_bytes = 0
        return held

    def _cut(self, least_bytes: int) -> list[bytes]:
        pieces = []
        while len(self._partial) >= least_bytes and self._partial:
            pieces.append(bytes(self._partial[: self._max_bytes]))
            del self._partial[: self._max_bytes]
        if self.writable:
            return pieces
        for piece in pieces:
            self._hold(piece)
        return []

    def _hold(self, piece: bytes) -> None:
        self._held.append(piece)
        self._held_bytes += len(piece)
        while self._held_bytes > self._backlog_bytes:
            oldest = self._held.popleft()
            self._held_bytes -= len(oldest)
            self.dropped_bytes += len(oldest)
