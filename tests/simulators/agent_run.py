"""Runs the sans-I/O agent in virtual time, with the caller's voice, and collects what it sends."""

from __future__ import annotations

import base64
import json
from typing import Any

from bridge.media.format import ULAW_8K, MediaFormat
from bridge.simulators.agent_log import ConversationLog
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_outbox import Abort, CloseFrame, PauseReading
from bridge.simulators.agent_protocol import AgentProtocol
from bridge.simulators.agent_scenarios import AnyStep, Scenario, scenario_for

START_S = 100.0
INIT = {"type": "conversation_initiation_client_data"}


class AgentRun:
    """One conversation; ``sent`` holds (ms since the start, message)."""

    def __init__(
        self, *steps: AnyStep, name: str = "", scenario: Scenario | None = None, init: bool = True, **options: Any
    ) -> None:
        if scenario is None:
            scenario = scenario_for(name) if name else Scenario(name="test", steps=steps)
        settings = AgentOptions(**options)
        self.media = MediaFormat.parse(settings.input_format)
        self.now = START_S
        self.log = ConversationLog("conv_1")
        self.agent = AgentProtocol(scenario, settings, self.log, self.now)
        self.sent: list[tuple[float, dict[str, Any]]] = []
        self.raw: list[str | bytes] = []
        self.actions: list[tuple[float, CloseFrame | Abort | PauseReading]] = []
        self.answer_pings = True
        if init:
            self.send(INIT)

    def send(self, message: dict[str, Any] | str | bytes) -> None:
        self.agent.receive(json.dumps(message) if isinstance(message, dict) else message, self.now)
        self._collect()

    def send_audio(self, payload: bytes) -> None:
        self.send({"user_audio_chunk": base64.b64encode(payload).decode()})

    def advance(self, ms: float) -> None:
        end_s = self.now + ms / 1000
        while self.agent.next_timer() <= end_s:
            self.now = max(self.now, self.agent.next_timer())
            self.agent.handle_timer(self.now)
            self._collect()
        self.now = end_s

    def talk(self, payload: bytes) -> None:
        """The caller says this in real time, 20 ms at a time."""
        size = self.media.size_bytes(20)
        for start in range(0, len(payload), size):
            self.send_audio(payload[start : start + size])
            self.advance(20)

    def quiet(self, ms: int) -> None:
        self.talk(self.media.silence(self.media.size_bytes(ms)))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for _, message in self.sent if message.get("type") == kind]

    def kinds(self) -> list[str]:
        """Types in order, without pings, each run of audio as one."""
        kinds: list[str] = []
        for _, message in self.sent:
            kind = str(message.get("type"))
            if kind != "ping" and not (kind == "audio" and kinds[-1:] == ["audio"]):
                kinds.append(kind)
        return kinds

    def audio(self, event_id: int | None = None) -> bytes:
        """Audio of one turn, or all."""
        events = [message["audio_event"] for message in self.of("audio")]
        chosen = [event for event in events if event_id is None or event["event_id"] == event_id]
        return b"".join(base64.b64decode(event["audio_base_64"]) for event in chosen)

    def _collect(self) -> None:
        for action in self.agent.drain():
            at_ms = round((self.now - START_S) * 1000, 3)
            if isinstance(action, str):
                self._note(at_ms, action)
            elif isinstance(action, bytes):
                self.raw.append(action)
            else:
                self.actions.append((at_ms, action))

    def _note(self, at_ms: float, text: str) -> None:
        try:
            message = json.loads(text)
        except ValueError:
            self.raw.append(text)
            return
        self.sent.append((at_ms, message))
        if message["type"] == "ping" and self.answer_pings:
            self.agent.receive(json.dumps({"type": "pong", "event_id": message["ping_event"]["event_id"]}), self.now)


def tone_hz(ulaw: bytes) -> float:
    """Frequency of a mu-law tone, by its zero crossings."""
    signs = [byte >= 0x80 for byte in ulaw]
    crossings = sum(1 for a, b in zip(signs, signs[1:], strict=False) if a != b)
    return crossings / 2 / (len(ulaw) / ULAW_8K.rate_hz)
