"""The operator's HTTP tools as the TOML file declares them, and the parser that names every mistake. Pure.

    [tools.order_status]
    description = "Looks up an order. Use it when the caller asks where their order is."
    url = "https://shop.example.com/orders/{order_id}"
    method = "GET"
    headers = { Authorization = "Bearer ..." }
    timeout_s = 5

    [tools.order_status.parameters.order_id]
    type = "string"
    description = "Number of the order, digits only"

Only ``description`` and ``url`` have to be there. Headers and URLs may hold secrets: no mistake quotes them.

Source for header names: RFC 9110, section 5.6.2.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from bridge.calls.http_tools import (
    PLACEHOLDER,
    TOOL_NAME,
    HttpParameter,
    HttpTool,
    Method,
    ValueKind,
    encodes,
)

MAX_TOOLS = 64
"""Of one bridge. A model that has dozens of tools picks the wrong one."""
MAX_PARAMETERS = 32
MAX_CHOICES = 100
MAX_CHOICE_CHARS = 200
MAX_DESCRIPTION_CHARS = 4_000
MAX_URL_CHARS = 2_048
"""Of the template; what parameters add comes on top."""
MAX_HEADERS = 32
MAX_HEADER_CHARS = 4_096
MAX_TIMEOUT_S = 110.0
"""The vendor waits at most 120 s for a client tool; the answer has to be there before."""
MAX_RESULT_CHARS = 32_000
"""The agent's model reads it in the middle of a call."""
_SHOWN_CHARS = 60
"""How much of a name a message repeats."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "elevenlabs-signature",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-bridge-call-id",
        "x-bridge-conversation-id",
        "x-bridge-tool",
    }
)
"""Headers that the HTTP client or the bridge writes; a second one would contradict it."""


def parse_tools(document: object, mistakes: list[str], taken: Collection[str] = ()) -> dict[str, HttpTool]:
    """The tools of ``[tools]``; ``mistakes`` gets a line for each member that is wrong.

    ``taken`` are names that other tools have already. A tool with a mistake is left out.
    """
    if not isinstance(document, Mapping):
        mistakes.append("tools must be tables such as [tools.order_status]")
        return {}
    if len(document) > MAX_TOOLS:
        mistakes.append(f"tools are {len(document)}; there may be {MAX_TOOLS}")
        return {}
    found = {}
    for name, table in document.items():
        before = len(mistakes)
        place = f"tools.{_clipped(str(name))}"
        if not TOOL_NAME.fullmatch(str(name)):
            mistakes.append(f"{place} is no tool's name; use up to 64 letters, digits, underscores and hyphens")
        elif name in taken:
            mistakes.append(f"{place} has the name of a tool of the bridge's own; give it another")
        elif (tool := _tool(str(name), table, place, mistakes)) is not None and len(mistakes) == before:
            found[str(name)] = tool
    return found


def _tool(name: str, table: object, place: str, mistakes: list[str]) -> HttpTool | None:
    before = len(mistakes)
    members = _members(table, _TOOL_MEMBERS, place, mistakes)
    for member, mend in (("description", "say when the agent should use it"), ("url", "give its address")):
        if isinstance(table, Mapping) and member not in table:
            mistakes.append(f"{place}.{member} is missing; {mend}")
    parameters = members.pop("parameters", {})
    members["parameters"] = _parameters(parameters, f"{place}.parameters", mistakes)
    if len(mistakes) > before:
        return None
    tool = HttpTool(name=name, **members)
    required = {each.name for each in tool.parameters if each.required}
    for hole in PLACEHOLDER.findall(tool.url):
        if hole not in required:
            mistakes.append(f"{place}.url names {{{_clipped(hole)}}}; declare it in {place}.parameters as required")
    return tool


def _parameters(tables: Mapping[str, object], place: str, mistakes: list[str]) -> tuple[HttpParameter, ...]:
    if len(tables) > MAX_PARAMETERS:
        mistakes.append(f"{place} are {len(tables)}; there may be {MAX_PARAMETERS}")
        return ()
    found = []
    for name, table in tables.items():
        where = f"{place}.{_clipped(str(name))}"
        before = len(mistakes)
        if not TOOL_NAME.fullmatch(str(name)):
            mistakes.append(f"{where} is no parameter's name; use up to 64 letters, digits, underscores and hyphens")
            continue
        members = _members(table, _PARAMETER_MEMBERS, where, mistakes)
        if isinstance(table, Mapping) and "description" not in table:
            mistakes.append(f"{where}.description is missing; tell the agent what to pass")
        if members.get("choices") and members.get("kind", ValueKind.STRING) is not ValueKind.STRING:
            mistakes.append(f"{where}.enum is only for texts; take it out")
        if len(mistakes) == before:
            found.append(HttpParameter(name=str(name), **members))
    return tuple(found)


_Check = Callable[[object], Any]


def _members(table: object, known: Mapping[str, tuple[str, _Check]], place: str, mistakes: list[str]) -> dict[str, Any]:
    """The members of a table by the name of their field."""
    if not isinstance(table, Mapping):
        mistakes.append(f"{place} is no table")
        return {}
    found: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            mend = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            mistakes.append(f"{place}.{_clipped(str(key))} is no member of it; {mend}")
            continue
        target, check = known[key]
        try:
            found[target] = check(value)
        except ValueError as problem:
            mistakes.append(f"{place}.{key} {problem}")
    return found


# --- one member: each check raises ValueError with the rest of a sentence that begins with the member's name ---


def _description(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_DESCRIPTION_CHARS or not encodes(value):
        raise ValueError(f"is no description; give a text of up to {MAX_DESCRIPTION_CHARS} characters")
    return " ".join(value.split())


def _address(value: object) -> str:
    mend = "give an absolute URL such as https://shop.example.com/orders/{order_id}"
    if not isinstance(value, str) or len(value) > MAX_URL_CHARS:
        raise ValueError(f"is no URL of up to {MAX_URL_CHARS} characters; {mend}")
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"is no URL; {mend}") from None
    if parts.scheme not in ("http", "https") or not host or not value.isprintable() or " " in value:
        raise ValueError(f"is no absolute http or https URL; {mend}")
    if "@" in parts.netloc:
        raise ValueError("holds a user or password; use headers instead")
    if parts.fragment:
        raise ValueError("holds a fragment, which no server gets to see; take it out")
    if "{" in parts.netloc:
        raise ValueError("has a parameter in its host; an agent must not choose the host")
    if re.search(r"[{}]", PLACEHOLDER.sub("", value)):
        raise ValueError("has a brace without its partner; write parameters as {name}")
    return value


def _method(value: object) -> Method:
    try:
        return Method(str(value).upper())
    except ValueError:
        raise ValueError(f"is no method; give one of {', '.join(each.value for each in Method)}") from None


def _headers(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(each, str) for each in value.values()):
        raise ValueError('is no table of texts; give one such as { Authorization = "Bearer ..." }')
    if len(value) > MAX_HEADERS:
        raise ValueError(f"has {len(value)} headers; give at most {MAX_HEADERS}")
    for place, (name, text) in enumerate(value.items(), 1):
        if not _HEADER_NAME.fullmatch(str(name)):
            raise ValueError(f"has as header {place} what is no header name; use letters, digits and hyphens")
        if str(name).lower() in _OWN_HEADERS:
            raise ValueError(f"sets the header {name}, which the bridge sets itself; take it out")
        if not (text.isascii() and text.isprintable()) or text != text.strip() or len(text) > MAX_HEADER_CHARS:
            raise ValueError(f"has a value of the header {name} that cannot be sent; use printable ASCII characters")
    return {str(name): text for name, text in value.items()}


def _timeout_s(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_TIMEOUT_S:
        raise ValueError(f"is no time-out; give seconds above 0, up to {MAX_TIMEOUT_S:g}")
    return float(value)


def _result_max_chars(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_RESULT_CHARS:
        raise ValueError(f"is no length; give a whole number from 1 to {MAX_RESULT_CHARS}")
    return value


def _table(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError("is no table; declare each parameter in a table of its own")
    return value


def _kind(value: object) -> ValueKind:
    try:
        return ValueKind(value)
    except ValueError:
        raise ValueError(f"is no type; give one of {', '.join(each.value for each in ValueKind)}") from None


def _required(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is neither true nor false; give one of them")
    return value


def _choices(value: object) -> tuple[str, ...]:
    texts = isinstance(value, list) and all(
        isinstance(each, str) and 0 < len(each) <= MAX_CHOICE_CHARS for each in value
    )
    if not isinstance(value, list) or not texts or not 0 < len(value) <= MAX_CHOICES:
        raise ValueError(f"is no list of 1 to {MAX_CHOICES} texts; give the values that it may have")
    return tuple(value)


_TOOL_MEMBERS: dict[str, tuple[str, _Check]] = {
    "description": ("description", _description),
    "url": ("url", _address),
    "method": ("method", _method),
    "headers": ("headers", _headers),
    "timeout_s": ("timeout_s", _timeout_s),
    "parameters": ("parameters", _table),
    "result_max_chars": ("result_max_chars", _result_max_chars),
}
_PARAMETER_MEMBERS: dict[str, tuple[str, _Check]] = {
    "type": ("kind", _kind),
    "description": ("description", _description),
    "required": ("required", _required),
    "enum": ("choices", _choices),
}


def _clipped(text: str) -> str:
    return text if text.isprintable() and len(text) <= _SHOWN_CHARS else repr(text[:_SHOWN_CHARS])
