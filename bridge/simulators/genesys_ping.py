"""When an AudioHook client pings, and what it makes of the pongs.

Source: AudioHook protocol reference, "Ping"; the reference client: first ping a second after ``opened``, the second
as soon as the first is answered (so that the server learns the round trip), then every five seconds.
"""

from __future__ import annotations

import math

FIRST_PING_S, PING_INTERVAL_S = 1.0, 5.0


class Pinger:
    """The pings of one session. ``due`` says when; whoever sends tells it with ``sent`` and ``pong``."""

    def __init__(self, opened_s: float, pong_timeout_s: float) -> None:
        self.rtts_s: list[float] = []
        """Round trips, in order."""
        self._timeout_s = pong_timeout_s
        self._due_s = opened_s + FIRST_PING_S
        self._interval_from_s: float | None = None
        self._pending: tuple[int, float] | None = None
        """Sequence number of the ping that waits for its pong, and when it went out."""

    @property
    def rtt_s(self) -> float | None:
        """The last round trip, for the next ping; None = not known yet."""
        return self.rtts_s[-1] if self.rtts_s else None

    def next_timer(self) -> float:
        """When ``overdue`` or ``due`` changes next."""
        return self._pending[1] + self._timeout_s if self._pending else self._due_s

    def due(self, now: float) -> bool:
        """Whether a ping is to go out now."""
        return self._pending is None and self._due_s <= now

    def overdue(self, now: float) -> bool:
        """Whether a pong is missing for too long."""
        return self._pending is not None and self._pending[1] + self._timeout_s <= now

    def sent(self, seq: int, now: float) -> None:
        """A ping went out with this sequence number."""
        self._pending = (seq, now)
        if self._interval_from_s is None:
            self._interval_from_s = now
        passed = math.floor((now - self._interval_from_s) / PING_INTERVAL_S + 1e-9)
        self._due_s = self._interval_from_s + (passed + 1) * PING_INTERVAL_S

    def pong(self, clientseq: int, now: float) -> tuple[int, str] | None:
        """A pong came. Returns code and text of the error that it is; None = it is right."""
        if self._pending is None:
            return 409, "Unexpected 'pong' (no outstanding 'ping')"
        seq, sent_s = self._pending
        if clientseq != seq:
            return 400, f"The clientseq {clientseq} of the 'pong' does not match the seq {seq} of its 'ping'"
        self._pending = None
        self.rtts_s.append(now - sent_s)
        if len(self.rtts_s) == 1:
            self._due_s = now
        return None
