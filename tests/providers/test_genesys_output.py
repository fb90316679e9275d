"""The budget, the gathering of audio, and what the caller has heard."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.providers.genesys_output import (
    BURST,
    MAX_BACK_OFF_S,
    MAX_PENDING_BYTES,
    AudioOutput,
    TokenBucket,
)

NOW = 100.0
MS = 8
"""Bytes in a millisecond of PCMU."""


def output(now: float = NOW) -> AudioOutput:
    return AudioOutput(64_000, now)


def give(out: AudioOutput, ms: int, now: float) -> list[int]:
    """Write so much audio; returns what left at once, in ms."""
    out.write(b"\x55" * (ms * MS), now)
    return sizes(out.take(now))


def sizes(messages: list[bytes]) -> list[int]:
    return [len(message) // MS for message in messages]


def empty_budget(out: AudioOutput, now: float, left: int = 0) -> None:
    """Send long messages until only so many are left in the budget."""
    for _ in range(int(BURST) - left):
        out.write(b"\x55" * (1000 * MS), now)
        out.take(now)
        out.flush(now)


# --- the bucket ---


def test_a_budget_is_spent_and_fills_again() -> None:
    bucket = TokenBucket(NOW)
    assert [bucket.take(NOW) for _ in range(21)] == [True] * 20 + [False]
    assert bucket.ready_at() == NOW + 0.25
    assert not bucket.take(NOW + 0.24)
    assert bucket.take(NOW + 0.25)
    assert bucket.level(NOW + 60) == 20.0
    assert bucket.level(NOW) == 20.0, "time never runs backwards"


def test_a_reserve_stays_in_the_budget() -> None:
    bucket = TokenBucket(NOW)
    assert [bucket.take(NOW, 18.0) for _ in range(3)] == [True, True, False]
    assert bucket.ready_at(18.0) == NOW + 0.25
    assert bucket.take(NOW)


def test_a_budget_may_begin_from_nothing() -> None:
    bucket = TokenBucket(NOW)
    bucket.empty(NOW + 5)
    assert bucket.ready_at() == NOW + 5.25


# --- gathering ---


def test_the_first_message_is_small_and_the_next_ones_are_not() -> None:
    out = output()
    assert give(out, 2500, NOW) == [200, 1000, 1000]
    assert out.send_timer() == NOW + 2.2 - 0.120
    assert sizes(out.take(NOW + 2.08)) == [300]
    assert out.send_timer() == math.inf


def test_what_is_worth_a_message_leaves_at_once() -> None:
    assert give(output(), 100, NOW) == [100]


def test_crumbs_wait_for_more_but_not_for_long() -> None:
    out = output()
    assert give(out, 20, NOW) == []
    assert give(out, 20, NOW + 0.02) == []
    assert out.send_timer() == pytest.approx(NOW + 0.08)
    assert sizes(out.take(NOW + 0.079)) == []
    assert sizes(out.take(out.send_timer())) == [40]


def test_while_genesys_has_enough_audio_is_gathered() -> None:
    out = output()
    assert give(out, 600, NOW) == [200, 400]
    assert give(out, 399, NOW + 0.1) == []
    assert give(out, 1, NOW + 0.2) == [400]


def test_before_genesys_runs_dry_less_is_enough() -> None:
    out = output()
    assert give(out, 200, NOW) == [200]
    assert give(out, 200, NOW + 0.01) == []
    assert out.send_timer() == pytest.approx(NOW + 0.08)
    assert sizes(out.take(NOW + 0.08)) == [200]


def test_the_end_of_an_answer_is_not_held_back() -> None:
    out = output()
    assert give(out, 200, NOW) == [200]
    assert give(out, 30, NOW + 0.01) == []
    assert sizes(out.take(NOW + 0.08)) == [30]


def test_a_last_crumb_before_genesys_runs_dry_leaves_at_once() -> None:
    out = output()
    assert give(out, 1200, NOW) == [200, 1000]
    assert give(out, 20, NOW + 1.19) == [20]
    assert give(out, 20, NOW + 1.20) == []
    assert sizes(out.take(NOW + 1.26)) == [20]


def test_an_agent_that_speaks_in_real_time_gets_longer_messages_for_a_short_gap() -> None:
    out = output()
    sent: list[int] = []
    for number in range(0, 60_000, 20):
        now = NOW + number / 1000
        if out.send_timer() <= now:
            sent += sizes(out.take(now))
        sent += give(out, 20, now)
    assert sent[0] == 100
    assert len(sent) < 5 * 60
    assert sum(sent) > 59_000


def test_a_scarce_budget_is_spent_on_long_messages_only() -> None:
    out = output()
    empty_budget(out, NOW, left=5)
    assert give(out, 300, NOW) == []
    assert give(out, 99, NOW) == []
    assert out.send_timer() == pytest.approx(NOW + 0.06)
    assert give(out, 1, NOW) == [400]
    assert give(out, 999, NOW) == []
    assert give(out, 7001, NOW) == [8000]


def test_an_empty_budget_waits_and_then_sends_all_there_is() -> None:
    out = output()
    empty_budget(out, NOW)
    assert give(out, 3000, NOW) == []
    assert out.send_timer() == NOW + 0.25
    assert sizes(out.take(NOW + 0.25)) == [3000]


def test_no_message_is_larger_than_allowed() -> None:
    out = AudioOutput(1000 * MS, NOW)
    empty_budget(out, NOW, left=4)
    assert give(out, 2500, NOW) == [1000, 1000]
    narrow = AudioOutput(150 * MS, NOW)
    assert give(narrow, 1000, NOW)[:2] == [150, 150]


def test_genesys_may_tell_us_to_wait() -> None:
    out = output()
    out.back_off(NOW + 2, NOW)
    assert give(out, 1000, NOW) == []
    assert out.send_timer() == NOW + 2
    assert sizes(out.take(NOW + 2)) == [1000]
    out.back_off(NOW + 1e9, NOW)
    give(out, 1000, NOW)
    assert out.send_timer() == NOW + MAX_BACK_OFF_S


def test_what_cannot_leave_is_held_with_a_bound() -> None:
    out = output()
    out.back_off(NOW + 20, NOW)
    out.write(bytes(MAX_PENDING_BYTES), NOW)
    out.write(b"x", NOW)
    assert out.dropped_bytes == 1
    assert sum(map(len, out.take(NOW + 20))) == MAX_PENDING_BYTES


@given(st.data())
def test_nothing_is_lost_reordered_or_too_much(data: st.DataObject) -> None:
    """Any stream of audio, any delays on a network that keeps the order: within 5 a second and 25 at once."""
    out = output()
    now = arrival = NOW
    written = bytearray()
    messages: list[tuple[float, bytes]] = []

    def send() -> None:
        nonlocal arrival
        for message in out.take(now):
            arrival = max(arrival, now + data.draw(st.sampled_from([0.0, 0.05, 0.5])))
            messages.append((arrival, message))

    for size_ms, gap_s in data.draw(
        st.lists(st.tuples(st.sampled_from([1, 20, 100, 250, 3000]), st.sampled_from([0.0, 0.02, 0.2, 1.0])))
    ):
        piece = bytes([len(written) % 251]) * (size_ms * MS)
        written += piece
        out.write(piece, now)
        send()
        end = now + gap_s
        while (at := out.send_timer()) <= end:
            now = max(now, at)
            send()
        now = end
    while (at := out.send_timer()) != math.inf:
        now = max(now, at)
        send()
    assert b"".join(message for _, message in messages) == bytes(written)
    assert all(0 < len(message) <= 64_000 for _, message in messages)
    tokens, at = 25.0, NOW
    for came, _ in messages:
        tokens, at = min(25.0, tokens + (came - at) * 5) - 1, came
        assert tokens > -1e-6


# --- what was heard ---


def test_a_mark_is_reached_when_genesys_has_played_everything() -> None:
    out = output()
    give(out, 1000, NOW)
    out.mark("g0:1", NOW)
    out.playback_started(NOW + 0.05)
    assert out.playback_completed(NOW + 1.05) == ["g0:1"]
    assert out.mark_timer() == math.inf


def test_a_mark_behind_audio_that_is_still_here_waits() -> None:
    out = output()
    give(out, 500, NOW)
    out.mark("g0:1", NOW)
    assert out.mark_timer() == math.inf
    assert out.playback_completed(NOW + 0.2) == []
    assert sizes(out.take(NOW + 0.2)) == [300]
    assert out.playback_completed(NOW + 0.5) == ["g0:1"]


def test_completed_that_crosses_new_audio_speaks_of_the_old() -> None:
    out = output()
    give(out, 200, NOW)
    out.mark("old", NOW)
    give(out, 200, NOW + 0.25)
    out.mark("new", NOW + 0.25)
    assert out.playback_completed(NOW + 0.26) == ["old"]
    assert out.playback_completed(NOW + 0.44) == ["new"]


def test_without_a_word_of_genesys_the_clock_decides() -> None:
    out = output()
    give(out, 1000, NOW)
    out.mark("g0:1", NOW)
    assert out.mark_timer() == pytest.approx(NOW + 1.5)
    assert out.overdue(NOW + 1.4) == []
    assert out.overdue(out.mark_timer()) == ["g0:1"]


def test_the_clock_counts_from_when_genesys_began_to_play() -> None:
    out = output()
    give(out, 1000, NOW)
    out.playback_started(NOW + 0.3)
    out.playback_started(NOW + 0.9)
    out.mark("g0:1", NOW + 0.9)
    assert out.mark_timer() == pytest.approx(NOW + 1.8)


def test_a_late_start_is_believed_to_a_point() -> None:
    out = output()
    out.playback_started(NOW)
    give(out, 1000, NOW)
    out.playback_started(NOW + 60)
    out.mark("g0:1", NOW)
    assert out.mark_timer() == pytest.approx(NOW + 1 + 2 + 0.5)


def test_several_marks_come_back_in_order() -> None:
    out = output()
    give(out, 200, NOW)
    out.mark("a", NOW)
    give(out, 1000, NOW)
    out.mark("b", NOW)
    out.mark("c", NOW)
    assert out.mark_timer() == pytest.approx(NOW + 0.2 + 0.5)
    assert out.overdue(NOW + 1.0) == ["a"]
    assert out.overdue(NOW + 1.7) == ["b", "c"]


def test_a_mark_with_nothing_before_it_is_reached_at_once() -> None:
    out = output()
    out.mark("g0:1", NOW)
    assert out.mark_timer() == NOW
    assert out.overdue(NOW) == ["g0:1"]
    give(out, 200, NOW)
    assert out.playback_completed(NOW + 0.2) == []
    out.mark("g0:2", NOW + 3)
    assert out.mark_timer() == NOW + 3


def test_a_flush_gives_marks_back_and_says_whether_genesys_still_holds_audio() -> None:
    out = output()
    give(out, 2300, NOW)
    out.mark("g0:1", NOW)
    assert out.flush(NOW + 0.1) == (True, ["g0:1"])
    assert out.take(NOW + 10) == []
    assert out.flush(NOW + 0.2) == (False, [])


def test_a_flush_after_everything_was_played_asks_nothing_of_genesys() -> None:
    out = output()
    give(out, 1000, NOW)
    out.playback_completed(NOW + 1)
    assert out.flush(NOW + 1) == (False, [])
    give(out, 1000, NOW + 2)
    assert out.flush(NOW + 3.6) == (False, []), "the clock says so too"


def test_after_a_flush_the_new_answer_is_not_taken_for_the_old() -> None:
    out = output()
    give(out, 2000, NOW)
    out.flush(NOW + 0.5)
    give(out, 1000, NOW + 0.6)
    out.mark("new", NOW + 0.6)
    assert out.playback_completed(NOW + 0.65) == []
    assert out.playback_completed(NOW + 1.6) == ["new"]
