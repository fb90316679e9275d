"""``bridge.calls.recording`` and its other half ``reel``: both sides in their channels, at their times, and no more."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.calls import recording
from bridge.calls.recording import MAX_TAKE_S, SETTLE_S, Channel, StereoTape
from bridge.calls.reel import ITEM_BYTES
from bridge.calls.tap import Tap
from bridge.errors import LocalError
from bridge.media.format import ALAW_8K, PCM_8K, PCM_16K, ULAW_8K, MediaFormat
from bridge.media.tones import dominant_frequencies
from tests.kit.audio import make_tone

START_S = 5000.125
CALLER_HZ, AGENT_HZ = 440.0, 1000.0
FORMATS = (ULAW_8K, ALAW_8K, PCM_8K, PCM_16K, MediaFormat.parse("pcm_24000"))

Samples = npt.NDArray[np.int16]


def new_tape(media: MediaFormat = PCM_8K, max_held_s: float = 30.0) -> StereoTape:
    return StereoTape(media, START_S, max_held_s)


def frames(payload: bytes, media: MediaFormat = PCM_8K, frame_ms: int = 20) -> list[bytes]:
    size = media.size_bytes(frame_ms)
    return [payload[at : at + size] for at in range(0, len(payload), size)]


def speak(tape: StereoTape, pieces: Iterable[bytes], begins_s: float = 0.0, frame_ms: int = 20) -> None:
    """The caller says this from ``begins_s`` of the tape on; each frame arrives when it is complete."""
    for index, piece in enumerate(pieces, 1):
        tape.caller(piece, START_S + begins_s + index * frame_ms / 1000)


def take_all(tape: StereoTape, end_s: float) -> tuple[Samples, Samples]:
    """Finish the tape and take the whole of it: caller and agent."""
    tape.finish(START_S + end_s)
    pcm = b""
    while block := tape.take(math.inf):
        pcm += block
    return split(pcm)


def split(pcm: bytes) -> tuple[Samples, Samples]:
    stereo = np.frombuffer(pcm, "<i2").reshape(-1, 2)
    return stereo[:, 0], stereo[:, 1]


def frequency(samples: Samples, rate_hz: int) -> float:
    peaks = dominant_frequencies(samples.tobytes(), rate_hz)
    return round(peaks[0].frequency_hz) if peaks else 0.0


def assert_sound(samples: Samples, from_s: float, to_s: float, rate_hz: int = 8000) -> None:
    """There is sound from here to there, to 2 ms, and none elsewhere; A-law's smallest step is none."""
    loud = np.flatnonzero(np.abs(samples.astype(int)) > 50)
    assert abs(loud[0] / rate_hz - from_s) <= 0.002, loud[0] / rate_hz
    assert abs((loud[-1] + 1) / rate_hz - to_s) <= 0.002, loud[-1] / rate_hz


def steady(ms: int, level: int = 4000) -> bytes:
    """L16 at 8 kHz of one value: where it is and is not can be told to the sample."""
    return np.full(8 * ms, level, "<i2").tobytes()


def counted(ms: int) -> bytes:
    """L16 at 8 kHz that counts the milliseconds from 1000 on: every one can be found again."""
    return np.repeat(np.arange(1000, 1000 + ms), 8).astype("<i2").tobytes()


# --- places ---


@pytest.mark.parametrize("media", FORMATS, ids=lambda media: media.name)
def test_each_side_is_in_its_channel_at_its_time(media: MediaFormat) -> None:
    tape: Tap = new_tape(media)
    assert isinstance(tape, StereoTape)
    speak(tape, frames(make_tone(CALLER_HZ, 1000, media), media), 1.0)
    tape.agent(make_tone(AGENT_HZ, 400, media), START_S + 2.5)
    tape.agent(make_tone(AGENT_HZ, 600, media), START_S + 2.6)
    caller, agent = take_all(tape, 5.0)
    rate = media.rate_hz
    assert len(caller) == len(agent) == 5 * rate
    assert_sound(caller, 1.0, 2.0, rate)
    assert_sound(agent, 2.5, 3.5, rate)
    assert frequency(caller[rate : 2 * rate], rate) == CALLER_HZ
    assert frequency(agent[int(2.5 * rate) : int(3.5 * rate)], rate) == AGENT_HZ
    assert not caller[2 * rate :].any()
    assert not agent[: int(2.5 * rate)].any()


