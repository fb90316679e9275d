"""The SIP messages of a call over HTTP: as JSON, as text, or as a ladder picture.

With REDACT_NUMBERS numbers and SIP users are masked in all three. Passwords, keys and digits were left out before the
messages got here (``bridge.sip.message_log``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from bridge.auth.api_keys import Scope
from bridge.calls.redact import redact_text
from bridge.calls.sip_ladder import LADDER_CSP, render_ladder
from bridge.errors import RemoteError
from bridge.server.api.calls import OWN_ID
from bridge.server.api.errors import JSON, NO_STORE, ApiError, wrong_parameter
from bridge.server.api.operations import Arrival, Operation, Parameter
from bridge.server.call_files import NoCallFileError
from bridge.sip.message_log import SipMessageEntry, SipTrace, trace_text

TAG = "calls"
TEXT = "text/plain"
SVG = "image/svg+xml"
FORMATS = {"json": JSON, "text": TEXT, "svg": SVG}
"""Values of ``format``, and what comes then."""

_ACCEPTED = {JSON: "json", TEXT: "text", SVG: "svg", "image/*": "svg", "text/*": "text"}
_NUMBERS_IN_ADDRESSES = re.compile(
    r"(?i)\b(?:sips?:\+?(?=[^\s<>\"@,]{1,200}@)|tel:\+?)([0-9][0-9().-]{3,30})"  # not the host of a URI without a user
)
_QUALITY = re.compile(r";\s*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*(?:;|$)")
MAX_ACCEPT_CHARS = 1_000
"""Of the Accept header that are looked at; browsers send some 150."""

FORMAT = Parameter(
    "format",
    "query",
    "How to have them; without it `Accept` decides, and JSON comes where that leaves it open.",
    {"type": "string", "enum": list(FORMATS)},
    "svg",
)


class SipMessagesPort(Protocol):
    """Where the messages are: ``bridge.server.sip.message_store.MessageStore``."""

    async def trace(self, call_id: str) -> SipTrace:
        """The messages of a call. Raises ``NoCallFileError``, ``OSError``, ``RemoteError``."""


def sip_message_operations(messages: SipMessagesPort, redact_numbers: Callable[[], bool]) -> tuple[Operation, ...]:
    """The operations of this module. ``redact_numbers`` is the setting as it stands."""

    async def get_messages(arrival: Arrival) -> Response:
        call_id = arrival.path["id"]
        chosen = _format(arrival)
        try:
            trace = await messages.trace(call_id)
        except NoCallFileError:
            raise ApiError(
                404,
                "no_sip_messages",
                f"There are no SIP messages of call {call_id}: it did not come over a SIP trunk, SIP_MESSAGE_LOG says "
                "not to keep them, or their retention is over.",
            ) from None
        except RemoteError:
            raise ApiError(
                404, "sip_messages_damaged", f"The file with the SIP messages of call {call_id} is damaged."
            ) from None
        shown = redact_trace(trace) if redact_numbers() else trace
        return _response(shown, call_id, chosen)

    return (
        Operation(
            "getCallSipMessages",
            "GET",
            "/v1/calls/{id}/sip-messages",
            TAG,
            "SIP messages",
            "The SIP messages of a call over a trunk, as they were sent and received: as JSON, as text for reading, or "
            "as a ladder picture (SVG). Of a call in progress: what there is so far. Passwords, keys of SRTP and "
            "pressed keys are left out; numbers are masked with REDACT_NUMBERS.",
            get_messages,
            SipTrace,
            Scope.READ,
            parameters=(OWN_ID, FORMAT),
            errors=(400, 404),
            more_types=(TEXT, SVG),
        ),
    )


def redact_trace(trace: SipTrace) -> SipTrace:
    """The trace with every number masked that stands in an address of it, wherever else it stands too."""
    found = {
        re.sub(r"[().-]", "", number)
        for message in trace.messages
        for number in _NUMBERS_IN_ADDRESSES.findall(message.text)
    }
    known = tuple(sorted(found, key=lambda number: (-len(number), number)))
    messages = [_redacted(message, known) for message in trace.messages]
    return msgspec.structs.replace(trace, messages=messages)


def _redacted(message: SipMessageEntry, known: tuple[str, ...]) -> SipMessageEntry:
    return msgspec.structs.replace(
        message, text=redact_text(message.text, known), summary=redact_text(message.summary, known)
    )


def _format(arrival: Arrival) -> str:
    wanted = arrival.query.get("format", "")
    if wanted and wanted not in FORMATS:
        raise wrong_parameter("format", f"is none of {', '.join(FORMATS)}")
    return wanted or _accepted(arrival.request)


def _accepted(request: Request) -> str:
    """What the client likes best of what there is (RFC 9110, section 12.5.1); JSON where it does not say."""
    best, best_quality = "json", 0.0
    for part in request.headers.get("accept", "")[:MAX_ACCEPT_CHARS].split(","):
        kind, semicolon, params = part.partition(";")
        match = _QUALITY.search(semicolon + params)
        quality = float(match[1]) if match else 1.0
        chosen = _ACCEPTED.get(kind.strip().lower())
        if chosen is not None and quality > best_quality:
            best, best_quality = chosen, quality
    return best


def _response(trace: SipTrace, call_id: str, chosen: str) -> Response:
    headers = {**NO_STORE, "Vary": "Accept"}
    if chosen == "json":
        return Response(msgspec.json.encode(trace), 200, headers, JSON)
    title = f"SIP messages of call {call_id}"
    if chosen == "text":
        return Response(trace_text(trace, (title, "")), 200, headers, f"{TEXT}; charset=utf-8")
    headers["Content-Security-Policy"] = f"{LADDER_CSP}; frame-ancestors 'none'"
    return Response(render_ladder(trace, title), 200, headers, SVG)
