"""The driver of one call: two sockets, one timer, one ``Call``.

The whole media path is here, in two methods: ``on_message`` (caller to agent) and ``from_agent``. Each feeds the call,
writes what both halves want to send, and has done what the call asks for (``bridge.server.duties``), in one synchronous
step inside the socket's own callback. Nothing is awaited and nothing is logged per frame.

A call may have several carrier sockets in turn: the session of a new one hands its socket and leg over to the session
of the call (``take_over``) and is no more.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from bridge import outcome
from bridge.calls.call import Call
from bridge.calls.flight import Flight, new_flight
from bridge.calls.flight_file import FlightHeader
from bridge.calls.flight_steps import RecordedCall
from bridge.calls.state import State
from bridge.calls.stats import CallStats
from bridge.convai.protocol import Conversation
from bridge.events import CallInfo
from bridge.leg import CarrierSpec, CloseSocket, LegOptions, Outgoing, UpgradeRequest
from bridge.outcome import EndReason
from bridge.server.aftermath import close_books
from bridge.server.agent_end import AgentEnd
from bridge.server.duties import HANG_UP_WAIT_S, carry_out, hang_up_and_close, wants_hang_up
from bridge.server.facts import CallFacts
from bridge.server.flight_desk import begin_header
from bridge.server.listening import LISTEN_EVERY_S, CallerEar
from bridge.server.logs import get_logger
from bridge.server.metrics import HopHistogram
from bridge.server.side_work import SideWork
from bridge.server.sockets import MediaSocket, Nobody, discard

if TYPE_CHECKING:
    from bridge.server.service import Bridge

MEASURE_EVERY_S = 0.15
"""Of the caller's audio messages one is timed in so long: six a second and call fill a histogram just as well."""

TIMER_GRAIN_S = 0.001
"""The event loop's timers count milliseconds; a shorter wait would spin."""


NOBODY = Nobody()


