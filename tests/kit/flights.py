"""Calls on the table with a flight recorder, and records replayed: a file of a call that went wrong becomes a test by
one line, ``assert replay_file(path).is_same``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bridge.calls.flight import FlightOptions, new_flight
from bridge.calls.flight_file import FlightHeader, FlightLog, decode_flight, encode_flight, request_of
from bridge.calls.flight_privacy import Privacy
from bridge.calls.flight_steps import RecordedCall, plain_options
from bridge.calls.options import CallOptions
from bridge.convai.protocol import ConversationOptions
from bridge.leg import CarrierSpec, UpgradeRequest
from bridge.providers.twilio import SPEC
from bridge.replay import ReplayResult, replay
from tests.kit import twilio
from tests.kit.calls import LEG_OPTIONS, OPTIONS, Line
from tests.kit.legs import REQUEST

CONVERSATION = ConversationOptions(upload_chunk_ms=20, ready_timeout_s=10.0, silence_timeout_s=30.0)


class RecordedLine(Line):
    """A call on the table that is recorded as its driver would."""

    def __init__(
        self,
        *,
        options: CallOptions = OPTIONS,
        flight: FlightOptions | None = None,
        spec: CarrierSpec = SPEC,
        request: UpgradeRequest = REQUEST,
    ) -> None:
        super().__init__(options=options, spec=spec)
        self.flight = new_flight(flight or FlightOptions(), request, self.clock.now)
        self.options = options
        leg = spec.new_leg(LEG_OPTIONS, request, self.clock.now)
        self.call = RecordedCall(leg, spec, options, self.call.conversation, self.flight)

    def carrier(self, *messages: str | bytes) -> None:
        """The carrier says this."""
        for message in messages:
            relayed = self.call.leg.relay(message, self.clock.now)
            if relayed is not None:
                self.flight.relayed(self.clock.now, message)
            else:
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
                self.flight.carrier_out(relayed)
                self.to_carrier.append(relayed)
            self.drain()

    def come_back(self, media_format: dict[str, object] | None = None) -> Line:
        """A new stream of the same call, recorded on its own until the driver hands it over."""
        other = new_flight(FlightOptions(), self.flight.request, self.clock.now)
        last = int(self.stream_sid[-1], 16) + 1
        start = twilio.start({"token": "t2"}, media_format or twilio.ULAW)
        for message in (twilio.CONNECTED, start.replace(twilio.STREAM_SID, f"{twilio.STREAM_SID[:-1]}{last:x}")):
            other.carrier_in(self.clock.now, message)
        self.flight.adopt(other)
        return super().come_back(media_format)

    def drain(self) -> None:
        """Write, and do what the call asks for, as the driver does after every step."""
        for item in self.call.leg.drain():
            self.flight.carrier_out(item)
            self.to_carrier.append(item)
        for message in self.call.conversation.drain():
            self.flight.agent_out(message)
            self.to_agent.append(message)
        self.effects += self.call.drain()

    def file(self, privacy: Privacy | None = None) -> bytes:
        """The call's flight record, as it would be written."""
        privacy = privacy or Privacy()
        header = FlightHeader(
            provider=self.spec.name,
            call_id="c1",
            opened_s=self.flight.opened_s,
            request=request_of(self.flight.request, privacy),
            leg=dataclasses.asdict(LEG_OPTIONS),
            conversation=plain_options(CONVERSATION),
            call=plain_options(self.options),
        )
        return encode_flight(self.flight.snapshot(), header, privacy)

    def log(self, privacy: Privacy | None = None) -> FlightLog:
        """The same, read again."""
        return decode_flight(self.file(privacy))


def replay_file(path: Path) -> ReplayResult:
    """Replay a flight record. Raises ``FlightFileError``."""
    return replay(decode_flight(path.read_bytes()))
