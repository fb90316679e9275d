"""Shows findings: a table for people, also on narrow terminals, and JSON for programs. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bridge import __version__
from bridge.doctor.findings import Finding, Verdict, count, exit_code

NARROW_COLUMNS = 76
"""Below this width checks and findings stand one below the other."""

_STYLES = {
    Verdict.OK: "green",
    Verdict.WARNING: "yellow",
    Verdict.FAILED: "bold red",
    Verdict.SKIPPED: "dim",
}


def table(findings: Sequence[Finding], width: int) -> RenderableType:
    """Everything that was found, in order, and a summary."""
    body = _stacked(findings) if width < NARROW_COLUMNS else _side_by_side(findings)
    return Group(body, Text(), summary(findings))


def summary(findings: Iterable[Finding]) -> Text:
    """How many of each, and what that means."""
    found = list(findings)
    failures, warnings = count(found, Verdict.FAILED), count(found, Verdict.WARNING)
    counts = f"{count(found, Verdict.OK)} ok, {warnings} to look at, {failures} failed"
    counts += f", {count(found, Verdict.SKIPPED)} skipped. "
    if failures:
        return Text(counts + "Calls will not work as they should: see what failed.", style="bold red")
    if warnings:
        return Text(counts + "Calls can work.", style="yellow")
    return Text(counts + "All is well.", style="green")


def _side_by_side(findings: Sequence[Finding]) -> RenderableType:
    grid = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(max_width=30)
    grid.add_column(overflow="fold")
    for finding in findings:
        grid.add_row(_mark(finding), Text(finding.name), _words(finding))
    return grid


def _stacked(findings: Sequence[Finding]) -> RenderableType:
    return Group(
        *(
            Group(Text.assemble(_mark(finding), "  ", finding.name), Padding(_words(finding), (0, 0, 0, 2)))
            for finding in findings
        )
    )


def _mark(finding: Finding) -> Text:
    return Text(finding.verdict.value, style=_STYLES[finding.verdict])


def _words(finding: Finding) -> Text:
    words = Text(finding.seen, style="dim" if finding.verdict is Verdict.SKIPPED else "", overflow="fold")
    if finding.advice:
        words.append(f"\n-> {finding.advice}", style="bold" if finding.verdict is Verdict.FAILED else "")
    return words


def to_json(findings: Sequence[Finding]) -> str:
    """One object: ``ok``, ``version``, ``counts`` by verdict, ``checks``."""
    document = {
        "ok": exit_code(findings) == 0,
        "version": __version__,
        "counts": {verdict.value: count(findings, verdict) for verdict in Verdict},
        "checks": [
            {
                "name": finding.name,
                "verdict": finding.verdict.value,
                "seen": finding.seen,
                "advice": finding.advice,
                "took_ms": finding.took_ms,
            }
            for finding in findings
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)
