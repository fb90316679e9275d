"""A simulated SIP call's carrier side, made for load: INVITE, ACK and BYE over UDP, and 50 RTP packets a second.

It knows just enough SIP to hold a call with a server that speaks it properly; the strict end is
``bridge.simulators.sip_phone``. A barge-in has no word of its own on this wire: silence, or the audio of the new turn,
is the sign that the old one was flushed; from then on nothing of that may be heard.

Source: RFC 3261, RFC 3550.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import sys
import time
from urllib.parse import urlsplit

from bridge.bench import numbering
from bridge.bench.call import Call
from bridge.bench.figures import NS_PER_MS
from bridge.bench.rtp_tally import RtpBook, RtpTally

T1_S = 0.5
ATTEMPTS = 6
"""Times that a request is sent, T1 apart and doubling: half a minute."""
MAX_DATAGRAM_BYTES = 2048
READS = 16
"""Packets taken at a time: one is there as a rule."""

_HEADER = struct.Struct("!BBHII")
_TURN = struct.Struct("<4sHH")
_PLAIN, _MARKER, _ULAW_TYPE, _TYPE_MASK = 0x80, 0x80, 0, 0x7F
_SAMPLES = 160
_SILENCE = b"\xff" * _SAMPLES
_TIMESTAMPS = 35
"""SO_TIMESTAMPNS of Linux."""
_STAMP = struct.Struct("qq")
_STATUS = re.compile(rb"SIP/2\.0 ([0-9]{3})[^\r\n]*\r\n")
_PORT = re.compile(rb"\r\nm=audio ([0-9]+) ")
_HOST = re.compile(rb"\r\nc=IN IP4 ([0-9.]+)")
_CONTACT = re.compile(rb"\r\n(?:Contact|m)[ \t]*:[^\r\n<]*<([^>\r\n]+)>", re.IGNORECASE)
_TO = re.compile(rb"\r\n(?:To|t)[ \t]*:[ \t]*([^\r\n]+)", re.IGNORECASE)
_CSEQ = re.compile(rb"\r\nCSeq[ \t]*:[ \t]*[0-9]+ ([A-Z]+)", re.IGNORECASE)
_COPIED = re.compile(rb"\r\n((?:Via|v|From|f|To|t|Call-ID|i|CSeq)[ \t]*:[^\r\n]*)", re.IGNORECASE)


class CallRefused(Exception):
    """The server did not take the call."""


class SipBenchCaller(asyncio.DatagramProtocol):
    """The carrier's end of one call: a ``bridge.bench.carriers.CarrierEnd``. ``dial`` places it."""

    def __init__(self, call: Call, tally: RtpTally) -> None:
        self._call = call
        self._tally = tally
        self._book = RtpBook(tally)
        self._signalling: asyncio.DatagramTransport | None = None
        self._rtp: socket.socket | None = None
        self._answers: dict[bytes, asyncio.Future[bytes]] = {}
        self._dialog = ("", "", "")  # Request-URI, To, local address
        self._sequence = call.index & 0xFFFF
        self._timestamp = call.index * _SAMPLES
        self._talks = False
        self._turn = 0  # the agent's, as heard
        self._gone = asyncio.Event()
        self.hung_up = False
        """Whether this side ended the call; a BYE before that is the server's doing."""

    # --- the call ----------------------------------------------------------------------------------------

    async def dial(self, url: str) -> None:
        """Call the server that listens for SIP over UDP on the port of ``url``; returns once it has answered.

        Raises ``CallRefused``, ``TimeoutError``, ``OSError``.
        """
        loop = asyncio.get_running_loop()
        parts = urlsplit(url)
        server = (parts.hostname or "127.0.0.1", parts.port or 5060)
        self._rtp = _rtp_socket()
        self._signalling, _ = await loop.create_datagram_endpoint(lambda: self, remote_addr=server)
        host, port = self._signalling.get_extra_info("sockname")[:2]
        uri = f"sip:+1555{self._call.index:07d}@{server[0]}:{server[1]}"
        self._dialog = (uri, f"<{uri}>", f"{host}:{port}")
        began_ns = time.perf_counter_ns()
        answer = await self._ask("INVITE", 1, self._offer(host))
        self._tally.answered_ms.append((time.perf_counter_ns() - began_ns) / NS_PER_MS)
        contact, to = _CONTACT.search(answer), _TO.search(answer)
        audio_port, audio_host = _PORT.search(answer), _HOST.search(answer)
        if contact is None or to is None or audio_port is None or audio_host is None:
            raise CallRefused("the 200 lacks a Contact, a To or an address for audio")
        self._dialog = (contact[1].decode(), to[1].decode(), self._dialog[2])
        self._signalling.sendto(self._request("ACK", 1))
        self._rtp.connect((audio_host[1].decode(), int(audio_port[1])))
        loop.add_reader(self._rtp.fileno(), self._read)
        self._talks = True

    def tick(self, now_ns: int) -> None:
        """Send the next packet."""
        if not self._talks or self._rtp is None:
            return
        marker = 0 if self._timestamp else _MARKER
        header = _HEADER.pack(_PLAIN, marker | _ULAW_TYPE, self._sequence, self._timestamp, self._call.index + 1)
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._timestamp = (self._timestamp + _SAMPLES) & 0xFFFFFFFF
        with contextlib.suppress(OSError):  # full or refused: a packet is lost, and the tally says so
            self._rtp.send(header + self._call.frames.message(now_ns))

    def attend(self, now_ns: int) -> None:
        """Nothing: packets are as long as the clock's beat."""

    def hang_up(self) -> None:
        """Send BYE."""
        self._talks = False
        if not self.hung_up and not self._gone.is_set():
            self.hung_up = True
            self._ending = asyncio.get_running_loop().create_task(self._end())

    async def wait_closed(self) -> None:
        """Wait until the BYE is answered, or the server's came."""
        await self._gone.wait()

    def drop(self) -> None:
        """Let go of the sockets."""
        self._gone.set()
        if self._rtp is not None:
            asyncio.get_running_loop().remove_reader(self._rtp.fileno())
            self._rtp.close()
            self._rtp = None
        if self._signalling is not None:
            self._signalling.close()
            self._signalling = None

    # --- signalling --------------------------------------------------------------------------------------

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Take a message of the server."""
        status = _STATUS.match(data)
        method = _CSEQ.search(data)
        if status is None:
            if data.startswith(b"BYE ") and self._signalling is not None:
                self._signalling.sendto(_ok(data))
                self._ended_by_server()
            return
        waiting = None if method is None else self._answers.get(method[1])
        if waiting is None or waiting.done() or status[1].startswith(b"1"):
            return
        if status[1] == b"200":
            waiting.set_result(data)
        else:
            waiting.set_exception(CallRefused(f"it answered {status[1].decode()}"))

    def error_received(self, exc: Exception) -> None:
        """Nobody listens there: time-outs tell."""

    async def _ask(self, method: str, sequence: int, body: bytes = b"") -> bytes:
        assert self._signalling is not None
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers[method.encode()] = answer
        data = self._request(method, sequence, body)
        for attempt in range(ATTEMPTS):
            self._signalling.sendto(data)
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(asyncio.shield(answer), T1_S * 2**attempt)
        raise TimeoutError

    async def _end(self) -> None:
        with contextlib.suppress(TimeoutError, CallRefused, AssertionError):
            await self._ask("BYE", 2)
        self.drop()

    def _ended_by_server(self) -> None:
        if not self.hung_up:
            self._call.logs.complain(f"the server hung call {self._call.index} up")
        self.drop()

    def _request(self, method: str, sequence: int, body: bytes = b"") -> bytes:
        uri, to, local = self._dialog
        index = self._call.index
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {local};branch=z9hG4bK{index}-{method}-{id(self)};rport",
            "Max-Forwards: 70",
            f"From: <sip:bench@{local}>;tag=bench{index}",
            f"To: {to}",
            f"Call-ID: bench-{index}-{id(self)}@{local}",
            f"CSeq: {sequence} {method}",
            f"Contact: <sip:bench@{local}>",
            *(["Content-Type: application/sdp"] if body else []),
            f"Content-Length: {len(body)}",
            "",
            "",
        ]
        return "\r\n".join(lines).encode() + body

    def _offer(self, host: str) -> bytes:
        assert self._rtp is not None
        port = self._rtp.getsockname()[1]
        lines = ["v=0", f"o=- 1 1 IN IP4 {host}", "s=-", f"c=IN IP4 {host}", "t=0 0"]
        lines += [f"m=audio {port} RTP/AVP 0", "a=rtpmap:0 PCMU/8000", "a=ptime:20", "a=sendrecv", ""]
        return "\r\n".join(lines).encode()

    # --- media -------------------------------------------------------------------------------------------

    def _read(self) -> None:
        rtp = self._rtp
        for _ in range(READS):
            if rtp is None or rtp.fileno() < 0:
                return
            try:
                data, extra, _, _ = rtp.recvmsg(MAX_DATAGRAM_BYTES, 64)
            except OSError:
                return
            now_ns = time.perf_counter_ns()
            stamp = next((value for _, kind, value in extra if kind == _TIMESTAMPS), b"")
            at_ns = now_ns
            if stamp:
                seconds, nanoseconds = _STAMP.unpack_from(stamp)
                at_ns = seconds * 1_000_000_000 + nanoseconds
            self._hear(data, at_ns, now_ns)

    def _hear(self, data: bytes, at_ns: int, now_ns: int) -> None:
        if len(data) != _HEADER.size + _SAMPLES or data[1] & _TYPE_MASK != _ULAW_TYPE:
            self._call.logs.complain(f"a packet of {len(data)} bytes and type {data[1] & _TYPE_MASK}")
            return
        _, _, sequence, timestamp, _ = _HEADER.unpack_from(data)
        if not self._book.received(sequence, timestamp, at_ns, now_ns):
            return
        payload, call = data[_HEADER.size :], self._call
        if call.speech.turn > self._turn and (payload == _SILENCE or _turn_of(payload) == call.speech.turn):
            self._turn = call.speech.turn
            call.cleared(now_ns)
        if payload != _SILENCE:  # what a server sends while the agent says nothing
            call.clock.arrived(now_ns, len(payload))
            call.played.receive(payload, now_ns)


def _turn_of(payload: bytes) -> int:
    """The agent's turn that a packet begins with a record of; -1 = it does not."""
    return int(_TURN.unpack_from(payload)[2]) if payload.startswith(numbering.SYNC) else -1


def _ok(request: bytes) -> bytes:
    """200 to a request."""
    copied = b"\r\n".join(_COPIED.findall(request.partition(b"\r\n\r\n")[0]))
    return b"SIP/2.0 200 OK\r\n" + copied + b"\r\nContent-Length: 0\r\n\r\n"


def _rtp_socket() -> socket.socket:
    rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    rtp.setblocking(False)
    if sys.platform == "linux":
        rtp.setsockopt(socket.SOL_SOCKET, _TIMESTAMPS, 1)
    rtp.bind(("127.0.0.1", 0))
    return rtp
