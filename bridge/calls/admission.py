"""Who may call now: the decision, without the store. The stores in ``server/`` count, this decides."""

from __future__ import annotations

from dataclasses import dataclass

from bridge import outcome
from bridge.outcome import EndReason


@dataclass(frozen=True, slots=True)
class Limits:
    """The operator's limits."""

    max_calls: int
    """What this process may carry (BRIDGE_MAX_CALLS)."""
    workspace_concurrency: int | None = None
    """The vendor plan's limit (WORKSPACE_CONCURRENCY); None = none."""


def decide(active: int, limits: Limits, *, draining: bool) -> EndReason | None:
    """Whether one more call may start beside ``active`` ones: None = yes, otherwise why not."""
    if draining:
        return outcome.DRAINING
    workspace = limits.workspace_concurrency
    if active >= limits.max_calls or (workspace is not None and active >= workspace):
        return outcome.CAPACITY
    return None