def test_the_samples_themselves() -> None:
    tape = new_tape()
    tape.caller(b"\x01\x00\x02\x00", START_S + 2 / 8000)
    tape.agent(b"\x03\x00\xff\xff", START_S)
    tape.finish(START_S + 3 / 8000)
    assert tape.take(math.inf).hex(" ", 2) == "0100 0300 0200 ffff 0000 0000"


def test_silence_of_a_law_is_silence_on_the_tape() -> None:
    caller, agent = take_all(new_tape(ALAW_8K), 1.0)
    assert not caller.any()
    assert not agent.any()


def test_taking_in_pieces_gives_the_same_as_taking_at_once() -> None:
    def fill(tape: StereoTape, until_s: float) -> bytes:
        pcm = b""
        for tick in range(300):
            now = START_S + tick * 0.02
            tape.caller(counted(6000)[tick * 320 :][:320], now + 0.02)
            if tick % 50 == 0:
                tape.agent(steady(1500 if tick < 250 else 700, tick), now)
            if tick % 37 == 0:
                pcm += tape.take(now - until_s)
        tape.finish(START_S + 6.0)
        return pcm + tape.take(math.inf)

    assert fill(new_tape(), until_s=SETTLE_S) == fill(new_tape(), until_s=100.0)


def test_the_first_payload_may_begin_before_the_tape() -> None:
    tape = new_tape()
    speak(tape, frames(counted(400), frame_ms=200), begins_s=-0.19, frame_ms=200)
    caller, _ = take_all(tape, 0.3)
    assert caller[0] == 1190
    assert caller[8 * 209] == 1399
    assert not caller[8 * 210 :].any()


def test_half_a_sample_at_the_end_of_a_payload_is_left_out() -> None:
    tape = new_tape()
    tape.caller(steady(20) + b"\x01", START_S + 0.02)
    tape.caller(steady(20), START_S + 0.04)
    tape.agent(steady(20) + b"\x01", START_S)
    tape.agent(steady(20), START_S + 0.01)
    caller, agent = take_all(tape, 0.04)
    assert set(caller) == set(agent) == {4000}


# --- agent ---


def test_an_interruption_cuts_the_agent_where_it_fell_silent() -> None:
    tape = new_tape(ULAW_8K)
    tape.agent(make_tone(AGENT_HZ, 3000, ULAW_8K), START_S + 1.0)
    tape.flush(START_S + 1.777)
    tape.agent(make_tone(CALLER_HZ, 500, ULAW_8K), START_S + 2.5)
    _, agent = take_all(tape, 4.0)
    assert_sound(agent[:16000], 1.0, 1.777)
    assert_sound(agent, 1.0, 3.0)
    assert frequency(agent[20000:24000], 8000) == CALLER_HZ


def test_an_interruption_drops_whole_pieces_and_a_part_of_one() -> None:
    tape = new_tape()
    for level in (100, 200, 300):
        tape.agent(steady(400, level), START_S)
    tape.flush(START_S + 0.5)
    tape.flush(START_S + 0.6)
    tape.agent(steady(100, 400), START_S + 0.7)
    _, agent = take_all(tape, 2.0)
    assert [agent[8 * ms] for ms in (0, 399, 400, 499, 500, 699, 700, 799, 800)] == [
        100, 100, 200, 200, 0, 0, 400, 400, 0
    ]  # fmt: skip
    assert tape.held_bytes == 0


def test_an_interruption_before_a_word_was_heard_leaves_silence() -> None:
    tape = new_tape()
    tape.agent(steady(400), START_S + 0.1)
    tape.agent(steady(400), START_S + 0.1)
    tape.flush(START_S + 0.1)
    _, agent = take_all(tape, 1.0)
    assert not agent.any()


