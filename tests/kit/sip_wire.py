"""A SIP peer of bytes and sockets alone: it sends what it is told to, however wrong, and says what came back.

Nothing of it knows transactions or dialogs, so it keeps no rule that a test wants broken.
"""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from bridge.sip.rtp import RtpSender
from tests.kit.sip import CALLER, OURS

ANSWER_S = 5.0
"""How long an answer may take."""
FRAME_SAMPLES = 160
_MEDIA = re.compile(r"^m=audio (\d+) ", re.MULTILINE)
_TAG = re.compile(r"^To:.*;tag=([^;\s]+)", re.MULTILINE)


class UdpPeer:
    """A socket on ``host`` that talks to one port of 127.0.0.1."""

    def __init__(self, to_port: int, host: str = "127.0.0.1") -> None:
        self.to = ("127.0.0.1", to_port)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind((host, 0))
        self.host: str = host
        self.port: int = self.sock.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.sock.close()

    def send(self, data: str | bytes) -> None:
        """Send a datagram."""
        self.sock.sendto(data.encode() if isinstance(data, str) else data, self.to)

    async def hear(self, timeout_s: float = ANSWER_S) -> str:
        """The next datagram; empty if none comes."""
        try:
            async with asyncio.timeout(timeout_s):
                return (await asyncio.get_running_loop().sock_recv(self.sock, 65_535)).decode("utf-8", "replace")
        except TimeoutError:
            return ""

    async def until(self, start: str) -> str:
        """The next datagram that begins like this; fails if none comes."""
        while text := await self.hear():
            if text.startswith(start):
                return text
        raise AssertionError(f"no {start}")

    def drain(self) -> list[bytes]:
        """All that has come so far."""
        found = []
        while True:
            try:
                found.append(self.sock.recv(65_535))
            except BlockingIOError:
                return found


@dataclass
class WireCall:
    """One call's requests as text, and its RTP."""

    peer: UdpPeer
    rtp: UdpPeer
    call_id: str = "wire-call-1"
    transport: str = "UDP"
    to_tag: str = ""
    sender: RtpSender = field(default_factory=lambda: RtpSender(0x5EED, 1000, 8000))

    def offer(self) -> str:
        """PCMU at the RTP socket."""
        at = f"IP4 {self.rtp.host}"
        return (
            f"v=0\r\no=- 1 1 IN {at}\r\ns=-\r\nc=IN {at}\r\nt=0 0\r\nm=audio {self.rtp.port} RTP/AVP 0\r\n"
            "a=rtpmap:0 PCMU/8000\r\n"
        )

    def request(self, method: str, number: int, body: str = "", branch: str = "", length: str = "") -> str:
        """A request; ``length`` is what Content-Length says of the body."""
        tag = f";tag={self.to_tag}" if self.to_tag else ""
        here = f"{self.peer.host}:{self.peer.port}"
        kind = "Content-Type: application/sdp\r\n" if body else ""
        return (
            f"{method} sip:{OURS}@127.0.0.1 SIP/2.0\r\n"
            f"Via: SIP/2.0/{self.transport} {here};branch=z9hG4bK{branch or method}{number}{self.call_id};rport\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:{CALLER}@{here}>;tag=wire\r\nTo: <sip:{OURS}@127.0.0.1>{tag}\r\n"
            f"Call-ID: {self.call_id}\r\nCSeq: {number} {method}\r\nContact: <sip:{CALLER}@{here}>\r\n{kind}"
            f"Content-Length: {length or len(body)}\r\n\r\n{body}"
        )

    def invite(self) -> str:
        """The first INVITE."""
        return self.request("INVITE", 1, self.offer())

    async def begin(self) -> None:
        """Call, and acknowledge the answer; RTP goes to where it says from then on."""
        self.peer.send(self.invite())
        self.learn(await self.peer.until("SIP/2.0 200"))
        self.peer.send(self.request("ACK", 1))

    def learn(self, answer: str) -> None:
        """Take the tag and the RTP port from an answer."""
        tag, media = _TAG.search(answer), _MEDIA.search(answer)
        assert tag and media, answer
        self.to_tag = tag[1]
        self.rtp.to = ("127.0.0.1", int(media[1]))

    def frame(self, payload: bytes) -> bytes:
        """The next packet of 20 ms, of PCMU."""
        return self.sender.audio(0, payload, FRAME_SAMPLES)

    async def hang_up(self) -> str:
        """BYE; returns its answer."""
        self.peer.send(self.request("BYE", 2))
        return await self.peer.until("SIP/2.0")
