"""Asks the bridge's own API from within, on behalf of a visitor of the console.

So recordings, flight records and orders to calls have one implementation, with its checks, whoever asks. Only what is
listed in ``PARTS`` and ``ORDERS`` can be asked for.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bridge.auth.api_keys import Access
from bridge.server.api.access import VOUCHED

PARTS = frozenset({"audio", "flight", "sip-messages", "webhooks"})
"""Parts of a call that can be had."""
ORDERS = frozenset({"hangup", "transfer"})
"""What can be done to a call."""

_KEPT = ("type", "asgi", "http_version", "server", "client", "scheme", "method", "root_path", "headers", "extensions")
"""Of the visitor's request; the rest belongs to the route that took it."""


class Forward(Response):
    """The API's answer to another path, asked with the visitor's rights."""

    def __init__(self, request: Request, path: str, access: Access) -> None:
        super().__init__()
        kept = {name: request.scope[name] for name in _KEPT if name in request.scope}
        self._scope = {
            **kept,
            "path": path,
            "raw_path": path.encode("ascii"),
            "query_string": request.scope["query_string"],
            VOUCHED: access,
        }
        self._app = request.app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask, and pass the answer on."""
        await self._app(self._scope, receive, send)
