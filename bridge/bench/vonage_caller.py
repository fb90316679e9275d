"""A simulated Vonage call's carrier side: a fast WebSocket client that speaks the Voice API's media socket.

It sends ``websocket:connected`` and 20 ms of L16 in a binary message when it is told to; it takes frames of the same
size, ``clear`` and ``notify``, and echoes notifies when everything before them has been played (after a ``clear``:
never). A frame of another size is complained of, because it ends real calls; the other rules of the wire are for the
strict simulator.

Source: Vonage "WebSockets in the Vonage Voice API", "Play audio into a WebSocket".
"""

from __future__ import annotations

import time
from collections import deque

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from bridge.bench.call import FRAME_MS, Call

_TEXT, _BINARY, _CLOSE = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CLOSE

_CLEARED = b'{"event":"websocket:cleared"}'


class _FromServer(msgspec.Struct, gc=False):
    action: str
    payload: msgspec.Raw = msgspec.Raw(b"{}")


_decoder = msgspec.json.Decoder(_FromServer)


def call_uuid(index: int) -> str:
    """Vonage-shaped uuid of a call's leg."""
    return f"63f61863-4a51-4f6b-86e1-{index:012x}"


class VonageCaller(WSListener):
    """The carrier's end of one call."""

    __slots__ = ("_call", "_frame_bytes", "_notifies", "_transport", "hung_up")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._frame_bytes = call.media.size_bytes(FRAME_MS)
        self._transport: WSTransport | None = None
        self._notifies: deque[tuple[int, bytes]] = deque()
        """Notifies to echo: when (ns) and payload."""
        self.hung_up = False
        """Whether this side ended the call; a disconnect before that is the server's doing."""

    @property
    def talking(self) -> bool:
        """Whether the call is up."""
        return self._transport is not None

    # --- picows ------------------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin the call."""
        self._transport = transport
        hello = {
            "event": "websocket:connected",
            "content-type": f"audio/l16;rate={self._call.media.rate_hz}",
            "uuid": call_uuid(self._call.index),
        }
        transport.send(_TEXT, msgspec.json.encode(hello))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a message of the server."""
        now_ns = time.perf_counter_ns()
        kind = frame.msg_type
        if kind is _BINARY:
            self._hear(bytes(frame.get_payload_as_memoryview()), now_ns)
        elif kind is _TEXT:
            try:
                self._take(_decoder.decode(frame.get_payload_as_memoryview()), transport, now_ns)
            except msgspec.DecodeError as error:
                self._call.logs.complain(f"to the carrier: {error}")
        elif kind is _CLOSE:
            transport.disconnect()

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
        """Send the next frame, and the notifies that are due."""
        transport = self._transport
        if transport is None:
            return
        while self._notifies and self._notifies[0][0] <= now_ns:
            transport.send(_TEXT, b'{"event":"websocket:notify","payload":%b}' % self._notifies.popleft()[1])
        transport.send(_BINARY, self._call.frames.message(now_ns))

    def attend(self, now_ns: int) -> None:
        """Nothing: notifies are looked at with every frame."""

    def drop(self) -> None:
        """Nothing: hanging up closes the socket."""

    def hang_up(self) -> None:
        """End the call as Vonage does: it closes the socket."""
        self.hung_up = True
        if self._transport is not None:
            self._transport.send_close()
            self._transport.disconnect()

    # --- inside ------------------------------------------------------------------------------------------

    def _hear(self, frame: bytes, now_ns: int) -> None:
        call = self._call
        if len(frame) != self._frame_bytes:
            call.logs.complain(f"unexpected frame size {len(frame)}, when required {self._frame_bytes}")
            return
        call.clock.arrived(now_ns, len(frame))
        call.played.receive(frame, now_ns)

    def _take(self, message: _FromServer, transport: WSTransport, now_ns: int) -> None:
        call = self._call
        if message.action == "clear":
            call.cleared(now_ns)
            self._notifies.clear()
            transport.send(_TEXT, _CLEARED)
        elif message.action == "notify":
            self._notifies.append((call.clock.ends_ns, bytes(message.payload)))
        else:
            call.logs.complain(f"to the carrier: action {message.action[:20]!r}")
