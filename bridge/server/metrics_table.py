"""The table of all metrics, generated from the catalogue so that it cannot go stale."""

from __future__ import annotations

from bridge.server.metric_catalogue import LABELS, TOPICS, MetricSpec

HEAD = "| Metric | Type | Labels | What it is |\n|---|---|---|---|"
LABEL_HEAD = "| Label | Values |\n|---|---|"


def metrics_table() -> str:
    """Every metric as Markdown tables, one a topic, and then the labels' values."""
    parts = ["\n".join((f"### {title}", "", HEAD, *map(_row, specs))) for title, specs in TOPICS]
    rows = [f"| `{label}` | {values} |" for label, values in LABELS.items()]
    parts.append("\n".join(("### Labels", "", LABEL_HEAD, *rows)))
    return "\n\n".join(parts)


def _row(spec: MetricSpec) -> str:
    labels = ", ".join(f"`{label}`" for label in spec.labels)
    return f"| `{spec.name}` | {spec.kind.value} | {labels} | {spec.text} |"