def test_an_interruption_long_after_the_answer_takes_nothing_away() -> None:
    tape = new_tape()
    tape.agent(steady(100), START_S)
    tape.flush(START_S + 0.5)
    _, agent = take_all(tape, 1.0)
    assert_sound(agent, 0.0, 0.1)


def test_agent_audio_that_comes_a_moment_late_leaves_no_seam() -> None:
    tape = new_tape()
    tape.agent(steady(20), START_S)
    tape.agent(steady(20), START_S + 0.035)
    tape.agent(steady(20), START_S + 0.090)
    _, agent = take_all(tape, 0.2)
    assert set(agent[: 8 * 40]) == {4000}
    assert not agent[8 * 40 : 8 * 90].any()
    assert set(agent[8 * 90 : 8 * 110]) == {4000}


# --- the caller's network and clock ---


def test_jitter_leaves_no_seam() -> None:
    tape, chance = new_tape(), random.Random(1)
    at = 0.0
    for index, piece in enumerate(frames(counted(3000)), 1):
        at = max(at, index * 0.02 + chance.choice((0.0, 0.005, 0.03, 0.08)))
        tape.caller(piece, START_S + at)
    caller, _ = take_all(tape, 3.1)
    assert caller[: 8 * 3000].tobytes() == counted(3000)


def test_a_burst_after_a_stall_closes_it_without_a_seam() -> None:
    tape = new_tape()
    said = frames(counted(2000))
    speak(tape, said[:50])
    for piece in said[50:70]:
        tape.caller(piece, START_S + 1.4)
    assert tape.take(START_S + 1.41 - SETTLE_S)
    speak(tape, said[70:], begins_s=1.4)
    tape.finish(START_S + 2.0)
    caller, _ = split(tape.take(math.inf))
    assert caller[-1] == 2999
    assert (np.diff(caller.astype(int)) <= 1).all()


def test_lost_audio_leaves_a_silence_of_its_length() -> None:
    tape = new_tape()
    said = frames(counted(2000))
    speak(tape, said[:50])
    speak(tape, said[60:], begins_s=1.2)
    caller, _ = take_all(tape, 2.0)
    assert caller[8 * 999] == 1999
    assert not caller[8 * 1000 : 8 * 1200].any()
    assert caller[8 * 1200 :].tobytes() == counted(2000)[16 * 1200 :]


def stalled(quiet_from: int) -> Samples:
    """Two seconds of stall, far beyond what is waited for, then all of it at once; quiet from that frame on."""
    tape = new_tape()
    said = frames(counted(1000)) + frames(steady(2000, 3000)) + frames(steady(9000, 5000))
    said[quiet_from:] = frames(steady(20, 7)) * (len(said) - quiet_from)
    pcm = b""
    for index, piece in enumerate(said, 1):
        arrives_s = max(index * 0.02, 3.0) if index > 50 else index * 0.02
        tape.caller(piece, START_S + arrives_s)
        pcm += tape.take(START_S + arrives_s - SETTLE_S)
    return split(pcm)[0]


def test_what_comes_after_a_long_stall_is_kept_whole_and_late() -> None:
    caller = stalled(quiet_from=600)
    assert not caller[8 * 1000 : 8 * 2400].any()
    assert np.count_nonzero(caller == 3000) == 8 * 2000
    first = int(np.flatnonzero(caller == 3000)[0])
    assert (caller[first : first + 8 * 2000] == 3000).all()


def test_the_delay_of_a_stall_is_made_up_in_the_next_quiet_moment() -> None:
    caller = stalled(quiet_from=300)  # what is said from 3 s to 6 s is followed by quiet
    assert np.count_nonzero(caller == 5000) == 8 * 3000
    late_s = np.flatnonzero(caller == 5000)[-1] / 8000 - 6.0
    assert 1.3 < late_s < 2.0
    tape = new_tape()  # what comes after the quiet is in its place again
    said = frames(steady(1000)) + frames(steady(2000, 5)) + frames(steady(1000, 6000))
    pcm = b""
    for index, piece in enumerate(said, 1):
        arrives_s = max(index * 0.02, 1.0) if index > 2 else index * 0.02
        tape.caller(piece, START_S + arrives_s)
        pcm += tape.take(START_S + arrives_s - SETTLE_S)
    tape.finish(START_S + 4.0)
    caller = split(pcm + tape.take(math.inf))[0]
    assert np.flatnonzero(caller == 6000)[0] / 8000 == pytest.approx(3.0, abs=0.041)


