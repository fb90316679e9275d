"""Lists of numbers: exact ones, patterns, and the spellings in which carriers write a number."""

from __future__ import annotations

import pytest

from bridge.calls.number_list import is_listed

LIST = ("+4930123456", "+33*", "sip:sales@*")


@pytest.mark.parametrize(
    ("address", "listed"),
    [
        ("+4930123456", True),
        ("tel:+49-30-123456", True),
        ("sip:4930123456@carrier.example;user=phone", True),
        ("+4930123457", False),
        ("0033612345678", True),
        ("+34612345678", False),
        ("sip:sales@pbx.example", True),
        ("sip:support@pbx.example", False),
        ("anonymous", False),
    ],
)
def test_numbers_on_a_list(address: str, listed: bool) -> None:
    assert is_listed(LIST, address) is listed


def test_an_empty_list_has_nobody() -> None:
    assert not is_listed((), "+4930123456")
