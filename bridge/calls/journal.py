"""What happened in a call, for its record: turns, tools, keys, steps. Pure; written beside the media path.

Every list has a bound, so that a call which never ends or an agent gone mad cannot fill the memory; what does not
fit is counted. Times are seconds since the call was offered.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

MAX_TURNS = 2_000
"""An hour of talk has some 700 turns."""
MAX_TOOLS = 500
MAX_DIGITS = 1_000
MAX_STEPS = 2_000
MAX_TEXT_CHARS = 20_000
"""Of one turn or one tool result; the vendor's own answers are shorter."""


class Turn(msgspec.Struct, kw_only=True):
    """One turn of the conversation."""

    role: Literal["user", "agent"]
    text: str
    """What was said; for an agent that was interrupted, what it got to say."""
    at_s: float
    original: str = ""
    """What the agent was about to say, where a correction cut it; else empty."""
    interrupted: bool = False


class ToolUse(msgspec.Struct, kw_only=True):
    """One client tool that the agent called."""

    name: str
    call_id: str
    at_s: float
    parameters: dict[str, Any] = {}
    result: str = ""
    is_error: bool = False
    took_ms: float | None = None
    """None while it runs."""


class KeyPress(msgspec.Struct, kw_only=True):
    """One key that the caller pressed."""

    at_s: float
    digit: str = ""
    """Empty when digits are redacted."""
    duration_ms: int = 0


class Step(msgspec.Struct, kw_only=True):
    """One step of the call: a new state, an interruption, a transfer, a pause."""

    at_s: float
    event: str
    detail: str = ""


class Journal(msgspec.Struct, kw_only=True):
    """The lists of one call."""

    turns: list[Turn] = []
    tools: list[ToolUse] = []
    digits: list[KeyPress] = []
    steps: list[Step] = []
    lost: int = 0
    """Entries that did not fit."""

    def said(self, role: Literal["user", "agent"], text: str, at_s: float) -> None:
        """A turn was spoken."""
        if len(self.turns) < MAX_TURNS:
            self.turns.append(Turn(role=role, text=text[:MAX_TEXT_CHARS], at_s=at_s))
        else:
            self.lost += 1

    def corrected(self, text: str) -> None:
        """The agent's last turn was cut to this."""
        for turn in reversed(self.turns):
            if turn.role == "agent":
                turn.original = turn.original or turn.text
                turn.text = text[:MAX_TEXT_CHARS]
                turn.interrupted = True
                return

    def tool_called(self, name: str, call_id: str, parameters: dict[str, Any], at_s: float) -> None:
        """The agent called a client tool."""
        if len(self.tools) < MAX_TOOLS:
            self.tools.append(ToolUse(name=name, call_id=call_id, at_s=at_s, parameters=parameters))
        else:
            self.lost += 1

    def tool_answered(self, call_id: str, result: str, at_s: float, *, is_error: bool) -> None:
        """The tool call was answered; the first answer counts."""
        for tool in reversed(self.tools):
            if tool.call_id == call_id and tool.took_ms is None:
                tool.result = result[:MAX_TEXT_CHARS]
                tool.is_error = is_error
                tool.took_ms = (at_s - tool.at_s) * 1000
                return

    def pressed(self, digit: str, duration_ms: int, at_s: float) -> None:
        """The caller pressed a key; ``digit`` is empty when digits are redacted."""
        if len(self.digits) < MAX_DIGITS:
            self.digits.append(KeyPress(at_s=at_s, digit=digit, duration_ms=duration_ms))
        else:
            self.lost += 1

    def step(self, event: str, detail: str, at_s: float) -> None:
        """Something happened that is neither of these."""
        if len(self.steps) < MAX_STEPS:
            self.steps.append(Step(at_s=at_s, event=event, detail=detail))
        else:
            self.lost += 1
