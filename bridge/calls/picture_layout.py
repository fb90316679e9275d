"""Geometry of the picture of a call: text that fits, time ticks, stacked labels, the waveform's columns.

Pure arithmetic in the picture's own units (one unit is one CSS pixel at full size); no SVG is written here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

WIDTH, MARGIN = 1200, 24
PLOT_LEFT, PLOT_RIGHT = 164, WIDTH - MARGIN
PLOT_WIDTH = PLOT_RIGHT - PLOT_LEFT
"""Units of the time axis, one waveform column each: an hour costs no more bytes than a minute."""

# --- text ------------------------------------------------------------------------------------------------

_UNSHOWABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters; XML 1.0 section 2.2 forbids most of them even escaped
    "\ud800-\udfff\ufffe\uffff"  # lone surrogates (from undecodable bytes) and non-characters: forbidden too
    "\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # direction overrides, which would reorder the text around them
)


def clean_text(text: str) -> str:
    """One line that any XML or HTML document may hold: white space joined, unshowable characters as U+FFFD."""
    return _UNSHOWABLE.sub("\ufffd", " ".join(text.split()))


MAX_HEADING_CHARS = 160
MAX_NAME_CHARS = 40
MAX_DETAIL_CHARS = 80
"""Texts are cut here even where they are only hovered: they come from tools and carriers, there are many of them,
and the size of the picture is bounded."""


def clip_text(text: str, max_chars: int) -> str:
    """``clean_text`` of at most ``max_chars`` characters, with an ellipsis where it was cut."""
    cleaned = clean_text(text[: 4 * max_chars])
    return cleaned if len(cleaned) <= max_chars else cleaned[: max_chars - 1] + "…"


BOLD = 1.15
"""How much wider than regular the bold face runs."""

_NARROW = frozenset("iljftrI.,:;!|'()[]/ ")
_WIDE = frozenset("mwMW@%")


def text_width(text: str, size: float) -> float:
    """Estimated width of ``text`` set in ``size``: after DejaVu Sans, the widest of the usual sans faces."""
    return size * sum(_char_ems(char) for char in text)


def _char_ems(char: str) -> float:
    if char in _NARROW:
        return 0.4
    if char in _WIDE or char >= "\u2e80":  # CJK, emoji and U+FFFD fill the square
        return 1.1
    return 0.72 if char.isupper() else 0.64


def fit_text(text: str, size: float, room: float) -> str:
    """``text``, shortened with an ellipsis where it is wider than ``room``; empty when nothing fits."""
    if text_width(text, size) <= room:
        return text
    left = room - text_width("…", size)
    for end, char in enumerate(text):
        left -= size * _char_ems(char)
        if left < 0:
            return text[:end].rstrip() + "…" if end else ""
    return ""


# --- time ------------------------------------------------------------------------------------------------

_TICK_STEPS_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


def tick_step_s(span_ms: int, max_ticks: int) -> int:
    """Seconds between ticks: the first usual step with at most ``max_ticks`` steps, else whole hours."""
    for step_s in _TICK_STEPS_S:
        if span_ms <= step_s * 1000 * max_ticks:
            return step_s
    return 3600 * -(-span_ms // (3_600_000 * max_ticks))


def tick_text(at_s: int) -> str:
    """A tick's label: ``45 s`` within the first minute, then ``1:05``, then ``1:00:00``."""
    if at_s < 60:
        return f"{at_s} s"
    minutes, seconds = divmod(at_s, 60)
    return f"{minutes}:{seconds:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def time_text(at_ms: int) -> str:
    """A moment or a length to the hundredth of a second: ``7.21 s``, ``1:07.21``, ``1:01:07.21``."""
    if at_ms < 60_000:
        return f"{at_ms / 1000:.2f} s"
    return f"{tick_text(at_ms // 1000)}.{at_ms % 1000 // 10:02}"


def x_of(at_ms: int, span_ms: int) -> float:
    """Where a moment lies on a time axis of ``span_ms``; outside of it, at the nearer edge."""
    return round(PLOT_LEFT + PLOT_WIDTH * min(max(at_ms / span_ms, 0), 1), 1)


# --- labels ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Label:
    """A label on a pole: its box from ``left`` to ``right``, its pole down to the lanes at ``pole``."""

    pole: float
    left: float
    right: float


_CLEARANCE = 4.0
"""Least gap between two labels of a row."""


def stack_labels(labels: Sequence[Label], max_rows: int) -> list[int | None]:
    """Give each label a row (0 is next to the lanes) so that no two overlap; ``None`` where no row is left.

    Of the free rows the lowest is taken in which poles and labels cross least. From right to left, because a
    label reaches to the right of its pole: then a label that must go higher passes the others on the left.
    """
    rows: list[int | None] = [None] * len(labels)
    placed: list[tuple[Label, int]] = []
    for index in sorted(range(len(labels)), key=lambda index: -labels[index].pole):
        label = labels[index]
        taken = {row for other, row in placed if _overlap(label, other)}
        free = [row for row in range(max_rows) if row not in taken]
        if free:
            row = min(free, key=lambda row: _crossings(label, row, placed))
            rows[index] = row
            placed.append((label, row))
    return rows


def _overlap(one: Label, other: Label) -> bool:
    return one.left < other.right + _CLEARANCE and other.left < one.right + _CLEARANCE


def _crossings(label: Label, row: int, placed: Sequence[tuple[Label, int]]) -> int:
    """How many poles would pass behind a label: others' behind this one, and this one's behind others."""
    return sum(
        (other_row > row and label.left < other.pole < label.right)
        or (other_row < row and other.left < label.pole < other.right)
        for other, other_row in placed
    )


# --- waveform --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """The samples under one column of the picture, in int16 units."""

    low: int
    high: int
    rms: float


def envelope(samples: NDArray[np.int16], rate_hz: int, span_ms: int, columns: int) -> list[Column]:
    """Lowest, highest and RMS sample per column of a time axis of ``span_ms``.

    Shorter than ``columns`` when the audio ends before the axis does; audio after the axis is left out. A column
    narrower than a sample shows the sample it stands on.
    """
    edges = (np.arange(columns + 1) * (span_ms * rate_hz / (1000 * columns))).astype(np.int64)
    found: list[Column] = []
    for start, stop in pairwise(edges.tolist()):
        part = samples[start : max(stop, start + 1)]
        if not part.size:
            break
        # One column at a time: an hour of audio in floating point at once would take 200 MB.
        energy = part.astype(np.float32)
        rms = float(np.sqrt(np.dot(energy, energy) / part.size))
        found.append(Column(int(part.min()), int(part.max()), rms))
    return found
