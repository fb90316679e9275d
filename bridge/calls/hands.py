"""What an agent does besides talking, and what a caller does besides: tools, keys, and who has answered. Pure.

One per call. It reads tool calls and sees to it that each is answered once; what follows for the call itself is
returned as an order, because only the call knows how.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bridge.calls import tools
from bridge.calls.journal import Journal
from bridge.calls.keypad import MAX_WAITING, Keypad, KeypadNews, KeySource, NewsKind
from bridge.calls.machine import MachineJudge
from bridge.calls.options import CallOptions
from bridge.calls.orders import HttpOrder, Order, Refused, TonesOrder, TransferOrder
from bridge.calls.pending_tools import Admission, PendingTools
from bridge.calls.stats import CallStats
from bridge.calls.tool_words import ToolFailure, tool_failed, transfer_failed
from bridge.convai.events import ToolCalled
from bridge.convai.protocol import Conversation

LATE_RESULT = "The tool {name}, which you called before the interruption, came to this: {words}"
"""For a conversation that takes the place of the one that asked."""

MAX_LATE = 16
"""Tool calls of a lost conversation whose results are still worth telling."""

OPERATOR = "the operator"
"""Stands in the place of a tool call's id for what the operator has ordered: no agent waits for an answer to it."""

HTTP_MARGIN_S = 1.0
"""What an HTTP tool may take beyond its own time-out: for the checks before the request."""


