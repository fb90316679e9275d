"""The driver of one call: two sockets, one timer, one ``Call``.

The whole media path is here, in two methods: ``_from_carrier`` and ``_from_agent``. Each feeds the call, writes
what both halves want to send, and does what the call asks for, in one synchronous step inside the socket's own
callback. Nothing is awaited and nothing is logged per frame.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from bridge import outcome
from bridge.calls.call import Call, CallOptions
from bridge.calls.effects import AskAdmission, ConnectAgent, Effect, Finished, Note
from bridge.calls.state import State
from bridge.convai.messages import InitiationData
from bridge.convai.protocol import Conversation, ConversationOptions
from bridge.events import CallInfo
from bridge.leg import CarrierSpec, CloseSocket, HttpRequest, LegOptions, Outgoing, UpgradeRequest
from bridge.outcome import EndReason
from bridge.server.convai_client import AgentConnectError, AgentTarget
from bridge.server.logs import get_logger
from bridge.server.sockets import MediaSocket, discard

if TYPE_CHECKING:
    from bridge.server.service import Bridge

MEASURE_EVERY_S = 0.15
"""Of the caller's audio messages one is timed in so long: six a second and call fill a histogram just as well."""

TIMER_GRAIN_S = 0.001
"""The event loop's timers count milliseconds; a shorter wait would spin."""


