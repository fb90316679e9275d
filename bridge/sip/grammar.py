"""The pieces that all SIP header values are made of: tokens, quoted strings, lists, parameters (RFC 3261 section 25).

Values arrive unfolded, as text decoded from UTF-8 with ``surrogateescape``, so that bytes which are no UTF-8 survive
into a response that copies them. Show such text to people only through ``readable``.

Every pattern here takes linear time: alternatives exclude each other and repetitions never give back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bridge.sip.errors import HeaderError

LWS = " \t"
"""Linear white space, once lines are unfolded."""

TCHARS = r"A-Za-z0-9\-.!%*_+`'~"
TOKEN = re.compile(rf"[{TCHARS}]+")

UNFIT_IN_URI = re.compile(r'[\x00-\x20\x7f<>"]')
"""What ends a URI wherever one stands, and so can be in none."""

_QUOTED = re.compile(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_LIST_PIECE = re.compile(r'[^",<]++|"(?:[^"\\]++|\\.)*+"|<[^>]*+>|,', re.DOTALL)
_PARAM = re.compile(
    rf'[ \t]*+;[ \t]*+([{TCHARS}]++)[ \t]*+(?:=[ \t]*+("(?:[^"\\]++|\\.)*+"|[^ \t;,"<>]++)[ \t]*+)?+', re.DOTALL
)
_UNQUOTED_VALUE = re.compile(rf"[{TCHARS}\[\]:]+")
"""A token or a host, IPv6 references included: what stands in a parameter without quotes."""
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

MAX_LIST_ITEMS = 128
"""Longest list that is read; the longest in RFC 4475 has 34 items (Via)."""


def is_token(text: str) -> bool:
    """Whether this is a token: a method, header name or option tag."""
    return TOKEN.fullmatch(text) is not None


def readable(text: str) -> str:
    """Text of a message for logs, JSON and people: control characters and bytes that are no UTF-8 become U+FFFD."""
    return _CONTROL.sub("�", text)


def quote(text: str) -> str:
    """The text as a quoted string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def take_quoted(text: str) -> tuple[str, str]:
    """The content of the quoted string that ``text`` begins with, and what follows it. Raises ``HeaderError``."""
    match = _QUOTED.match(text)
    if match is None:
        raise HeaderError("a quoted string does not end")
    return _unescape(match[1]), text[match.end() :]


def _unescape(text: str) -> str:
    return _ESCAPE.sub(r"\1", text) if "\\" in text else text


def split_list(text: str) -> list[str]:
    """The items of a comma-joined value, trimmed; commas in quotes and angle brackets part nothing.

    Raises ``HeaderError`` for quotes and brackets without an end, and for more than ``MAX_LIST_ITEMS`` items.
    """
    if '"' in text or "<" in text:
        items = [item.strip(LWS) for item in _split_carefully(text)]
    else:
        items = [item.strip(LWS) for item in text.split(",")]
    if len(items) > MAX_LIST_ITEMS:
        raise HeaderError("a list is too long")
    return items


def _split_carefully(text: str) -> Iterator[str]:
    if "," not in text:
        yield text
        return
    item: list[str] = []
    position = 0
    while position < len(text):
        match = _LIST_PIECE.match(text, position)
        if match is None:
            raise HeaderError("a quote or an angle bracket is not closed")
        position = match.end()
        if match[0] == ",":
            yield "".join(item)
            item = []
        else:
            item.append(match[0])
    yield "".join(item)


def tokens(values: Iterable[str]) -> tuple[str, ...]:
    """The tokens of a repeated, comma-joined header such as Allow or Require; empty items are skipped."""
    return tuple(item for value in values for item in split_list(value) if item)


@dataclass(frozen=True, slots=True)
class Params:
    """Parameters of a header value, in order: ``;tag=x;lr``. Names are lower case, values without their quotes."""

    items: tuple[tuple[str, str | None], ...] = ()
    """Name and value; None = the parameter stands alone."""

    def get(self, name: str) -> str | None:
        """The value of the first parameter of this (lower-case) name; empty where it has none; None = absent."""
        for key, value in self.items:
            if key == name:
                return value or ""
        return None

    def having(self, name: str, value: str | None) -> Params:
        """These parameters with ``name`` set to ``value``, in its old place or at the end."""
        if self.get(name) is None:
            return Params((*self.items, (name, value)))
        return Params(tuple((key, value if key == name else old) for key, old in self.items))

    def __str__(self) -> str:
        return "".join(f";{name}" if value is None else f";{name}={_value(value)}" for name, value in self.items)


NO_PARAMS = Params()


def _value(value: str) -> str:
    return value if _UNQUOTED_VALUE.fullmatch(value) else quote(value)


def parse_params(text: str) -> Params:
    """Read ``;name=value;name`` to its end. Raises ``HeaderError``, also for a semicolon with nothing behind it."""
    if not text:
        return NO_PARAMS
    items: list[tuple[str, str | None]] = []
    position = 0
    while position < len(text):
        match = _PARAM.match(text, position)
        if match is None:
            raise HeaderError("a parameter is malformed")
        position = match.end()
        name, value = match.groups()
        if value is not None and value[0] == '"':
            value = _unescape(value[1:-1])
        items.append((name.lower(), value))
    return Params(tuple(items))
