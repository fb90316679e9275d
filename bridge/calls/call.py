"""One phone call: a carrier leg joined to an agent conversation.

Sans-I/O like its two halves. The driver (``bridge.server.session``) feeds it what the sockets and the clock
say, and afterwards writes ``leg.drain()``, ``conversation.drain()`` and carries out ``drain()``, all in one
synchronous step. Caller audio therefore goes from one socket's callback to the other socket's send without a
queue or a task switch; agent audio goes through ``Playout`` first, which knows when the carrier may have it.

Here is the talk: what either side says. What an agent asks for besides talking is in ``bridge.calls.requests``, how a
call lives and ends in ``bridge.calls.base``.
"""

from __future__ import annotations

import math
from typing import assert_never

from bridge import events, outcome
from bridge.calls import resume
from bridge.calls.base import RECONNECTABLE
from bridge.calls.effects import AskAdmission, ConnectAgent, Heard
from bridge.calls.keypad import KeySource
from bridge.calls.options import CallOptions
from bridge.calls.requests import CallRequests
from bridge.calls.state import Input, State
from bridge.calls.tap import Tap
from bridge.convai import events as agent
from bridge.convai.messages import InitiationData
from bridge.events import CallInfo
from bridge.leg import Leg
from bridge.media.format import MediaFormat
from bridge.media.transcode import Transcoder
from bridge.outcome import EndReason, Result

_ACTIVE = State.ACTIVE
"""For the media path: looking a member up in its enum costs as much as a method call in Python 3.11."""


