"""The server side of the convai WebSocket, sans-I/O: a strict, scripted, but reactive agent.

Theory of operation. The client's initiation message starts the conversation: metadata goes out, then the steps of
the scenario run one after the other, each until it is done (a turn: all its audio sent; a wait: time or event).
Aside from the steps the agent pings, measures round trips, and listens: a talk detector on the caller's audio finds
talkspurts. One that starts while the agent's own speech still plays (by the real-time estimate; the agent cannot
know) is a barge-in: ``interruption`` with the event_id of the turn, ``agent_response_correction``, and then, on
purpose, some audio of the dead turn, as it comes when messages cross on the wire. A talkspurt that ends satisfies
``WaitForCaller``.

What the client does against the contract goes to the log; in strict mode it also ends the conversation, with an
``error`` message and close 1008.

Not an agent: texts are canned, nothing is recognised. Sources: as in ``agent_wire``.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from bridge.media.format import ULAW_8K, MediaFormat
from bridge.media.transcode import Transcoder
from bridge.simulators import agent_wire as wire
from bridge.simulators.agent_log import ConversationLog
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_outbox import AgentAction, Outbox
from bridge.simulators.agent_player import Player
from bridge.simulators.agent_scenarios import Scenario
from bridge.simulators.talk import END_MS, Talk, TalkDetector

INVALID_MESSAGE_CODE = 1008
"""Close code for everything that is the client's doing (contract: "Input/contract error")."""

LENIENT_START_S = 1.0
"""A lenient agent starts with its defaults when nothing has come for so long."""

MAX_OPEN_PINGS = 100
"""Pings that may be unanswered before the oldest is forgotten."""

ECHO_EVENT_ID = 1
"""Turn to which all echoed audio belongs."""

_SHOWN_CHARS = 80
"""How much of a wrong value is repeated in a violation."""


