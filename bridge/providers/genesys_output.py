"""How much goes out to Genesys and when: rate budgets, coalesced audio, and what the caller has heard of it.

Source: the limits of the Audio Connector as the service states them in its error 429 (average 5 messages a second and
25 at once, for text and for binary messages each), its 64,000 bytes a message, and ``playback_started`` and
``playback_completed`` of the protocol. Breaking the limits ends the session.

Theory of operation: audio is gathered and leaves in messages as large as latency allows. While Genesys has nothing to
play the first piece leaves as soon as it is worth a message; after that a piece waits until it is long enough or
Genesys is about to run dry. "Long enough" depends on what the budget holds: many short turns, or an agent that
trickles in 20 ms frames, meet longer pieces rather than an empty budget. The budget here is a little tighter than
Genesys', which counts when messages arrive: a network that holds some back delivers them together.

A virtual playhead (``_dry_at_s``, on an absolute clock) says when Genesys can have played all that was sent, at the
earliest. ``playback_completed`` proves what was played, as far as the playhead allows: one that crosses with new audio
on the wire speaks of the old audio only. Where it does not come at all, the clock has the last word.

Sans-I/O: ``now`` is seconds on a monotonic clock. Audio is PCMU at 8 kHz mono: a byte is a sample.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from bridge.providers.genesys_media import SAMPLE_RATE_HZ

RATE_PER_S = 4.0
"""Messages a second in the long run; Genesys allows 5."""
BURST = 20.0
"""Messages at once; Genesys allows 25, and five may be bunched by the network."""

_BYTES_PER_MS = SAMPLE_RATE_HZ // 1000
FIRST_MIN_BYTES = 100 * _BYTES_PER_MS
"""What is worth a message while nothing plays: agents send 100 ms and more."""
IDLE_S = 0.100
"""After so long with nothing to play ``FIRST_MIN_BYTES`` is enough. An agent that speaks in real time runs Genesys dry
with every message at first; these 100 ms, once, are what makes the next messages long."""
FIRST_MAX_BYTES = 200 * _BYTES_PER_MS
"""The first message after Genesys was idle is small, so that it is there soon."""
URGENT_MIN_BYTES = 200 * _BYTES_PER_MS
"""What is worth a message when Genesys is about to run dry."""
CHUNK_MIN_BYTES = 400 * _BYTES_PER_MS
"""What is worth a message at any time."""
CHUNK_MAX_BYTES = 1000 * _BYTES_PER_MS
"""The longest message while the budget is well filled."""
URGENT_S = 0.120
"""How long before Genesys runs dry its next audio leaves: a network's way and its jitter."""
QUIET_S = 0.060
"""An agent that sent nothing for so long has paused: what there is leaves, however short."""
TAIL_S = 0.200
"""Audio that comes so long after the last, while Genesys still plays, is the end of an answer that the call let go at
the last moment: nothing follows, so it does not wait for more."""
SCARCE = 8.0
"""Messages left in the budget below which only long or urgent ones leave, with all there is in one."""

MAX_PENDING_BYTES = 30_000 * _BYTES_PER_MS
"""Audio held here at most, 30 s: it only grows while Genesys has paused the session or told us to wait."""
MAX_BACK_OFF_S = 30.0
"""Longest wait that is obeyed; nobody stays on a silent line for longer."""

CLOCK_TOLERANCE_S = 0.020
"""How much sooner than by our clock Genesys may be done: two clocks that differ by 100 ppm, over three minutes."""
MAX_DELAY_S = 2.0
"""Longest time between sending and playing that is believed."""
BACKSTOP_S = 0.500
"""How long after the audio should be over ``playback_completed`` is waited for: a network's round trip, and less than
the second that a call waits for the end of its good-bye."""

_TOLERANCE_S = 1e-6
"""A timer that fires exactly on time must not find itself too early by a rounding error."""


class TokenBucket:
    """A budget of messages: ``BURST`` at once, ``RATE_PER_S`` in the long run."""

    __slots__ = ("_at_s", "_tokens")

    def __init__(self, now: float) -> None:
        self._tokens = BURST
        self._at_s = now

    def level(self, now: float) -> float:
        """Messages that may leave now."""
        if now > self._at_s:
            self._tokens = min(BURST, self._tokens + (now - self._at_s) * RATE_PER_S)
            self._at_s = now
        return self._tokens

    def take(self, now: float, reserve: float = 0.0) -> bool:
        """Take one message's worth if at least ``reserve`` is left after it."""
        if self.level(now) + _TOLERANCE_S < 1.0 + reserve:
            return False
        self._tokens -= 1.0
        return True

    def empty(self, now: float) -> None:
        """Begin from nothing: whoever counts at the other end counts otherwise."""
        self._tokens, self._at_s = 0.0, now

    def ready_at(self, reserve: float = 0.0) -> float:
        """When ``take`` will succeed, if nothing else is taken."""
        return self._at_s + max(0.0, 1.0 + reserve - self._tokens) / RATE_PER_S


@dataclass(frozen=True, slots=True)
class _Mark:
    name: str
    position: int
    """Bytes of audio before it, ever."""
    set_at_s: float


