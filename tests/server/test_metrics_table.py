"""The generated table of metrics."""

from __future__ import annotations

from bridge.server.metric_catalogue import CATALOGUE, LABELS
from bridge.server.metrics_table import metrics_table


def test_every_metric_has_its_row() -> None:
    table = metrics_table()
    assert (
        "| `bridge_dtmf_total` | counter | `direction` | Keys pressed by callers (in) and for agents (out). |" in table
    )
    assert "| `bridge_ready` | gauge |  | 1 while new calls are taken. |" in table
    assert all(f"\n| `{name}` | " in table for name in [*CATALOGUE, *LABELS])
