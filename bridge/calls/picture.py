"""The picture of one call as a self-contained SVG: what both sides said, and what happened when.

Two lanes of waveform (above the caller, below the agent as the caller heard it) over one time axis, the call's
states as a ribbon on top, and marks for interruptions, clears, tool calls, keys and the end. Pure: data in, text
out. Not a recording and not live. No scripts, fonts or links inside; all text from outside is escaped, and the
size is bounded however long the call was (``MAX_MARKS``, ``MAX_STATES``, ``PLOT_WIDTH``).

SVG 2 (W3C Candidate Recommendation, 4 October 2018); title and description for screen readers follow its
section 5.7 and WAI-ARIA 1.2, role ``img``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from xml.sax.saxutils import escape

import numpy as np

from bridge.calls.picture_layout import (
    BOLD,
    MARGIN,
    MAX_HEADING_CHARS,
    MAX_NAME_CHARS,
    PLOT_LEFT,
    PLOT_RIGHT,
    PLOT_WIDTH,
    WIDTH,
    Column,
    clip_text,
    envelope,
    fit_text,
    text_width,
    tick_step_s,
    tick_text,
    time_text,
    x_of,
)
from bridge.calls.picture_marks import CSS_CLASS, MarkLayer, lay_out_marks, mark_text
from bridge.calls.picture_model import CallLane, CallPicture, MarkKind, PictureMark, StateSpan
from bridge.calls.picture_style import GLYPHS, PICTURE_CSP, STYLE
from bridge.media.talkspurt import Talkspurt, find_talkspurts

__all__ = [
    "PICTURE_CSP",
    "CallLane",
    "CallPicture",
    "MarkKind",
    "PictureMark",
    "StateSpan",
    "render_svg",
]

MAX_STATES = 40
"""State spans drawn; a call has four, or some more when its stream was reconnected."""
MAX_GAIN_DB = 24.0
"""A quiet lane is drawn larger by at most this much; otherwise line noise would look like speech."""

_FULL_SCALE = 32768
_RIBBON_Y, _RIBBON_HEIGHT = 74, 20
_LABELS_Y = _RIBBON_Y + _RIBBON_HEIGHT + 10
_LANE_HEIGHT, _LANE_GAP = 124, 10
_LEGEND_ROW = 22
_SMALL = 12
_MAX_TICKS = 14
_MAX_DESCRIBED = 40
"""Marks named in the description: nobody listens to more."""
_STATE_CLASSES = frozenset({"connecting", "active", "draining", "ended"})


def render_svg(picture: CallPicture) -> str:
    """Draw the picture as one SVG document. An hour of audio takes half a second or more: not on the event loop."""
    layer = lay_out_marks(picture)
    lanes_y = _LABELS_Y + layer.height
    lanes_end = lanes_y + 2 * _LANE_HEIGHT + _LANE_GAP
    talk = [find_talkspurts(lane.pcm, lane.rate_hz) for lane in picture.lanes]
    legend, height = _legend(picture, layer, lanes_end + 46)
    parts = [
        *_opening(picture, height, talk),
        *_heading(picture),
        *_ribbon(picture),
        *_lane(picture, 0, lanes_y, talk[0]),
        *_lane(picture, 1, lanes_y + _LANE_HEIGHT + _LANE_GAP, talk[1]),
        *_axis(picture.span_ms, lanes_y, lanes_end),
        *layer.svg(lanes_y, lanes_end),
        *legend,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


# --- text ------------------------------------------------------------------------------------------------


def _text(x: float, y: float, css: str, text: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{css}">{escape(text)}</text>'


def _opening(picture: CallPicture, height: int, talk: Sequence[Sequence[Talkspurt]]) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-labelledby="picture-title picture-desc">',
        f'<title id="picture-title">{escape(clip_text(picture.title, MAX_HEADING_CHARS))}</title>',
        f'<desc id="picture-desc">{escape(" ".join(_description(picture, talk)))}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
    ]


def _description(picture: CallPicture, talk: Sequence[Sequence[Talkspurt]]) -> Iterator[str]:
    """The whole picture in sentences, for those who cannot see it."""
    yield f"{clip_text(picture.subtitle, MAX_HEADING_CHARS)}. Length {time_text(picture.length_ms)}."
    for lane, spurts in zip(picture.lanes, talk, strict=True):
        yield f"{clip_text(lane.label, MAX_NAME_CHARS)}: {_talk_text(spurts)}."
    for state in picture.states[:MAX_STATES]:
        yield f"State {_state_text(state)}."
    for mark in sorted(picture.marks, key=lambda mark: mark.at_ms)[:_MAX_DESCRIBED]:
        yield f"{mark_text(mark)}."
    if len(picture.marks) > _MAX_DESCRIBED:
        yield f"And {len(picture.marks) - _MAX_DESCRIBED} more marks."


def _talk_text(spurts: Sequence[Talkspurt]) -> str:
    return f"{time_text(_talk_ms(spurts))} of speech, talkspurts: {len(spurts)}"


def _talk_ms(spurts: Sequence[Talkspurt]) -> int:
    return sum(spurt.end_ms - spurt.start_ms for spurt in spurts)


def _state_text(state: StateSpan) -> str:
    return f"{clip_text(state.name, MAX_NAME_CHARS)} from {time_text(state.from_ms)} to {time_text(state.to_ms)}"


def _heading(picture: CallPicture) -> Iterator[str]:
    length = time_text(picture.length_ms)
    room = PLOT_RIGHT - MARGIN - text_width(length, 20 * BOLD) - 24
    yield _text(MARGIN, 36, "title", fit_text(clip_text(picture.title, MAX_HEADING_CHARS), 20 * BOLD, room))
    yield _text(PLOT_RIGHT, 36, "length", length)
    subtitle = fit_text(clip_text(picture.subtitle, MAX_HEADING_CHARS), 13, PLOT_RIGHT - MARGIN)
    yield _text(MARGIN, 57, "subtitle muted", subtitle)


# --- ribbon, lanes and axis ------------------------------------------------------------------------------


def _state_class(name: str) -> str:
    return name if name in _STATE_CLASSES else "other"


def _ribbon(picture: CallPicture) -> Iterator[str]:
    yield _text(MARGIN, _RIBBON_Y + 14, "small muted", "State")
    for state in picture.states[:MAX_STATES]:
        # A state that begins with the end of the call still shows, as a sliver at the edge.
        left = min(x_of(state.from_ms, picture.span_ms), PLOT_RIGHT - 4)
        width = max(x_of(state.to_ms, picture.span_ms) - left - 1, 3)
        name = clip_text(state.name, MAX_NAME_CHARS)
        yield (
            f'<g class="ribbon {_state_class(name)}"><title>{escape(_state_text(state))}</title>'
            f'<rect x="{left:g}" y="{_RIBBON_Y}" width="{width:.1f}" height="{_RIBBON_HEIGHT}" rx="2"/>'
        )
        if text_width(name, _SMALL * BOLD) <= width - 6:
            yield _text(left + 6, _RIBBON_Y + 14, "state", name)
        yield "</g>"


def _lane(picture: CallPicture, number: int, y: int, talk: Sequence[Talkspurt]) -> Iterator[str]:
    lane, css = picture.lanes[number], ("caller", "agent")[number]
    samples = np.frombuffer(lane.pcm, dtype="<i2", count=len(lane.pcm) // 2)
    columns = envelope(samples, lane.rate_hz, picture.span_ms, PLOT_WIDTH)
    peak = max((max(-column.low, column.high) for column in columns), default=0)
    middle = y + _LANE_HEIGHT // 2
    yield from _lane_label(lane, css, middle, peak, talk)
    yield f'<rect class="panel" x="{PLOT_LEFT}" y="{y}" width="{PLOT_WIDTH}" height="{_LANE_HEIGHT}" rx="3"/>'
    yield f'<path class="speech {css}" d="{_speech_path(picture.span_ms, talk, y)}"/>'
    yield f'<path class="base" d="M{PLOT_LEFT} {middle}H{PLOT_RIGHT}"/>'
    if columns:
        scale = (_LANE_HEIGHT / 2 - 5) / max(peak, _FULL_SCALE * 10 ** (-MAX_GAIN_DB / 20))
        yield f'<path class="peak {css}" d="{_wave_path(columns, middle, scale)}"/>'
        yield f'<path class="{css}" d="{_wave_path([_average(column) for column in columns], middle, scale)}"/>'


def _lane_label(lane: CallLane, css: str, middle: int, peak: int, talk: Sequence[Talkspurt]) -> Iterator[str]:
    name, x = clip_text(lane.label, MAX_NAME_CHARS), MARGIN + 12
    shown = fit_text(name, 14 * BOLD, PLOT_LEFT - x - 8)
    level = f"peak {20 * math.log10(peak / _FULL_SCALE):.0f} dBFS".replace("-", "\u2212") if peak else "silent"
    yield f"<g><title>{escape(name)}: {_talk_text(talk)}</title>"
    yield f'<rect class="{css}" x="{MARGIN}" y="{middle - 29}" width="4" height="57" rx="2"/>'
    yield _text(x, middle - 15, "lane", shown)
    yield _text(x, middle + 5, "small muted", f"speech {time_text(_talk_ms(talk))}")
    yield _text(x, middle + 23, "small muted", level)
    yield "</g>"


def _average(column: Column) -> Column:
    """The inner, darker part of the waveform: how loud it is, where the outer says how far it peaks."""
    return Column(max(column.low, -round(column.rms)), min(column.high, round(column.rms)), column.rms)


def _wave_path(columns: Sequence[Column], middle: float, scale: float) -> str:
    """An area: along the upper edge to the right, back along the lower edge."""
    upper = [f"{PLOT_LEFT + x} {middle - column.high * scale:.1f}" for x, column in enumerate(columns)]
    lower = [f"{PLOT_LEFT + x} {middle - column.low * scale:.1f}" for x, column in enumerate(columns)]
    return f"M{'L'.join(upper + lower[::-1])}z"


def _speech_path(span_ms: int, talk: Sequence[Talkspurt], y: int) -> str:
    """One box per talkspurt; those less than a unit apart become one, which bounds their number."""
    boxes: list[tuple[float, float]] = []
    for spurt in talk:
        left, right = x_of(spurt.start_ms, span_ms), x_of(spurt.end_ms, span_ms)
        if boxes and left - boxes[-1][1] < 1:
            boxes[-1] = (boxes[-1][0], right)
        else:
            boxes.append((left, right))
    return "".join(f"M{left:g} {y}H{right:g}v{_LANE_HEIGHT}H{left:g}z" for left, right in boxes)


def _axis(span_ms: int, lanes_y: int, lanes_end: int) -> Iterator[str]:
    ticks = range(0, span_ms // 1000 + 1, tick_step_s(span_ms, _MAX_TICKS))
    lines = "".join(f"M{x_of(at_s * 1000, span_ms):g} {lanes_y}V{lanes_end + 6}" for at_s in ticks)
    yield f'<path class="grid" d="{lines}"/>'
    yield _text(MARGIN, lanes_end + 20, "small muted", "Time")
    for at_s in ticks:
        x = x_of(at_s * 1000, span_ms)
        x, anchor = (x, "centred") if x < PLOT_RIGHT - MARGIN else (PLOT_RIGHT, "end-at")
        yield _text(x, lanes_end + 20, f"small muted {anchor}", tick_text(at_s))


# --- legend ----------------------------------------------------------------------------------------------


def _legend(picture: CallPicture, layer: MarkLayer, y: int) -> tuple[list[str], int]:
    """The rows under the axis, and the height of the whole picture."""
    parts = [_text(MARGIN, y + 4, "small muted", "Legend")]
    rows, y = _flow([*_wave_entries(), *_mark_entries(picture.marks)], y)
    parts += rows
    if picture.states:
        rows, y = _flow(_state_entries(picture.states[:MAX_STATES]), y + _LEGEND_ROW)
        parts += rows
    for note in _notes(layer.unlabelled, len(picture.marks) - sum(len(flag.marks) for flag in layer.flags)):
        y += _LEGEND_ROW
        parts.append(_text(PLOT_LEFT, y + 4, "small muted", note))
    return parts, y + 24


def _wave_entries() -> Iterator[tuple[str, str]]:
    for css, height, words in (("speech ", 14, "speech"), ("peak ", 10, "peak"), ("", 4, "average level")):
        boxes = "".join(
            f'<rect class="{css}{lane}" x="{x}" y="{-height // 2}" width="7" height="{height}"/>'
            for lane, x in (("caller", 0), ("agent", 7))
        )
        yield boxes, words


def _mark_entries(marks: Sequence[PictureMark]) -> Iterator[tuple[str, str]]:
    """Every kind that occurs, in the order in which they first do."""
    counted = Counter(mark.kind for mark in sorted(marks, key=lambda mark: mark.at_ms))
    for kind, count in counted.items():
        css = CSS_CLASS[kind]
        glyph = f'<g class="{css}"><path class="glyph" transform="translate(8 0)" d="{GLYPHS[css]}"/></g>'
        yield glyph, f"{kind.value} × {count}" if count > 1 else kind.value


def _state_entries(states: Sequence[StateSpan]) -> Iterator[tuple[str, str]]:
    """Every state with its total time: on the ribbon a short one has no room for its name."""
    totals: Counter[str] = Counter()
    for state in states:
        totals[clip_text(state.name, MAX_NAME_CHARS)] += max(state.to_ms - state.from_ms, 0)
    for name, total_ms in totals.items():
        swatch = f'<g class="ribbon {_state_class(name)}"><rect y="-6" width="14" height="12" rx="2"/></g>'
        yield swatch, f"{fit_text(name, _SMALL, 300)} {time_text(total_ms)}"


def _notes(unlabelled: int, undrawn: int) -> Iterator[str]:
    if unlabelled:
        yield f"Marks without room for a label: {unlabelled}. Point at a line to read it."
    if undrawn:
        yield f"Less important marks that are not drawn: {undrawn}."


def _flow(entries: Iterable[tuple[str, str]], y: int) -> tuple[list[str], int]:
    """Set legend entries in rows, left to right; returns them and the last row's place."""
    parts: list[str] = []
    x = float(PLOT_LEFT)
    for swatch, words in entries:
        width = 20 + text_width(words, _SMALL)
        if x + width > PLOT_RIGHT:
            x, y = float(PLOT_LEFT), y + _LEGEND_ROW
        parts.append(f'<g transform="translate({x:.1f} {y})">{swatch}{_text(20, 4, "small", words)}</g>')
        x += width + 16
    return parts, y
