"""The jitter buffer on simulated networks: what is played, what is concealed, how long it waits. No sleeping."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import LocalError
from bridge.media.format import Encoding
from bridge.sip.g711_frames import decode
from bridge.sip.jitter import FRAME, MAX_PACKETS, Gap, JitterBuffer, JitterOptions
from bridge.sip.rtp import RtpPacket

QUIET = b"\xff"
FIRST_TIMESTAMP = 0xFFFFFFFF - 80_000
"""Wraps after 10 s."""
BASE_DELAY_S = 0.03


@dataclass
class Network:
    """What lies between the sender and the buffer."""

    seconds: float = 60
    ptime_ms: int = 20
    loss: float = 0.0
    doubled: float = 0.0
    jitter_ms: float = 0.0
    """Mean of an exponential delay on top: packets overtake each other."""
    drift_ppm: float = 0.0
    """How much faster the sender's clock is."""
    extra: Callable[[float], float] = field(default=lambda _now: 0.0)
    """Seconds of delay on top, by the time of sending."""

    def arrivals(self) -> list[tuple[float, RtpPacket]]:
        chance = random.Random(42)
        samples = self.ptime_ms * 8
        packets = []
        for number in range(int(self.seconds * 1000 / self.ptime_ms)):
            sent_s = (number + 1) * self.ptime_ms / 1000 / (1 + self.drift_ppm / 1e6)
            delay_s = BASE_DELAY_S + self.extra(sent_s)
            delay_s += chance.expovariate(1000 / self.jitter_ms) if self.jitter_ms else 0
            timestamp = (FIRST_TIMESTAMP + number * samples) & 0xFFFFFFFF
            packet = RtpPacket(0, number & 0xFFFF, timestamp, 1, content(number * samples, samples), number == 0)
            copies = 0 if chance.random() < self.loss else 1 + (chance.random() < self.doubled)
            packets += [(sent_s + delay_s, packet)] * copies
        return sorted(packets, key=lambda arrival: arrival[0])


