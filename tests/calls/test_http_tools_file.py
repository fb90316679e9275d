"""The operator's HTTP tools in the TOML file: what is read, and how each mistake is named."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.http_tools import HttpParameter, HttpTool, Method, ValueKind
from bridge.calls.http_tools_file import MAX_HEADERS, MAX_PARAMETERS, MAX_TOOLS, parse_tools

FILE = """
[tools.order_status]
description = "Looks up an order. Use it when the caller asks\\nwhere it is."
url = "https://shop.example.com/orders/{order_id}"
method = "get"
headers = { Authorization = "Bearer secret" }
timeout_s = 5
result_max_chars = 100

[tools.order_status.parameters.order_id]
type = "string"
description = "Number of the order"

[tools.order_status.parameters.size]
description = "Which"
required = false
enum = ["small", "large"]

[tools.note]
description = "Writes a note."
url = "https://shop.example.com/notes"
parameters.count = { type = "integer", description = "How many" }
"""

BASE: dict[str, Any] = {"description": "x", "url": "https://a.example/"}


def problems(**members: Any) -> list[str]:
    mistakes: list[str] = []
    found = parse_tools({"t": {**BASE, **members}}, mistakes)
    assert bool(found) != bool(mistakes)
    return mistakes


def test_a_file() -> None:
    mistakes: list[str] = []
    assert parse_tools(tomllib.loads(FILE)["tools"], mistakes) == {
        "order_status": HttpTool(
            name="order_status",
            description="Looks up an order. Use it when the caller asks where it is.",
            url="https://shop.example.com/orders/{order_id}",
            method=Method.GET,
            headers={"Authorization": "Bearer secret"},
            timeout_s=5.0,
            parameters=(
                HttpParameter("order_id", "Number of the order"),
                HttpParameter("size", "Which", required=False, choices=("small", "large")),
            ),
            result_max_chars=100,
        ),
        "note": HttpTool(
            name="note",
            description="Writes a note.",
            url="https://shop.example.com/notes",
            method=Method.POST,
            parameters=(HttpParameter("count", "How many", ValueKind.INTEGER),),
        ),
    }
    assert mistakes == []


URL = "give an absolute URL such as https://shop.example.com/orders/{order_id}"


@pytest.mark.parametrize(
    ("members", "mistake"),
    [
        ({"description": " "}, "tools.t.description is no description; give a text of up to 4000 characters"),
        ({"description": 1}, "tools.t.description is no description; give a text of up to 4000 characters"),
        ({"description": "x" * 4_001}, "tools.t.description is no description; give a text of up to 4000 characters"),
        ({"url": 1}, f"tools.t.url is no URL of up to 2048 characters; {URL}"),
        ({"url": "https://a.example/" + "x" * 2_048}, f"tools.t.url is no URL of up to 2048 characters; {URL}"),
        ({"url": "http://[::1"}, f"tools.t.url is no URL; {URL}"),
        ({"url": "https://a.example:x/"}, f"tools.t.url is no URL; {URL}"),
        ({"url": "ftp://a.example/"}, f"tools.t.url is no absolute http or https URL; {URL}"),
        ({"url": "/orders"}, f"tools.t.url is no absolute http or https URL; {URL}"),
        ({"url": "https://a.example/a b"}, f"tools.t.url is no absolute http or https URL; {URL}"),
        ({"url": "https://u:secret@a.example/"}, "tools.t.url holds a user or password; use headers instead"),
        ({"url": "https://a.example/#x"}, "tools.t.url holds a fragment, which no server gets to see; take it out"),
        (
            {"url": "https://{h}.example/"},
            "tools.t.url has a parameter in its host; an agent must not choose the host",
        ),
        (
            {"url": "https://a.example/{a"},
            "tools.t.url has a brace without its partner; write parameters as {name}",
        ),
        (
            {"url": "https://a.example/{a}"},
            "tools.t.url names {a}; declare it in tools.t.parameters as required",
        ),
        (
            {"url": "https://a.example/{a}", "parameters": {"a": {"description": "x", "required": False}}},
            "tools.t.url names {a}; declare it in tools.t.parameters as required",
        ),
        ({"method": "HEAD"}, "tools.t.method is no method; give one of GET, POST, PUT, PATCH, DELETE"),
        (
            {"headers": ["secret"]},
            'tools.t.headers is no table of texts; give one such as { Authorization = "Bearer ..." }',
        ),
        (
            {"headers": {"A": 1}},
            'tools.t.headers is no table of texts; give one such as { Authorization = "Bearer ..." }',
        ),
        ({"headers": {f"A{n}": "" for n in range(MAX_HEADERS + 1)}}, "tools.t.headers has 33 headers; give at most 32"),
        (
            {"headers": {"A": "b", "secret value": "secret"}},
            "tools.t.headers has as header 2 what is no header name; use letters, digits and hyphens",
        ),
        (
            {"headers": {"Host": "secret"}},
            "tools.t.headers sets the header Host, which the bridge sets itself; take it out",
        ),
        *(
            (
                {"headers": {"X-Key": value}},
                "tools.t.headers has a value of the header X-Key that cannot be sent; use printable ASCII characters",
            )
            for value in ("secret\n", "sécret", " secret", "s" * 4_097)
        ),
        *(
            ({"timeout_s": value}, "tools.t.timeout_s is no time-out; give seconds above 0, up to 110")
            for value in (0, -1, 111, "5", True, float("nan"))
        ),
        *(
            (
                {"result_max_chars": value},
                "tools.t.result_max_chars is no length; give a whole number from 1 to 32000",
            )
            for value in (0, 32_001, "5", 1.5, True)
        ),
        (
            {"timeout": 5},
            "tools.t.timeout is no member of it; did you mean timeout_s?",
        ),
        (
            {"zzz\n": 5},
            "tools.t.'zzz\\n' is no member of it; there are description, url, method, headers, timeout_s, parameters, "
            "result_max_chars",
        ),
        ({"parameters": []}, "tools.t.parameters is no table; declare each parameter in a table of its own"),
        (
            {"parameters": {f"p{n}": {"description": "x"} for n in range(MAX_PARAMETERS + 1)}},
            "tools.t.parameters are 33; there may be 32",
        ),
        (
            {"parameters": {"a b": {}}},
            "tools.t.parameters.a b is no parameter's name; use up to 64 letters, digits, underscores and hyphens",
        ),
        ({"parameters": {"a": 1}}, "tools.t.parameters.a is no table"),
        ({"parameters": {"a": {}}}, "tools.t.parameters.a.description is missing; tell the agent what to pass"),
        (
            {"parameters": {"a": {"description": "x", "type": "text"}}},
            "tools.t.parameters.a.type is no type; give one of string, integer, number, boolean",
        ),
        (
            {"parameters": {"a": {"description": "x", "type": []}}},
            "tools.t.parameters.a.type is no type; give one of string, integer, number, boolean",
        ),
        (
            {"parameters": {"a": {"description": "x", "required": "yes"}}},
            "tools.t.parameters.a.required is neither true nor false; give one of them",
        ),
        *(
            (
                {"parameters": {"a": {"description": "x", "enum": value}}},
                "tools.t.parameters.a.enum is no list of 1 to 100 texts; give the values that it may have",
            )
            for value in ([], [1], "a", [""], ["x" * 201], ["x"] * 101)
        ),
        (
            {"parameters": {"a": {"description": "x", "type": "integer", "enum": ["1"]}}},
            "tools.t.parameters.a.enum is only for texts; take it out",
        ),
    ],
)
def test_each_mistake_is_named_and_none_is_quoted(members: dict[str, Any], mistake: str) -> None:
    assert problems(**members) == [mistake]
    assert "secret" not in mistake


@pytest.mark.parametrize(
    ("document", "mistakes"),
    [
        ([], ["tools must be tables such as [tools.order_status]"]),
        ({f"t{n}": BASE for n in range(MAX_TOOLS + 1)}, ["tools are 65; there may be 64"]),
        ({"a b": BASE}, ["tools.a b is no tool's name; use up to 64 letters, digits, underscores and hyphens"]),
        ({"t": "x"}, ["tools.t is no table"]),
        (
            {"t": {}},
            [
                "tools.t.description is missing; say when the agent should use it",
                "tools.t.url is missing; give its address",
            ],
        ),
        ({"hold": BASE}, ["tools.hold has the name of a tool of the bridge's own; give it another"]),
    ],
)
def test_mistakes_of_the_whole(document: object, mistakes: list[str]) -> None:
    found: list[str] = []
    assert parse_tools(document, found, {"hold"}) == {}
    assert found == mistakes


def test_a_tool_with_a_mistake_leaves_the_others_alone() -> None:
    mistakes: list[str] = []
    assert list(parse_tools({"a": {}, "b": BASE, "c": {**BASE, "method": 1}}, mistakes)) == ["b"]
    assert len(mistakes) == 3


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
TABLES = st.dictionaries(
    st.sampled_from(["description", "url", "method", "headers", "timeout_s", "parameters", "type"]), VALUES
)


@given(st.dictionaries(st.text(max_size=8), TABLES | VALUES, max_size=3) | VALUES)
def test_whatever_the_file_holds_there_is_a_tool_or_a_mistake(document: object) -> None:
    mistakes: list[str] = []
    found = parse_tools(document, mistakes)
    if isinstance(document, dict) and len(found) < len(document):
        assert mistakes
