"""The other end of the simulated calls: a fast WebSocket server that talks, listens and is interrupted.

``ConvaiWire`` speaks the agents' protocol: it answers the metadata first, talks once the client has said
something, pings every 5 s. ``TwilioWire`` (``GenesysWire``, ``VonageWire``) is the far end behind
the floor: it answers the carrier's own messages, so that a relay that reads nothing carries in each direction what
a bridge carries on the carrier's side.

Source: ElevenLabs documentation, "Agents WebSocket" (conversation_initiation_metadata, audio, interruption,
ping; user_audio_chunk, pong).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from bridge.bench.call import Call

CONVAI_PATH = "/v1/convai/conversation"
PING_EVERY_MESSAGES = 50
"""A ping every 5 s at ten messages a second."""

_TEXT, _BINARY, _CLOSE = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CLOSE


class Wire(Protocol):
    """How the far end of a call speaks; one object per call."""

    replies: list[bytes]
    """Text messages that answer what was read; whoever sends them empties the list."""

    @property
    def piece_bytes(self) -> int:
        """Audio in one message where the wire has a fixed size; 0 = a message is what is said at once."""

    @property
    def speech_kind(self) -> WSMsgType:
        """Kind of the messages that carry speech."""

    @property
    def ready(self) -> bool:
        """Whether speech can be sent, once the client has said something."""

    def hello(self) -> bytes:
        """What is sent first; empty = nothing."""

    def read(self, kind: WSMsgType, data: memoryview) -> bytes:
        """Audio of a client's message; empty when it holds none. Raises ``msgspec.DecodeError``."""

    def speech(self, audio: bytes, event_id: int) -> bytes:
        """A message with agent audio, which is given as the wire carries it."""

    def interruption(self, event_id: int) -> bytes:
        """The message that stops the audio of this turn."""

    def ping(self, event_id: int) -> bytes:
        """A liveness check; empty = none."""


class _FromClient(msgspec.Struct, gc=False):
    user_audio_chunk: bytes = b""  # msgspec decodes base64 into bytes
    type: str = ""


_convai_decoder = msgspec.json.Decoder(_FromClient)


class ConvaiWire:
    """The agents' WebSocket protocol, server side."""

    speech_kind = _TEXT
    piece_bytes = 0
    ready = True

    def __init__(self, audio_format: str) -> None:
        self._format = audio_format
        self.replies: list[bytes] = []

    def hello(self) -> bytes:
        """Formats and conversation id."""
        return msgspec.json.encode(
            {
                "type": "conversation_initiation_metadata",
                "conversation_initiation_metadata_event": {
                    "conversation_id": "conv_bench",
                    "agent_output_audio_format": self._format,
                    "user_input_audio_format": self._format,
                },
            }
        )

    def read(self, kind: WSMsgType, data: memoryview) -> bytes:
        """Caller audio of a ``user_audio_chunk``."""
        return _convai_decoder.decode(data).user_audio_chunk

    def speech(self, audio: bytes, event_id: int) -> bytes:
        """An ``audio`` event."""
        return b'{"type":"audio","audio_event":{"audio_base_64":"%b","event_id":%d}}' % (audio, event_id)

    def interruption(self, event_id: int) -> bytes:
        """An ``interruption`` event."""
        return b'{"type":"interruption","interruption_event":{"event_id":%d}}' % event_id

    def ping(self, event_id: int) -> bytes:
        """A ``ping`` event."""
        return b'{"type":"ping","ping_event":{"event_id":%d,"ping_ms":null}}' % event_id


class _TwilioMedia(msgspec.Struct, gc=False):
    payload: bytes = b""


class _FromTwilio(msgspec.Struct, gc=False):
    event: str
    streamSid: str = ""
    media: _TwilioMedia | None = None


_twilio_decoder = msgspec.json.Decoder(_FromTwilio)


