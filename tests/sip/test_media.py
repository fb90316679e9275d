from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import LocalError
from bridge.media.format import Encoding
from bridge.sip.media import CallMedia
from bridge.sip.media_events import DigitsSent, FirstMedia, KeyHeard, MarkReached, MediaLost
from bridge.sip.offer_answer import Agreement, AudioOptions, AudioSession
from bridge.sip.rtcp import Bye, ReceiverReport, SenderReport, build_rtcp, parse_rtcp
from bridge.sip.rtcp_session import RtcpSession
from bridge.sip.rtp import RtpSender, parse_rtp
from bridge.sip.rtp_receiver import ReceiverOptions, RtpReceiver
from bridge.sip.rtp_source import Address, LatchOptions, SourceLatch
from bridge.sip.sdp import Direction
from bridge.sip.telephone_event import Digit, EventSender, SenderOptions
from tests.kit.rtp import BRIDGE, PEER, PEER_RTCP, QUICK, UNIX_OFFSET_S, Peer, agreed, read, seeds, tick

SILENCE = b"\xff" * 160
NAT: Address = ("203.0.113.5", 61_000)


class InCall:
    """A call's media with its clock; a step is one tick."""

    def __init__(self, agreement: Agreement | None = None, *, is_answered: bool = True, peer_host: str = "") -> None:
        self.media = CallMedia(QUICK, seeds(), agreement or agreed(), 0.0, peer_host=peer_host)
        self.number = 0
        if is_answered:
            self.media.answer(0.0)

    @property
    def now(self) -> float:
        return self.number * 0.02

    def step(self, *datagrams: bytes, source: Address = PEER) -> tuple[bytes | None, bytes | None]:
        """What is sent, and what is heard."""
        self.number += 1
        for datagram in datagrams:
            self.media.receive(datagram, source, self.now - 0.005)
        return self.media.speak(tick(self.number)), self.media.hear(tick(self.number))

    def wait_until(self, now: float) -> None:
        while self.now < now:
            self.step()


def test_both_ways() -> None:
    call, peer = InCall(), Peer()
    call.media.play(b"\x11" * 320)
    call.media.mark("done")
    steps = [call.step(peer.audio(b"\x22" * 160)) for _ in range(5)]
    assert [parse_rtp(sent).payload for sent, _ in steps if sent] == [b"\x11" * 160] * 2 + [SILENCE] * 3
    assert [heard for _, heard in steps][-2:] == [b"\x22" * 160] * 2
    assert call.media.destination == PEER
    assert call.media.events == [FirstMedia(), MarkReached("done")]
    assert call.media.drain_events() == [FirstMedia(), MarkReached("done")]
    assert call.media.drain_events() == []


# --- before the answer ---


def test_early_media_is_heard_and_not_talked_to() -> None:
    call, peer = InCall(is_answered=False), Peer()
    call.media.play(b"\x11" * 160)
    assert call.step() == (None, None)
    steps = [call.step(peer.audio(b"\x22" * 160)) for _ in range(4)]
    assert [sent for sent, _ in steps] == [None] * 4
    assert steps[-1][1] == b"\x22" * 160
    assert call.media.rtcp_destination is None
    call.media.answer(call.now)
    first = read(call.step()[0])
    assert (first.payload, first.sequence, first.timestamp, first.marker) == (b"\x11" * 160, 65_534, 2**32 - 320, True)
    assert call.media.rtcp_destination == PEER_RTCP


def test_after_the_answer_silence_goes_out_and_in_before_anything_comes() -> None:
    call = InCall()
    sent, heard = call.step()
    assert (read(sent).payload, heard) == (SILENCE, SILENCE)
    assert call.media.destination == PEER


# --- where packets go ---


def test_packets_go_where_packets_come_from() -> None:
    call, peer = InCall(agreed(remote=("10.0.0.5", 4000)), peer_host="8.8.8.8"), Peer()
    assert call.media.destination == ("8.8.8.8", 4000)
    call.step(peer.audio(), source=("8.8.8.8", 61_000))
    assert call.media.destination == ("8.8.8.8", 61_000)


def test_to_a_peer_without_an_address_nothing_is_sent_until_it_speaks() -> None:
    call, peer = InCall(replace(agreed(), remote=None)), Peer()
    assert call.step() == (None, SILENCE)
    sent, _ = call.step(peer.audio())
    assert sent is not None
    assert call.media.destination == PEER


