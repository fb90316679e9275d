"""``bridge.server.recording.ranges`` against RFC 9110, 14.1.2 and its examples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.server.recording.ranges import RangeError, parse_range

SIZE = 10_000


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("bytes=0-499", (0, 500)),
        ("bytes=500-999", (500, 1000)),
        ("bytes=-500", (9500, 10_000)),
        ("bytes=9500-", (9500, 10_000)),
        ("bytes=0-0", (0, 1)),
        ("bytes=9999-", (9999, 10_000)),
        ("bytes=9000-20000", (9000, 10_000)),
        ("bytes=-20000", (0, 10_000)),
        ("Bytes = 0 - 1 ", (0, 2)),
    ],
)
def test_one_range(header: str, wanted: tuple[int, int]) -> None:
    assert parse_range(header, SIZE) == wanted


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes=",
        "bytes=-",
        "bytes=0-1,5-6",
        "bytes=5-1",
        "seconds=0-1",
        "bytes=a-b",
        "bytes=٣-٤",
        "bytes=" + "9" * 50,
    ],
)
def test_what_may_be_ignored_is_ignored(header: str) -> None:
    assert parse_range(header, SIZE) is None


@pytest.mark.parametrize(("header", "size"), [("bytes=10000-", SIZE), ("bytes=-0", SIZE), ("bytes=0-", 0)])
def test_a_range_without_a_byte_in_it(header: str, size: int) -> None:
    with pytest.raises(RangeError, match=f"the recording has {size} bytes, none of them in the range asked for") as at:
        parse_range(header, size)
    assert at.value.size == size


@given(st.text() | st.from_regex(r"bytes=\d*-\d*", fullmatch=True), st.integers(0, 10**9))
def test_any_header_gives_bytes_that_are_there(header: str, size: int) -> None:
    try:
        found = parse_range(header, size)
    except RangeError:
        return
    assert found is None or 0 <= found[0] < found[1] <= size
