"""What the agent is told of its tool calls: a text for every failure, and none that leaves the model guessing."""

from __future__ import annotations

import pytest

from bridge.calls import tool_words
from bridge.calls.tool_words import ToolFailure, tool_failed, transfer_failed


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (ToolFailure.BUSY, "The transfer failed: the line is busy."),
        (ToolFailure.NO_ANSWER, "The transfer failed: nobody answered."),
        (ToolFailure.DECLINED, "The transfer failed: the person did not take the call."),
        (ToolFailure.VOICEMAIL, "The transfer failed: an answering machine took the call."),
        (ToolFailure.CARRIER_REFUSED, "The transfer failed: the phone network refused it."),
        (ToolFailure.CARRIER_DOWN, "The transfer failed: the phone network does not respond."),
        (ToolFailure.TIMEOUT, "The transfer failed: it took too long."),
        (ToolFailure.CALLER_GONE, "Nothing was done: the caller has hung up."),
        (ToolFailure.CALL_OVER, "Nothing was done: the call is over."),
        (ToolFailure.IN_PROGRESS, "Nothing was done: a transfer of this call is under way already."),
        (ToolFailure.NOT_NOW, "Nothing was done: this is not possible at this moment of the call."),
        (ToolFailure.TOO_MANY, "Nothing was done: too many tool calls are waiting for their result."),
    ],
)
def test_a_transfer_that_failed(failure: ToolFailure, words: str) -> None:
    assert transfer_failed(failure).startswith(words + " ")


def test_every_cause_has_words_of_its_own() -> None:
    assert len({transfer_failed(failure) for failure in ToolFailure}) == len(ToolFailure)


@pytest.mark.parametrize("failure", [each for each in ToolFailure if "still with you" in transfer_failed(each)])
def test_the_caller_is_back_after_a_failure_of_the_human_or_the_carrier(failure: ToolFailure) -> None:
    assert failure not in (ToolFailure.CALLER_GONE, ToolFailure.CALL_OVER)


def test_another_tool_that_failed() -> None:
    assert tool_failed(ToolFailure.CARRIER_DOWN).startswith("It failed: the phone network does not respond.")
    assert tool_failed(ToolFailure.CALL_OVER) == transfer_failed(ToolFailure.CALL_OVER)
    assert tool_failed(ToolFailure.BUSY) == tool_failed(ToolFailure.TIMEOUT)
    assert all("transfer" not in tool_failed(each) for each in ToolFailure if each is not ToolFailure.IN_PROGRESS)


def test_the_texts_are_sentences() -> None:
    texts = [value for name, value in vars(tool_words).items() if name.isupper() and isinstance(value, str)]
    assert len(texts) > 20
    for text in [*texts, *map(transfer_failed, ToolFailure), *map(tool_failed, ToolFailure)]:
        assert text.endswith((".", "#."))
        assert text == " ".join(text.split())