class AgentProtocol:
    """One conversation. Feed with ``receive``, ``connection_lost``, ``handle_timer``; then carry out ``drain``."""

    def __init__(self, scenario: Scenario, options: AgentOptions, log: ConversationLog, now: float) -> None:
        self.log = log
        self._scenario, self._options = scenario, options
        self._input_name = scenario.input_format or options.input_format
        self._output_name = scenario.output_format or options.output_format
        self._input, self._output = _known(self._input_name), _known(self._output_name)
        self._outbox = Outbox(log, self._output)
        self._player = Player(scenario, options, self._output, self._outbox, self._send_ping)
        self._echo = Transcoder(self._input, self._output) if scenario.echo else None
        self._detector = TalkDetector(self._input)
        self._began = False
        self._opened_s = self._last_input_s = self._last_audio_s = self._talk_started_s = now
        self._ping_due_s = math.inf
        self._ping_id = 0
        self._ping_ms: int | None = None
        self._open_pings: dict[int, float] = {}
        log.started_s, log.scenario, log.keep_audio = now, scenario.name, options.keep_audio

    # --- the driver's side -------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether the conversation is over; nothing comes after what is still to be drained."""
        return self._outbox.finished

    def drain(self) -> list[AgentAction]:
        """Take what the driver is to do now, in order."""
        return self._outbox.drain()

    def next_timer(self) -> float:
        """When ``handle_timer`` is to be called next; inf = never."""
        if self.finished:
            return math.inf
        if not self._began:
            return self._opened_s + (self._options.init_timeout_s if self._options.strict else LENIENT_START_S)
        times = [self._ping_due_s, self._player.next_timer()]
        if self._detector.talking:
            times.append(self._last_audio_s + END_MS / 1000)
        if self._scenario.alive:
            times.append(self._last_input_s + self._options.receive_timeout_s)
        return min(times)

    def handle_timer(self, now: float) -> None:
        """Let time pass."""
        if self.finished or now < self.next_timer():
            return
        if not self._began:
            self._initiation_missing(now)
            return
        if self._detector.talking and now >= self._last_audio_s + END_MS / 1000:
            self._on_talk(self._detector.stop(), now)
        if self._scenario.alive and now >= self._last_input_s + self._options.receive_timeout_s:
            text = f"No user input for {self._options.receive_timeout_s:g} s"
            self._outbox.send("error", wire.error(1002, text, "transport_receive_timeout"))
            self._outbox.close(1002, text, now)
            return
        if now >= self._ping_due_s:
            self._send_ping(now)
        self._player.run(now)

    def receive(self, message: str | bytes, now: float) -> None:
        """Feed one message of the client."""
        if self.finished:
            return
        try:
            parsed = wire.read_client_message(message)
        except wire.WireViolation as violation:
            self._violate(violation.error_type, violation.text, now)
            return
        if not self._began and not self._begin_with(parsed, now):
            return
        if isinstance(parsed, wire.UserAudio):
            self._on_audio(parsed, now)
        else:
            # Noted as it came: with fields that the contract does not know, without defaults for absent ones.
            self._on_message(parsed, msgspec.json.decode(message), now)
        self._player.run(now)

    def connection_lost(self, code: int, reason: str, now: float) -> None:
        """Say that the socket is gone."""
        self.log.close("client", code, reason, now)
        self._outbox.finished = True

    # --- beginning and end -------------------------------------------------------------------------------

    def _initiation_missing(self, now: float) -> None:
        if self._options.strict:
            text = f"no conversation_initiation_client_data within {self._options.init_timeout_s:g} s"
            self._violate("missing_fields", text, now)
        else:
            self.log.violate("no conversation_initiation_client_data; started with defaults")
            self._begin(now)
            self._player.run(now)

    def _begin_with(self, parsed: wire.ClientMessage, now: float) -> bool:
        """Start the conversation with the client's first message; False if it may not be the first."""
        if isinstance(parsed, wire.Initiation):
            conversation = parsed.conversation_config_override.get("conversation") or {}
            self._outbox.wanted = frozenset(conversation.get("client_events") or ())
        else:
            kind = "user_audio_chunk" if isinstance(parsed, wire.UserAudio) else parsed.__struct_config__.tag
            text = f"first message is {kind}, not conversation_initiation_client_data"
            self._violate("invalid_message", text, now)
            if self._options.strict:
                return False
        self._begin(now)
        return True

    def _begin(self, now: float) -> None:
        self._began = True
        self._last_input_s = now
        if self._scenario.metadata:
            text = wire.metadata(self.log.conversation_id, self._output_name, self._input_name)
            self._outbox.send("conversation_initiation_metadata", text)
        if self._scenario.alive:
            self._send_ping(now)

    def _violate(self, error_type: str, text: str, now: float) -> None:
        self.log.violate(text)
        if self._options.strict:
            self._outbox.send("error", wire.error(INVALID_MESSAGE_CODE, text, error_type))
            self._outbox.close(INVALID_MESSAGE_CODE, text, now)

    def _send_ping(self, now: float) -> None:
        self._ping_due_s = now + self._options.ping_interval_s
        self._ping_id += 1
        self._open_pings[self._ping_id] = now
        if len(self._open_pings) > MAX_OPEN_PINGS:
            del self._open_pings[next(iter(self._open_pings))]
        self.log.pings_sent += 1
        self._outbox.send("ping", wire.ping(self._ping_id, self._ping_ms))

    # --- what comes from the client ----------------------------------------------------------------------

    def _on_audio(self, audio: wire.UserAudio, now: float) -> None:
        self.log.add_audio(audio.payload, now)
        self._last_input_s = self._last_audio_s = now
        if len(audio.payload) % self._input.bytes_per_sample:
            text = f"user_audio_chunk of {len(audio.payload)} bytes is no whole number of {self._input_name} samples"
            self._violate("invalid_message", text, now)
        elif self._echo is None:
            self._on_talk(self._detector.feed(audio.payload), now)
        elif self._input == self._output:
            self._outbox.speak(audio.payload, ECHO_EVENT_ID, audio_base64=audio.base64)
        elif payload := self._echo.process(audio.payload):
            self._outbox.speak(payload, ECHO_EVENT_ID)

    def _on_talk(self, changes: list[Talk], now: float) -> None:
        for change in changes:
            if change is Talk.STARTED:
                self._talk_started_s = now
                self._player.caller_started(now)
            else:
                self.log.talkspurts.append((self._talk_started_s, now))
                self._player.caller_finished()

    def _on_message(self, message: wire.TypedMessage, fields: dict[str, Any], now: float) -> None:
        if isinstance(message, wire.Pong):
            self._on_pong(message.event_id, now)
            return
        self.log.add_message(fields.pop("type"), fields, now)
        match message:
            case wire.Initiation():
                if self.log.initiation is not None:
                    self._violate("invalid_message", "conversation_initiation_client_data came twice", now)
                self.log.initiation = fields
            case wire.ToolResult():
                if not self._player.tool_result(message, now):
                    shown = repr(message.tool_call_id[:_SHOWN_CHARS])
                    self._violate("value_error", f"client_tool_result for {shown}, which is no open call", now)
            case wire.UserMessage() | wire.MultimodalMessage():
                self._last_input_s = now
                self._player.caller_finished()
            case wire.UserActivity():
                self._last_input_s = now
            case _:
                pass  # the log has it; a scripted agent can do nothing about it

    def _on_pong(self, event_id: int, now: float) -> None:
        sent_s = self._open_pings.pop(event_id, None)
        if sent_s is None:
            self._violate("value_error", f"pong with event_id {event_id} answers no open ping", now)
            return
        self.log.pongs += 1
        self.log.round_trip_ms.append((now - sent_s) * 1000)
        self._ping_ms = math.ceil((now - sent_s) * 1000)


def _known(name: str) -> MediaFormat:
    """The format of this name; mu-law for one that is announced only to see what the client makes of it."""
    try:
        return MediaFormat.parse(name)
    except ValueError:
        return ULAW_8K
