"""What the agent and the operator's webhook are told of the caller's keys, and what they are not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.keypad import (
    DOUBLE_WINDOW_S,
    KEYS,
    MAX_DIGITS,
    MAX_HELD_S,
    MAX_UNPAIRED,
    MAX_WAITING,
    PRESS_BURST,
    PRESSES_PER_S,
    TELL_PAUSE_S,
    Keypad,
    KeypadMode,
    KeypadNews,
    KeypadOptions,
    KeySource,
    NewsKind,
)

EVENT, INBAND = KeySource.EVENT, KeySource.INBAND
PLAIN = KeypadOptions()
EACH = KeypadOptions(KeypadMode.EACH)
REDACT = KeypadOptions(redact=True)


def said(digits: str) -> tuple[KeypadNews, ...]:
    return (KeypadNews(NewsKind.MESSAGE, f"I pressed {digits} on the keypad."),)


def typed(digits: str) -> tuple[KeypadNews, ...]:
    return (KeypadNews(NewsKind.WEBHOOK, digits),)


def press(pad: Keypad, keys: str, now: float = 0.0, step_s: float = 0.1) -> list[KeypadNews]:
    """Press these keys one after the other; everything that was told by the last of them."""
    told: list[KeypadNews] = []
    for place, key in enumerate(keys):
        told += pad.press(key, EVENT, now + place * step_s)
    return told


def let_pass(pad: Keypad, until: float = math.inf) -> list[tuple[float, KeypadNews]]:
    """Let time pass as a driver does; what was told, with its time."""
    told: list[tuple[float, KeypadNews]] = []
    while (now := pad.next_timer()) <= until and now < math.inf:
        told += [(now, news) for news in pad.handle_timer(now)]
    return told


# --- entries -------------------------------------------------------------------------------------------------


def test_an_entry_ends_with_a_pause() -> None:
    pad = Keypad(PLAIN)
    assert [pad.press("4", EVENT, 10.0), pad.press("2", EVENT, 11.0)] == [(), ()]
    assert pad.next_timer() == 13.0
    assert pad.handle_timer(12.9) == ()
    assert pad.handle_timer(13.0) == said("42")
    assert (pad.next_timer(), pad.handle_timer(99.0)) == (math.inf, ())


def test_the_pause_is_the_operators() -> None:
    pad = Keypad(KeypadOptions(pause_s=0.5))
    pad.press("4", EVENT, 10.0)
    assert pad.next_timer() == 10.5


def test_an_entry_ends_with_the_hash_key() -> None:
    pad = Keypad(PLAIN)
    assert [pad.press(key, EVENT, 1.0) for key in "4*2#"] == [(), (), (), said("4*2")]
    assert pad.next_timer() == math.inf
    assert pad.press("#", EVENT, 2.0) == said("#")


def test_another_key_may_end_an_entry() -> None:
    pad = Keypad(KeypadOptions(end_key="*"))
    assert press(pad, "4#*") == list(said("4#"))
    pad = Keypad(KeypadOptions(end_key=""))
    assert press(pad, "4#*") == []
    assert [news for _, news in let_pass(pad)] == list(said("4#*"))


def test_an_entry_ends_with_its_length() -> None:
    pad = Keypad(KeypadOptions(length=4))
    assert press(pad, "123") == []
    assert pad.press("4", EVENT, 1.0) == said("1234")
    assert pad.next_timer() == math.inf
    assert pad.press("#", EVENT, 2.0) == said("#")


def test_an_entry_has_an_end() -> None:
    pad = Keypad(KeypadOptions(pause_s=30))
    assert press(pad, "1" * (MAX_DIGITS - 1)) == []
    assert pad.press("1", EVENT, 99.0) == said("1" * MAX_DIGITS)


def test_an_entry_may_be_an_update() -> None:
    pad = Keypad(KeypadOptions(KeypadMode.UPDATE))
    assert press(pad, "42#") == [KeypadNews(NewsKind.UPDATE, "The caller typed 42 on the keypad.")]


def test_each_key_at_once() -> None:
    pad = Keypad(EACH)
    assert pad.press("#", EVENT, 0.0) == (KeypadNews(NewsKind.UPDATE, "The caller pressed the key # on the keypad."),)
    assert pad.next_timer() == math.inf


def test_quick_keys_are_told_together() -> None:
    pad = Keypad(EACH)
    assert pad.press("1", EVENT, 0.0) == (KeypadNews(NewsKind.UPDATE, "The caller pressed the key 1 on the keypad."),)
    assert [pad.press("2", EVENT, 0.1), pad.press("3", EVENT, 0.2)] == [(), ()]
    together = KeypadNews(NewsKind.UPDATE, "The caller pressed the keys 2 3 on the keypad.")
    assert let_pass(pad) == [(TELL_PAUSE_S, together)]
    assert pad.press("4", EVENT, 1.0) == (KeypadNews(NewsKind.UPDATE, "The caller pressed the key 4 on the keypad."),)


def test_nothing_at_all() -> None:
    pad = Keypad(KeypadOptions(KeypadMode.OFF))
    assert (pad.press("1", EVENT, 0.0), pad.next_timer(), pad.close()) == ((), math.inf, ())


@pytest.mark.parametrize("digit", ["", "E", "12", "w", "\u0661", "a"])
def test_what_is_no_key_is_nothing(digit: str) -> None:
    pad = Keypad(PLAIN)
    assert (pad.press(digit, EVENT, 0.0), pad.next_timer()) == ((), math.inf)
    assert (pad.merged, pad.flooded) == (0, 0)


# --- what nobody may know ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", KeypadMode)
def test_redacted_entries_go_to_the_webhook_whatever_the_mode(mode: KeypadMode) -> None:
    pad = Keypad(KeypadOptions(mode, redact=True))
    assert press(pad, "4111#") == list(typed("4111"))
    assert press(pad, "12", 10.0) == []
    assert [news for _, news in let_pass(pad)] == list(typed("12"))


def test_what_was_typed_last_reaches_the_webhook() -> None:
    pad = Keypad(REDACT)
    press(pad, "1#2#34", step_s=0.01)
    assert pad.close() == (*typed("2"), *typed("34"))
    assert (pad.close(), pad.next_timer()) == ((), math.inf)


def test_an_agent_that_is_gone_is_told_nothing_more() -> None:
    pad = Keypad(PLAIN)
    press(pad, "12")
    assert (pad.close(), pad.next_timer()) == ((), math.inf)


def test_nothing_shows_its_keys() -> None:
    pad = Keypad(REDACT)
    [news] = press(pad, "7351#")
    assert "7351" not in repr(news) + repr(pad)
    assert repr(news) == "KeypadNews(webhook)"


# --- one press, two sources ----------------------------------------------------------------------------------


@pytest.mark.parametrize("apart_s", [0.0, 0.3, DOUBLE_WINDOW_S])
@pytest.mark.parametrize(("first", "second"), [(EVENT, INBAND), (INBAND, EVENT)])
def test_a_press_that_came_both_ways_counts_once(first: KeySource, second: KeySource, apart_s: float) -> None:
    pad = Keypad(KeypadOptions(length=2))
    assert [pad.press("5", first, 0.0), pad.press("5", second, apart_s), pad.merged] == [(), (), 1]
    assert pad.press("5", first, 1.0) == said("55")


def test_presses_too_far_apart_are_two() -> None:
    pad = Keypad(KeypadOptions(length=2))
    pad.press("5", EVENT, 0.0)
    assert pad.press("5", INBAND, DOUBLE_WINDOW_S + 0.01) == said("55")
    assert pad.merged == 0


def test_a_long_press_is_still_one() -> None:
    pad = Keypad(PLAIN)
    pad.press("5", EVENT, 0.0)  # reported at its beginning by the carrier, at its end by the detector
    assert (pad.press("5", INBAND, 3.3, held_s=3.0), pad.merged) == ((), 1)
    pad.press("6", INBAND, 10.0, held_s=2.0)
    assert (pad.press("6", EVENT, 12.5), pad.merged) == ((), 2)


@pytest.mark.parametrize("held_s", [1e9, math.inf, -5.0])
def test_the_length_of_a_press_is_not_believed_without_end(held_s: float) -> None:
    pad = Keypad(PLAIN)
    pad.press("5", EVENT, 0.0, held_s=held_s)
    pad.press("5", INBAND, DOUBLE_WINDOW_S + MAX_HELD_S + 0.1, held_s=held_s)
    assert pad.merged == 0


def test_one_source_never_merges_with_itself() -> None:
    pad = Keypad(KeypadOptions(length=3))
    assert press(pad, "111", step_s=0.0) == list(said("111"))


def test_different_keys_are_no_doubles() -> None:
    pad = Keypad(KeypadOptions(length=2))
    pad.press("1", EVENT, 0.0)
    assert pad.press("2", INBAND, 0.0) == said("12")


def test_presses_without_a_double_are_forgotten() -> None:
    pad = Keypad(PLAIN)
    press(pad, "1" * 500, step_s=1.0)
    assert len(pad._unpaired) <= MAX_HELD_S + DOUBLE_WINDOW_S + 2
    press(pad, "1" * 500, now=1000.0, step_s=0.0)
    assert len(pad._unpaired) == MAX_UNPAIRED


KEY_LISTS = st.lists(st.sampled_from(sorted(KEYS - {"#"})), min_size=1, max_size=30)
DELAYS = st.floats(0, DOUBLE_WINDOW_S / 2)


@given(KEY_LISTS, st.lists(DELAYS, min_size=30, max_size=30), st.lists(DELAYS, min_size=30, max_size=30))
def test_two_sources_make_one_entry(keys: list[str], event_delays: list[float], tone_delays: list[float]) -> None:
    reports = []
    for source, delays in ((EVENT, event_delays), (INBAND, tone_delays)):
        at = 0.0
        for place, (key, delay) in enumerate(zip(keys, delays, strict=False)):
            at = max(at, place * 0.12 + delay)  # each source keeps its order
            reports.append((at, source.value, key))
    pad = Keypad(KeypadOptions(pause_s=30, end_key="", redact=True))
    for at, source_name, key in sorted(reports, key=lambda report: report[:2]):
        pad.press(key, KeySource(source_name), at)
    assert pad.close() == typed("".join(keys))
    assert pad.merged == len(keys)


# --- floods --------------------------------------------------------------------------------------------------


def test_a_flood_is_cut_to_what_a_finger_can_do() -> None:
    pad = Keypad(KeypadOptions(KeypadMode.EACH))
    told = 0
    for number in range(1000):  # 100 a second for 10 s
        now = number / 100
        told += len(let_pass(pad, now)) + len(pad.press("1", EVENT, now))
    assert pad.flooded == pytest.approx(1000 - PRESS_BURST - 10 * PRESSES_PER_S, abs=2)
    assert 10 / TELL_PAUSE_S - 1 <= told <= 10 / TELL_PAUSE_S + 1


def test_a_flood_of_entries_is_told_with_pauses_and_has_an_end() -> None:
    pad = Keypad(KeypadOptions(length=1))
    told = [(0.0, news) for news in press(pad, "1" * PRESS_BURST, step_s=0.0)]
    told += let_pass(pad)
    assert [at for at, _ in told] == [TELL_PAUSE_S * number for number in range(MAX_WAITING + 1)]
    assert pad.flooded == PRESS_BURST - MAX_WAITING - 1


def test_each_key_has_a_bound_too() -> None:
    pad = Keypad(EACH)
    pad.press("1", EVENT, 0.0)
    at, sent = 0.0, 0
    while sent < MAX_DIGITS + 3:  # nobody lets time pass: the driver is stalled
        at += 1 / PRESSES_PER_S
        pad._quiet_until_s = math.inf
        pad.press("2", EVENT, at)
        sent += 1
    assert pad.flooded == 3


def test_after_a_flood_keys_are_heard_again() -> None:
    pad = Keypad(KeypadOptions(length=1))
    press(pad, "1" * 200, step_s=0.001)
    let_pass(pad)
    assert pad.press("7", EVENT, 100.0) == said("7")


MOMENTS = st.tuples(st.text(max_size=2) | st.sampled_from(sorted(KEYS)), st.sampled_from(KeySource), st.floats(0, 3))


@given(st.lists(MOMENTS, max_size=200), st.sampled_from(KeypadMode), st.booleans(), st.integers(0, MAX_DIGITS))
def test_whatever_comes_little_is_told_and_all_of_it_to_the_right_one(
    moments: list[tuple[str, KeySource, float]], mode: KeypadMode, redact: bool, length: int
) -> None:
    options = replace(PLAIN, mode=mode, redact=redact, length=length)
    pad = Keypad(options)
    told: list[tuple[float, KeypadNews]] = []
    now = 0.0
    for digit, source, step_s in moments:
        told += let_pass(pad, now + step_s)
        now += step_s
        told += [(now, news) for news in pad.press(digit, source, now)]
    told += let_pass(pad)
    kinds = {news.kind for _, news in told}
    allowed = {NewsKind.WEBHOOK} if redact else {NewsKind.MESSAGE, NewsKind.UPDATE}
    assert kinds <= allowed
    assert redact or mode is not KeypadMode.OFF or not told
    assert all(later - earlier >= TELL_PAUSE_S - 1e-9 for (earlier, _), (later, _) in zip(told, told[1:], strict=False))
    assert all(len(news.text) <= 200 for _, news in told)
    assert pad.next_timer() == math.inf
