"""The console's first page: what goes on now, what is to be set next, where to point the carriers.

The server draws the frame and what does not change from second to second; gauges and rows are filled in by
``assets/live.js`` from the event stream. Without scripts the figures of the moment are there, and no list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bridge.outcome import CATALOGUE
from bridge.web.html import Frame, document, text, uptime_text


@dataclass(frozen=True, slots=True)
class DemoLinks:
    """Where the last call of the demo can be seen and heard, below the console's root."""

    picture_url: str = "demo/call.svg"
    recording_url: str = "demo/call.wav"


@dataclass(frozen=True, slots=True)
class Address:
    """Something to tell a carrier."""

    carrier: str
    place: str
    """Where in the carrier's own pages it belongs."""
    url: str


@dataclass(frozen=True, slots=True)
class LivePage:
    """Everything that the page shows besides the stream."""

    problems: tuple[str, ...]
    """What is missing, each a sentence with the setting to set next; may be there although the bridge is ready."""
    active_calls: int
    max_calls: int
    """BRIDGE_MAX_CALLS."""
    ended: tuple[tuple[str, int], ...]
    """Calls since the start by ``result/reason``, in the order to show."""
    uptime_s: float
    addresses: tuple[Address, ...]
    """Empty while PUBLIC_URL is not set."""
    shows_calls: bool
    """False while nobody can sign in: counts only."""
    can_transfer: bool = False
    demo: DemoLinks | None = None


COLUMNS = ("State", "Carrier", "Caller", "Called", "Agent", "Speaking", "Answer", "Length")


def render_live(frame: Frame, page: LivePage) -> str:
    """The whole page."""
    return document(frame, _main(frame, page))


def _main(frame: Frame, page: LivePage) -> Iterator[str]:
    yield '<h1 class="hidden">Live calls</h1>'
    yield from _problems(page)
    yield from _gauges(page)
    if page.shows_calls:
        yield from _calls(frame)
    yield '<div class="columns">'
    yield from _addresses(page)
    yield from _ends(page)
    yield "</div>"
    yield from _demo(frame, page)
    if page.shows_calls and frame.viewer is not None and frame.viewer.is_admin:
        yield from dialogs(can_transfer=page.can_transfer)
        yield from player()


def _problems(page: LivePage) -> Iterator[str]:
    if page.problems:
        yield '<section class="card next" aria-labelledby="next">\n<h2 id="next">What to set next</h2>\n<ul>'
        for problem in page.problems:
            yield f"<li>{text(problem)}</li>"
        yield "</ul>\n</section>"


def _gauges(page: LivePage) -> Iterator[str]:
    active, most = max(page.active_calls, 0), max(page.max_calls, 1)
    yield '<section aria-labelledby="capacity">\n<h2 id="capacity" class="hidden">Capacity</h2>\n<dl class="gauges">'
    yield (
        '<div class="card"><dt>Calls in this process</dt>'
        f'<dd><span id="g-active">{active}</span> <small>of <span id="g-max">{page.max_calls}</span></small></dd>'
        f'<dd><meter id="g-active-bar" min="0" max="{most}" high="{most * 0.9:g}" value="{min(active, most)}" '
        'aria-label="Calls in this process"></meter></dd></div>'
    )
    for name, words in (("workspace", "Workspace"), ("burst", "Bursting"), ("waiting", "Waiting in the queue")):
        yield (
            f'<div class="card" id="g-{name}-card"><dt>{words}</dt><dd><span id="g-{name}">–</span> '
            f'<small id="g-{name}-of"></small></dd><dd><meter id="g-{name}-bar" min="0" max="1" value="0" '
            f'aria-label="{words}" hidden></meter><small id="g-{name}-note" class="muted"></small></dd></div>'
        )
    yield f'<div class="card"><dt>Up for</dt><dd id="g-uptime" data-seconds="{int(page.uptime_s)}">'
    yield f"{uptime_text(page.uptime_s)}</dd>"
    yield '<dd><small id="g-instances" class="muted"></small></dd></div>'
    yield "</dl>\n</section>"


def _calls(frame: Frame) -> Iterator[str]:
    yield '<section class="card calls" aria-labelledby="calls">\n<div class="toolbar">'
    yield '<h2 id="calls">Live calls <span id="count" class="muted count-note"></span></h2>'
    yield '<form id="filter" role="search" aria-label="Live calls">'
    yield '<label class="hidden" for="q">Search number, agent or id</label>'
    yield '<input id="q" type="search" placeholder="Number, agent or id" autocomplete="off" spellcheck="false">'
    for name, words, options in (
        ("provider", "Carrier", (("", "All carriers"),)),
        ("state", "State", (("", "All states"),)),
        ("order", "Order", (("new", "Newest first"), ("old", "Longest first"), ("slow", "Slowest answer first"))),
    ):
        yield f'<label class="hidden" for="{name}">{words}</label><select id="{name}">'
        yield from (f'<option value="{value}">{label}</option>' for value, label in options)
        yield "</select>"
    yield "</form>\n</div>"
    yield '<div class="scroll" role="group" aria-labelledby="calls" tabindex="0">'
    yield '<table class="live" role="table" aria-labelledby="calls">\n<thead role="rowgroup"><tr role="row">'
    for column in COLUMNS:
        right = ' class="number"' if column in ("Answer", "Length") else ""
        yield f'<th role="columnheader" scope="col"{right}>{column}</th>'
    if frame.viewer is not None and frame.viewer.is_admin:
        yield '<th role="columnheader" scope="col"><span class="hidden">Actions</span></th>'
    yield '</tr></thead>\n<tbody id="rows" role="rowgroup"></tbody>\n</table></div>'
    yield '<p id="empty" class="muted empty">Waiting for the first look …</p>'
    yield '<nav id="pager" class="pager" aria-label="Pages of live calls" hidden>'
    yield '<button type="button" id="previous">Previous</button><span id="place"></span>'
    yield '<button type="button" id="following">Next</button></nav>'
    yield "<noscript><p>The list of live calls needs scripts; the stored calls do not.</p></noscript>\n</section>"


