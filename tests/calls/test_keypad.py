"""What the agent is told of the caller's keys."""

from __future__ import annotations

import math

from bridge.calls.keypad import MAX_DIGITS, Keypad, KeypadMode


def test_an_entry_ends_with_a_pause() -> None:
    pad = Keypad(KeypadMode.MESSAGE, 2.0)
    assert [pad.press("4", 10.0), pad.press("2", 11.0)] == ["", ""]
    assert pad.next_timer() == 13.0
    assert pad.handle_timer(12.9) == ""
    assert pad.handle_timer(13.0) == "I pressed 42 on the keypad."
    assert (pad.next_timer(), pad.handle_timer(99.0)) == (math.inf, "")


def test_an_entry_ends_with_the_hash_key() -> None:
    pad = Keypad(KeypadMode.MESSAGE, 2.0)
    assert [pad.press(key, 1.0) for key in "4*2#"] == ["", "", "", "I pressed 4*2 on the keypad."]
    assert pad.next_timer() == math.inf
    assert pad.press("#", 2.0) == "I pressed # on the keypad."


def test_an_entry_has_an_end() -> None:
    pad = Keypad(KeypadMode.MESSAGE, 2.0)
    assert [bool(pad.press("1", 0.0)) for _ in range(MAX_DIGITS)] == [False] * (MAX_DIGITS - 1) + [True]


def test_each_key_at_once() -> None:
    pad = Keypad(KeypadMode.EACH, 2.0)
    assert pad.press("#", 0.0) == "The caller pressed the key # on the keypad."
    assert pad.next_timer() == math.inf


def test_nothing_at_all() -> None:
    pad = Keypad(KeypadMode.OFF, 2.0)
    assert (pad.press("1", 0.0), pad.next_timer()) == ("", math.inf)
