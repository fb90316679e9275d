"""The driver of one call: two sockets, one timer, one ``Call``.

The whole media path is here, in two methods: ``_from_carrier`` and ``_from_agent``. Each feeds the call, writes
what both halves want to send, and does what the call asks for, in one synchronous step inside the socket's own
callback. Nothing is awaited and nothing is logged per frame.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import TYPE_CHECKING, Any

from bridge import outcome
from bridge.calls.call import Call
from bridge.calls.effects import AskAdmission, ConnectAgent, Effect, FetchResults, Finished, Note, TransferPlanned
from bridge.calls.state import State
from bridge.calls.stats import CallStats
from bridge.convai.protocol import Conversation
from bridge.leg import CarrierSpec, CloseSocket, HttpRequest, LegOptions, Outgoing, UpgradeRequest
from bridge.outcome import EndReason, Result
from bridge.server.aftermath import begin_recording, conclude
from bridge.server.arrival import admit, connect, fetch_results, let_go
from bridge.server.facts import CallFacts
from bridge.server.logs import get_logger
from bridge.server.metrics import HopHistogram
from bridge.server.sockets import MediaSocket, discard

if TYPE_CHECKING:
    from bridge.server.service import Bridge

MEASURE_EVERY_S = 0.15
"""Of the caller's audio messages one is timed in so long: six a second and call fill a histogram just as well."""

TIMER_GRAIN_S = 0.001
"""The event loop's timers count milliseconds; a shorter wait would spin."""


