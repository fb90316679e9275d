from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.format import Encoding
from bridge.media.g711 import pcm_to_ulaw
from bridge.media.tones import dtmf
from bridge.sip.g711_frames import decode
from bridge.sip.media_events import FirstMedia, KeyHeard, MediaEvent
from bridge.sip.media_in import MediaIn, converter
from bridge.sip.media_options import MediaOptions
from bridge.sip.offer_answer import AudioOptions, AudioSession
from bridge.sip.rtp import RtpSender
from bridge.sip.telephone_event import Digit, EventSender, SenderOptions
from tests.kit.rtp import BRIDGE, PEER, QUICK, Peer, agreed

BOTH = (Encoding.ULAW, Encoding.ALAW)


class In:
    """One call's incoming half. A step is 20 ms: what comes, comes 5 ms before the tick."""

    def __init__(self, options: MediaOptions = QUICK) -> None:
        self.report: list[MediaEvent] = []
        self.media = MediaIn(options, Encoding.ULAW, agreed(), PEER, frozenset(), None, 0, self.report)
        self.number = 0

    def step(self, *datagrams: bytes) -> bytes | None:
        self.number += 1
        due_s = self.number * 0.02
        for datagram in datagrams:
            self.media.receive(datagram, PEER, due_s - 0.005)
        return self.media.hear(due_s)

    @property
    def keys(self) -> list[tuple[str, bool]]:
        return [(event.digit.key, event.is_inband) for event in self.report if isinstance(event, KeyHeard)]


def test_before_the_first_packet_there_is_nothing() -> None:
    call = In()
    assert [call.step() for _ in range(3)] == [None] * 3
    assert call.report == []


def test_audio_comes_out_as_it_came_in() -> None:
    call, peer = In(), Peer()
    frames = [bytes((0x40 + number,)) * 160 for number in range(10)]
    heard = [call.step(peer.audio(frame)) for frame in frames] + [call.step()]
    first = heard.index(frames[0])
    assert first <= 2
    assert heard[first:] == frames[: len(heard) - first]
    assert call.report == [FirstMedia()]


def test_a_lost_packet_is_concealed() -> None:
    call, peer = In(), Peer()
    heard = []
    for number in range(10):
        datagram = peer.audio(b"\x20" * 80 + b"\xa0" * 80)
        heard.append(call.step(*([] if number == 5 else [datagram])))
    assert call.media.jitter.counts.concealed == 1
    frames = [frame for frame in heard if frame is not None]
    assert all(float(np.abs(decode(frame, Encoding.ULAW)).max()) > 3000 for frame in frames)


def test_a_stream_that_ends_fades_into_nothing() -> None:
    call, peer = In(), Peer()
    for _ in range(5):
        call.step(peer.audio(b"\x20" * 160))
    heard = [call.step() for _ in range(12)]
    assert heard[-1] is None
    assert b"\xff" * 160 in heard  # concealment has faded out before


def test_comfort_noise_is_made_from_its_description() -> None:
    call, peer = In(), Peer()
    for _ in range(5):
        call.step(peer.audio())
    call.step(peer.sender.audio(13, b"\x32", 160))  # -50 dBov
    noise = [call.step() for _ in range(10)][-3:]
    assert all(frame is not None for frame in noise)
    levels = decode(b"".join(frame for frame in noise if frame), Encoding.ULAW)
    assert 20 * np.log10(np.sqrt(np.mean(levels**2)) / 32767) == pytest.approx(-50, abs=1.5)


def test_a_peer_may_change_the_law_among_those_agreed() -> None:
    call = In()
    session = AudioSession(AudioOptions(BOTH), BRIDGE, 2)
    caller = AudioSession(AudioOptions(BOTH), PEER, 1)
    agreement = session.accept(caller.answer(session.offer().encode()).encode())
    assert agreement.receive_types == {0: Encoding.ULAW, 8: Encoding.ALAW}
    call.media.agree(agreement, PEER)
    peer = Peer()
    heard = [call.step(peer.audio(b"\x80" * 160)) for _ in range(5)]
    peer.payload_type = 8
    heard += [call.step(peer.audio(b"\xaa" * 160)) for _ in range(5)]
    assert set(heard[2:]) == {b"\x80" * 160}
    assert call.media.jitter.counts.concealed == 0


def test_a_payload_type_that_was_not_agreed_is_dropped() -> None:
    call = In()
    assert [call.step(Peer(payload_type=18).audio()) for _ in range(5)] == [None] * 5
    assert call.media.receiver.unexpected == 5
    assert call.report == []