def test_a_caller_who_never_pauses_is_cut_only_beyond_the_longest_delay() -> None:
    tape = new_tape()
    pcm = b""
    for index in range(1, 1001):  # 20 s of talk, of which 8 s come at once at 8 s
        arrives_s = max(index * 0.02, 8.0)
        tape.caller(steady(20), START_S + arrives_s)
        if index == 1:
            tape.take(START_S + 7.9)
            pcm += tape.take(START_S + 7.9)
    tape.finish(START_S + 20.0)
    while block := tape.take(math.inf):
        pcm += block
    assert tape.held_bytes < 8000 * 2 * 6 + 160 * 310


@pytest.mark.parametrize("parts_per_million", [-2000, 2000])
def test_a_drifting_clock_is_followed_where_the_caller_is_quiet(parts_per_million: int) -> None:
    tape, pcm = new_tape(), b""
    frame_s = 0.02 * (1 + parts_per_million / 1e6)
    said = (frames(steady(1000, 5000)) + frames(steady(1000, 3))) * 60
    for index, piece in enumerate(said, 1):
        tape.caller(piece, START_S + index * frame_s)
        pcm += tape.take(START_S + index * frame_s - SETTLE_S)
    tape.finish(START_S + len(said) * frame_s)
    caller, _ = split(pcm + tape.take(math.inf))
    loud = caller == 5000
    starts = np.flatnonzero(loud[1:] & ~loud[:-1]) + 1
    assert 0 <= 60 * 8000 - np.count_nonzero(loud) <= 8  # the first half second cannot tell drift from delay
    expected = np.arange(1, 60) * 100 * frame_s * 8000
    assert np.abs(starts - expected).max() <= 0.061 * 8000


# --- pause and blank ---


def test_a_pause_leaves_exact_silence_on_both_sides() -> None:
    tape = new_tape(ULAW_8K)
    tape.agent(make_tone(AGENT_HZ, 800, ULAW_8K), START_S)
    for index, piece in enumerate(frames(make_tone(CALLER_HZ, 4000, ULAW_8K), ULAW_8K), 1):
        now = START_S + index * 0.02
        if index == 26:
            tape.pause(START_S + 0.505)
            tape.pause(START_S + 0.6)
        if index == 101:
            tape.resume(START_S + 2.005)
            tape.resume(START_S + 2.1)
        if index == 60:
            assert tape.is_paused
            tape.agent(make_tone(AGENT_HZ, 1500, ULAW_8K), now)
        if index == 140:
            tape.agent(make_tone(AGENT_HZ, 500, ULAW_8K), now)
        tape.caller(piece, now)
    caller, agent = take_all(tape, 4.0)
    assert tape.pauses == [(0.505, 2.005)]
    assert not caller[4040:16040].any()
    assert not agent[4040:16040].any()
    assert_sound(caller[:8000], 0.0, 0.5)
    assert_sound(caller[8000:], 1.005, 3.0)
    assert not agent[16040:22390].any(), "agent audio of the pause was taken up after it"
    assert_sound(agent[20000:], 0.3, 0.8)


def test_nothing_of_a_pause_is_in_memory() -> None:
    tape = new_tape()
    tape.pause(START_S)
    for index in range(50):
        tape.caller(b"SECRET" * 40, START_S + index * 0.02)
        tape.agent(b"SECRET" * 40, START_S + index * 0.02)
    assert not any(b"SECRET" in item[3] for item in tape._inbox)
    tape.finish(START_S + 1.0)
    assert not any(tape.take(math.inf))
    assert tape.pauses == [(0.0, 1.0)]


