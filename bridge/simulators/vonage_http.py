"""The HTTP side of a simulated Vonage's REST interface: HTTP/1.1 on a plain socket, so that it can also misbehave.

Not a general server: bodies need a Content-Length, one request at a time on a connection. Faults (``Fault``) are
applied here, around ``RestApi.handle``.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import msgspec

from bridge.simulators.vonage_cloud_options import Fault
from bridge.simulators.vonage_rest import Reply, Request, RestApi

MAX_HEAD_BYTES, MAX_BODY_BYTES = 16 * 1024, 512 * 1024
IDLE_S = 60.0
"""How long a connection may be kept open without a request."""


class _Bad(Exception):
    """No request that can be read."""


class RestServer:
    """Listens for REST requests; ``faults`` may be filled at any time."""

    def __init__(self, api: RestApi) -> None:
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, int]] = []
        """Method, path and status of every answer; status 0 = the connection was dropped."""
        self._api = api
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises ``OSError``."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=MAX_HEAD_BYTES)
        listening: int = self._server.sockets[0].getsockname()[1]
        return listening

    async def aclose(self) -> None:
        """Stop listening and close all connections."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._connections):
                writer.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while (request := await asyncio.wait_for(_read(reader), IDLE_S)) is not None:
                reply = await self._answer(request)
                self.requests.append((request.method, request.path, reply.status if reply else 0))
                if reply is None:
                    writer.transport.abort()
                    return
                writer.write(_render(reply))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass
        except _Bad:
            writer.write(_render(Reply(400, {"title": "Bad Request"})))
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _answer(self, request: Request) -> Reply | None:
        """Answer, with the first fault that is for this request; None = drop the connection."""
        fault = next((fault for fault in self.faults if fault.matches(request.method, request.path)), None)
        if fault is None:
            return self._api.handle(request)
        fault.times -= 1
        reply: Reply | None = None
        if fault.carried_out or not (fault.drop or fault.status):
            reply = self._api.handle(request)
        if fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if fault.drop:
            return None
        if fault.status:
            return Reply(fault.status, {"title": HTTPStatus(fault.status).phrase}, fault.headers)
        return reply


async def _read(reader: asyncio.StreamReader) -> Request | None:
    """The next request of a connection; None at its end. Raises ``_Bad``."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise _Bad from None
        return None
    except asyncio.LimitOverrunError:
        raise _Bad from None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    parts = first.split(" ")
    length = headers.get("content-length", "0")
    if len(parts) != 3 or "transfer-encoding" in headers or not length.isdecimal() or int(length) > MAX_BODY_BYTES:
        raise _Bad
    return Request(parts[0], parts[1], headers, await reader.readexactly(int(length)))


def _render(reply: Reply) -> bytes:
    body = b"" if reply.body is None else msgspec.json.encode(reply.body)
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **reply.headers}
    lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body
