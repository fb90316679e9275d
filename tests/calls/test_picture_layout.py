from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.picture_layout import (
    PLOT_LEFT,
    PLOT_RIGHT,
    Column,
    Label,
    clean_text,
    clip_text,
    envelope,
    fit_text,
    stack_labels,
    text_width,
    tick_step_s,
    tick_text,
    time_text,
    x_of,
)


def test_clean_text_joins_white_space_and_shows_what_it_took_out() -> None:
    assert clean_text("a\tb\r\n c") == "a b c"
    assert clean_text("bell\x07 nul\0 esc\x1b[31m") == "bell\ufffd nul\ufffd esc\ufffd[31m"
    assert clean_text("\ud800 \ufffe \u202eabc\u2066") == "\ufffd \ufffd \ufffdabc\ufffd"
    assert clean_text("Grüße 日本 😀 <&>") == "Grüße 日本 😀 <&>"


@given(st.text(st.characters(), max_size=50))
def test_cleaned_text_can_be_encoded_and_is_one_line(text: str) -> None:
    cleaned = clean_text(text)
    cleaned.encode()
    assert all(char >= " " for char in cleaned)


def test_clip_text_bounds_the_length() -> None:
    assert clip_text("x" * 40, 40) == "x" * 40
    assert clip_text("x" * 10_000, 40) == "x" * 39 + "…"


def test_text_width_knows_narrow_wide_capital_and_square_characters() -> None:
    assert text_width("il", 10) == pytest.approx(8)
    assert text_width("an", 10) == pytest.approx(12.8)
    assert text_width("AB", 10) == pytest.approx(14.4)
    assert text_width("mW", 10) == pytest.approx(22)
    assert text_width("日", 10) == pytest.approx(11)


def test_fit_text_cuts_with_an_ellipsis() -> None:
    assert fit_text("transfer", 10, 60) == "transfer"
    assert fit_text("transfer to sales", 10, 60) == "transfer t…"
    assert fit_text("transfer to sales", 10, 45) == "transfe…"
    assert fit_text("transfer to sales", 10, 55) == "transfer…"
    assert fit_text("transfer", 10, 7) == ""
    assert fit_text("transfer", 10, 5) == ""
    assert fit_text("", 10, -1) == ""


@given(st.text(max_size=30), st.floats(0, 200))
def test_fitted_text_fits(text: str, room: float) -> None:
    assert text_width(fit_text(text, 12, room), 12) <= room + 1e-6


@pytest.mark.parametrize(
    ("span_ms", "step_s"),
    [
        (0, 1),
        (14_000, 1),
        (14_001, 2),
        (31_400, 5),
        (140_000, 10),
        (420_000, 30),
        (421_000, 60),
        (3_600_000, 300),
        (50 * 3_600_000, 4 * 3600),
    ],
)
def test_tick_step_is_the_first_usual_one_with_few_enough_ticks(span_ms: int, step_s: int) -> None:
    assert tick_step_s(span_ms, 14) == step_s


def test_tick_and_time_texts() -> None:
    assert [tick_text(at_s) for at_s in (0, 59, 60, 125, 3600, 3725)] == [
        "0 s",
        "59 s",
        "1:00",
        "2:05",
        "1:00:00",
        "1:02:05",
    ]
    assert [time_text(at_ms) for at_ms in (0, 7214, -50, 60_000, 67_214, 3_667_214)] == [
        "0.00 s",
        "7.21 s",
        "-0.05 s",
        "1:00.00",
        "1:07.21",
        "1:01:07.21",
    ]


def test_x_of_stays_on_the_axis() -> None:
    assert x_of(0, 1000) == x_of(-5, 1000) == PLOT_LEFT
    assert x_of(1000, 1000) == x_of(10**12, 1000) == PLOT_RIGHT
    assert x_of(500, 1000) == (PLOT_LEFT + PLOT_RIGHT) / 2


def test_labels_that_do_not_meet_share_the_lowest_row() -> None:
    assert stack_labels([Label(0, 0, 50), Label(60, 60, 100)], 3) == [0, 0]


def test_the_left_of_two_that_meet_goes_higher_so_that_no_line_crosses() -> None:
    assert stack_labels([Label(0, 0, 50), Label(20, 20, 70)], 3) == [1, 0]


def test_a_row_whose_labels_a_line_would_cross_is_avoided_while_there_is_another() -> None:
    labels = [Label(0, 0, 50), Label(40, 40, 90), Label(80, 80, 130)]
    assert stack_labels(labels, 3) == [2, 1, 0]
    assert stack_labels(labels, 2) == [0, 1, 0]  # rather a line behind a label than no label


def test_a_label_without_a_row_is_left_out() -> None:
    assert stack_labels([Label(0, 0, 50), Label(1, 1, 51), Label(2, 2, 52)], 2) == [None, 1, 0]


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(10, 300), st.booleans()), max_size=25),
    st.integers(1, 8),
)
def test_labels_of_a_row_never_overlap(marks: list[tuple[int, int, bool]], max_rows: int) -> None:
    labels = [Label(at, at - width if flipped else at, at if flipped else at + width) for at, width, flipped in marks]
    rows = stack_labels(labels, max_rows)
    assert all(row is None or 0 <= row < max_rows for row in rows)
    for (one, row), (other, other_row) in combinations(zip(labels, rows, strict=True), 2):
        if row is not None and row == other_row:
            assert one.right < other.left or other.right < one.left


def test_envelope_gives_extremes_and_level_of_each_column() -> None:
    samples = np.array([1, -2, 3, -4, 100, 100, 0, 0], "<i2")
    columns = envelope(samples, 1000, 8, 2)
    assert [(column.low, column.high) for column in columns] == [(-4, 3), (0, 100)]
    assert [column.rms for column in columns] == pytest.approx([7.5**0.5, 5000**0.5])


def test_envelope_ends_with_the_audio_and_with_the_axis() -> None:
    samples = np.full(1000, 5, "<i2")
    assert len(envelope(samples, 1000, 2000, 10)) == 5
    assert len(envelope(samples, 1000, 500, 10)) == 10
    assert envelope(samples[:0], 1000, 500, 10) == []


def test_a_column_narrower_than_a_sample_shows_that_sample() -> None:
    columns = envelope(np.array([7, 9], "<i2"), 1000, 2, 4)
    assert [column.high for column in columns] == [7, 7, 9, 9]


def test_the_loudest_sample_does_not_overflow() -> None:
    assert envelope(np.array([-32768, -32768], "<i2"), 1000, 2, 1) == [Column(-32768, -32768, 32768.0)]
