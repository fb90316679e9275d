"""The tool calls of one conversation that wait for their answer: each gets one, in time, whatever happens. Pure.

Theory of operation: ``open`` a call when the agent makes it; whoever has the result asks ``answer`` whether it may
still go out, and it may exactly once. What nobody answered in time comes out of ``expire``, to be answered in words;
a result that comes after that is late, and is dropped. A tool call that arrives again under its id (a message that was
repeated) is neither carried out nor answered again. When the agent's connection is lost, nobody waits any more:
``abandon`` empties everything, and the next conversation may use the same ids.

What it is not: the vendor's own ("system") tools, which run on its side, are only heard of.
"""

from __future__ import annotations

import enum
import math
from collections import OrderedDict

import msgspec

MAX_OPEN = 16
"""At once in one call. Models make two or three; one that makes more has gone mad, and each may cost a request."""
MAX_REMEMBERED = 256
"""Ids of answered calls by which a repeated message is known."""


class Admission(enum.Enum):
    """Whether a tool call is to be carried out."""

    NEW = "new"
    DUPLICATE = "duplicate"
    """Its id is known: do nothing, its answer is on its way or was sent."""
    TOO_MANY = "too_many"
    """Do not carry it out, but answer it (``ToolFailure.TOO_MANY``): nothing was opened for it."""


class PendingTool(msgspec.Struct, frozen=True):
    """A tool call without an answer so far."""

    call_id: str
    """The vendor's ``tool_call_id``."""
    name: str
    opened_s: float
    deadline_s: float
    """``inf`` = whoever carries it out has a bound of its own."""


class PendingTools:
    """The open tool calls of one conversation. Times are seconds on a monotonic clock."""

    __slots__ = ("_answered", "_max_open", "_open")

    def __init__(self, max_open: int = MAX_OPEN) -> None:
        self._max_open = max_open
        self._open: dict[str, PendingTool] = {}
        self._answered: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        """How many wait for their answer."""
        return len(self._open)

    def open(self, call_id: str, name: str, now: float, timeout_s: float = math.inf) -> Admission:
        """The agent has called a tool; ``timeout_s`` from now it is overdue."""
        if call_id in self._open or call_id in self._answered:
            return Admission.DUPLICATE
        if len(self._open) >= self._max_open:
            self._remember(call_id)  # the refusal is its answer
            return Admission.TOO_MANY
        self._open[call_id] = PendingTool(call_id, name, now, now + timeout_s)
        return Admission.NEW

    def extend(self, call_id: str, now: float, timeout_s: float) -> None:
        """Give an open call another deadline: it turned out to be one that takes longer."""
        found = self._open.get(call_id)
        if found is not None:
            self._open[call_id] = PendingTool(call_id, found.name, found.opened_s, now + timeout_s)

    def answer(self, call_id: str) -> PendingTool | None:
        """There is a result: the call that it belongs to, once. None = answered already, late, or never opened."""
        found = self._open.pop(call_id, None)
        if found is not None:
            self._remember(call_id)
        return found

    def expire(self, now: float) -> list[PendingTool]:
        """Those that are overdue, oldest first; they count as answered, so answer them now."""
        overdue = [tool for tool in self._open.values() if now >= tool.deadline_s]
        for tool in overdue:
            self.answer(tool.call_id)
        return overdue

    def abandon(self) -> list[PendingTool]:
        """The agent's connection is lost, or the call is over: those that nobody can answer any more."""
        left = list(self._open.values())
        self._open.clear()
        self._answered.clear()
        return left

    def next_timer(self) -> float:
        """When ``expire`` has something to do (``inf`` = never)."""
        return min((tool.deadline_s for tool in self._open.values()), default=math.inf)

    def _remember(self, call_id: str) -> None:
        self._answered[call_id] = None
        if len(self._answered) > MAX_REMEMBERED:
            self._answered.popitem(last=False)
