"""Recordings for tests: tones on both sides, and what is in a file, found without the code that wrote it."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bridge.media.tones import dominant_frequencies, tone
from tests.kit.audio import AMPLITUDE

CALLER_HZ, AGENT_HZ = 440, 1000


def stereo(rate_hz: int, duration_s: float) -> bytes:
    """The caller's tone left, the agent's right, as L16."""
    sides = [tone((hz,), duration_s * 1000, rate_hz, AMPLITUDE) for hz in (CALLER_HZ, AGENT_HZ)]
    return np.stack([np.frombuffer(side, "<i2") for side in sides], axis=1).tobytes()


def read_wav(path: Path) -> tuple[int, npt.NDArray[np.int16]]:
    """Sample rate, and samples by (time, channel), as the standard library finds them."""
    with wave.open(str(path)) as reader:
        assert (reader.getnchannels(), reader.getsampwidth()) == (2, 2)
        pcm = reader.readframes(reader.getnframes())
        assert len(pcm) == reader.getnframes() * 4
        return reader.getframerate(), np.frombuffer(pcm, "<i2").reshape(-1, 2)


def loudest_hz(samples: npt.NDArray[np.int16], rate_hz: int) -> int:
    """The strongest tone, rounded; 0 in silence."""
    peaks = dominant_frequencies(samples.tobytes(), rate_hz)
    return round(peaks[0].frequency_hz) if peaks else 0


@dataclass(frozen=True)
class Mp3Frame:
    """What the header of one frame says (ISO/IEC 11172-3, 2.4.1.3, and 13818-3)."""

    rate_hz: int
    kbps: int
    channels: int
    samples: int
    size: int


_KBPS_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBPS_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def mp3_frames(data: bytes) -> list[Mp3Frame]:
    """All frames, end to end; whatever is between or behind them fails, but for a last frame that is cut off."""
    frames, at = [], 0
    while at + 4 <= len(data):
        head = int.from_bytes(data[at : at + 4], "big")
        assert head >> 21 == 0x7FF, f"no frame at {at}: {data[at : at + 4].hex()}"
        assert head >> 17 & 3 == 1, "not layer III"
        version = head >> 19 & 3  # 3 = MPEG 1, 2 = MPEG 2, 0 = MPEG 2.5
        rate_hz = (44100, 48000, 32000)[head >> 10 & 3] // {3: 1, 2: 2, 0: 4}[version]
        kbps = (_KBPS_1 if version == 3 else _KBPS_2)[(head >> 12 & 15) - 1]
        samples = 1152 if version == 3 else 576
        size = samples // 8 * kbps * 1000 // rate_hz + (head >> 9 & 1)
        frames.append(Mp3Frame(rate_hz, kbps, 1 if head >> 6 & 3 == 3 else 2, samples, size))
        at += size
    return frames
