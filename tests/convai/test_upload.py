"""Caller audio on its way to the agent: message sizes, order, and what happens while the socket is stuck."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.convai.upload import BACKLOG_MS, MAX_MESSAGE_MS, Uploader
from bridge.media.format import PCM_16K, ULAW_8K, MediaFormat
from tests.kit.audio import numbered

FRAME = numbered(160)


def test_a_frame_may_go_out_as_it_is() -> None:
    uploader = Uploader(ULAW_8K, 20)
    assert bool(uploader.direct_sizes)
    assert (uploader.chunk_bytes, uploader.max_bytes) == (160, 2000)
    assert uploader.push(FRAME) == [FRAME]
    assert bool(uploader.direct_sizes)


def direct(uploader: Uploader) -> bool:
    """Whether a payload may be a message as it is, now."""
    return bool(uploader.direct_sizes)


def test_nothing_may_overtake_what_is_collected_or_held() -> None:
    uploader = Uploader(ULAW_8K, 20)
    uploader.push(b"ab")
    assert not direct(uploader)
    uploader.pause()
    assert uploader.resume() == []
    assert not direct(uploader)
    assert uploader.flush() == [b"ab"]
    assert direct(uploader)
    uploader.pause()
    assert not direct(uploader)
    assert uploader.flush() == []
    assert not direct(uploader)
    uploader.push(FRAME)
    assert not direct(uploader)
    assert uploader.resume() == [FRAME]
    assert direct(uploader)


def test_frames_are_collected_up_to_the_chunk() -> None:
    uploader = Uploader(ULAW_8K, 60)
    audio = numbered(480)
    assert uploader.push(audio[:160]) == []
    assert uploader.push(audio[160:320]) == []
    assert uploader.push(audio[320:]) == [audio]


@pytest.mark.parametrize(("media", "size_bytes"), [(ULAW_8K, 2000), (PCM_16K, 8000)])
def test_a_chunk_of_250_ms(media: MediaFormat, size_bytes: int) -> None:
    uploader = Uploader(media, 250)
    frame = media.size_bytes(20)
    audio = numbered(frame * 13)
    sent = [piece for at in range(0, len(audio), frame) for piece in uploader.push(audio[at : at + frame])]
    assert [len(piece) for piece in sent] == [size_bytes]
    assert sent + uploader.flush() == [audio[:size_bytes], audio[size_bytes:]]


def test_much_at_once_is_cut_at_250_ms() -> None:
    uploader = Uploader(ULAW_8K, 20)
    audio = numbered(5000)
    assert uploader.push(audio) == [audio[:2000], audio[2000:4000], audio[4000:]]


def test_less_than_a_chunk_waits_for_the_flush() -> None:
    uploader = Uploader(ULAW_8K, 20)
    assert uploader.push(b"ab") == []
    assert uploader.flush() == [b"ab"]
    assert uploader.flush() == []


def test_nothing_is_no_message() -> None:
    uploader = Uploader(ULAW_8K, 20)
    assert uploader.push(b"") == []
    assert uploader.flush() == []


def test_a_stuck_socket_gets_everything_in_order_afterwards() -> None:
    uploader = Uploader(ULAW_8K, 20)
    audio = numbered(800)
    uploader.pause()
    assert [uploader.push(audio[at : at + 160]) for at in range(0, 640, 160)] == [[], [], [], []]
    assert uploader.resume() == [audio[:160], audio[160:320], audio[320:480], audio[480:640]]
    assert uploader.resume() == []
    assert uploader.push(audio[640:]) == [audio[640:]]
    assert uploader.dropped_bytes == 0


def test_a_flush_into_a_stuck_socket_waits_too() -> None:
    uploader = Uploader(ULAW_8K, 40)
    uploader.pause()
    uploader.push(FRAME)
    assert uploader.flush() == []
    assert uploader.resume() == [FRAME]


def test_five_seconds_of_stuck_socket_lose_the_oldest_two() -> None:
    uploader = Uploader(ULAW_8K, 20)
    uploader.pause()
    audio = numbered(5 * 8000)
    for at in range(0, len(audio), 160):
        uploader.push(audio[at : at + 160])
    assert BACKLOG_MS == 3000
    assert uploader.dropped_bytes == 2 * 8000
    assert b"".join(uploader.resume()) == audio[2 * 8000 :]


def test_the_backlog_is_empty_after_it_was_given_out() -> None:
    uploader = Uploader(ULAW_8K, 20)
    for _ in range(2):
        uploader.pause()
        for _ in range(150):
            uploader.push(FRAME)
        assert len(uploader.resume()) == 150
    assert uploader.dropped_bytes == 0


_step = st.one_of(
    st.integers(0, 6000), st.just("stuck"), st.just("moves"), st.just("flush")
)  # bytes to push, or what happens


@given(st.lists(_step, max_size=60), st.sampled_from([20, 60, 100, 250]))
@settings(max_examples=100, deadline=None)
def test_order_is_kept_and_what_is_missing_is_counted(steps: list[int | str], chunk_ms: int) -> None:
    uploader = Uploader(ULAW_8K, chunk_ms)
    pushed, sent, writable, out = bytearray(), bytearray(), True, list[bytes]()
    for step in steps:
        if isinstance(step, int):
            audio = numbered(step, len(pushed))
            pushed += audio
            may_pass = bool(uploader.direct_sizes) and uploader.chunk_bytes <= step <= uploader.max_bytes
            out = [audio] if may_pass else uploader.push(audio)
        elif step == "stuck":
            uploader.pause()
            writable, out = False, []
        elif step == "moves":
            writable, out = True, uploader.resume()
        else:
            out = uploader.flush()
        assert writable or not (out or uploader.direct_sizes)
        assert all(0 < len(piece) <= ULAW_8K.size_bytes(MAX_MESSAGE_MS) for piece in out)
        sent += b"".join(out)
        waiting = len(pushed) - len(sent) - uploader.dropped_bytes
        assert not (uploader.direct_sizes and waiting)
        assert waiting <= ULAW_8K.size_bytes(BACKLOG_MS + chunk_ms)
    sent += b"".join(uploader.resume() + uploader.flush())
    assert len(sent) + uploader.dropped_bytes == len(pushed)
    if not uploader.dropped_bytes:
        assert sent == pushed
