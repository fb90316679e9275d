"""Sound for the simulators: the spoken clips, tones, offline format conversion, and two-track recordings.

Not for live audio: clips are converted as a whole (soxr needs to see them whole), once per format. The clips are
made by ``assets/make.sh``.
"""

from __future__ import annotations

import functools
import wave
from pathlib import Path

import numpy as np
import soxr

from bridge.media.format import ULAW_8K, Encoding, MediaFormat
from bridge.media.g711 import alaw_to_pcm, pcm_to_alaw, pcm_to_ulaw, ulaw_to_pcm

ASSETS = Path(__file__).parent / "assets"

CLIP_TEXTS = {
    "agent_greeting": "Hello, this is Ada. How can I help you today?",
    "agent_answer": "Orders leave our house at five every day, and most arrive within two days, unless they go abroad.",
    "agent_reply": "Your order was sent today. It arrives on Monday.",
    "agent_goodbye": "You are welcome. Thank you, and goodbye.",
    "caller_question": "Hi, I would like to know when my order arrives.",
    "caller_interruption": "Sorry, order four two seven.",
    "caller_thanks": "Great, that is all.",
}
"""Name of every clip and the words spoken in it (the same as in ``assets/make.sh``)."""

TONE_LEVEL = 0.25
"""Amplitude of test tones, relative to full scale (-12 dBFS): clear to a talk detector, far from clipping."""

_TEXT_LIMIT = 60
"""How much of a wrong clip name is repeated in an error."""

_BLOCK_SAMPLES = 8000
"""How much of a recording is held decoded while writing (1 s)."""


def decode(payload: bytes, source: MediaFormat) -> bytes:
    """Turn ``payload`` into 16-bit linear PCM of the same rate."""
    if source.encoding is Encoding.ULAW:
        return ulaw_to_pcm(payload)
    if source.encoding is Encoding.ALAW:
        return alaw_to_pcm(payload)
    return payload


def encode(pcm: bytes, target: MediaFormat) -> bytes:
    """Turn 16-bit linear PCM of the target's rate into the target's encoding."""
    if target.encoding is Encoding.ULAW:
        return pcm_to_ulaw(pcm)
    if target.encoding is Encoding.ALAW:
        return pcm_to_alaw(pcm)
    return pcm


def convert(payload: bytes, source: MediaFormat, target: MediaFormat) -> bytes:
    """Convert a whole recording; the result has the same duration to within a sample."""
    if source == target:
        return payload
    pcm = decode(payload, source)
    if source.rate_hz != target.rate_hz:
        samples = soxr.resample(np.frombuffer(pcm, "<i2"), source.rate_hz, target.rate_hz, quality="HQ")
        pcm = samples.astype("<i2").tobytes()
    return encode(pcm, target)


@functools.cache
def load_clip(name: str, target: MediaFormat = ULAW_8K) -> bytes:
    """One spoken clip in the target's format.

    ``name`` is one of ``CLIP_TEXTS``, or the path of a mono 16-bit WAV file at a rate of ``SUPPORTED_RATES_HZ``
    (it must end in ``.wav``). Raises ``ValueError`` for any other name or layout, ``OSError`` for a file that cannot
    be read.
    """
    if name in CLIP_TEXTS:
        path = ASSETS / f"{name}.wav"
    elif name.endswith(".wav"):
        path = Path(name)
    else:
        known = ", ".join(CLIP_TEXTS)
        raise ValueError(f"clip {name[:_TEXT_LIMIT]!r} is not known; known are {known}, or the path of a .wav file")
    with wave.open(str(path)) as file:
        if file.getnchannels() != 1 or file.getsampwidth() != 2:
            layout = f"{file.getnchannels()} channels of {file.getsampwidth() * 8} bit"
            raise ValueError(f"{path.name} has {layout}; clips are mono, 16 bit")
        source = MediaFormat(Encoding.L16, file.getframerate())
        pcm = file.readframes(file.getnframes())
    return convert(pcm, source, target)


def tone(hz: float, target: MediaFormat, duration_ms: float, start_sample: int = 0) -> bytes:
    """A sine of ``hz`` in the target's format; ``start_sample`` continues an earlier piece without a click."""
    count = target.size_bytes(duration_ms) // target.bytes_per_sample
    phase = 2 * np.pi * hz / target.rate_hz * np.arange(start_sample, start_sample + count)
    pcm = (np.sin(phase) * TONE_LEVEL * 32767).astype("<i2").tobytes()
    return encode(pcm, target)


def write_stereo_wav(path: Path, left_ulaw: bytes | bytearray, right_ulaw: bytes | bytearray) -> None:
    """Write both sides of a call as a stereo WAV (8 kHz, 16 bit), one second at a time; the shorter is padded."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(ULAW_8K.rate_hz)
        for start in range(0, max(len(left_ulaw), len(right_ulaw)), _BLOCK_SAMPLES):
            left, right = (bytes(side[start : start + _BLOCK_SAMPLES]) for side in (left_ulaw, right_ulaw))
            size = max(len(left), len(right))
            block = np.empty((size, 2), "<i2")
            for channel, side in enumerate((left, right)):
                block[:, channel] = np.frombuffer(ulaw_to_pcm(side.ljust(size, b"\xff")), "<i2")
            file.writeframes(block.tobytes())