class Hands:
    """Tools of the agent's and keys of the caller's."""

    __slots__ = (
        "_conversation",
        "_journal",
        "_keypad",
        "_late",
        "_listens",
        "_occupied_by",
        "_options",
        "_pending",
        "_stats",
        "_toolbox",
        "_typed",
        "_untold",
        "judge",
    )

    def __init__(self, options: CallOptions, conversation: Conversation, journal: Journal, stats: CallStats) -> None:
        self._conversation = conversation
        self._journal = journal
        self._stats = stats
        self._pending = PendingTools()
        self._occupied_by: str | None = None  # the tool call that has the carrier busy with the line
        self._late: dict[str, str] = {}  # names of tools, by call id, whose conversation is gone
        self._typed: list[str] = []
        self._listens = False  # whether the agent can be told anything
        self._untold: deque[tuple[NewsKind, str]] = deque(maxlen=MAX_WAITING)  # until it listens; the oldest go first
        self.configure(options)

    def configure(self, options: CallOptions) -> None:
        """The settings of the call's route."""
        self._options = options
        self._toolbox = tools.Toolbox(options.tools)
        self._keypad = Keypad(options.keypad)
        self.judge = MachineJudge(options.machine)
        """Joins what is known of who has answered."""

    def take_conversation(self, conversation: Conversation) -> None:
        """Another conversation takes the place of one whose connection broke."""
        self._conversation = conversation
        self._listens = False

    def agent_listens(self) -> None:
        """The conversation has begun: tell it what has waited for that."""
        self._listens = True
        while self._untold:
            self._send_news(*self._untold.popleft())

    def forget_news(self) -> None:
        """What was not told so far is not for the agent."""
        self._untold.clear()

    # --- tools ---

    def read(self, called: ToolCalled, at_s: float, now: float, *, talking: bool) -> Order | None:
        """What a tool call comes to; it is open from now on. None = a repetition, or it is answered already."""
        admission = self._pending.open(called.call_id, called.name, now)
        if admission is Admission.DUPLICATE:
            return None
        self._stats.tool_calls += 1
        masked = tools.masked_keys(called.parameters) if self._options.keypad.redact else called.parameters
        self._journal.tool_called(called.name, called.call_id, masked, at_s)
        if admission is Admission.TOO_MANY:
            self._send(called.call_id, tool_failed(ToolFailure.TOO_MANY), at_s, is_error=True)
            return None
        if not talking:
            return Refused(tool_failed(ToolFailure.NOT_NOW))
        order = self._toolbox.read(called.name, called.parameters, self._options.abilities)
        if isinstance(order, TransferOrder | TonesOrder):
            if self._occupied_by is not None:
                return Refused(tool_failed(ToolFailure.IN_PROGRESS))
            self._occupied_by = called.call_id
        self._pending.extend(called.call_id, now, self._bound_s(order))
        return order

    def read_operators(self, parameters: Mapping[str, Any]) -> Order:
        """What the operator's wish to transfer comes to, by the rules for agents; the line is occupied from now on."""
        if self._occupied_by is not None:
            return Refused(tool_failed(ToolFailure.IN_PROGRESS))
        box = tools.Toolbox(replace(self._options.tools, names={}))  # also where agents may not transfer
        order = box.read(tools.TRANSFER, parameters, self._options.abilities)
        if isinstance(order, TransferOrder):
            self._occupied_by = OPERATOR
        return order

    def _bound_s(self, order: Order) -> float:
        """How long the answer to this order may take."""
        options = self._options
        match order:
            case TransferOrder():
                return options.transfer_timeout_s
            case TonesOrder():
                return options.tones_timeout_s
            case HttpOrder(tool) if tool in options.tools.http_tools:
                return max(options.tool_timeout_s, options.tools.http_tools[tool].timeout_s + HTTP_MARGIN_S)
            case _:
                return options.tool_timeout_s

    def answer(self, call_id: str, words: str, at_s: float, *, is_error: bool) -> int:
        """Answer a tool call, unless it was answered before; returns how many the agent now waits for no longer."""
        if call_id == self._occupied_by:
            self._occupied_by = None
        if self._pending.answer(call_id) is not None:
            self._send(call_id, words, at_s, is_error=is_error)
            return 1
        if call_id in self._late:
            self._inform(NewsKind.UPDATE, LATE_RESULT.format(name=self._late.pop(call_id)[:64], words=words))
            self._journal.tool_answered(call_id, words, at_s, is_error=is_error)
        return 0

    def lose(self) -> int:
        """The conversation is gone: nobody waits for results in it any more. Returns for how many."""
        lost = self._pending.abandon()
        self._late |= {tool.call_id: tool.name for tool in lost[: MAX_LATE - len(self._late)]}
        return len(lost)

    def conclude(self, failure: ToolFailure, at_s: float) -> None:
        """The conversation is about to end: whoever waits for a result is told that there will be none."""
        if self._conversation.is_over:
            self.lose()
        for tool in self._pending.abandon():
            self._send(tool.call_id, tool_failed(failure), at_s, is_error=True)

    def _send(self, call_id: str, words: str, at_s: float, *, is_error: bool) -> None:
        self._conversation.send_tool_result(call_id, words, is_error=is_error)
        self._journal.tool_answered(call_id, words, at_s, is_error=is_error)

    # --- keys ---

    def key_pressed(
        self,
        digit: str,
        duration_ms: int,
        at_s: float,
        now: float,
        source: KeySource = KeySource.EVENT,
    ) -> None:
        """The caller pressed a key: write it down, and tell whoever may know; once, however often it is reported."""
        keypad = self._keypad
        before = keypad.merged
        news = keypad.press(digit, source, now, duration_ms / 1000)
        if keypad.merged == before:
            self._write_down("" if self._options.keypad.redact else digit, duration_ms, at_s)
        self._tell(news)

    def key_unread(self, duration_ms: int, at_s: float) -> None:
        """The caller pressed a key before it is known what may become of keys: nobody learns which."""
        self._write_down("", duration_ms, at_s)

    def close(self) -> None:
        """The call is over: what was typed last is complete, for ``take_typed``."""
        self._tell(self._keypad.close())

    def _write_down(self, digit: str, duration_ms: int, at_s: float) -> None:
        self._stats.dtmf += 1
        self._journal.pressed(digit, duration_ms, at_s)

    def take_typed(self) -> list[str]:
        """What callers typed that only the operator's webhook may know."""
        if not self._typed:
            return self._typed
        typed, self._typed = self._typed, []
        return typed

    def _tell(self, news: tuple[KeypadNews, ...]) -> None:
        for item in news:
            if item.kind is NewsKind.WEBHOOK:
                self._typed.append(item.text)
            else:
                self._inform(item.kind, item.text)

    def _inform(self, kind: NewsKind, text: str) -> None:
        """Tell the agent, as soon as it listens: nothing may come before a conversation's first message."""
        if self._listens:
            self._send_news(kind, text)
        else:
            self._untold.append((kind, text))

    def _send_news(self, kind: NewsKind, text: str) -> None:
        if kind is NewsKind.MESSAGE:
            self._conversation.send_user_message(text)
        else:
            self._conversation.send_contextual_update(text)

    # --- time ---

    def next_timer(self) -> float:
        """When something is due."""
        return min(self._keypad.next_timer(), self._pending.next_timer(), self.judge.next_timer())

    def handle_timer(self, now: float, at_s: float) -> int:
        """Let time pass; returns how many tool calls were overdue. The judge has its own (``bridge.calls.call``)."""
        self._tell(self._keypad.handle_timer(now))
        overdue = self._pending.expire(now)
        for tool in overdue:
            if tool.call_id == self._occupied_by:
                self._occupied_by = None  # whoever was at it is not any more: transfers and tones have closer bounds
            is_transfer = self._toolbox.standard_name(tool.name) == tools.TRANSFER
            words = (transfer_failed if is_transfer else tool_failed)(ToolFailure.TIMEOUT)
            self._send(tool.call_id, words, at_s, is_error=True)
        return len(overdue)
