"""What the agent's side tells: values, equal when they say the same, never changed afterwards."""

from __future__ import annotations

from typing import get_args

import pytest

from bridge import outcome
from bridge.convai import events
from bridge.media.format import PCM_16K, ULAW_8K


def test_events_are_values() -> None:
    ready = events.AgentReady("c1", PCM_16K, ULAW_8K)
    assert ready == events.AgentReady(conversation_id="c1", input_format=PCM_16K, output_format=ULAW_8K)
    assert ready != events.AgentReady("c1", ULAW_8K, PCM_16K)
    assert repr(events.AgentEnded(outcome.AGENT_LOST, "close 1006")).endswith("detail='close 1006')")


def test_events_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="immutable type: 'AgentAudio'"):
        events.AgentAudio(b"", 1).payload = b"x"  # type: ignore[misc]


def test_every_event_is_in_the_union() -> None:
    defined = {
        value for value in vars(events).values() if isinstance(value, type) and value.__module__ == events.__name__
    }
    assert set(get_args(events.AgentEvent)) == defined
