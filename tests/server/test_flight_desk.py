"""From a session to its flight record: what the record says, when it is written, and what is asked of it meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge import __version__, outcome
from bridge.calls.call import Call
from bridge.calls.flight import Flight
from bridge.calls.flight_file import FlightHeader, decode_flight
from bridge.calls.keypad import KeypadOptions
from bridge.calls.options import CallOptions
from bridge.replay import replay
from bridge.server.flight_desk import FlightDesk, begin_header, redacts_digits
from bridge.server.flights import FlightFileOptions, Flights, FlightsKept, NoFlightError
from tests.kit import twilio
from tests.kit.calls import LEG_OPTIONS, OPTIONS
from tests.kit.flights import CONVERSATION, RecordedLine


@dataclass
class FakeSession:
    call: Call
    flight: Flight | None
    flight_header: FlightHeader | None
    call_id: str = "c1"


def session_of(line: RecordedLine) -> FakeSession:
    header = begin_header(line.spec, line.flight, 1000.5, LEG_OPTIONS, CONVERSATION, line.options)
    return FakeSession(line.call, line.flight, header)


class Desk:
    """A desk with one call in progress."""

    def __init__(self, folder: Path, line: RecordedLine, *, redact: bool = False, kept: str = "errors") -> None:
        self.flights = Flights(FlightFileOptions(folder, FlightsKept(kept)))
        self.session = session_of(line)
        self.live = {"c1": self.session}
        self.desk = FlightDesk(self.flights, self.live.get, lambda: redact)


def talked(options: CallOptions = OPTIONS) -> RecordedLine:
    line = RecordedLine(options=options)
    line.activate()
    line.carrier(twilio.dtmf("8"))
    return line


async def test_a_call_that_ends_badly_leaves_a_record_that_replays(tmp_path: Path) -> None:
    line = talked()
    desk = Desk(tmp_path, line)
    line.fail(outcome.AGENT_LOST, "x")
    assert await desk.desk.over(desk.session, outcome.AGENT_LOST, "x")
    desk.live.clear()
    log = decode_flight(await desk.desk.flight("c1"))
    header = log.header
    assert (header.bridge, header.call_id, header.created_at) == (__version__, "c1", 1000.5)
    assert (header.result, header.reason, header.detail) == ("upstream_error", "agent_lost", "x")
    assert (header.carrier_format, header.agent_formats) == ("ulaw_8000", ["ulaw_8000", "ulaw_8000"])
    assert replay(log).is_same
    await desk.flights.aclose()


async def test_a_call_that_ends_well_leaves_none(tmp_path: Path) -> None:
    line = talked()
    desk = Desk(tmp_path, line)
    line.carrier(twilio.STOP)
    assert not await desk.desk.over(desk.session, outcome.CALLER_HANGUP, "stop")
    desk.live.clear()
    with pytest.raises(NoFlightError):
        await desk.desk.flight("c1")
    await desk.flights.aclose()


async def test_a_call_in_progress_shows_what_there_is_and_is_written_at_its_end(tmp_path: Path) -> None:
    line = talked()
    desk = Desk(tmp_path, line)
    so_far = decode_flight(await desk.desk.flight("c1"))
    assert so_far.header.result == ""
    assert replay(so_far).is_same
    line.carrier(twilio.STOP)
    assert await desk.desk.over(desk.session, outcome.CALLER_HANGUP, "stop")
    await desk.flights.aclose()


async def test_a_call_before_its_offer(tmp_path: Path) -> None:
    desk = Desk(tmp_path, RecordedLine())
    header = decode_flight(await desk.desk.flight("c1")).header
    assert (header.carrier_format, header.agent_formats) == ("", [])
    await desk.flights.aclose()


async def test_the_recorder_may_be_off(tmp_path: Path) -> None:
    desk = Desk(tmp_path, talked(), kept="all")
    desk.session.flight = None
    assert not await desk.desk.over(desk.session, outcome.BUG, "")
    with pytest.raises(NoFlightError, match="the flight recorder is off"):
        await desk.desk.flight("c1")
    await desk.flights.aclose()


async def test_digits_and_numbers_stay_out(tmp_path: Path) -> None:
    desk = Desk(tmp_path, talked(CallOptions(1000, 60_000, keypad=KeypadOptions(redact=True))), redact=True)
    log = decode_flight(await desk.desk.flight("c1"))
    assert (log.header.digits_elided, log.header.numbers_masked) == (True, True)
    assert '"digit":"8"' not in "".join(entry.text for entry in log.entries)
    await desk.flights.aclose()


def test_the_routes_word_on_digits_counts_as_well() -> None:
    line = talked()
    session = session_of(line)
    assert session.flight_header is not None
    assert not redacts_digits(session.flight_header, line.flight.snapshot())
    line.call.configure(CallOptions(1000, 60_000, keypad=KeypadOptions(redact=True)))
    assert redacts_digits(session.flight_header, line.flight.snapshot())
