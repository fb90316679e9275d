"""What is written down of a call, and that it never grows without bound."""

from __future__ import annotations

import msgspec

from bridge.calls import journal
from bridge.calls.journal import Journal


def test_a_correction_cuts_the_agents_last_turn() -> None:
    log = Journal()
    log.said("agent", "One two three four", 1.0)
    log.said("user", "Stop", 2.0)
    log.corrected("One two")
    log.corrected("One")
    first, second = log.turns
    assert (first.text, first.original, first.interrupted) == ("One", "One two three four", True)
    assert (second.text, second.original, second.interrupted) == ("Stop", "", False)


def test_a_correction_of_nothing_is_harmless() -> None:
    log = Journal()
    log.corrected("x")
    assert log.turns == []


def test_a_tool_is_answered_once() -> None:
    log = Journal()
    log.tool_called("look_up", "t1", {"a": 1}, 1.0)
    log.tool_answered("other", "no", 1.1, is_error=True)
    log.tool_answered("t1", "yes", 1.5, is_error=False)
    log.tool_answered("t1", "again", 1.9, is_error=True)
    [tool] = log.tools
    assert (tool.result, tool.is_error, tool.took_ms) == ("yes", False, 500.0)


def test_every_list_has_a_bound_and_what_does_not_fit_is_counted() -> None:
    log = Journal()
    for _ in range(journal.MAX_TURNS + 1):
        log.said("user", "x", 0.0)
    for _ in range(journal.MAX_TOOLS + 1):
        log.tool_called("t", "1", {}, 0.0)
    for _ in range(journal.MAX_DIGITS + 1):
        log.pressed("1", 100, 0.0)
    for _ in range(journal.MAX_STEPS + 1):
        log.step("x", "", 0.0)
    assert [len(part) for part in (log.turns, log.tools, log.digits, log.steps)] == [
        journal.MAX_TURNS,
        journal.MAX_TOOLS,
        journal.MAX_DIGITS,
        journal.MAX_STEPS,
    ]
    assert log.lost == 4


def test_long_texts_are_cut() -> None:
    log = Journal()
    log.said("user", "x" * (journal.MAX_TEXT_CHARS + 1), 0.0)
    log.corrected("never an agent")
    log.tool_called("t", "1", {}, 0.0)
    log.tool_answered("1", "y" * (journal.MAX_TEXT_CHARS + 1), 0.0, is_error=False)
    assert len(log.turns[0].text) == len(log.tools[0].result) == journal.MAX_TEXT_CHARS


def test_it_survives_json() -> None:
    log = Journal()
    log.said("user", "Grüße", 1.0)
    log.pressed("", 0, 2.0)
    log.step("queued", "position 1", 0.5)
    assert msgspec.json.decode(msgspec.json.encode(log), type=Journal) == log
