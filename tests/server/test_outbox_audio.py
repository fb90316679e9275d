"""Audio on its way into an event: base64 of any pieces, and where recordings come from."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from bridge.calls.webhook_vendor import audio_body
from bridge.server.outbox_audio import PIECE_BYTES, AudioMissing, audio_event, library_audio
from bridge.server.recording.library import AudioLibrary
from tests.kit.records import ended_record

MP3 = bytes(range(256)) * 1_000 + b"."
"""Any bytes; nobody here decodes them. One more than a multiple of three."""
BODY = audio_body(ended_record(conversation_ids=["conv_1"]), 1_000.0)


async def given(pieces: Sequence[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.mark.parametrize(
    "sizes", [[0, 1], [1, 1, 1], [2, 2], [3], [PIECE_BYTES * 2 + 1], [1, PIECE_BYTES + 1, 5], [len(MP3)]]
)
async def test_base64_of_any_pieces_is_that_of_the_whole(sizes: Sequence[int]) -> None:
    pieces = [MP3[sum(sizes[:index]) : sum(sizes[: index + 1])] for index in range(len(sizes))]
    got = [piece async for piece in audio_event(BODY, given(pieces))]
    assert b"".join(got) == BODY[:-3] + base64.b64encode(MP3[: sum(sizes)]) + b'"}}'
    assert max(map(len, got)) <= PIECE_BYTES * 4 // 3


@pytest.mark.parametrize("pieces", [[], [b""], [b"", b""]])
async def test_a_recording_without_a_byte_is_missing(pieces: Sequence[bytes]) -> None:
    with pytest.raises(AudioMissing, match="^the recording is empty$"):
        [piece async for piece in audio_event(BODY, given(pieces))]


async def test_recordings_come_out_of_the_library(tmp_path: Path) -> None:
    (tmp_path / "call1.mp3").write_bytes(MP3)
    opened = library_audio(AudioLibrary(tmp_path))
    assert b"".join([chunk async for chunk in opened("call1.mp3")]) == MP3
    with pytest.raises(AudioMissing, match="^the recording is not there any more$"):
        [chunk async for chunk in opened("call2.mp3")]
