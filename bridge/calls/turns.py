"""How long callers waited for their answers, turn by turn, and whose milliseconds those were. Pure; one per call.

Theory of operation: a turn begins when the caller does (energy: ``bridge.media.vad``), ends with the last loud frame,
is confirmed by the agent's transcript, and answered by the first agent audio after that. What comes later may correct
what came before: the end of speech is known only after a hangover, when a fast agent has answered already. So a turn
stays open until the next one begins, and is counted then. Speech that neither a transcript nor an answer follows was
a cough or a noise, and leaves no turn. An agent that sends no transcripts (they can be switched off) is taken by its
audio alone.

The milliseconds of a response, from the caller's last sound to the first frame handed to the carrier, belong to five
owners. ``carrier``: how late the last frame came; ``bridge_in``: how long it was held here; ``agent``: until the first
audio came, the network to the agent included, tools of ours not; ``tool``: while one of those ran; ``bridge_out``:
from that audio to the carrier.

Times are seconds since the call was offered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

MAX_TURNS = 500
"""Turns kept for the record; an hour of talk has some 350. Later ones still count in the summary."""

SAME_CLOCK_S_PER_S = 1e-4
"""Crystals of telephony are good for 50 parts in a million each: so much lateness a second is drift, and forgiven."""

OWNERS = ("carrier", "bridge_in", "agent", "tool", "bridge_out")
"""Owners of a response's milliseconds, in the order of time."""