class Call(CallRequests):
    """The join of a leg and a conversation. Methods take ``now`` in seconds on a monotonic clock."""

    __slots__ = ()

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
            self.downlink.writable = writable and not self._errands.is_away
            self.downlink.release(now)

    def set_agent_writable(self, writable: bool) -> None:
        """The transport's word whether the agent's socket takes more; caller audio is held while it does not."""
        self.conversation.set_writable(writable)
        self._uplink.sync()

    # --- the carrier's stream goes, and comes back ---

    def take_leg(self, leg: Leg, info: CallInfo, media: MediaFormat, now: float) -> None:
        """The stream is back, as a new leg that has offered itself; it is accepted."""
        self._count_relayed()
        self.leg = leg
        if self.downlink is None or self.state is State.ENDED:
            leg.send(events.Reject(self.ended_as or outcome.BUG, "there is no call for this stream"), now)
            return
        self.info, self._media = info, media
        leg.send(events.Accept(media), now)
        self._errands.back()
        self.downlink.take_leg(leg, media, now)
        self._uplink.take_leg(leg, media)
        self.set_carrier_writable(True, now)
        self._note("stream_back", "", now)
        if self.state is State.DRAINING and not self._farewell.awaits_speech:
            self._await_played(now)

    # --- decisions that the driver fetched ---

    def configure(self, options: CallOptions) -> None:
        """The settings of the call's route, now that it is known; before the call is let in."""
        self._options = options
        self._hands.configure(options)

    def hold(self, position: int, now: float) -> None:
        """All slots are taken, but the caller may wait: accept the leg and play hold audio. May be repeated."""
        before = self.state
        if self._move(Input.QUEUED, now) is not State.QUEUED or before is State.QUEUED:
            return
        self._uplink.forget()  # who waits for a slot is not heard yet
        self._rings = False  # hold audio is for those who are answered
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
            self._hands.forget_news()  # as with what was said in the queue
        else:
            self._accept(now)
        self._act_on_machine(self._machine, now)
        if self.state is State.CONNECTING:
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

    # --- the agent's side ---

    def agent_connected(self, data: InitiationData, now: float) -> None:
        """The agent's socket is open."""
        if self.state is State.RECONNECTING:
            data = resume.resumed(data, self.journal.turns, self.conversation_id)
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
        if self.turns.wants_audio:
            return self._relay_timed(payload, now)
        return self.downlink.relay(payload, now)  # type: ignore[union-attr]  # there is one since CONNECTING

    def _relay_timed(self, payload: bytes, now: float) -> str | bytes | None:
        """The beginning of an answer: when it came, and when it went out."""
        assert self.downlink is not None
        self.turns.agent_audio(now - self._offered_s)
        frames = self.stats.agent_frames
        relayed = self.downlink.relay(payload, now)
        self._time_sent(frames, now)
        return relayed

    def _time_sent(self, frames_before: int, now: float) -> None:
        if self.turns.wants_audio and self.stats.agent_frames != frames_before:
            self.turns.sent(now - self._offered_s)

    def caller_speech(self, started: bool, since_s: float, now: float) -> None:
        """The caller began or ceased to speak at ``since_s`` (as ``now``), says a listener."""
        if self.state is _ACTIVE:
            self.turns.caller_speech(started, since_s - self._offered_s)

    def agent_lost(self, code: int, words: str, now: float) -> None:
        """The agent's socket is gone."""
        for event in self.conversation.connection_lost(code, words):
            self._on_agent(event, now)

    # --- time ---

    def next_timer(self) -> float:
        """When ``handle_timer`` wants to be called (may be too early, never too late)."""
        if self.state is State.ENDED:
            return self.leg.next_timer()  # some carriers have a parting of their own
        others = min(self.conversation.next_timer(), self._hands.next_timer(), self._errands.next_timer())
        others = min(others, self._farewell.next_timer(), self._patience_s, self._reconnect_deadline_s)
        self._others_s = others
        if not self._errands.is_away:
            others = min(others, self.leg.next_timer())
        return min(others, self.playout_timer())

    def audio_timer(self) -> float:
        """The part of ``next_timer`` that agent audio can bring closer: some legs gather it."""
        return min(self.playout_timer(), self.leg.next_timer())

    def release_audio(self, now: float) -> float | None:
        """The short cut of ``handle_timer`` while nothing but audio is due: when something is due next.

        None = not taken, and nothing has happened: use ``handle_timer``. A talking agent needs this ten times a second
        and more, and the other timers hours later or never.
        """
        downlink = self.downlink
        if now >= self._others_s or downlink is None or self.state is not _ACTIVE or self._errands.is_away:
            return None
        if now >= self.leg.next_timer():
            return None
        frames = self.stats.agent_frames
        downlink.release(now)
        self._time_sent(frames, now)
        return min(downlink.next_timer(), self._others_s, self.leg.next_timer())

    def playout_timer(self) -> float:
        """The part of ``next_timer`` that agent audio can bring closer."""
        return math.inf if self.downlink is None else self.downlink.next_timer()

    def handle_timer(self, now: float) -> None:
        """Let time pass."""
        self._on_leg_events(self.leg.handle_timer(now), now)
        for event in self.conversation.handle_timer(now):
            self._on_agent(event, now)
        if self.state is State.ENDED:
            return
        self._handle_waits(now)
        self._handle_errands(now)
        if self.downlink is not None and not self.is_over:
            frames = self.stats.agent_frames
            self.downlink.release(now)
            self._time_sent(frames, now)
        self._handle_farewell(now)

    def _handle_waits(self, now: float) -> None:
        """Whoever waits for the agent hears a tone; nobody waits for ever."""
        if now >= self._patience_s and self.downlink is not None:
            self._patience_s = math.inf
            if not self._rings:
                self.downlink.hold(self._options.hold_audio, now)
        if now >= self._reconnect_deadline_s:
            self._give_up(*self._farewell.end, now)

    def _handle_errands(self, now: float) -> None:
        self._tools_closed(self._hands.handle_timer(now, now - self._offered_s), now)
        self._act_on_machine(self._hands.judge.handle_timer(now), now)
        self._tell_digits()
        self._effects += [Heard(ticket) for ticket in self._errands.overdue(now)]
        silence_s = self._errands.silence_due_s(now)
        if silence_s:
            self._uplink.send_silence(silence_s)
        if self._errands.lost(now):
            if self._errands.is_away:
                self._end(Input.LEG_ENDED, outcome.CARRIER_LOST, "the media stream did not come back", now)
            self._errands.back()

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
            case events.Offered(info, media_choices, rings):
                self._offered_s = now
                self._rings = rings
                self._move(Input.OFFERED, now)
                self.info, self._media = info, media_choices[0]
                self._uplink.hold_back(self._media, self._options.caller_buffer_ms)
                self._effects.append(AskAdmission(info))
            case events.Dtmf(digit, duration_ms):
                self.key_pressed(digit, duration_ms, KeySource.EVENT, now)
            case events.Ended(reason, detail):
                self._on_leg_ended(reason, detail, now)
            case events.Paused():
                self.conversation.flush_audio()
                self._errands.pause(now)
                self._note("Paused", "", now)
            case events.Resumed():
                self._errands.resume()
                self._note("Resumed", "", now)
            case events.TransferResult():
                self._note(type(event).__name__, "", now)
            case _:
                assert_never(event)

    def _on_leg_ended(self, reason: EndReason, detail: str, now: float) -> None:
        """The stream's end: the call's as well, unless we have sent the carrier on an errand."""
        if not self._errands.may_leave or self.downlink is None or self.state is State.ENDED:
            self._end(Input.LEG_ENDED, reason, detail, now)
            return
        self._errands.left(now)
        self.downlink.writable = False
        self._farewell.suspend()
        self._effects += [Heard(ticket) for ticket in self._errands.all_heard()]
        self.conversation.flush_audio()
        self._note("stream_away", detail, now)

    def _on_mark(self, mark: str, now: float) -> None:
        if self.downlink is None or not self.downlink.playout.reached(mark):
            return
        self.stats.marks += 1
        self._effects += [Heard(ticket) for ticket in self._errands.reached(mark)]
        if self.state is State.DRAINING and self._farewell.is_mark(mark):
            self._played_out("", now)

    # --- what the agent says ---

    def _on_agent(self, event: agent.AgentEvent, now: float) -> None:
        at_s = now - self._offered_s
        match event:
            case agent.AgentAudio(payload):
                self.stats.agent_messages += 1
                if self.downlink is not None and self.state is _ACTIVE:
                    self.turns.agent_audio(at_s)
                    frames = self.stats.agent_frames
                    self.downlink.write(payload, now)
                    self._time_sent(frames, now)
            case agent.Interrupted():
                self._interrupt(now)
            case agent.Pinged(round_trip_ms):
                self.stats.agent_pings += 1
                self.stats.agent_round_trip_ms = round_trip_ms
            case agent.AgentReady():
                self._on_agent_ready(event, now)
            case agent.CallerSaid(text):
                self.stats.caller_turns += 1
                self.turns.caller_said(at_s)
                self._said("user", text, at_s)
            case agent.AgentSaid(text):
                self.stats.agent_turns += 1
                self._said("agent", text, at_s)
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

    def _on_agent_ready(self, ready: agent.AgentReady, now: float) -> None:
        again = self.state is State.RECONNECTING
        if self._move(Input.AGENT_READY, now) is State.ENDED:
            return
        assert self.downlink is not None
        self.conversation_ids.append(ready.conversation_id)
        self.agent_formats = ready.input_format, ready.output_format
        if self._rings:
            self._rings = False
            self.leg.send(events.Answer(), now)
        self.downlink.resume(now)
        downlink = self.downlink.open(ready.output_format)
        if again:  # before anything that the caller says now
            self.conversation.send_contextual_update(resume.reminder(self.journal.turns))
        self._hands.agent_listens()
        conversion = _conversion(self._uplink.open(ready.input_format), downlink)
        self._note("agent_back" if again else "agent_ready", conversion, now)

    def _on_agent_ended(self, reason: EndReason, detail: str, now: float) -> None:
        """A normal end lets the caller hear the rest; a broken connection is made anew, once; else it is over."""
        if reason is outcome.AGENT_HANGUP and self.state is State.CONNECTING:
            reason = outcome.AGENT_NOT_READY  # a good-bye before the first word is none
        if self.state is State.RECONNECTING:
            self._give_up(*self._farewell.end, now)
        elif self.downlink is None or self.state is not _ACTIVE:
            self.fail(reason, detail, now)
        elif reason.result is Result.SUCCESS:
            self._wind_up(Input.AGENT_DONE, reason, detail, now)
        elif reason in RECONNECTABLE and not self._reconnects and self._options.reconnect_s:
            self._reconnect(reason, detail, now)
        else:
            self._give_up(reason, detail, now)

    def _reconnect(self, reason: EndReason, detail: str, now: float) -> None:
        """Begin another conversation in the same call, with a bound; the caller hears a tone meanwhile."""
        assert self.info is not None
        assert self.downlink is not None
        self._reconnects += 1
        self._move(Input.AGENT_BROKE, now)
        self._farewell.begin(reason, detail)  # how the call ends when this fails
        self._reconnect_deadline_s = now + self._options.reconnect_s
        self._tools_closed(self._hands.lose(), now)
        self._past.append(self.conversation)
        self.conversation = self.conversation.successor()
        self._hands.take_conversation(self.conversation)
        self._uplink.take_conversation(self.conversation, self._options.caller_buffer_ms)
        self._uplink.mute(False)
        self.downlink.hold(self._options.hold_audio, now)
        self._note("agent_broke", f"{reason}: {detail}", now)
        self._effects.append(ConnectAgent(self.info, again=True))


def _conversion(uplink: Transcoder, downlink: Transcoder) -> str:
    """What is done to the audio, for the log."""
    if uplink.is_identity and downlink.is_identity:
        return "audio passes unchanged"
    return f"to agent: {uplink.describe()}; to caller: {downlink.describe()}"
