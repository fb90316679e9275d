"""The SIP messages of one call as a ladder: a self-contained SVG with a line for each side and an arrow a message.

Pure: a trace in, text out. No scripts, fonts or links inside; all text from outside is escaped, and the size is
bounded (``MAX_ROWS``, ``MAX_PEERS``). It looks like the picture of a call (``bridge.calls.picture``), in light and
dark, and says everything in words too, for those who cannot see it.

SVG 2 (W3C Candidate Recommendation, 4 October 2018), section 5.7; WAI-ARIA 1.2, role ``img``. The form of the diagram
is that of RFC 3665.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from bridge.calls.picture_layout import (
    BOLD,
    MARGIN,
    MAX_HEADING_CHARS,
    WIDTH,
    clip_text,
    fit_text,
    text_width,
    tick_text,
)
from bridge.calls.picture_style import STYLE
from bridge.sip.message_log import SipMessageEntry, SipTrace

MAX_ROWS = 150
"""Messages drawn; logs hold no more."""
MAX_PEERS = 3
"""Sides drawn besides the bridge; messages of further ones go to the last."""

_MAX_SUMMARY_CHARS = 60
_MAX_DESCRIBED = 40
"""Messages named in the description: nobody listens to more."""
_HEAD_Y, _HEAD_HEIGHT = 74, 30
_FIRST_ROW_Y = _HEAD_Y + _HEAD_HEIGHT + 34
_ROW = 36
_TIME_WIDTH = 110
_LEFT, _RIGHT = MARGIN + _TIME_WIDTH + 120, WIDTH - MARGIN - 120
_SMALL, _LABEL = 12, 13
_AGAIN = "again"

_LADDER_STYLE = (
    STYLE
    + """
