"""From a query string to a filter: every parameter checked, every mistake named with its mend. Pure.

Three mistakes that clients make all the time are understood rather than refused: a ``+`` that was not
percent-encoded arrives as a space, both in phone numbers and in time zones; and times come as ISO 8601 or as
Unix seconds.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

from bridge.calls.state import State
from bridge.outcome import CATALOGUE, Result
from bridge.server.api.errors import ApiError, wrong_parameter
from bridge.server.store.listing import MAX_PAGE, CallFilter

MAX_QUERY_BYTES = 8192
"""As much as common proxies let through; a filter needs some hundred bytes."""
MAX_FIELDS = 50
MAX_VALUE_CHARS = 512
DEFAULT_LIMIT, MAX_LIMIT = 50, MAX_PAGE
"""Calls on one page: a screen, and what still fits into an answer of some hundred kilobytes."""

MAX_UNIX_S = 253_402_300_799.0
"""The end of the year 9999, where ISO 8601 and ``datetime`` end."""

CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
FOREIGN_ID = re.compile(r"[\x21-\x7e]{1,255}")
"""Ids of carriers and of the vendor, SIP Call-IDs among them (RFC 3261, section 25.1, ``word``)."""

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_SPACED_ZONE = re.compile(r"(T\d\d:?\d\d.*) (\d\d:?\d\d)")
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def parse_query(raw: bytes, known: Iterable[str]) -> dict[str, str]:
    """The parameters of a raw query string. Raises ``ApiError`` for what is unknown, double or not text."""
    if len(raw) > MAX_QUERY_BYTES:
        raise ApiError(400, "invalid_query", f"The query is longer than {MAX_QUERY_BYTES} bytes; shorten it.")
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except UnicodeDecodeError:
        raise ApiError(400, "invalid_query", "The query is not UTF-8; percent-encode its values as UTF-8.") from None
    except ValueError:
        raise ApiError(
            400, "invalid_query", f"The query has more than {MAX_FIELDS} parameters; leave some out."
        ) from None
    names = tuple(known)
    query: dict[str, str] = {}
    for name, value in pairs:
        if name not in names:
            raise wrong_parameter(_shown(name), f"is not known here; use {', '.join(names) or 'no parameter at all'}")
        if name in query:
            raise wrong_parameter(name, "is there twice; give it once")
        if len(value) > MAX_VALUE_CHARS:
            raise wrong_parameter(name, f"is longer than {MAX_VALUE_CHARS} characters; shorten it")
        if any(ord(char) < 0x20 or ord(char) == 0x7F for char in value):
            raise wrong_parameter(name, "holds control characters; leave them out")
        if value:  # an empty parameter is what forms send for a field that was left blank
            query[name] = value
    return query


def parse_filter(query: Mapping[str, str]) -> CallFilter:
    """The filter of a list of calls; parameters that are no part of it are left alone."""
    since, until = _time(query, "since"), _time(query, "until")
    if since is not None and until is not None and since >= until:
        raise wrong_parameter("until", "is not after since; swap them, or leave one out")
    return CallFilter(
        provider=_name(query, "provider"),
        agent_id=query.get("agent_id"),
        caller=_number(query, "caller"),
        called=_number(query, "called"),
        state=_one_of(query, "state", [state.value for state in State]),
        result=_one_of(query, "result", [result.value for result in Result]),
        reason=_one_of(query, "reason", list(CATALOGUE)),
        direction=_one_of(query, "direction", ["inbound", "outbound"]),
        since=since,
        until=until,
        live=_flag(query, "live"),
        conversation_id=_foreign_id(query, "conversation_id"),
        call_sid=_foreign_id(query, "call_sid"),
    )


def parse_limit(query: Mapping[str, str], default: int = DEFAULT_LIMIT, most: int = MAX_LIMIT) -> int:
    """How many entries a page has."""
    text = query.get("limit")
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= most:
        raise wrong_parameter("limit", f"is no whole number from 1 to {most}")
    return int(text)


def parse_time(field: str, text: str) -> float:
    """Unix seconds of a time in ISO 8601 (without a zone: UTC) or in Unix seconds."""
    if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", text) and not re.fullmatch(r"[0-9]{8}", text):
        seconds = float(text)
        if seconds > MAX_UNIX_S:
            raise wrong_parameter(field, "lies after the year 9999; Unix time is in seconds here, not in milliseconds")
        return seconds
    try:
        moment = dt.datetime.fromisoformat(_SPACED_ZONE.sub(r"\1+\2", text))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=dt.UTC)
        return max(0.0, moment.timestamp())
    except (ValueError, OverflowError):
        raise wrong_parameter(
            field, "is no time; write ISO 8601 such as 2026-03-31T09:30:00Z, or Unix seconds such as 1774949400"
        ) from None


def parse_flag(field: str, text: str) -> bool:
    """``true`` or ``false`` (``1`` or ``0``)."""
    flag = _FLAGS.get(text.lower())
    if flag is None:
        raise wrong_parameter(field, "is neither true nor false")
    return flag


def parse_number(text: str) -> str:
    """A number as the carrier wrote it; a space before its first digit was a plus."""
    return f"+{text[1:]}" if re.match(r" [0-9]", text) else text


def _time(query: Mapping[str, str], field: str) -> float | None:
    text = query.get(field)
    return None if text is None else parse_time(field, text)


def _flag(query: Mapping[str, str], field: str) -> bool | None:
    text = query.get(field)
    return None if text is None else parse_flag(field, text)


def _name(query: Mapping[str, str], field: str) -> str | None:
    text = query.get(field)
    if text is not None and not _NAME.fullmatch(text):
        raise wrong_parameter(field, "is no name; use up to 128 letters, digits, dots, dashes and underscores")
    return text


def _number(query: Mapping[str, str], field: str) -> str | None:
    text = query.get(field)
    return None if text is None else parse_number(text)


def _foreign_id(query: Mapping[str, str], field: str) -> str | None:
    text = query.get(field)
    if text is not None and not FOREIGN_ID.fullmatch(text):
        raise wrong_parameter(field, "is no id; ids have up to 255 visible ASCII characters and no spaces")
    return text


def _one_of(query: Mapping[str, str], field: str, values: list[str]) -> str | None:
    text = query.get(field)
    if text is not None and text not in values:
        raise wrong_parameter(field, f"is none of {', '.join(values)}")
    return text


def _shown(name: str) -> str:
    """A name that the client made up, cut to what fits into a message."""
    return name.encode("ascii", "backslashreplace").decode()[:40]