class AgentEnd:
    """The agent's socket, reporting to its session."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    def on_open(self, socket: MediaSocket) -> None:
        """See ``SocketOwner``."""
        self._session.agent_open(socket)

    def on_message(self, message: str | bytes) -> None:
        """See ``SocketOwner``."""
        self._session.from_agent(message)

    def on_lost(self, code: int, words: str) -> None:
        """See ``SocketOwner``."""
        self._session.agent_lost(code, words)

    def on_writable(self, writable: bool) -> None:
        """See ``SocketOwner``."""
        self._session.agent_writable(writable)


class Session:
    """One carrier socket and the call that comes over it. A ``SocketOwner`` of the carrier's socket."""

    __slots__ = (
        "_agent",
        "_agent_to_caller",
        "_caller_to_agent",
        "_carrier",
        "_finished",
        "_loop",
        "_measure_next_s",
        "_pings",
        "_relay",
        "_send_to_agent",
        "_task",
        "_timer",
        "_timer_at_s",
        "admitted_s",
        "bridge",
        "call",
        "call_id",
        "facts",
        "log",
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
        self.call = Call(leg, spec, bridge.call_options, Conversation(bridge.conversation_options))
        self._relay = leg.relay
        self._send_to_agent: Callable[[str], None] = discard
        self._measure_next_s = now
        self._carrier: MediaSocket | None = None
        self._agent: MediaSocket | None = None
        self._task: asyncio.Task[None] | None = None  # what the call waits for, one thing at a time
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
            if relayed:
                self._send_to_agent(relayed)
                if started >= self._measure_next_s:
                    self._measure_next_s = started + MEASURE_EVERY_S
                    self._caller_to_agent.observe(monotonic() - started)
        except Exception:  # the boundary where a bug of ours must not take other calls along
            self._bug()

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
        if self.call.state is not State.ENDED:
            self.step(lambda now: self.call.fail(outcome.CARRIER_LOST, f"close {code}", now))

    def on_writable(self, writable: bool) -> None:
        """The carrier's socket is stuck, or moves again."""
        self.log.info("carrier_writable" if writable else "carrier_stuck")
        self.step(lambda now: self.call.set_carrier_writable(writable, now))

    # --- the agent's socket ---

    def agent_open(self, socket: MediaSocket) -> None:
        """The agent's socket is open."""
        self._agent, self._send_to_agent = socket, socket.send_text
        if self.call.state is State.ENDED:
            socket.close()

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
            next_timer_s = call.playout_timer() if relayed else call.next_timer()
            if next_timer_s < self._timer_at_s:
                self._arm(next_timer_s)
        except Exception:  # as above
            self._bug()

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

    # --- inside: one step ---

    def step(self, act: Callable[[float], None]) -> None:
        """Do something to the call, write what follows from it, and carry out what it asks for."""
        try:
            act(monotonic())
            self._flush()
        except Exception:  # as above
            self._bug()

    def _flush(self) -> None:
        """Write what both halves want to send, do what the call asks for, and set the timer."""
        call = self.call
        for item in call.leg.drain():
            self._to_carrier(item)
        for message in call.conversation.drain():
            self._to_agent(message)
        for effect in call.drain():
            self._carry_out(effect)
        next_timer_s = call.next_timer()
        if next_timer_s < self._timer_at_s:
            self._arm(next_timer_s)

    def _to_carrier(self, item: Outgoing) -> None:
        socket = self._carrier
        if socket is None:
            return
        if isinstance(item, str):
            socket.send_text(item)
        elif isinstance(item, bytes):
            socket.send_binary(item)
        elif isinstance(item, CloseSocket):
            socket.close(item.code, item.reason)
        else:
            assert isinstance(item, HttpRequest)
            self.log.error("carrier_request_not_supported", method=item.method)

    def _to_agent(self, message: str | CloseSocket) -> None:
        socket = self._agent
        if socket is None:
            return
        if isinstance(message, str):
            socket.send_text(message)
        else:
            socket.close(message.code, message.reason)

    # --- inside: what the call asks for ---

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Note(event, detail):
                self._on_note(event, detail)
            case AskAdmission(info):
                self._begin(lambda: admit(self, info))
            case ConnectAgent(info):
                self._begin(lambda: connect(self, info, AgentEnd(self)))
            case FetchResults(conversation_id):
                self._begin(lambda: fetch_results(self, conversation_id))
            case TransferPlanned(target):
                self.bridge.chronicle.transferred(self, target)
            case Finished(reason, detail):
                self._finish(reason, detail)

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait for something beside the call; it asks for one thing at a time, and may end before that begins."""
        self._task = self._loop.create_task(self._guard(work))

    async def _guard(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except Exception:  # as above
            self._bug()

    def let_in(self) -> None:
        """The call has its slot."""
        bridge, provider = self.bridge, self.spec.name
        self.admitted_s = monotonic()
        bridge.metrics.calls_started.labels(provider, "yes" if self.facts.is_burst else "no").inc()
        bridge.metrics.calls_active.labels(provider).inc()
        route = self.facts.route
        self.log.info("call_started", admission=self.facts.admission, agent_id=route.agent_id if route else "")
        self.step(self.call.admit)
        if not self._finished:
            begin_recording(self)
            bridge.chronicle.began(self)

    def _on_note(self, event: str, detail: str) -> None:
        if event == "agent_ready":
            self.facts.answered_at = time.time()
            self.bridge.metrics.agent_connect.observe(monotonic() - self.admitted_s)
            self.log = self.log.bind(conversation_id=self.call.conversation_id)
            self.bridge.chronicle.answered(self)
        self.log.info(event, detail=detail)
        if self.bridge.observer is not None:
            self.bridge.observer.noted(self, event, detail)

    def _finish(self, reason: EndReason, detail: str) -> None:
        """The call's end, once: slot, task, counters, record, log line. The leg may still have to say good-bye."""
        if self._finished:
            return
        self._finished = True
        bridge, provider, facts = self.bridge, self.spec.name, self.facts
        facts.end, facts.end_detail, facts.ended_at = reason, detail, time.time()
        duration_s = 0.0
        if self.admitted_s != math.inf:
            duration_s = monotonic() - self.admitted_s
            bridge.metrics.calls_active.labels(provider).dec()
            bridge.metrics.call_duration.labels(provider).observe(duration_s)
            bridge.chronicle.ended(self)
            bridge.after(self._loop.create_task(conclude(self)))
        elif self.call.info is not None:
            bridge.chronicle.refused(self)
            bridge.after(self._loop.create_task(let_go(self, self.call.info)))
        bridge.call_over(self, reason)
        for waiting in (self._task, self._timer):
            if waiting is not None:
                waiting.cancel()
        self._timer, self._timer_at_s = None, math.inf  # a leg with a parting of its own arms another
        bridge.metrics.call_ended(provider, reason, self.call.stats, facts.caller_to_agent, facts.agent_to_caller)
        log = self.log.info if reason.result is Result.SUCCESS else self.log.warning
        log(
            "call_ended",
            result=reason.result.value,
            reason=reason.reason,
            detail=detail,
            advice=reason.advice,
            duration_s=round(duration_s, 3),
            **{name: value for name, value in self.call.stats.as_dict().items() if value},
        )

    def _bug(self) -> None:
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
            self._finish(outcome.BUG, "see the tracebacks above")

    # --- inside: time ---

    def _arm(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at_s = at_s
        self._timer = self._loop.call_later(max(at_s - monotonic(), TIMER_GRAIN_S), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at_s = math.inf
        self.step(self.call.handle_timer)
