"""L16 stereo into what a recording's file holds: WAV (PCM) or MP3.

Sources: Microsoft/IBM, Multimedia Programming Interface and Data Specifications 1.0 (RIFF WAVE);
ISO/IEC 11172-3 and 13818-3, clause 2.4.1.3 (MPEG audio frame header), with the usual MPEG 2.5 extension for 8 kHz.
"""

from __future__ import annotations

import importlib
import struct
from typing import Any, Protocol

from bridge.errors import ConfigError, RemoteError
from bridge.server.recording.options import AudioFormat

CHANNELS = 2
FRAME_BYTES = 2 * CHANNELS
"""One sample of both channels, L16."""

CONTENT_TYPES: dict[AudioFormat, str] = {"wav": "audio/wav", "mp3": "audio/mpeg"}

WAV_HEADER_BYTES = 44
_WAV_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_PCM = 1

MP3_KBPS = {8000: 32, 16000: 48, 22050: 64, 24000: 64, 44100: 96, 48000: 96}
"""For both channels together, by sample rate: speech without audible loss, and the highest MP3 has at 8 kHz is 64."""
_LAME_QUALITY = 7
"""LAME's fastest: at these rates nobody hears the difference, and it takes half the CPU of its default."""
NO_LAME = "MP3 needs the package lameenc: pip install 'telephony-bridge[mp3]'"


class Encoder(Protocol):
    """Turns blocks of stereo L16 into a file's bytes."""

    def header(self, data_bytes: int) -> bytes:
        """The file's first bytes when so many follow; always of the same length, empty if there are none."""

    def encode(self, pcm: bytes) -> bytes:
        """The next block."""

    def flush(self) -> bytes:
        """What the encoder still holds, at the end."""


def new_encoder(audio_format: AudioFormat, rate_hz: int) -> Encoder:
    """An encoder for one file. Raises ``ConfigError`` if MP3 is wanted and cannot be had."""
    return WavEncoder(rate_hz) if audio_format == "wav" else Mp3Encoder(rate_hz)


# --- WAV -------------------------------------------------------------------------------------------------


class WavEncoder:
    """PCM as it is, behind a header that says how much there is."""

    __slots__ = ("_rate_hz",)

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz

    def header(self, data_bytes: int) -> bytes:
        """The 44 bytes of a WAV file with so many bytes of audio."""
        rate_hz = self._rate_hz
        fmt = (b"fmt ", 16, _PCM, CHANNELS, rate_hz, rate_hz * FRAME_BYTES, FRAME_BYTES, 8 * FRAME_BYTES // CHANNELS)
        riff_bytes = WAV_HEADER_BYTES - 8 + data_bytes
        return _WAV_HEADER.pack(b"RIFF", riff_bytes, b"WAVE", *fmt, b"data", data_bytes)

    def encode(self, pcm: bytes) -> bytes:
        """The same."""
        return pcm

    def flush(self) -> bytes:
        """Nothing is held."""
        return b""


def wav_rate_hz(header: bytes) -> int:
    """The sample rate in the header of a WAV file of ours. Raises ``RemoteError`` for any other file."""
    if len(header) < WAV_HEADER_BYTES:
        raise RemoteError("the recording has no whole WAV header")
    rate_hz = int.from_bytes(header[24:28], "little")
    expected = WavEncoder(rate_hz).header(0) if rate_hz in MP3_KBPS else b""
    if header[:4] + header[8:40] != expected[:4] + expected[8:40]:  # all but the two sizes
        raise RemoteError("the recording is no WAV file of this program")
    return rate_hz


# --- MP3 -------------------------------------------------------------------------------------------------


def load_lame() -> Any:
    """The encoder's module. Raises ``ConfigError`` that says what to install."""
    try:
        return importlib.import_module("lameenc")
    except ImportError:
        raise ConfigError(NO_LAME) from None


class Mp3Encoder:
    """MP3 at a constant bit rate; it releases the interpreter while it works and holds back about 0.15 s at 8 kHz."""

    __slots__ = ("_lame",)

    def __init__(self, rate_hz: int) -> None:
        lame = load_lame().Encoder()
        lame.silence()
        lame.set_channels(CHANNELS)
        lame.set_in_sample_rate(rate_hz)
        lame.set_out_sample_rate(rate_hz)
        lame.set_bit_rate(MP3_KBPS[rate_hz])
        lame.set_quality(_LAME_QUALITY)
        self._lame = lame

    def header(self, data_bytes: int) -> bytes:
        """MP3 has none: every frame stands for itself, so a file cut anywhere plays."""
        return b""

    def encode(self, pcm: bytes) -> bytes:
        """Encode a block of any length."""
        return bytes(self._lame.encode(pcm))

    def flush(self) -> bytes:
        """The last frames. Must follow at least one block: LAME refuses to end what never began."""
        return bytes(self._lame.flush())


_MPEG_KBPS = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Layer III, by MPEG version (2 stands for 2.5 too) and the header's index."""


def mp3_kbps(first_bytes: bytes) -> int:
    """The bit rate in the first frame of an MP3 file of ours; 0 if that is no such frame."""
    if len(first_bytes) < 4 or first_bytes[0] != 0xFF or first_bytes[1] & 0xE6 != 0xE2:  # sync, layer III
        return 0
    version = 1 if first_bytes[1] & 0x18 == 0x18 else 2
    index = first_bytes[2] >> 4
    return _MPEG_KBPS[version][index] if index < len(_MPEG_KBPS[version]) else 0
