"""What an agent does besides talking, and what a caller does besides: tools and keys. Pure; one per call.

It answers every tool call once and writes both down; what follows for the call itself (a transfer ends it) is
returned, because only the call knows how.
"""

from __future__ import annotations

from bridge.calls import tools
from bridge.calls.journal import Journal
from bridge.calls.keypad import Keypad, KeypadMode
from bridge.calls.options import CallOptions
from bridge.calls.stats import CallStats
from bridge.convai.events import ToolCalled
from bridge.convai.protocol import Conversation
from bridge.leg import CarrierSpec


class Hands:
    """Tools of the agent's and keys of the caller's."""

    __slots__ = ("_conversation", "_journal", "_keypad", "_options", "_spec", "_stats")

    def __init__(
        self, spec: CarrierSpec, options: CallOptions, conversation: Conversation, journal: Journal, stats: CallStats
    ) -> None:
        self._spec = spec
        self._options = options
        self._conversation = conversation
        self._journal = journal
        self._stats = stats
        self._keypad = Keypad(options.keypad, options.keypad_pause_s)

    # --- tools ---

    def carry_out(self, called: ToolCalled, at_s: float, *, talking: bool) -> tools.Transfer | None:
        """Answer a tool call; returns the transfer that it comes to, None = it was refused in words."""
        self._stats.tool_calls += 1
        self._journal.tool_called(called.name, called.call_id, called.parameters, at_s)
        planned = self._plan(called, talking=talking)
        refused = isinstance(planned, str)
        answer = planned if isinstance(planned, str) else tools.TRANSFERRING
        self._conversation.send_tool_result(called.call_id, answer, is_error=refused)
        self._journal.tool_answered(called.call_id, answer, at_s, is_error=refused)
        return None if isinstance(planned, str) else planned

    def _plan(self, called: ToolCalled, *, talking: bool) -> tools.Transfer | str:
        if called.name != tools.TRANSFER or not self._spec.takes_results or not talking:
            return tools.UNAVAILABLE.format(name=called.name)
        return tools.plan_transfer(called.parameters, self._options.transfer_allow)

    # --- keys ---

    def key_pressed(self, digit: str, duration_ms: int, at_s: float, now: float, *, talking: bool) -> None:
        """The caller pressed a key: write it down, and tell the agent if it listens and may know."""
        self._stats.dtmf += 1
        redact = self._options.redact_digits
        self._journal.pressed("" if redact else digit, duration_ms, at_s)
        if talking and not redact:
            self._tell(self._keypad.press(digit, now))

    def next_timer(self) -> float:
        """When what the caller types is complete by a pause."""
        return self._keypad.next_timer()

    def handle_timer(self, now: float) -> None:
        """Let time pass."""
        self._tell(self._keypad.handle_timer(now))

    def _tell(self, text: str) -> None:
        """Tell the agent of keys; empty = there is nothing to tell."""
        if text and self._keypad.mode is KeypadMode.EACH:
            self._conversation.send_contextual_update(text)
        elif text:
            self._conversation.send_user_message(text)
