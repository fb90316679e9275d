"""The receiver: which datagrams become audio."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sip.rtp import RtpPacket, build_rtp
from bridge.sip.rtp_receiver import ReceiverOptions, RtpReceiver, Totals
from bridge.sip.rtp_source import LatchOptions, SourceLatch

SDP = ("203.0.113.5", 4000)
OTHER = ("198.51.100.1", 31000)


def receiver(stale: dict[int, int] | None = None) -> RtpReceiver:
    return RtpReceiver(ReceiverOptions(frozenset({0, 13}), frozenset({101})), SourceLatch(LatchOptions(), SDP, stale))


def wire(sequence: int, ssrc: int = 1, payload_type: int = 0, timestamp: int | None = None) -> bytes:
    when = 160 * sequence if timestamp is None else timestamp
    return build_rtp(RtpPacket(payload_type, sequence, when, ssrc, b"\xff" * 160))


def test_an_even_stream_passes() -> None:
    one = receiver()
    packets = [one.receive(wire(number), SDP, 0.02 * number) for number in range(5)]
    assert [packet.sequence for packet in packets if packet] == [0, 1, 2, 3, 4]
    assert one.statistics is not None
    assert (one.statistics.received, one.statistics.jitter, one.ssrc) == (5, 0, 1)
    assert one.last_arrival == 0.08
    assert one.generation == 0


def test_what_is_no_rtp_or_not_negotiated_is_counted_and_dropped() -> None:
    one = receiver()
    assert one.receive(b"no rtp", SDP, 0.0) is None
    assert one.receive(wire(1, payload_type=8), SDP, 0.0) is None
    assert (one.malformed, one.unexpected, one.latch.source, one.last_arrival) == (1, 1, None, None)
    one.renegotiated(ReceiverOptions(frozenset({8})))
    assert one.receive(wire(1, payload_type=8), SDP, 0.0) is not None
    assert one.receive(wire(2), SDP, 0.0) is None


def test_strangers_and_the_port_s_past_are_dropped() -> None:
    one = receiver({66: 0})
    assert one.receive(wire(1, ssrc=66), OTHER, 0.0) is None
    assert one.receive(wire(1), SDP, 0.1) is not None
    assert one.receive(wire(2), OTHER, 0.1) is None
    assert one.latch.strangers == 2
    assert one.last_heard == (1, 1)
    assert receiver().last_heard is None


def test_a_doubled_packet_passes_once() -> None:
    one = receiver()
    assert one.receive(wire(1), SDP, 0.0) is not None
    assert one.receive(wire(2), SDP, 0.02) is not None
    assert one.receive(wire(2), SDP, 0.02) is None
    assert one.receive(wire(1), SDP, 0.03) is None


def test_keys_pass_even_when_they_repeat_their_number() -> None:
    one = receiver()
    assert one.receive(wire(1), SDP, 0.0) is not None
    for _ in range(3):
        assert one.receive(wire(2, payload_type=101, timestamp=160), SDP, 0.02) is not None
    assert one.receive(wire(9999, payload_type=101), SDP, 0.04) is not None
    assert one.statistics is not None
    assert one.statistics.jitter == 0


def test_keys_with_numbers_of_their_own_do_not_disturb_the_audio() -> None:
    one = receiver()
    one.receive(wire(1), SDP, 0.0)
    for number in (7984, 7985, 7985, 40000):
        assert one.receive(wire(number, payload_type=101, timestamp=13280), SDP, 0.02) is not None
    assert one.last_arrival == 0.02
    assert one.receive(wire(2), SDP, 0.04) is not None
    assert (one.generation, one.totals.loss) == (0, 0)


def test_a_call_may_begin_with_a_key() -> None:
    one = receiver()
    assert one.receive(wire(1, payload_type=101), SDP, 0.0) is not None


def test_a_sequence_jump_costs_one_packet() -> None:
    one = receiver()
    one.receive(wire(1), SDP, 0.0)
    assert one.receive(wire(30000), SDP, 0.02) is None
    assert one.generation == 0
    assert one.receive(wire(30001), SDP, 0.04) is not None
    assert one.generation == 1


def test_a_new_ssrc_after_silence_counts_at_once() -> None:
    one = receiver()
    one.receive(wire(1), SDP, 0.0)
    assert one.receive(wire(700, ssrc=2), SDP, 0.2) is not None
    assert (one.ssrc, one.generation) == (2, 1)


def test_a_new_ssrc_beside_the_old_one_needs_two_packets_in_a_row() -> None:
    one = receiver()
    one.receive(wire(1), SDP, 0.0)
    assert one.receive(wire(700, ssrc=2), SDP, 0.01) is None
    assert one.receive(wire(2), SDP, 0.02) is not None
    assert one.receive(wire(701, ssrc=2), SDP, 0.03) is None
    assert one.receive(wire(702, ssrc=2), SDP, 0.05) is not None
    assert (one.ssrc, one.generation) == (2, 1)


def test_another_source_begins_anew() -> None:
    one = receiver()
    one.receive(wire(1), OTHER, 0.0)
    assert one.receive(wire(50), SDP, 0.02) is not None
    assert one.generation == 1
    assert one.statistics is not None
    assert one.statistics.expected == 1


def test_the_totals_are_of_all_streams() -> None:
    one = receiver()
    assert one.totals == Totals()
    assert one.totals.loss == 0
    for number in (1, 2, 2, 4, 3):
        one.receive(wire(number), SDP, 0.02 * number)
    for number in (30000, 30001, 30003):
        one.receive(wire(number), SDP, 0.1)
    for number in (500, 502):
        one.receive(wire(number, ssrc=2), SDP, 5.0)
    # 4 of 4, then 2 of 3 (the first of the jump does not count), then 2 of 3.
    assert one.totals == Totals(expected=10, received=8, duplicates=1, reordered=1)
    assert one.totals.loss == pytest.approx(0.2)


@given(st.lists(st.tuples(st.binary(max_size=40), st.sampled_from([SDP, OTHER]), st.integers(0, 3)), max_size=40))
def test_nothing_that_comes_raises(datagrams: list[tuple[bytes, tuple[str, int], int]]) -> None:
    one = receiver()
    for number, (datagram, source, kind) in enumerate(datagrams):
        head = (b"", b"\x80", b"\x80\x00", b"\x80\xe5")[kind]
        one.receive(head + datagram, source, number * 0.01)


@pytest.mark.parametrize("lost", [0, 3])
def test_loss_is_seen(lost: int) -> None:
    one = receiver()
    for number in (number for number in range(20) if number not in range(5, 5 + lost)):
        one.receive(wire(number), SDP, 0.02 * number)
    assert one.statistics is not None
    assert one.statistics.lost == lost
