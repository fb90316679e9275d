"""One phone call: a carrier leg joined to an agent conversation.

Sans-I/O like its two halves. The driver (``bridge.server.session``) feeds it what the sockets and the clock
say, and afterwards writes ``leg.drain()``, ``conversation.drain()`` and carries out ``drain()``, all in one
synchronous step. Caller audio therefore goes from one socket's callback to the other socket's send without a
queue or a task switch; agent audio goes through ``Playout`` first, which knows when the carrier may have it.
"""

from __future__ import annotations

import math
from typing import assert_never

from bridge import events, outcome
from bridge.calls.downlink import Downlink
from bridge.calls.effects import AskAdmission, ConnectAgent, Effect, FetchResults, Finished, Note, TransferPlanned
from bridge.calls.hands import Hands
from bridge.calls.journal import Journal
from bridge.calls.options import CallOptions
from bridge.calls.state import Input, State, advance
from bridge.calls.stats import CallStats
from bridge.calls.tap import Tap
from bridge.calls.uplink import Uplink
from bridge.convai import events as agent
from bridge.convai.messages import InitiationData
from bridge.convai.protocol import Conversation
from bridge.events import CallInfo
from bridge.leg import CarrierSpec, Leg
from bridge.media.format import MediaFormat
from bridge.media.transcode import Transcoder
from bridge.outcome import EndReason, Result

DRAIN_GRACE_S = 1.0
"""How much longer than the queued audio lasts a good-bye may take until the carrier has confirmed it: a network
round trip and the carrier's own jitter. After that the call is hung up all the same."""


_ACTIVE = State.ACTIVE
"""For the media path: looking a member up in its enum costs as much as a method call in Python 3.11."""


