"""Everything that goes out in one Genesys session: text and audio within their budgets, in the right order.

It numbers the messages as they leave, keeps room in the text budget for what must not wait, and sends no audio while
it may not: before ``opened``, while Genesys has paused the session, while a ``barge_in`` waits for the budget (or
Genesys would throw the new answer away with the old one), after the end. What it does not know is the protocol's
states; the leg does.
"""

from __future__ import annotations

import math
from collections import deque

from bridge.leg import CloseSocket, Outgoing
from bridge.providers import genesys_messages as wire
from bridge.providers.genesys_media import Channels
from bridge.providers.genesys_output import AudioOutput, TokenBucket

BARGE_IN_RESERVE = 4.0
"""Text messages that an interruption leaves in the budget for pongs."""
UPDATED_RESERVE = 8.0
"""Text messages that ``updated``, which nobody waits for, leaves in the budget."""
MAX_OWED = 32
"""Text messages that wait for the budget; only a flood of pings makes so many, and then pongs are left out."""


class Sender:
    """The outgoing half of a session. Give ``drain`` to the socket after every call."""

    __slots__ = (
        "_audio",
        "_barge_in_owed",
        "_channels",
        "_encoder",
        "_flushed",
        "_flushed_s",
        "_may_speak",
        "_out",
        "_owed",
        "_texts",
        "client_seq",
        "paused",
    )

    def __init__(self, session_id: str, now: float) -> None:
        self._encoder = wire.Encoder(session_id)
        self._channels = Channels(1, 0)
        self._audio = AudioOutput(wire.MAX_OUT_BYTES, now)
        self._texts = TokenBucket(now)
        self._owed: deque[tuple[str, str, int]] = deque()  # type, parameters, clientseq: waiting for the budget
        self._barge_in_owed = False
        self._may_speak = False
        self._flushed: list[str] = []  # marks that a flush settled; reported by the timer
        self._flushed_s = math.inf
        self._out: list[Outgoing] = []
        self.client_seq = 0
        """The last message seen from Genesys."""
        self.paused = False
        """Whether Genesys has paused the session."""

    def drain(self) -> list[Outgoing]:
        """Take everything that must go out now, in order."""
        out, self._out = self._out, []
        return out

    # --- text ---

    def name_session(self, session_id: str) -> None:
        """Write this id, as ``open`` has it, from now on; before the first message."""
        self._encoder = wire.Encoder(session_id)

    def say(self, kind: str, parameters: str, now: float) -> None:
        """Send a text message, as soon as the budget allows."""
        if not self._owed and self._texts.take(now):
            self._write(kind, parameters, self.client_seq)
        else:
            self._owed.append((kind, parameters, self.client_seq))

    def pong(self, now: float) -> None:
        """Answer the ping that came last."""
        if len(self._owed) < MAX_OWED:
            self.say("pong", wire.NO_PARAMETERS, now)

    def updated(self, now: float) -> None:
        """Confirm an update, if the budget is rich: no client waits for it."""
        if self._texts.take(now, UPDATED_RESERVE):
            self._write("updated", wire.NO_PARAMETERS, self.client_seq)

    def close(self, reason: str) -> None:
        """Close the socket after what was sent before."""
        self._out.append(CloseSocket(1000, reason))

    # --- audio ---

    def begin_audio(self, channels: Channels, now: float) -> None:
        """From now on audio may go out, in these channels."""
        self._channels = channels
        self._audio = AudioOutput(wire.MAX_OUT_BYTES // channels.count, now)
        self._may_speak = True

    def play(self, payload: bytes, now: float) -> None:
        """Send audio, gathered into larger messages."""
        self._audio.write(payload, now)
        self._send_audio(now)

    def mark(self, name: str, now: float) -> None:
        """Set a mark behind all audio so far; it comes back from ``playback_completed`` or ``handle_timer``."""
        self._audio.mark(name, now)

    def flush(self, now: float) -> None:
        """Forget all audio here and, where it may still hold some, at Genesys. Marks come back from the timer."""
        holds, marks = self._audio.flush(now)
        self._flushed += marks
        self._flushed_s = now
        self._barge_in_owed = self._barge_in_owed or holds
        self._pay(now)

    def end_audio(self, now: float) -> None:
        """No audio goes out any more, and no mark comes back."""
        self._may_speak = self._barge_in_owed = False
        self._flushed = []
        self._audio.flush(now)

    def resume(self, now: float) -> None:
        """Genesys goes on after a pause."""
        self.paused = False
        self._send_audio(now)

    def back_off(self, seconds: float, now: float) -> None:
        """Send no audio for so long: Genesys says that it gets too much."""
        self._audio.back_off(now + seconds, now)

    def playback_started(self, now: float) -> None:
        """Genesys began to play."""
        self._audio.playback_started(now)

    def playback_completed(self, now: float) -> list[str]:
        """Genesys has played all it had; returns the marks that this reached."""
        return self._audio.playback_completed(now)

    # --- time ---

    def next_timer(self) -> float:
        """When ``handle_timer`` has something to do."""
        owed_s = self._texts.ready_at() if self._owed else math.inf
        if not self._may_speak:
            return owed_s
        flushed_s = self._flushed_s if self._flushed else math.inf
        if self._barge_in_owed:
            audio_s = self._texts.ready_at(BARGE_IN_RESERVE)
        else:
            audio_s = math.inf if self.paused else self._audio.send_timer()
        return min(owed_s, flushed_s, audio_s, self._audio.mark_timer())

    def handle_timer(self, now: float) -> list[str]:
        """Send what is due; returns the marks that were reached."""
        self._pay(now)
        self._send_audio(now)
        marks, self._flushed = self._flushed, []
        return marks + self._audio.overdue(now)

    # --- inside ---

    def _send_audio(self, now: float) -> None:
        if self._may_speak and not self.paused and not self._barge_in_owed:
            for message in self._audio.take(now):
                self._out.append(self._channels.spread(message))

    def _pay(self, now: float) -> None:
        """Send what waited for the budget."""
        while self._owed and self._texts.take(now):
            self._write(*self._owed.popleft())
        if self._barge_in_owed and not self._owed and self._texts.take(now, BARGE_IN_RESERVE):
            self._barge_in_owed = False
            self._write("event", wire.BARGE_IN, self.client_seq)

    def _write(self, kind: str, parameters: str, clientseq: int) -> None:
        self._out.append(self._encoder.message(kind, parameters, clientseq))
