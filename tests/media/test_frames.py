"""``bridge.media.frames``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.frames import Reframer


def test_whole_frames_pass_without_a_copy() -> None:
    frames = Reframer(4)
    payload = b"abcdefgh"
    assert frames.push(payload) is payload
    assert frames.pending_bytes == 0


def test_the_remainder_waits_for_its_frame() -> None:
    frames = Reframer(4)
    assert frames.push(b"abcdef") == b"abcd"
    assert frames.pending_bytes == 2
    assert frames.push(b"g") == b""
    assert frames.pending_bytes == 3
    assert frames.push(b"hijklm") == b"efghijkl"
    assert frames.pending_bytes == 1


def test_an_aligned_chunk_does_not_overtake_what_is_held() -> None:
    frames = Reframer(4)
    assert frames.push(b"ab") == b""
    assert frames.push(b"cdef") == b"abcd"
    assert frames.pending_bytes == 2


def test_nothing_gives_nothing() -> None:
    frames = Reframer(4)
    assert frames.push(b"") == b""
    frames.push(b"a")
    assert frames.push(b"") == b""
    assert frames.pending_bytes == 1


def test_flush_fills_up_with_silence() -> None:
    frames = Reframer(4)
    frames.push(b"abcdef")
    assert frames.flush(b"\xff") == b"ef\xff\xff"
    assert frames.pending_bytes == 0
    assert frames.flush(b"\xff") == b""


def test_flush_keeps_samples_aligned_after_half_of_one() -> None:
    frames = Reframer(6)
    frames.push(b"abc")
    assert frames.flush(b"\x01\x02") == b"abc\x02\x01\x02"


@pytest.mark.parametrize("silence", [b"", b"\x00\x00\x00"])
def test_silence_that_does_not_fit_a_frame_is_refused(silence: bytes) -> None:
    with pytest.raises(ValueError, match=f"^a frame of 4 bytes cannot be filled with {len(silence)}-byte samples$"):
        Reframer(4).flush(silence)


def test_clear_drops_the_remainder() -> None:
    frames = Reframer(4)
    frames.push(b"abc")
    frames.clear()
    assert frames.pending_bytes == 0
    assert frames.push(b"defg") == b"defg"


def test_an_empty_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="^frame_bytes is 0; a frame has at least 1 byte$"):
        Reframer(0)


@given(st.lists(st.binary(max_size=50)), st.integers(1, 20))
def test_any_chunking_gives_the_stream_in_whole_frames(chunks: list[bytes], frame_bytes: int) -> None:
    frames = Reframer(frame_bytes)
    out = b""
    taken = 0
    for chunk in chunks:
        out += frames.push(chunk)
        taken += len(chunk)
        assert len(out) == taken - taken % frame_bytes
        assert frames.pending_bytes == taken % frame_bytes
    stream = b"".join(chunks)
    assert out == stream[: len(out)]
    rest = frames.flush(b"\x00")
    assert (out + rest).startswith(stream)
    assert len(out + rest) == -(-taken // frame_bytes) * frame_bytes