def test_a_new_description_moves_the_destination() -> None:
    call, peer = InCall(), Peer()
    call.step(peer.audio(), source=NAT)
    assert call.media.destination == NAT
    call.media.agree(agreed(), call.now)
    assert call.media.destination == NAT  # the same address in it: nothing to learn anew
    elsewhere = ("198.51.100.99", 5000)
    call.media.agree(agreed(remote=elsewhere), call.now)
    assert call.media.destination == elsewhere
    call.step(RtpSender(9, 1, 1).audio(0, SILENCE, 160), source=elsewhere)
    assert call.media.destination == elsewhere


def test_left_overs_of_the_ports_last_call_are_not_heard() -> None:
    before, peer = InCall(), Peer()
    for _ in range(3):
        before.step(peer.audio())
    assert before.media.last_heard == {7: 102}
    media = CallMedia(QUICK, seeds(), agreed(), 0.0, stale=before.media.last_heard)
    media.receive(peer.audio(), PEER, 0.0)
    assert (media.events, media.stats().packets_refused) == ([], 1)
    assert InCall().media.last_heard == {}


def test_kin_may_send_for_the_peer() -> None:
    kin = ("192.0.2.44", 7000)
    media = CallMedia(QUICK, seeds(), agreed(), 0.0, kin=frozenset({kin[0]}))
    media.answer(0.0)
    media.receive(Peer().audio(), ("192.0.2.99", 1), 0.0)
    assert media.destination == ("192.0.2.99", 1)
    media.receive(RtpSender(9, 1, 1).audio(0, SILENCE, 160), kin, 0.02)
    assert media.destination == kin  # better than a stranger, at once


def test_signallings_host_may_send_for_the_peer() -> None:
    call = InCall(agreed(remote=("1.1.1.1", 4000)), peer_host="8.8.8.8")
    call.step(Peer().audio(), source=("192.0.2.99", 1))
    call.step(RtpSender(9, 1, 1).audio(0, SILENCE, 160), source=("8.8.8.8", 7000))
    assert call.media.destination == ("8.8.8.8", 7000)


# --- hold ---


def test_on_hold_nothing_is_sent_and_silence_is_heard() -> None:
    call, peer = InCall(), Peer()
    for _ in range(4):
        call.step(peer.audio(b"\x22" * 160))
    held = [call.media.is_held]
    call.media.agree(agreed(direction=Direction.SENDONLY), call.now)
    held.append(call.media.is_held)
    assert held == [False, True]
    call.media.play(b"\x11" * 320)
    call.media.mark("played to nobody")
    steps = [call.step(peer.audio(b"\x33" * 160)) for _ in range(3)]
    assert steps == [(None, SILENCE)] * 3
    assert MarkReached("played to nobody") in call.media.events
    call.media.agree(agreed(), call.now)
    sent, heard = call.step(peer.audio(b"\x44" * 160))
    assert read(sent).marker
    assert read(sent).payload == SILENCE
    assert heard == b"\x33" * 160  # the stream has gone on: there is no pause


def test_a_peer_that_only_listens_is_spoken_to_and_gives_silence() -> None:
    call = InCall(agreed(direction=Direction.RECVONLY))
    sent, heard = call.step()
    assert not call.media.is_held
    assert (read(sent).payload, heard) == (SILENCE, SILENCE)


# --- one law for the whole call ---


def test_a_law_that_changes_does_not_show_to_the_agent() -> None:
    session = AudioSession(AudioOptions(), BRIDGE, 2)
    call, peer = InCall(agreed(session=session)), Peer()
    call.media.agree(agreed(codecs=(Encoding.ALAW,), session=session), 0.0)
    assert call.media.encoding is Encoding.ULAW
    peer.payload_type = 8
    call.media.play(b"\x80" * 160)
    steps = [call.step(peer.audio(b"\xaa" * 160)) for _ in range(4)]
    assert (read(steps[0][0]).payload_type, read(steps[0][0]).payload) == (8, b"\xaa" * 160)
    assert steps[-1][1] == b"\x80" * 160


def test_the_agents_law_may_be_another_from_the_beginning() -> None:
    media, peer = CallMedia(QUICK, seeds(), agreed(), 0.0, encoding=Encoding.ALAW), Peer()
    media.answer(0.0)
    media.play(b"\xaa" * 160)
    media.receive(peer.audio(b"\x80" * 160), PEER, 0.0)
    assert read(media.speak(tick(1))).payload == b"\x80" * 160
    assert [media.hear(tick(number)) for number in range(1, 4)].count(b"\xaa" * 160) == 1
    assert read(media.speak(tick(2))).payload == b"\xfe" * 160  # the nearest that mu-law has to A-law's silence
    assert [media.hear(tick(number)) for number in range(4, 20)][-1] == b"\xd5" * 160
    media.send_digits("1")  # still events
    assert read(media.speak(tick(3))).payload_type == 101