def content(position: int, samples: int) -> bytes:
    """Audio that shows where it belongs: each 10 ms has its number, in quiet codes."""
    return b"".join(bytes((0xE0 | position // 80 + n & 0x0F,)) * 80 for n in range(samples // 80))


@dataclass
class Outcome:
    buffer: JitterBuffer
    played: list[bytes | Gap]
    delays_ms: list[float]

    @property
    def gaps(self) -> Counter[Gap]:
        return Counter(one for one in self.played if isinstance(one, Gap))

    @property
    def frames(self) -> int:
        return len(self.played) - self.gaps.total()


def play(network: Network, options: JitterOptions | None = None) -> Outcome:
    """Run a network against a buffer whose clock ticks 7 ms off the sender's."""
    buffer = JitterBuffer(options or JitterOptions(), Encoding.ULAW)
    outcome = Outcome(buffer, [], [])
    arrivals = network.arrivals()
    following = 0
    for tick in range(int(network.seconds * 50)):
        now = tick * 0.02 + 0.007
        while following < len(arrivals) and arrivals[following][0] <= now:
            buffer.push(arrivals[following][1], arrivals[following][0])
            following += 1
        outcome.played.append(buffer.pop(now))
        outcome.delays_ms.append(buffer.delay_ms)
    return outcome


def packet(timestamp: int, payload: bytes = QUIET * FRAME, *, marker: bool = False) -> RtpPacket:
    return RtpPacket(0, 0, timestamp & 0xFFFFFFFF, 1, payload, marker)


@pytest.mark.parametrize("ptime_ms", [10, 20, 30, 40, 50, 60])
def test_an_even_network_of_any_packet_time_loses_nothing(ptime_ms: int) -> None:
    outcome = play(Network(ptime_ms=ptime_ms))
    counts = outcome.buffer.counts
    # The sizes show at first: a packet of 60 ms comes when its audio is over.
    assert outcome.gaps[Gap.PAUSE] <= 7
    assert outcome.gaps[Gap.LOST] <= 1
    assert counts.late == counts.duplicates == counts.overflowed == counts.patched == counts.resyncs == 0
    assert counts.dropped <= 1
    assert max(outcome.delays_ms) < 80
    audio = b"".join(one for one in outcome.played if isinstance(one, bytes))
    assert audio[:24000] == content(0, 24000)


def test_payloads_pass_as_the_same_objects() -> None:
    outcome = play(Network(seconds=2))
    first = next(one for one in outcome.played if isinstance(one, bytes))
    assert first == content(0, 160)


def test_each_lost_packet_costs_one_frame() -> None:
    network = Network(loss=0.02)
    lost = 3000 - len(network.arrivals())
    counts = play(network).buffer.counts
    assert 40 < lost < 80
    assert lost - 2 <= counts.concealed <= lost + 1
    assert counts.inserted == 0


def test_each_lost_packet_of_60_ms_costs_three() -> None:
    network = Network(ptime_ms=60, loss=0.02)
    lost = 1000 - len(network.arrivals())
    counts = play(network).buffer.counts
    assert 3 * lost - 3 <= counts.concealed <= 3 * lost + 3


def test_doubles_are_played_once() -> None:
    network = Network(doubled=0.3)
    outcome = play(network)
    counts = outcome.buffer.counts
    assert outcome.frames >= 2994
    assert counts.duplicates + counts.late >= len(network.arrivals()) - 3000 - 4
    assert counts.concealed == counts.inserted == 0


@pytest.mark.parametrize(("jitter_ms", "most_concealed", "most_delay_ms"), [(2, 3, 80), (10, 40, 120), (20, 60, 170)])
def test_jitter_costs_delay_and_about_one_frame_in_a_hundred(
    jitter_ms: float, most_concealed: int, most_delay_ms: float
) -> None:
    outcome = play(Network(jitter_ms=jitter_ms))
    counts = outcome.buffer.counts
    assert counts.concealed + counts.inserted <= most_concealed
    assert max(outcome.delays_ms) <= most_delay_ms
    assert counts.resyncs == 0


def test_no_jitter_makes_the_delay_exceed_its_bound() -> None:
    outcome = play(Network(jitter_ms=120))
    # 200 ms, 40 ms of tolerance, and one frame.
    assert max(outcome.delays_ms) <= 260
    assert outcome.frames > 2300


def test_the_bounds_are_options() -> None:
    outcome = play(Network(jitter_ms=120), JitterOptions(20, 60, 20))
    # For a moment up to the jump's 100 ms more, else within the tolerance.
    assert max(outcome.delays_ms) <= 60 + 100 + 20
    assert sorted(outcome.delays_ms)[len(outcome.delays_ms) // 2] <= 60 + 40 + 20


def test_after_jitter_the_delay_comes_down_again() -> None:
    def stormy(now: float) -> float:
        return 0.1 if now < 10 and int(now * 50) % 7 == 0 else 0.0

    outcome = play(Network(extra=stormy))
    assert outcome.delays_ms[490] >= 100
    assert outcome.delays_ms[-1] <= 62


@pytest.mark.parametrize("drift_ppm", [-500, 500])
def test_clocks_that_drift_apart_cost_a_frame_each_20_ms(drift_ppm: float) -> None:
    outcome = play(Network(seconds=300, drift_ppm=drift_ppm))
    counts = outcome.buffer.counts
    apart = 300 * 500e-6 / 0.02
    assert (counts.inserted if drift_ppm < 0 else counts.dropped) == pytest.approx(apart, abs=3)
    assert counts.late == counts.resyncs == 0
    assert max(outcome.delays_ms) < 80


@pytest.mark.e2e
@pytest.mark.parametrize("drift_ppm", [-100, 100])
def test_an_hour_brings_no_drift_and_no_growth(drift_ppm: float) -> None:
    network = Network(seconds=3600, drift_ppm=drift_ppm, jitter_ms=4, loss=0.001)
    outcome = play(network)
    counts = outcome.buffer.counts
    lost = 180_000 - len(network.arrivals())
    assert max(outcome.delays_ms) < 100
    assert outcome.delays_ms[-100] < 80
    assert counts.late < 180_000 / 100
    assert counts.concealed <= lost + counts.late + 30
    assert counts.inserted + counts.dropped < 40
    assert outcome.buffer.waiting <= 5


def test_a_stall_of_the_network_is_over_when_it_is_over() -> None:
    outcome = play(Network(extra=lambda now: 20.4 - now if 20 < now < 20.4 else 0.0))
    counts = outcome.buffer.counts
    assert outcome.gaps[Gap.LOST] + outcome.gaps[Gap.PAUSE] <= 40
    assert max(outcome.delays_ms) < 300
    assert outcome.delays_ms[-1] < 80
    assert counts.resyncs <= 1


@pytest.mark.parametrize("step_s", [-0.02, 0.06, 0.3])
def test_a_route_that_changes_is_followed(step_s: float) -> None:
    outcome = play(Network(extra=lambda now: step_s if now > 20 else 0.0))
    assert outcome.frames > 2940
    assert outcome.delays_ms[-1] < 80
    assert all(isinstance(one, bytes) for one in outcome.played[2500:-1])


def test_the_beginning_waits_for_the_start_delay() -> None:
    buffer = JitterBuffer(JitterOptions(start_ms=60), Encoding.ULAW)
    assert buffer.pop(0.99) is Gap.PAUSE
    buffer.push(packet(0, marker=True), 1.0)
    assert buffer.pop(1.05) is Gap.PAUSE
    assert buffer.delay_ms == 0
    assert buffer.pop(1.07) == QUIET * FRAME
    assert buffer.target_ms == 60
    assert buffer.delay_ms == pytest.approx(70, abs=10)


def test_a_pause_without_a_word_is_concealed_for_100_ms_and_then_silence() -> None:
    buffer = JitterBuffer(JitterOptions(), Encoding.ULAW)
    buffer.push(packet(0), 0.0)
    played = [buffer.pop(0.02 * tick + 0.001) for tick in range(12)]
    assert played == [Gap.PAUSE] * 2 + [QUIET * FRAME] + [Gap.LOST] * 5 + [Gap.PAUSE] * 4
    # The next talkspurt waits for its delay again, and comes whole.
    for number in range(10):
        buffer.push(packet(160 * (100 + number)), 2.0 + 0.02 * number)
        buffer.pop(2.001 + 0.02 * number)
    assert buffer.counts.played == 9
    assert buffer.counts.concealed == 5


def test_a_marker_begins_a_talkspurt_at_its_own_time() -> None:
    """The sender pauses and its clock stands still a little short: the marker says that it is a beginning."""
    buffer = JitterBuffer(JitterOptions(), Encoding.ULAW)
    for number in range(20):
        buffer.push(packet(160 * number), 0.02 * number)
        buffer.pop(0.02 * number + 0.001)
    for tick in range(20, 23):
        buffer.pop(0.02 * tick + 0.001)
    concealed = buffer.counts.concealed
    buffer.push(packet(160 * 24, marker=True), 0.48)
    assert [buffer.pop(0.481), buffer.pop(0.501)] == [Gap.PAUSE, Gap.PAUSE]
    assert buffer.pop(0.521) == QUIET * FRAME
    assert buffer.counts.concealed == concealed


@pytest.mark.parametrize("jump", [100_000, -100_000, 2**31 - 5])
def test_a_new_scale_of_timestamps_with_a_marker_costs_nothing_but_the_delay(jump: int) -> None:
    buffer = JitterBuffer(JitterOptions(), Encoding.ULAW)
    played: list[bytes | Gap] = []
    for number in range(100):
        timestamp = 160 * number + (jump if number >= 50 else 0)
        buffer.push(packet(timestamp, marker=number in (0, 50)), 0.02 * number)
        played.append(buffer.pop(0.02 * number + 0.001))
    assert Counter(played[60:]) == {QUIET * FRAME: 40}
    assert buffer.counts.resyncs == 1


@pytest.mark.parametrize("jump", [100_000, -100_000, -5000, 12_000])
def test_a_new_scale_without_a_marker_costs_a_few_packets(jump: int) -> None:
    buffer = JitterBuffer(JitterOptions(), Encoding.ULAW)
    played: list[bytes | Gap] = []
    for number in range(100):
        buffer.push(packet(160 * number + (jump if number >= 50 else 0)), 0.02 * number)
        played.append(buffer.pop(0.02 * number + 0.001))
    assert Counter(played[62:]) == {QUIET * FRAME: 38}


def test_after_a_long_pause_the_clock_is_still_right() -> None:
    buffer = JitterBuffer(JitterOptions(), Encoding.ULAW)
    buffer.push(packet(0), 0.0)
    for tick in range(20):
        buffer.pop(0.02 * tick)
    buffer.push(packet(8000 * 60), 60.0)
    assert buffer.counts.resyncs == 0
    assert buffer.pop(60.03) is Gap.PAUSE
    assert buffer.pop(60.05) == QUIET * FRAME


def test_comfort_noise_fills_the_pause() -> None:
    buffer = JitterBuffer(JitterOptions(), Encoding.ULAW)
    buffer.push(packet(0), 0.0)
    buffer.push(packet(160), 0.02)
    buffer.push_noise(packet(320, b"\x32"), 0.04)
    buffer.push_noise(packet(320 + 8000, b"\x37"), 1.04)
    played = [buffer.pop(0.02 * tick + 0.001) for tick in range(100)]
    assert played[:6] == [Gap.PAUSE, Gap.PAUSE, QUIET * FRAME, QUIET * FRAME, Gap.NOISE, Gap.NOISE]
    assert set(played[6:]) == {Gap.NOISE}
    assert buffer.noise == b"\x37"
    assert buffer.counts.concealed == 0
    buffer.push(packet(160 * 100, marker=True), 2.0)
    assert [buffer.pop(2.001), buffer.pop(2.021), buffer.pop(2.041)] == [Gap.NOISE, Gap.NOISE, QUIET * FRAME]
    assert buffer.pop(2.061) is Gap.LOST


def test_silence_takes_the_place_of_audio_while_a_key_is_sent() -> None:
    buffer = JitterBuffer(JitterOptions(), Encoding.ULAW)
    played: list[bytes | Gap] = []
    for number in range(40):
        if number == 10:
            buffer.push_noise(packet(1600, b""), 0.2)
        elif not 10 <= number < 20:
            buffer.push(packet(160 * number), 0.02 * number)
        played.append(buffer.pop(0.02 * number + 0.001))
    assert played == [Gap.PAUSE] * 2 + [QUIET * FRAME] * 10 + [Gap.NOISE] * 10 + [QUIET * FRAME] * 18
    assert buffer.noise == b""


def test_a_call_may_begin_with_comfort_noise() -> None:
    buffer = JitterBuffer(JitterOptions(), Encoding.ULAW)
    buffer.push_noise(packet(0, b"\x32"), 0.0)
    assert [buffer.pop(0.02 * tick) for tick in range(5)] == [Gap.NOISE] * 5


def test_noise_that_is_to_come_waits_for_the_audio_before_it() -> None:
    buffer = JitterBuffer(JitterOptions(start_ms=100), Encoding.ULAW)
    for number in range(3):
        buffer.push(packet(160 * number), 0.02 * number)
    buffer.push_noise(packet(480, b"\x32"), 0.06)
    played = [buffer.pop(0.02 * tick + 0.001) for tick in range(5, 11)]
    assert [one for one in played if one is not Gap.NOISE] == [QUIET * FRAME] * 3
    assert played[-1] is Gap.NOISE


def test_a_stall_of_ours_is_made_up_for_at_once() -> None:
    buffer = JitterBuffer(JitterOptions(), Encoding.ULAW)
    for number in range(200):
        buffer.push(packet(160 * number), 0.02 * number)
        if not 100 <= number < 125:
            buffer.pop(0.02 * number + 0.001)
    assert buffer.delay_ms < 100
    assert buffer.counts.dropped in (25, 26)  # one more as the start delay is given up


def test_packets_far_ahead_are_counted_and_the_memory_is_bounded() -> None:
    buffer = JitterBuffer(JitterOptions(), Encoding.ULAW)
    for number in range(400):
        buffer.push(packet(80 * number, QUIET * 80), 0.001)
    assert buffer.waiting == MAX_PACKETS
    assert buffer.counts.early == MAX_PACKETS - 50
    assert buffer.counts.overflowed >= 100


def test_old_packets_make_room() -> None:
    buffer = JitterBuffer(JitterOptions(), Encoding.ULAW)
    for number in range(MAX_PACKETS):
        buffer.push(packet(80 * number + 7, QUIET * 60), 0.001)
    for tick in range(4):
        buffer.pop(0.05 + 0.02 * tick)
    buffer.push(packet(80 * MAX_PACKETS), 0.02)
    assert buffer.counts.overflowed == 0
    assert buffer.waiting < MAX_PACKETS


def test_a_frame_with_a_small_hole_is_patched() -> None:
    buffer = JitterBuffer(JitterOptions(), Encoding.ULAW)
    for number in (0, 1, 2, 4, 7, 9):  # of 10 ms each
        buffer.push(packet(80 * number, bytes((number,)) * 80), 0.01 * number)
    played = [buffer.pop(0.045 + 0.02 * tick) for tick in range(5)]
    assert played == [
        b"\0" * 80 + b"\1" * 80,
        b"\2" * 160,
        b"\4" * 160,
        b"\7" * 160,
        b"\x09" * 160,
    ]
    assert buffer.counts.patched == 4


def test_packets_that_overlap_are_cut() -> None:
    buffer = JitterBuffer(JitterOptions(), Encoding.ULAW)
    buffer.push(packet(0, b"a" * 160), 0.0)
    buffer.push(packet(40, b"b" * 160), 0.0)
    buffer.push(packet(50, b"c" * 10), 0.0)
    buffer.push(packet(200, b"d" * 120), 0.0)
    assert [buffer.pop(0.05), buffer.pop(0.07)] == [b"a" * 160, b"b" * 40 + b"d" * 120]


def test_of_a_packet_that_is_half_too_late_the_other_half_is_played() -> None:
    buffer = JitterBuffer(JitterOptions(), Encoding.ULAW)
    buffer.push(packet(0), 0.0)
    assert [buffer.pop(0.04), buffer.pop(0.06)] == [QUIET * FRAME, Gap.LOST]
    buffer.push(packet(160, b"a" * 160 + b"b" * 160), 0.07)
    # So late a packet asks for more delay: a frame is inserted first.
    assert [buffer.pop(0.08), buffer.pop(0.1)] == [Gap.LOST, b"b" * 160]
    assert (buffer.counts.late, buffer.counts.inserted) == (0, 1)


def test_a_loud_frame_is_blended_when_it_is_left_out() -> None:
    buffer = JitterBuffer(JitterOptions(min_ms=20, start_ms=100), Encoding.ULAW)
    loud = [bytes((0x80 + number % 2,)) * FRAME for number in range(400)]
    played = []
    for number, frame in enumerate(loud):
        buffer.push(packet(160 * number, frame), 0.02 * number)
        played.append(buffer.pop(0.02 * number + 0.001))
    assert buffer.counts.dropped >= 2
    frames = [one for one in played if isinstance(one, bytes)]
    blended = [one for one in frames if len(set(one)) > 1]
    assert len(blended) == buffer.counts.dropped
    samples = decode(blended[0], Encoding.ULAW)
    assert abs(samples[0] - samples[-1]) > 500


def test_a_missing_frame_is_the_one_to_leave_out() -> None:
    buffer = JitterBuffer(JitterOptions(min_ms=20, start_ms=100), Encoding.ULAW)
    for number in range(300):
        if number % 10:
            buffer.push(packet(160 * number, b"\x80" * FRAME), 0.02 * number)
        buffer.pop(0.02 * number + 0.001)
    assert buffer.counts.dropped >= 2
    assert buffer.counts.concealed + buffer.counts.dropped >= 28


def test_an_empty_payload_is_nothing() -> None:
    buffer = JitterBuffer(JitterOptions(), Encoding.ULAW)
    buffer.push(packet(0, b""), 0.0)
    assert buffer.counts.received == 0
    assert buffer.pop(1.0) is Gap.PAUSE


def test_a_reset_forgets_the_stream_and_keeps_the_counts() -> None:
    buffer = JitterBuffer(JitterOptions(), Encoding.ULAW)
    buffer.push(packet(0), 0.0)
    buffer.reset()
    assert buffer.waiting == 0
    assert buffer.pop(1.0) is Gap.PAUSE
    buffer.push(packet(999_999), 5.0)
    assert buffer.pop(5.06) == QUIET * FRAME
    assert (buffer.counts.received, buffer.counts.resyncs) == (2, 0)


@pytest.mark.parametrize("bounds", [(5, 200, 40), (50, 200, 40), (20, 30, 40), (20, 400, 40)])
def test_bad_bounds(bounds: tuple[int, int, int]) -> None:
    with pytest.raises(LocalError, match="jitter buffer"):
        JitterOptions(*bounds)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 4000)),
            st.integers(0, 500),
            st.booleans(),
            st.sampled_from(["audio", "noise", "pop", "reset"]),
            st.floats(0, 0.5),
        ),
        max_size=80,
    )
)
def test_whatever_comes_frames_are_whole_and_the_memory_is_bounded(
    steps: list[tuple[int, int, bool, str, float]],
) -> None:
    buffer = JitterBuffer(JitterOptions(), Encoding.ALAW)
    now = 0.0
    for timestamp, size, marker, what, wait_s in steps:
        now += wait_s
        if what == "audio":
            buffer.push(packet(timestamp, b"\xd5" * size, marker=marker), now)
        elif what == "noise":
            buffer.push_noise(packet(timestamp, b"\x32" * (size % 4)), now)
        elif what == "reset":
            buffer.reset()
        for _ in range(3):
            frame = buffer.pop(now)
            assert isinstance(frame, Gap) or len(frame) == FRAME
        assert buffer.waiting <= MAX_PACKETS + 1