.side{stroke:#a9b4be;stroke-width:1.5;stroke-dasharray:2 4;fill:none}
.box{fill:#f3f5f8;stroke:#c9d1d9}
.name{font-size:13px;font-weight:650;text-anchor:middle}
.label{font-size:13px;font-weight:600;text-anchor:middle;stroke:#fff;stroke-width:4px;paint-order:stroke}
.arrow{stroke-width:1.6;fill:none}
.again .arrow{stroke-dasharray:5 4}
.request .arrow{stroke:#0072b2}.request .tip{fill:#0072b2}
.trying .arrow{stroke:#55626f}.trying .tip{fill:#55626f}
.good .arrow{stroke:#007a59}.good .tip{fill:#007a59}
.bad .arrow{stroke:#c24e00}.bad .tip{fill:#c24e00}
@media (prefers-color-scheme:dark){
.side{stroke:#56636f}
.label{stroke:#0f151b}
.box{fill:#18212a;stroke:#43505d}
.request .arrow{stroke:#56b4e9}.request .tip{fill:#56b4e9}
.trying .arrow{stroke:#a2aeba}.trying .tip{fill:#a2aeba}
.good .arrow{stroke:#2cc295}.good .tip{fill:#2cc295}
.bad .arrow{stroke:#ff7a1a}.bad .tip{fill:#ff7a1a}
}
"""
)

LADDER_CSP = (
    "default-src 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_LADDER_STYLE.encode()).digest()).decode()
    + "'"
)
"""The Content-Security-Policy to serve a ladder with: its own stylesheet and nothing else."""

_KINDS = (
    ("request", "request"),
    ("trying", "provisional response"),
    ("good", "success"),
    ("bad", "failure, or another way"),
)


@dataclass(frozen=True, slots=True)
class _Row:
    entry: SipMessageEntry
    at_ms: int
    peer: int
    """Which side, 0 = the leftmost."""
    is_again: bool
    """Whether the same message went the same way before: a retransmission."""


def render_ladder(trace: SipTrace, title: str) -> str:
    """Draw the ladder as one SVG document."""
    rows = _rows(trace)
    peers = _peers(trace)
    gaps = 1 if trace.left_out and 0 < trace.first <= len(rows) else 0
    height = _FIRST_ROW_Y + (len(rows) + gaps) * _ROW + 66
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-labelledby="ladder-title ladder-desc">',
        f'<title id="ladder-title">{escape(clip_text(title, MAX_HEADING_CHARS))}</title>',
        f'<desc id="ladder-desc">{escape(" ".join(_description(trace, rows)))}</desc>',
        f"<style>{_LADDER_STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        *_heading(trace, title, rows),
        *_sides(peers, height - 60),
        *_arrows(trace, rows, len(peers)),
        *_legend(rows, height - 26),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


# --- reading the trace -----------------------------------------------------------------------------------


def _rows(trace: SipTrace) -> list[_Row]:
    shown = trace.messages[:MAX_ROWS]
    peers = _peers(trace)
    began = shown[0].at if shown else 0.0
    seen: set[tuple[bool, str]] = set()
    rows = []
    for entry in shown:
        key = (entry.sent, entry.text)
        peer = peers.index(entry.peer) if entry.peer in peers else len(peers) - 1
        rows.append(_Row(entry, max(round((entry.at - began) * 1000), 0), peer, key in seen))
        seen.add(key)
    return rows


def _peers(trace: SipTrace) -> list[str]:
    """The other sides, each once, in the order in which they appear."""
    return list(dict.fromkeys(entry.peer for entry in trace.messages[:MAX_ROWS]))[:MAX_PEERS]


def _kind(entry: SipMessageEntry) -> str:
    """CSS class: what sort of message this is, by the first digit of its status."""
    digit = entry.summary[:1]
    if not digit.isdigit():
        return "request"
    return {"1": "trying", "2": "good"}.get(digit, "bad")


def _time_text(at_ms: int) -> str:
    """A moment to the millisecond: ``7.214 s``, ``1:07.214``."""
    return f"{at_ms / 1000:.3f} s" if at_ms < 60_000 else f"{tick_text(at_ms // 1000)}.{at_ms % 1000:03}"


def _words(entry: SipMessageEntry) -> str:
    return clip_text(entry.summary, _MAX_SUMMARY_CHARS)


def _has_description(entry: SipMessageEntry) -> bool:
    return "\n\nv=0\n" in entry.text


def _row_text(row: _Row) -> str:
    """One message in words: ``INVITE with SDP at 0.00 s, received from 192.0.2.1:5060 over UDP``."""
    entry = row.entry
    way = "sent to" if entry.sent else "received from"
    described = " with SDP" if _has_description(entry) else ""
    again = f" {_AGAIN}" if row.is_again else ""
    end = f"{clip_text(entry.peer, _MAX_SUMMARY_CHARS)} over {clip_text(entry.transport, 8)}"
    return f"{_words(entry)}{described}{again} at {_time_text(row.at_ms)}, {way} {end}"


def _description(trace: SipTrace, rows: Sequence[_Row]) -> Iterator[str]:
    """The whole ladder in sentences."""
    yield f"Messages: {len(trace.messages)}."
    for row in rows[:_MAX_DESCRIBED]:
        yield f"{_row_text(row)}."
    if len(rows) > _MAX_DESCRIBED:
        yield f"And {len(rows) - _MAX_DESCRIBED} more messages."
    if trace.left_out:
        yield f"Messages in the middle that are not kept: {trace.left_out}."


# --- drawing ---------------------------------------------------------------------------------------------


def _text(x: float, y: float, css: str, text: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{css}">{escape(text)}</text>'


def _heading(trace: SipTrace, title: str, rows: Sequence[_Row]) -> Iterator[str]:
    length = _time_text(rows[-1].at_ms) if rows else ""
    room = WIDTH - 2 * MARGIN - text_width(length, 20 * BOLD) - 24
    yield _text(MARGIN, 36, "title", fit_text(clip_text(title, MAX_HEADING_CHARS), 20 * BOLD, room))
    yield _text(WIDTH - MARGIN, 36, "length", length)
    count = f"messages: {len(trace.messages) + trace.left_out}"
    call_id = clip_text(trace.call_id, MAX_HEADING_CHARS)
    yield _text(MARGIN, 57, "subtitle muted", fit_text(f"{count}, Call-ID {call_id}", 13, WIDTH - 2 * MARGIN))


def _x_of_peer(peer: int, peers: int) -> float:
    return _LEFT + peer * (_RIGHT - _LEFT) / max(peers, 1)


def _sides(peers: Sequence[str], bottom: int) -> Iterator[str]:
    places = [(_x_of_peer(number, len(peers)), peer) for number, peer in enumerate(peers)]
    for x, name in (*places, (_RIGHT, "bridge")):
        shown = fit_text(clip_text(name, _MAX_SUMMARY_CHARS), _LABEL * BOLD, 240)
        width = max(text_width(shown, _LABEL * BOLD) + 24, 90)
        yield f'<path class="side" d="M{x:g} {_HEAD_Y + _HEAD_HEIGHT}V{bottom}"/>'
        yield (
            f'<g><title>{escape(clip_text(name, _MAX_SUMMARY_CHARS))}</title><rect class="box" x="{x - width / 2:.1f}" '
            f'y="{_HEAD_Y}" width="{width:.1f}" height="{_HEAD_HEIGHT}" rx="4"/>'
            f"{_text(x, _HEAD_Y + 20, 'name', shown)}</g>"
        )


def _arrows(trace: SipTrace, rows: Sequence[_Row], peers: int) -> Iterator[str]:
    y = _FIRST_ROW_Y
    for number, row in enumerate(rows):
        if trace.left_out and number == trace.first:
            yield from _gap(y, trace.left_out)
            y += _ROW
        yield _arrow(row, _x_of_peer(row.peer, peers), y)
        y += _ROW
    if trace.left_out and trace.first == len(rows):
        yield from _gap(y, trace.left_out)


def _gap(y: int, left_out: int) -> Iterator[str]:
    yield f'<path class="grid" d="M{MARGIN} {y}H{WIDTH - MARGIN}"/>'
    yield _text(MARGIN, y - 6, "small muted", f"Messages that are not kept: {left_out}")


def _arrow(row: _Row, peer_x: float, y: int) -> str:
    start, end = (_RIGHT, peer_x) if row.entry.sent else (peer_x, _RIGHT)
    back = 9 if end < start else -9
    notes = [note for note, holds in (("SDP", _has_description(row.entry)), (_AGAIN, row.is_again)) if holds]
    room = abs(_RIGHT - peer_x) - 24
    words = fit_text(_words(row.entry), _LABEL * BOLD, room - 70)
    detail = f'<tspan class="detail muted" dx="8">{", ".join(notes)}</tspan>' if notes else ""
    return (
        f'<g class="{_kind(row.entry)}{" again" if row.is_again else ""}"><title>{escape(_row_text(row))}</title>'
        f"{_text(MARGIN, y + 4, 'small muted', _time_text(row.at_ms))}"
        f'<path class="hit" d="M{start:g} {y}H{end:g}"/>'
        f'<path class="arrow" d="M{start:g} {y}H{end + back:g}"/>'
        f'<path class="tip" d="M{end:g} {y}l{back} -5v10z"/>'
        f'<text x="{(start + end) / 2:g}" y="{y - 7}" class="label">{escape(words)}{detail}</text></g>'
    )


def _legend(rows: Sequence[_Row], y: int) -> Iterator[str]:
    """The sorts of messages that occur, and what a broken line means."""
    x = float(MARGIN)
    present = {_kind(row.entry) for row in rows}
    entries = [(kind, words) for kind, words in _KINDS if kind in present]
    if any(row.is_again for row in rows):
        entries.append(("trying again", "sent again"))
    for css, words in entries:
        yield (
            f'<g class="{css}" transform="translate({x:.1f} {y})"><path class="arrow" d="M0 -4H20"/>'
            f'<path class="tip" d="M28 -4l-9 -5v10z"/>{_text(36, 0, "small", words)}</g>'
        )
        x += 36 + text_width(words, _SMALL) + 24
