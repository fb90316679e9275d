"""When agent audio goes out, what of it is known to be heard, and that nothing of it is ever lost on the way."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.media.format import FRAME_MS, PCM_16K, ULAW_8K, MediaFormat
from bridge.media.playout import TAIL_MARGIN_S, TURN_GAP_S, Playout
from tests.kit.clock import SAME_TIME_LIMIT

NOW = 1000.25
LEAD_MS = 400
CHUNK_MS = 100


def new(media: MediaFormat = ULAW_8K, max_queue_ms: int = 60_000) -> Playout:
    return Playout(media, LEAD_MS, CHUNK_MS, max_queue_ms)


def spoken(size_bytes: int, start: int = 0) -> bytes:
    """Audio that tells its own place and holds no byte of silence in any encoding."""
    return bytes(1 + (start + index) % 250 for index in range(size_bytes))


def sizes(items: Sequence[bytes | str]) -> list[int | str]:
    return [len(item) if isinstance(item, bytes) else item for item in items]


# --- the lead ---


def test_nothing_to_play() -> None:
    playout = new()
    assert playout.release(NOW) == []
    assert playout.next_timer() == math.inf
    assert playout.write(b"", NOW) == 0
    assert playout.next_timer() == math.inf
    assert (playout.queued_ms, playout.sent_ms, playout.confirmed_ms, playout.unheard_s(NOW)) == (0, 0, 0, 0)


def test_a_frame_goes_out_at_once_and_uncopied() -> None:
    playout, frame = new(), spoken(160)
    playout.write(frame, NOW)
    assert playout.next_timer() <= NOW
    (payload,) = playout.release(NOW)
    assert payload is frame


def test_whole_frames_that_fit_into_the_lead_pass_at_once() -> None:
    playout = new()
    assert playout.pass_through(spoken(1600), NOW)
    assert playout.pass_through(spoken(1440), NOW)
    assert playout.sent_ms == 380
    assert playout.unheard_s(NOW) == pytest.approx(0.38)
    assert not playout.pass_through(spoken(320), NOW + 0.019)
    assert playout.pass_through(spoken(320), NOW + 0.021)
    assert playout.next_timer() == pytest.approx(NOW + 0.42 + TURN_GAP_S)
    assert playout.flush(NOW + 0.1) is True


def test_after_a_pause_the_whole_lead_is_free() -> None:
    playout = new()
    playout.pass_through(spoken(160), NOW)
    assert not playout.pass_through(spoken(3360), NOW + 10)
    assert playout.pass_through(spoken(3200), NOW + 10)
    assert playout.unheard_s(NOW + 10) == pytest.approx(0.4)


@pytest.mark.parametrize("size_bytes", [0, 1, 159, 161])
def test_what_is_not_whole_frames_does_not_pass(size_bytes: int) -> None:
    playout = new()
    assert not playout.pass_through(spoken(size_bytes), NOW)
    assert playout.sent_ms == 0


def test_nothing_passes_what_waits() -> None:
    playout = new()
    playout.write(spoken(10), NOW)
    assert not playout.pass_through(spoken(160), NOW)
    playout = new(PCM_16K)
    playout.write(b"\x01", NOW)
    assert not playout.pass_through(spoken(640), NOW)
    playout = new()
    playout.finish()
    assert not playout.pass_through(spoken(160), NOW)


def test_a_long_answer_fills_the_lead_and_then_keeps_it_filled_by_chunks() -> None:
    playout, answer = new(), spoken(8000)
    playout.write(answer, NOW)
    assert playout.release(NOW) == [answer[:3200]]
    assert playout.queued_ms == 600
    assert playout.unheard_s(NOW) == pytest.approx(1.0)
    assert playout.release(NOW) == []
    assert playout.next_timer() == pytest.approx(NOW + 0.1, abs=1e-9)
    assert playout.release(NOW + 0.099) == []
    assert playout.release(NOW + 0.1) == [answer[3200:4000]]
    assert playout.next_timer() == pytest.approx(NOW + 0.2, abs=1e-9)


def test_a_late_timer_catches_up_without_drift() -> None:
    playout = new()
    playout.write(spoken(8000), NOW)
    playout.release(NOW)
    assert sizes(playout.release(NOW + 0.25)) == [2000 - 2000 % 160]
    assert playout.next_timer() == pytest.approx(NOW + 0.24 + 0.1, abs=1e-9)


def test_less_than_a_chunk_goes_as_soon_as_it_fits() -> None:
    playout = new()
    playout.write(spoken(3200 + 320), NOW)
    assert sizes(playout.release(NOW)) == [3200]
    assert playout.next_timer() == pytest.approx(NOW + 0.04, abs=1e-9)
    assert playout.release(NOW + 0.039) == []
    assert sizes(playout.release(NOW + 0.04)) == [320]


def test_many_small_payloads_become_whole_frames() -> None:
    playout, answer = new(), spoken(800)
    for at in range(0, 800, 50):
        playout.write(answer[at : at + 50], NOW)
    assert playout.release(NOW) == [answer]


# --- the remainder ---


def test_a_remainder_waits_until_the_carrier_is_about_to_run_dry() -> None:
    playout, answer = new(), spoken(250)
    playout.write(answer, NOW)
    assert playout.release(NOW) == [answer[:160]]
    due = NOW + 0.02 - TAIL_MARGIN_S
    assert playout.next_timer() == pytest.approx(due, abs=1e-9)
    assert playout.release(due - 0.001) == []
    assert playout.release(playout.next_timer()) == [answer[160:] + b"\xff" * 70]
    assert playout.queued_ms == 0


@pytest.mark.parametrize("start_s", [number * 0.1 for number in range(100)])
def test_a_timer_that_fires_on_time_is_never_too_early(start_s: float) -> None:
    playout, now = new(), start_s
    playout.write(spoken(5000), now)
    for _ in range(4):
        assert playout.release(now), now
        now = playout.next_timer()
    assert playout.release(now) == [spoken(40, 4960) + b"\xff" * 120]


def test_a_remainder_is_completed_by_what_comes_in_time() -> None:
    playout, answer = new(), spoken(320)
    playout.write(answer[:250], NOW)
    playout.release(NOW)
    playout.write(answer[250:], NOW + 0.005)
    assert playout.release(NOW + 0.005) == [answer[160:]]


def test_the_silence_is_the_encodings_own() -> None:
    playout = new(PCM_16K)
    playout.write(b"\x01\x02", NOW)
    assert playout.release(NOW) == [b"\x01\x02" + bytes(638)]


def test_half_a_sample_waits_for_its_other_half() -> None:
    playout = new(PCM_16K)
    playout.write(b"\x01\x02\x03", NOW)
    assert playout.release(NOW) == [b"\x01\x02" + bytes(638)]
    assert playout.next_timer() == pytest.approx(NOW + 0.02 + TURN_GAP_S)
    playout.write(b"\x04" + b"\x05\x06" * 319, NOW + 0.02)
    assert playout.release(NOW + 0.02) == [b"\x03\x04" + b"\x05\x06" * 319]


def test_half_a_sample_does_not_outlive_a_flush_or_the_end() -> None:
    playout = new(PCM_16K)
    playout.write(b"\x01\x02\x03", NOW)
    playout.flush(NOW)
    playout.write(b"\x07\x08\x09", NOW)
    assert playout.release(NOW) == [b"\x07\x08" + bytes(638)]
    playout.finish()
    playout.write(b"\x0a\x0b", NOW)
    assert playout.release(NOW + 1.0) == ["g1:1", b"\x0a\x0b" + bytes(638)]


# --- marks ---


def test_finish_pads_the_remainder_and_sets_a_mark_behind_it() -> None:
    playout = new()
    playout.write(spoken(200), NOW)
    assert playout.finish() == "g0:1"
    assert playout.release(NOW) == [spoken(160), spoken(40, 160) + b"\xff" * 120, "g0:1"]
    assert playout.next_timer() == math.inf


def test_finish_with_nothing_to_play_is_a_mark_at_once() -> None:
    playout = new()
    name = playout.finish()
    assert playout.next_timer() <= NOW
    assert playout.release(NOW) == [name]
    assert playout.reached(name)


def test_a_mark_does_not_wait_for_the_lead() -> None:
    playout = new()
    playout.write(spoken(3210), NOW)
    playout.finish()
    playout.release(NOW)
    name = playout.finish()
    assert playout.next_timer() <= NOW
    assert playout.release(NOW) == [name]


def test_audio_behind_a_mark_does_not_complete_the_frame_before_it() -> None:
    playout = new()
    playout.write(spoken(200), NOW)
    name = playout.finish()
    playout.write(spoken(160, 200), NOW)
    assert playout.release(NOW) == [spoken(200) + b"\xff" * 120, name, spoken(160, 200)]


def test_a_remainder_before_a_mark_respects_the_lead() -> None:
    playout = new()
    for _ in range(50):
        playout.write(b"\x01", NOW)
        playout.finish()
    released = [item for item in playout.release(NOW) if isinstance(item, bytes)]
    assert sum(map(len, released)) == 21 * 160  # the lead and one frame
    assert playout.next_timer() == pytest.approx(NOW + 0.02, abs=1e-9)


def test_a_talkspurt_ends_with_a_mark_of_its_own() -> None:
    playout = new()
    playout.write(spoken(160), NOW)
    playout.release(NOW)
    due = NOW + 0.02 + TURN_GAP_S
    assert playout.next_timer() == pytest.approx(due, abs=1e-9)
    assert playout.release(due - 0.001) == []
    assert playout.release(playout.next_timer()) == ["g0:1"]
    assert playout.next_timer() == math.inf
    assert playout.release(due + 10) == []


def test_a_mark_that_comes_back_confirms_what_was_before_it() -> None:
    playout = new()
    playout.write(spoken(160), NOW)
    first = playout.finish()
    playout.write(spoken(160), NOW)
    second = playout.finish()
    playout.release(NOW)
    assert playout.sent_ms == 40
    assert playout.reached(first)
    assert playout.confirmed_ms == 20
    assert not playout.reached(first)
    assert playout.reached(second)
    assert playout.confirmed_ms == 40
    assert not playout.reached("nonsense")


def test_marks_may_come_back_in_any_order() -> None:
    playout = new()
    playout.write(spoken(160), NOW)
    first = playout.finish()
    playout.write(spoken(160), NOW)
    second = playout.finish()
    playout.release(NOW)
    assert playout.reached(second)
    assert playout.reached(first)
    assert playout.confirmed_ms == 40


# --- flush ---


def test_a_flush_forgets_what_waits_and_says_that_the_carrier_holds_some() -> None:
    playout = new()
    playout.write(spoken(8000), NOW)
    playout.release(NOW)
    assert playout.flush(NOW + 0.01) is True
    assert playout.flushed_bytes == 4800
    assert playout.queued_ms == 0
    assert playout.unheard_s(NOW + 0.01) == 0
    assert playout.next_timer() == math.inf
    assert playout.release(NOW + 1) == []
    playout.write(spoken(160), NOW + 1)
    assert playout.release(NOW + 1) == [spoken(160)]


def test_a_flush_in_the_middle_of_a_payload_does_not_cut_the_next_one() -> None:
    playout = new()
    playout.write(spoken(4000), NOW)
    playout.release(NOW)
    playout.flush(NOW)
    playout.write(spoken(320, 7), NOW)
    assert playout.release(NOW) == [spoken(320, 7)]


def test_after_a_flush_the_whole_lead_is_free_again() -> None:
    playout = new()
    playout.write(spoken(8000), NOW)
    playout.release(NOW)
    playout.flush(NOW)
    playout.write(spoken(8000), NOW)
    assert sizes(playout.release(NOW)) == [3200]


def test_a_carrier_that_has_confirmed_everything_need_not_clear() -> None:
    playout = new()
    assert playout.flush(NOW) is False
    playout.write(spoken(160), NOW)
    playout.release(NOW)
    (mark,) = playout.release(NOW + 1)
    assert isinstance(mark, str)
    playout.reached(mark)
    assert playout.flush(NOW + 2) is False


def test_a_carrier_that_should_be_dry_but_has_not_said_so_must_clear() -> None:
    playout = new()
    playout.write(spoken(160), NOW)
    playout.release(NOW)
    assert playout.flush(NOW + 100) is True
    assert playout.flush(NOW + 101) is False


def test_marks_of_a_flushed_generation_do_not_count() -> None:
    playout = new()
    playout.write(spoken(160), NOW)
    old = playout.finish()
    playout.release(NOW)
    playout.flush(NOW)
    assert playout.generation == 1
    assert playout.confirmed_ms == 20
    playout.write(spoken(320), NOW)
    playout.release(NOW)
    assert not playout.reached(old)
    assert playout.confirmed_ms == 20
    assert playout.finish() == "g1:2"


def test_a_mark_that_was_flushed_here_is_never_set() -> None:
    playout = new()
    playout.write(spoken(8000), NOW)
    playout.finish()
    playout.flush(NOW)
    assert playout.release(NOW + 10) == []


# --- bounds and gaps ---


def test_what_does_not_fit_is_dropped_and_counted() -> None:
    playout = new(max_queue_ms=100)
    assert playout.write(spoken(800), NOW) == 0
    assert playout.write(spoken(1), NOW) == 1
    assert playout.write(spoken(500), NOW) == 500
    assert playout.dropped_bytes == 501
    assert playout.release(NOW) == [spoken(800)]
    assert playout.write(spoken(800), NOW) == 0


@pytest.mark.parametrize(
    ("pause_s", "gaps"),
    [(0.0, 0), (0.02, 0), (0.035, 0), (0.045, 1), (0.2, 1), (0.215, 1), (0.225, 0), (5.0, 0)],
)
def test_a_gap_is_a_dry_carrier_in_the_middle_of_a_talkspurt(pause_s: float, gaps: int) -> None:
    playout = new()
    playout.write(spoken(160), NOW)
    playout.release(NOW)
    playout.write(spoken(160), NOW + pause_s)
    assert playout.gaps == gaps
    playout = new()
    playout.pass_through(spoken(160), NOW)
    playout.pass_through(spoken(160), NOW + pause_s)
    assert playout.gaps == gaps


def test_what_waits_behind_other_audio_is_no_gap() -> None:
    playout = new()
    playout.write(spoken(200), NOW)
    playout.release(NOW)
    playout.write(spoken(160), NOW + 0.1)
    assert playout.gaps == 0


def test_after_a_mark_a_pause_is_no_gap() -> None:
    playout = new()
    playout.write(spoken(160), NOW)
    playout.finish()
    playout.release(NOW)
    playout.write(spoken(160), NOW + 0.1)
    assert playout.gaps == 0


# --- anything at all ---


# --- the carrier's stream is replaced ---


def test_a_new_stream_begins_empty_and_gets_what_waited() -> None:
    playout, said = new(), spoken(8000)
    playout.write(said, NOW)
    assert sizes(playout.release(NOW)) == [3200]
    playout.restart(NOW + 0.1)
    assert playout.unheard_s(NOW + 0.1) == pytest.approx(0.6), "what the old stream had is lost"
    assert playout.confirmed_ms == 400
    assert playout.next_timer() <= NOW + 0.1
    assert playout.release(NOW + 0.1) == [said[3200:6400]]
    assert playout.flush(NOW + 0.2) is True
    assert playout.flushed_bytes == 1600


def test_marks_that_the_old_stream_owed_are_set_again_before_everything_else() -> None:
    playout, said = new(), spoken(4800)
    playout.write(said[:1600], NOW)
    first = playout.finish()
    playout.write(said[1600:1760], NOW)
    second = playout.finish()
    playout.write(said[1760:], NOW)
    third = playout.finish()
    assert sizes(playout.release(NOW)) == [1600, first, 160, second, 1440]
    playout.restart(NOW)
    assert playout.release(NOW) == [first, second, said[3200:], third]
    assert playout.reached(first)
    assert not playout.reached(first)
    assert playout.reached(third)
    assert playout.confirmed_ms == 600


def test_a_stream_that_was_replaced_while_idle_is_idle() -> None:
    playout = new()
    playout.pass_through(spoken(160), NOW)
    playout.restart(NOW)
    assert playout.next_timer() == math.inf, "no mark for a talkspurt that nobody can confirm"
    assert playout.release(NOW + 10) == []
    assert playout.flush(NOW) is False
    assert playout.gaps == 0


def test_what_waits_is_converted_for_a_stream_of_another_format() -> None:
    playout, said = new(), spoken(4801)
    playout.write(said, NOW)
    assert sizes(playout.release(NOW)) == [3200]
    mark = playout.finish()
    playout.write(spoken(160), NOW)
    playout.restart(NOW)
    playout.convert(PCM_16K, lambda payload: b"".join(bytes([byte]) * 4 for byte in payload))
    assert playout.queued_ms == pytest.approx((1601 + 160) / 8)
    assert (playout.sent_ms, playout.confirmed_ms) == (400, 400)
    out = playout.release(NOW)
    assert sizes(out) == [7040, mark, 640]
    audio = b"".join(item for item in out if isinstance(item, bytes))
    assert audio[: 4 * 1601 : 4] == said[3200:]
    assert audio[4 * 1601 : 7040] == PCM_16K.silence(636)
    playout.write(b"\x01", NOW)
    playout.write(b"\x02" * 639, NOW)
    assert sizes(playout.release(NOW)) == [640]


def test_counters_and_limits_keep_their_time_in_another_format() -> None:
    playout = new(max_queue_ms=1000)
    playout.write(spoken(8000), NOW)
    playout.write(spoken(160), NOW)
    playout.flush(NOW)
    playout.restart(NOW)
    playout.convert(PCM_16K, lambda payload: payload)
    assert PCM_16K.duration_ms(playout.dropped_bytes) == 20
    assert PCM_16K.duration_ms(playout.flushed_bytes) == 1000
    assert playout.write(bytes(32_000), NOW) == 0
    assert playout.write(bytes(640), NOW) == 640


def test_a_payload_that_converts_to_nothing_is_none() -> None:
    playout = new()
    playout.write(spoken(80), NOW)
    playout.restart(NOW)
    playout.convert(PCM_16K, lambda payload: b"")
    assert playout.release(NOW) == []
    assert playout.next_timer() == math.inf


class _Carrier:
    """A carrier that plays what it is given at its own pace, and checks the promises of ``Playout`` meanwhile."""

    def __init__(self, media: MediaFormat, lead_ms: int, chunk_ms: int, max_queue_ms: int, start_s: float) -> None:
        self.playout = Playout(media, lead_ms, chunk_ms, max_queue_ms)
        self.media = media
        self.max_queue_ms = max_queue_ms
        self.lead_s = lead_ms / 1000
        self.frame_bytes = media.size_bytes(FRAME_MS)
        self.now = start_s
        self.dry_at_s = -math.inf
        self.count = 0  # bytes that were ever made
        self.expected = b""  # written since the last flush, without what was dropped
        self.heard = b""  # sent since the last flush, without silence
        self.marks: dict[str, int] = {}  # marks of ours that wait: name -> where in ``expected`` it stands
        self.sent_bytes = 0
        self.confirmed_bytes = 0
        self.pending: list[tuple[str, int]] = []  # marks with the carrier, and what was sent before each
        self.flushed: list[str] = []  # marks of former generations
        self.flushed_bytes = 0

    def write(self, size_bytes: int, *, try_to_pass: bool) -> None:
        payload = spoken(size_bytes, self.count)
        self.count += size_bytes
        if try_to_pass and self.playout.pass_through(payload, self.now):
            self.expected += payload
            self._take([payload])
        elif not self.playout.write(payload, self.now):
            self.expected += payload
        assert self.playout.queued_ms <= self.max_queue_ms

    def finish(self) -> None:
        self.expected = self.expected[: len(self.expected) - len(self.expected) % self.media.bytes_per_sample]
        self.marks[self.playout.finish()] = len(self.expected)

    def flush(self) -> None:
        may_hold = self.playout.flush(self.now)
        assert may_hold == (self.sent_bytes > self.confirmed_bytes), "only a mark proves that the carrier is empty"
        self.confirmed_bytes = self.sent_bytes
        whole = len(self.expected) - len(self.expected) % self.media.bytes_per_sample
        self.flushed_bytes += whole - len(self.heard)
        assert self.playout.flushed_bytes == self.flushed_bytes
        self.flushed += [*(name for name, _ in self.pending), *self.marks]
        self.expected, self.heard = b"", b""
        self.pending.clear()
        self.marks.clear()
        self.dry_at_s = -math.inf

    def echo(self, number: int) -> None:
        """A mark comes back: one of the flushed ones or one of the others."""
        confirmed = self.playout.confirmed_ms
        if self.flushed and number % 2:
            assert not self.playout.reached(self.flushed[number % len(self.flushed)])
            assert self.playout.confirmed_ms == confirmed
        elif self.pending:
            name, before_bytes = self.pending.pop(number % len(self.pending))
            assert self.playout.reached(name)
            self.confirmed_bytes = max(self.confirmed_bytes, before_bytes)
            assert self.playout.confirmed_ms == pytest.approx(self.media.duration_ms(self.confirmed_bytes))

    def release(self) -> None:
        self._take(self.playout.release(self.now))

    def _take(self, items: list[bytes | str]) -> None:
        for item in items:
            if isinstance(item, str):
                assert len(self.heard) == self.marks.pop(item, len(self.heard)), "a mark in the wrong place"
                self.pending.append((item, self.sent_bytes))
                continue
            assert item
            assert len(item) % self.frame_bytes == 0, "not whole frames"
            self.sent_bytes += len(item)
            self.dry_at_s = max(self.dry_at_s, self.now) + self.media.duration_ms(len(item)) / 1000
            assert self.dry_at_s - self.now <= self.lead_s + FRAME_MS / 1000 + 1e-5, "beyond the lead"
            audio = item.rstrip(self.media.silence(2))
            assert len(audio) % self.media.bytes_per_sample == 0, "padded within a sample"
            self.heard += audio
            assert self.expected.startswith(self.heard), "lost, doubled or out of order"

    def wait(self, seconds: float) -> None:
        """Let time pass, every timer exactly on time."""
        end, spins = self.now + seconds, 0
        while (at := self.playout.next_timer()) <= end:
            spins = spins + 1 if at <= self.now else 0
            assert spins < SAME_TIME_LIMIT, "the timer spins"
            self.now = max(self.now, at)
            self.release()
        self.now = end


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 1000)),
        st.tuples(st.sampled_from(["write", "pass or write"]), st.sampled_from([160, 320, 640, 882, 3200, 8000])),
        st.tuples(st.just("wait"), st.floats(0, 0.5)),
        st.tuples(st.just("late"), st.floats(0, 0.5)),
        st.tuples(st.sampled_from(["flush", "finish", "release"]), st.just(0)),
        st.tuples(st.just("echo"), st.integers(0, 99)),
    ),
    max_size=40,
)


@given(
    steps=_steps,
    media=st.sampled_from([ULAW_8K, PCM_16K, MediaFormat.parse("pcm_22050")]),
    pace=st.sampled_from([(400, 100), (400, 20), (20, 20), (100, 100), (200, 60)]),
    max_queue_ms=st.sampled_from([500, 60_000]),
    start_s=st.floats(0, 1e6),
)
@settings(max_examples=200, deadline=None)
def test_whatever_is_written_whenever(
    steps: list[tuple[str, float]], media: MediaFormat, pace: tuple[int, int], max_queue_ms: int, start_s: float
) -> None:
    carrier = _Carrier(media, *pace, max_queue_ms, start_s)
    for what, amount in steps:
        match what:
            case "write":
                carrier.write(int(amount), try_to_pass=False)
            case "pass or write":
                carrier.write(int(amount), try_to_pass=True)
            case "wait":
                carrier.wait(amount)
            case "late":
                carrier.now += amount
                carrier.release()
            case "echo":
                carrier.echo(int(amount))
            case _:
                getattr(carrier, what)()
    carrier.wait(70.0)
    whole = len(carrier.expected) - len(carrier.expected) % media.bytes_per_sample
    assert carrier.heard == carrier.expected[:whole], "something stayed behind"
    assert not carrier.marks, "a mark stayed behind"
    assert carrier.playout.next_timer() == math.inf
    assert carrier.playout.queued_ms == 0
    assert carrier.playout.unheard_s(carrier.now) == 0


def test_a_burst_that_is_bounded_grows_into_the_lead_without_a_gap() -> None:
    media = PCM_16K
    playout = Playout(media, 400, 20, 60_000, burst_ms=60)
    playout.write(b"\x01" * media.size_bytes(2000), 5.0)
    now, sent = 5.0, []
    while now < 7.0:
        for item in playout.release(now):
            assert isinstance(item, bytes)
            sent += [now] * (len(item) // media.size_bytes(20))
        timer = playout.next_timer()
        now = max(timer, now + 0.001)
    assert len(sent) == 100
    assert sent[:3] == [5.0, 5.0, 5.0], "what may go at once"
    gaps_ms = [(later - earlier) * 1000 for earlier, later in zip(sent, sent[1:], strict=False)]
    assert max(gaps_ms) <= 20.5
    at = {round((moment - 5.0) * 1000): number for number, moment in enumerate(sent, 1)}
    lead_ms = [number * 20 - elapsed for elapsed, number in at.items()]
    assert 395 <= max(lead_ms) <= 401, "the lead is reached, and not passed"
    assert next(elapsed for elapsed, number in at.items() if number * 20 - elapsed >= 380) <= 360


def test_a_bounded_burst_begins_anew_with_every_talkspurt_and_after_a_flush() -> None:
    media = PCM_16K
    playout = Playout(media, 400, 20, 60_000, burst_ms=60)
    for start in (1.0, 9.0):
        playout.write(b"\x01" * media.size_bytes(1000), start)
        assert sum(len(item) for item in playout.release(start) if isinstance(item, bytes)) == media.size_bytes(60)
        assert not playout.pass_through(b"\x01" * media.size_bytes(20), start)
        playout.flush(start)
        assert playout.pass_through(b"\x01" * media.size_bytes(60), start + 0.5)
        assert not playout.pass_through(b"\x01" * media.size_bytes(20), start + 0.5)
        assert playout.pass_through(b"\x01" * media.size_bytes(20), start + 0.521)
