"""The life of a call: its parts, its state, and all the ways in which it ends. ``bridge.calls.call`` is the talk.

Sans-I/O. Ends come from three sides, in any order and more than once; the first counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from bridge import events, outcome
from bridge.calls.downlink import Downlink
from bridge.calls.effects import DigitsTyped, Effect, FetchResults, Finished, Heard, Note, Speak, Words
from bridge.calls.errands import Errands
from bridge.calls.farewell import MESSAGE_WAIT_S, SPEECH_WAIT_S, Farewell
from bridge.calls.hands import Hands
from bridge.calls.journal import Journal
from bridge.calls.machine import Decision
from bridge.calls.options import CallOptions
from bridge.calls.state import Input, State, advance
from bridge.calls.stats import CallStats
from bridge.calls.tool_words import ToolFailure
from bridge.calls.turns import TurnMeter
from bridge.calls.uplink import Uplink
from bridge.convai.protocol import Conversation
from bridge.errors import LocalError
from bridge.events import CallInfo
from bridge.leg import CarrierSpec, Leg
from bridge.media.format import MediaFormat
from bridge.outcome import EndReason, Result


class CallLife:
    """Parts, state and ends of one call. Methods take ``now`` in seconds on a monotonic clock."""

    __slots__ = (
        "_carrier_writable",
        "_effects",
        "_errands",
        "_farewell",
        "_hands",
        "_machine",
        "_media",
        "_offered_s",
        "_options",
        "_others_s",
        "_patience_s",
        "_past",
        "_reconnect_deadline_s",
        "_reconnects",
        "_rings",
        "_spec",
        "_uplink",
        "agent_formats",
        "apologised",
        "conversation",
        "conversation_ids",
        "ended_as",
        "ended_by_us",
        "downlink",
        "flushed",
        "has_results",
        "history",
        "info",
        "journal",
        "leg",
        "on_said",
        "outputs",
        "state",
        "stats",
        "turns",
    )

    def __init__(self, leg: Leg, spec: CarrierSpec, options: CallOptions, conversation: Conversation) -> None:
        self.leg = leg
        """The carrier's connection; another one after an excursion."""
        self.conversation = conversation
        """The agent's connection; another one after a reconnect."""
        self.state = State.WAITING
        self.history: list[tuple[float, State]] = []
        """When the call came into which state."""
        self.stats = CallStats()
        self.turns = TurnMeter()
        """Who took how long to answer; times count from the offer."""
        self.journal = Journal()
        """What happened, for the record; times count from the offer."""
        self.info: CallInfo | None = None
        """What the carrier said of the call; None until it was offered."""
        self.conversation_ids: list[str] = []
        """The agent side's ids of the conversations, in order."""
        self.agent_formats: tuple[MediaFormat, MediaFormat] | None = None
        """What the agent hears and speaks, once it has said so."""
        self.outputs: dict[str, str] = {}
        """The conversation's results, as far as they are known."""
        self.has_results = False
        """Whether they were found."""
        self.flushed = False
        """Set when a ``Flush`` was sent; the driver resets it, to time the reaction."""
        self.ended_as: EndReason | None = None
        """How the call has ended."""
        self.ended_by_us = False
        """Whether the carrier's side learns of the end from us."""
        self.apologised = False
        """Whether the caller was told that the agent has failed."""
        self.on_said: Callable[[str, str], None] | None = None
        """Told of every turn as it is said: ``user`` or ``agent``, and the words. Must not raise."""
        self.downlink: Downlink | None = None
        """The way to the caller, once the leg is accepted."""
        self._spec = spec
        self._rings = False  # the caller hears it ring, and nothing of ours
        self._options = options
        self._uplink = Uplink(leg, conversation, self.stats)
        self._hands = Hands(options, conversation, self.journal, self.stats)
        self._begin()

    def _begin(self) -> None:
        """Nothing has happened so far."""
        self._offered_s = 0.0
        self._media: MediaFormat | None = None  # the leg's format, once offered
        self._carrier_writable = True
        self._farewell = Farewell()
        self._errands = Errands()
        self._machine: Decision | None = None  # what to do about a machine, once there is a way to do it
        self._past: list[Conversation] = []  # those whose connection broke
        self._others_s = -math.inf  # when anything but audio is due, as of the latest look at all timers
        self._patience_s = math.inf  # when a caller who waits for the agent is to hear a tone
        self._reconnects = 0
        self._reconnect_deadline_s = math.inf
        self._effects: list[Effect] = []

    @property
    def conversation_id(self) -> str:
        """The latest conversation; empty before there was one."""
        return self.conversation_ids[-1] if self.conversation_ids else ""

    @property
    def offered_media(self) -> MediaFormat:
        """The format that the carrier has offered; raises ``LocalError`` before it did."""
        if self._media is None:
            raise LocalError("the carrier has offered nothing so far")
        return self._media

    @property
    def is_waited_for(self) -> bool:
        """Whether the carrier's stream has gone or will go, and another one of the same call is to come."""
        return self._errands.may_leave and self.state is not State.ENDED

    @property
    def is_over(self) -> bool:
        """Whether the call has ended."""
        return self.state is State.ENDED

    @property
    def is_away(self) -> bool:
        """Whether the carrier's stream has ended and another one of the same call is to come."""
        return self._errands.is_away

    def current_stats(self) -> CallStats:
        """The counters as they stand now; ``stats`` itself is complete only at the end."""
        stats, conversations = self.stats, [*self._past, self.conversation]
        self._count_relayed()
        stats.stale_audio_bytes = sum(each.stale_audio_bytes for each in conversations)
        stats.unknown_messages = sum(sum(each.unknown_types.values()) for each in conversations)
        stats.malformed_messages = sum(each.malformed for each in conversations)
        stats.upload_dropped_bytes = sum(each.dropped_audio_bytes for each in conversations)
        if self.downlink is not None:
            self.downlink.count()
        return stats

    def drain(self) -> list[Effect]:
        """Take what the driver has to do besides writing, in order."""
        effects, self._effects = self._effects, []
        return effects

    # --- the caller has yet to hear something ---

    def _accept(self, now: float) -> Downlink:
        """Accept the leg; there is a way to the caller from now on."""
        self.leg.send(events.Accept(self.offered_media), now)
        self.downlink = Downlink(self.leg, self._spec, self.offered_media, self._options.playout_queue_ms, self.stats)
        self.downlink.tap = self._uplink.tap
        self.downlink.writable = self._carrier_writable
        return self.downlink

    def ask_heard(self, now: float) -> int:
        """Have ``Heard`` with the returned number come once the caller has heard all that was said until now."""
        ticket = self._errands.issue()
        downlink = self.downlink
        if downlink is None or self.state is State.ENDED or not downlink.playout.unheard_s(now):
            self._effects.append(Heard(ticket))
        else:
            unheard_s = downlink.playout.unheard_s(now)
            self._errands.await_mark(ticket, downlink.playout.finish(), now, unheard_s)
            downlink.release(now)
        return ticket

    def give_speech(self, payload: bytes | None, now: float) -> None:
        """What ``Speak`` came to, in the leg's format; None = there is no such speech."""
        if self.downlink is None or self.state is State.ENDED:
            return
        if payload:
            self.downlink.insert(payload, now)  # behind what plays; hold audio goes on behind it
        if self.state is not State.DRAINING or self._farewell.played:
            return
        if self._farewell.awaits_speech and not payload:
            self._note("no_speech", "nothing to say it with", now)
        if payload and self._farewell.end[0].result is not Result.SUCCESS:
            self.apologised = True
        if payload or self._farewell.awaits_speech:
            self._await_played(now)  # also where it comes late, but not too late to be heard

    def give_results(self, outputs: dict[str, str], now: float) -> None:
        """What ``FetchResults`` found; also after the end, for the record."""
        self.outputs = {**self.outputs, **outputs}
        self.has_results = True
        self._results_over(now)

    # --- ends ---

    def fail(self, reason: EndReason, detail: str, now: float) -> None:
        """End the call from our side, whatever it is doing. Where the agent is at fault, the caller is told so."""
        if self.state in (State.CONNECTING, State.RECONNECTING) and reason.result is Result.UPSTREAM_ERROR:
            self._give_up(reason, detail, now)
        else:
            self._end(Input.FAILED, reason, detail, now)

    def line_over(self, reason: EndReason, detail: str, now: float) -> None:
        """The carrier says, beside its stream, that the call is over."""
        self._end(Input.LEG_ENDED, reason, detail, now)

    def _wind_up(self, step: Input, reason: EndReason, detail: str, now: float, speech: Speak | None = None) -> None:
        """The agent says nothing more: the caller hears the rest, and the results are fetched meanwhile."""
        assert self.downlink is not None
        self._move(step, now)
        self._errands.resume()
        self._uplink.forget()
        self._hands.conclude(ToolFailure.CALL_OVER, now - self._offered_s)
        self.conversation.finish()
        self._uplink.sync()
        self.downlink.resume(now)
        self._farewell.begin(reason, detail)
        if self._spec.takes_results and self._options.results_wait_s > 0 and self.conversation_id:
            self._farewell.await_results(now, self._options.results_wait_s)
            self._effects.append(FetchResults(self.conversation_id))
        if speech is None:
            self._await_played(now)
        else:
            is_machine = speech.words is Words.VOICEMAIL
            self._farewell.await_speech(now, MESSAGE_WAIT_S if is_machine else SPEECH_WAIT_S)
            self._effects.append(speech)

    def _give_up(self, reason: EndReason, detail: str, now: float) -> None:
        """There is no agent any more."""
        if self._options.apologise and not self._rings and self.downlink is not None and not self._errands.is_away:
            self._note("agent_given_up", str(reason), now)
            self._wind_up(Input.GAVE_UP, reason, detail, now, Speak(Words.APOLOGY))
        else:
            self._end(Input.FAILED, reason, detail, now)

    def _await_played(self, now: float) -> None:
        """All that the caller has yet to hear is queued."""
        assert self.downlink is not None
        playout = self.downlink.playout
        self._farewell.await_mark(playout.finish(), now, playout.unheard_s(now))
        if self._errands.is_away:
            self._farewell.suspend()
        self.downlink.release(now)

    def _played_out(self, remark: str, now: float) -> None:
        """The caller heard everything; what is left to wait for are the results, with hold audio meanwhile."""
        self._farewell.heard(remark)
        if self._farewell.awaits_results(now) and self.downlink is not None:
            self.downlink.hold(self._options.hold_audio, now)
        else:
            self._end(Input.PLAYED_OUT, *self._farewell.end, now)

    def _results_over(self, now: float) -> None:
        """There will be no more results."""
        self._farewell.results_came()
        if self._farewell.played and self.state is State.DRAINING:
            self._end(Input.PLAYED_OUT, *self._farewell.end, now)

    def _handle_farewell(self, now: float) -> None:
        if self.state is not State.DRAINING:
            return
        if self._farewell.speech_overdue(now):
            self._note("no_speech", "it did not come in time", now)
            self._await_played(now)
        if self._farewell.drain_overdue(now):
            self._played_out("the carrier did not confirm the end of the good-bye in time", now)
        if self._farewell.played and not self._farewell.awaits_results(now) and self.state is State.DRAINING:
            self._note("no_results", "the conversation's results did not come in time", now)
            self._results_over(now)

    def _end(self, step: Input, reason: EndReason, detail: str, now: float) -> None:
        if self.state is State.ENDED:
            return
        accepted = self.downlink is not None
        self.turns.end(now - self._offered_s)
        self.ended_as, self.ended_by_us = reason, step is not Input.LEG_ENDED
        self._move(step, now)
        self._uplink.forget()
        failure = ToolFailure.CALL_OVER if self.ended_by_us else ToolFailure.CALLER_GONE
        self._hands.conclude(failure, now - self._offered_s)
        self.conversation.finish()
        self._hands.close()
        self._tell_digits()
        if self.conversation_id:
            self.outputs.setdefault("conversation_id", self.conversation_id)
        refused = step is Input.REFUSED and not accepted
        ending = events.Reject if refused else events.Hangup
        self.leg.send(ending(reason, detail, dict(self.outputs)), now)
        self.current_stats()
        self._effects += [Heard(ticket) for ticket in self._errands.all_heard()]
        self._effects.append(Finished(reason, detail))

    def _interrupt(self, now: float) -> None:
        """The caller talks over the agent: nothing of the old answer may be heard from here on."""
        self.stats.interruptions += 1
        self.turns.interrupted(now - self._offered_s)
        if self.downlink is None or self.downlink.plays_hold or self.state is State.ENDED:
            return
        cleared, dropped_ms = self._cut(now)
        if cleared:
            self.flushed = True
            self.stats.clears += 1
        self._note("interrupted", f"{dropped_ms:.0f} ms dropped here{', clear sent' * cleared}", now)
        self.downlink.release(now)  # hold audio that waited for the end of what was said

    def _cut(self, now: float) -> tuple[bool, float]:
        """Nothing of what the caller has yet to hear is worth hearing; see ``Downlink.interrupt``."""
        assert self.downlink is not None
        cleared, dropped_ms = self.downlink.interrupt(now)
        self._effects += [Heard(ticket) for ticket in self._errands.all_heard()]
        return cleared and not self._errands.is_away, dropped_ms

    def _tools_closed(self, count: int, now: float) -> None:
        """So many tool calls keep the agent waiting no longer."""
        for _ in range(count):
            self.turns.tool_closed(now - self._offered_s)

    def _tell_digits(self) -> None:
        """Keys that only the operator's webhook may know."""
        self._effects += [DigitsTyped(digits) for digits in self._hands.take_typed()]

    # --- small things ---

    def _said(self, role: Literal["user", "agent"], text: str, at_s: float) -> None:
        """A turn was spoken."""
        self.journal.said(role, text, at_s)
        if self.on_said is not None:
            self.on_said(role, text)

    def _count_relayed(self) -> None:
        self.stats.caller_frames += self.leg.relayed
        self.leg.relayed = 0

    def _note(self, event: str, detail: str, now: float) -> None:
        """Something for the log and the record."""
        self.journal.step(event, detail, now - self._offered_s)
        self._effects.append(Note(event, detail))

    def _move(self, step: Input, now: float) -> State:
        state = advance(self.state, step)
        if state is not self.state:
            self.state = state
            self.history.append((now, state))
            self.journal.step(state.value, "", now - self._offered_s)
            self._patience_s = now + self._options.patience_s if state is State.CONNECTING else math.inf
            self._reconnect_deadline_s = math.inf
        return state


RECONNECTABLE = (
    outcome.AGENT_LOST,
    outcome.AGENT_CRASHED,
    outcome.AGENT_OPERATIONAL,
    outcome.AGENT_SILENT,
    outcome.AGENT_GARBAGE,
)
"""Ends of a conversation after which another one is worth a try: the network, and failures of a single moment. Not a
quota (1002 as well, told apart by its words), and not what the agent's configuration will refuse again (1008)."""
