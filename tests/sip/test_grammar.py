"""Tokens, quoted strings, lists and parameters."""

from __future__ import annotations

import pytest

from bridge.sip.errors import HeaderError
from bridge.sip.grammar import (
    MAX_LIST_ITEMS,
    NO_PARAMS,
    Params,
    is_token,
    parse_params,
    quote,
    readable,
    split_list,
    take_quoted,
    tokens,
)


def test_tokens() -> None:
    assert is_token("INVITE")
    assert is_token("!%*_+`'~.-0")
    for text in ("", "a b", "a:b", "é", "a\r\n", "a@b", '"a"'):
        assert not is_token(text)


def test_readable_text_has_no_controls_and_no_stray_bytes() -> None:
    assert readable("Jürgen\r\n\x00\x9b" + b"\xff".decode("utf-8", "surrogateescape")) == "Jürgen�����"


def test_quoting_and_back() -> None:
    for text in ("", "plain", 'a "b" \\c', "\0", "é"):
        assert take_quoted(quote(text) + " rest") == (text, " rest")
    assert take_quoted(r'"\a\"" <x>') == ('a"', " <x>")


@pytest.mark.parametrize("text", ["", "x", '"', '"abc', '"abc\\"', '"\\'])
def test_a_quoted_string_must_end(text: str) -> None:
    with pytest.raises(HeaderError, match="^a quoted string does not end$"):
        take_quoted(text)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("a", ["a"]),
        (" a ,\tb,c ", ["a", "b", "c"]),
        ("a,,b", ["a", "", "b"]),
        ("<sip:a,b@c>, <sip:d>", ["<sip:a,b@c>", "<sip:d>"]),
        (r'"x,\",y" <sip:a>;q="1,2",b', [r'"x,\",y" <sip:a>;q="1,2"', "b"]),
        ('"x"', ['"x"']),
        ('"unclosed', ['"unclosed']),  # nothing to part; its reader complains
        ("", [""]),
    ],
)
def test_lists(text: str, items: list[str]) -> None:
    assert split_list(text) == items


@pytest.mark.parametrize("text", ['a,"b', "a,<b", '"a,b', ',"\\"'])
def test_a_list_with_an_open_end(text: str) -> None:
    with pytest.raises(HeaderError, match="^a quote or an angle bracket is not closed$"):
        split_list(text)


def test_a_list_has_a_longest_length() -> None:
    assert len(split_list(",".join("a" * MAX_LIST_ITEMS))) == MAX_LIST_ITEMS
    with pytest.raises(HeaderError, match="^a list is too long$"):
        split_list(",".join("a" * (MAX_LIST_ITEMS + 1)))


def test_token_lists_are_joined_over_headers() -> None:
    assert tokens(["timer, 100rel", "", "replaces,"]) == ("timer", "100rel", "replaces")


def test_parameters() -> None:
    params = parse_params(';Tag=abc ; lr;x = "a;b\\"c" ;host=[::1];TAG=second')
    assert params.items == (("tag", "abc"), ("lr", None), ("x", 'a;b"c'), ("host", "[::1]"), ("tag", "second"))
    assert (params.get("tag"), params.get("lr"), params.get("none")) == ("abc", "", None)
    assert str(params) == ';tag=abc;lr;x="a;b\\"c";host=[::1];tag=second'
    assert parse_params(str(params)) == params
    assert parse_params("") == NO_PARAMS


@pytest.mark.parametrize("text", [";", ";;a", ";a;", "a=b", ";a=", ";a=b c", ';a="b', ";=b", ";a=b,", ";a=<b>"])
def test_malformed_parameters(text: str) -> None:
    with pytest.raises(HeaderError, match="^a parameter is malformed$"):
        parse_params(text)


def test_setting_a_parameter() -> None:
    params = Params((("a", "1"), ("b", None)))
    assert str(params.having("a", "2")) == ";a=2;b"
    assert str(params.having("b", "3")) == ";a=1;b=3"
    assert str(params.having("c", None)) == ";a=1;b;c"
    assert str(params.having("d", "")) == ';a=1;b;d=""'