class Session:
    """One carrier socket and the call that comes over it. A ``SocketOwner`` of the carrier's socket."""

    __slots__ = (
        "_agent",
        "_agent_end",
        "_agent_to_caller",
        "_caller_to_agent",
        "_carrier",
        "_finished",
        "_loop",
        "_measure_next_s",
        "_pings",
        "_relay",
        "_send_to_agent",
        "_timer",
        "_timer_at_s",
        "_ear",
        "_listen_next_s",
        "admitted_s",
        "bridge",
        "call",
        "call_id",
        "facts",
        "flight",
        "flight_header",
        "log",
        "side",
        "spec",
        "started_s",
    )

    def __init__(self, bridge: Bridge, spec: CarrierSpec, request: UpgradeRequest, call_id: str) -> None:
        settings = bridge.settings
        now = monotonic()
        self.bridge = bridge
        self.spec = spec
        self.call_id = call_id
        """Ours: of the socket at first, then the one under which the answer webhook took the call's slot."""
        self.started_s = now
        self.admitted_s = math.inf
        """When the call was let in; inf = it was not."""
        self.facts = CallFacts(bridge.instance_id, spec.name, time.time(), bridge.new_hop(), bridge.new_hop())
        """What is known of the call besides, for its record."""
        self.log: Any = get_logger(call_id=call_id, provider=spec.name)
        self._caller_to_agent = self.facts.caller_to_agent
        self._agent_to_caller = self.facts.agent_to_caller
        self._loop = asyncio.get_running_loop()
        options = LegOptions(settings.start_timeout_s, settings.carrier_silence_s, settings.carrier_options)
        leg = spec.new_leg(options, request, now)
        conversation = Conversation(bridge.conversation_options)
        self.flight: Flight | None = None
        """The call's flight recorder; None = it is off."""
        self.flight_header: FlightHeader | None = None
        if bridge.flight_options is None:
            self.call = Call(leg, spec, bridge.call_options, conversation)
        else:
            self.flight = new_flight(bridge.flight_options, request, now)
            self.flight_header = begin_header(
                spec, self.flight, self.facts.created_at, options, bridge.conversation_options, bridge.call_options
            )
            self.call = RecordedCall(leg, spec, bridge.call_options, conversation, self.flight)
        self._ear = CallerEar(self)
        self._listen_next_s = now
        self._relay = leg.relay
        self._send_to_agent: Callable[[str], None] = discard
        self._measure_next_s = now
        self._carrier: MediaSocket | None = None
        self._agent: MediaSocket | None = None
        self._agent_end: AgentEnd | None = None
        self.side = SideWork(self)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = math.inf
        self._pings = 0  # pings of the agent that are in the histogram
        self._finished = False

    # --- the carrier's socket ---

    def on_open(self, socket: MediaSocket) -> None:
        """The carrier's socket is open."""
        self._carrier = socket
        self.log.debug("carrier_connected")
        self._flush()

    def on_message(self, message: str | bytes) -> None:
        """Caller -> agent: 50 times a second per call."""
        started = monotonic()
        try:
            relayed = self._relay(message, started)
            if relayed is None:
                relayed = self._convert_or_receive(message, started)
            elif self.flight is not None:
                self.flight.relayed(started, message)
            if started >= self._listen_next_s:
                self._listen_next_s = started + LISTEN_EVERY_S
                self._ear.listen(started)
            if relayed:
                self._send_to_agent(relayed)
                if started >= self._measure_next_s:
                    self._measure_next_s = started + MEASURE_EVERY_S
                    self._caller_to_agent.observe(monotonic() - started)
        except Exception:  # the boundary where a bug of ours must not take other calls along
            self.bug()

    def _convert_or_receive(self, message: str | bytes, now: float) -> str | None:
        """A message that does not pass unchanged: audio to convert, or no audio."""
        call = self.call
        relayed = call.relay_to_agent(message, now)
        if relayed is None:
            call.carrier_message(message, now)
            self._flush()
        elif not relayed:
            for item in call.conversation.drain():
                self._to_agent(item)
        return relayed

    def on_lost(self, code: int, words: str) -> None:
        """The carrier's socket is gone."""
        self._carrier = None
        self.bridge.parting.discard(self)
        self.step(lambda now: self.call.carrier_lost(code, now))
        if self.call.state is not State.ENDED and not self.call.is_away:
            self.step(lambda now: self.call.fail(outcome.CARRIER_LOST, f"close {code}", now))

    def on_writable(self, writable: bool) -> None:
        """The carrier's socket is stuck, or moves again."""
        self.log.info("carrier_writable" if writable else "carrier_stuck")
        self.step(lambda now: self.call.set_carrier_writable(writable, now))

    # --- the agent's socket ---

    def agent_open(self, socket: MediaSocket) -> None:
        """The agent's socket is open."""
        self._agent, self._send_to_agent = socket, socket.send_text
        if self.call.state not in (State.CONNECTING, State.RECONNECTING):
            socket.close()

    def new_agent_end(self) -> AgentEnd:
        """Whoever the next agent's socket reports to; the one before is done with."""
        if self._agent_end is not None:
            self._agent_end.dismiss()
        if self._agent is not None:
            self._agent.close()
        self._agent, self._send_to_agent = None, discard
        self._agent_end = AgentEnd(self)
        return self._agent_end

    def from_agent(self, message: str | bytes) -> None:
        """Agent -> caller."""
        started = monotonic()
        call = self.call
        try:
            relayed = call.relay_to_caller(message, started)
            if relayed is None:
                call.agent_message(message, started)
                self._flush()
                self._measure_agent_event(started)
                return
            if relayed:
                self._to_carrier(relayed)
                self._agent_to_caller.observe(monotonic() - started)
            else:
                for item in call.leg.drain():
                    self._to_carrier(item)
            next_timer_s = call.playout_timer() if relayed else call.audio_timer()
            if next_timer_s < self._timer_at_s:
                self._arm(next_timer_s)
        except Exception:  # as above
            self.bug()

    def _measure_agent_event(self, started: float) -> None:
        """Time what is timed of the rarer messages: the reaction to an interruption, and pings."""
        call, stats = self.call, self.call.stats
        if call.flushed:
            call.flushed = False
            self.bridge.metrics.interruption_to_clear.observe(monotonic() - started)
        if stats.agent_pings != self._pings:
            self._pings = stats.agent_pings
            if stats.agent_round_trip_ms is not None:
                self.bridge.metrics.agent_round_trip.observe(stats.agent_round_trip_ms / 1000)

    def agent_lost(self, code: int, words: str) -> None:
        """The agent's socket is gone."""
        self._agent, self._send_to_agent = None, discard
        self.step(lambda now: self.call.agent_lost(code, words, now))

    def agent_writable(self, writable: bool) -> None:
        """The agent's socket is stuck, or moves again."""
        self.log.info("agent_writable" if writable else "agent_stuck")
        self.step(lambda now: self.call.set_agent_writable(writable))

    # --- the operator: orders and counters ---

    def note(self, event: str) -> None:
        """Write a step of the operator's into log and record."""
        self.step(lambda now: self.call.remark(event, now))

    def end(self, reason: EndReason, detail: str = "") -> None:
        """End the call from outside."""
        self.step(lambda now: self.call.fail(reason, detail, now))

    def current_stats(self) -> CallStats:
        """The counters as they stand now."""
        return self.call.current_stats()

    @property
    def caller_to_agent(self) -> HopHistogram:
        """Carrier's message in -> agent's message out."""
        return self._caller_to_agent

    @property
    def agent_to_caller(self) -> HopHistogram:
        """Agent's message in -> first audio of it out."""
        return self._agent_to_caller

    @property
    def language(self) -> str:
        """Of the call's route; empty = the agent's own."""
        return self.facts.route.language if self.facts.route is not None else ""

    # --- another socket of the same call ---

    def take_over(self, other: Session, info: CallInfo) -> None:
        """The carrier's stream is back: its socket and leg are this session's from now on."""
        leg, media, socket = other.call.leg, other.call.offered_media, other.dissolve()
        if self.flight is not None and other.flight is not None:
            self.flight.adopt(other.flight)
        if self._carrier is not None:
            self._carrier.hand_over(NOBODY)
            self._carrier.close()
        self._relay = leg.relay
        if socket is not None:
            socket.hand_over(self)
        self.step(lambda now: self.call.take_leg(leg, info, media, now))
        self.side.is_back()
        if socket is None:
            self.step(lambda now: self.call.carrier_lost(1006, now))

    def dissolve(self) -> MediaSocket | None:
        """This session was one of a socket, not of a call: forget it. Returns its socket."""
        self._finished = True
        if self._timer is not None:
            self._timer.cancel()
        socket, self._carrier = self._carrier, None
        self.bridge.forget(self)
        return socket

    # --- inside: one step ---

    def step(self, act: Callable[[float], None]) -> None:
        """Do something to the call, write what follows from it, and carry out what it asks for."""
        try:
            act(monotonic())
            self._flush()
        except Exception:  # as above
            self.bug()

    def _flush(self) -> None:
        """Write what both halves want to send, do what the call asks for, and set the timer."""
        call = self.call
        for item in call.leg.drain():
            self._to_carrier(item)
        for message in call.conversation.drain():
            self._to_agent(message)
        for effect in call.drain():
            carry_out(self, effect)
        next_timer_s = call.next_timer()
        if next_timer_s < self._timer_at_s:
            self._arm(next_timer_s)

    def _to_carrier(self, item: Outgoing) -> None:
        if self.flight is not None:
            self.flight.carrier_out(item)
        socket = self._carrier
        if socket is None:
            return
        if isinstance(item, str):
            socket.send_text(item)
        elif isinstance(item, bytes):
            socket.send_binary(item)
        elif wants_hang_up(self):
            telling = self._loop.create_task(hang_up_and_close(self, item))
            self._loop.call_later(HANG_UP_WAIT_S, self.close_carrier, item)
            self.bridge.after(telling)
        else:
            self.close_carrier(item)

    def close_carrier(self, closing: CloseSocket) -> None:
        """Close the carrier's socket, if it is open."""
        if self._carrier is not None:
            self._carrier.close(closing.code, closing.reason)

    def _to_agent(self, message: str | CloseSocket) -> None:
        if self.flight is not None:
            self.flight.agent_out(message)
        socket = self._agent
        if socket is None:
            return
        if isinstance(message, str):
            socket.send_text(message)
        else:
            socket.close(message.code, message.reason)

    def finish(self, reason: EndReason, detail: str) -> None:
        """The call's end, once. The leg may still have to say good-bye."""
        if self._finished:
            return
        self._finished = True
        self.side.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at_s = None, math.inf  # a leg with a parting of its own arms another
        close_books(self, reason, detail)

    def bug(self) -> None:
        """An exception of ours: end this call, whatever state it is in; the others go on."""
        self.log.exception("bug")
        try:
            self.call.fail(outcome.BUG, "see the traceback above", monotonic())
            self._flush()
        except Exception:  # ending properly failed too: nothing is left but to let go
            self.log.exception("bug_while_ending")
            for socket in (self._carrier, self._agent):
                if socket is not None:
                    socket.cut()
            self.finish(outcome.BUG, "see the tracebacks above")

    # --- inside: time ---

    def _arm(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at_s = at_s
        self._timer = self._loop.call_later(max(at_s - monotonic(), TIMER_GRAIN_S), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at_s = math.inf
        try:
            next_timer_s = self.call.release_audio(monotonic())
            if next_timer_s is not None:
                for item in self.call.leg.drain():
                    self._to_carrier(item)
                self._arm(next_timer_s)
                return
        except Exception:  # as above
            self.bug()
            return
        self.step(self.call.handle_timer)
