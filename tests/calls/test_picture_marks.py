from __future__ import annotations

import re

from bridge.calls.picture_layout import PLOT_LEFT, PLOT_RIGHT
from bridge.calls.picture_marks import MAX_LABEL_ROWS, MAX_MARKS, lay_out_marks, mark_text, most_important
from bridge.calls.picture_model import CallLane, CallPicture, MarkKind, PictureMark

EMPTY = CallLane("", b"", 8000)


def picture(*marks: PictureMark, duration_ms: int = 10_000) -> CallPicture:
    return CallPicture("", "", duration_ms, (EMPTY, EMPTY), marks)


def keys(*at_ms: int) -> list[PictureMark]:
    return [PictureMark(at, MarkKind.DTMF, str(number)) for number, at in enumerate(at_ms)]


def drawn(*marks: PictureMark) -> str:
    return "".join(lay_out_marks(picture(*marks)).svg(200, 400))


def test_mark_text_says_kind_time_and_words() -> None:
    assert mark_text(PictureMark(7214, MarkKind.CLEAR, "clear", "3 ms")) == "clear at 7.21 s: clear 3 ms"
    assert mark_text(PictureMark(0, MarkKind.END, "")) == "end at 0.00 s"


def test_too_many_marks_lose_the_least_important() -> None:
    end = PictureMark(9999, MarkKind.END, "end")
    kept = most_important([*keys(*range(MAX_MARKS + 5)), end])
    assert len(kept) == MAX_MARKS
    assert kept[-1] is end
    assert [mark.at_ms for mark in kept] == sorted(mark.at_ms for mark in kept)


def test_keys_in_a_run_share_a_label_and_keep_a_line_each() -> None:
    layer = lay_out_marks(picture(*keys(1000, 1500, 4500)))
    assert [flag.words for flag in layer.flags] == ["0 1 2"]
    svg = "".join(layer.svg(200, 400))
    assert "<title>3 keys from 1.00 s to 4.50 s</title>" in svg
    assert svg.count('class="pole"') == 3
    assert "<title>key (DTMF) at 1.50 s: 1</title>" in svg


def test_a_long_gap_or_another_mark_ends_a_run_of_keys() -> None:
    assert [flag.words for flag in lay_out_marks(picture(*keys(0, 3001))).flags] == ["0", "1"]
    other = PictureMark(50, MarkKind.CLEAR, "clear")
    assert [flag.words for flag in lay_out_marks(picture(*keys(0, 100), other)).flags] == ["0", "clear", "1"]


def test_a_mark_is_a_line_a_glyph_a_label_and_a_hover_text() -> None:
    svg = drawn(PictureMark(5000, MarkKind.TOOL_CALL, "get_weather", "310 ms"))
    assert '<g class="tool"><title>tool call at 5.00 s: get_weather 310 ms</title>' in svg
    assert re.search(r'class="pole" d="M670 196V400"', svg)
    assert 'class="glyph"' in svg
    assert 'class="flag">get_weather<tspan class="detail muted" dx="6">310 ms</tspan></text>' in svg


def test_a_mark_without_words_shows_its_kind() -> None:
    assert 'class="flag">interruption</text>' in drawn(PictureMark(0, MarkKind.INTERRUPTION, ""))


def test_a_label_at_the_right_edge_reaches_to_the_left() -> None:
    left, right = (
        lay_out_marks(picture(PictureMark(at_ms, MarkKind.END, "end"))).flags[0].label for at_ms in (0, 10_000)
    )
    assert left.left == left.pole == PLOT_LEFT
    assert right.right == right.pole == PLOT_RIGHT


def test_long_words_are_cut_to_the_label() -> None:
    (flag,) = lay_out_marks(picture(PictureMark(0, MarkKind.TOOL_CALL, "x" * 500, "y" * 500))).flags
    assert flag.words.endswith("x…")
    assert flag.detail.endswith("y…")
    assert flag.label.right - flag.label.left < 360


def test_all_lines_come_before_all_labels() -> None:
    svg = drawn(PictureMark(100, MarkKind.CLEAR, "a"), PictureMark(200, MarkKind.CLEAR, "b"))
    assert svg.rindex('class="hit"') < svg.index('class="plate"')


def test_a_mark_without_room_for_a_label_keeps_line_glyph_and_hover_text() -> None:
    crowd = [PictureMark(5000, MarkKind.CLEAR, f"c{number}") for number in range(MAX_LABEL_ROWS + 2)]
    layer = lay_out_marks(picture(*crowd))
    assert layer.unlabelled == 2
    assert layer.height == 23 * MAX_LABEL_ROWS
    svg = "".join(layer.svg(200, 400))
    assert svg.count('class="flag"') == MAX_LABEL_ROWS
    assert svg.count('class="glyph"') == svg.count('class="pole"') == MAX_LABEL_ROWS + 2
    assert 'class="glyph" transform="translate(670 200)"' in svg


def test_no_marks_take_no_room() -> None:
    layer = lay_out_marks(picture())
    assert (layer.height, layer.unlabelled, list(layer.svg(0, 1))) == (0, 0, [])
