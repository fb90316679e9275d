from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import LocalError
from bridge.media.format import Encoding
from bridge.media.g711 import ulaw_to_pcm
from bridge.media.tones import DtmfDetector
from bridge.sip.media_events import DigitsSent, MarkReached, MediaEvent, SendInfo
from bridge.sip.media_options import KeyWay, MediaOptions
from bridge.sip.media_out import MediaOut
from bridge.sip.rtp import RtpPacket, RtpSender
from bridge.sip.telephone_event import Digit, SenderOptions
from tests.kit.rtp import agreed, read

SILENCE = b"\xff" * 160


class Out:
    """One call's outgoing half, with its clock."""

    def __init__(self, options: MediaOptions | None = None, *, has_events: bool = True) -> None:
        self.report: list[MediaEvent] = []
        self.sender = RtpSender(0xABCD, 65_534, 2**32 - 320)
        agreement = agreed(has_events=has_events)
        self.media = MediaOut(options or MediaOptions(), Encoding.ULAW, agreement, self.sender, self.report)
        self.number = 0

    def speak(self, can_send: bool = True) -> bytes | None:
        self.number += 1
        return self.media.speak(self.number, can_send)

    def packet(self) -> RtpPacket:
        return read(self.speak())


def test_without_audio_there_are_packets_of_silence() -> None:
    out = Out()
    assert out.speak() == bytes.fromhex("8080fffe fffffec0 0000abcd") + SILENCE
    assert out.speak() == bytes.fromhex("8000ffff ffffff60 0000abcd") + SILENCE
    assert out.speak() == bytes.fromhex("80000000 00000000 0000abcd") + SILENCE
    assert out.report == []


def test_audio_goes_out_frame_by_frame() -> None:
    out = Out()
    frames = [bytes((number,)) * 160 for number in range(4)]
    out.media.play(frames[0])
    out.media.play(frames[1] + frames[2] + frames[3])
    assert out.media.queued_bytes == 640
    assert [out.packet().payload for _ in range(5)] == [*frames, SILENCE]
    assert out.media.queued_bytes == 0


def test_chunks_of_any_size_make_whole_frames() -> None:
    out = Out()
    out.media.play(b"\x01" * 100)
    out.media.play(b"\x02" * 160)
    out.media.play(b"\x03" * 90)
    assert out.media.queued_bytes == 350
    assert out.packet().payload == b"\x01" * 100 + b"\x02" * 60
    assert out.packet().payload == b"\x02" * 100 + b"\x03" * 60
    assert out.packet().payload == b"\x03" * 30 + b"\xff" * 130
    assert out.media.queued_bytes == 0


def test_a_mark_is_reached_with_the_frame_before_it() -> None:
    out = Out()
    out.media.play(b"\x01" * 320)
    out.media.mark("both")
    out.media.mark("again")
    out.media.play(b"\x02" * 40)
    out.media.mark("rest")
    out.speak()
    assert out.report == []
    out.speak()
    assert out.report == [MarkReached("both"), MarkReached("again")]
    assert out.packet().payload == b"\x02" * 40 + b"\xff" * 120
    assert out.report[2:] == [MarkReached("rest")]
    assert out.media.queued_bytes == 0


def test_a_mark_behind_nothing_is_reached_at_once() -> None:
    out = Out()
    out.media.mark("now")
    assert out.report == [MarkReached("now")]


def test_flush_drops_the_queue_at_once_and_reaches_its_marks() -> None:
    out = Out()
    out.media.play(b"\x01" * 1000)
    out.media.mark("one")
    out.media.play(b"\x02" * 200)
    out.media.flush()
    assert out.report == [MarkReached("one")]
    assert out.media.queued_bytes == 0
    assert out.packet().payload == SILENCE
    out.media.play(b"\x03" * 160)
    assert out.packet().payload == b"\x03" * 160


def test_what_does_not_fit_into_the_queue_is_dropped() -> None:
    out = Out(MediaOptions(max_queue_bytes=400))
    out.media.play(b"\x01" * 300)
    out.media.play(b"\x02" * 300)
    out.media.play(b"\x03" * 10)
    assert (out.media.queued_bytes, out.media.dropped_bytes) == (400, 210)
    assert [out.packet().payload for _ in range(3)] == [
        b"\x01" * 160,
        b"\x01" * 140 + b"\x02" * 20,
        b"\x02" * 80 + b"\xff" * 80,
    ]
    out.media.play(b"\x04" * 160)
    assert out.packet().payload == b"\x04" * 160


