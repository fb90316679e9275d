"""The operator's HTTP tools: what an agent may pass, and the request that it comes to."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.http_tools import HttpParameter, HttpTool, Method, ValueKind

PARAMETERS = (
    HttpParameter("order_id", "Number of the order"),
    HttpParameter("count", "How many", ValueKind.INTEGER, required=False),
    HttpParameter("price", "How much", ValueKind.NUMBER, required=False),
    HttpParameter("urgent", "Whether", ValueKind.BOOLEAN, required=False),
    HttpParameter("size", "Which", required=False, choices=("small", "large")),
)


def tool(url: str = "https://shop.example.com/orders/{order_id}", method: Method = Method.GET) -> HttpTool:
    return HttpTool("order", "Looks up.", url, method, {"Authorization": "Bearer secret"}, parameters=PARAMETERS)


ALL: dict[str, Any] = {"order_id": "7/8 &?#é", "count": 2, "price": 1.5, "urgent": True, "size": "small"}


def test_a_get_has_the_rest_in_its_query() -> None:
    request = tool().request(ALL)
    assert (request.method, request.body) == ("GET", b"")
    assert request.url == (
        "https://shop.example.com/orders/7%2F8%20%26%3F%23%C3%A9?count=2&price=1.5&urgent=true&size=small"
    )


def test_a_query_of_the_url_goes_on() -> None:
    request = tool("https://shop.example.com/find?id={order_id}&v=2", Method.DELETE).request(
        {"order_id": "a&v=3", "urgent": False}
    )
    assert (request.method, request.url) == ("DELETE", "https://shop.example.com/find?id=a%26v%3D3&v=2&urgent=false")


def test_without_parameters_the_url_is_as_it_is() -> None:
    bare = HttpTool("ping", "x", "https://shop.example.com/ping", Method.GET)
    assert bare.checked({"x": 1}) == {}
    assert bare.request({}).url == "https://shop.example.com/ping"


@pytest.mark.parametrize("method", [Method.POST, Method.PUT, Method.PATCH])
def test_the_others_have_it_in_their_body(method: Method) -> None:
    request = tool(method=method).request({"order_id": "7", "count": 2, "urgent": False})
    assert request.method == method.value
    assert request.url == "https://shop.example.com/orders/7"
    assert request.body == b'{"count":2,"urgent":false}'


def test_a_body_of_nothing_is_an_empty_object() -> None:
    assert tool(method=Method.POST).request({"order_id": "7"}).body == b"{}"


def test_what_is_declared_is_passed_on_and_nothing_else() -> None:
    assert tool().checked({**ALL, "admin": True}) == ALL
    assert tool().checked({"order_id": "7", "count": None, "price": 3}) == {"order_id": "7", "price": 3}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "order_id is missing"),
        ({"order_id": None}, "order_id is missing"),
        ({"order_id": 7}, "order_id must be a text"),
        ({"order_id": True}, "order_id must be a text"),
        ({"order_id": "x" * 4_001}, "order_id is longer than 4000 characters"),
        ({"order_id": "\ud800"}, "order_id holds characters that cannot be sent"),
        ({"order_id": "7", "count": "2"}, "count must be a whole number"),
        ({"order_id": "7", "count": 2.0}, "count must be a whole number"),
        ({"order_id": "7", "count": True}, "count must be a whole number"),
        ({"order_id": "7", "count": 2**63}, "count must be a whole number"),
        ({"order_id": "7", "price": "1"}, "price must be a number"),
        ({"order_id": "7", "price": float("nan")}, "price must be a number"),
        ({"order_id": "7", "price": float("-inf")}, "price must be a number"),
        ({"order_id": "7", "urgent": 1}, "urgent must be true or false"),
        ({"order_id": "7", "size": "huge"}, "size must be one of: small, large"),
    ],
)
def test_what_an_agent_may_not_pass(given: dict[str, Any], problem: str) -> None:
    assert tool().checked(given) == (
        f"Nothing was done: {problem}. Ask the caller if you do not know it, then call again."
    )


@pytest.mark.parametrize("order_id", ["", ".", ".."])
def test_no_value_climbs_out_of_the_path(order_id: str) -> None:
    assert tool().checked({"order_id": order_id}) == (
        "Nothing was done: a parameter is empty or cannot be part of an address."
    )


def test_nor_do_two_together() -> None:
    split = HttpTool(
        "x", "x", "https://a.example/f/{a}{b}/g", parameters=(HttpParameter("a", "a"), HttpParameter("b", "b"))
    )
    assert isinstance(split.checked({"a": ".", "b": "."}), str)
    assert split.checked({"a": ".", "b": "b"}) == {"a": ".", "b": "b"}


def test_a_parameter_that_was_not_declared_leaves_no_hole() -> None:
    assert isinstance(HttpTool("x", "x", "https://a.example/{a}").checked({"a": "1"}), str)


def test_neither_headers_nor_addresses_are_shown() -> None:
    shown = repr(tool()) + repr(tool().request(ALL))
    assert "secret" not in shown
    assert "shop" not in shown
    assert "7" not in shown.replace("parameters", "")


@given(st.text())
def test_whatever_an_agent_passes_the_address_keeps_its_shape(order_id: str) -> None:
    checked = tool().checked({"order_id": order_id})
    if isinstance(checked, dict):
        url = urlsplit(tool().request(checked).url)
        assert (url.scheme, url.netloc, url.query, url.fragment) == ("https", "shop.example.com", "", "")
        assert url.path.startswith("/orders/")
        assert url.path.count("/") == 2
