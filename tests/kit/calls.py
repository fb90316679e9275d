"""A real carrier leg and a real conversation joined by a ``Call``, driven by literal messages and a fake clock."""

from __future__ import annotations

import json

from bridge.calls.call import Call
from bridge.calls.effects import AskAdmission, ConnectAgent, Effect, Finished, Heard, Note
from bridge.calls.options import CallOptions
from bridge.calls.state import State
from bridge.convai.messages import InitiationData
from bridge.convai.protocol import Conversation, ConversationOptions
from bridge.events import Offered
from bridge.leg import CarrierSpec, CloseSocket, Leg, LegOptions, Outgoing
from bridge.outcome import EndReason
from bridge.providers.twilio import SPEC
from tests.kit import convai, twilio
from tests.kit.clock import FakeClock
from tests.kit.legs import REQUEST

LEG_OPTIONS = LegOptions(start_timeout_s=5.0, silence_timeout_s=60.0)
OPTIONS = CallOptions(caller_buffer_ms=1000, playout_queue_ms=60_000)

AGAIN_ID = "conv_02second"
"""The conversation after a reconnect."""


class Line:
    """One call on the table: what goes in by name, what came out in lists.

    Each step drains as the driver does. ``to_carrier`` and ``to_agent`` hold everything that went out so far,
    ``effects`` everything that the call asked of its driver.
    """

    def __init__(
        self,
        *,
        upload_chunk_ms: int = 20,
        options: CallOptions = OPTIONS,
        leg: Leg | None = None,
        spec: CarrierSpec = SPEC,
    ) -> None:
        self.clock = FakeClock()
        self.conversation = Conversation(
            ConversationOptions(upload_chunk_ms=upload_chunk_ms, ready_timeout_s=10.0, silence_timeout_s=30.0)
        )
        self.leg = leg if leg is not None else spec.new_leg(LEG_OPTIONS, REQUEST, self.clock.now)
        self.call = Call(self.leg, spec, options, self.conversation)
        self.spec = spec
        self.stream_sid = twilio.STREAM_SID
        self.to_carrier: list[Outgoing] = []
        self.to_agent: list[str | CloseSocket] = []
        self.effects: list[Effect] = []

    # --- what happens ---

    def carrier(self, *messages: str | bytes) -> None:
        """The carrier says this."""
        for message in messages:
            relayed = self.leg.relay(message, self.clock.now)
            if relayed is None:
                relayed = self.call.relay_to_agent(message, self.clock.now)
            if relayed is None:
                self.call.carrier_message(message, self.clock.now)
            elif relayed:
                self.to_agent.append(relayed)
            self.drain()

    def agent(self, *messages: str | bytes) -> None:
        """The agent's side says this."""
        for message in messages:
            relayed = self.call.relay_to_caller(message, self.clock.now)
            if relayed is None:
                self.call.agent_message(message, self.clock.now)
            elif relayed:
                self.to_carrier.append(relayed)
            self.drain()

    def carrier_lost(self, code: int = 1006) -> None:
        """The carrier's socket goes."""
        self.call.carrier_lost(code, self.clock.now)
        self.drain()

    def agent_lost(self, code: int = 1006, words: str = "") -> None:
        """The agent's socket goes."""
        self.call.agent_lost(code, words, self.clock.now)
        self.drain()

    def carrier_writable(self, writable: bool) -> None:
        """The carrier's socket is stuck, or moves again."""
        self.call.set_carrier_writable(writable, self.clock.now)
        self.drain()

    def agent_writable(self, writable: bool) -> None:
        """The agent's socket is stuck, or moves again."""
        self.call.set_agent_writable(writable)
        self.drain()

    def fail(self, reason: EndReason, detail: str = "") -> None:
        """The driver ends the call."""
        self.call.fail(reason, detail, self.clock.now)
        self.drain()

    def refuse(self, reason: EndReason, detail: str = "") -> None:
        """Admission says no."""
        self.call.refuse(reason, detail, self.clock.now)
        self.drain()

    def run(self, seconds: float) -> None:
        """Let time pass, as a driver does."""
        self.clock.run(self, seconds)

    def tool(self, name: str, call_id: str = "t1", **parameters: object) -> None:
        """The agent calls a client tool."""
        body = {"tool_name": name, "tool_call_id": call_id, "parameters": parameters, "event_id": 7}
        self.agent(json.dumps({"type": "client_tool_call", "client_tool_call": body}))

    def answer(self, call_id: str, words: str = "done", *, is_error: bool = False) -> None:
        """The driver has the result of a tool call."""
        self.call.answer_tool(call_id, words, self.clock.now, is_error=is_error)
        self.drain()

    def speech(self, payload: bytes | None) -> None:
        """The driver has made speech, or has not."""
        self.call.give_speech(payload, self.clock.now)
        self.drain()

    def ask_heard(self) -> int:
        """The driver wants to know when everything is heard; its ticket."""
        ticket = self.call.ask_heard(self.clock.now)
        self.drain()
        return ticket

    def verdict(self, word: str) -> None:
        """The carrier's machine detection speaks."""
        self.call.machine_verdict(word, self.clock.now)
        self.drain()

    def let_leave(self, seconds: float = 10.0) -> None:
        """The driver is about to send the carrier on an errand of so long at most."""
        self.call.let_leave(self.clock.now + seconds)

    def stayed(self) -> None:
        """The errand came to nothing."""
        self.call.stayed(self.clock.now)
        self.drain()

    def stop(self) -> None:
        """The carrier ends its stream."""
        self.carrier(self._renamed(twilio.STOP))

    def leave(self, seconds: float = 10.0) -> Line:
        """The carrier's stream ends for an errand of so long at most."""
        self.let_leave(seconds)
        self.stop()
        return self

    def come_back(self, media_format: dict[str, object] | None = None) -> Line:
        """A new stream of the same call, as the driver hands it over."""
        self.leg = leg = self.spec.new_leg(LEG_OPTIONS, REQUEST, self.clock.now)
        self.stream_sid = f"{twilio.STREAM_SID[:-1]}{int(self.stream_sid[-1], 16) + 1:x}"
        start = self._renamed(twilio.start({"token": "t2"}, media_format or twilio.ULAW))
        [offered] = [*leg.receive(twilio.CONNECTED, self.clock.now), *leg.receive(start, self.clock.now)]
        assert isinstance(offered, Offered)
        self.call.take_leg(leg, offered.info, offered.media_choices[0], self.clock.now)
        self.drain()
        return self

    def say(self, payload: bytes) -> None:
        """The caller says this, in one message over the stream that there is now."""
        self.carrier(twilio.media(payload, stream_sid=self.stream_sid))

    def reached(self, *marks: str) -> None:
        """These marks come back over the stream that there is now."""
        self.carrier(*(twilio.mark(mark, stream_sid=self.stream_sid) for mark in marks))

    def _renamed(self, message: str) -> str:
        return message.replace(twilio.STREAM_SID, self.stream_sid)

    # --- how far the call has got ---

    def offer(self, media_format: dict[str, object] | None = None) -> Line:
        """The carrier offers the call."""
        self.carrier(twilio.CONNECTED, twilio.start({"token": "t1"}, media_format or twilio.ULAW))
        return self

    def admit(self) -> Line:
        """Offer, and admission says yes."""
        if self.call.state is State.WAITING:
            self.offer()
        self.call.admit(self.clock.now)
        self.drain()
        return self

    def queue(self) -> Line:
        """Offer, and admission says wait."""
        if self.call.state is State.WAITING:
            self.offer()
        self.call.hold(1, self.clock.now)
        self.drain()
        return self

    def connect(self) -> Line:
        """Admit, and the agent's socket opens."""
        if self.call.state is not State.CONNECTING:
            self.admit()
        self.call.agent_connected(InitiationData(), self.clock.now)
        self.drain()
        return self

    def activate(self, output_format: str = "ulaw_8000", input_format: str = "ulaw_8000") -> Line:
        """Connect, and the agent names its formats; what went out until here is forgotten."""
        self.connect()
        self.agent(convai.metadata(output_format, input_format))
        self.forget()
        return self

    def begin_draining(self) -> Line:
        """Activate, half a second of agent audio, and the agent says good-bye."""
        self.activate()
        self.agent(convai.audio(b"\x01" * 4000))
        self.agent_lost(1000)
        return self

    def reconnect(self, code: int = 1006) -> Line:
        """The agent's connection breaks in the middle; what went out until here is forgotten."""
        if self.call.state is State.WAITING:
            self.activate()
        self.forget()
        self.agent_lost(code)
        assert self.call.state is State.RECONNECTING
        self.conversation = self.call.conversation
        return self

    def ready_again(self, output_format: str = "ulaw_8000", input_format: str = "ulaw_8000") -> Line:
        """The second connection to the agent is made."""
        self.call.agent_connected(InitiationData(), self.clock.now)
        self.drain()
        self.agent(convai.metadata(output_format, input_format).replace(convai.CONVERSATION_ID, AGAIN_ID))
        return self

    # --- what came out ---

    def next_timer(self) -> float:
        return self.call.next_timer()

    def handle_timer(self, now: float) -> None:
        self.call.handle_timer(now)
        self.drain()

    def drain(self) -> None:
        """Write, and do what the call asks for, as the driver does after every step."""
        self.to_carrier += self.call.leg.drain()
        self.to_agent += self.call.conversation.drain()
        self.effects += self.call.drain()

    def forget(self) -> None:
        """Look only at what comes from here on."""
        self.to_carrier.clear()
        self.to_agent.clear()
        self.effects.clear()

    def state(self) -> State:
        """How far the call has got."""
        return self.call.state

    def finished(self) -> list[Finished]:
        """Every ``Finished`` so far; more than one is a bug."""
        return [effect for effect in self.effects if isinstance(effect, Finished)]

    def notes(self) -> list[Note]:
        """Every ``Note`` so far."""
        return [effect for effect in self.effects if isinstance(effect, Note)]

    def asked(self) -> list[Effect]:
        """Every decision that was asked for so far."""
        return [effect for effect in self.effects if isinstance(effect, AskAdmission | ConnectAgent)]

    def heard(self) -> list[int]:
        """Tickets that have fallen due."""
        return [effect.ticket for effect in self.effects if isinstance(effect, Heard)]

    def results(self) -> list[tuple[str, str, bool]]:
        """Tool results that the agent got: id, words, whether it is an error."""
        messages = [json.loads(item) for item in self.to_agent if isinstance(item, str)]
        found = [message for message in messages if message.get("type") == "client_tool_result"]
        return [(message["tool_call_id"], message["result"], message["is_error"]) for message in found]

    def told(self) -> list[tuple[str, str]]:
        """What the agent was told besides audio and results, by type."""
        messages = [json.loads(item) for item in self.to_agent if isinstance(item, str)]
        kinds = ("user_message", "contextual_update")
        return [(message["type"], message["text"]) for message in messages if message.get("type") in kinds]

    def played(self) -> bytes:
        """Agent audio given to the carrier."""
        return twilio.played(self.to_carrier)

    def uploaded(self) -> bytes:
        """Caller audio given to the agent."""
        return b"".join(convai.uploaded(self.to_agent))