def test_speech_of_a_pause_that_arrives_after_it_is_dropped() -> None:
    tape = new_tape()
    pcm = b""
    for index in range(1, 301):  # the line stalls from 1.5 s to 4 s; the pause is from 1 s to 3 s
        spoken_s = index * 0.02
        arrives_s = 4.0 if 1.5 < spoken_s < 4.0 else spoken_s
        if index == 51:
            tape.pause(START_S + 1.0)
        if index == 76:
            pcm += tape.take(START_S + 2.5)
            tape.resume(START_S + 3.0)
            pcm += tape.take(START_S + 3.4)
        tape.caller(steady(20, 9999 if 1.0 < spoken_s <= 3.0 else 5000), START_S + arrives_s)
    tape.finish(START_S + 6.0)
    caller = split(pcm + tape.take(math.inf))[0]
    assert not (caller == 9999).any()
    assert (caller[: 8 * 1000] == 5000).all()
    assert (caller[8 * 4000 :] == 5000).all()


def test_the_caller_stays_in_place_after_a_pause() -> None:
    tape = new_tape()
    for index, piece in enumerate(frames(counted(3000), frame_ms=200), 1):
        if index == 6:
            tape.pause(START_S + 1.01)
        if index == 11:
            tape.resume(START_S + 2.01)
        tape.caller(piece, START_S + index * 0.2)
    caller, _ = take_all(tape, 3.0)
    assert caller[8 * 999] == 1999
    assert not caller[8 * 1010 : 8 * 2010].any()
    assert caller[8 * 2010 :].tobytes() == counted(3000)[16 * 2010 :]


def test_after_too_many_pauses_the_tape_stays_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_PAUSES", 2)
    tape = new_tape()
    for index in range(3):
        tape.pause(START_S + index)
        tape.resume(START_S + index + 0.5)
    assert tape.is_paused
    assert tape.pauses == [(0.0, 0.5), (1.0, math.inf)]
    tape.caller(steady(1000), START_S + 2.8)
    caller, _ = take_all(tape, 3.0)
    assert not caller.any()
    assert tape.pauses == [(0.0, 0.5), (1.0, 3.0)]


def test_a_blank_silences_one_channel_only() -> None:
    tape = new_tape()
    speak(tape, frames(steady(2000)))
    tape.agent(steady(2000), START_S)
    tape.blank(Channel.CALLER, START_S + 0.5, START_S + 1.0)
    tape.blank(Channel.AGENT, START_S + 1.5, START_S + 1.6)
    caller, agent = take_all(tape, 2.0)
    assert [np.count_nonzero(side == 0) for side in (caller, agent)] == [4000, 800]
    assert not caller[4000:8000].any()
    assert not agent[12000:12800].any()


def test_a_blank_reaches_what_was_not_taken_yet() -> None:
    tape = new_tape()
    speak(tape, frames(steady(2000)))
    before = split(tape.take(START_S + 1.0))[0]
    tape.blank(Channel.CALLER, START_S + 0.5, START_S + 1.5)
    after, _ = take_all(tape, 2.0)
    assert (before == 4000).all()
    assert not after[:4000].any()
    assert (after[4000:] == 4000).all()


def test_after_too_many_blanks_the_channel_stays_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_BLANKS", 2)
    tape = new_tape()
    speak(tape, frames(steady(4000)))
    for second in range(3):
        tape.blank(Channel.CALLER, START_S + second, START_S + second + 0.5)
    caller, _ = take_all(tape, 4.0)
    assert [bool(caller[8 * ms]) for ms in (400, 600, 1100, 1600, 3900)] == [False, True, False, False, False]


# --- ends and bounds ---


def test_after_the_end_nothing_counts() -> None:
    tape = new_tape()
    tape.agent(steady(500), START_S)
    tape.finish(START_S + 0.2)
    for late in (tape.caller, tape.agent):
        late(steady(100), START_S + 0.1)
    tape.pause(START_S + 0.1)
    tape.resume(START_S + 0.1)
    tape.flush(START_S + 0.1)
    tape.blank(Channel.AGENT, START_S, START_S + 1)
    tape.finish(START_S + 9.0)
    assert (split(tape.take(math.inf))[1] == 4000).all()
    assert (tape.take(math.inf), tape.taken_s, tape.pauses, tape.is_finished) == (b"", 0.2, [], True)


