"""Answering machines and fax: one decision from what the carrier and the agent say about who has answered. Pure.

Theory of operation: the carrier's machine detection and the agent's ``voicemail_detection`` tool speak independently,
in any order, and may contradict each other. All verdicts are kept for the record. The first that says machine or fax
decides, once per call; what comes later changes nothing, because a message is being left or the call is ending by
then. A carrier's "human" decides nothing for good: detection takes many a mailbox for a person, and an agent that
has listened to it may still say so.

A message must begin after the beep. Where the carrier tells when a greeting is over (``MachineOptions.awaits_end``),
a decision to leave one waits for that, for ``END_WAIT_S`` at most, or until the carrier gives up.

What it is not: the detection, the message, and the end of the call.

Sources: Twilio docs, "Answering machine detection" (``AnsweredBy``); Vonage Voice API, webhook reference (``human``,
``machine``, ``sub_state``), both read 2026-11-21; ElevenLabs docs, "Voicemail detection" (system tool).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_MESSAGE_CHARS = 1_000
"""Of a message for a machine: a minute of speech, which most mailboxes take."""
END_WAIT_S = 35.0
"""How long the end of a greeting is waited for: Twilio's detection gives up after 30 s."""
MAX_VERDICTS = 16
"""That are kept; a carrier sends one or two."""
MAX_WORD_CHARS = 100
"""Of one verdict."""


class MachineAction(enum.Enum):
    """What happens when a machine has answered."""

    CONTINUE = "continue"
    """The agent goes on talking."""
    HANG_UP = "hang_up"
    LEAVE_MESSAGE = "leave_message"
    """The configured message is left, then the call ends."""


class MachineKind(enum.Enum):
    """Who has answered."""

    HUMAN = "human"
    MACHINE = "machine"
    FAX = "fax"
    UNKNOWN = "unknown"
    """The carrier gave up, or says what nobody here knows."""


class MachineSource(enum.Enum):
    """Who says so."""

    CARRIER = "carrier"
    AGENT = "agent"


_KINDS = {
    "human": MachineKind.HUMAN,
    "machine": MachineKind.MACHINE,
    "machine_start": MachineKind.MACHINE,
    "machine_end_beep": MachineKind.MACHINE,
    "machine_end_silence": MachineKind.MACHINE,
    "machine_end_other": MachineKind.MACHINE,
    "beep_start": MachineKind.MACHINE,
    "fax": MachineKind.FAX,
}
"""Twilio's ``AnsweredBy``; Vonage's ``status``, or its ``sub_state`` where there is one."""
_GREETING_OVER = frozenset({"machine_end_beep", "machine_end_silence", "machine_end_other", "beep_start"})


_GO_ON = MachineAction.CONTINUE


@dataclass(frozen=True, slots=True)
class MachineOptions:
    """What is done about machines in one call."""

    action: MachineAction = MachineAction.CONTINUE
    message: str = ""
    """What is said to a machine; empty = the configured audio, if any."""
    awaits_end: bool = False
    """Whether the carrier was asked to say when a greeting is over."""
    actions: Mapping[str, MachineAction] = field(default_factory=dict)
    """By the carrier's word, what is done then; words that are not there go by ``action``."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What somebody said about who has answered."""

    source: MachineSource
    kind: MachineKind
    word: str
    """The carrier's own word, or the agent's reason."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done."""

    action: MachineAction
    kind: MachineKind
    sources: tuple[MachineSource, ...]
    """Who said that it is of this kind, in order."""
    ready: bool = False
    """Whether the greeting is known to be over, so that a message is recorded whole."""


