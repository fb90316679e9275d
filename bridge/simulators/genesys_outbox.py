"""The sending half of a simulated Audio Connector session: envelope, sequence numbers, position, pauses.

It knows the order and form of messages, not when they are due: that is ``genesys_protocol``.
Source: AudioHook protocol reference, "Message envelope", "Paused", "Resumed", "Discarded".
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from bridge.simulators.genesys_media import MediaEntry, encode_frame
from bridge.simulators.genesys_wire import duration

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class CloseSocket:
    """For the driver: close the socket after all that was drained before."""


Outgoing = str | bytes | CloseSocket


class Outbox:
    """What goes out, in order."""

    def __init__(self, session_id: str) -> None:
        self.seq = 0
        """Sequence number of the last message sent."""
        self.serverseq = 0
        """Sequence number of the server's last message."""
        self.position = 0
        """Samples of the caller's audio so far, gaps included."""
        self.client_paused = self.server_paused = False
        self._session_id = session_id
        self._unsent_samples = 0
        self._out: list[Outgoing] = []

    def drain(self) -> list[Outgoing]:
        """Take what must go out."""
        out, self._out = self._out, []
        return out

    def send(self, kind: str, parameters: dict[str, object]) -> None:
        """Send a message."""
        self.seq += 1
        message = {
            "version": "2",
            "id": self._session_id,
            "type": kind,
            "seq": self.seq,
            "serverseq": self.serverseq,
            "position": duration(self.position),
            "parameters": parameters,
        }
        self._out.append(_encoder.encode(message).decode())

    def close_socket(self) -> None:
        """Close the socket."""
        self._out.append(CloseSocket())

    def send_audio(self, media: MediaEntry, external: bytes, internal: bytes) -> bool:
        """Send audio; during a pause it is dropped and counted. Returns whether it went out."""
        if self.client_paused or self.server_paused:
            self._unsent_samples += len(external)
            return False
        self._out.append(encode_frame(media, external, internal))
        self.position += len(external)
        return True

    def discard(self, samples: int) -> None:
        """Leave a gap of so many samples and say so."""
        self._gap("discarded", samples)

    def pause(self, *, by_server: bool) -> None:
        """Begin a pause. The server's request is answered every time, the client's own pause is told once."""
        if by_server:
            self.server_paused = True
        elif self.client_paused:
            return
        else:
            self.client_paused = True
        self.send("paused", {})

    def resume(self, *, by_server: bool) -> None:
        """End a pause. Audio flows again when neither side has one; until then the server hears that it goes on."""
        was_paused = self.client_paused or self.server_paused
        if by_server:
            self.server_paused = False
        else:
            self.client_paused = False
        if by_server and self.client_paused:
            self.send("paused", {})
        elif was_paused and not self.server_paused:
            samples, self._unsent_samples = self._unsent_samples, 0
            self._gap("resumed", samples)

    def _gap(self, kind: str, samples: int) -> None:
        start = duration(self.position)
        self.position += samples
        self.send(kind, {"start": start, "discarded": duration(samples)})