def test_a_stranger_is_not_heard() -> None:
    call, peer = In(), Peer()
    for _ in range(5):
        call.step(peer.audio(b"\x41" * 160))
    stranger = RtpSender(99, 1, 1)
    heard = set()
    for _ in range(20):
        call.media.receive(stranger.audio(0, b"\x10" * 160, 160), ("192.0.2.66", 9), call.number * 0.02 + 0.01)
        heard.add(call.step(peer.audio(b"\x41" * 160)))
    assert heard == {b"\x41" * 160}
    assert call.media.latch.strangers == 20


def test_another_stream_begins_anew() -> None:
    call, peer = In(), Peer()
    for _ in range(5):
        call.step(peer.audio(b"\x41" * 160))
    for _ in range(10):
        call.step()
    other = Peer(sender=RtpSender(8, 60_000, 77))
    heard = [call.step(other.audio(b"\x42" * 160)) for _ in range(4)]
    assert b"\x42" * 160 in heard
    assert call.media.receiver.generation == 1
    assert call.media.jitter.counts.resyncs == 0  # it was told, and need not find out


# --- keys ---


def press(call: In, peer: Peer, digits: str, *, lose_end: bool = False) -> None:
    keys = EventSender(digits, SenderOptions(tone_ms=60, gap_ms=80))
    while not keys.is_done:
        event = keys.tick(peer.sender.timestamp)
        packet = peer.sender.event(101, *event) if event else None
        is_end = event is not None and event.payload[1] >= 0x80
        call.step(*([packet] if packet and not (lose_end and is_end) else []))
        peer.sender.skip(160)


def test_keys_are_heard_once_and_in_silence() -> None:
    call, peer = In(), Peer()
    for _ in range(5):
        call.step(peer.audio())
    press(call, peer, "4")
    assert call.report == [FirstMedia(), KeyHeard(Digit("4", 60))]
    assert call.media.jitter.counts.concealed == 0
    press(call, peer, "4#")
    assert [key for key, _ in call.keys] == ["4", "4", "#"]


def test_a_key_whose_end_is_lost_is_heard_a_little_later() -> None:
    call, peer = In(), Peer()
    press(call, peer, "9", lose_end=True)
    assert call.keys == []
    for _ in range(15):
        call.step()
    assert call.keys == [("9", False)]


def speak_tones(call: In, peer: Peer, digits: str) -> None:
    pcm = dtmf(digits, 8000, 100, 100, -10.0) + bytes(320 * 10)
    for start in range(0, len(pcm) - 319, 320):
        call.step(peer.audio(pcm_to_ulaw(pcm[start : start + 320])))


def test_tones_are_keys_only_if_that_is_wanted() -> None:
    listening, deaf = In(MediaOptions(has_inband_detection=True)), In()
    for call in (listening, deaf):
        speak_tones(call, Peer(), "18D")
    assert listening.keys == [("1", True), ("8", True), ("D", True)]
    assert deaf.keys == []
    durations = [event.digit.duration_ms for event in listening.report if isinstance(event, KeyHeard)]
    assert all(abs(duration - 100) <= 8 for duration in durations)


def test_a_tone_right_before_a_pause_is_heard() -> None:
    call, peer = In(MediaOptions(has_inband_detection=True)), Peer()
    pcm = dtmf("3", 8000, 100, 100, -10.0)[: 320 * 5]
    for start in range(0, len(pcm), 320):
        call.step(peer.audio(pcm_to_ulaw(pcm[start : start + 320])))
    for _ in range(20):
        call.step()
    assert call.keys == [("3", True)]


def test_a_peer_that_sends_events_is_not_believed_its_tones() -> None:
    call, peer = In(MediaOptions(has_inband_detection=True)), Peer()
    press(call, peer, "5")
    speak_tones(call, peer, "5")
    assert call.keys == [("5", False)]


# --- the tables, and anything ---


def test_the_laws_convert_code_by_code() -> None:
    for source, target in ((Encoding.ULAW, Encoding.ALAW), (Encoding.ALAW, Encoding.ULAW)):
        table = converter(source, target)
        assert table is not None
        codes = bytes(range(256))
        assert np.allclose(decode(codes, source), decode(codes.translate(table), target), rtol=0.04, atol=8)
    assert converter(Encoding.ALAW, Encoding.ALAW) is None


@given(st.lists(st.binary(max_size=300), max_size=20), st.booleans())
def test_nothing_that_comes_does_harm(datagrams: list[bytes], is_listening: bool) -> None:
    call = In(MediaOptions(has_inband_detection=is_listening))
    for body in datagrams:
        call.step(body, b"\x80\x00" + body, b"\x80\x65" + body, b"\x80\x0d" + body)
    for _ in range(20):
        frame = call.step()
        assert frame is None or len(frame) == 160