class _AgentEnd:
    """The agent's socket, reporting to its session."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    def on_open(self, socket: MediaSocket) -> None:
        self._session.agent_open(socket)

    def on_message(self, message: str | bytes) -> None:
        self._session.from_agent(message)

    def on_lost(self, code: int, words: str) -> None:
        self._session.agent_lost(code, words)

    def on_writable(self, writable: bool) -> None:
        self._session.agent_writable(writable)


class Session:
    """One carrier socket and the call that comes over it. A ``SocketOwner`` of the carrier's socket."""

    __slots__ = (
        "_admitted_s",
        "_agent",
        "_agent_to_caller",
        "_bridge",
        "_caller_to_agent",
        "_carrier",
        "_connecting",
        "_finished",
        "_log",
        "_loop",
        "_measure_next_s",
        "_relay",
        "_pings",
        "_send_to_agent",
        "_spec",
        "_timer",
        "_timer_at_s",
        "call",
        "call_id",
        "started_s",
    )

    def __init__(self, bridge: Bridge, spec: CarrierSpec, request: UpgradeRequest, call_id: str) -> None:
        settings = bridge.settings
        now = monotonic()
        self._bridge = bridge
        self._caller_to_agent = bridge.metrics.caller_to_agent
        self._agent_to_caller = bridge.metrics.agent_to_caller
        self._spec = spec
        self.call_id = call_id
        self.started_s = now
        self._log: Any = get_logger(call_id=call_id, provider=spec.name)
        self._loop = asyncio.get_running_loop()
        leg = spec.new_leg(LegOptions(settings.start_timeout_s, settings.carrier_silence_s), request, now)
        conversation = Conversation(
            ConversationOptions(settings.upload_chunk_ms, settings.agent_ready_timeout_s, settings.agent_silence_s)
        )
        options = CallOptions(settings.caller_buffer_ms, int(settings.playout_queue_s * 1000))
        self.call = Call(leg, spec, options, conversation)
        self._relay = leg.relay
        self._send_to_agent: Callable[[str], None] = discard
        self._measure_next_s = now
        self._carrier: MediaSocket | None = None
        self._agent: MediaSocket | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._admitted_s = math.inf  # when the call was let in; inf = it was not
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = math.inf
        self._pings = 0  # pings of the agent that are in the histogram
        self._finished = False

    # --- the carrier's socket ---

    def on_open(self, socket: MediaSocket) -> None:
        """The carrier's socket is open."""
        self._carrier = socket
        self._log.debug("carrier_connected")
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
        self._step(lambda now: self.call.carrier_lost(code, now))
        if self.call.state is not State.ENDED:
            self._step(lambda now: self.call.fail(outcome.CARRIER_LOST, f"close {code}", now))

    def on_writable(self, writable: bool) -> None:
        """The carrier's socket is stuck, or moves again."""
        self._log.info("carrier_writable" if writable else "carrier_stuck")
        self._step(lambda now: self.call.set_carrier_writable(writable, now))

    # --- the agent's socket ---

    def agent_open(self, socket: MediaSocket) -> None:
        """The agent's socket is open."""
        self._agent, self._send_to_agent = socket, socket.send_text
        if self.call.state is State.ENDED:
            socket.close()
            return
        info = self.call.info
        assert info is not None
        self._step(lambda now: self.call.agent_connected(_initiation(info), now))

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
            next_timer_s = call.playout_timer()
            if next_timer_s < self._timer_at_s:
                self._arm(next_timer_s)
        except Exception:  # as above
            self._bug()

    def _measure_agent_event(self, started: float) -> None:
        """Time what is timed of the rarer messages: the reaction to an interruption, and pings."""
        call, stats = self.call, self.call.stats
        if call.flushed:
            call.flushed = False
            self._bridge.metrics.interruption_to_clear.observe(monotonic() - started)
        if stats.agent_pings != self._pings:
            self._pings = stats.agent_pings
            if stats.agent_round_trip_ms is not None:
                self._bridge.metrics.agent_round_trip.observe(stats.agent_round_trip_ms / 1000)

    def agent_lost(self, code: int, words: str) -> None:
        """The agent's socket is gone."""
        self._agent, self._send_to_agent = None, discard
        self._step(lambda now: self.call.agent_lost(code, words, now))

    def agent_writable(self, writable: bool) -> None:
        """The agent's socket is stuck, or moves again."""
        self._log.info("agent_writable" if writable else "agent_stuck")
        self._step(lambda now: self.call.set_agent_writable(writable))

    # --- the operator ---

    def end(self, reason: EndReason, detail: str = "") -> None:
        """End the call from outside."""
        self._step(lambda now: self.call.fail(reason, detail, now))

    # --- inside: one step ---

    def _step(self, act: Callable[[float], None]) -> None:
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
            self._log.error("carrier_request_not_supported", method=item.method)

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
                self._admit(info)
            case ConnectAgent(info):
                self._connecting = self._loop.create_task(self._connect_agent(info))
            case Finished(reason, detail):
                self._finish(reason, detail)

    def _admit(self, info: CallInfo) -> None:
        self._log = self._log.bind(call_sid=info.call_sid)
        refusal = self._bridge.admit(self, info, self._spec)
        now = monotonic()
        if refusal is not None:
            self.call.refuse(*refusal, now)
        else:
            self._admitted_s = now
            self._bridge.metrics.calls_started.labels(self._spec.name).inc()
            self._bridge.metrics.calls_active.labels(self._spec.name).inc()
            self._log.info("call_started")
            self.call.admit(now)
        self._flush()

    async def _connect_agent(self, info: CallInfo) -> None:
        try:
            await self._bridge.agents.connect(AgentTarget(self._bridge.agent_for(info)), _AgentEnd(self))
        except AgentConnectError as error:
            failure = error  # ``error`` is gone when the lambda runs
            self._step(lambda now: self.call.fail(failure.reason, failure.detail, now))
        except asyncio.CancelledError:
            raise
        except Exception:  # as above
            self._bug()

    def _on_note(self, event: str, detail: str) -> None:
        if event == "agent_ready":
            self._bridge.metrics.agent_connect.observe(monotonic() - self._admitted_s)
            self._log = self._log.bind(conversation_id=self.call.conversation_id)
        self._log.info(event, detail=detail)
        if self._bridge.observer is not None:
            self._bridge.observer.noted(self, event, detail)

    def _finish(self, reason: EndReason, detail: str) -> None:
        """The call's end, once: slot, timer, task, counters, log line."""
        if self._finished:
            return
        self._finished = True
        bridge, provider = self._bridge, self._spec.name
        bridge.call_over(self, reason)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at_s = -math.inf  # nothing is armed any more
        if self._connecting is not None:
            self._connecting.cancel()
        duration_s = 0.0
        if self._admitted_s != math.inf:
            duration_s = monotonic() - self._admitted_s
            bridge.metrics.calls_active.labels(provider).dec()
            bridge.metrics.call_duration.labels(provider).observe(duration_s)
        bridge.metrics.call_ended(provider, reason, self.call.stats)
        log = self._log.info if reason.result.value == "success" else self._log.warning
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
        self._log.exception("bug")
        try:
            self.call.fail(outcome.BUG, "see the traceback above", monotonic())
            self._flush()
        except Exception:  # ending properly failed too: nothing is left but to let go
            self._log.exception("bug_while_ending")
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
        self._step(self.call.handle_timer)


def _initiation(info: CallInfo) -> InitiationData:
    """What the agent is told of the call, under names of our own (``system__`` ones are the vendor's)."""
    known = {"caller_id": info.caller, "called_number": info.called, "call_sid": info.call_sid}
    return InitiationData(
        dynamic_variables={name: value for name, value in known.items() if value},
        source_info={"source": "telephony-bridge"},
    )