class TwilioWire:
    """Twilio Media Streams, application side; one per call because it must name the stream."""

    speech_kind = _TEXT
    piece_bytes = 0

    def __init__(self) -> None:
        self._sid = b""
        self.replies: list[bytes] = []

    @property
    def ready(self) -> bool:
        """Not before ``start`` has named the stream."""
        return bool(self._sid)

    def hello(self) -> bytes:
        """Nothing: Twilio speaks first."""
        return b""

    def read(self, kind: WSMsgType, data: memoryview) -> bytes:
        """Caller audio of a ``media`` message."""
        message = _twilio_decoder.decode(data)
        if message.media is not None:
            return message.media.payload
        self._sid = self._sid or message.streamSid.encode()
        return b""

    def speech(self, audio: bytes, event_id: int) -> bytes:
        """A ``media`` message."""
        return b'{"event":"media","streamSid":"%b","media":{"payload":"%b"}}' % (self._sid, audio)

    def interruption(self, event_id: int) -> bytes:
        """A ``clear``."""
        return b'{"event":"clear","streamSid":"%b"}' % self._sid

    def ping(self, event_id: int) -> bytes:
        """None on this wire."""
        return b""


class Agent(WSListener):
    """The agent's end of one call. Silent until it belongs to a call and its client has spoken."""

    __slots__ = ("_call", "_claim", "_head_start", "_lead", "_speaking", "_ticks", "_transport", "_wire")

    def __init__(self, wire: Wire, claim: Callable[[Agent], Call | None], head_start: int = 0) -> None:
        """``head_start`` is how many messages go ahead of the clock at the beginning of each turn."""
        self._wire = wire
        self._head_start = self._lead = head_start
        self._claim = claim
        self._transport: WSTransport | None = None
        self._call: Call | None = None
        self._speaking = False
        self._ticks = 0

    @property
    def connected(self) -> bool:
        """Whether the server still holds this connection."""
        return self._transport is not None

    async def wait_closed(self) -> None:
        """Wait until the server has let go of this connection."""
        if self._transport is not None:
            await self._transport.wait_disconnected()

    # --- picows ------------------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Belong to the call that is being placed, and greet."""
        self._transport = transport
        self._call = self._claim(self)
        hello = self._wire.hello()
        if hello:
            transport.send(_TEXT, hello)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a message of the client."""
        now_ns = time.perf_counter_ns()
        kind = frame.msg_type
        if kind is not _TEXT and kind is not _BINARY:
            if kind is _CLOSE:
                transport.send_close()
                transport.disconnect()
            return
        call, wire = self._call, self._wire
        if call is None:
            return
        try:
            audio = wire.read(kind, frame.get_payload_as_memoryview())
        except msgspec.DecodeError as error:
            call.logs.complain(f"to the agent: {error}")
            return
        self._speaking = wire.ready
        if audio:
            call.heard.receive(audio, now_ns)
        if wire.replies:
            for reply in wire.replies:
                transport.send(_TEXT, reply)
            wire.replies.clear()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The socket is gone."""
        self._transport = None
        self._speaking = False

    # --- the load's clock --------------------------------------------------------------------------------

    def tick(self, now_ns: int) -> bool:
        """Say the next 100 ms, with the head start where a turn begins. Returns whether anything was said."""
        call, transport = self._call, self._transport
        if not self._speaking or call is None or transport is None:
            return False
        speech, wire = call.speech, self._wire
        for _ in range(1 + self._lead):
            audio = speech.message(now_ns)
            size = wire.piece_bytes or len(audio)
            for start in range(0, len(audio), size):
                transport.send(wire.speech_kind, wire.speech(audio[start : start + size], speech.turn + 1))
        self._lead = 0
        self._ticks += 1
        if (self._ticks + call.index) % PING_EVERY_MESSAGES == 0:
            ping = wire.ping(self._ticks)
            if ping:
                transport.send(_TEXT, ping)
        return True

    def wants_interruption(self, every_messages: int) -> bool:
        """Whether the caller talks over what was just said; calls take turns."""
        call = self._call
        return call is not None and (self._ticks + call.index) % every_messages == 0

    def interrupt(self, now_ns: int) -> None:
        """The caller talks over the agent: the current turn ends."""
        if self._call is not None and self._transport is not None:
            self._lead = self._head_start
            self._transport.send(_TEXT, self._wire.interruption(self._call.interrupt(now_ns)))

    def hang_up(self) -> None:
        """Close what is left."""
        if self._transport is not None:
            self._transport.disconnect()