def test_one_take_is_bounded() -> None:
    tape = new_tape()
    assert len(tape.take(START_S + 3600)) == int(MAX_TAKE_S) * 8000 * 4
    assert tape.taken_s == MAX_TAKE_S
    assert len(tape.take(START_S + MAX_TAKE_S + 0.5)) == 4000 * 4
    assert tape.take(START_S + MAX_TAKE_S) == b""


def test_a_running_tape_has_no_end_to_be_taken() -> None:
    with pytest.raises(LocalError, match="a tape that runs has no end yet to be taken"):
        new_tape().take(math.inf)


def test_only_mono_is_recorded() -> None:
    with pytest.raises(ValueError, match="a leg's audio is mono, not of 2 channels"):
        StereoTape(MediaFormat(PCM_8K.encoding, 8000, 2), START_S)


@pytest.mark.parametrize("size_ms", [1, 20, 1000])
@pytest.mark.parametrize("paused", [False, True])
def test_a_tape_that_nobody_takes_is_bounded(size_ms: int, paused: bool) -> None:
    tape = new_tape(max_held_s=2.0)
    if paused:
        tape.pause(START_S)
    for index in range(20_000):
        now = START_S + index * size_ms / 1000
        tape.caller(steady(size_ms), now)
        tape.agent(steady(size_ms), now)
        tape.flush(now)
    assert tape.held_bytes <= 2 * (16_000 + 50 * ITEM_BYTES)
    assert len(tape._inbox) <= 2 * tape.held_bytes / ITEM_BYTES + 1
    assert tape.dropped_bytes > 0 or paused


def test_an_hour_stays_in_bounded_memory() -> None:
    tape = new_tape(ULAW_8K)
    said, answer = b"\x10" * 160, b"\x20" * 8000 * 3
    most, total = 0, 0
    for index in range(1, 3600 * 50 + 1):
        now = START_S + index * 0.02
        tape.caller(said, now)
        if index % 250 == 1:
            tape.agent(answer, now)
        if index % 50 == 0:
            most = max(most, tape.held_bytes)
            total += len(tape.take(now - SETTLE_S))
    tape.finish(START_S + 3600)
    total += len(tape.take(math.inf))
    assert total == 3600 * 8000 * 4
    assert most < 60_000
    assert tape.held_bytes == 0
    assert tape.dropped_bytes == 0


Step = tuple[str, float, int]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["caller", "agent", "flush", "pause", "resume", "blank", "take"]),
            st.floats(0, 3),
            st.integers(0, 5000),
        ),
        max_size=60,
    ),
    st.sampled_from(FORMATS),
)
def test_any_order_of_anything_keeps_length_silence_and_count(steps: list[Step], media: MediaFormat) -> None:
    tape, now, pcm = new_tape(media, 5.0), START_S, b""
    loud = make_tone(700, 1, media)
    for step, wait_s, size in steps:
        now += wait_s
        match step:
            case "caller":
                tape.caller((loud * 700)[:size], now)
            case "agent":
                tape.agent((loud * 700)[:size], now)
            case "blank":
                tape.blank(Channel.CALLER, now - 1, now + size / 5000)
            case "take":
                pcm += tape.take(now - SETTLE_S)
            case _:
                getattr(tape, step)(now)
    tape.finish(now)
    while block := tape.take(math.inf):
        pcm += block
    stereo = np.frombuffer(pcm, "<i2").reshape(-1, 2)
    assert len(stereo) == round((now - START_S) * media.rate_hz)
    for first, last in tape.pauses:
        assert not stereo[round(first * media.rate_hz) : round(last * media.rate_hz)].any()
    assert 0 <= tape.held_bytes <= 5 * (media.rate_hz * media.bytes_per_sample + 50 * ITEM_BYTES)
