"""The marks in the picture of a call: lines through the lanes, and labels on them in rows above.

Keys pressed in a run share one label, since a caller who types a number would otherwise fill every row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from bridge.calls.picture_layout import (
    BOLD,
    MAX_DETAIL_CHARS,
    MAX_NAME_CHARS,
    PLOT_RIGHT,
    Label,
    clip_text,
    fit_text,
    stack_labels,
    text_width,
    time_text,
    x_of,
)
from bridge.calls.picture_model import CallPicture, MarkKind, PictureMark
from bridge.calls.picture_style import GLYPHS

MAX_MARKS = 120
"""Marks drawn; beyond it the picture is a hedge, and its size must stay bounded. The rest is counted in a note."""
MAX_LABEL_ROWS = 8
"""Rows of labels; a mark that finds no place keeps its line, its glyph and its hover text."""
KEY_RUN_GAP_MS = 3000
"""Keys no further apart than this, with nothing else between them, are one entry and share a label."""

_ROW, _PLATE_HEIGHT = 23, 20
_TEXT_SIZE = 12
_WORDS_ROOM, _DETAIL_ROOM = 150, 170

CSS_CLASS = {
    MarkKind.END: "end",
    MarkKind.INTERRUPTION: "interruption",
    MarkKind.CLEAR: "clear",
    MarkKind.TOOL_CALL: "tool",
    MarkKind.DTMF: "dtmf",
}


def most_important(marks: Iterable[PictureMark]) -> list[PictureMark]:
    """At most ``MAX_MARKS`` of the marks, in order of time."""
    importance = {kind: rank for rank, kind in enumerate(MarkKind)}
    kept = sorted(marks, key=lambda mark: (importance[mark.kind], mark.at_ms))[:MAX_MARKS]
    return sorted(kept, key=lambda mark: mark.at_ms)


def mark_text(mark: PictureMark) -> str:
    """A mark in words, for hovering and for screen readers: ``clear at 7.21 s: clear 3 ms``."""
    words = " ".join(filter(None, (clip_text(mark.label, MAX_NAME_CHARS), clip_text(mark.detail, MAX_DETAIL_CHARS))))
    return f"{mark.kind.value} at {time_text(mark.at_ms)}" + (f": {words}" if words else "")


@dataclass(frozen=True, slots=True)
class Flag:
    """One label with its texts cut to size, and the marks it stands for."""

    marks: tuple[PictureMark, ...]
    """One mark, or a run of keys."""
    words: str
    detail: str
    label: Label

    @property
    def css(self) -> str:
        """The CSS class of the marks' kind."""
        return CSS_CLASS[self.marks[0].kind]


@dataclass(frozen=True, slots=True)
class MarkLayer:
    """All marks of a picture with their places; draws once it is known where the lanes are."""

    span_ms: int
    flags: tuple[Flag, ...]
    rows: tuple[int | None, ...]
    """The row of each flag's label, 0 next to the lanes; ``None`` = no room, glyph only."""

    @property
    def height(self) -> int:
        """Height of the rows of labels above the lanes."""
        return _ROW * max((row + 1 for row in self.rows if row is not None), default=0)

    @property
    def unlabelled(self) -> int:
        """How many marks found no room for a label."""
        return sum(len(flag.marks) for flag, row in zip(self.flags, self.rows, strict=True) if row is None)

    def svg(self, top: int, bottom: int) -> Iterator[str]:
        """All lines, then all labels, so that a line never runs over a label. The lanes go from top to bottom."""
        placed = list(zip(self.flags, self.rows, strict=True))
        for flag, row in placed:
            yield from self._lines(flag, row, top, bottom)
        for flag, row in placed:
            if row is not None:
                yield _plate(flag, top - 4 - row * _ROW)

    def _lines(self, flag: Flag, row: int | None, top: int, bottom: int) -> Iterator[str]:
        start, glyph = top if row is None else top - 4 - row * _ROW, ""
        if row is None:
            glyph = f'<path class="glyph" transform="translate({flag.label.pole:g} {top})" d="{GLYPHS[flag.css]}"/>'
        for mark in flag.marks:
            line = f"M{x_of(mark.at_ms, self.span_ms):g} {start}V{bottom}"
            yield (
                f'<g class="{flag.css}"><title>{escape(mark_text(mark))}</title>'
                f'<path class="pole" d="{line}"/><path class="hit" d="{line}"/>{glyph}</g>'
            )
            start, glyph = top, ""  # only the first key of a run carries the label


def _plate(flag: Flag, bottom: int) -> str:
    left, y = flag.label.left, bottom - _PLATE_HEIGHT
    detail = f'<tspan class="detail muted" dx="6">{escape(flag.detail)}</tspan>' if flag.detail else ""
    return (
        f'<g class="{flag.css}"><title>{escape(_run_text(flag))}</title>'
        f'<rect class="plate" x="{left:g}" y="{y}" width="{flag.label.right - left:.1f}" '
        f'height="{_PLATE_HEIGHT}" rx="3"/>'
        f'<path class="glyph" transform="translate({left + 11:g} {y + 10})" d="{GLYPHS[flag.css]}"/>'
        f'<text x="{left + 21:g}" y="{y + 14}" class="flag">{escape(flag.words)}{detail}</text></g>'
    )


def _run_text(flag: Flag) -> str:
    first, last = flag.marks[0], flag.marks[-1]
    if first is last:
        return mark_text(first)
    return f"{len(flag.marks)} keys from {time_text(first.at_ms)} to {time_text(last.at_ms)}"


def lay_out_marks(picture: CallPicture) -> MarkLayer:
    """Choose, group and place the marks of a picture."""
    flags = [_flag(run, picture.span_ms) for run in _runs(most_important(picture.marks))]
    rows = stack_labels([flag.label for flag in flags], MAX_LABEL_ROWS)
    return MarkLayer(picture.span_ms, tuple(flags), tuple(rows))


def _runs(marks: Sequence[PictureMark]) -> list[tuple[PictureMark, ...]]:
    runs: list[tuple[PictureMark, ...]] = []
    for mark in marks:
        last = runs[-1][-1] if runs else mark
        both_keys = last.kind is MarkKind.DTMF and mark.kind is MarkKind.DTMF
        if runs and both_keys and mark.at_ms - last.at_ms <= KEY_RUN_GAP_MS:
            runs[-1] += (mark,)
        else:
            runs.append((mark,))
    return runs


def _flag(run: tuple[PictureMark, ...], span_ms: int) -> Flag:
    first, pole = run[0], x_of(run[0].at_ms, span_ms)
    words = " ".join(filter(None, (clip_text(mark.label, MAX_NAME_CHARS) for mark in run))) or first.kind.value
    words = fit_text(words, _TEXT_SIZE * BOLD, _WORDS_ROOM)
    detail = fit_text(clip_text(first.detail, MAX_DETAIL_CHARS), _TEXT_SIZE, _DETAIL_ROOM) if len(run) == 1 else ""
    width = 28 + text_width(words, _TEXT_SIZE * BOLD)
    width += 6 + text_width(detail, _TEXT_SIZE) if detail else 0
    left = pole if pole + width <= PLOT_RIGHT else pole - width
    return Flag(run, words, detail, Label(pole, round(left, 1), round(left + width, 1)))
