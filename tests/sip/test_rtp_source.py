"""Latching: who is listened to, and when another may take over."""

from __future__ import annotations

import pytest

from bridge.sip.rtp_source import MAX_RELEARNS, Address, LatchOptions, SourceLatch, Verdict

SDP = ("203.0.113.5", 4000)
NAT = ("198.51.100.1", 31000)
REBOUND = ("198.51.100.1", 32000)
STRANGER = ("192.0.2.66", 5000)


def feed(latch: SourceLatch, source: Address, start_s: float, count: int, ssrc: int = 1) -> list[Verdict]:
    """Packets 20 ms apart."""
    return [latch.judge(source, ssrc, number, start_s + 0.02 * number) for number in range(count)]


def test_the_first_packet_shows_where_to_send() -> None:
    latch = SourceLatch(LatchOptions(), SDP)
    assert latch.destination == SDP
    assert feed(latch, NAT, 0, 2) == [Verdict.LEARNT, Verdict.KNOWN]
    assert latch.destination == latch.source == NAT


def test_without_symmetry_packets_go_where_the_sdp_says() -> None:
    latch = SourceLatch(LatchOptions(is_symmetric=False), SDP)
    feed(latch, NAT, 0, 1)
    assert (latch.source, latch.destination) == (NAT, SDP)


def test_without_an_address_nothing_is_sent_until_something_comes() -> None:
    latch = SourceLatch(LatchOptions())
    assert latch.destination is None
    feed(latch, NAT, 0, 1)
    assert latch.destination == NAT


def test_the_sdp_s_own_address_wins_at_once_while_learning() -> None:
    latch = SourceLatch(LatchOptions(), SDP)
    feed(latch, STRANGER, 0, 10)
    assert latch.judge(SDP, 1, 0, 0.21) is Verdict.LEARNT
    assert latch.source == SDP
    # And the stranger does not come back as long as the peer sends.
    for number in range(200):
        assert latch.judge(SDP, 1, 0, 0.3 + 0.02 * number) is Verdict.KNOWN
        assert latch.judge(STRANGER, 2, 0, 0.31 + 0.02 * number) is Verdict.STRANGER
    assert latch.strangers == 200


@pytest.mark.parametrize("kin", [(SDP[0], 9), ("198.51.100.200", 9)])
def test_kin_win_over_strangers_while_learning_and_not_over_the_sdp_s_own(kin: Address) -> None:
    latch = SourceLatch(LatchOptions(), SDP, kin=frozenset({"198.51.100.200"}))
    feed(latch, STRANGER, 0, 10)
    assert latch.judge(kin, 1, 0, 0.21) is Verdict.LEARNT
    assert latch.judge(STRANGER, 1, 0, 0.22) is Verdict.STRANGER
    assert latch.judge(SDP, 1, 0, 0.23) is Verdict.LEARNT
    assert latch.judge(kin, 1, 0, 0.24) is Verdict.STRANGER
    late = SourceLatch(LatchOptions(), SDP)
    feed(late, STRANGER, 0, 300)
    assert late.judge(SDP, 1, 0, 6.0) is Verdict.STRANGER


def test_while_learning_a_stream_that_goes_on_alone_takes_over() -> None:
    latch = SourceLatch(LatchOptions(), SDP)
    feed(latch, NAT, 0, 1)
    assert feed(latch, STRANGER, 0.02, 5) == [Verdict.STRANGER] * 4 + [Verdict.LEARNT]
    assert latch.relearns == 1


@pytest.mark.parametrize(("source", "silence_s"), [(STRANGER, 10.0), ((SDP[0], 9), 0.5)])
def test_while_learning_who_fits_worse_does_not_take_over_in_a_short_silence(source: Address, silence_s: float) -> None:
    latch = SourceLatch(LatchOptions(), SDP)
    feed(latch, SDP, 0, 1)
    assert feed(latch, source, silence_s - 0.1, 5) == [Verdict.STRANGER] * 5
    assert latch.judge(source, 1, 5, silence_s) is Verdict.LEARNT, "a flood that drowns the peer has to last"


def test_a_stray_packet_breaks_the_row() -> None:
    latch = SourceLatch(LatchOptions(), SDP)
    feed(latch, NAT, 0, 1)
    feed(latch, STRANGER, 0.1, 4)
    feed(latch, REBOUND, 0.2, 1)
    assert feed(latch, STRANGER, 0.3, 5)[:4] == [Verdict.STRANGER] * 4


@pytest.mark.parametrize(
    ("source", "silence_s", "wins"),
    [
        (REBOUND, 0.4, False),
        (REBOUND, 0.6, True),
        ((SDP[0], 4444), 0.6, True),
        (STRANGER, 9.0, False),
        (STRANGER, 10.1, True),
    ],
)
def test_later_only_silence_lets_another_in(source: Address, silence_s: float, wins: bool) -> None:
    latch = SourceLatch(LatchOptions(), SDP)
    feed(latch, NAT, 0, 500)
    last_s = 499 * 0.02
    verdicts = feed(latch, source, last_s + silence_s - 0.08, 5)
    assert verdicts[:4] == [Verdict.STRANGER] * 4
    assert verdicts[4] is (Verdict.LEARNT if wins else Verdict.STRANGER)


def test_sources_that_take_turns_are_stopped() -> None:
    latch = SourceLatch(LatchOptions(), SDP)
    now = 0.0
    for number in range(40):
        feed(latch, NAT if number % 2 else REBOUND, now, 10)
        now += 1.0
    assert latch.relearns == MAX_RELEARNS


def test_a_new_description_begins_anew() -> None:
    latch = SourceLatch(LatchOptions(), SDP)
    feed(latch, NAT, 0, 500)
    latch.expect(SDP)
    assert latch.source == NAT
    latch.expect(STRANGER)
    assert latch.destination == STRANGER
    assert latch.judge(STRANGER, 2, 0, 10.0) is Verdict.LEARNT
    assert latch.relearns == 0


def test_the_port_s_past_is_not_listened_to() -> None:
    latch = SourceLatch(LatchOptions(), SDP, stale={99: 65_000})
    assert latch.judge(NAT, 99, 65_001, 0.0) is Verdict.STALE
    assert latch.judge(NAT, 99, 700, 10.0) is Verdict.STALE  # over the wrap, and some were lost
    assert latch.source is None
    assert latch.judge(SDP, 1, 65_001, 10.1) is Verdict.LEARNT
    assert latch.judge(SDP, 99, 3_600, 60.0) is Verdict.STALE
    assert latch.strangers == 3


def test_a_recording_that_is_played_again_is_not_stale() -> None:
    latch = SourceLatch(LatchOptions(), SDP, stale={99: 5_000})
    assert latch.judge(SDP, 99, 4_765, 0.0) is Verdict.LEARNT
