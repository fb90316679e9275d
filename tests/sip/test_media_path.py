"""The parts together: a call's audio, keys and reports from one side to the other over a bad network."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest

from bridge.media.format import Encoding
from bridge.media.tones import dominant_frequencies, tone
from bridge.sip.comfort_noise import ComfortNoise
from bridge.sip.concealment import Concealer
from bridge.sip.g711_frames import Samples, decode, encode
from bridge.sip.jitter import Gap, JitterBuffer, JitterOptions
from bridge.sip.media_clock import MediaClock
from bridge.sip.offer_answer import Agreement, AudioOptions, AudioSession
from bridge.sip.quality import estimate_mos
from bridge.sip.rtcp_session import RtcpSession
from bridge.sip.rtp import RtpSender
from bridge.sip.rtp_receiver import ReceiverOptions, RtpReceiver
from bridge.sip.rtp_source import LatchOptions, SourceLatch
from bridge.sip.telephone_event import Digit, EventReceiver, EventSender, SenderOptions

CALLER, BRIDGE = ("203.0.113.5", 4000), ("198.51.100.7", 20000)
LAW = Encoding.ALAW
SECONDS = 20
KEYS_AT_TICK = 500
PITCH_HZ = 200


def negotiated() -> tuple[Agreement, Agreement]:
    """The caller's and the bridge's view of one offer and answer."""
    caller = AudioSession(AudioOptions((LAW,)), CALLER, 1)
    bridge = AudioSession(AudioOptions(), BRIDGE, 2)
    answer = bridge.answer(caller.offer().encode())
    assert bridge.agreement is not None
    return caller.accept(answer.encode()), bridge.agreement


class Caller:
    """Sends a steady tone, and keys in the middle, by the clock."""

    def __init__(self, agreement: Agreement) -> None:
        assert agreement.event_type is not None
        self.audio_type, self.event_type = agreement.payload_type, agreement.event_type
        self.sender = RtpSender(ssrc=7, sequence=65_500, timestamp=2**32 - 16_000)
        pcm = tone((PITCH_HZ,), SECONDS * 1000, 8000, 8000)
        self.samples: Samples = np.frombuffer(pcm, "<i2").astype(np.float32)
        self.keys: EventSender | None = None

    def tick(self, number: int) -> bytes | None:
        if number == KEYS_AT_TICK:
            self.keys = EventSender("42w#", SenderOptions())
        if self.keys is not None and not self.keys.is_done:
            event = self.keys.tick(self.sender.timestamp)
            packet = self.sender.event(self.event_type, *event) if event else None
            self.sender.skip(160)
            return packet
        frame = encode(self.samples[160 * number : 160 * number + 160], LAW)
        return self.sender.audio(self.audio_type, frame, 160, marker=number == 0)


class Bridge:
    """Receives, and plays by the clock."""

    def __init__(self, agreement: Agreement) -> None:
        self.event_types = agreement.event_receive_types
        self.receiver = RtpReceiver(
            ReceiverOptions(agreement.audio_receive_types, self.event_types),
            SourceLatch(LatchOptions(), agreement.remote),
        )
        self.buffer = JitterBuffer(JitterOptions(), agreement.encoding)
        self.concealer, self.noise = Concealer(agreement.encoding), ComfortNoise(agreement.encoding)
        self.events = EventReceiver()
        self.digits: list[Digit] = []
        self.played: list[bytes] = []

    def hear(self, datagram: bytes, now: float) -> None:
        packet = self.receiver.receive(datagram, CALLER, now)
        if packet is None:
            return
        if packet.payload_type not in self.event_types:
            self.buffer.push(packet, now)
            return
        was_pressed = self.events.is_pressed
        self.digits += self.events.receive(packet.timestamp, packet.payload, packet.marker, now)
        if self.events.is_pressed and not was_pressed:
            self.buffer.push_noise(msgspec.structs.replace(packet, payload=b""), now)

    def tick(self, now: float) -> None:
        self.digits += self.events.tick(now)
        frame = self.buffer.pop(now)
        if isinstance(frame, bytes):
            self.played.append(self.concealer.good(frame))
        elif frame is Gap.LOST:
            self.played.append(self.concealer.conceal())
        else:
            self.concealer.pause()
            self.played.append(self.noise.frame(self.buffer.noise))


def call(loss: float, jitter_ms: float) -> tuple[Bridge, RtcpSession, RtcpSession]:
    """A call of 20 s over a network that loses and delays; reports go both ways, 40 ms each."""
    theirs, ours = negotiated()
    caller, bridge = Caller(theirs), Bridge(ours)
    chance = random.Random(11)
    silent = RtpReceiver(ReceiverOptions(frozenset({8})), SourceLatch(LatchOptions(), BRIDGE))
    out = RtcpSession(caller.sender, silent, "a@b", 0.0, 0.5)
    back = RtcpSession(RtpSender(9, 0, 0), bridge.receiver, "c@d", 0.0, 0.5)
    on_the_way: list[tuple[float, bytes]] = []
    sending, playing = MediaClock(0.0, groups=1), MediaClock(0.013, groups=1)
    for step in range(SECONDS * 200):
        now = step * 0.005
        for tick in sending.due(now):
            datagram = caller.tick(tick.number)
            if datagram is not None and chance.random() >= loss:
                on_the_way.append((now + 0.04 + chance.expovariate(1000 / jitter_ms), datagram))
        for arrival, datagram in sorted(one for one in on_the_way if one[0] <= now):
            bridge.hear(datagram, arrival)
        on_the_way = [one for one in on_the_way if one[0] > now]
        for tick in playing.due(now):
            bridge.tick(tick.due_s)
        if now >= out.next_due_s:
            back.receive(out.report(now, 1e9 + now, 0.5), now + 0.04, 1e9 + now + 0.04)
        if now >= back.next_due_s:
            out.receive(back.report(now, 1e9 + now, 0.5), now + 0.04, 1e9 + now + 0.04)
    return bridge, out, back


def test_a_good_network_brings_everything() -> None:
    bridge, out, _ = call(loss=0.0, jitter_ms=1)
    assert [(digit.key, digit.duration_ms) for digit in bridge.digits] == [("4", 120), ("2", 120), ("#", 120)]
    counts = bridge.buffer.counts
    assert (counts.concealed, counts.late, counts.resyncs, bridge.receiver.totals.loss) == (0, 0, 0, 0)
    assert bridge.receiver.generation == 0
    assert out.round_trip_s == pytest.approx(0.08, abs=0.002)
    assert out.peer_view is not None
    assert out.peer_view.cumulative_lost == 0
    assert estimate_mos(bridge.receiver.totals.loss, 100) > 4.3


def test_a_bad_network_is_covered() -> None:
    bridge, out, _ = call(loss=0.05, jitter_ms=8)
    assert [digit.key for digit in bridge.digits] == ["4", "2", "#"]
    totals, counts = bridge.receiver.totals, bridge.buffer.counts
    assert 0.02 < totals.loss < 0.09
    assert counts.concealed <= totals.expected - totals.received + counts.late + 10
    assert out.peer_view is not None
    assert 10 < out.peer_view.cumulative_lost < 100
    assert 3.5 < estimate_mos(totals.loss, 120) < 4.2
    # Before the keys the tone sounds on through every loss: no frame is silent, and nothing else is to be heard.
    heard = bridge.played[20 : KEYS_AT_TICK - 10]
    levels = [float(np.sqrt(np.mean(decode(frame, LAW) ** 2))) for frame in heard]
    assert min(levels) > 0.3 * 8000 / 2**0.5
    pcm = np.concatenate([decode(frame, LAW) for frame in heard]).astype("<i2").tobytes()
    peaks = dominant_frequencies(pcm, 8000, 2)
    assert peaks[0].frequency_hz == pytest.approx(PITCH_HZ, abs=1)
    assert peaks[0].level_dbm0 - peaks[1].level_dbm0 > 20


def test_while_keys_are_sent_there_is_silence_and_no_concealment() -> None:
    bridge, _, _ = call(loss=0.0, jitter_ms=1)
    silence = b"\xd5" * 160
    keys = bridge.played[KEYS_AT_TICK + 10 : KEYS_AT_TICK + 55]
    assert keys == [silence] * 45
    assert bridge.played.count(silence) < 75
