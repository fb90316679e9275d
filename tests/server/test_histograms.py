"""Histograms of the media path, added up over calls."""

from __future__ import annotations

from bridge.server.histograms import JITTER_BUCKETS_S, LOSS_BUCKETS, MOS_BUCKETS, HopHistogram, by_owner, summed


def test_the_sum_is_a_new_histogram() -> None:
    total, call = HopHistogram((0.1, 0.2)), HopHistogram((0.1, 0.2))
    total.observe(0.05)
    call.observe(0.15)
    call.observe(9.0)
    both = summed(total, [call, call])
    assert (both.counts, both.total_s) == ([1, 2, 2], 18.35)
    assert (total.counts, call.counts) == ([1, 0, 0], [0, 1, 1]), "what is added up stays as it was"
    alone = summed(total, [])
    alone.observe(0.05)
    assert total.counts == [1, 0, 0], "nor does it change with the sum"


def test_every_owner_has_a_histogram_of_its_own() -> None:
    owners = by_owner()
    owners["agent"].observe(0.3)
    assert {name: histogram.count for name, histogram in owners.items() if histogram.count} == {"agent": 1}


def test_bounds_rise() -> None:
    for bounds in (JITTER_BUCKETS_S, LOSS_BUCKETS, MOS_BUCKETS):
        assert list(bounds) == sorted(set(bounds))