class MachineJudge:
    """Joins the verdicts about one call."""

    __slots__ = ("_action", "_deadline_s", "_decided", "_options", "_said", "_waits_for", "verdicts")

    def __init__(self, options: MachineOptions) -> None:
        self._options = options
        self._action = options.action  # what will be done, going by the latest word
        self._decided = False
        self._waits_for: MachineKind | None = None  # decided, but for the greeting's end
        self._deadline_s = math.inf
        self._said: dict[tuple[MachineSource, MachineKind], None] = {}  # in order; at most eight
        self.verdicts: list[Verdict] = []
        """What was said, for the record."""

    def carrier(self, word: str, now: float) -> Decision | None:
        """The carrier says this (``AnsweredBy``, ``status``). None = nothing is to be done because of it."""
        kind = _KINDS.get(word, MachineKind.UNKNOWN)
        is_first = all(source is not MachineSource.CARRIER for source, _ in self._said)
        self._keep(Verdict(MachineSource.CARRIER, kind, word[:MAX_WORD_CHARS]))
        if self._decided:
            return None
        self._action = self._options.actions.get(word, self._options.action)
        if self._waits_for is not None:
            # anything but another sign of a machine means that no end of a greeting will be told
            still_waits = kind is MachineKind.MACHINE and word not in _GREETING_OVER
            return None if still_waits else self._decide(MachineKind.MACHINE, ready=word in _GREETING_OVER)
        if kind is MachineKind.HUMAN and self._options.actions.get(word, _GO_ON) is not _GO_ON:
            return self._decide(kind, ready=True)  # the operator wants machines only
        if kind is MachineKind.HUMAN and is_first:
            return Decision(MachineAction.CONTINUE, kind, (MachineSource.CARRIER,))
        if kind in (MachineKind.MACHINE, MachineKind.FAX):
            return self._decide_or_wait(kind, now, ready=word in _GREETING_OVER)
        if kind is MachineKind.UNKNOWN and self._options.actions.get(word, _GO_ON) is not _GO_ON:
            return self._decide(kind, ready=False)
        return None

    def agent(self, reason: str, now: float) -> Decision | None:
        """The agent says that it talks to a machine. None = that is known, or the greeting's end is waited for."""
        self._keep(Verdict(MachineSource.AGENT, MachineKind.MACHINE, reason[:MAX_WORD_CHARS]))
        if self._decided or self._waits_for is not None:
            return None
        return self._decide_or_wait(MachineKind.MACHINE, now, ready=False)

    def next_timer(self) -> float:
        """When the end of a greeting is waited for no longer."""
        return self._deadline_s

    def handle_timer(self, now: float) -> Decision | None:
        """Let time pass."""
        if self._waits_for is None or now < self._deadline_s:
            return None
        return self._decide(self._waits_for, ready=False)

    # --- private ---

    def _decide_or_wait(self, kind: MachineKind, now: float, *, ready: bool) -> Decision | None:
        leaves_message = kind is MachineKind.MACHINE and self._action is MachineAction.LEAVE_MESSAGE
        if leaves_message and not ready and self._end_may_come():
            self._waits_for, self._deadline_s = kind, now + END_WAIT_S
            return None
        return self._decide(kind, ready=ready)

    def _end_may_come(self) -> bool:
        """Whether the carrier will say when the greeting is over: a carrier that said human or gave up will not."""
        settled = (MachineKind.HUMAN, MachineKind.UNKNOWN)
        return self._options.awaits_end and not any((MachineSource.CARRIER, kind) in self._said for kind in settled)

    def _decide(self, kind: MachineKind, *, ready: bool) -> Decision:
        self._decided, self._waits_for, self._deadline_s = True, None, math.inf
        action = self._action
        if kind is MachineKind.FAX and action is MachineAction.LEAVE_MESSAGE:
            action = MachineAction.HANG_UP  # nobody hears it
        return Decision(action, kind, tuple(source for source, said in self._said if said is kind), ready)

    def _keep(self, verdict: Verdict) -> None:
        self._said[verdict.source, verdict.kind] = None
        if len(self.verdicts) < MAX_VERDICTS:
            self.verdicts.append(verdict)
