"""One turn of the simulated agent: its audio, cut into chunks that fall due faster than real time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from bridge.media.format import MediaFormat
from bridge.simulators.agent_scenarios import ENDLESS_MS, Say
from bridge.simulators.speech import load_clip, tone

ODD_SIZES_BYTES = (1, 2, 3, 5, 7, 11, 101, 331, 997, 1, 1999)
"""Chunk sizes of ``odd_chunks``, over and over: 1 and primes, so that 20 ms frames and 16-bit samples are cut."""

_STALE_DELAYS_S = (0.0, 0.06, 0.15)
"""When the parts of stale audio go out after an interruption: at once, and when everything seems settled."""


class Turn:
    """The audio of one ``Say``, chunk by chunk."""

    def __init__(self, say: Say, event_id: int, media: MediaFormat, chunk_ms: int, speed: float, now: float) -> None:
        self.event_id = event_id
        self.text = say.text
        self.next_due_s = now
        """When the next chunk is to be sent; inf when none is left."""
        self.sent_ms = 0.0
        """Audio handed out by ``take``."""
        self._media = media
        # An endless turn all at once would never return.
        self._speed = max(speed, 1.0) if say.duration_ms == ENDLESS_MS else speed
        self._first = True
        self._longest = b""
        if say.clip or say.duration_ms != ENDLESS_MS:
            payload = load_clip(say.clip, media) if say.clip else tone(say.tone_hz, media, say.duration_ms)
            self.total_ms = media.duration_ms(len(payload))
            sizes = ODD_SIZES_BYTES if say.odd_chunks else (media.size_bytes(chunk_ms),)
            self._chunks = _cut(payload, sizes)
        else:
            self.total_ms = math.inf
            self._chunks = _endless(say.tone_hz, media, chunk_ms)
        self._ahead = next(self._chunks, b"")
        if not self._ahead:
            self.next_due_s = math.inf

    @property
    def exhausted(self) -> bool:
        """Whether all audio was handed out."""
        return not self._ahead

    def take(self, now: float) -> list[bytes]:
        """Chunks that are due."""
        chunks = []
        while self._ahead and self.next_due_s <= now:
            chunks.append(self._ahead)
            self._longest = max(self._longest, self._ahead, key=len)
            length_ms = self._media.duration_ms(len(self._ahead))
            self.sent_ms += length_ms
            if self._speed:
                self.next_due_s += length_ms / 1000 / self._speed
            self._ahead = next(self._chunks, b"")
        if not self._ahead:
            self.next_due_s = math.inf
        return chunks

    def cut_off(self, stale_ms: float, now: float) -> list[tuple[float, bytes]]:
        """End the turn. Returns ``stale_ms`` of its audio, each chunk with the time when it wrongly goes out still.

        The longest chunk is repeated where the turn has too little left.
        """
        rest = itertools.chain((self._ahead,), self._chunks) if self._ahead else iter(())
        chunks: list[bytes] = []
        length_ms = 0.0
        while length_ms < stale_ms:
            chunk = next(rest, b"") or self._longest
            if not chunk:
                break
            chunks.append(chunk)
            length_ms += self._media.duration_ms(len(chunk))
        self._ahead, self._chunks, self.next_due_s = b"", iter(()), math.inf
        parts = len(_STALE_DELAYS_S)
        return [(now + _STALE_DELAYS_S[index * parts // len(chunks)], chunk) for index, chunk in enumerate(chunks)]

    def heard_text(self, unheard_ms: float) -> str:
        """The words that were heard when ``unheard_ms`` of what was sent had not been played yet."""
        words = self.text.split(" ")
        share = max(self.sent_ms - unheard_ms, 0.0) / self.total_ms if self.total_ms else 0.0
        return " ".join(words[: int(len(words) * share)])


def _cut(payload: bytes, sizes: tuple[int, ...]) -> Iterator[bytes]:
    start = 0
    for size in itertools.cycle(sizes):
        if start >= len(payload):
            return
        yield payload[start : start + size]
        start += size


def _endless(hz: float, media: MediaFormat, chunk_ms: int) -> Iterator[bytes]:
    samples = media.samples(media.size_bytes(chunk_ms))
    for index in itertools.count():
        yield tone(hz, media, chunk_ms, index * samples)
