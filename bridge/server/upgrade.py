"""WebSocket upgrades on uvicorn's port, handed to picows.

uvicorn answers HTTP; when a client asks for a WebSocket, it builds the class given as ``ws=``, feeds it the
request as text and lets it take over the connection. ``upgrade_protocol`` makes such a class around picows'
own protocol, so that one port serves both and media never passes through ASGI.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from picows import WSListener, WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener
from picows.picows import WSAutoPingStrategy, WSProtocol  # type: ignore[attr-defined]  # missing in its stub

from bridge.server.sockets import READ_BUFFER_BYTES

_logger = logging.getLogger("picows.server")

HANDSHAKE_TIMEOUT_S = 5.0
"""uvicorn has read the whole request already; this only bounds what cannot happen."""

PING_IDLE_S = 20.0
"""A carrier that sent nothing for so long is pinged, to notice a connection that died without a word."""

Decide = Callable[[WSUpgradeRequest], "WSListener | Refusal"]
"""The application's word on an upgrade: a listener for the socket, or why not."""


class Refusal:
    """An upgrade answered with an HTTP error."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text


def upgrade_protocol(decide: Decide, max_message_bytes: int) -> type[asyncio.Protocol]:
    """The class for uvicorn's ``ws=`` that hands upgrades to picows after asking ``decide``."""

    def factory(request: WSUpgradeRequest) -> Any:
        # uvicorn has found "upgrade" among what may be a list (RFC 9110, 7.6.1); picows takes the bare word only.
        request.headers["Connection"] = "Upgrade"
        try:
            answer = decide(request)
        except Exception:  # picows would tell the peer what was wrong with us
            _logger.exception("deciding about an upgrade failed")
            answer = Refusal(500, "internal error")
        if isinstance(answer, Refusal):
            response = WSUpgradeResponse.create_error_response(answer.status, f"{answer.text}\n".encode())
            return WSUpgradeResponseWithListener(response, None)
        return answer

    class UpgradeProtocol(WSProtocol):  # type: ignore[misc]  # compiled and untyped
        """picows' server protocol, started by uvicorn."""

        def __init__(self, config: object, server_state: object, app_state: object) -> None:
            super().__init__(
                None,  # host_port: client side only
                None,  # path: client side only
                False,  # is_client_side
                factory,
                _logger,
                True,  # disconnect_on_exception
                HANDSHAKE_TIMEOUT_S,
                True,  # enable_auto_ping
                PING_IDLE_S,
                PING_IDLE_S,  # for the reply
                WSAutoPingStrategy.PING_WHEN_IDLE,
                True,  # enable_auto_pong
                max_message_bytes,
                None,  # extra_headers: client side only
                READ_BUFFER_BYTES,
            )

        def data_received(self, data: bytes) -> None:
            """uvicorn's one call: the request as it came. Everything later arrives through the buffer."""
            rest = memoryview(data)
            while rest:
                room = self.get_buffer(len(rest))
                size = min(len(room), len(rest))
                room[:size] = rest[:size]
                del room
                rest = rest[size:]
                self.buffer_updated(size)

    return UpgradeProtocol
