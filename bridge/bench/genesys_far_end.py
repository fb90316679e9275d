"""The far end behind the floor in the Genesys mode: the least that an AudioHook client needs of its server.

It opens, hears, speaks in raw audio, interrupts with ``barge_in``, answers pings and closes. It checks nothing.

Source: Genesys Cloud Developer Center, "AudioHook protocol reference".
"""

from __future__ import annotations

import msgspec
from picows import WSMsgType


class _FromClient(msgspec.Struct):
    type: str
    id: str
    seq: int
    parameters: msgspec.Raw = msgspec.Raw(b"{}")


class _Open(msgspec.Struct):
    media: list[msgspec.Raw]


_decoder = msgspec.json.Decoder(_FromClient)
_open_decoder = msgspec.json.Decoder(_Open)


class GenesysWire:
    """AudioHook, server side: a ``bridge.bench.agent.Wire``."""

    speech_kind = WSMsgType.BINARY
    piece_bytes = 0

    def __init__(self) -> None:
        self.replies: list[bytes] = []
        self._id = ""
        self._seq = self._client_seq = 0
        self._is_open = False

    @property
    def ready(self) -> bool:
        """Not before ``opened`` is on its way, and not after ``closed``."""
        return self._is_open

    def hello(self) -> bytes:
        """Nothing: Genesys speaks first."""
        return b""

    def read(self, kind: WSMsgType, data: memoryview) -> bytes:
        """Caller audio of a binary message; texts are answered in ``replies``."""
        if kind is WSMsgType.BINARY:
            return bytes(data)
        message = _decoder.decode(data)
        self._id, self._client_seq = message.id, message.seq
        if message.type == "open":
            offer = _open_decoder.decode(message.parameters).media[0]
            self._is_open = True
            self._say(b"opened", b'{"media":[%b]}' % bytes(offer))
        elif message.type == "ping":
            self._say(b"pong", b"{}")
        elif message.type == "close":
            self._is_open = False
            self._say(b"closed", b"{}")
        return b""

    def speech(self, audio: bytes, event_id: int) -> bytes:
        """The audio itself."""
        return audio

    def interruption(self, event_id: int) -> bytes:
        """An ``event`` with ``barge_in``."""
        return self._message(b"event", b'{"entities":[{"type":"barge_in","data":{}}]}')

    def ping(self, event_id: int) -> bytes:
        """None: here the client pings."""
        return b""

    def _say(self, kind: bytes, parameters: bytes) -> None:
        self.replies.append(self._message(kind, parameters))

    def _message(self, kind: bytes, parameters: bytes) -> bytes:
        self._seq += 1
        return b'{"version":"2","id":"%b","type":"%b","seq":%d,"clientseq":%d,"parameters":%b}' % (
            self._id.encode(),
            kind,
            self._seq,
            self._client_seq,
            parameters,
        )