def test_a_queue_that_a_mark_has_filled_beyond_its_bound_takes_nothing() -> None:
    out = Out(MediaOptions(max_queue_bytes=200))
    out.media.play(b"\x01" * 200)
    out.media.mark("end")  # completes the second frame
    out.media.play(b"\x02" * 700)
    assert (out.media.queued_bytes, out.media.dropped_bytes) == (320, 700)


@given(st.lists(st.one_of(st.binary(max_size=700), st.just("mark"), st.just("flush"), st.integers(1, 5)), max_size=30))
def test_whatever_is_played_the_count_is_right_and_every_mark_is_reached(steps: list[bytes | str | int]) -> None:
    out = Out(MediaOptions(max_queue_bytes=1600))
    marks = 0
    for step in steps:
        if isinstance(step, bytes):
            out.media.play(step)
        elif isinstance(step, int):
            assert all(len(out.packet().payload) == 160 for _ in range(step))
        elif step == "mark":
            out.media.mark("m")
            marks += 1
        else:
            out.media.flush()
        assert 0 <= out.media.queued_bytes <= 1600 + 159
    for _ in range(12):
        out.speak()
    assert out.media.queued_bytes == 0
    assert out.report == [MarkReached("m")] * marks
    assert out.packet().payload == SILENCE


def test_while_nothing_may_be_sent_time_and_the_queue_go_by() -> None:
    out = Out()
    out.media.play(b"\x01" * 480)
    out.media.mark("end")
    first = out.packet()
    assert out.speak(can_send=False) is None
    assert out.report == []
    assert out.speak(can_send=False) is None
    assert out.report == [MarkReached("end")]
    again = out.packet()
    assert again.sequence == (first.sequence + 1) & 0xFFFF
    assert again.timestamp == (first.timestamp + 3 * 160) & 0xFFFFFFFF
    assert again.marker
    assert not out.packet().marker


def test_ticks_that_are_left_out_leave_a_gap_in_the_timestamps_only() -> None:
    out = Out()
    out.media.play(b"\x01" * 160 + b"\x02" * 160)
    first = out.packet()
    out.number += 5
    second = out.packet()
    assert (second.payload, second.marker) == (b"\x02" * 160, True)
    assert second.timestamp == (first.timestamp + 6 * 160) & 0xFFFFFFFF
    assert second.sequence == (first.sequence + 1) & 0xFFFF


def test_a_tick_that_comes_twice_does_not_turn_back_time() -> None:
    out = Out()
    first = out.packet()
    out.number -= 1
    assert out.packet().timestamp == (first.timestamp + 160) & 0xFFFFFFFF


def test_another_law_is_converted_on_the_way_out() -> None:
    out = Out()
    out.media.agree(agreed(codecs=(Encoding.ALAW,)))
    out.media.play(b"\x80" * 160)
    packet, silent = out.packet(), out.packet()
    assert (packet.payload_type, packet.payload) == (8, b"\xaa" * 160)
    assert silent.payload == b"\xd5" * 160


# --- keys ---


def test_keys_go_out_as_events_in_place_of_audio() -> None:
    out = Out(MediaOptions(keys=SenderOptions(tone_ms=60, gap_ms=80)))
    out.media.play(b"\x01" * 320)
    before = out.packet()
    out.media.send_digits("5")
    packets = [out.speak() for _ in range(7)]
    event = [read(packet) for packet in packets[:5]]
    start = (before.timestamp + 160) & 0xFFFFFFFF
    assert packets[5:] == [None, None]
    assert {packet.timestamp for packet in event} == {start}
    assert [packet.marker for packet in event] == [True, False, False, False, False]
    assert [packet.payload_type for packet in event] == [101] * 5
    assert [packet.payload.hex() for packet in event] == ["050a00a0", "050a0140", *["058a01e0"] * 3]
    assert out.report == [DigitsSent()]
    after = out.packet()
    assert (after.payload, after.marker) == (b"\x01" * 160, True)
    assert after.timestamp == (start + 7 * 160) & 0xFFFFFFFF
    assert after.sequence == (before.sequence + 6) & 0xFFFF


