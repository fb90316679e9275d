"""Masked numbers: enough left to tell two callers apart, too little to call anybody back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.redact import redact_document, redact_number, redact_text


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("+4930123456", "+***456"),
        ("004930123456", "***456"),
        ("+49 (30) 123-456", "+***456"),
        ("1234567", "***567"),
        ("123456", "***56"),
        ("4711", "***11"),
        ("911", "***"),
        ("sip:alice@example.com", "sip:***ce@example.com"),
        ("sip:bob@example.com", "sip:***@example.com"),
        ("sips:+4930123456@192.0.2.1:5061;user=phone", "sips:+***456@192.0.2.1:5061"),
        ("sip:alice:secret@example.com", "sip:***ce@example.com"),
        ("sip:pbx.example.com?subject=x", "sip:***com"),
        ('"Alice Smith" <sip:alice.smith@example.com>;tag=1', "sip:***ith@example.com"),
        ("sip:anonymous@anonymous.invalid", "sip:anonymous@anonymous.invalid"),
        ("alice@example.com", "***ce@example.com"),
        ("tel:+4930123456;phone-context=x", "tel:+***456"),
        ("client:alice", "client:***ce"),
        ("whatsapp:+4930123456", "whatsapp:+***456"),
        ("", ""),
        ("anonymous", "anonymous"),
        ("Restricted", "Restricted"),
        ("<", ""),
        ("+", "+***"),
    ],
)
def test_numbers(number: str, shown: str) -> None:
    assert redact_number(number) == shown


@given(st.text(alphabet="0123456789", min_size=1, max_size=15), st.sampled_from(["", "+", "sip:", "tel:+"]))
def test_never_more_than_three_digits_are_left(digits: str, before: str) -> None:
    shown = redact_number(before + digits)
    left = "".join(char for char in shown if char.isdigit())
    assert len(left) <= min(3, len(digits) // 2)
    assert digits.endswith(left)


@given(st.text(max_size=60))
def test_any_text_is_taken(text: str) -> None:
    assert isinstance(redact_number(text), str)
    assert isinstance(redact_text(text, (text,)), str)


@pytest.mark.parametrize(
    ("text", "known", "shown"),
    [
        ("transfer to +4930123456 failed", (), "transfer to +***456 failed"),
        ("to sip:alice@example.com, then +1 (555) 010-0199.", (), "to sip:***ce@example.com, then +***199."),
        ("call me at 030 123456", (), "call me at 030 123456"),
        ("caller 4930123456 / +4930123456", ("+4930123456",), "caller ***456 / +***456"),
        ("room 911, channel 1911", ("911",), "room 911, channel 1911"),
        ("anonymous caller", ("anonymous", ""), "anonymous caller"),
        ("took 1774949400 s, +12 points", (), "took 1774949400 s, +12 points"),
    ],
)
def test_running_text(text: str, known: tuple[str, ...], shown: str) -> None:
    assert redact_text(text, known) == shown


def test_documents() -> None:
    document = {"user_id": "+4930123456", "list": ["4930123456", 4, None, True], "deep": {"to": "tel:+4930123456"}}
    assert redact_document(document, ("+4930123456",)) == {
        "user_id": "+***456",
        "list": ["***456", 4, None, True],
        "deep": {"to": "tel:+***456"},
    }
    assert document["user_id"] == "+4930123456"


def test_a_document_deeper_than_any_genuine_one_is_blanked() -> None:
    document: Any = "+4930123456"
    for _ in range(5000):
        document = [document]
    shown = redact_document(document)
    for _ in range(16):
        (shown,) = shown
    assert shown == "***"
