"""Lists of calls: what can be asked for, and the cursor that leads from page to page. Pure.

Paging is by key, not by offset: the next page begins after the last call of this one, so that calls which come in
meanwhile shift nothing, and the last page costs what the first does.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct

import msgspec
from sqlalchemy import ColumnElement, select, tuple_

from bridge.calls.record import CallRecord
from bridge.errors import RemoteError
from bridge.server.store.schema import CALLS, CONVERSATIONS

MAX_PAGE = 200
"""Calls on one page: some 200 kB of JSON."""
MAX_CURSOR_CHARS = 200
"""Ours have at most 96."""

_TIME = struct.Struct(">d")
_EQUAL = ("provider", "agent_id", "caller", "called", "state", "result", "reason", "direction", "call_sid")


class QueryError(RemoteError, ValueError):
    """A list was asked for in a way that makes no sense; the message names the field."""


class CallFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls to list; None = any. Texts are compared to the letter."""

    provider: str | None = None
    agent_id: str | None = None
    caller: str | None = None
    called: str | None = None
    state: str | None = None
    result: str | None = None
    reason: str | None = None
    direction: str | None = None
    since: float | None = None
    """Offered at this time or later, Unix seconds."""
    until: float | None = None
    """Offered before this time, Unix seconds."""
    live: bool | None = None
    """True = not over yet, False = over."""
    conversation_id: str | None = None
    """Any conversation of the call, not only its last."""
    call_sid: str | None = None


class CallPage(msgspec.Struct, frozen=True):
    """One page of calls, newest first."""

    calls: list[CallRecord]
    """Without their journals."""
    next_cursor: str | None
    """Where the next page begins; None = this was the last."""


def conditions(wanted: CallFilter) -> list[ColumnElement[bool]]:
    """The filter as SQL, all of which must hold. Raises ``QueryError`` for texts that no database takes."""
    found = [CALLS.c[name] == _text(name, value) for name in _EQUAL if (value := getattr(wanted, name)) is not None]
    if wanted.since is not None:
        found.append(CALLS.c.created_at >= wanted.since)
    if wanted.until is not None:
        found.append(CALLS.c.created_at < wanted.until)
    if wanted.live is not None:
        found.append(CALLS.c.ended_at.is_(None) if wanted.live else CALLS.c.ended_at.is_not(None))
    if wanted.conversation_id is not None:
        conversation_id = _text("conversation_id", wanted.conversation_id)
        found.append(
            CALLS.c.id.in_(select(CONVERSATIONS.c.call_id).where(CONVERSATIONS.c.conversation_id == conversation_id))
        )
    return found


def after(cursor: str) -> ColumnElement[bool]:
    """What comes after the cursor. Raises ``QueryError`` for a cursor that cannot be one.

    A cursor is a place in the list and gives no rights, so a forged one that can be read only leads to another place.
    """
    created_at, call_id = read_cursor(cursor)
    return tuple_(CALLS.c.created_at, CALLS.c.id) < tuple_(created_at, call_id)


def make_cursor(created_at: float, call_id: str) -> str:
    """The cursor of the call that closes a page."""
    return base64.urlsafe_b64encode(_TIME.pack(created_at) + call_id.encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[float, str]:
    """The time of offer and id in a cursor. Raises ``QueryError``."""
    try:
        if len(cursor) > MAX_CURSOR_CHARS:
            raise ValueError
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        (created_at,) = _TIME.unpack_from(raw)
        call_id = raw[_TIME.size :].decode()
        if not math.isfinite(created_at) or not call_id or not call_id.isprintable():
            raise ValueError
    except (ValueError, struct.error, binascii.Error):
        raise QueryError("cursor: not one of ours; take next_cursor of the page before") from None
    return created_at, call_id


def _text(name: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise QueryError(f"{name}: no valid Unicode") from None
    if "\0" in value:
        raise QueryError(f"{name}: holds a null character")
    return value
