from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import RemoteError
from bridge.server.store.listing import CallFilter, QueryError, conditions, make_cursor, read_cursor

BAD = "cursor: not one of ours; take next_cursor of the page before"


def test_a_cursor_is_opaque_and_comes_back() -> None:
    assert make_cursor(1_700_000_000.25, "9f86") == "QdlU_EAQAAA5Zjg2"
    assert read_cursor("QdlU_EAQAAA5Zjg2") == (1_700_000_000.25, "9f86")


@given(st.floats(allow_nan=False, allow_infinity=False), st.text("0123456789abcdef-_", min_size=1, max_size=64))
def test_every_cursor_comes_back_to_the_last_bit(created_at: float, call_id: str) -> None:
    assert read_cursor(make_cursor(created_at, call_id)) == (created_at, call_id)


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "QdlU_EAQAAA",  # no id
        "QdlU_EAQAAA5Zjg2!",
        "QdlU_EAQAAA\N{LATIN SMALL LETTER E WITH ACUTE}",
        base64.urlsafe_b64encode(struct.pack(">d", float("nan")) + b"id").decode(),
        base64.urlsafe_b64encode(struct.pack(">d", float("inf")) + b"id").decode(),
        base64.urlsafe_b64encode(struct.pack(">d", 1.0) + b"i\0d").decode(),
        base64.urlsafe_b64encode(struct.pack(">d", 1.0) + b"\xff").decode(),
        "A" * 1000,
    ],
)
def test_a_cursor_that_cannot_be_one_is_refused(cursor: str) -> None:
    with pytest.raises(QueryError) as caught:
        read_cursor(cursor)
    assert str(caught.value) == BAD


@given(st.text(max_size=210))
def test_no_cursor_does_anything_else_than_lead_somewhere_or_be_refused(cursor: str) -> None:
    try:
        created_at, call_id = read_cursor(cursor)
    except QueryError:
        return
    assert isinstance(created_at, float)
    assert call_id


def test_a_refusal_is_the_askers_mistake_and_a_value_error() -> None:
    assert issubclass(QueryError, RemoteError)
    assert issubclass(QueryError, ValueError)


def test_no_filter_is_no_condition() -> None:
    assert conditions(CallFilter()) == []


@pytest.mark.parametrize(
    ("value", "message"), [("a\0b", "caller: holds a null character"), ("\ud800", "caller: no valid Unicode")]
)
def test_texts_that_no_database_takes_are_refused(value: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        conditions(CallFilter(caller=value))
    with pytest.raises(QueryError):
        conditions(CallFilter(conversation_id=value))
