from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.bench.figures import LatencyLog, Window
from bridge.bench.numbering import (
    FILLER,
    RECORD_BYTES,
    SYNC,
    NumberedSink,
    NumberedSource,
    RecordReader,
    build_record,
)


def _log() -> LatencyLog:
    window = Window()
    window.open(0)
    return LatencyLog(window)


def _frames(source: NumberedSource, count: int) -> list[bytes]:
    return [base64.b64decode(source.message(number)) for number in range(count)]


def test_record_is_one_frame_and_its_bytes_are_fixed() -> None:
    record = build_record(call=1, turn=2, number=3, turn_first=4, sent_ns=5)
    header = bytes.fromhex("b71e5ac3 0100 0200 03000000 04000000 0500000000000000")
    assert record == header + bytes(range(1, 137))
    assert len(record) == RECORD_BYTES


def test_filler_holds_neither_silence_nor_a_sync_word() -> None:
    assert 0xFF not in FILLER
    assert SYNC not in FILLER + FILLER


def test_single_and_grouped_messages_hold_the_same_records() -> None:
    single, grouped = NumberedSource(7, 1), NumberedSource(7, 5)
    joined = b"".join(base64.b64decode(single.message(9)) for _ in range(5))
    assert base64.b64decode(grouped.message(9)) == joined


@given(cuts=st.lists(st.integers(1, 500), max_size=40))
def test_reader_finds_all_records_however_the_stream_is_cut(cuts: list[int]) -> None:
    stream = b"".join(build_record(1, 0, number, 0, number) for number in range(20))
    reader = RecordReader()
    numbers: list[int] = []
    position = 0
    for size in [*cuts, len(stream)]:
        numbers += [record[3] for record in reader.feed(stream[position : position + size])]
        position += size
    assert numbers == list(range(20))
    assert (reader.corrupt, reader.foreign_bytes, reader.silence_bytes, reader.leftover()) == (0, 0, 0, 0)


@given(garbage=st.binary(max_size=1000))
def test_reader_survives_garbage_and_finds_what_follows(garbage: bytes) -> None:
    reader = RecordReader()
    reader.feed(garbage)
    found = reader.feed(b"\xff" * RECORD_BYTES + build_record(1, 0, 42, 0, 0) * 2)
    assert found[-1][3] == 42


def test_reader_tells_silence_from_foreign_bytes() -> None:
    reader = RecordReader()
    reader.feed(build_record(1, 0, 0, 0, 0) + b"\xff" * 160 + b"\x11" * 40 + build_record(1, 0, 1, 0, 0))
    assert (reader.silence_bytes, reader.foreign_bytes, reader.corrupt) == (160, 40, 0)


def test_reader_counts_changed_bytes_once() -> None:
    record = bytearray(build_record(1, 0, 0, 0, 0))
    record[100] ^= 1
    reader = RecordReader()
    found = reader.feed(bytes(record) + build_record(1, 0, 1, 0, 0))
    assert [item[3] for item in found] == [1]
    assert (reader.corrupt, reader.foreign_bytes) == (1, 0)


def test_reader_finds_the_record_after_one_cut_short() -> None:
    reader = RecordReader()
    found = reader.feed(build_record(1, 0, 0, 0, 0)[:100] + build_record(1, 0, 1, 0, 0))
    assert [item[3] for item in found] == [1]
    assert reader.corrupt == 1


def test_all_frames_in_order_are_clean_and_give_their_latency() -> None:
    source = NumberedSource(3, 1)
    log = _log()
    sink = NumberedSink(source, log)
    for sent_ns in (1_000_000, 2_000_000):
        sink.receive(base64.b64decode(source.message(sent_ns)), sent_ns + 500_000)
    tally = sink.tally()
    assert list(log.values_ms) == [0.5, 0.5]
    assert tally.is_clean()
    assert (tally.sent_ms, tally.received_ms) == (40, 40)


def test_latency_counts_once_per_message_however_it_is_cut() -> None:
    source = NumberedSource(3, 5)
    log = _log()
    sink = NumberedSink(source, log)
    audio = base64.b64decode(source.message(0))
    for position in range(0, 800, 160):
        sink.receive(audio[position : position + 160], 1_000_000 + position)
    assert list(log.values_ms) == [1.0]


def test_loss_in_the_middle_and_at_the_end_is_found() -> None:
    source = NumberedSource(0, 1)
    sink = NumberedSink(source, _log())
    frames = _frames(source, 10)
    for number in (0, 1, 4, 5, 6):
        sink.receive(frames[number], 0)
    tally = sink.tally()
    assert (tally.lost_ms, tally.received_ms, tally.reordered, tally.duplicated) == (100, 100, 0, 0)