class Call:
    """The join of a leg and a conversation. Methods take ``now`` in seconds on a monotonic clock."""

    __slots__ = (
        "_agent_end",
        "_carrier_writable",
        "_drain_deadline",
        "_effects",
        "_hands",
        "_last_mark",
        "_media",
        "_offered_s",
        "_options",
        "_played",
        "_results_deadline",
        "_spec",
        "_uplink",
        "agent_formats",
        "conversation",
        "conversation_ids",
        "downlink",
        "flushed",
        "has_results",
        "history",
        "info",
        "journal",
        "leg",
        "outputs",
        "state",
        "stats",
    )

    def __init__(self, leg: Leg, spec: CarrierSpec, options: CallOptions, conversation: Conversation) -> None:
        self.leg = leg
        self.conversation = conversation
        self.state = State.WAITING
        self.history: list[tuple[float, State]] = []
        """When the call came into which state; at most one entry a state."""
        self.stats = CallStats()
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
        """Whether somebody has looked for them."""
        self.flushed = False
        """Set when a ``Flush`` was sent; the driver resets it, to time the reaction."""
        self.downlink: Downlink | None = None
        """The way to the caller, once the leg is accepted."""
        self._spec = spec
        self._options = options
        self._offered_s = 0.0
        self._media: MediaFormat | None = None  # the leg's format, once offered
        self._uplink = Uplink(leg, conversation, self.stats)
        self._drain_deadline = math.inf
        self._results_deadline = -math.inf  # in the future while results are waited for
        self._carrier_writable = True
        self._played = False  # the caller heard the good-bye
        self._hands = Hands(spec, options, conversation, self.journal, self.stats)
        self._last_mark = ""  # the mark whose return ends DRAINING
        self._agent_end: tuple[EndReason, str] = (outcome.AGENT_HANGUP, "")
        self._effects: list[Effect] = []

    # --- the carrier's side ---

    def carrier_message(self, message: str | bytes, now: float) -> None:
        """One message from the carrier's socket, of whatever kind."""
        self._on_leg_events(self.leg.receive(message, now), now)

    def relay_to_agent(self, message: str | bytes, now: float) -> str | None:
        """The short cut for caller audio while the agent listens: the message for the agent.

        None = not taken, and nothing has happened: use ``carrier_message``. Empty = taken, but look into
        ``conversation.drain()``. Nothing else has to be written, and no timer has come closer.
        """
        return self._uplink.relay(message, now)

    def carrier_lost(self, code: int, now: float) -> None:
        """The carrier's socket is gone."""
        self._on_leg_events(self.leg.connection_lost(code, now), now)

    def set_carrier_writable(self, writable: bool, now: float) -> None:
        """The transport's word whether the carrier's socket takes more; agent audio waits here while it does not."""
        self._carrier_writable = writable
        if self.downlink is not None and self.state is not State.ENDED:
            self.downlink.writable = writable
            self.downlink.release(now)

    def set_agent_writable(self, writable: bool) -> None:
        """The transport's word whether the agent's socket takes more; caller audio is held while it does not."""
        self.conversation.set_writable(writable)
        self._uplink.sync()

    # --- decisions that the driver fetched ---

    def hold(self, position: int, now: float) -> None:
        """All slots are taken, but the caller may wait: accept the leg and play hold audio. May be repeated."""
        before = self.state
        if self._move(Input.QUEUED, now) is not State.QUEUED or before is State.QUEUED:
            return
        self._uplink.forget()  # who waits for a slot is not heard yet
        self._accept(now).hold(self._options.hold_audio, now)
        self._note("queued", f"position {position}", now)

    def admit(self, now: float) -> None:
        """There is a slot and the token is genuine: accept the leg and have the agent connected."""
        before = self.state
        if self._move(Input.ADMITTED, now) is State.ENDED:
            return
        assert self.info is not None
        assert self._media is not None
        if before is State.QUEUED:
            self._uplink.hold_back(self._media, self._options.caller_buffer_ms)
        else:
            self._accept(now)
        self._effects.append(ConnectAgent(self.info))

    def refuse(self, reason: EndReason, detail: str, now: float) -> None:
        """No slot, or no genuine token."""
        self._end(Input.REFUSED, reason, detail, now)

    def remark(self, event: str, now: float) -> None:
        """Write down a step that somebody outside took."""
        if self.state is not State.ENDED:
            self._note(event, "", now)

    def listen(self, tap: Tap | None) -> None:
        """Have somebody hear both sides from now on, or nobody. Audio then takes the longer way past them."""
        self._uplink.tap = tap
        if self.downlink is not None:
            self.downlink.tap = tap
        self._uplink.sync()

    def give_results(self, outputs: dict[str, str], now: float) -> None:
        """What ``FetchResults`` found; also after the end, for the record."""
        self.outputs = {**self.outputs, **outputs}
        self._results_deadline = -math.inf
        self.has_results = True
        if self._played and self.state is State.DRAINING:
            self._end(Input.PLAYED_OUT, *self._agent_end, now)

    # --- the agent's side ---

    def agent_connected(self, data: InitiationData, now: float) -> None:
        """The agent's socket is open."""
        self.conversation.start(data, now)

    def agent_message(self, message: str | bytes, now: float) -> None:
        """One message from the agent's socket, of whatever kind."""
        for event in self.conversation.receive(message, now):
            self._on_agent(event, now)

    def relay_to_caller(self, message: str | bytes, now: float) -> str | bytes | None:
        """The short cut for agent audio: the message for the carrier.

        None = not taken, and nothing has happened: use ``agent_message``. Empty = taken, but look into
        ``leg.drain()``. Nothing else has to be written, and of all timers only ``playout_timer`` may have come
        closer.
        """
        if self.state is not _ACTIVE:
            return None
        payload = self.conversation.read_audio(message, now)
        if payload is None:
            return None
        self.stats.agent_messages += 1
        return self.downlink.relay(payload, now)  # type: ignore[union-attr]  # there is one since CONNECTING

    def agent_lost(self, code: int, words: str, now: float) -> None:
        """The agent's socket is gone."""
        for event in self.conversation.connection_lost(code, words):
            self._on_agent(event, now)

    def fail(self, reason: EndReason, detail: str, now: float) -> None:
        """End the call from our side, whatever it is doing."""
        self._end(Input.FAILED, reason, detail, now)

    # --- time and output ---

    def next_timer(self) -> float:
        """When ``handle_timer`` wants to be called (may be too early, never too late)."""
        if self.state is State.ENDED:
            return self.leg.next_timer()  # some carriers have a parting of their own
        others = min(self.leg.next_timer(), self.conversation.next_timer(), self._drain_deadline)
        others = min(others, self._hands.next_timer())
        if self._played:
            others = min(others, self._results_deadline)
        return min(others, self.playout_timer())

    def playout_timer(self) -> float:
        """The part of ``next_timer`` that agent audio can bring closer."""
        return math.inf if self.downlink is None else self.downlink.next_timer()

    def handle_timer(self, now: float) -> None:
        """Let time pass."""
        self._on_leg_events(self.leg.handle_timer(now), now)
        for event in self.conversation.handle_timer(now):
            self._on_agent(event, now)
        self._hands.handle_timer(now)
        if self.downlink is not None and self.state is not State.ENDED:
            self.downlink.release(now)
        if now >= self._drain_deadline:
            self._played_out("the carrier did not confirm the end of the good-bye in time", now)
        if self._played and now >= self._results_deadline and self.state is State.DRAINING:
            self._note("no_results", "the conversation's results did not come in time", now)
            self.give_results({}, now)

    def current_stats(self) -> CallStats:
        """The counters as they stand now; ``stats`` itself is complete only at the end."""
        stats, conversation = self.stats, self.conversation
        stats.caller_frames += self.leg.relayed
        self.leg.relayed = 0
        stats.stale_audio_bytes = conversation.stale_audio_bytes
        stats.unknown_messages = sum(conversation.unknown_types.values())
        stats.malformed_messages = conversation.malformed
        stats.upload_dropped_bytes = conversation.dropped_audio_bytes
        if self.downlink is not None:
            self.downlink.count()
        return stats

    def drain(self) -> list[Effect]:
        """Take what the driver has to do besides writing, in order."""
        effects, self._effects = self._effects, []
        return effects

    # --- agent audio to the caller ---

    def _accept(self, now: float) -> Downlink:
        """Accept the leg; there is a way to the caller from now on."""
        assert self._media is not None
        self.leg.send(events.Accept(self._media), now)
        self.downlink = Downlink(self.leg, self._spec, self._media, self._options.playout_queue_ms, self.stats)
        self.downlink.tap = self._uplink.tap
        self.downlink.writable = self._carrier_writable
        return self.downlink

    def _interrupt(self, now: float) -> None:
        """The caller talks over the agent: nothing of the old answer may be heard from here on."""
        self.stats.interruptions += 1
        if self.downlink is None or self.downlink.holding or self.state is State.ENDED:
            return
        cleared, dropped_ms = self.downlink.interrupt(now)
        if cleared:
            self.flushed = True
            self.stats.clears += 1
        self._note("interrupted", f"{dropped_ms:.0f} ms dropped here{', clear sent' * cleared}", now)

    # --- what the leg says ---

    def _on_leg_events(self, happened: list[events.Event], now: float) -> None:
        for event in happened:
            self._on_leg(event, now)

    def _on_leg(self, event: events.Event, now: float) -> None:
        match event:
            case events.Audio(payload):
                self._uplink.write(payload, now)
            case events.PlaybackReached(mark):
                self._on_mark(mark, now)
            case events.Offered(info, media_choices):
                self._offered_s = now
                self._move(Input.OFFERED, now)
                self.info, self._media = info, media_choices[0]
                self._uplink.hold_back(self._media, self._options.caller_buffer_ms)
                self._effects.append(AskAdmission(info))
            case events.Dtmf(digit, duration_ms):
                talking = self.state is State.ACTIVE
                self._hands.key_pressed(digit, duration_ms, now - self._offered_s, now, talking=talking)
            case events.Ended(reason, detail):
                self._end(Input.LEG_ENDED, reason, detail, now)
            case events.Paused():
                self.conversation.flush_audio()
                self._note("Paused", "", now)
            case events.Resumed() | events.TransferResult():
                self._note(type(event).__name__, "", now)
            case _:
                assert_never(event)

    def _on_mark(self, mark: str, now: float) -> None:
        if self.downlink is None or not self.downlink.playout.reached(mark):
            return
        self.stats.marks += 1
        if mark == self._last_mark and self.state is State.DRAINING:
            self._played_out("", now)

    # --- what the agent says ---

    def _on_agent(self, event: agent.AgentEvent, now: float) -> None:
        at_s = now - self._offered_s
        match event:
            case agent.AgentAudio(payload):
                self.stats.agent_messages += 1
                if self.downlink is not None and self.state is _ACTIVE:
                    self.downlink.write(payload, now)
            case agent.Interrupted():
                self._interrupt(now)
            case agent.Pinged(round_trip_ms):
                self.stats.agent_pings += 1
                self.stats.agent_round_trip_ms = round_trip_ms
            case agent.AgentReady():
                self._on_agent_ready(event, now)
            case agent.CallerSaid(text):
                self.stats.caller_turns += 1
                self.journal.said("user", text, at_s)
            case agent.AgentSaid(text):
                self.stats.agent_turns += 1
                self.journal.said("agent", text, at_s)
            case agent.AgentCorrected(text):
                self.journal.corrected(text)
            case agent.ToolCalled():
                self._on_tool(event, at_s, now)
            case agent.SystemToolRan(name, is_error):
                self._note("agent_tool_failed" if is_error else "agent_tool_ran", name[:64], now)
            case agent.AgentFault(detail):
                self._note("agent_fault", detail, now)
            case agent.AgentEnded(reason, detail):
                self._on_agent_ended(reason, detail, now)
            case _:
                assert_never(event)

    def _on_tool(self, called: agent.ToolCalled, at_s: float, now: float) -> None:
        transfer = self._hands.carry_out(called, at_s, talking=self.state is State.ACTIVE)
        self._note("tool_refused" if transfer is None else "tool_accepted", called.name[:64], now)
        if transfer is not None:
            self.outputs |= {"transfer_to": transfer.target, "transfer_reason": transfer.reason}
            self._effects.append(TransferPlanned(transfer.target))
            self._wind_up(outcome.TRANSFERRED, "", now)

    def _on_agent_ready(self, ready: agent.AgentReady, now: float) -> None:
        if self._move(Input.AGENT_READY, now) is State.ENDED:
            return
        assert self.downlink is not None
        self.conversation_ids.append(ready.conversation_id)
        self.agent_formats = ready.input_format, ready.output_format
        self.downlink.resume(now)
        downlink = self.downlink.open(ready.output_format)
        self._note("agent_ready", _conversion(self._uplink.open(ready.input_format), downlink), now)

    def _on_agent_ended(self, reason: EndReason, detail: str, now: float) -> None:
        """A normal end lets the caller hear the rest; after a failure nobody is there to answer, so it is cut."""
        if reason is outcome.AGENT_HANGUP and self.state is State.CONNECTING:
            reason = outcome.AGENT_NOT_READY  # a good-bye before the first word is none
        if reason.result is not Result.SUCCESS or self.downlink is None or self.state is not State.ACTIVE:
            self._end(Input.FAILED, reason, detail, now)
            return
        self._wind_up(reason, detail, now)

    def _wind_up(self, reason: EndReason, detail: str, now: float) -> None:
        """Nothing more will be said: the caller hears the rest, and the results are fetched meanwhile."""
        assert self.downlink is not None
        self._move(Input.AGENT_DONE, now)
        self.conversation.finish()
        self._uplink.sync()
        self._agent_end = (reason, detail)
        if self._spec.takes_results and self._options.results_wait_s > 0:
            self._results_deadline = now + self._options.results_wait_s
            self._effects.append(FetchResults(self.conversation_id))
        playout = self.downlink.playout
        self._last_mark = playout.finish()
        self._drain_deadline = now + playout.unheard_s(now) + DRAIN_GRACE_S
        self.downlink.release(now)

    # --- the end ---

    def _played_out(self, remark: str, now: float) -> None:
        """The caller heard everything; what is left to wait for are the results, with hold audio meanwhile."""
        reason, detail = self._agent_end
        self._agent_end = reason, "; ".join(part for part in (detail, remark) if part)
        self._played = True
        self._drain_deadline = math.inf
        if self._results_deadline > now and self.downlink is not None:
            self.downlink.hold(self._options.hold_audio, now)
        else:
            self._end(Input.PLAYED_OUT, *self._agent_end, now)

    def _end(self, step: Input, reason: EndReason, detail: str, now: float) -> None:
        if self.state is State.ENDED:
            return
        accepted = self.downlink is not None
        self._move(step, now)
        self._drain_deadline = math.inf
        self._uplink.forget()
        self.conversation.finish()
        if self.conversation_id:
            self.outputs.setdefault("conversation_id", self.conversation_id)
        refused = step is Input.REFUSED and not accepted
        ending = events.Reject if refused else events.Hangup
        self.leg.send(ending(reason, detail, dict(self.outputs)), now)
        self.current_stats()
        self._effects.append(Finished(reason, detail))

    @property
    def conversation_id(self) -> str:
        """The latest conversation; empty before there was one."""
        return self.conversation_ids[-1] if self.conversation_ids else ""

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
        return state


def _conversion(uplink: Transcoder, downlink: Transcoder) -> str:
    """What is done to the audio, for the log."""
    if uplink.is_identity and downlink.is_identity:
        return "audio passes unchanged"
    return f"to agent: {uplink.describe()}; to caller: {downlink.describe()}"
