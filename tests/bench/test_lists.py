"""The bench of lists: its sample, its sums, and a small run of it."""

from __future__ import annotations

import pytest

from bridge.bench.figures import Spread
from bridge.bench.lists import ListFigures, measure_lists, sample_call

MS = Spread(200, 5.0, 17.0, 19.5)


def figures(listed: int = 10_000) -> ListFigures:
    return ListFigures(10_000, 50, MS, MS, MS, MS, 26 * 1024, listed)


def test_the_text_for_people() -> None:
    assert figures().render_text().splitlines() == [
        "10000 calls stored, 50 a page, 26 KiB each",
        "first page               p50   5.00 ms  p99  17.00 ms  max   19.5 ms  (200 requests)",
        "each page to the last    p50   5.00 ms  p99  17.00 ms  max   19.5 ms  (200 requests)",
        "first page of a filter   p50   5.00 ms  p99  17.00 ms  max   19.5 ms  (200 requests)",
        "one call                 p50   5.00 ms  p99  17.00 ms  max   19.5 ms  (200 requests)",
    ]
    assert figures(9_999).render_text().endswith("warning: the pages together listed 9999 calls")


def test_every_tenth_sample_has_failed() -> None:
    calls = [sample_call(number, 1_700_000_000.0) for number in range(20)]
    assert [number for number, call in enumerate(calls) if call.result != "success"] == [9, 19]
    assert len({call.id for call in calls}) == 20
    assert calls[1].created_at == 1_700_000_060.0
    assert len(calls[0].journal.turns) == 20


@pytest.mark.e2e
def test_it_lists_all_that_was_stored() -> None:
    lines: list[str] = []
    found = measure_lists(lines.append, stored_calls=120, requests=3)
    assert lines == ["storing 120 calls", "asking"]
    assert (found.stored_calls, found.listed_calls) == (120, 120)
    assert [found.first_page_ms.count, found.each_page_ms.count, found.one_call_ms.count] == [3, 3, 3]
    assert found.bytes_per_page > 10_000
