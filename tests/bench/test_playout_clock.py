from __future__ import annotations

from bridge.bench.figures import NS_PER_MS, Window
from bridge.bench.playout_clock import PlayoutClock


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