# --- keys ---


def test_keys_in_and_out() -> None:
    call, peer = InCall(), Peer()
    keys = EventSender("8", SenderOptions(tone_ms=40, gap_ms=80))
    call.media.send_digits("3")
    packets = []
    while not keys.is_done:
        event = keys.tick(peer.sender.timestamp)
        packets.append(call.step(*([peer.sender.event(101, *event)] if event else []))[0])
    assert call.media.drain_events() == [FirstMedia(), KeyHeard(Digit("8", 40))]
    assert {read(packet).payload_type for packet in packets} == {101}
    call.wait_until(0.24)
    assert call.media.drain_events() == [DigitsSent()]
    with pytest.raises(LocalError):
        call.media.send_digits("x")


# --- the queue ---


def test_flush_silences_the_very_next_packet() -> None:
    call = InCall()
    call.media.play(b"\x11" * 1600)
    call.media.mark("answer")
    assert call.media.queued_ms == 200.0
    call.step()
    call.media.flush()
    assert call.media.events == [MarkReached("answer")]
    assert read(call.step()[0]).payload == SILENCE
    assert call.media.queued_ms == 0.0


# --- time-outs ---


def lost(call: InCall, now: float) -> list[MediaLost]:
    call.media.check(now)
    return [event for event in call.media.drain_events() if isinstance(event, MediaLost)]


def test_a_peer_that_never_sends_is_lost_once() -> None:
    call = InCall(is_answered=False)
    assert lost(call, 100.0) == []
    call.media.answer(100.0)
    call.media.answer(120.0)  # said twice
    assert lost(call, 129.9) == []
    assert lost(call, 130.0) == [MediaLost(30.0, has_begun=False)]
    assert lost(call, 200.0) == []


def test_a_peer_that_falls_silent_is_lost_and_may_come_back() -> None:
    call, peer = InCall(), Peer()
    call.media.receive(peer.audio(), PEER, 10.0)
    assert lost(call, 39.9) == []
    assert lost(call, 40.0) == [MediaLost(30.0, has_begun=True)]
    call.media.receive(peer.audio(), PEER, 41.0)
    assert lost(call, 42.0) == []
    assert lost(call, 71.0) == [MediaLost(30.0, has_begun=True)]


def test_the_time_out_begins_again_when_the_silence_has_a_reason() -> None:
    call, peer = InCall(), Peer()
    call.media.receive(peer.audio(), PEER, 10.0)
    assert lost(call, 40.0) == [MediaLost(30.0, has_begun=True)]
    call.media.watch_anew(40.0)
    assert lost(call, 69.9) == []
    assert lost(call, 70.0) == [MediaLost(30.0, has_begun=True)]


def test_on_hold_time_outs_rest() -> None:
    call, peer = InCall(), Peer()
    call.media.receive(peer.audio(), PEER, 10.0)
    call.media.agree(agreed(direction=Direction.INACTIVE), 20.0)
    assert lost(call, 1000.0) == []
    call.media.agree(agreed(), 1000.0)
    assert lost(call, 1029.9) == []
    call.media.agree(agreed(), 1029.9)  # not a resumption: the time goes on
    assert lost(call, 1030.0) == [MediaLost(30.0, has_begun=True)]


# --- RTCP ---


def peers_reports() -> RtcpSession:
    receiver = RtpReceiver(ReceiverOptions(frozenset({0})), SourceLatch(LatchOptions()))
    receiver.receive(RtpSender(0xABCD, 1, 1).audio(0, SILENCE, 160), BRIDGE, 0.0)
    return RtcpSession(RtpSender(7, 0, 0), receiver, "peer", 0.0, 0.5)


def test_reports_tell_the_round_trip_and_the_peers_view() -> None:
    call, peer = InCall(), Peer()
    call.step(peer.audio())
    assert call.media.next_report_s == pytest.approx(2.5 / 1.21828, abs=0.01)
    report = call.media.report(3.0, 0.5)
    assert call.media.next_report_s == pytest.approx(3 + 5 / 1.21828, abs=0.01)
    theirs = peers_reports()
    theirs.receive(report, 3.04, UNIX_OFFSET_S + 3.04)
    sender = parse_rtcp(report)[0]
    assert isinstance(sender, SenderReport)
    assert (sender.ssrc, sender.packets, sender.ntp >> 32) == (0xABCD, 1, 2_208_988_800 + 1_000_000_003)
    call.media.receive_rtcp(theirs.report(4.0, UNIX_OFFSET_S + 4.0, 0.5), PEER_RTCP, 4.04)
    stats = call.media.stats()
    assert stats.round_trip_ms == pytest.approx(80, abs=1)
    assert (stats.peer_loss, stats.peer_jitter_ms) == (0.0, 0.0)