class AudioOutput:
    """One session's audio on its way to Genesys. Call ``take`` after ``write`` and when ``send_timer`` is due."""

    __slots__ = (
        "_back_off_until_s",
        "_bucket",
        "_confirmed",
        "_delay_s",
        "_dry_at_s",
        "_marks",
        "_max_message_bytes",
        "_pending",
        "_quiet_at_s",
        "_scarce",
        "_sent",
        "_spurt_at_s",
        "_spurt_base",
        "_started",
        "_written_at_s",
        "dropped_bytes",
    )

    def __init__(self, max_message_bytes: int, now: float) -> None:
        """Send at most ``max_message_bytes`` of mono audio in one message."""
        self._max_message_bytes = max_message_bytes
        self._bucket = TokenBucket(now)
        self._scarce = False  # as it was when audio last came or left, so that the timer can be told in advance
        self._back_off_until_s = -math.inf
        self._pending = bytearray()
        self._written_at_s = -math.inf
        self._quiet_at_s = -math.inf  # when what was written last has waited long enough for more
        self._sent = 0
        self._confirmed = 0  # of ``_sent``: played, or thrown away
        self._dry_at_s = -math.inf
        self._spurt_base = 0  # ``_sent`` when Genesys last began to play after silence
        self._spurt_at_s = -math.inf
        self._started = True  # whether Genesys has said that it plays this talkspurt
        self._delay_s = 0.0  # between sending and playing, as seen at the last ``playback_started``
        self._marks: deque[_Mark] = deque()
        self.dropped_bytes = 0
        """Audio that did not fit, ever."""

    # --- in ---

    def write(self, payload: bytes, now: float) -> None:
        """Queue audio."""
        if len(self._pending) + len(payload) > MAX_PENDING_BYTES:
            self.dropped_bytes += len(payload)
            return
        self._pending += payload
        is_tail = now < self._dry_at_s and now > self._written_at_s + TAIL_S
        self._quiet_at_s = now if is_tail else now + QUIET_S
        self._written_at_s = now
        self._scarce = self._bucket.level(now) < SCARCE

    def mark(self, name: str, now: float) -> None:
        """Set a mark behind everything queued; it comes back from ``playback_completed`` or ``overdue``."""
        self._marks.append(_Mark(name, self._sent + len(self._pending), now))

    def flush(self, now: float) -> tuple[bool, list[str]]:
        """Forget everything: (whether Genesys may still hold audio, the marks that were pending)."""
        holds = self._sent > self._confirmed and now < self._dry_at_s + self._delay_s + BACKSTOP_S
        names = [mark.name for mark in self._marks]
        self._marks.clear()
        self._pending.clear()
        self._confirmed = self._spurt_base = self._sent
        self._dry_at_s = now
        return holds, names

    def back_off(self, until_s: float, now: float) -> None:
        """Genesys says that it gets too much: send no audio until then."""
        self._back_off_until_s = min(until_s, now + MAX_BACK_OFF_S)
        self._bucket.empty(now)

    # --- out ---

    def take(self, now: float) -> list[bytes]:
        """The messages that must leave now."""
        out: list[bytes] = []
        while self._pending and now + _TOLERANCE_S >= self.send_timer():
            size = self._next_size(now)
            out.append(bytes(self._pending[:size]))
            del self._pending[:size]
            self._bucket.take(now)
            self._scarce = self._bucket.level(now) < SCARCE
            if self._dry_at_s <= now:
                self._spurt_base, self._spurt_at_s, self._started = self._sent, now, False
                self._dry_at_s = now
            self._dry_at_s += size / SAMPLE_RATE_HZ
            self._sent += size
        return out

    def send_timer(self) -> float:
        """When ``take`` has something if nothing more is written; ``-inf`` = at once, ``inf`` = never."""
        size = len(self._pending)
        if not size:
            return math.inf
        urgent_at_s = self._dry_at_s - URGENT_S
        paused_at_s = max(urgent_at_s, self._quiet_at_s)
        if size >= (CHUNK_MAX_BYTES if self._scarce else CHUNK_MIN_BYTES):
            at_s = -math.inf
        elif size >= (CHUNK_MIN_BYTES if self._scarce else URGENT_MIN_BYTES):
            at_s = urgent_at_s
        elif size >= FIRST_MIN_BYTES and not self._scarce:
            at_s = min(self._dry_at_s + IDLE_S, paused_at_s)
        else:
            at_s = paused_at_s
        return max(at_s, self._bucket.ready_at(), self._back_off_until_s)

    def _next_size(self, now: float) -> int:
        most = self._max_message_bytes
        if not self._scarce:
            most = min(most, FIRST_MAX_BYTES if now > self._dry_at_s + IDLE_S else CHUNK_MAX_BYTES)
        return min(len(self._pending), most)

    # --- what was heard ---

    def playback_started(self, now: float) -> None:
        """Genesys began to play after silence."""
        if not self._started:
            self._started = True
            self._delay_s = min(now - self._spurt_at_s, MAX_DELAY_S)

    def playback_completed(self, now: float) -> list[str]:
        """Genesys has nothing more to play; returns the marks that this proves."""
        all_played = now >= self._dry_at_s - CLOCK_TOLERANCE_S
        self._confirmed = max(self._confirmed, self._sent if all_played else self._spurt_base)
        return self._reached()

    def mark_timer(self) -> float:
        """When ``overdue`` has something, by the clock alone."""
        if not self._marks or self._marks[0].position > self._sent:
            return math.inf
        mark = self._marks[0]
        if mark.position <= self._confirmed:
            return mark.set_at_s
        played_at_s = self._dry_at_s - (self._sent - mark.position) / SAMPLE_RATE_HZ
        return max(mark.set_at_s, played_at_s + self._delay_s + BACKSTOP_S)

    def overdue(self, now: float) -> list[str]:
        """Marks whose audio must be over by now, whatever Genesys says or does not say."""
        names: list[str] = []
        while now + _TOLERANCE_S >= self.mark_timer():
            mark = self._marks.popleft()
            self._confirmed = max(self._confirmed, mark.position)
            names.append(mark.name)
        return names

    def _reached(self) -> list[str]:
        names: list[str] = []
        while self._marks and self._marks[0].position <= self._confirmed:
            names.append(self._marks.popleft().name)
        return names
