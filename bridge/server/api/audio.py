"""The recording of a call over HTTP: what it is called, when it can be had, and which refusal says why not.

Where the file lies and how it is read is the business of ``bridge.server.recording``. The location comes from the
record, never from the request.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import get_args

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from bridge.calls.record import CallRecord, Recording
from bridge.errors import ConfigError
from bridge.server.api.errors import NO_STORE, ApiError, wrong_parameter
from bridge.server.api.ports import AudioPort
from bridge.server.recording.library import AudioFormatError, OpenAudio
from bridge.server.recording.names import AudioNotFoundError
from bridge.server.recording.options import AudioFormat
from bridge.server.recording.ranges import RangeError

FORMATS: tuple[AudioFormat, ...] = get_args(AudioFormat)


async def audio_response(record: CallRecord, wanted: str | None, request: Request, library: AudioPort) -> Response:
    """The recording of this call, or the part of it that was asked for. Raises ``ApiError``."""
    recording = record.recording
    if recording is None:
        raise ApiError(404, "no_recording", "This call was not recorded, or its recording's retention is over.")
    if record.ended_at is None and not recording.complete:
        raise _in_progress()
    if wanted is not None and wanted not in FORMATS:
        raise wrong_parameter("format", f"is none of {', '.join(FORMATS)}")
    given = wanted or recording.format
    tag = f'"{record.id}-{recording.size_bytes}"' if given == recording.format else ""
    part = request.headers.get("range", "")
    if request.headers.get("if-range", tag) != tag:  # of another file than this (RFC 9110, section 13.1.5)
        part = ""
    audio = await _open(recording, wanted, part, library)
    headers = {
        **NO_STORE,
        **audio.headers,
        "Content-Type": audio.content_type,
        "Content-Disposition": f'inline; filename="call-{record.id}.{given}"',
        **({"ETag": tag} if tag else {}),
    }
    if request.method == "HEAD":
        return _Head(audio, headers)
    return _Stream(audio.chunks, audio.status, headers)


async def delete_audio(recording: Recording, library: AudioPort) -> None:
    """Remove a recording. Raises ``ApiError`` when it lies where this bridge cannot reach."""
    try:
        await library.delete_audio(recording.location)
    except AudioNotFoundError:
        raise ApiError(
            409,
            "recording_elsewhere",
            "The recording is in a bucket that is no longer set, so it cannot be deleted and the record is kept: "
            "set the bucket again, then delete the call.",
        ) from None


async def _open(recording: Recording, wanted: AudioFormat | None, part: str, library: AudioPort) -> OpenAudio:
    try:
        return await library.open_audio(recording.location, wanted, part)
    except AudioNotFoundError:
        if not recording.complete:
            raise _in_progress() from None
        raise ApiError(404, "recording_gone", "The recording was deleted, or its file was moved away.") from None
    except AudioFormatError:
        raise ApiError(
            409, "other_format", f"The recording is {recording.format} and cannot be had as {wanted}.", "format"
        ) from None
    except ConfigError:
        raise ApiError(
            409, "no_mp3", "This bridge cannot make MP3: install its mp3 extra, or ask for format=wav.", "format"
        ) from None
    except RangeError as error:
        raise ApiError(
            416,
            "range_outside",
            f"The recording has {error.size} bytes.",
            headers={"Content-Range": f"bytes */{error.size}"},
        ) from None


def _in_progress() -> ApiError:
    return ApiError(
        409,
        "recording_in_progress",
        "The recording is being written; come back a moment after the end of the call. What a process that died has "
        "left is completed when the bridge starts again.",
    )


class _Stream(StreamingResponse):
    """Sends the audio, and closes its source whatever becomes of the reader."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if isinstance(self.body_iterator, AsyncGenerator):
                await self.body_iterator.aclose()


class _Head(Response):
    """The head of an answer whose body is not read."""

    def __init__(self, audio: OpenAudio, headers: dict[str, str]) -> None:
        super().__init__(None, audio.status, headers)
        if "Content-Length" not in audio.headers:  # MP3 that is made on the way
            del self.headers["content-length"]
