"""Counters by label: samples, and the bound on how many there can be."""

from __future__ import annotations

import pytest

from bridge.server.tallies import MAX_LABEL_CHARS, MAX_SERIES, OTHER, Tally


def samples(tally: Tally) -> dict[tuple[str, ...], float]:
    return {tuple(sample.labels.values()): sample.value for sample in tally.family().samples}


def test_each_set_of_labels_counts_for_itself() -> None:
    tally = Tally("bridge_things", "Things.", ("kind", "outcome"))
    assert samples(tally) == {}
    tally.labels("a", "done").inc()
    tally.labels("a", "done").inc(2)
    tally.labels("a", "failed").inc()
    assert samples(tally) == {("a", "done"): 3, ("a", "failed"): 1}
    assert {sample.name for sample in tally.family().samples} == {"bridge_things_total"}


def test_without_labels_it_is_there_from_the_start() -> None:
    tally = Tally("bridge_things", "Things.")
    assert samples(tally) == {(): 0}
    tally.inc()
    assert samples(tally) == {(): 1}


def test_names_from_outside_have_a_bound() -> None:
    tally = Tally("bridge_things", "Things.", ("tool",))
    for number in range(MAX_SERIES + 50):
        tally.labels(f"tool{number}").inc()
    tally.labels("tool0").inc()
    found = samples(tally)
    assert len(found) == MAX_SERIES + 1
    assert found[(OTHER,)] == 50
    assert found[("tool0",)] == 2


def test_a_long_name_is_cut() -> None:
    tally = Tally("bridge_things", "Things.", ("tool",))
    for _ in range(2):
        tally.labels("x" * 5000).inc()
    assert samples(tally) == {("x" * MAX_LABEL_CHARS,): 2}


def test_wrong_labels_are_our_mistake() -> None:
    with pytest.raises(ValueError, match=r"bridge_things has the labels \('tool',\), not 2 of them"):
        Tally("bridge_things", "Things.", ("tool",)).labels("a", "b")
