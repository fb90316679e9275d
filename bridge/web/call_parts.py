"""Parts of the page of a call: how long answers took, tools, webhook events, steps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from bridge.calls.journal import ToolUse
from bridge.calls.turns import OWNERS, TurnTiming
from bridge.server.api.schemas import CallDetail
from bridge.server.store.delivery import Delivery
from bridge.web.calls import moment
from bridge.web.html import duration_text, text

MAX_JSON_CHARS = 4_000
"""Of a tool's parameters or result; the API has all of it."""
MAX_STEPS = 300
"""Steps on the page; the API has all of them."""

BAR_WIDTH = 240
_OWNER_WORDS = {
    "carrier": "carrier",
    "bridge_in": "bridge, in",
    "agent": "agent",
    "tool": "tools",
    "bridge_out": "bridge, out",
}


def latency(call: CallDetail) -> Iterator[str]:
    """How soon each turn was answered, and whose time it was."""
    answered = [turn for turn in call.turns if turn.response_ms is not None]
    if not answered:
        return
    longest = max(turn.response_ms or 0.0 for turn in answered) or 1.0
    yield '<section class="card" aria-labelledby="latency"><h2 id="latency">Time to answer</h2>'
    yield '<ul class="legend" aria-label="Whose time">'
    for owner in OWNERS:
        yield f'<li><span class="swatch" data-owner="{owner}"></span>{_OWNER_WORDS[owner]}</li>'
    yield "</ul>"
    yield '<div class="scroll short" role="group" aria-labelledby="latency" tabindex="0">'
    yield '<table class="latency" aria-labelledby="latency"><thead><tr><th scope="col">At</th>'
    yield '<th scope="col" class="number">Answer</th><th scope="col">Whose time</th></tr></thead><tbody>'
    for turn in answered:
        yield _latency_row(turn, longest)
    yield "</tbody></table></div></section>"


def _latency_row(turn: TurnTiming, longest: float) -> str:
    x, bars, words = 0.0, [], []
    for owner in OWNERS:
        spent = turn.owners.get(owner, 0.0)
        width = spent / longest * BAR_WIDTH
        if width >= 0.2:
            bars.append(f'<rect class="owner-{owner}" x="{x:.1f}" width="{width:.1f}" height="12"/>')
        if spent >= 0.5:
            words.append(f"{_OWNER_WORDS[owner]} {spent:.0f} ms")
        x += width
    barged = ' <span class="tag warn">over the agent</span>' if turn.barged_in else ""
    return (
        f'<tr><td class="clock">{duration_text(turn.at_s)}</td>'
        f'<td class="number">{(turn.response_ms or 0.0) / 1000:.2f} s</td><td>'
        f'<svg class="bar" viewBox="0 0 {BAR_WIDTH} 12" width="{BAR_WIDTH}" height="12" preserveAspectRatio="none" '
        f'role="img" aria-label="{text(", ".join(words))}">{"".join(bars)}</svg>{barged}</td></tr>'
    )


def tools(used: Sequence[ToolUse]) -> Iterator[str]:
    """The client tools that the agent called."""
    if not used:
        return
    yield '<section class="card" aria-labelledby="tools"><h2 id="tools">Tools</h2><ul class="plain">'
    for tool in used:
        took = "runs" if tool.took_ms is None else f"{tool.took_ms:.0f} ms"
        error = ' <span class="tag warn">failed</span>' if tool.is_error else ""
        yield f'<li><details><summary><span class="clock">{duration_text(tool.at_s)}</span> '
        yield f'<code>{text(tool.name)}</code> <span class="muted">{took}</span>{error}</summary>'
        yield f"<pre>{text(_json(tool.parameters))}</pre><p>{text(tool.result[:MAX_JSON_CHARS])}</p></details></li>"
    yield "</ul></section>"


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)[:MAX_JSON_CHARS]


def deliveries(events: Sequence[Delivery] | None) -> Iterator[str]:
    """What was told about the call, and how far each event got."""
    yield '<section class="card" aria-labelledby="webhooks"><h2 id="webhooks">Webhooks</h2>'
    if events is None:
        yield '<p class="muted">The database does not answer; load the page again later.</p>'
    elif not events:
        yield '<p class="muted">No event was made of this call.</p>'
    else:
        yield '<table aria-labelledby="webhooks"><thead><tr><th scope="col">Event</th><th scope="col">State</th>'
        yield '<th scope="col" class="number">Attempts</th></tr></thead><tbody>'
        for event in events:
            style = {"delivered": "success", "dead": "server_error"}.get(event.state, "live")
            problem = f'<br><span class="muted small">{text(event.last_error)}</span>' if event.last_error else ""
            yield f"<tr><td><code>{text(event.type)}</code>{problem}</td>"
            yield f'<td><span class="dot" data-result="{style}"></span>{text(event.state)}'
            if event.delivered_at is not None:
                yield f'<br><span class="muted small">{moment(event.delivered_at)}</span>'
            yield f'</td><td class="number">{event.attempts}</td></tr>'
        yield "</tbody></table>"
    yield "</section>"


def steps(call: CallDetail) -> Iterator[str]:
    """States, interruptions, transfers and pressed keys, in order of time."""
    found = [(step.at_s, text(step.event.replace("_", " ")), step.detail) for step in call.steps]
    found += [
        (key.at_s, f"key <kbd>{text(key.digit or '•')}</kbd>", f"{key.duration_ms} ms" if key.duration_ms else "")
        for key in call.keys
    ]
    found.sort(key=lambda entry: entry[0])
    yield f'<details class="card" open><summary><h2>Steps <span class="muted">{len(found)}</span></h2></summary>'
    yield '<ol class="steps">'
    for at_s, what, detail in found[:MAX_STEPS]:
        more = f' <span class="muted">{text(detail)}</span>' if detail else ""
        yield f'<li><span class="clock">{duration_text(at_s)}</span><span>{what}{more}</span></li>'
    yield "</ol>"
    if len(found) > MAX_STEPS:
        yield f'<p class="muted">And {len(found) - MAX_STEPS} more.</p>'
    yield "</details>"
