"""Keys as RTP events: one key each, whatever the network does to them; and keys on their way out."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import LocalError, RemoteError
from bridge.sip.telephone_event import (
    EVENT_KEYS,
    Digit,
    EventBlock,
    EventPacket,
    EventReceiver,
    EventSender,
    SenderOptions,
    build_event,
    parse_events,
)

Packet = tuple[int, bytes, bool]


def payload(event: int, duration: int, is_end: bool = False) -> bytes:
    return build_event(EventBlock(event, is_end, 10, duration))


def press(event: int, start: int, duration_ms: int = 100) -> list[Packet]:
    """What a sender makes of one key: an update each 20 ms, the end three times."""
    updates = [(start, payload(event, 8 * done), done == 20) for done in range(20, duration_ms, 20)]
    return [*updates, *[(start, payload(event, 8 * duration_ms, is_end=True), False)] * 3]


def receive(packets: list[Packet], receiver: EventReceiver | None = None) -> list[Digit]:
    """Feed packets 20 ms apart, and then silence."""
    one = receiver or EventReceiver()
    digits: list[Digit] = []
    now = 0.0
    for timestamp, body, marker in packets:
        digits += one.receive(timestamp & 0xFFFFFFFF, body, marker, now)
        digits += one.tick(now)
        now += 0.02
    return digits + one.tick(now + 1.0)


def test_the_payload_both_ways() -> None:
    wire = bytes.fromhex("0b8a0320")
    assert parse_events(wire) == [EventBlock(11, True, 10, 800)]
    assert build_event(EventBlock(11, True, 10, 800)) == wire


def test_one_key() -> None:
    assert receive(press(5, 1000)) == [Digit("5", 100)]


def test_a_key_is_reported_as_soon_as_its_end_comes() -> None:
    one = EventReceiver()
    packets = press(5, 1000)
    digits = [one.receive(*packet, now=0.02 * number) for number, packet in enumerate(packets)]
    assert digits == [[], [], [], [], [Digit("5", 100)], [], []]
    assert not one.is_pressed


@pytest.mark.parametrize("key", EVENT_KEYS)
def test_every_key(key: str) -> None:
    assert receive(press(EVENT_KEYS.index(key), 77)) == [Digit(key, 100)]


def test_the_same_key_twice() -> None:
    assert receive(press(7, 0) + press(7, 1600)) == [Digit("7", 100), Digit("7", 100)]


def test_the_end_was_lost() -> None:
    assert receive(press(5, 0)[:3]) == [Digit("5", 60)]


def test_the_end_was_lost_and_the_next_key_comes() -> None:
    assert receive(press(5, 0)[:3] + press(5, 1600)) == [Digit("5", 60), Digit("5", 100)]


def test_only_one_end_came_at_all() -> None:
    assert receive(press(5, 0)[-1:]) == [Digit("5", 100)]


def test_a_lost_end_is_waited_for_a_quarter_of_a_second() -> None:
    one = EventReceiver()
    one.receive(0, payload(5, 160), True, 10.0)
    assert one.tick(10.24) == []
    assert one.is_pressed
    assert one.tick(10.25) == [Digit("5", 20)]
    assert one.tick(11.0) == []


def test_packets_that_come_after_the_key_is_over_make_no_second_one() -> None:
    one = EventReceiver()
    packets = press(5, 0)
    one.receive(*packets[0], now=0.0)
    assert one.tick(0.5) == [Digit("5", 20)]
    assert receive(packets, one) == []


def test_a_key_that_is_held_for_longer_than_a_duration_can_say() -> None:
    """Section 2.5.1.3: segments of 65535 samples, each with a timestamp of its own, and no marker."""
    first = [(100, payload(1, duration), duration == 160) for duration in (160, 32000, 65535)]
    second = [(100 + 65535, payload(1, duration), False) for duration in (160, 65535)]
    last = [(100 + 2 * 65535, payload(1, 8000, is_end=True), False)] * 3
    assert receive(first + second + last) == [Digit("1", (2 * 65535 + 8000) // 8)]
    # The updates that say that a segment is full may be lost.
    assert receive(first[:2] + second[:1] + last) == [Digit("1", (2 * 65535 + 8000) // 8)]


def test_a_late_packet_of_the_segment_before_is_no_news() -> None:
    first = [(100, payload(1, duration), duration == 160) for duration in (160, 65535)]
    second = [(65635, payload(1, 160), False), first[0], (65635, payload(1, 800, is_end=True), False)]
    assert receive(first + second) == [Digit("1", (65535 + 800) // 8)]


def test_a_sender_whose_timestamp_runs_on() -> None:
    """Seen at gateways: each packet has its own timestamp, and the duration grows all the same."""
    updates = [(160 * n, payload(3, 160 * (n + 1)), n == 0) for n in range(5)]
    ends = [(160 * (5 + n), payload(3, 960, is_end=True), False) for n in range(3)]
    assert [digit.key for digit in receive(updates + ends)] == ["3"]


def test_reordered_and_doubled_packets() -> None:
    packets = press(5, 0)
    assert receive([packets[1], packets[0], packets[4], packets[2], packets[4], packets[3]]) == [Digit("5", 100)]


def test_a_packet_of_the_key_before_does_not_end_the_present_one() -> None:
    one, two = press(5, 0), press(6, 1600)
    late = one[2]
    assert receive(one[:2] + two[:2] + [late] + two[2:]) == [Digit("5", 40), Digit("6", 100)]


def test_a_key_that_is_overtaken_whole_by_the_next_one_does_not_disturb_it() -> None:
    two = press(6, 1600)
    assert receive(two[:2] + press(5, 0) + two[2:]) == [Digit("6", 100)]


def test_the_timestamp_wraps() -> None:
    assert receive(press(5, 0xFFFFFF00) + press(6, 0xFFFFFF00 + 1600)) == [Digit("5", 100), Digit("6", 100)]


def test_several_keys_in_one_packet() -> None:
    body = payload(1, 400, True) + payload(2, 400, True) + payload(3, 80) + b"\x01"
    assert receive([(0, body, True)]) == [Digit("1", 50), Digit("2", 50), Digit("3", 10)]


def test_a_recorded_key_can_be_played_again() -> None:
    """As in the captures that come with SIPp: updates each 40 ms, the first with no duration."""
    recorded = [
        *[(13280, bytes.fromhex(f"010a{duration:04x}"), duration == 0) for duration in range(0, 2240, 320)],
        *[(13280, bytes.fromhex("018a08c0"), False)] * 3,
    ]
    one = EventReceiver()
    digits: list[Digit] = []
    for start in (0.0, 1.5, 1.9):
        for number, packet in enumerate(recorded):
            digits += one.receive(*packet, now=start + 0.04 * number)
    # The third follows within a second: to be told from late packets it would need a timestamp of its own.
    assert digits == [Digit("1", 280), Digit("1", 280)]


def test_what_is_no_key_is_counted() -> None:
    one = EventReceiver()
    assert receive([(0, payload(16, 800, True), True), (900, b"\x05\x0a\x00", True)], one) == []
    assert (one.ignored, one.malformed) == (1, 1)


def test_keys_are_not_shown() -> None:
    assert repr(Digit("5", 100)) == "Digit(duration_ms=100)"


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=12), st.booleans()), max_size=40))
def test_nothing_that_comes_raises(packets: list[Packet]) -> None:
    receive(packets)


@given(st.text(EVENT_KEYS, min_size=1, max_size=12), st.integers(0, 2**32 - 1), st.randoms(use_true_random=False))
def test_what_we_send_arrives_once_each_with_loss_and_doubles(digits: str, start: int, chance: random.Random) -> None:
    """One packet of each key must survive; everything else may be lost, doubled, or change places with the next."""
    packets = sent(digits, start)
    by_key: dict[int, list[Packet]] = {}
    for packet in packets:
        by_key.setdefault(packet[0], []).append(packet)
    survivors: list[Packet] = []
    for of_one in by_key.values():
        kept = [packet for packet in of_one if chance.random() > 0.4] or of_one[:1]
        kept = [packet for packet in kept for _ in range(chance.choice((1, 1, 2)))]
        if len(kept) > 1 and chance.random() < 0.3:
            kept[0], kept[1] = kept[1], kept[0]
        survivors += kept
    assert "".join(digit.key for digit in receive(survivors)) == digits


def sent(digits: str, start: int = 0, options: SenderOptions | None = None) -> list[Packet]:
    """Everything that goes out for these keys, by the tick."""
    sender = EventSender(digits, options or SenderOptions())
    packets: list[Packet] = []
    timestamp = start
    while not sender.is_done:
        packet = sender.tick(timestamp & 0xFFFFFFFF)
        if packet is not None:
            packets.append((packet.timestamp, packet.payload, packet.marker))
        timestamp += 160
    return packets


def test_one_key_goes_out() -> None:
    sender = EventSender("5", SenderOptions(tone_ms=60, gap_ms=80, volume=12))
    packets = [sender.tick(1000 + 160 * number) for number in range(7)]
    assert packets == [
        EventPacket(bytes.fromhex("050c00a0"), 1000, True),
        EventPacket(bytes.fromhex("050c0140"), 1000, False),
        EventPacket(bytes.fromhex("058c01e0"), 1000, False),
        EventPacket(bytes.fromhex("058c01e0"), 1000, False),
        EventPacket(bytes.fromhex("058c01e0"), 1000, False),
        None,
        None,
    ]
    assert sender.is_done
    assert sender.tick(9999) is None


def test_a_tone_that_is_no_whole_number_of_frames_ends_on_time() -> None:
    assert parse_events(sent("1", 0, SenderOptions(tone_ms=50))[-1][1])[0].duration == 400


def test_updates_each_50_ms() -> None:
    sender = EventSender("5", SenderOptions(tone_ms=200, update_ms=50))
    ticks = [sender.tick(160 * number) for number in range(15)]
    assert [number for number, packet in enumerate(ticks) if packet] == [0, 3, 5, 8, 9, 10, 11]
    assert sender.is_done


def test_the_next_key_begins_after_the_gap() -> None:
    packets = sent("12")
    assert sorted({timestamp for timestamp, _, _ in packets}) == [0, (120 + 100) * 8]
    assert [marker for _, _, marker in packets].count(True) == 2
    assert receive(packets) == [Digit("1", 120), Digit("2", 120)]


def test_pauses() -> None:
    packets = sent("1w2W3")
    starts = sorted({timestamp for timestamp, _, _ in packets})
    assert starts == [0, (220 + 500) * 8, (220 + 500 + 220 + 1000) * 8]


@pytest.mark.parametrize("digits", ["12x", "١", "1" * 129])
def test_what_cannot_be_sent(digits: str) -> None:
    with pytest.raises(LocalError, match="telephone-event: only 0-9"):
        EventSender(digits, SenderOptions())


def test_nothing_to_send_is_done_at_once() -> None:
    assert EventSender("", SenderOptions()).is_done


@pytest.mark.parametrize(
    "bad", [{"tone_ms": 39}, {"gap_ms": 50}, {"volume": 64}, {"update_ms": 10}, {"update_ms": 200}]
)
def test_bad_options(bad: dict[str, int]) -> None:
    with pytest.raises(LocalError):
        SenderOptions(**bad)


def test_what_is_no_event_is_named() -> None:
    with pytest.raises(RemoteError, match="telephone-event: 3 bytes are too few"):
        parse_events(b"abc")
    with pytest.raises(LocalError):
        build_event(EventBlock(5, False, 64, 0))
