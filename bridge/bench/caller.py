"""A simulated Twilio call's carrier side: a fast WebSocket client that speaks Media Streams.

It sends ``connected``, ``start``, a ``media`` message when it is told to (every 20 ms) and ``stop``; it takes
``media``, ``mark`` and ``clear``, and echoes marks as Twilio does: when everything before them has been played,
at once when nothing is queued or after a ``clear``. It does not check every rule of the wire; that is what the
strict simulators are for.

Source: Twilio documentation, "Media Streams - WebSocket messages".
"""

from __future__ import annotations

import time
from collections import deque

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from bridge.bench.call import FRAME_MS, Call

_TEXT, _CLOSE = WSMsgType.TEXT, WSMsgType.CLOSE


class _Media(msgspec.Struct, gc=False):
    payload: bytes  # msgspec decodes base64 into bytes


class _Mark(msgspec.Struct, gc=False):
    name: str


class _FromServer(msgspec.Struct, gc=False):
    event: str
    streamSid: str
    media: _Media | None = None
    mark: _Mark | None = None


_decoder = msgspec.json.Decoder(_FromServer)


def stream_sid(index: int) -> str:
    """Twilio-shaped stream id of a call: ``MZ`` and 32 hex digits."""
    return f"MZ{index:032x}"


class Caller(WSListener):
    """The carrier's end of one call."""

    __slots__ = ("_call", "_marks", "_media", "_sequence", "_sid", "_transport", "hung_up")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._transport: WSTransport | None = None
        self._sid = stream_sid(call.index)
        self._sequence = 1
        self._marks: deque[tuple[int, str]] = deque()
        """Marks to echo: when (ns) and name."""
        self._media = (
            b'{"event":"media","sequenceNumber":"%d","media":{"track":"inbound","chunk":"%d","timestamp":"%d",'
            b'"payload":"%b"},"streamSid":"' + self._sid.encode() + b'"}'
        )
        self.hung_up = False
        """Whether this side ended the call; a disconnect before that is the server's doing."""

    @property
    def talking(self) -> bool:
        """Whether the call is up."""
        return self._transport is not None

    # --- picows ------------------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin the stream."""
        self._transport = transport
        transport.send(_TEXT, b'{"event":"connected","protocol":"Call","version":"1.0.0"}')
        sid, call_sid = self._sid, f"CA{self._call.index:032x}"
        transport.send(
            _TEXT,
            (
                f'{{"event":"start","sequenceNumber":"1","start":{{"accountSid":"AC{0:032x}","streamSid":"{sid}",'
                f'"callSid":"{call_sid}","tracks":["inbound"],"mediaFormat":{{"encoding":"audio/x-mulaw",'
                f'"sampleRate":8000,"channels":1}},"customParameters":{{}}}},"streamSid":"{sid}"}}'
            ).encode(),
        )

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a message of the server."""
        now_ns = time.perf_counter_ns()
        if frame.msg_type is not _TEXT:
            if frame.msg_type is _CLOSE:
                transport.disconnect()
            elif frame.msg_type is WSMsgType.BINARY:
                self._call.logs.complain("binary message to the carrier")
            return
        try:
            message = _decoder.decode(frame.get_payload_as_memoryview())
        except msgspec.DecodeError as error:
            self._call.logs.complain(f"to the carrier: {error}")
            return
        self._take(message, now_ns)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The socket is gone."""
        if not self.hung_up:
            self._call.logs.complain(f"the server closed call {self._call.index}")
        self._transport = None

    async def wait_closed(self) -> None:
        """Wait until the socket is gone."""
        if self._transport is not None:
            await self._transport.wait_disconnected()

    # --- the load's clock --------------------------------------------------------------------------------

    def tick(self, now_ns: int) -> None:
        """Send the next frame."""
        transport = self._transport
        if transport is None:
            return
        if self._marks and self._marks[0][0] <= now_ns:
            self._echo_marks(transport, now_ns)
        encoded = self._call.frames.message(now_ns)
        chunk = self._sequence
        self._sequence = chunk + 1
        transport.send(_TEXT, self._media % (chunk + 1, chunk, (chunk - 1) * FRAME_MS, encoded))

    def attend(self, now_ns: int) -> None:
        """Nothing: marks are looked at with every frame."""

    def drop(self) -> None:
        """Nothing: hanging up closes the socket."""

    def hang_up(self) -> None:
        """End the stream as Twilio does: ``stop``, then close."""
        self.hung_up = True
        if self._transport is None:
            return
        self._sequence += 1
        stop = (
            f'{{"event":"stop","sequenceNumber":"{self._sequence}","streamSid":"{self._sid}",'
            f'"stop":{{"accountSid":"AC{0:032x}","callSid":"CA{self._call.index:032x}"}}}}'
        )
        self._transport.send(_TEXT, stop.encode())
        self._transport.send_close()
        self._transport.disconnect()

    # --- inside ------------------------------------------------------------------------------------------

    def _take(self, message: _FromServer, now_ns: int) -> None:
        call = self._call
        if message.streamSid != self._sid:
            call.logs.complain("streamSid of another call")
        elif message.event == "media" and message.media is not None:
            payload = message.media.payload
            call.clock.arrived(now_ns, len(payload))
            call.played.receive(payload, now_ns)
        elif message.event == "clear":
            call.cleared(now_ns)
            self._marks = deque((0, name) for _, name in self._marks)
        elif message.event == "mark" and message.mark is not None:
            self._marks.append((call.clock.ends_ns, message.mark.name))
        else:
            call.logs.complain(f"to the carrier: event {message.event[:20]!r}")

    def _echo_marks(self, transport: WSTransport, now_ns: int) -> None:
        while self._marks and self._marks[0][0] <= now_ns:
            _, name = self._marks.popleft()
            self._sequence += 1
            echo = {
                "event": "mark",
                "sequenceNumber": str(self._sequence),
                "streamSid": self._sid,
                "mark": {"name": name},
            }
            transport.send(_TEXT, msgspec.json.encode(echo))
