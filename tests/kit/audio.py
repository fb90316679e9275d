"""Audio for tests, and what can be said of audio after codecs and filters: its length and its tones."""

from __future__ import annotations

from bridge.media.format import Encoding, MediaFormat
from bridge.media.g711 import alaw_to_pcm, pcm_to_alaw, pcm_to_ulaw, ulaw_to_pcm
from bridge.media.tones import dominant_frequencies, tone

AMPLITUDE = 8000
"""Peak of a test tone: as loud as speech."""

FREQUENCY_TOLERANCE_HZ = 3.0

LEVEL_TOLERANCE_DB = 0.5
"""What G.711's rounding and the resampler's pass band may change of a tone's level."""


def from_pcm(pcm: bytes, media: MediaFormat) -> bytes:
    """L16 in the encoding of ``media`` (the rate is taken to be right)."""
    match media.encoding:
        case Encoding.ULAW:
            return pcm_to_ulaw(pcm)
        case Encoding.ALAW:
            return pcm_to_alaw(pcm)
        case Encoding.L16:
            return pcm


def to_pcm(payload: bytes, media: MediaFormat) -> bytes:
    """The inverse of ``from_pcm``."""
    match media.encoding:
        case Encoding.ULAW:
            return ulaw_to_pcm(payload)
        case Encoding.ALAW:
            return alaw_to_pcm(payload)
        case Encoding.L16:
            return payload


def make_tone(frequency_hz: float, duration_ms: float, media: MediaFormat) -> bytes:
    """A sine in the format ``media``."""
    return from_pcm(tone((frequency_hz,), duration_ms, media.rate_hz, AMPLITUDE), media)


def numbered(size_bytes: int, start: int = 0) -> bytes:
    """Bytes that tell their own place in the stream, so that loss, order and doubles show."""
    return bytes((start + index) % 251 for index in range(size_bytes))


def assert_tone(payload: bytes, media: MediaFormat, frequency_hz: float) -> None:
    """The loudest there is in ``payload`` is this frequency, at the level that ``make_tone`` gives it."""
    duration_ms = media.duration_ms(len(payload))
    (sent,) = dominant_frequencies(tone((frequency_hz,), duration_ms, media.rate_hz, AMPLITUDE), media.rate_hz)
    peaks = dominant_frequencies(to_pcm(payload, media), media.rate_hz)
    assert peaks, f"silence where {frequency_hz} Hz should be"
    assert abs(peaks[0].frequency_hz - frequency_hz) <= FREQUENCY_TOLERANCE_HZ, peaks[0]
    assert abs(peaks[0].level_dbm0 - sent.level_dbm0) <= LEVEL_TOLERANCE_DB, peaks[0]


def assert_silence(payload: bytes, media: MediaFormat) -> None:
    """Nothing but the encoding's silence."""
    assert payload == media.silence(len(payload))
