"""Between calls and the folder of flight records: what a record says of its call, when it is written, who may have it.

A session brings its recorder (``bridge.calls.flight``) and what it began with; here is what follows from its end, and
what ``GET /v1/calls/{id}/flight`` answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import msgspec

from bridge import __version__
from bridge.calls.call import Call
from bridge.calls.flight import Flight, Snapshot
from bridge.calls.flight_file import FlightHeader, request_of
from bridge.calls.flight_privacy import Privacy
from bridge.calls.flight_steps import plain_options
from bridge.calls.options import CallOptions
from bridge.convai.protocol import ConversationOptions
from bridge.leg import CarrierSpec, LegOptions
from bridge.outcome import EndReason
from bridge.server.flights import Flights, NoFlightError


class Flown(Protocol):
    """A session, as far as its flight record needs it."""

    call_id: str
    call: Call
    flight: Flight | None
    flight_header: FlightHeader | None


def begin_header(
    spec: CarrierSpec,
    flight: Flight,
    created_at: float,
    leg: LegOptions,
    conversation: ConversationOptions,
    call: CallOptions,
) -> FlightHeader:
    """What a replay needs to know of a call that begins. ``created_at`` is Unix seconds."""
    return FlightHeader(
        bridge=__version__,
        provider=spec.name,
        created_at=created_at,
        opened_s=flight.opened_s,
        request=request_of(flight.request, Privacy()),
        leg={**dataclasses.asdict(dataclasses.replace(leg, carrier={})), "carrier": dict(leg.carrier)},
        conversation=plain_options(conversation),
        call=plain_options(call),
    )


class FlightDesk:
    """Writes and finds the records of one process' calls."""

    def __init__(
        self, flights: Flights, live: Callable[[str], Flown | None], redact_numbers: Callable[[], bool]
    ) -> None:
        """``live`` finds a call in progress by its id; ``redact_numbers`` is the setting as it stands."""
        self._flights = flights
        self._live = live
        self._redact_numbers = redact_numbers

    async def over(self, session: Flown, reason: EndReason, detail: str) -> bool:
        """The call has ended: write its record if it is wanted. Returns whether it was written."""
        if session.flight is None or not self._flights.is_wanted(session.call_id, reason):
            return False
        snapshot, header, privacy = self._described(session, session.flight)
        header.result, header.reason, header.detail = reason.result.value, reason.reason, detail
        return await self._flights.write(snapshot, header, privacy)

    async def flight(self, call_id: str) -> bytes:
        """The record of a call, in progress or over. Raises ``NoFlightError``, ``OSError``.

        Asking for one in progress has it written at the call's end as well.
        """
        session = self._live(call_id)
        if session is None:
            return await self._flights.open(call_id)
        if session.flight is None:
            raise NoFlightError("the flight recorder is off")
        self._flights.want(call_id)
        return await self._flights.pack(*self._described(session, session.flight))

    def _described(self, session: Flown, flight: Flight) -> tuple[Snapshot, FlightHeader, Privacy]:
        """All that is taken from the call's own thread."""
        call, info = session.call, session.call.info
        snapshot = flight.snapshot()
        assert session.flight_header is not None
        header = msgspec.structs.replace(session.flight_header, call_id=session.call_id)
        if call.downlink is not None:
            header.carrier_format = call.downlink.media.name
        if call.agent_formats is not None:
            header.agent_formats = [media.name for media in call.agent_formats]
        known = (info.caller, info.called) if info is not None else ()
        return snapshot, header, Privacy(redacts_digits(header, snapshot), self._redact_numbers(), known)


def redacts_digits(header: FlightHeader, snapshot: Snapshot) -> bool:
    """Whether pressed keys must stay out: so it was when the call began, or since its route is known."""
    keypad = header.call.get("keypad", {})
    chosen = [
        event[2]["options"].keypad.redact
        for _, _, events in snapshot.pages
        for event in events
        if event[:2] == ("step", "configure")
    ]
    return bool(keypad.get("redact")) or any(chosen)