def _addresses(page: LivePage) -> Iterator[str]:
    yield '<details class="card"><summary><h2>Point your carriers at</h2></summary>'
    if page.addresses:
        yield '<dl class="addresses">'
        for address in page.addresses:
            yield f'<dt><strong>{text(address.carrier)}</strong> <span class="muted">{text(address.place)}</span></dt>'
            yield f'<dd><code class="copy">{text(address.url)}</code></dd>'
        yield "</dl>"
    else:
        yield "<p>Set <code>PUBLIC_URL</code> to the https address under which carriers reach this bridge.</p>"
    yield "</details>"


def _ends(page: LivePage) -> Iterator[str]:
    total = sum(count for _, count in page.ended)
    yield '<details class="card"><summary>'
    yield f'<h2 id="ends">How calls ended <span class="muted">{total}</span></h2></summary>'
    if page.ended:
        yield '<table aria-labelledby="ends">\n<thead><tr><th scope="col">Reason</th>'
        yield '<th scope="col" class="number">Calls</th><th scope="col">What to do</th></tr></thead>\n<tbody>'
        for reason, count in page.ended:
            known = CATALOGUE.get(reason.rpartition("/")[2])
            yield (
                f'<tr><th scope="row"><code>{text(reason)}</code></th><td class="number">{count}</td>'
                f"<td>{text(known.advice) if known else ''}</td></tr>"
            )
        yield "</tbody>\n</table>"
    else:
        yield '<p class="muted">No call has ended since the start.</p>'
    yield "</details>"


def _demo(frame: Frame, page: LivePage) -> Iterator[str]:
    if page.demo is not None:
        picture, recording = text(frame.root + page.demo.picture_url), text(frame.root + page.demo.recording_url)
        yield '<section class="card" aria-labelledby="demo">\n<h2 id="demo">Last call of the demo</h2>'
        yield f'<p><a href="{picture}">Picture</a> · <a href="{recording}">Recording</a></p>'
        yield f'<figure><img src="{picture}" alt="Both sides of the call over time" width="1200" height="500"></figure>'
        yield "</section>"


def dialogs(*, can_transfer: bool) -> Iterator[str]:
    """What asks before a call is acted upon."""
    yield '<dialog id="hangup" aria-labelledby="hangup-title"><form method="dialog">'
    yield '<h2 id="hangup-title">Hang up?</h2><p id="hangup-what"></p>'
    yield '<p class="actions"><button type="submit" value="no">Keep the call</button>'
    yield '<button type="submit" value="yes" class="danger">Hang up</button></p></form></dialog>'
    yield '<dialog id="transfer" aria-labelledby="transfer-title"><form method="dialog">'
    yield '<h2 id="transfer-title">Transfer the call</h2><p id="transfer-what"></p>'
    yield '<label for="transfer-to">Number or SIP address</label>'
    yield '<input id="transfer-to" required maxlength="256" autocomplete="off" spellcheck="false" '
    yield 'placeholder="+14155550100">'
    if not can_transfer:
        yield '<p class="muted"><code>TRANSFER_ALLOW</code> is empty: only calls of routes with a list of '
        yield "their own can be transferred.</p>"
    yield '<label for="transfer-kind">How</label><select id="transfer-kind">'
    for value, words in (
        ("", "The best that this line can do"),
        ("conference", "Ask the human first (conference)"),
        ("blind", "Send the caller on (blind)"),
        ("sip_refer", "SIP REFER"),
        ("flow", "The carrier's own flow"),
    ):
        yield f'<option value="{value}">{words}</option>'
    yield '</select><p class="actions"><button type="submit" value="no" formnovalidate>Cancel</button>'
    yield '<button type="submit" value="yes" class="primary">Transfer</button></p></form></dialog>'


def player() -> Iterator[str]:
    """What shows that somebody listens, and the words on what was done."""
    yield '<section id="player" class="player" aria-labelledby="player-title" hidden>'
    yield '<h2 id="player-title">Listening to <span id="player-who"></span></h2>'
    yield '<span id="player-time" class="muted"></span>'
    yield '<label for="player-volume">Volume</label>'
    yield '<input id="player-volume" type="range" min="0" max="1" step="0.05" value="0.9">'
    yield '<button type="button" id="player-stop">Stop</button></section>'
    yield '<p id="toast" class="toast" role="status" aria-live="polite" hidden></p>'
