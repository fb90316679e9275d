"""Every tool call is answered once, in time, whatever happens."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.pending_tools import MAX_OPEN, MAX_REMEMBERED, Admission, PendingTool, PendingTools

NEW, DUPLICATE, TOO_MANY = Admission.NEW, Admission.DUPLICATE, Admission.TOO_MANY


def test_a_call_is_answered_once() -> None:
    pending = PendingTools()
    assert pending.open("t1", "hold", 10.0, 5.0) is NEW
    assert len(pending) == 1
    assert pending.answer("t1") == PendingTool("t1", "hold", 10.0, 15.0)
    assert pending.answer("t1") is None
    assert len(pending) == 0


def test_a_call_that_nobody_made_is_not_answered() -> None:
    assert PendingTools().answer("t1") is None


def test_two_at_once() -> None:
    pending = PendingTools()
    assert [pending.open("t1", "a", 0.0), pending.open("t2", "b", 0.0)] == [NEW, NEW]
    assert pending.answer("t2") == PendingTool("t2", "b", 0.0, math.inf)
    assert pending.answer("t1") == PendingTool("t1", "a", 0.0, math.inf)


def test_a_repeated_message_is_known_while_it_is_open_and_after_its_answer() -> None:
    pending = PendingTools()
    pending.open("t1", "a", 0.0)
    assert pending.open("t1", "a", 0.1) is DUPLICATE
    pending.answer("t1")
    assert pending.open("t1", "a", 0.2) is DUPLICATE
    assert pending.answer("t1") is None


def test_only_so_many_ids_are_remembered() -> None:
    pending = PendingTools()
    for number in range(MAX_REMEMBERED + 1):
        pending.open(f"t{number}", "a", 0.0)
        pending.answer(f"t{number}")
    assert pending.open("t1", "a", 1.0) is DUPLICATE
    assert pending.open("t0", "a", 1.0) is NEW


def test_what_is_overdue_comes_out_once() -> None:
    pending = PendingTools()
    pending.open("slow", "a", 0.0, 20.0)
    pending.open("quick", "b", 1.0, 5.0)
    pending.open("endless", "c", 2.0)
    assert pending.next_timer() == 6.0
    assert pending.expire(5.9) == []
    assert pending.expire(6.0) == [PendingTool("quick", "b", 1.0, 6.0)]
    assert pending.next_timer() == 20.0
    assert [tool.call_id for tool in pending.expire(1e9)] == ["slow"]
    assert pending.expire(1e9) == []
    assert pending.next_timer() == math.inf
    assert len(pending) == 1


def test_a_result_that_comes_late_is_dropped() -> None:
    pending = PendingTools()
    pending.open("t1", "a", 0.0, 5.0)
    pending.expire(5.0)
    assert pending.answer("t1") is None
    assert pending.open("t1", "a", 6.0) is DUPLICATE


def test_a_call_may_get_more_time() -> None:
    pending = PendingTools()
    pending.open("t1", "a", 0.0, 5.0)
    pending.extend("t1", 4.0, 60.0)
    pending.extend("t2", 4.0, 60.0)
    assert pending.expire(63.9) == []
    assert pending.expire(64.0) == [PendingTool("t1", "a", 0.0, 64.0)]


def test_when_the_agent_is_gone_nobody_waits_and_ids_begin_anew() -> None:
    pending = PendingTools()
    pending.open("t1", "a", 0.0, 5.0)
    pending.open("t2", "b", 0.0, 5.0)
    pending.answer("t2")
    assert pending.abandon() == [PendingTool("t1", "a", 0.0, 5.0)]
    assert pending.abandon() == []
    assert pending.next_timer() == math.inf
    assert pending.answer("t1") is None
    assert [pending.open("t1", "a", 1.0), pending.open("t2", "b", 1.0)] == [NEW, NEW]


def test_an_agent_gone_mad_is_bounded() -> None:
    pending = PendingTools()
    assert all(pending.open(f"t{number}", "a", 0.0) is NEW for number in range(MAX_OPEN))
    assert pending.open("more", "a", 0.0) is TOO_MANY
    assert pending.answer("more") is None  # its refusal is its answer
    assert pending.open("more", "a", 0.0) is DUPLICATE
    assert len(pending) == MAX_OPEN
    pending.answer("t0")
    assert pending.open("another", "a", 0.0) is NEW


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["open", "answer", "expire"]), st.sampled_from("abcdef"), st.integers(0, 5)), max_size=60
)


@given(OPERATIONS)
def test_whatever_happens_no_call_is_answered_twice(operations: list[tuple[str, str, int]]) -> None:
    pending = PendingTools(max_open=3)
    opened, answers = set[str](), list[str]()
    for now, (operation, name, timeout_s) in enumerate(operations):
        if operation == "open":
            admission = pending.open(name, "tool", now, timeout_s)
            assert (admission is DUPLICATE) == (name in opened)
            if admission is TOO_MANY:
                answers.append(name)
            opened.add(name)
        elif operation == "answer" and pending.answer(name) is not None:
            answers.append(name)
        elif operation == "expire":
            answers += [tool.call_id for tool in pending.expire(now)]
    answers += [tool.call_id for tool in pending.abandon()]
    assert sorted(answers) == sorted(opened)
