"""Call slots in memory: taken and given back once, however often it is said."""

from __future__ import annotations

from bridge import outcome
from bridge.calls.admission import Limits
from bridge.server.admission_memory import MemoryAdmission


def test_taking_twice_takes_one_slot() -> None:
    admission = MemoryAdmission(Limits(max_calls=2))
    assert admission.take("a") is None
    assert admission.take("a") is None
    assert admission.active == 1


def test_giving_back_twice_gives_one_slot() -> None:
    admission = MemoryAdmission(Limits(max_calls=2))
    admission.take("a")
    admission.take("b")
    admission.give_back("a")
    admission.give_back("a")
    admission.give_back("never taken")
    assert admission.active == 1
    assert admission.take("c") is None
    assert admission.take("d") is outcome.CAPACITY


def test_who_holds_a_slot_keeps_it_when_the_house_is_full_or_closing() -> None:
    admission = MemoryAdmission(Limits(max_calls=1))
    admission.take("a")
    admission.draining = True
    assert admission.take("a") is None
    assert admission.take("b") is outcome.DRAINING
    assert admission.active == 1


def test_the_workspaces_limit_counts_too() -> None:
    admission = MemoryAdmission(Limits(max_calls=9, workspace_concurrency=1))
    assert admission.would_refuse() is None
    admission.take("a")
    assert admission.would_refuse() is outcome.CAPACITY
    assert admission.take("b") is outcome.CAPACITY
    admission.give_back("a")
    assert admission.would_refuse() is None


def test_asking_takes_nothing() -> None:
    admission = MemoryAdmission(Limits(max_calls=1))
    assert admission.would_refuse() is None
    assert admission.would_refuse() is None
    assert admission.active == 0
