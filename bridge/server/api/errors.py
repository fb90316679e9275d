"""The one shape in which the API says no: ``{"error": {"code", "message", "field"?}}`` with a fitting status.

The message names what is wrong and what to do about it; ``code`` is for programs and does not change; ``field``
is the parameter or body member at fault. Nothing of a key, a number or an exception's text gets into it.
"""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from bridge.errors import BridgeError

JSON = "application/json"

NO_STORE = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""On every answer: call data stays out of caches, and nothing of it is ever rendered as a page."""

STATUS_TEXTS = {
    400: "A parameter or the body is wrong; `field` says which.",
    401: "No key, or one that is not valid.",
    403: "The key may not do this, or no key is configured.",
    404: "There is no such thing.",
    405: "The path does not know this method; `Allow` names those it knows.",
    409: "The state of the call does not allow it, or a request with this key is under way or broke off.",
    413: "The body is too big.",
    415: "The body is not JSON.",
    416: "The range lies outside of the recording.",
    422: "The body is JSON, but not what can be carried out; `field` says which member.",
    429: "Too many wrong keys from this address, no free slot, or a carrier that wants it slower; `Retry-After` says "
    "when to come back.",
    500: "A bug of the bridge; its log has the details.",
    502: "The carrier refused the order or did not answer.",
    503: "The database, Redis or the recordings' store does not answer; try again.",
}
"""Every status of a refusal, with the sentence that the OpenAPI document has for it."""


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was wrong."""

    code: str
    """For programs, e.g. `invalid_parameter`; does not change between versions."""
    message: str
    """For people: the problem, and what to do."""
    field: str = ""
    """The parameter or the member of the body at fault; absent where it is none of them."""


class ErrorBody(msgspec.Struct, frozen=True):
    """Every refusal looks like this."""

    error: ErrorInfo
    """Why the request was refused."""


class ApiError(BridgeError):
    """A request is refused; carries all of its answer."""

    def __init__(
        self, status: int, code: str, message: str, field: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.info = ErrorInfo(code, message, field)
        self.headers = headers or {}

    def response(self) -> Response:
        """The refusal as an answer."""
        return json_response(ErrorBody(self.info), self.status, self.headers)


class Unavailable(BridgeError):
    """What keeps calls, slots or recordings does not answer; the API says 503."""


def json_response(body: msgspec.Struct, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer with this body."""
    return Response(msgspec.json.encode(body), status, {**NO_STORE, **(headers or {})}, JSON)


def wrong_parameter(field: str, problem: str) -> ApiError:
    """A parameter that cannot be taken; ``problem`` says why and what to write instead."""
    return ApiError(400, "invalid_parameter", f"{field}: {problem}", field)


def no_such_call(call_id: str) -> ApiError:
    """404; ``call_id`` was checked against its pattern."""
    return ApiError(
        404,
        "no_such_call",
        f"There is no call {call_id}: it never was, was deleted, or its retention is over. "
        "To look one up by another id use ?by=call_sid or ?by=conversation_id.",
    )
