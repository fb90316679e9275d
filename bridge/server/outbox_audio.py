"""The audio of ``post_call_audio`` on its way into the event's body: base64 of MP3, piece by piece.

An hour of audio is 60 MB and its base64 80 MB; what is in memory here is one piece. The body is made twice, once for
its signature, which stands in the header, and once to be sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pybase64

from bridge.calls.webhook_vendor import split_audio
from bridge.errors import BridgeError
from bridge.server.recording.library import AudioLibrary
from bridge.server.recording.names import AudioNotFoundError

PIECE_BYTES = 48 * 1024
"""Of audio that are encoded at once: a multiple of three, and some 0.1 ms of work between calls' frames."""

AudioOpener = Callable[[str], AsyncIterator[bytes]]
"""``Recording.location`` -> the recording as MP3, from its beginning. Raises ``AudioMissing`` when it is not there."""


class AudioMissing(BridgeError):
    """The recording is gone, so its event can never be sent."""


def library_audio(library: AudioLibrary) -> AudioOpener:
    """Audio out of the recordings' folder or bucket."""

    async def opened(location: str) -> AsyncIterator[bytes]:
        try:
            audio = await library.open_audio(location, "mp3")
        except AudioNotFoundError:
            raise AudioMissing("the recording is not there any more") from None
        async for chunk in audio.chunks:
            yield chunk

    return opened


async def audio_event(body: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The event's body with its audio. Raises ``AudioMissing`` for a recording without a byte."""
    head, tail = split_audio(body)
    yield head
    rest = b""
    empty = True
    async for piece in pieces:
        empty = empty and not piece
        rest += piece
        usable = len(rest) - len(rest) % 3  # base64 writes three bytes at a time
        for start in range(0, usable, PIECE_BYTES):
            yield pybase64.b64encode(rest[start : min(start + PIECE_BYTES, usable)])
        rest = rest[usable:]
    if empty:
        raise AudioMissing("the recording is empty")
    if rest:
        yield pybase64.b64encode(rest)
    yield tail