def test_reports_of_strangers_are_dropped() -> None:
    call, peer = InCall(), Peer()
    call.step(peer.audio())
    theirs = peers_reports()
    theirs.receive(call.media.report(3.0, 0.5), 3.0, UNIX_OFFSET_S + 3.0)
    forged = theirs.report(3.0, UNIX_OFFSET_S + 3.0, 0.5)
    call.media.receive_rtcp(forged, ("192.0.2.66", 4001), 3.1)
    assert call.media.stats().round_trip_ms is None
    assert call.media.rtcp_destination == PEER_RTCP
    nowhere = InCall(replace(agreed(), remote=None))
    nowhere.media.receive_rtcp(forged, ("192.0.2.66", 4001), 3.1)
    assert nowhere.media.rtcp_destination is None


def test_rtcp_goes_where_the_peers_comes_from() -> None:
    call, peer = InCall(), Peer()
    assert call.media.rtcp_destination == PEER_RTCP
    call.step(peer.audio(), source=NAT)
    behind_nat = (NAT[0], 61_007)
    call.media.receive_rtcp(peers_reports().report(1.0, UNIX_OFFSET_S, 0.5), behind_nat, 1.0)
    assert call.media.rtcp_destination == behind_nat
    call.media.agree(agreed(remote=("198.51.100.99", 5000)), 2.0)
    assert call.media.rtcp_destination == ("198.51.100.99", 5001)
    call.media.agree(replace(agreed(), remote_rtcp=None), 2.0)
    assert call.media.rtcp_destination == behind_nat


def test_without_a_port_for_rtcp_none_is_sent() -> None:
    assert InCall(replace(agreed(), remote_rtcp=None)).media.rtcp_destination is None


def test_a_description_cannot_send_rtcp_to_another_host() -> None:
    call = InCall(replace(agreed(), remote_rtcp=("192.0.2.66", 53)))
    assert call.media.rtcp_destination == (PEER[0], 53)


def test_rtcp_may_share_rtps_port() -> None:
    assert not InCall().media.is_rtcp_muxed
    call, peer = InCall(agreed(is_muxed=True)), Peer()
    assert call.media.is_rtcp_muxed
    call.step(peer.audio(), source=NAT)
    assert call.media.rtcp_destination == NAT


def test_the_last_report_says_good_bye() -> None:
    call = InCall()
    assert parse_rtcp(call.media.bye(1.0))[-1] == Bye((0xABCD,))
    assert isinstance(parse_rtcp(call.media.bye(1.0))[0], ReceiverReport)  # nothing was sent


# --- figures ---


def test_figures() -> None:
    call, peer = InCall(), Peer()
    for number in range(100):
        packet = peer.audio()
        call.step(*([] if number % 10 == 5 else [packet]))
    call.step(b"no RTP")
    call.step(peer.sender.audio(18, SILENCE, 160))
    call.step(RtpSender(1, 1, 1).audio(0, SILENCE, 160), source=("192.0.2.66", 1))
    call.media.play(bytes(90_000))
    stats = call.media.stats()
    assert (stats.packets_received, stats.packets_expected, stats.packets_lost) == (90, 100, 10)
    assert stats.loss == pytest.approx(0.1)
    assert (stats.packets_malformed, stats.packets_unexpected, stats.packets_refused) == (1, 1, 1)
    assert stats.frames_concealed >= 10
    assert (stats.packets_sent, stats.bytes_sent) == (103, 103 * 160)
    assert stats.queue_dropped_bytes == 10_000
    assert (stats.round_trip_ms, stats.peer_loss, stats.peer_jitter_ms) == (None, None, None)
    assert stats.buffer_ms >= 20
    assert stats.mos is not None
    assert 3.0 < stats.mos < 3.6
    assert InCall().media.stats().jitter_ms == 0.0


@given(st.lists(st.binary(max_size=200), max_size=15), st.booleans())
def test_nothing_that_comes_does_harm(datagrams: list[bytes], is_muxed: bool) -> None:
    call = InCall(agreed(is_muxed=is_muxed))
    call.step(Peer().audio())
    rtcp = build_rtcp([Bye((7,))])
    for body in datagrams:
        call.media.receive_rtcp(body, PEER_RTCP, call.now)
        call.media.receive_rtcp(rtcp + body, PEER_RTCP, call.now)
        sent, heard = call.step(body, b"\x80\x00" + body, b"\x90\x65" + body)
        assert sent is not None
        assert len(sent) == 172
        assert heard is not None
        assert len(heard) == 160
    call.media.check(call.now)
    call.media.stats()
