"""Header fields: names in any spelling, order, copies."""

from __future__ import annotations

import pytest

from bridge.sip.headers import Headers, canonical_name

FIELDS = Headers([("v", "a"), ("X-Call-ID", "1"), ("VIA", "b"), ("x-CALL-id", "2"), ("f", "c")])


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("via", "Via"), ("V", "Via"), ("call-id", "Call-ID"), ("i", "Call-ID"), ("cseq", "CSeq"),
        ("x", "Session-Expires"),
        ("L", "Content-Length"), ("www-authenticate", "WWW-Authenticate"), ("k", "Supported"), ("r", "Refer-To"),
        ("b", "Referred-By"), ("m", "Contact"), ("t", "To"), ("From", "From"), ("X-My-Header", "X-My-Header"),
        ("z", "z"), ("rack", "RAck"), ("n", "Identity-Info"),
    ],
)  # fmt: skip
def test_names(given: str, canonical: str) -> None:
    assert canonical_name(given) == canonical


def test_order_repeats_and_spelling() -> None:
    assert list(FIELDS) == [("Via", "a"), ("X-Call-ID", "1"), ("Via", "b"), ("x-CALL-id", "2"), ("From", "c")]
    assert len(FIELDS) == 5
    assert FIELDS.all("via") == FIELDS.all("V") == ("a", "b")
    assert FIELDS.get("x-call-id") == "1"
    assert FIELDS.get("To") is None and FIELDS.all("To") == ()
    assert "F" in FIELDS and "To" not in FIELDS
    assert FIELDS.starting("X-") == (("X-Call-ID", "1"), ("x-CALL-id", "2"))


def test_equality_is_by_order_and_value_and_not_by_case() -> None:
    assert Headers([("X-A", "1"), ("v", "2")]) == Headers([("x-a", "1"), ("Via", "2")])
    assert hash(Headers([("X-A", "1")])) == hash(Headers([("x-a", "1")]))
    assert Headers([("X-A", "1")]) != Headers([("X-A", "2")])
    assert Headers([("a", "1"), ("b", "2")]) != Headers([("b", "2"), ("a", "1")])
    assert Headers() != ()


def test_values_are_not_shown() -> None:
    assert repr(Headers([("Authorization", "secret")])) == "Headers(['Authorization'])"


def test_copies() -> None:
    assert list(FIELDS.without("v")) == [("X-Call-ID", "1"), ("x-CALL-id", "2"), ("From", "c")]
    assert FIELDS.adding(("t", "d"), ("l", "e")).get("To") == "d"
    assert FIELDS.replacing_first("v", "z").all("Via") == ("z", "b")
    assert FIELDS.replacing_first("t", "z").get("To") == "z"
    assert len(FIELDS) == 5
