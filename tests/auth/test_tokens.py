"""One-time call tokens: once, in time, for one call, in bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.auth.tokens import CallClaims, TokenBook, TokenProblem
from bridge.errors import LocalError

CLAIMS = CallClaims(caller="+4930123456", called="+15550100", direction="inbound")
TTL_S = 60.0


def book(capacity: int = 100) -> TokenBook:
    return TokenBook(TTL_S, capacity)


def test_a_token_yields_what_the_webhook_knew() -> None:
    tokens = book()
    tokens.issue("t1", "CA1", 0.0, CLAIMS)
    assert tokens.redeem("t1", "CA1", 1.0) == CLAIMS


def test_a_token_works_once() -> None:
    tokens = book()
    tokens.issue("t1", "CA1", 0.0, CLAIMS)
    tokens.redeem("t1", "CA1", 1.0)
    assert tokens.redeem("t1", "CA1", 1.1) is TokenProblem.USED


def test_a_token_works_until_just_before_its_lifetime_is_over() -> None:
    tokens = book()
    tokens.issue("t1", "CA1", 10.0, CLAIMS)
    tokens.issue("t2", "CA2", 10.0, CLAIMS)
    assert tokens.redeem("t1", "CA1", 69.999) == CLAIMS
    assert tokens.redeem("t2", "CA2", 70.0) is TokenProblem.EXPIRED


def test_an_expired_token_is_forgotten_after_twice_its_lifetime() -> None:
    tokens = book()
    tokens.issue("t1", "CA1", 0.0, CLAIMS)
    assert tokens.redeem("t1", "CA1", 119.9) is TokenProblem.EXPIRED
    assert tokens.redeem("t1", "CA1", 120.0) is TokenProblem.UNKNOWN
    assert len(tokens) == 0


def test_a_token_of_another_call_is_refused_and_stays_valid_for_its_own() -> None:
    tokens = book()
    tokens.issue("t1", "CA1", 0.0, CLAIMS)
    assert tokens.redeem("t1", "CA2", 1.0) is TokenProblem.OTHER_CALL
    assert tokens.redeem("t1", "CA1", 2.0) == CLAIMS


def test_a_used_token_tells_a_stranger_nothing_but_that_it_is_not_his() -> None:
    tokens = book()
    tokens.issue("t1", "CA1", 0.0, CLAIMS)
    tokens.redeem("t1", "CA1", 1.0)
    assert tokens.redeem("t1", "CA2", 2.0) is TokenProblem.OTHER_CALL


def test_missing_and_unknown_tokens_are_told_apart() -> None:
    tokens = book()
    assert tokens.redeem("", "CA1", 0.0) is TokenProblem.MISSING
    assert tokens.redeem("guess", "CA1", 0.0) is TokenProblem.UNKNOWN


def test_the_problems_are_texts_for_the_log() -> None:
    assert [problem.value for problem in TokenProblem] == [
        "no token",
        "unknown token",
        "expired token",
        "token used before",
        "token of another call",
    ]


def test_a_repeated_webhook_finds_the_same_token() -> None:
    tokens = book()
    assert tokens.current("CA1", 0.0) is None
    tokens.issue("t1", "CA1", 0.0, CLAIMS)
    assert tokens.current("CA1", 59.9) == "t1"
    assert tokens.current("CA2", 1.0) is None
    assert tokens.current("CA1", 60.0) is None


def test_a_used_token_is_not_handed_out_again() -> None:
    tokens = book()
    tokens.issue("t1", "CA1", 0.0, CLAIMS)
    tokens.redeem("t1", "CA1", 1.0)
    assert tokens.current("CA1", 2.0) is None


def test_a_call_may_get_a_second_token_after_the_first_was_used() -> None:
    tokens = book()
    tokens.issue("t1", "CA1", 0.0, CLAIMS)
    tokens.redeem("t1", "CA1", 1.0)
    tokens.issue("t2", "CA1", 5.0, CLAIMS)
    assert tokens.current("CA1", 6.0) == "t2"
    assert tokens.redeem("t1", "CA1", 6.0) is TokenProblem.USED
    assert tokens.redeem("t2", "CA1", 6.0) == CLAIMS


def test_a_new_token_replaces_the_unused_one_of_the_call() -> None:
    tokens = book()
    tokens.issue("t1", "CA1", 0.0, CLAIMS)
    tokens.issue("t2", "CA1", 5.0, CLAIMS)
    assert tokens.redeem("t1", "CA1", 6.0) is TokenProblem.UNKNOWN
    assert tokens.current("CA1", 6.0) == "t2"
    assert len(tokens) == 1


def test_a_full_book_drops_its_oldest_token() -> None:
    tokens = book(capacity=2)
    tokens.issue("t1", "CA1", 0.0, CLAIMS)
    tokens.issue("t2", "CA2", 1.0, CLAIMS)
    tokens.issue("t3", "CA3", 2.0, CLAIMS)
    assert len(tokens) == 2
    assert tokens.current("CA1", 3.0) is None
    assert tokens.redeem("t1", "CA1", 3.0) is TokenProblem.UNKNOWN
    assert tokens.redeem("t2", "CA2", 3.0) == CLAIMS
    assert tokens.redeem("t3", "CA3", 3.0) == CLAIMS


def test_dropping_an_old_used_token_leaves_the_new_one_of_the_same_call() -> None:
    tokens = book(capacity=2)
    tokens.issue("t1", "CA1", 0.0, CLAIMS)
    tokens.redeem("t1", "CA1", 0.5)
    tokens.issue("t2", "CA1", 1.0, CLAIMS)
    tokens.issue("t3", "CA3", 2.0, CLAIMS)
    assert tokens.redeem("t1", "CA1", 3.0) is TokenProblem.UNKNOWN
    assert tokens.current("CA1", 3.0) == "t2"


def test_issuing_forgets_what_expired_long_ago() -> None:
    tokens = book()
    tokens.issue("t1", "CA1", 0.0, CLAIMS)
    tokens.issue("t2", "CA2", 100.0, CLAIMS)
    tokens.issue("t3", "CA3", 200.0, CLAIMS)
    assert len(tokens) == 2


@pytest.mark.parametrize(("token", "call_sid"), [("", "CA1"), ("t1", "")])
def test_a_token_needs_a_text_and_a_call(token: str, call_sid: str) -> None:
    with pytest.raises(LocalError, match="a token needs a text and a call"):
        book().issue(token, call_sid, 0.0, CLAIMS)


def test_a_token_cannot_be_issued_twice() -> None:
    tokens = book()
    tokens.issue("t1", "CA1", 0.0, CLAIMS)
    with pytest.raises(LocalError, match="issued before"):
        tokens.issue("t1", "CA2", 1.0, CLAIMS)


@pytest.mark.parametrize(("ttl_s", "capacity"), [(0.0, 1), (-1.0, 1), (60.0, 0)])
def test_a_book_needs_a_lifetime_and_room(ttl_s: float, capacity: int) -> None:
    with pytest.raises(LocalError, match="needs a lifetime and room"):
        TokenBook(ttl_s, capacity)


@given(st.text(), st.text())
def test_a_guess_never_opens_and_never_raises(token: str, call_sid: str) -> None:
    tokens = book()
    tokens.issue("the-only-one", "CA1", 0.0, CLAIMS)
    if token != "the-only-one":
        assert tokens.redeem(token, call_sid, 1.0) in (TokenProblem.MISSING, TokenProblem.UNKNOWN)


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 50)), max_size=40), st.integers(1, 5))
def test_the_book_never_grows_beyond_its_capacity(steps: list[tuple[int, float]], capacity: int) -> None:
    tokens, now = book(capacity), 0.0
    for number, (call, pause_s) in enumerate(steps):
        now += pause_s
        tokens.issue(f"t{number}", f"CA{call}", now, CLAIMS)
        assert len(tokens) <= capacity
        assert tokens.current(f"CA{call}", now) == f"t{number}"
