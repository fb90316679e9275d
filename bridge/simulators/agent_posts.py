"""POST requests on the port of the simulated agents: the library behind their WebSockets reads GET requests only.

A connection whose first bytes say ``POST`` is read here, up to a bound, answered and closed. Everything else goes the
library's own way. Source: RFC 9112, sections 3, 6 and 9.6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection
from websockets.server import ServerProtocol

MAX_REQUEST_BYTES = 64 * 1024
"""Head and body; a text to speak has a few kilobytes."""

_METHOD = b"POST "


@dataclass(frozen=True, slots=True)
class Post:
    """A request as it came."""

    target: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What it is answered."""

    status: HTTPStatus
    body: bytes
    content_type: str = "application/json"

    def to_bytes(self) -> bytes:
        """The answer as it goes out; the connection closes behind it."""
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\nContent-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + self.body


BAD_REQUEST = Answer(HTTPStatus.BAD_REQUEST, b'{"detail":"Bad Request"}')
TOO_BIG = Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b'{"detail":"Request too large"}')


def read_post(received: bytes) -> Post | Answer | None:
    """The request in these bytes; None = more is to come; an answer = it is none."""
    if len(received) > MAX_REQUEST_BYTES:
        return TOO_BIG
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    fields = [line.partition(":") for line in lines]
    if len(words) != 3 or not all(colon for _, colon, _ in fields):
        return BAD_REQUEST
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or "transfer-encoding" in headers:
        return BAD_REQUEST
    if int(length) > MAX_REQUEST_BYTES:
        return TOO_BIG
    return Post(words[1], headers, body[: int(length)]) if len(body) >= int(length) else None


class PostConnection(ServerConnection):
    """A connection of the simulator's: a WebSocket, a GET or a POST."""

    def __init__(self, protocol: ServerProtocol, server: Server, **options: Any) -> None:
        super().__init__(protocol, server, **options)
        self._received = b""
        self._is_post: bool | None = None  # None until the first five bytes are there

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes."""
        if self._is_post is False:
            super().data_received(data)
            return
        self._received += data
        if self._is_post is None and not _METHOD.startswith(self._received):
            self._is_post = self._received.startswith(_METHOD)
            if not self._is_post:
                super().data_received(self._received)
                return
        if self._is_post:
            self._serve()

    def _serve(self) -> None:
        request = read_post(self._received)
        if request is not None:
            answer = request if isinstance(request, Answer) else self.answer(request)
            self.transport.write(answer.to_bytes())
            self.transport.close()

    def answer(self, post: Post) -> Answer:
        """What a request is answered."""
        raise NotImplementedError


def posting(answer: Callable[[Post], Answer]) -> type[ServerConnection]:
    """Connections whose POST requests are answered by this function."""

    class Connection(PostConnection):
        def answer(self, post: Post) -> Answer:
            return answer(post)

    return Connection
