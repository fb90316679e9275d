"""What the agent simulator wants its driver to do, collected in order."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import msgspec

from bridge.media.format import MediaFormat
from bridge.simulators import agent_wire as wire
from bridge.simulators.agent_log import ConversationLog

_MAX_REASON_BYTES = 123
"""Room for the reason in a close frame (RFC 6455 section 5.5: 125 bytes with the code)."""

_ALWAYS_SENT = frozenset({"conversation_initiation_metadata", "error"})
"""Kinds of messages that no choice of client events turns off."""


class CloseFrame(msgspec.Struct, frozen=True):
    """Close the socket with this code."""

    code: int
    reason: str


class Abort(msgspec.Struct, frozen=True):
    """Break the TCP connection off."""


class PauseReading(msgspec.Struct, frozen=True):
    """Read nothing from the socket for so long, while time goes on."""

    seconds: float


AgentAction = str | bytes | CloseFrame | Abort | PauseReading
"""What the driver is to do: send text, send binary, or one of the above."""


class Outbox:
    """Actions in order, with the bookkeeping that every sending needs. Nothing is taken after the end."""

    def __init__(self, log: ConversationLog, media: MediaFormat) -> None:
        self.log = log
        self.finished = False
        """Whether the conversation is over."""
        self.wanted: frozenset[str] = frozenset()
        """Kinds of messages the client asked for; empty = all."""
        self._media = media
        self._actions: list[AgentAction] = []

    def drain(self) -> list[AgentAction]:
        """Take the actions."""
        actions, self._actions = self._actions, []
        return actions

    def send(self, kind: str, text: str) -> None:
        """Send a message, unless the client asked for certain kinds only and this is none of them."""
        if not self.wanted or kind in self.wanted or kind in _ALWAYS_SENT:
            self.act(text)

    def act(self, action: AgentAction) -> None:
        """Have the driver do this."""
        if not self.finished:
            self._actions.append(action)

    def speak(
        self,
        payload: bytes,
        event_id: int,
        alignment: Mapping[str, Sequence[object]] | None = None,
        audio_base64: str = "",
    ) -> float:
        """Send a piece of speech; returns its length in ms. ``audio_base64`` spares encoding it again."""
        length_ms = self._media.duration_ms(len(payload))
        self.log.sent_chunks += 1
        self.log.sent_audio_bytes += len(payload)
        self.log.sent_audio_ms += length_ms
        encoded = audio_base64 or base64.b64encode(payload).decode("ascii")
        self.send("audio", wire.audio(encoded, event_id, alignment))
        return length_ms

    def close(self, code: int, reason: str, now: float) -> None:
        """End the conversation with a close frame."""
        reason = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
        self.act(CloseFrame(code, reason))
        self.log.close("agent", code, reason, now)
        self.finished = True

    def abort(self, now: float) -> None:
        """End the conversation without a word."""
        self.act(Abort())
        self.log.close("agent", 1006, "", now)
        self.finished = True
