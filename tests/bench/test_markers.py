from __future__ import annotations

import base64

import numpy as np
import pytest

from bridge.bench.figures import LatencyLog, Window
from bridge.bench.markers import (
    CODES,
    MarkerSink,
    MarkerSource,
    burst,
    decode_pcm,
    decode_ulaw,
    encode_pcm,
    encode_ulaw,
    read_code,
)

MS = 1_000_000


def _log() -> LatencyLog:
    window = Window()
    window.open(0)
    return LatencyLog(window)


def _up() -> tuple[MarkerSource, MarkerSink, LatencyLog]:
    """A direction of 20 ms mu-law frames, heard as they are."""
    source = MarkerSource(20, MarkerSource.cycle(20, 8000, encode_ulaw))
    log = _log()
    return source, MarkerSink(source, 8000, decode_ulaw, log), log


def _run(source: MarkerSource, frames: int, start_ms: int = 0) -> list[bytes]:
    return [base64.b64decode(source.message((start_ms + number * 20) * MS)) for number in range(frames)]


def test_mu_law_table_has_the_levels_of_the_standard() -> None:
    # G.711 table 2a: decoder outputs at the ends and around zero, scaled to 16 bits.
    assert decode_ulaw(b"\x00\x80\xff\x7f\xfe\x8f\x0f").tolist() == [-32124, 32124, 0, 0, 8, 16764, -16764]


def test_mu_law_encoder_is_the_inverse_of_the_table() -> None:
    every = bytes(code for code in range(256) if code != 0x7F)
    assert encode_ulaw(decode_ulaw(every)) == every
    assert encode_ulaw(np.zeros(2, np.int16)) == b"\xff\xff"


@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_every_burst_is_loud_at_once_and_known_by_its_pitch(rate_hz: int) -> None:
    for code in range(CODES):
        samples = burst(code, rate_hz)
        assert len(samples) == rate_hz // 25
        assert samples[0] == 16000
        assert read_code(samples[: rate_hz * 36 // 1000], rate_hz) == code


def test_cycle_has_eight_bursts_half_a_second_apart() -> None:
    messages = MarkerSource.cycle(100, 16000, encode_pcm)
    assert len(messages) == 40
    loud = [number for number, text in enumerate(messages) if decode_pcm(base64.b64decode(text)).any()]
    assert loud == [0, 5, 10, 15, 20, 25, 30, 35]


def test_untouched_audio_is_clean_and_has_the_latency_of_the_wire() -> None:
    source, sink, log = _up()
    for number, frame in enumerate(_run(source, 100)):
        sink.receive(frame, (number * 20 + 7) * MS)
    tally = sink.tally()
    assert list(log.values_ms) == [7.0] * 4
    assert tally.is_clean()
    assert (tally.sent_ms, tally.received_ms) == (2000, 2000)


def test_delay_inside_the_signal_is_latency_too() -> None:
    source, sink, log = _up()
    stream = b"\xff" * 16 + b"".join(_run(source, 50))  # 2 ms later in the stream
    for number in range(50):
        sink.receive(stream[number * 160 : number * 160 + 160], number * 20 * MS)
    assert list(log.values_ms) == [2.0, 2.0]
    assert sink.tally().is_clean()


def test_a_signal_that_comes_earlier_in_the_stream_counts_its_shift_as_well() -> None:
    source, sink, log = _up()
    stream = b"".join(_run(source, 60))[8:]  # a server swallowed 1 ms
    for number in range(55):
        sink.receive(stream[number * 160 : number * 160 + 160], number * 20 * MS)
    assert log.values_ms[1] == pytest.approx(-1.0 - 20)  # heard in the frame before, 1 ms from its end


def test_cutting_a_burst_across_messages_does_no_harm() -> None:
    source, sink, log = _up()
    stream = b"".join(_run(source, 100))
    for position in range(0, len(stream), 136):
        sink.receive(stream[position : position + 136], 0)
    assert len(log.values_ms) == 4
    assert sink.tally().is_clean()


def test_lost_burst_and_lost_audio_are_found() -> None:
    source, sink, log = _up()
    for number, frame in enumerate(_run(source, 100)):
        if not 25 <= number < 30:
            sink.receive(frame, number * 20 * MS)
    tally = sink.tally()
    assert (tally.lost_markers, tally.lost_ms, tally.duplicated) == (1, 100, 0)


def test_repeated_burst_is_found() -> None:
    source, sink, log = _up()
    frames = _run(source, 50)
    for number, frame in enumerate(frames[:5] + frames[:5] + frames[5:]):
        sink.receive(frame, number * 20 * MS)
    assert sink.tally().duplicated == 1


def test_a_loud_noise_that_is_no_burst_counts_as_changed() -> None:
    source, sink, _ = _up()
    _run(source, 1)
    sink.receive(encode_ulaw(np.full(320, 16000, np.int16)), 0)
    assert sink.tally().corrupt == 1


def test_what_a_flush_dropped_is_discarded_not_lost() -> None:
    source = MarkerSource(100, MarkerSource.cycle(100, 8000, encode_ulaw))
    sink = MarkerSink(source, 8000, decode_ulaw, _log())
    sink.receive(base64.b64decode(source.message(0))[:160], 0)
    source.new_turn()
    sink.cleared(1)
    for number in range(1, 10):
        sink.receive(base64.b64decode(source.message(number * 100 * MS)), number * 100 * MS)
    tally = sink.tally()
    assert tally.is_clean()
    assert (tally.discarded_ms, tally.received_ms, tally.sent_ms) == (80, 920, 1000)


def test_old_burst_after_the_flush_is_stale() -> None:
    source = MarkerSource(100, MarkerSource.cycle(100, 8000, encode_ulaw))
    sink = MarkerSink(source, 8000, decode_ulaw, _log())
    old = base64.b64decode(source.message(0))
    source.new_turn()
    sink.cleared(1)
    sink.receive(old, 0)
    assert sink.tally().stale_bytes == 320


def test_rest_of_an_old_burst_after_the_flush_is_stale() -> None:
    source = MarkerSource(100, MarkerSource.cycle(100, 8000, encode_ulaw))
    sink = MarkerSink(source, 8000, decode_ulaw, _log())
    old = base64.b64decode(source.message(0))
    sink.receive(old[:300], 0)
    source.new_turn()
    sink.cleared(1)
    sink.receive(old[200:], 0)
    assert sink.tally().stale_bytes == 320


def test_bursts_that_begin_inside_a_long_message_are_known() -> None:
    source = MarkerSource(200, MarkerSource.cycle(200, 8000, encode_ulaw, raw=True))
    log = _log()
    sink = MarkerSink(source, 8000, decode_ulaw, log)
    sent_ms = []
    for number in range(20):
        audio = source.message(number * 200 * MS)
        sent_ms += [number * 200 for burst_number, _, at_ns in source.bursts if at_ns == number * 200 * MS]
        sink.receive(audio, (number * 200 + 3) * MS)
    assert sent_ms == [0, 400, 1000, 1400, 2000, 2400, 3000, 3400]
    assert log.values_ms.tolist() == [3.0] * 8
    assert sink.tally().is_clean()


def test_a_burst_that_was_not_sent_whole_is_not_missed() -> None:
    source, sink, log = _up()
    for frame in _run(source, 26):  # the second burst begins in the last one
        sink.receive(frame, 0)
    assert sink.tally().is_clean()
    assert len(log.values_ms) == 1
