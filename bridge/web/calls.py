"""The console's list of stored calls: a filter as a plain form, a table, and the way to older calls."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from bridge.server.api.schemas import CallSummary
from bridge.web.html import Frame, document, duration_text, text


@dataclass(frozen=True, slots=True)
class CallsPage:
    """Everything that the page shows."""

    calls: Sequence[CallSummary]
    next_cursor: str | None
    query: Mapping[str, str]
    """The filter as it was asked for."""
    providers: Sequence[str]
    problem: str = ""
    """What is wrong with the filter, or with the database; then there are no calls."""


_RESULTS = ("success", "client_error", "server_error", "upstream_error", "indeterminate")


def render_calls(frame: Frame, page: CallsPage) -> str:
    """The whole page."""
    return document(frame, _main(page))


def _main(page: CallsPage) -> Iterator[str]:
    yield "<h1>Calls</h1>"
    yield from _filter(page)
    if page.problem:
        yield f'<p class="problem" role="alert">{text(page.problem)}</p>'
        return
    yield '<section class="card calls" aria-label="Stored calls">'
    if not page.calls:
        yield '<p class="muted empty">No call matches.</p></section>'
        return
    yield '<div class="scroll" role="group" aria-label="Stored calls" tabindex="0"><table class="stored" role="table">'
    yield '<thead role="rowgroup"><tr role="row">'
    for column in ("Began", "Carrier", "Caller", "Called", "Agent", "Length", "End"):
        right = ' class="number"' if column == "Length" else ""
        yield f'<th role="columnheader" scope="col"{right}>{column}</th>'
    yield '</tr></thead>\n<tbody role="rowgroup">'
    for call in page.calls:
        yield from _row(call)
    yield "</tbody></table></div>"
    yield from _pager(page)
    yield "</section>"


def _filter(page: CallsPage) -> Iterator[str]:
    given = page.query
    yield '<form class="card filter" method="get" role="search" aria-label="Stored calls">'
    for name, words, kind, example in (
        ("caller", "Caller", "text", "+4930123456"),
        ("called", "Called", "text", "+15550100"),
        ("agent_id", "Agent", "text", ""),
        ("since", "From (UTC)", "datetime-local", ""),
        ("until", "Until (UTC)", "datetime-local", ""),
    ):
        yield (
            f'<p><label for="{name}">{words}</label><input id="{name}" name="{name}" type="{kind}" '
            f'value="{text(given.get(name, ""))}" placeholder="{example}" autocomplete="off"></p>'
        )
    yield from _choice("provider", "Carrier", ("", *page.providers), given)
    yield from _choice("result", "Result", ("", *_RESULTS), given)
    yield from _choice("direction", "Direction", ("", "inbound", "outbound"), given)
    yield '<p class="buttons"><button type="submit" class="primary">Filter</button>'
    if given:
        yield '<a href="calls">Clear</a>'
    yield "</p></form>"


def _choice(name: str, words: str, values: Sequence[str], given: Mapping[str, str]) -> Iterator[str]:
    yield f'<p><label for="{name}">{words}</label><select id="{name}" name="{name}">'
    for value in values:
        chosen = " selected" if given.get(name, "") == value else ""
        yield f'<option value="{text(value)}"{chosen}>{text(value or "any")}</option>'
    yield "</select></p>"


def _row(call: CallSummary) -> Iterator[str]:
    yield '<tr role="row">'
    yield f'<td role="cell" data-label="Began">{moment(call.created_at)}</td>'
    out = ' <span class="muted small">out</span>' if call.direction == "outbound" else ""
    yield f'<td role="cell" data-label="Carrier">{text(call.provider)}{out}</td>'
    who = text(call.caller or "withheld")
    yield f'<td role="cell" data-label="Caller" class="phone"><a href="calls/{text(call.id)}">{who}</a></td>'
    yield f'<td role="cell" data-label="Called" class="phone">{text(call.called or "–")}</td>'
    yield f'<td role="cell" data-label="Agent">{text(call.agent_id or "–")}</td>'
    length = "live" if call.live else duration_text(call.duration_s)
    yield f'<td role="cell" data-label="Length" class="number">{length}</td>'
    yield f'<td role="cell" data-label="End">{end_words(call)}</td></tr>'


def end_words(call: CallSummary) -> str:
    """How a call ended, with a dot in the colour of its result, as markup."""
    result = call.result or "live"
    words = call.reason.replace("_", " ") if call.reason else call.state
    rec = ' <span class="tag">recorded</span>' if call.recorded else ""
    return f'<span class="dot" data-result="{text(result)}"></span>{text(words)}{rec}'


def moment(unix_s: float) -> str:
    """A moment in UTC as markup, to the second."""
    at = dt.datetime.fromtimestamp(unix_s, dt.UTC)
    return f'<time datetime="{at:%Y-%m-%dT%H:%M:%SZ}">{at:%Y-%m-%d} <span class="clock">{at:%H:%M:%S}</span></time>'


def _pager(page: CallsPage) -> Iterator[str]:
    yield '<nav class="pager" aria-label="Pages of stored calls">'
    kept = {name: value for name, value in page.query.items() if name != "cursor"}
    if "cursor" in page.query:
        newest = f"calls?{urlencode(kept, errors='replace')}" if kept else "calls"
        yield f'<a class="button" href="{text(newest)}">Newest</a>'
    if page.next_cursor:
        older = f"calls?{urlencode({**kept, 'cursor': page.next_cursor}, errors='replace')}"
        yield f'<a class="button" rel="next" href="{text(older)}">Older</a>'
    yield "</nav>"
