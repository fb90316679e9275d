"""Carries out the steps of a scenario: the agent's turns, its interruptions, its tool calls.

Time and what the caller does come from ``agent_protocol``; what is to be sent goes to the ``Outbox``.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import msgspec

from bridge.media.format import MediaFormat
from bridge.simulators import agent_wire as wire
from bridge.simulators.agent_log import ToolOutcome
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_outbox import Outbox, PauseReading
from bridge.simulators.agent_scenarios import (
    DEFAULT_SPEED,
    AnyStep,
    CallTools,
    Close,
    Drop,
    EndCall,
    Error,
    Interrupt,
    Ping,
    Raw,
    RawBinary,
    Say,
    Scenario,
    Stall,
    Wait,
    WaitForCaller,
    WaitPlayed,
)
from bridge.simulators.agent_turn import Turn

BARGE_IN_STALE_MS = 300
"""Audio of the dead turn sent after an interruption by the caller."""

MAX_STEPS_AT_ONCE = 1000
"""Steps carried out without time passing; more means a script that repeats steps which take no time."""


class Player:
    """The agent's side of one conversation, step by step."""

    def __init__(
        self,
        scenario: Scenario,
        options: AgentOptions,
        media: MediaFormat,
        outbox: Outbox,
        send_ping: Callable[[float], None],
    ) -> None:
        self._scenario, self._options, self._media, self._outbox = scenario, options, media, outbox
        self._send_ping = send_ping
        self._cursor = 0
        self._step: AnyStep | None = None
        self._step_ends_s = math.inf
        self._event_id = 0
        self._turn: Turn | None = None
        self._stale: deque[tuple[float, bytes, int]] = deque()
        self._playing_until_s = -math.inf
        self._caller_turn = False
        self._open_tools: dict[str, tuple[str, float]] = {}
        self._late_tools: dict[str, tuple[str, float]] = {}

    def next_timer(self) -> float:
        """When ``run`` is to be called next; inf = when something comes."""
        times = [self._step_ends_s]
        if self._turn:
            times.append(self._turn.next_due_s)
        if self._stale:
            times.append(self._stale[0][0])
        if isinstance(self._step, WaitPlayed):
            times.append(self._playing_until_s)
        return min(times)

    def run(self, now: float) -> None:
        """Send what is due and carry out steps until one takes time. Nothing after the end."""
        while self._stale and self._stale[0][0] <= now:
            _, chunk, event_id = self._stale.popleft()
            self._outbox.log.stale_chunks += 1
            self._outbox.speak(chunk, event_id)
        for _ in range(MAX_STEPS_AT_ONCE):
            self._send_turn(now)
            if self._outbox.finished or (self._step and not self._done(self._step, now)):
                return
            if self._step:
                self._conclude(self._step)
            self._step = self._next_step()
            if self._step is None:
                return
            self._start(self._step, now)
        self._outbox.close(1011, "the scenario repeats steps that take no time", now)

    # --- what the caller and the client do ---------------------------------------------------------------

    def caller_started(self, now: float) -> None:
        """The caller began to talk: a barge-in if the agent can still be heard."""
        if self._playing_until_s > now or (self._turn and not self._turn.exhausted):
            self._interrupt(BARGE_IN_STALE_MS, now)

    def caller_finished(self) -> None:
        """The caller has said something, by voice or in writing."""
        self._caller_turn = True

    def tool_result(self, message: wire.ToolResult, now: float) -> bool:
        """Take the result of a client tool; False if nobody asked for it."""
        call_id = message.tool_call_id
        call = self._open_tools.pop(call_id, None) or self._late_tools.pop(call_id, None)
        if call is None:
            return False
        name, asked_s = call
        took_ms = round((now - asked_s) * 1000, 1)
        outcome = ToolOutcome(name, call_id, message.result, message.is_error, took_ms)
        self._outbox.log.tool_results.append(outcome)
        return True

    # --- steps -------------------------------------------------------------------------------------------

    def _next_step(self) -> AnyStep | None:
        if self._cursor == len(self._scenario.steps):
            if self._scenario.repeat_from < 0:
                return None
            self._cursor = self._scenario.repeat_from
        self._cursor += 1
        return self._scenario.steps[self._cursor - 1]

    def _done(self, step: AnyStep, now: float) -> bool:
        match step:
            case Say():
                return self._turn is None or self._turn.exhausted
            case Wait() | Stall():
                return now >= self._step_ends_s
            case WaitForCaller():
                return self._caller_turn
            case WaitPlayed():
                return now >= self._playing_until_s
            case CallTools():
                return not self._open_tools or now >= self._step_ends_s
            case _:
                return True

    def _conclude(self, step: AnyStep) -> None:
        self._step_ends_s = math.inf
        if isinstance(step, WaitForCaller):
            self._caller_turn = False
            event_id = self._next_event()
            tentative = step.text.rpartition(" ")[0] or step.text
            self._outbox.send("tentative_user_transcript", wire.tentative_user_transcript(tentative, event_id))
            self._outbox.send("user_transcript", wire.user_transcript(step.text, event_id))
        elif isinstance(step, CallTools):
            self._outbox.log.tool_timeouts.extend(self._open_tools)
            self._late_tools.update(self._open_tools)  # a late result is no breach of the contract
            self._open_tools.clear()

    def _start(self, step: AnyStep, now: float) -> None:
        outbox = self._outbox
        match step:
            case Say():
                self._say(step, now)
            case Wait():
                self._step_ends_s = now + step.ms / 1000
            case Stall():
                self._step_ends_s = now + step.ms / 1000
                outbox.act(PauseReading(step.ms / 1000))
            case Interrupt():
                self._interrupt(step.stale_ms, now)
            case CallTools():
                self._call_tools(step, now)
            case EndCall():
                event_id = self._next_event()
                call = ("end_call", f"end_call_{event_id:08x}", "system", event_id)
                outbox.send("agent_tool_request", wire.agent_tool_request(*call))
                outbox.send("agent_tool_response", wire.agent_tool_response(*call))
            case Ping():
                self._send_ping(now)
            case Error():
                flat = step.flat
                text = wire.flat_error(step.message) if flat else wire.error(step.code, step.message, step.error_type)
                outbox.send("error", text)
            case Raw():
                outbox.act(step.text)
            case RawBinary():
                outbox.act(bytes.fromhex(step.hex))
            case Close():
                outbox.close(step.code, step.reason, now)
            case Drop():
                outbox.abort(now)
            case WaitForCaller() | WaitPlayed():
                pass  # the waiting itself is in _done

    def _next_event(self) -> int:
        self._event_id += 1
        return self._event_id

    def _say(self, say: Say, now: float) -> None:
        options = self._options
        self._caller_turn = False  # what was said before is answered by this turn
        speed = options.speed if say.speed == DEFAULT_SPEED else say.speed
        if options.odd_chunks:
            say = msgspec.structs.replace(say, odd_chunks=True)
        self._turn = Turn(say, self._next_event(), self._media, options.chunk_ms, speed, now)
        if say.text:
            self._outbox.send("agent_response", wire.agent_response(say.text, self._turn.event_id))

    def _send_turn(self, now: float) -> None:
        turn = self._turn
        if turn is None:
            return
        first = turn.sent_ms == 0
        for chunk in turn.take(now):
            # Alignment comes with some audio messages and not with others: here with the first of a spoken turn.
            timing = wire.alignment(turn.text, turn.total_ms) if first and turn.text else None
            length_ms = self._outbox.speak(chunk, turn.event_id, timing)
            self._playing_until_s = max(self._playing_until_s, now) + length_ms / 1000
            first = False

    def _interrupt(self, stale_ms: float, now: float) -> None:
        """The interruption, the correction, and late audio of the dead turn or the one before."""
        event_id = self._event_id
        self._outbox.log.interruptions.append((now, event_id))
        self._outbox.send("interruption", wire.interruption(event_id))
        unheard_ms = max(self._playing_until_s - now, 0.0) * 1000
        self._playing_until_s = now
        if self._turn is None:
            return
        if self._turn.text:
            heard = self._turn.heard_text(unheard_ms)
            correction = wire.agent_response_correction(self._turn.text, heard, self._turn.event_id)
            self._outbox.send("agent_response_correction", correction)
        for index, (due_s, chunk) in enumerate(self._turn.cut_off(stale_ms, now)):
            self._stale.append((due_s, chunk, max(self._turn.event_id - index % 2, 0)))
        self._turn = None

    def _call_tools(self, step: CallTools, now: float) -> None:
        self._step_ends_s = now + step.timeout_ms / 1000
        for call in step.calls:
            event_id = self._next_event()
            call_id = f"toolcall_{event_id}"
            self._open_tools[call_id] = (call.tool_name, now)
            self._outbox.send(
                "client_tool_call", wire.client_tool_call(call.tool_name, call_id, call.parameters, event_id)
            )
