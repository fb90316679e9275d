"""The blocks of the README that are generated from the code, so that they cannot go stale.

``make fmt`` writes them, ``tests/test_readme.py`` compares them. A block stands between ``<!-- NAME:begin -->``
and ``<!-- NAME:end -->``.
"""

from __future__ import annotations

from bridge.calls.state import mermaid
from bridge.errors import LocalError
from bridge.outcome import CATALOGUE
from bridge.server.metrics_table import metrics_table
from bridge.settings_table import settings_table


def state_diagram() -> str:
    """The life of a call as a Mermaid block."""
    return f"```mermaid\n{mermaid()}\n```"


def reasons_table() -> str:
    """Every end of a call as a Markdown table."""
    rows = ["| Result | Reason | What to do |", "|---|---|---|"]
    rows += [f"| `{end.result.value}` | `{end.reason}` | {end.advice} |" for end in CATALOGUE.values()]
    return "\n".join(rows)


BLOCKS = {
    "settings": settings_table,
    "states": state_diagram,
    "reasons": reasons_table,
    "metrics": metrics_table,
}


def update_readme(text: str) -> str:
    """``text`` with every block made anew. Raises ``LocalError`` where a block's markers are missing."""
    for name, render in BLOCKS.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        before, found_begin, rest = text.partition(begin)
        _, found_end, after = rest.partition(end)
        if not found_begin or not found_end:
            raise LocalError(f"the text needs the lines {begin} and {end}, in this order")
        text = f"{before}{begin}\n{render()}\n{end}{after}"
    return text
