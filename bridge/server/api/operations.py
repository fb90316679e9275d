"""The table of operations, and the one place that runs them.

Everything that is true of every operation is here: one path takes all methods (HEAD and OPTIONS sensibly, the
rest with 405 and ``Allow``), the key is checked, then path, query and body, each with its bound; whatever a
handler raises becomes an answer of the one error shape. Routes, the OpenAPI document and the page at ``/docs``
derive from the same table, so that none of them can leave something out.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Send
from starlette.types import Scope as AsgiScope

from bridge.auth.api_keys import Scope
from bridge.server.api.access import AccessControl
from bridge.server.api.errors import NO_STORE, ApiError, Unavailable, wrong_parameter
from bridge.server.api.query import parse_query
from bridge.server.logs import get_logger
from bridge.server.recording.bucket import BucketError
from bridge.server.slot_store import StoreDown
from bridge.server.store.faults import blames_values, describe

MAX_BODY_BYTES = 64 * 1024
"""A route or a list of event ids; as much as the carriers' webhooks may send."""

REQUEST_TIMEOUT_S = 15.0
"""For everything but the sending of audio: what takes longer is down. Clients commonly give up after 30 s."""

_UNAVAILABLE = (
    Unavailable,
    StoreDown,
    BucketError,
    DBAPIError,
    PoolTimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    RedisError,
    OSError,
)
"""What a database, Redis or a disk raises that does not answer; ``TimeoutError`` is an ``OSError``."""


def is_unavailable(error: Exception) -> bool:
    """Whether this says that something does not answer, and not that something is wrong with the request or with us."""
    return isinstance(error, _UNAVAILABLE) and not blames_values(error)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an operation."""

    name: str
    where: str
    """``path``, ``query`` or ``header``."""
    description: str
    schema: Mapping[str, Any]
    """JSON Schema of its text."""
    example: str = ""
    pattern: re.Pattern[str] | None = None
    """What a path parameter must match as a whole."""
    required: bool = False
    """Whether a query cannot do without it; path parameters always are."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request whose key, path, query and size of body are in order."""

    request: Request
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


Handler = Callable[[Arrival], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that the API can do."""

    id: str
    """``operationId``: names the method in generated clients, so it never changes."""
    method: str
    path: str
    tag: str
    summary: str
    description: str
    handler: Handler
    answer: Any
    """Type of the JSON answer; None = no content; ``AUDIO`` = a recording, ``FLIGHT`` = a flight record."""
    scope: Scope = Scope.READ
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    """Type of the JSON body; None = takes none."""
    errors: tuple[int, ...] = ()
    """Statuses of refusals besides those that every operation can give."""
    status: int = 200
    """Of an answer with JSON."""
    more_types: tuple[str, ...] = ()
    """Media types that an answer with JSON can also come as."""


AUDIO = "audio"
"""The ``answer`` of an operation that sends a recording."""
FLIGHT = "flight"
"""The ``answer`` of an operation that sends a flight record."""


@dataclass(slots=True)
class PathEndpoint:
    """The ASGI application of one path: all of its methods."""

    path: str
    access: AccessControl
    operations: dict[str, Operation] = field(default_factory=dict)

    @property
    def allow(self) -> str:
        """The ``Allow`` header of this path."""
        methods = set(self.operations) | {"OPTIONS"} | ({"HEAD"} if "GET" in self.operations else set())
        return ", ".join(sorted(methods))

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """One request."""
        request = Request(scope, receive)
        response = await self._answer(request)
        await response(scope, receive, _without_body(send) if request.method == "HEAD" else send)

    async def _answer(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                return await self._run(request)
        except ApiError as error:
            return error.response()
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except Exception as error:  # the boundary where a bug of ours becomes an answer
            return self._failure(error)

    def _failure(self, error: Exception) -> Response:
        """503 for what does not answer, 500 for a bug; the words are for the log alone."""
        if is_unavailable(error):
            get_logger().warning("api_unavailable", path=self.path, detail=describe(error))
            return ApiError(
                503,
                "unavailable",
                "The database, Redis or the recordings' store does not answer; try again, and see the bridge's log.",
                headers={"Retry-After": "5"},
            ).response()
        get_logger().error("api_bug", path=self.path, exc_info=error)
        return ApiError(
            500, "internal", "The bridge failed on its own; please report the traceback in its log."
        ).response()

    async def _run(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={**NO_STORE, "Allow": self.allow})
        operation = self.operations.get("GET" if request.method == "HEAD" else request.method)
        if operation is None:
            raise ApiError(405, "method_not_allowed", f"{self.path} takes {self.allow}.", headers={"Allow": self.allow})
        self.access.check(request, operation.scope)
        path = _path_values(request, operation)
        names = [parameter.name for parameter in operation.parameters if parameter.where == "query"]
        query = parse_query(request.scope["query_string"], names)
        body = await _read_body(request) if operation.body is not None else b""
        return await operation.handler(Arrival(request, path, query, body))


@dataclass(frozen=True, slots=True)
class UnknownPath:
    """The ASGI application of paths below ``/v1`` that nobody knows; asks for a key first, like all the others."""

    access: AccessControl

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """One request."""
        request = Request(scope, receive)
        error = ApiError(404, "no_such_path", "There is nothing at this path; GET /docs lists what there is.")
        try:
            self.access.check(request, Scope.READ)
        except ApiError as refusal:
            error = refusal
        await error.response()(scope, receive, _without_body(send) if request.method == "HEAD" else send)


def endpoints(operations: Sequence[Operation], access: AccessControl) -> list[PathEndpoint]:
    """One endpoint for each path of the table, in its order."""
    paths: dict[str, PathEndpoint] = {}
    for operation in operations:
        endpoint = paths.setdefault(operation.path, PathEndpoint(operation.path, access))
        endpoint.operations[operation.method] = operation
    return list(paths.values())


def _path_values(request: Request, operation: Operation) -> dict[str, str]:
    values: dict[str, str] = dict(request.path_params)
    for parameter in operation.parameters:
        if parameter.pattern is not None and not parameter.pattern.fullmatch(values[parameter.name]):
            raise wrong_parameter(
                parameter.name, f"is none of the bridge's making; it matches {parameter.pattern.pattern}"
            )
    return values


async def _read_body(request: Request) -> bytes:
    """The JSON body, read no further than its bound."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "not_json", "Send the body as JSON, with Content-Type: application/json.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise ApiError(413, "body_too_big", f"The body is bigger than {MAX_BODY_BYTES} bytes; send less at once.")
    return bytes(body)


def _without_body(send: Send) -> Send:
    """For HEAD: the same head, no body (RFC 9110, section 9.3.2)."""

    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head
