"""How the agent's side ended, in our words."""

from __future__ import annotations

import pytest

from bridge import outcome
from bridge.convai.closing import DETAIL_MAX_CHARS, clip, reason_for_close, reason_for_handshake
from bridge.outcome import EndReason


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1000, outcome.AGENT_HANGUP),
        (1001, outcome.AGENT_OPERATIONAL),
        (1002, outcome.AGENT_OPERATIONAL),
        (1005, outcome.AGENT_HANGUP),
        (1006, outcome.AGENT_LOST),
        (1008, outcome.AGENT_CONFIG),
        (1011, outcome.AGENT_CRASHED),
        (1012, outcome.AGENT_OPERATIONAL),
        (4000, outcome.AGENT_OPERATIONAL),
    ],
)
def test_a_close_code_without_words(code: int, reason: EndReason) -> None:
    assert reason_for_close(code, "") is reason


@pytest.mark.parametrize(
    ("code", "words", "reason"),
    [
        (1002, "This request exceeds your quota limit.", outcome.AGENT_QUOTA),
        (1008, "Too many concurrent requests", outcome.AGENT_QUOTA),
        (1011, "CONCURRENCY limit", outcome.AGENT_QUOTA),
        (1000, "entitlement_exceeded", outcome.AGENT_QUOTA),
        (1000, "max_duration_exceeded", outcome.MAX_DURATION),
        (1011, "Conversation has exceeded maximum duration", outcome.MAX_DURATION),
        (1002, "maximum duration quota", outcome.MAX_DURATION),
        (1008, "override_error: first_message", outcome.AGENT_CONFIG),
        (1000, "bye", outcome.AGENT_HANGUP),
    ],
)
def test_words_tell_more_than_the_code(code: int, words: str, reason: EndReason) -> None:
    assert reason_for_close(code, words) is reason


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, outcome.AGENT_REFUSED),
        (401, outcome.AGENT_UNAUTHORIZED),
        (403, outcome.AGENT_UNAUTHORIZED),
        (404, outcome.AGENT_NOT_FOUND),
        (422, outcome.AGENT_REFUSED),
        (429, outcome.AGENT_QUOTA),
        (499, outcome.AGENT_REFUSED),
        (500, outcome.AGENT_UNREACHABLE),
        (503, outcome.AGENT_UNREACHABLE),
    ],
)
def test_an_http_status_in_place_of_a_conversation(status: int, reason: EndReason) -> None:
    assert reason_for_handshake(status) is reason


def test_words_are_made_fit_for_one_log_line() -> None:
    assert clip("  two\n lines\tand  blanks ") == "two lines and blanks"
    assert clip("") == ""
    assert clip("x" * DETAIL_MAX_CHARS) == "x" * 300
    assert clip("x" * 301) == "x" * 297 + "..."