def test_texts_of_keys_wait_for_each_other() -> None:
    out = Out()
    out.media.send_digits("w")
    out.media.send_digits("w")
    for _ in range(25):
        assert out.speak() is None
    assert out.report == [DigitsSent()]
    for _ in range(25):
        assert out.speak() is None
    assert out.report == [DigitsSent(), DigitsSent()]
    assert out.packet().payload == SILENCE


def test_too_many_texts_of_keys_are_refused() -> None:
    out = Out()
    for _ in range(9):  # the one that is being sent, and 8 that wait
        out.media.send_digits("1")
    with pytest.raises(LocalError, match="^keys: 8 texts of them wait already$"):
        out.media.send_digits("1")


@pytest.mark.parametrize("way", KeyWay)
def test_what_is_no_key_is_refused(way: KeyWay) -> None:
    out = Out(MediaOptions(key_way=way))
    with pytest.raises(LocalError, match="^keys: only"):
        out.media.send_digits("1-2")
    assert out.packet().payload == SILENCE


@pytest.mark.parametrize("way", KeyWay)
def test_no_keys_are_soon_sent(way: KeyWay) -> None:
    out = Out(MediaOptions(key_way=way))
    out.media.send_digits("")
    out.speak()
    assert out.report == [DigitsSent()]
    assert out.packet().payload == SILENCE


def heard(packets: list[RtpPacket]) -> str:
    detector = DtmfDetector(8000)
    hits = detector.process(b"".join(ulaw_to_pcm(packet.payload) for packet in packets)) + detector.flush()
    return "".join(hit.digit for hit in hits)


def test_keys_are_tones_where_the_peer_takes_no_events() -> None:
    out = Out(has_events=False)
    out.media.play(b"\x01" * 160)
    out.media.send_digits("42w#")
    packets = []
    while not out.report:
        packets.append(out.packet())
    assert heard(packets) == "42#"
    assert out.report == [DigitsSent()]
    assert out.packet().payload == b"\x01" * 160


def test_keys_are_tones_if_that_is_wanted() -> None:
    out = Out(MediaOptions(key_way=KeyWay.INBAND))
    out.media.send_digits("7")
    packets = [out.packet() for _ in range(20)]
    assert heard(packets) == "7"
    assert {packet.payload_type for packet in packets} == {0}


def test_with_info_audio_goes_on() -> None:
    out = Out(MediaOptions(key_way=KeyWay.INFO, keys=SenderOptions(tone_ms=40, gap_ms=60)))
    out.media.play(b"\x01" * 160 * 10)
    out.media.send_digits("1*")
    payloads = []
    seen = []
    for _ in range(10):
        payloads.append(out.packet().payload)
        seen.append(list(out.report))
        out.report.clear()
    assert payloads == [b"\x01" * 160] * 10
    assert seen[0] == [SendInfo(Digit("1", 40))]
    assert seen[5] == [SendInfo(Digit("*", 40))]
    assert seen[9] == [DigitsSent()]
    assert sum(map(len, seen)) == 3


@pytest.mark.parametrize("way", [KeyWay.AUTO, KeyWay.INBAND])
def test_on_hold_keys_wait(way: KeyWay) -> None:
    out = Out(MediaOptions(key_way=way))
    out.media.send_digits("1")
    for _ in range(100):
        assert out.speak(can_send=False) is None
    assert out.report == []
    for _ in range(11):
        out.speak()
    assert out.report == [DigitsSent()]


def test_on_hold_keys_in_info_go_on() -> None:
    out = Out(MediaOptions(key_way=KeyWay.INFO))
    out.media.send_digits("1")
    assert out.speak(can_send=False) is None
    assert out.report == [SendInfo(Digit("1", 120))]


def test_events_that_are_taken_away_in_the_middle_are_cut_off() -> None:
    out = Out()
    out.media.send_digits("123")
    out.media.send_digits("4")
    assert out.packet().payload_type == 101
    out.media.agree(agreed(has_events=False))
    assert out.report == [DigitsSent(is_complete=False)]
    packets = []
    while len(out.report) < 2:
        packets.append(out.packet())
    assert heard(packets) == "4"  # the next text goes the way that is agreed now
    assert out.report[1] == DigitsSent()