def test_reordering_is_no_loss() -> None:
    source = NumberedSource(0, 1)
    sink = NumberedSink(source, _log())
    frames = _frames(source, 4)
    for number in (0, 2, 1, 3):
        sink.receive(frames[number], 0)
    tally = sink.tally()
    assert (tally.lost_ms, tally.reordered, tally.received_ms) == (0, 1, 80)


def test_duplicates_are_counted_and_not_taken_as_received() -> None:
    source = NumberedSource(0, 1)
    sink = NumberedSink(source, _log())
    frames = _frames(source, 2)
    for number in (0, 0, 1):
        sink.receive(frames[number], 0)
    tally = sink.tally()
    assert (tally.duplicated, tally.received_ms, tally.lost_ms) == (1, 40, 0)


def test_frames_of_another_call_are_crosstalk() -> None:
    source = NumberedSource(0, 1)
    sink = NumberedSink(source, _log())
    sink.receive(_frames(source, 1)[0] + build_record(1, 0, 1, 0, 0), 0)
    tally = sink.tally()
    assert (tally.crosstalk, tally.lost_ms) == (1, 0)


def test_what_an_interruption_dropped_is_not_lost() -> None:
    source = NumberedSource(0, 5)
    log = _log()
    sink = NumberedSink(source, log)
    sink.receive(_frames(source, 1)[0][:320], 0)
    source.new_turn()
    sink.cleared(1)
    sink.receive(_frames(source, 1)[0], 0)
    tally = sink.tally()
    assert tally.is_clean()
    assert (tally.discarded_ms, tally.received_ms, tally.sent_ms) == (60, 140, 200)


def test_an_interruption_at_the_very_end_is_not_loss_either() -> None:
    source = NumberedSource(0, 5)
    sink = NumberedSink(source, _log())
    _frames(source, 1)
    source.new_turn()
    sink.cleared(1)
    tally = sink.tally()
    assert (tally.lost_ms, tally.discarded_ms) == (0, 100)


def test_old_audio_after_the_clear_is_stale() -> None:
    source = NumberedSource(0, 5)
    sink = NumberedSink(source, _log())
    old = _frames(source, 1)[0]
    sink.receive(old[:160], 0)
    source.new_turn()
    sink.cleared(1)
    sink.receive(old[160:480], 0)
    tally = sink.tally()
    assert (tally.stale_bytes, tally.received_ms, tally.discarded_ms) == (320, 20, 80)


def test_new_audio_before_the_clear_is_early() -> None:
    source = NumberedSource(0, 5)
    sink = NumberedSink(source, _log())
    source.new_turn()
    sink.receive(_frames(source, 1)[0], 0)
    sink.cleared(1)
    assert sink.tally().early_ms == 100


def test_inserted_silence_reaches_the_tally() -> None:
    source = NumberedSource(0, 1)
    sink = NumberedSink(source, _log())
    frames = _frames(source, 2)
    sink.receive(frames[0] + b"\xff" * 160 + frames[1], 0)
    tally = sink.tally()
    assert (tally.inserted_silence_bytes, tally.foreign_bytes, tally.lost_ms) == (160, 0, 0)


def test_a_wire_that_carries_bytes_gets_the_same_records() -> None:
    plain, encoded = NumberedSource(3, 10, raw=True), NumberedSource(3, 10)
    assert plain.message(7) == base64.b64decode(encoded.message(7))
    assert NumberedSource(3, 1, raw=True).message(7) == build_record(3, 0, 0, 0, 7)


def test_the_first_audio_of_each_turn_is_logged_apart() -> None:
    source = NumberedSource(0, 5, raw=True)
    log, first = _log(), _log()
    sink = NumberedSink(source, log, first)
    for sent_ms, took_ms in ((0, 3), (100, 4)):
        sink.receive(source.message(sent_ms * 1_000_000), (sent_ms + took_ms) * 1_000_000)
    source.new_turn()
    sink.cleared(source.turn)
    sink.receive(source.message(200_000_000), 205_000_000)
    assert list(log.values_ms) == [3.0, 4.0, 5.0]
    assert list(first.values_ms) == [3.0, 5.0]


@pytest.mark.parametrize("size", [320, 640, 960])
def test_records_of_linear_audio_are_longer_and_have_another_silence(size: int) -> None:
    source = NumberedSource(0, 5, raw=True, record_bytes=size)
    sink = NumberedSink(source, _log())
    message = source.message(0)
    assert message == b"".join(build_record(0, 0, number, 0, 0, size) for number in range(5))
    sink.receive(message[:size], 0)
    sink.receive(bytes(size) + message[size : size + 7], 0)
    sink.receive(message[size + 7 :], 0)
    tally = sink.tally()
    assert (tally.received_ms, tally.inserted_silence_bytes, tally.foreign_bytes, tally.lost_ms) == (100, size, 0, 0)
