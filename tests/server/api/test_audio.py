"""Recordings over HTTP, from a real folder: ranges, names, formats, and every reason why there is none."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from starlette.types import Message

from bridge.calls.record import CallRecord, Recording
from bridge.errors import ConfigError
from bridge.server.api.audio import _Stream
from bridge.server.recording.bucket import BucketError
from bridge.server.recording.encoders import WavEncoder
from bridge.server.recording.library import AudioLibrary
from tests.server.api.api_fakes import ADMIN, record, refusal, running_api

PCM = bytes(range(256)) * 1024
WAV = WavEncoder(8000).header(len(PCM)) + PCM
SIZE = len(WAV)


@pytest.fixture
def library(tmp_path: Path) -> AudioLibrary:
    (tmp_path / "a1.wav").write_bytes(WAV)
    (tmp_path / "m1.mp3").write_bytes(b"ID3 not really")
    return AudioLibrary(tmp_path)


def recorded(call_id: str = "a1", format: str = "wav", *, complete: bool = True, live: bool = False) -> CallRecord:
    recording = Recording(location=f"{call_id}.{format}", format=format, size_bytes=SIZE, complete=complete)
    call = record(call_id, recording=recording)
    if live:
        call.state, call.ended_at = "active", None
    return call


async def test_the_whole_recording(library: AudioLibrary) -> None:
    async with running_api(audio=library) as api:
        api.calls.add(recorded())
        response = await api.get("/v1/calls/a1/audio")
    assert response.status_code == 200
    assert response.content == WAV
    headers = response.headers
    assert headers["content-type"] == "audio/wav"
    assert headers["content-length"] == str(SIZE)
    assert headers["accept-ranges"] == "bytes"
    assert headers["content-disposition"] == 'inline; filename="call-a1.wav"'
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=200000-", 200_000, SIZE),
        ("bytes=-10", SIZE - 10, SIZE),
        ("bytes=70000-140000", 70_000, 140_001),
    ],
)
async def test_a_part_of_it(library: AudioLibrary, wanted: str, start: int, stop: int) -> None:
    async with running_api(audio=library) as api:
        api.calls.add(recorded())
        response = await api.get("/v1/calls/a1/audio", headers={"Range": wanted})
    assert response.status_code == 206
    assert response.content == WAV[start:stop]
    assert response.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert response.headers["content-length"] == str(stop - start)


async def test_a_part_outside_of_it(library: AudioLibrary) -> None:
    async with running_api(audio=library) as api:
        api.calls.add(recorded())
        response = await api.get("/v1/calls/a1/audio", headers={"Range": f"bytes={SIZE}-"})
    assert refusal(response) == (416, "range_outside", "")
    assert response.headers["content-range"] == f"bytes */{SIZE}"


async def test_a_part_of_the_recording_that_was_begun(library: AudioLibrary) -> None:
    async with running_api(audio=library) as api:
        api.calls.add(recorded())
        tag = (await api.get("/v1/calls/a1/audio")).headers["etag"]
        same = await api.get("/v1/calls/a1/audio", headers={"Range": "bytes=0-9", "If-Range": tag})
        other = await api.get("/v1/calls/a1/audio", headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (same.status_code, other.status_code) == (206, 200)
    assert len(other.content) == SIZE


async def test_only_its_head(library: AudioLibrary) -> None:
    async with running_api(audio=library) as api:
        api.calls.add(recorded())
        response = await api.client.head("/v1/calls/a1/audio")
        part = await api.client.head("/v1/calls/a1/audio", headers={"Range": "bytes=0-9"})
    assert (response.status_code, response.content, response.headers["content-length"]) == (200, b"", str(SIZE))
    assert (part.status_code, part.content, part.headers["content-length"]) == (206, b"", "10")


async def test_wav_as_mp3(library: AudioLibrary) -> None:
    pytest.importorskip("lameenc")
    async with running_api(audio=library) as api:
        api.calls.add(recorded())
        response = await api.get("/v1/calls/a1/audio?format=mp3", headers={"Range": "bytes=0-9"})
        head = await api.client.head("/v1/calls/a1/audio?format=mp3")
    assert response.status_code == 200  # made on the way, so there are no ranges
    assert response.headers["content-type"] == "audio/mpeg"
    assert response.headers["content-disposition"] == 'inline; filename="call-a1.mp3"'
    assert "etag" not in response.headers
    assert response.content[0] == 0xFF and response.content[1] & 0xE0 == 0xE0  # a frame's sync word
    assert (head.status_code, head.content) == (200, b"")
    assert "content-length" not in head.headers


@pytest.mark.parametrize(
    ("call", "query", "expected"),
    [
        (recorded(), "?format=ogg", (400, "invalid_parameter", "format")),
        (recorded("m1", "mp3"), "?format=wav", (409, "other_format", "format")),
        (recorded("gone"), "", (404, "recording_gone", "")),
        (recorded("new", complete=False), "", (409, "recording_in_progress", "")),
        (recorded(complete=False, live=True), "", (409, "recording_in_progress", "")),
        (record("none", recording=None), "", (404, "no_recording", "")),
    ],
)
async def test_why_there_is_none(
    library: AudioLibrary, call: CallRecord, query: str, expected: tuple[int, str, str]
) -> None:
    async with running_api(audio=library) as api:
        api.calls.add(call)
        assert await api.refusal("GET", f"/v1/calls/{call.id}/audio{query}") == expected


async def test_what_a_dead_process_left_is_given_out(library: AudioLibrary) -> None:
    async with running_api(audio=library) as api:
        api.calls.add(recorded(complete=False))
        assert (await api.get("/v1/calls/a1/audio")).content == WAV


async def test_a_location_outside_of_the_folder_is_never_read(library: AudioLibrary) -> None:
    async with running_api(audio=library) as api:
        call = recorded()
        assert call.recording is not None
        call.recording.location = "../../etc/passwd"
        api.calls.add(call)
        assert await api.refusal("GET", "/v1/calls/a1/audio") == (404, "recording_gone", "")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BucketError("the bucket does not answer"), (503, "unavailable", "")),
        (OSError(5, "input/output error"), (503, "unavailable", "")),
        (ConfigError("MP3 needs lameenc"), (409, "no_mp3", "format")),
    ],
)
async def test_a_store_that_fails(error: Exception, expected: tuple[int, str, str]) -> None:
    async with running_api() as api:
        api.calls.add(recorded())
        api.audio.error = error
        assert await api.refusal("GET", "/v1/calls/a1/audio?format=mp3") == expected


async def test_a_call_is_forgotten_with_its_file(library: AudioLibrary, tmp_path: Path) -> None:
    async with running_api(audio=library, key=ADMIN) as api:
        api.calls.add(recorded())
        assert (await api.client.delete("/v1/calls/a1")).status_code == 204
    assert not (tmp_path / "a1.wav").exists()


async def test_the_file_is_closed_when_the_reader_leaves() -> None:
    closed: list[bool] = []

    async def chunks() -> AsyncGenerator[bytes, None]:
        try:
            yield b"1"
            yield b"2"
        finally:
            closed.append(True)

    async def send(message: Message) -> None:
        if message.get("body"):
            raise OSError

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
    with pytest.raises(Exception):  # noqa: B017  # starlette's own, which uvicorn understands
        await _Stream(chunks())(scope, receive, send)
    assert closed == [True]
