"""Audio that has to wait for somebody, with a bound: what is oldest goes first, because it helps least."""

from __future__ import annotations

from collections import deque


class Backlog:
    """Payloads in the order they came, of ``limit_bytes`` together at most."""

    __slots__ = ("_limit_bytes", "_payloads", "_size_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._payloads: deque[bytes] = deque()
        self._size_bytes = 0

    def push(self, payload: bytes) -> int:
        """Keep a payload; returns how many bytes of the oldest had to go for it."""
        self._payloads.append(payload)
        self._size_bytes += len(payload)
        dropped_bytes = 0
        while self._size_bytes > self._limit_bytes:
            oldest = self._payloads.popleft()
            self._size_bytes -= len(oldest)
            dropped_bytes += len(oldest)
        return dropped_bytes

    def take(self) -> list[bytes]:
        """Everything that waits; nothing is left."""
        payloads = list(self._payloads)
        self._payloads.clear()
        self._size_bytes = 0
        return payloads
