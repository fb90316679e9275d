"""The floor under SIP calls: the least that a server in Python does for a call over RTP.

It answers INVITE and BYE by template, carries RTP payloads to a WebSocket unread and what comes back to RTP, and paces
that by one clock for all calls. No jitter buffer, no loss concealment, no RTCP, no digest, no dialogs: a server's cost
is best told as a multiple of this one. A program of its own: ``python -m bridge.bench.sip_floor PORT AGENT_PORT``.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import sys
import time
from collections import deque

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

PATH = "/sip/media"
FRAME_BYTES = 160
FRAME_NS = 20_000_000
TICK_S = 0.001
MAX_DATAGRAM_BYTES = 2048
READS = 16

_BINARY, _TEXT = WSMsgType.BINARY, WSMsgType.TEXT
_HEADER = struct.Struct("!BBHII")
_PLAIN = 0x80
_PCMU = 0
_SILENCE = b"\xff" * FRAME_BYTES
_COPIED = re.compile(rb"\r\n((?:Via|From|To|Call-ID|CSeq)[ \t]*:[^\r\n]*)", re.IGNORECASE)
_CALL_ID = re.compile(rb"\r\nCall-ID[ \t]*:[ \t]*([^\r\n]+)", re.IGNORECASE)
_PORT = re.compile(rb"\r\nm=audio ([0-9]+) ")


class FloorCall(WSListener):
    """One call."""

    def __init__(self, index: int, caller: tuple[str, int]) -> None:
        self._index = index
        self._transport: WSTransport | None = None
        self._frames: deque[bytes] = deque()
        self._sequence = 0
        self.rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.rtp.setblocking(False)
        self.rtp.bind(("127.0.0.1", 0))
        self.rtp.connect(caller)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Audio can flow."""
        self._transport = transport
        asyncio.get_running_loop().add_reader(self.rtp.fileno(), self._read)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Queue what the far end says; its word for a flush is any text."""
        if frame.msg_type is _BINARY:
            self._frames.append(bytes(frame.get_payload_as_memoryview()))
        elif frame.msg_type is _TEXT:
            self._frames.clear()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The far end has hung up."""
        self._transport = None

    def tick(self) -> None:
        """Send the next 20 ms."""
        payload = self._frames.popleft() if self._frames else _SILENCE
        sequence, self._sequence = self._sequence, self._sequence + 1
        header = _HEADER.pack(_PLAIN, _PCMU, sequence & 0xFFFF, sequence * FRAME_BYTES, self._index)
        try:
            self.rtp.send(header + payload)
        except OSError:
            return

    def close(self) -> None:
        """The caller has hung up."""
        asyncio.get_running_loop().remove_reader(self.rtp.fileno())
        self.rtp.close()
        if self._transport is not None:
            self._transport.send_close()
            self._transport.disconnect()

    def _read(self) -> None:
        for _ in range(READS):
            try:
                data = self.rtp.recv(MAX_DATAGRAM_BYTES)
            except OSError:
                return
            if self._transport is not None:
                self._transport.send(_BINARY, data[_HEADER.size :])


class Floor(asyncio.DatagramProtocol):
    """All calls, and the signalling."""

    def __init__(self, agent_port: int) -> None:
        self._url = f"ws://127.0.0.1:{agent_port}{PATH}"
        self._calls: dict[bytes, FloorCall] = {}
        self._slots: list[list[FloorCall]] = [[] for _ in range(20)]
        self._signalling: asyncio.DatagramTransport | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def stop(self) -> None:
        """End the clock and all calls."""
        if self._timer is not None:
            self._timer.cancel()
        for call in self._calls.values():
            call.close()
        self._calls.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Listening; the clock starts."""
        self._signalling = transport  # type: ignore[assignment]  # uvloop's is no subclass
        self._origin_ns, self._next = time.monotonic_ns(), 0
        self._tick()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Take a request."""
        found = _CALL_ID.search(data)
        call_id = b"" if found is None else found[1]
        if data.startswith(b"INVITE ") and call_id not in self._calls:
            port = _PORT.search(data)
            if port is not None:
                call = self._calls[call_id] = FloorCall(len(self._calls) + 1, (addr[0], int(port[1])))
                task = asyncio.get_running_loop().create_task(self._answer(call, data, addr))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        elif data.startswith(b"BYE "):
            self._respond(data, addr)
            ended = self._calls.pop(call_id, None)
            if ended is not None:
                for slot in self._slots:
                    if ended in slot:
                        slot.remove(ended)
                ended.close()

    async def _answer(self, call: FloorCall, invite: bytes, addr: tuple[str, int]) -> None:
        await ws_connect(lambda: call, self._url)
        min(self._slots, key=len).append(call)
        port = call.rtp.getsockname()[1]
        lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0"]
        lines += [f"m=audio {port} RTP/AVP 0", "a=rtpmap:0 PCMU/8000", "a=ptime:20", ""]
        self._respond(invite, addr, "\r\n".join(lines).encode())

    def _respond(self, request: bytes, addr: tuple[str, int], body: bytes = b"") -> None:
        assert self._signalling is not None
        host, port = self._signalling.get_extra_info("sockname")[:2]
        copied = b"\r\n".join(_COPIED.findall(request.partition(b"\r\n\r\n")[0]))
        if body:
            copied = re.sub(rb"(?mi)^(To[ \t]*:[^\r\n]*)", rb"\1;tag=floor", copied)
        rest = f"\r\nContact: <sip:floor@{host}:{port}>\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        self._signalling.sendto(b"SIP/2.0 200 OK\r\n" + copied + rest + body, addr)

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        due = (time.monotonic_ns() - self._origin_ns) // (FRAME_NS // 20)
        while self._next <= due:
            for call in self._slots[self._next % 20]:
                call.tick()
            self._next += 1


async def serve(port: int, agent_port: int) -> None:
    """Serve for ever: SIP over UDP on ``port``; on the same port over TCP something that says it is ready."""
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: Floor(agent_port), local_addr=("127.0.0.1", port))
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
