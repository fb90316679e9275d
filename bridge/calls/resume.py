"""What a second conversation of the same call is told of the first. Pure.

The agent's side cannot take up a conversation whose connection broke: a new one begins, and knows nothing. So it is
given the transcript, as dynamic variables with the initiation data and as a contextual update once it is ready.
"""

from __future__ import annotations

from collections.abc import Sequence

from bridge.calls.journal import Turn
from bridge.convai.messages import InitiationData

MAX_CHARS = 4_000
"""Of the transcript: some five minutes of talk; the newest turns are kept."""

MAX_NEWEST_CHARS = 2_000
"""Of the newest turn alone, of which the end is kept: an agent that reads something out still has a context."""

RESUMED, PREVIOUS_ID, TRANSCRIPT = "bridge_resumed", "bridge_previous_conversation_id", "bridge_transcript"
"""Dynamic variables, e.g. for a first message that does not greet a second time."""

_NAMES = {"user": "Caller", "agent": "You"}


def transcript(turns: Sequence[Turn]) -> str:
    """The newest turns, a line each."""
    lines: list[str] = []
    room = MAX_CHARS
    for turn in reversed(turns):
        name, text = _NAMES[turn.role], " ".join(turn.text.split())
        if not text:
            continue
        if not lines and len(text) > MAX_NEWEST_CHARS:
            text = f"... {text[-MAX_NEWEST_CHARS:]}"
        line = f"{name}: {text}"
        room -= len(line) + 1
        if room < 0:
            break
        lines.append(line)
    return "\n".join(reversed(lines))


def resumed(data: InitiationData, turns: Sequence[Turn], conversation_id: str) -> InitiationData:
    """The first conversation's initiation data, with what the second one must know."""
    return InitiationData(
        conversation_config_override=data.conversation_config_override,
        custom_llm_extra_body=data.custom_llm_extra_body,
        dynamic_variables={
            **data.dynamic_variables,
            RESUMED: "true",
            PREVIOUS_ID: conversation_id,
            TRANSCRIPT: transcript(turns),
        },
        user_id=data.user_id,
        source_info=data.source_info,
    )


def reminder(turns: Sequence[Turn]) -> str:
    """The contextual update."""
    said = transcript(turns)
    so_far = f"What was said so far:\n{said}" if said else "Nothing has been said yet."
    return (
        "This call was interrupted by a technical problem for a moment and goes on now. Do not greet the caller again; "
        f"apologise briefly for the interruption and continue where the conversation stopped. {so_far}"
    )
