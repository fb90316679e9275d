"""The console's page of health: what ``bridge doctor`` has found when it was last asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from bridge.web.calls import moment
from bridge.web.html import Frame, document, text


class CheckResult(msgspec.Struct, frozen=True):
    """One finding, as ``bridge doctor --json`` writes it."""

    name: str
    verdict: str
    """``ok``, ``warning``, ``failed`` or ``skipped``."""
    seen: str
    advice: str = ""
    took_ms: int = 0


@dataclass(frozen=True, slots=True)
class HealthPage:
    """Everything that the page shows."""

    problems: tuple[str, ...]
    facts: tuple[tuple[str, str, bool], ...]
    """What is known without asking: name, words, whether it is as it should be."""
    checks: Sequence[CheckResult] | None
    """What the doctor found; None = it was not asked yet."""
    is_running: bool
    finished_at: float | None = None
    problem: str = ""
    """Why the doctor could not be asked."""


_WORDS = {"ok": "ok", "warning": "look at it", "failed": "failed", "skipped": "skipped"}


def render_health(frame: Frame, page: HealthPage) -> str:
    """The whole page."""
    return document(frame, _main(frame, page))


def _main(frame: Frame, page: HealthPage) -> Iterator[str]:
    yield "<h1>Health</h1>"
    if page.problems:
        yield '<section class="card next" aria-labelledby="next">\n<h2 id="next">What to set next</h2>\n<ul>'
        yield from (f"<li>{text(problem)}</li>" for problem in page.problems)
        yield "</ul>\n</section>"
    yield '<section class="card" aria-labelledby="now"><h2 id="now">Now</h2><ul class="checks">'
    for name, words, good in page.facts:
        verdict = "ok" if good else "failed"
        yield f'<li><span class="verdict" data-verdict="{verdict}">{_WORDS[verdict]}</span>'
        yield f"<div><strong>{text(name)}</strong><p>{text(words)}</p></div></li>"
    yield "</ul></section>"
    yield from _doctor(frame, page)


def _doctor(frame: Frame, page: HealthPage) -> Iterator[str]:
    yield '<section class="card" aria-labelledby="doctor"><h2 id="doctor">Doctor</h2>'
    yield '<p class="muted">Looks at everything that a call needs: agent, formats, carriers, public address, '
    yield "certificates, clocks, stores. The same as <code>bridge doctor</code>.</p>"
    viewer = frame.viewer
    if page.is_running:
        yield '<p id="running" role="status" data-running="yes">The doctor is looking; this takes up to a minute …</p>'
    elif viewer is not None and viewer.is_admin:
        yield f'<form method="post" action="{text(frame.root)}health/run">'
        yield f'<input type="hidden" name="csrf" value="{text(viewer.csrf)}">'
        yield '<p><label class="check"><input type="checkbox" name="conversation" value="yes"> Open a conversation '
        yield "with the agent too, and close it at once</label></p>"
        yield '<p><button type="submit" class="primary">Run the doctor</button></p></form>'
    else:
        yield '<p class="muted">An admin can run it.</p>'
    if page.problem:
        yield f'<p class="problem" role="alert">{text(page.problem)}</p>'
    if page.checks is not None and not page.is_running:
        yield from _checks(page.checks, page.finished_at)
    yield "</section>"


def _checks(checks: Sequence[CheckResult], finished_at: float | None) -> Iterator[str]:
    counts = {verdict: sum(check.verdict == verdict for check in checks) for verdict in _WORDS}
    summary = (
        f"{counts['ok']} ok, {counts['warning']} to look at, {counts['failed']} failed, {counts['skipped']} skipped"
    )
    when = f" · {moment(finished_at)} UTC" if finished_at is not None else ""
    yield f'<p class="summary"><strong>{summary}</strong><span class="muted">{when}</span></p><ul class="checks">'
    order = {"failed": 0, "warning": 1, "ok": 2, "skipped": 3}
    for check in sorted(checks, key=lambda each: order.get(each.verdict, 9)):
        verdict = check.verdict if check.verdict in _WORDS else "skipped"
        yield f'<li><span class="verdict" data-verdict="{verdict}">{_WORDS[verdict]}</span>'
        advice = f'<p class="advice">→ {text(check.advice)}</p>' if check.advice else ""
        yield f"<div><strong>{text(check.name)}</strong><p>{text(check.seen)}</p>{advice}</div></li>"
    yield "</ul>"
