"""The recorder itself: what it remembers, its bound, and the gap where something had to go."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.flight import (
    EVENT,
    MAX_SIZES,
    MAX_TEXT_CHARS,
    PAGE_ENTRIES,
    Flight,
    FlightOptions,
    FlightWithAudio,
    Snapshot,
    kind_and_size,
    new_flight,
)
from bridge.leg import CloseSocket
from tests.kit import convai, twilio
from tests.kit.legs import REQUEST


def a_flight(max_bytes: int = 256 * 1024) -> Flight:
    return new_flight(FlightOptions(max_bytes), REQUEST, 10.0)


def told(code: int) -> Any:
    kind, size = kind_and_size(code)
    return size if kind == "relayed" else (kind, size) if size else (kind,)


def happened(snapshot: Snapshot) -> list[tuple[float, Any]]:
    """Every entry in order: size of straight caller audio, or the event."""
    out: list[tuple[float, Any]] = []
    for times, codes, events in snapshot.pages:
        left = iter(events)
        out += [(now, next(left) if code == EVENT else told(code)) for now, code in zip(times, codes, strict=True)]
        assert next(left, None) is None
    return out


def test_straight_audio_is_a_moment_and_a_size() -> None:
    flight, message = a_flight(), twilio.media(b"\x01" * 160)
    for number in range(3):
        flight.relayed(10.0 + number, message)
    form = message.replace("AQEB" * 53 + "AQ==", "")
    assert happened(flight.snapshot()) == [(10.0, ("audio_form", form)), (10.0, 160), (11.0, 160), (12.0, 160)]


@pytest.mark.parametrize("size", [30, 159, 160, 161, 162, 4000])
def test_sizes_are_exact(size: int) -> None:
    flight = a_flight()
    flight.relayed(1.0, twilio.media(bytes(size)))
    flight.relayed(2.0, bytes(size))
    flight.agent_in(3.0, convai.audio(bytes(size), 7))
    sizes = [entry for _, entry in happened(flight.snapshot())][1:]
    assert sizes[:2] == [size, size]
    assert sizes[2][:2] == ("agent_audio_in", size)


def test_what_is_no_audio_is_kept_whole() -> None:
    flight = a_flight()
    flight.carrier_in(1.0, twilio.CONNECTED)
    flight.agent_in(2.0, convai.ping(3))
    flight.carrier_out("clear")
    flight.agent_out("pong")
    flight.carrier_out(CloseSocket(1000, "bye"))
    flight.timer(4.0)
    flight.step("fail", {"detail": "x"}, 5.0)
    flight.step("set_agent_writable", {"writable": True})
    flight.note("active", "y")
    assert happened(flight.snapshot()) == [
        (1.0, ("carrier_in", twilio.CONNECTED, len(twilio.CONNECTED))),
        (2.0, ("agent_in", convai.ping(3), len(convai.ping(3)))),
        (2.0, ("carrier_out", "clear", 5)),
        (2.0, ("agent_out", "pong", 4)),
        (2.0, ("carrier_close", 1000, "bye")),
        (4.0, ("timer",)),
        (5.0, ("step", "fail", {"detail": "x"})),
        (5.0, ("step", "set_agent_writable", {"writable": True})),
        (5.0, ("note", "active", "y")),
    ]


def test_audio_that_goes_the_long_way_is_a_size_as_well() -> None:
    flight = a_flight()
    flight.carrier_in(1.0, twilio.media(b"\x01" * 160))
    flight.carrier_in(1.5, twilio.media(b"\x01" * 160))
    flight.carrier_in(2.0, b"\x01" * 320)
    flight.carrier_out(twilio.media(b"\x01" * 800))
    flight.carrier_out(b"\x01" * 800)
    flight.agent_out('{"user_audio_chunk":"' + "A" * 216 + '"}')
    kinds = [entry[:2] for _, entry in happened(flight.snapshot())]
    assert kinds[1:] == [
        ("carrier_audio_in", 160),
        ("carrier_audio_in", 160),
        ("carrier_audio_in", 320),
        ("carrier_audio_out", len(twilio.media(b"\x01" * 800))),
        ("carrier_audio_out", 800),
        ("agent_audio_out", 239),
    ]


@pytest.mark.parametrize(
    "message",
    [
        '{"type":"audio","audio_event":{"audio_base_64":"' + "A" * 400 + '","event_id":12}}',
        '{"audio_event": {"event_id": 12, "audio_base_64": "' + "A" * 400 + '"}, "type": "audio"}',
        json.dumps({"audio_event": {"audio_base_64": "A" * 400, "alignment": {"chars": ["x"] * 99}, "event_id": 12}}),
    ],
)
def test_the_event_id_of_agent_audio_wherever_it_stands(message: str) -> None:
    flight = a_flight()
    flight.agent_in(1.0, message)
    ((_, event),) = happened(flight.snapshot())
    kind, size, around = event
    assert (kind, size) == ("agent_audio_in", 300)
    assert '"event_id"' in around
    assert "12" in around


def test_agent_audio_without_an_id_and_in_binary() -> None:
    flight = a_flight()
    flight.agent_in(1.0, '{"type":"audio","audio_event":{"audio_base_64":"' + "A" * 400 + '"}}')
    flight.agent_in(2.0, b"123")
    entries = [entry for _, entry in happened(flight.snapshot())]
    assert entries[0][:2] == ("agent_audio_in", 300)
    assert entries[1] == ("agent_audio_in", 3, "")


def test_a_long_text_is_cut_and_its_length_kept() -> None:
    flight = a_flight()
    flight.agent_in(1.0, "x" * 100_000)
    assert happened(flight.snapshot()) == [(1.0, ("agent_in", "x" * MAX_TEXT_CHARS, 100_000))]


def test_the_first_page_is_kept_and_what_goes_is_counted() -> None:
    flight = a_flight(max_bytes=24 * 1024)
    for number in range(10_000):
        flight.relayed(float(number), b"\x01" * 160)
    snapshot = flight.snapshot()
    entries = happened(snapshot)
    assert entries[1] == (0.0, 160)
    assert entries[-1] == (9999.0, 160)
    assert len(entries) + snapshot.lost == 10_001
    assert len(snapshot.pages) == 4
    assert [len(times) for times, _, _ in snapshot.pages[:-1]] == [PAGE_ENTRIES] * 3


def test_a_page_of_anything_may_be_full() -> None:
    flight = a_flight()
    for number in range(2 * PAGE_ENTRIES + 1):
        flight.timer(float(number))
    entries = happened(flight.snapshot())
    assert entries == [(float(number), ("timer",)) for number in range(2 * PAGE_ENTRIES + 1)]


def test_audio_of_less_than_a_frame_is_kept_as_it_is() -> None:
    flight = a_flight()
    flight.carrier_in(1.0, twilio.media(b"\x01" * 8))
    ((_, event),) = happened(flight.snapshot())
    assert event[:2] == ("carrier_in", twilio.media(b"\x01" * 8))


def test_texts_count_as_well() -> None:
    flight = a_flight(max_bytes=100_000)
    for number in range(500):
        flight.agent_in(float(number), "x" * 5000)
    snapshot = flight.snapshot()
    kept = sum(len(event[1]) for _, _, events in snapshot.pages for event in events)
    assert 50_000 < kept < 150_000
    assert snapshot.lost > 400
    assert happened(snapshot)[0][0] == 0.0


def test_a_snapshot_does_not_change_while_the_call_goes_on() -> None:
    flight = a_flight()
    flight.note("a")
    snapshot = flight.snapshot()
    flight.note("b")
    assert len(happened(snapshot)) == 1
    assert len(happened(flight.snapshot())) == 2


def test_messages_of_many_lengths_are_measured_anew() -> None:
    flight = a_flight()
    sizes = list(range(100, 100 + 6 * MAX_SIZES, 3))
    for size in sizes:
        flight.relayed(1.0, twilio.media(bytes(size)))
    assert [entry for _, entry in happened(flight.snapshot()) if isinstance(entry, int)] == sizes


def test_another_sockets_messages_are_taken_over() -> None:
    flight, other = a_flight(), a_flight()
    other.opened_s = 20.0
    other.carrier_in(21.0, twilio.CONNECTED)
    other.relayed(21.5, twilio.media(bytes(160)))
    other.timer(22.0)
    flight.adopt(other)
    flight.relayed(23.0, twilio.media(bytes(160)))
    entries = happened(flight.snapshot())
    kinds = [(now, entry[0] if isinstance(entry, tuple) else entry) for now, entry in entries]
    assert kinds == [(20.0, "leg"), (21.0, "leg_in"), (23.0, "audio_form"), (23.0, 160)]


def test_with_audio_the_payloads_are_kept() -> None:
    flight = new_flight(FlightOptions(keep_audio=True), REQUEST, 10.0)
    assert isinstance(flight, FlightWithAudio)
    flight.relayed(1.0, twilio.media(b"\0" * 30))
    flight.carrier_in(2.0, b"\1\2")
    flight.carrier_in(3.0, twilio.CONNECTED)
    flight.agent_in(4.0, '{"audio_event":{"audio_base_64":"' + "A" * 40 + '","event_id":5}}')
    assert [entry for _, entry in happened(flight.snapshot())][1:] == [
        ("relayed_whole", "A" * 40, 30),
        ("carrier_audio_in_whole", b"\1\2", 2),
        ("carrier_in", twilio.CONNECTED, len(twilio.CONNECTED)),
        ("agent_audio_in_whole", "A" * 40, 30, '","event_id":5}}'),
    ]


METHODS = st.sampled_from(["relayed", "carrier_in", "agent_in"])


@given(st.lists(st.tuples(METHODS, st.text() | st.binary()), max_size=60))
def test_any_message_is_taken(messages: list[tuple[str, str | bytes]]) -> None:
    flight = a_flight(max_bytes=20_000)
    for number, (method, message) in enumerate(messages):
        getattr(flight, method)(float(number), message)
    assert [now for now, _ in happened(flight.snapshot())] == sorted(now for now, _ in happened(flight.snapshot()))
