"""Puts the API together: the table of operations becomes routes, a document and a page."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.server.api.access import AccessControl
from bridge.server.api.calls import call_operations
from bridge.server.api.docs_page import DOCS_CSP, DOCS_CSS, render_docs
from bridge.server.api.errors import JSON
from bridge.server.api.live import live_operations
from bridge.server.api.openapi import build_openapi
from bridge.server.api.operations import Operation, UnknownPath, endpoints
from bridge.server.api.outbound import outbound_operations
from bridge.server.api.ports import ApiPorts
from bridge.server.api.recording import control_operations
from bridge.server.api.routes import route_operations
from bridge.server.api.transfer import transfer_operations
from bridge.server.api.views import Views
from bridge.server.api.webhooks import webhook_operations

PAGE_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}
"""On what describes the API; it holds no data of calls, so it may be kept as long as it is asked for again."""


def api_operations(ports: ApiPorts, *, redact_numbers: bool) -> tuple[Operation, ...]:
    """The whole table, in the order of the page."""
    views = Views(redact_numbers)
    return (
        *call_operations(ports, views),
        *outbound_operations(ports),
        *control_operations(ports),
        *transfer_operations(ports),
        *live_operations(ports, views),
        *route_operations(ports),
        *webhook_operations(ports),
    )


def create_api(
    ports: ApiPorts,
    access: AccessControl,
    *,
    redact_numbers: bool,
    public_url: str = "",
    more: Sequence[Operation] = (),
) -> APIRouter:
    """The router with everything below ``/v1``, ``/openapi.json`` and ``/docs``.

    Include it last: it answers every path below ``/v1`` that no router before it took. ``public_url`` (without a
    trailing slash) goes into the document and its examples. ``more`` adds operations of other modules.
    """
    operations = (*api_operations(ports, redact_numbers=redact_numbers), *more)
    document = build_openapi(operations, public_url)
    page = render_docs(document)
    router = APIRouter()
    _serve(router, "/openapi.json", msgspec.json.encode(document), JSON)
    _serve(router, "/docs", page.encode(), "text/html; charset=utf-8", {"Content-Security-Policy": DOCS_CSP})
    _serve(router, "/docs.css", DOCS_CSS.encode(), "text/css; charset=utf-8")
    for endpoint in endpoints(operations, access):
        router.routes.append(Route(endpoint.path, endpoint, include_in_schema=False))
    for path in ("/v1", "/v1/{rest:path}"):
        router.routes.append(Route(path, UnknownPath(access), include_in_schema=False))
    return router


def _serve(router: APIRouter, path: str, content: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
    """A document that never changes while the process runs; open to everybody, as it holds no data."""

    async def serve(request: Request) -> Response:
        return Response(content, headers={**PAGE_HEADERS, **(headers or {})}, media_type=kind)

    router.routes.append(Route(path, serve, methods=["GET"], include_in_schema=False))
