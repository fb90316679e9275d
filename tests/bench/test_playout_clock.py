from __future__ import annotations

from bridge.bench.figures import NS_PER_MS, Window
from bridge.bench.playout_clock import PlayoutClock
from bridge.media.format import Encoding, MediaFormat


def _clock() -> PlayoutClock:
    window = Window()
    window.open(0)
    return PlayoutClock(window)


def test_audio_in_real_time_has_no_gaps() -> None:
    clock = _clock()
    for number in range(50):
        clock.arrived((1000 + number * 100) * NS_PER_MS, 800)
    assert clock.gaps == 0
    # The first sample plays one frame after it came: 1000 + 20 + 50 x 100.
    assert clock.ends_ns == 6020 * NS_PER_MS


def test_jitter_within_the_start_delay_is_no_gap() -> None:
    clock = _clock()
    clock.arrived(1000 * NS_PER_MS, 800)
    clock.arrived(1120 * NS_PER_MS, 800)
    assert clock.gaps == 0


def test_a_late_message_is_a_gap_of_its_lateness() -> None:
    clock = _clock()
    clock.arrived(1000 * NS_PER_MS, 800)
    clock.arrived(1150 * NS_PER_MS, 800)
    assert (clock.gaps, clock.gap_ns, clock.longest_gap_ns) == (1, 30 * NS_PER_MS, 30 * NS_PER_MS)
    clock.arrived(1275 * NS_PER_MS, 800)
    assert (clock.gaps, clock.gap_ns, clock.longest_gap_ns) == (2, 35 * NS_PER_MS, 30 * NS_PER_MS)


def test_silence_after_a_flush_is_no_gap() -> None:
    clock = _clock()
    clock.arrived(1000 * NS_PER_MS, 800)
    clock.flush()
    assert clock.ends_ns == 0
    clock.arrived(5000 * NS_PER_MS, 800)
    assert clock.gaps == 0


def test_gaps_outside_the_window_do_not_count() -> None:
    clock = PlayoutClock(Window())
    clock.arrived(1000 * NS_PER_MS, 800)
    clock.arrived(5000 * NS_PER_MS, 800)
    assert clock.gaps == 0


def test_a_gap_over_40_ms_is_counted_apart_at_any_format() -> None:
    window = Window()
    window.open(0)
    clock = PlayoutClock(window, MediaFormat(Encoding.L16, 24000))
    for at_ms in (1000, 1080, 1161):  # 40 and 41 ms after the end of what was there
        clock.arrived(at_ms * NS_PER_MS, 960)
    assert (clock.gaps, clock.long_gaps, clock.longest_gap_ns) == (2, 1, 41 * NS_PER_MS)
    assert clock.ends_ns == 1201 * NS_PER_MS
