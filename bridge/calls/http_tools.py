"""The operator's own HTTP tools: what one is, and the request that a tool call comes to. Pure.

Parameters that the URL does not name go into the query (GET, DELETE) or into a JSON object (POST, PUT, PATCH). What it
is not: their declaration in the TOML file (``bridge.calls.http_tools_file``), the request itself and whether its
address may be reached (``bridge.server.http_tools``).

Headers and URLs may hold secrets: ``repr`` leaves them out.

Source: RFC 3986, sections 2.1 and 5.2.4 (a value of the caller's stays inside its segment of the path).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

import msgspec

MAX_VALUE_CHARS = 4_000
"""Of one text parameter: what somebody says in five minutes."""
DEFAULT_TIMEOUT_S = 10.0
"""A caller listens to silence meanwhile."""
DEFAULT_RESULT_CHARS = 4_000

TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What the vendor takes as the name of a tool or parameter."""
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
"""A parameter's place in a URL."""


class Method(enum.Enum):
    """How the tool's server is asked."""

    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"

    @property
    def has_body(self) -> bool:
        """Whether parameters go into a JSON body; otherwise into the query."""
        return self in (Method.POST, Method.PUT, Method.PATCH)


class ValueKind(enum.Enum):
    """What a parameter is, as JSON schema calls it."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"


_KIND_WORDS = {
    ValueKind.STRING: "a text",
    ValueKind.INTEGER: "a whole number",
    ValueKind.NUMBER: "a number",
    ValueKind.BOOLEAN: "true or false",
}


@dataclass(frozen=True, slots=True)
class HttpParameter:
    """What the agent passes."""

    name: str
    description: str
    kind: ValueKind = ValueKind.STRING
    required: bool = True
    choices: tuple[str, ...] = ()
    """Texts that it may be; empty = any."""


@dataclass(frozen=True, slots=True)
class HttpTool:
    """A tool that an HTTP server of the operator's carries out."""

    name: str
    description: str
    """For the agent's model: when to use it, and what it does."""
    url: str = field(repr=False)
    """With ``{parameter}`` in path or query."""
    method: Method = Method.POST
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float = DEFAULT_TIMEOUT_S
    """From the first look-up to the last byte."""
    parameters: tuple[HttpParameter, ...] = ()
    result_max_chars: int = DEFAULT_RESULT_CHARS
    """What the agent gets of the answer."""

    def checked(self, given: Mapping[str, Any]) -> dict[str, Any] | str:
        """The declared parameters of a tool call; a text = what is wrong with them, for the agent."""
        found: dict[str, Any] = {}
        for parameter in self.parameters:
            value = given.get(parameter.name)
            if value is None:
                if parameter.required:
                    return _words(parameter, "is missing")
            elif problem := _problem(parameter, value):
                return _words(parameter, problem)
            else:
                found[parameter.name] = value
        return found if self._url(found) else "Nothing was done: a parameter is empty or cannot be part of an address."

    def request(self, parameters: Mapping[str, Any]) -> Request:
        """The request for parameters that ``checked`` has let through."""
        rest = {name: value for name, value in parameters.items() if name not in self._in_url}
        url = self._url(parameters)
        if self.method.has_body:
            return Request(self.method.value, url, msgspec.json.encode(rest))
        if rest:
            url += ("&" if "?" in url else "?") + urlencode({name: _text(value) for name, value in rest.items()})
        return Request(self.method.value, url, b"")

    @property
    def _in_url(self) -> frozenset[str]:
        return frozenset(PLACEHOLDER.findall(self.url))

    def _url(self, parameters: Mapping[str, Any]) -> str:
        """The address; empty where a value would change its shape."""
        texts = {name: _text(parameters.get(name, "")) for name in self._in_url}
        if not all(texts.values()):
            return ""
        url = PLACEHOLDER.sub(lambda place: quote(texts[place[1]], safe=""), self.url)
        segments = urlsplit(url).path.split("/")
        # RFC 3986, 5.2.4: "." and ".." would climb out of the template's path
        return "" if any(unquote(segment) in (".", "..") for segment in segments) else url


class Request(msgspec.Struct, frozen=True):
    """One request of a tool. Its parts may be secret."""

    method: str
    url: str
    body: bytes
    """JSON; empty where there is none."""

    def __repr__(self) -> str:
        return f"Request({self.method})"


def _problem(parameter: HttpParameter, value: object) -> str:
    if not _is_of(parameter.kind, value):
        return f"must be {_KIND_WORDS[parameter.kind]}"
    if not isinstance(value, str):
        return ""
    if len(value) > MAX_VALUE_CHARS:
        return f"is longer than {MAX_VALUE_CHARS} characters"
    if parameter.choices and value not in parameter.choices:
        return f"must be one of: {', '.join(parameter.choices)}"
    return "" if encodes(value) else "holds characters that cannot be sent"


def _is_of(kind: ValueKind, value: object) -> bool:
    if isinstance(value, bool) or kind is ValueKind.BOOLEAN:
        return kind is ValueKind.BOOLEAN and isinstance(value, bool)
    if kind is ValueKind.STRING:
        return isinstance(value, str)
    if isinstance(value, float) and kind is ValueKind.NUMBER:
        return value - value == 0  # neither infinite nor not-a-number
    return isinstance(value, int) and abs(value) < 2**63


def encodes(value: str) -> bool:
    """Whether it is text that UTF-8 has: no lone surrogates."""
    return not any("\ud800" <= char <= "\udfff" for char in value)


def _words(parameter: HttpParameter, problem: str) -> str:
    return f"Nothing was done: {parameter.name} {problem}. Ask the caller if you do not know it, then call again."


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
