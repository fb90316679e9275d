"""Names and numbers made of random text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.sip.ids import new_branch, new_fraction, new_rseq


def test_branches_begin_with_the_cookie() -> None:
    assert new_branch(lambda: "abc") == "z9hG4bKabc"


@given(st.text(alphabet="abcdef0123456789", min_size=16, max_size=16))
def test_numbers_keep_their_bounds(text: str) -> None:
    assert 0 <= new_fraction(lambda: text) < 1
    assert 1 <= new_rseq(lambda: text) < 2**30


def test_numbers_depend_on_the_text() -> None:
    assert len({new_fraction(lambda text=str(number): text) for number in range(100)}) == 100  # type: ignore[misc]
    assert len({new_rseq(lambda text=str(number): text) for number in range(100)}) == 100  # type: ignore[misc]
