"""The far end behind the floor in the Vonage mode: the least that a Vonage media socket needs of its server.

It hears, speaks in frames of 20 ms, and interrupts with ``clear``. It checks nothing.

Source: Vonage "WebSockets in the Vonage Voice API".
"""

from __future__ import annotations

from picows import WSMsgType

from bridge.bench.call import FRAME_MS
from bridge.media.format import MediaFormat


class VonageWire:
    """Vonage's media socket, application side: a ``bridge.bench.agent.Wire``."""

    speech_kind = WSMsgType.BINARY
    ready = True

    def __init__(self, media: MediaFormat) -> None:
        self.replies: list[bytes] = []
        self.piece_bytes = media.size_bytes(FRAME_MS)

    def hello(self) -> bytes:
        """Nothing: Vonage speaks first."""
        return b""

    def read(self, kind: WSMsgType, data: memoryview) -> bytes:
        """Caller audio of a binary message; texts mean nothing here."""
        return bytes(data) if kind is WSMsgType.BINARY else b""

    def speech(self, audio: bytes, event_id: int) -> bytes:
        """The audio itself."""
        return audio

    def interruption(self, event_id: int) -> bytes:
        """A ``clear``."""
        return b'{"action":"clear"}'

    def ping(self, event_id: int) -> bytes:
        """None on this wire."""
        return b""
