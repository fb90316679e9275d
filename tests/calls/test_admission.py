"""Who may call now."""

from __future__ import annotations

import pytest

from bridge import outcome
from bridge.calls.admission import Limits, decide
from bridge.outcome import EndReason


@pytest.mark.parametrize(
    ("active", "limits", "draining", "refusal"),
    [
        (0, Limits(1), False, None),
        (1, Limits(1), False, outcome.CAPACITY),
        (2, Limits(1), False, outcome.CAPACITY),
        (0, Limits(0), False, outcome.CAPACITY),
        (4, Limits(100, workspace_concurrency=5), False, None),
        (5, Limits(100, workspace_concurrency=5), False, outcome.CAPACITY),
        (5, Limits(5, workspace_concurrency=100), False, outcome.CAPACITY),
        (0, Limits(100, workspace_concurrency=0), False, outcome.CAPACITY),
        (999, Limits(1000, workspace_concurrency=None), False, None),
        (0, Limits(1), True, outcome.DRAINING),
        (9, Limits(1), True, outcome.DRAINING),
    ],
)
def test_one_more_call(active: int, limits: Limits, draining: bool, refusal: EndReason | None) -> None:
    assert decide(active, limits, draining=draining) is refusal