class TurnTiming(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of the caller and its answer."""

    at_s: float
    """When the caller fell silent, seconds since the call was offered."""
    barged_in: bool = False
    """Whether the caller spoke over the agent."""
    transcript_ms: float | None = None
    """From the end of speech until the agent's side knew what was said; null when it did not say."""
    response_ms: float | None = None
    """From the end of speech to the first audio handed to the carrier; null when no answer came."""
    silence_ms: float = 0.0
    """How long nobody said anything: until the answer, the caller's next words, or the end of the call."""
    owners: dict[str, float] = {}
    """Milliseconds of the response by owner: `carrier`, `bridge_in`, `agent`, `tool`, `bridge_out`."""


class TurnSummary(msgspec.Struct, frozen=True, kw_only=True):
    """All turns of a call."""

    turns: int
    """Turns of the caller."""
    answered: int
    """Those that the agent answered."""
    interruptions: int
    """How often the caller talked over the agent."""
    greeting_ms: float | None = None
    """From the offer of the call to the agent's first audio; null when it said nothing."""
    response_mean_ms: float | None = None
    """Mean response, milliseconds; null without one."""
    response_p50_ms: float | None = None
    """Half of the responses took no longer."""
    response_p95_ms: float | None = None
    """19 of 20 took no longer."""
    response_max_ms: float | None = None
    """The slowest response."""
    longest_silence_ms: float = 0.0
    """The longest time that the agent let pass after a caller's turn."""
    owners_mean_ms: dict[str, float] = {}
    """Mean milliseconds of a response by owner."""


class LineClock:
    """How late a carrier's frames come, by how much audio has come: the soonest one ever is the measure.

    It cannot tell a constant delay, only what comes on top of it; that is what a caller waits for.
    """

    __slots__ = ("_base_s", "_seen_s")

    def __init__(self) -> None:
        self._base_s = math.inf
        self._seen_s = 0.0

    def late_s(self, audio_s: float, now: float) -> float:
        """With this frame, which has just come, the carrier has sent so much audio: how late is it?"""
        if self._base_s != math.inf:
            self._base_s += (now - self._seen_s) * SAME_CLOCK_S_PER_S
        self._seen_s = now
        self._base_s = min(self._base_s, now - audio_s)
        return now - audio_s - self._base_s


@dataclass(slots=True)
class _Open:
    """The turn that is not over yet."""

    ended_s: float = math.inf
    late_s: float = 0.0
    held_s: float = 0.0
    said_s: float = math.inf
    audio_s: float = math.inf
    sent_s: float = math.inf
    tool_s: float = 0.0
    barged_in: bool = False
    waited_s: float = 0.0
    """Silence before the caller went on with the same turn."""


class TurnMeter:
    """Takes what happens, gives turns. ``wants_audio`` says when ``agent_audio`` and ``sent`` have anything to tell."""

    __slots__ = (
        "_open",
        "_over",
        "_responses_ms",
        "_speaking",
        "_talked_over",
        "_tool_since_s",
        "_tools",
        "_totals_ms",
        "_transcripts",
        "answered",
        "greeting_s",
        "interruptions",
        "longest_silence_s",
        "turn_count",
        "turns",
        "wants_audio",
    )

    def __init__(self) -> None:
        self.turns: list[TurnTiming] = []
        """Turns that are over, the first ``MAX_TURNS`` of them."""
        self.turn_count = self.answered = self.interruptions = 0
        self.greeting_s = math.inf
        """When the agent's first audio was handed to the carrier; inf = it has said nothing."""
        self.longest_silence_s = 0.0
        self.wants_audio = True
        """False while neither ``agent_audio`` nor ``sent`` would change anything: the media path need not call."""
        self._open: _Open | None = None
        self._speaking = False
        self._talked_over = False  # agent audio came while the caller spoke
        self._transcripts = False  # this agent sends transcripts
        self._tools = 0
        self._tool_since_s = math.inf
        self._responses_ms: list[float] = []
        self._totals_ms = dict.fromkeys(OWNERS, 0.0)
        self._over = False

    # --- the caller ---

    def caller_speech(self, started: bool, at_s: float, late_s: float = 0.0, held_s: float = 0.0) -> None:
        """The caller began or stopped talking, at ``at_s``. At the end: how late that frame had come, and how long it
        was held here before the agent got it."""
        self._speaking = started
        if started:
            self._talked_over = False
            turn = self._open
            if turn is not None and turn.audio_s == math.inf:
                if turn.ended_s < at_s:
                    turn.waited_s = max(turn.waited_s, at_s - turn.ended_s)
                return
            self._begin(at_s)
            return
        turn = self._open or self._begin(at_s)
        if at_s <= turn.audio_s:
            turn.ended_s, turn.late_s, turn.held_s = at_s, late_s, held_s

    def caller_said(self, at_s: float) -> None:
        """The agent's side sent the transcript of what the caller said."""
        self._transcripts = True
        turn = self._open
        if turn is None or (turn.said_s != math.inf and turn.audio_s != math.inf):
            turn = self._begin(at_s)
        turn.said_s = at_s
        if not self._speaking:
            turn.ended_s = min(turn.ended_s, at_s)

    def interrupted(self, at_s: float) -> None:
        """The agent was interrupted: what the caller is saying now is a new turn."""
        self.interruptions += 1
        turn = self._open
        if turn is None or turn.sent_s != math.inf:
            turn = self._begin(at_s)
        turn.barged_in = True

    # --- the agent ---

    def agent_audio(self, at_s: float) -> None:
        """Audio came from the agent; only the first of an answer counts."""
        turn = self._open
        if self._speaking:
            self._talked_over = True
        if turn is None or turn.audio_s != math.inf:
            return
        if turn.said_s != math.inf or (not self._transcripts and turn.ended_s != math.inf and not self._talked_over):
            self._count_tool(turn, at_s)
            turn.audio_s = at_s

    def sent(self, at_s: float) -> None:
        """Agent audio was handed to the carrier; only the first of an answer counts."""
        if self.greeting_s == math.inf:
            self.greeting_s = at_s
        turn = self._open
        if turn is None:
            self.wants_audio = False
        elif turn.audio_s != math.inf and turn.sent_s == math.inf:
            turn.sent_s = at_s
            self.wants_audio = False

    def tool_open(self, at_s: float) -> None:
        """A tool of ours begins to run; several may run at once."""
        self._tools += 1
        if self._tools == 1:
            self._tool_since_s = at_s

    def tool_closed(self, at_s: float) -> None:
        """A tool of ours has been answered."""
        if self._tools == 1 and self._open is not None:
            self._count_tool(self._open, at_s)
        self._tools = max(0, self._tools - 1)

    # --- what came of it ---

    def end(self, at_s: float) -> None:
        """The call is over; harmless when said again."""
        if not self._over:
            self._over = True
            self._close(at_s)
            self.wants_audio = False

    def summary(self) -> TurnSummary:
        """All turns that are over."""
        ranked = sorted(self._responses_ms)
        mean = sum(ranked) / len(ranked) if ranked else None
        return TurnSummary(
            turns=self.turn_count,
            answered=self.answered,
            interruptions=self.interruptions,
            greeting_ms=None if self.greeting_s == math.inf else round(self.greeting_s * 1000, 1),
            response_mean_ms=None if mean is None else round(mean, 1),
            response_p50_ms=_ranked(ranked, 0.5),
            response_p95_ms=_ranked(ranked, 0.95),
            response_max_ms=_ranked(ranked, 1.0),
            longest_silence_ms=round(self.longest_silence_s * 1000, 1),
            owners_mean_ms={owner: round(total / len(ranked), 1) for owner, total in self._totals_ms.items()}
            if ranked
            else {},
        )

    def _count_tool(self, turn: _Open, at_s: float) -> None:
        """Tools ran until now; what of it lies between the end of speech and the answer was waited for."""
        if self._tools and turn.audio_s == math.inf:
            since_s = self._tool_since_s if turn.ended_s == math.inf else max(self._tool_since_s, turn.ended_s)
            turn.tool_s += max(0.0, at_s - since_s)

    def _begin(self, at_s: float) -> _Open:
        self._close(at_s)
        self._open = turn = _Open()
        self.wants_audio = True
        return turn

    def _close(self, at_s: float) -> None:
        turn, self._open = self._open, None
        if turn is None:
            return
        answered = turn.sent_s != math.inf
        if turn.said_s == math.inf and not answered:
            return  # a cough, or a word that the agent let pass
        ended_s = min(turn.ended_s, turn.said_s)
        until_s = turn.sent_s if answered else at_s
        silence_s = max(turn.waited_s, until_s - ended_s, 0.0)
        self.turn_count += 1
        self.longest_silence_s = max(self.longest_silence_s, silence_s)
        owners = _owners_ms(turn, ended_s) if answered else {}
        response_ms = sum(owners.values()) if answered else None
        if response_ms is not None:
            self.answered += 1
            self._responses_ms.append(response_ms)
            for owner, spent_ms in owners.items():
                self._totals_ms[owner] += spent_ms
        if len(self.turns) < MAX_TURNS:
            said = turn.said_s != math.inf
            self.turns.append(
                TurnTiming(
                    at_s=round(ended_s, 3),
                    barged_in=turn.barged_in,
                    transcript_ms=round(max(0.0, turn.said_s - ended_s) * 1000, 1) if said else None,
                    response_ms=None if response_ms is None else round(response_ms, 1),
                    silence_ms=round(silence_s * 1000, 1),
                    owners={owner: round(spent_ms, 1) for owner, spent_ms in owners.items()},
                )
            )


def _owners_ms(turn: _Open, ended_s: float) -> dict[str, float]:
    """Milliseconds of an answered turn by owner; together they are the response."""
    waited_s = max(0.0, turn.audio_s - ended_s)
    held_s = min(turn.held_s, waited_s)
    tool_s = min(turn.tool_s, waited_s - held_s)
    spent_s = (turn.late_s, held_s, waited_s - held_s - tool_s, tool_s, max(0.0, turn.sent_s - turn.audio_s))
    return {owner: seconds * 1000 for owner, seconds in zip(OWNERS, spent_s, strict=True)}


def _ranked(ranked: list[float], share: float) -> float | None:
    """The value that this share of the sorted values does not exceed (nearest rank)."""
    return round(ranked[max(0, math.ceil(share * len(ranked)) - 1)], 1) if ranked else None
