"""The vocabulary between a leg and the call: values that never change, and unions that miss none."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from bridge import events, outcome
from bridge.media.format import ULAW_8K

DEFINED = {
    value for value in vars(events).values() if isinstance(value, type) and issubclass(value, msgspec.Struct)
} - {events.CallInfo}  # fmt: skip


def test_everything_is_either_an_event_or_a_command() -> None:
    up, down = set(get_args(events.Event)), set(get_args(events.Command))
    assert up | down == DEFINED
    assert not up & down


def test_events_and_commands_are_values() -> None:
    assert events.Play(b"x") == events.Play(b"x") != events.Play(b"y")
    assert events.Ended(outcome.CALLER_HANGUP).detail == ""
    assert events.Dtmf("1").duration_ms == 0
    assert events.Accept(ULAW_8K) == events.Accept(ULAW_8K)


@pytest.mark.parametrize("struct", sorted(DEFINED | {events.CallInfo}, key=repr))
def test_nothing_can_be_changed_afterwards(struct: type[msgspec.Struct]) -> None:
    assert struct.__struct_config__.frozen


def test_calls_do_not_share_their_parameters() -> None:
    first = events.CallInfo(provider="twilio", call_sid="CA1")
    second = events.CallInfo(provider="twilio", call_sid="CA2")
    assert first.parameters == {}
    assert first.parameters is not second.parameters
