from __future__ import annotations

from dataclasses import replace

from bridge.sip.media_stats import MediaStats

NOTHING = MediaStats(
    packets_received=0,
    packets_expected=0,
    packets_late=0,
    packets_reordered=0,
    packets_duplicate=0,
    packets_refused=0,
    packets_unexpected=0,
    packets_malformed=0,
    frames_concealed=0,
    jitter_ms=0.0,
    buffer_ms=40.0,
    relearns=0,
    packets_sent=0,
    bytes_sent=0,
    queue_dropped_bytes=0,
    round_trip_ms=None,
    peer_loss=None,
    peer_jitter_ms=None,
)
GOOD = replace(NOTHING, packets_received=1000, packets_expected=1000)


def test_nothing_heard_has_no_score() -> None:
    assert (NOTHING.packets_lost, NOTHING.loss, NOTHING.mos) == (0, 0.0, None)


def test_loss_is_what_never_came() -> None:
    lossy = replace(GOOD, packets_received=950)
    assert (lossy.packets_lost, lossy.loss) == (50, 0.05)
    assert replace(GOOD, packets_received=1001).packets_lost == 0


def test_the_score_falls_with_loss_late_packets_and_delay() -> None:
    best = GOOD.mos
    assert best == 4.38
    assert replace(GOOD, packets_received=950).mos == 3.86
    assert replace(GOOD, packets_late=50).mos == 3.86
    assert replace(GOOD, round_trip_ms=400.0).mos == 3.94
