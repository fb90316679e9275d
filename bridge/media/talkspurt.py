"""Where somebody talks in a finished recording: energy against a threshold, with a hangover.

Not a voice activity detector for live audio (the agent's side has its own) and no speech recogniser: music and
loud noise count as talk. The hangover follows ITU-T P.56 (12/2011) section 6, method B, which counts pauses of
up to 200 ms as part of the speech around them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.errors import LocalError
from bridge.media.format import FRAME_MS

THRESHOLD_DBFS = -45.0
"""A frame at or above this level is talk. Speech on a phone line lies around -20 to -35 dBFS, line noise and
comfort noise after G.711 around -55 to -70 dBFS."""
HANGOVER_MS = 200
"""A pause up to this long does not end a talkspurt (P.56: the ear does not hear it as a pause)."""
MIN_TALKSPURT_MS = 60
"""What is shorter even with its bridged pauses is a click, not a word."""

_FULL_SCALE = 32768.0
_BLOCK_FRAMES = 3000
"""Frames turned into floating point at a time (one minute), so that an hour of audio needs no 200 MB."""


@dataclass(frozen=True, slots=True)
class Talkspurt:
    """One stretch of talk, in milliseconds from the start of the audio; ``end_ms`` is exclusive."""

    start_ms: int
    end_ms: int


def find_talkspurts(pcm: bytes, rate_hz: int) -> list[Talkspurt]:
    """Find the talkspurts of mono L16 audio, in order, to the nearest frame of 20 ms.

    A constant offset does not count as energy. An odd last byte is ignored. The hangover bridges pauses only:
    a talkspurt ends with its last loud frame. Raises ``LocalError`` when ``rate_hz`` gives no whole sample in
    a frame.
    """
    frame_samples = rate_hz * FRAME_MS // 1000
    if frame_samples <= 0:
        raise LocalError(f"rate_hz is {rate_hz}; a frame of {FRAME_MS} ms needs at least one sample")
    samples = np.frombuffer(pcm, dtype="<i2", count=len(pcm) // 2)
    length_ms = samples.size * 1000 // rate_hz
    loud = np.concatenate([np.zeros(0, np.int64), *_loud_frames(samples, frame_samples)])
    if not loud.size:
        return []
    # From samples, not FRAME_MS: a frame of 22.05 kHz audio is a fraction of a sample short of 20 ms.
    starts_ms = loud * frame_samples * 1000 // rate_hz
    ends_ms = np.minimum((loud + 1) * frame_samples * 1000 // rate_hz, length_ms)
    first = np.flatnonzero(np.append(True, starts_ms[1:] - ends_ms[:-1] > HANGOVER_MS))
    last = np.append(first[1:] - 1, loud.size - 1)
    found = [
        Talkspurt(start, end) for start, end in zip(starts_ms[first].tolist(), ends_ms[last].tolist(), strict=True)
    ]
    return [spurt for spurt in found if spurt.end_ms - spurt.start_ms >= MIN_TALKSPURT_MS]


def _loud_frames(samples: NDArray[np.int16], frame_samples: int) -> Iterator[NDArray[np.int64]]:
    """Indices of the frames at or over the threshold, block by block; the last frame may be a short one."""
    threshold = (_FULL_SCALE * 10 ** (THRESHOLD_DBFS / 20)) ** 2
    whole = samples.size // frame_samples
    frames = samples[: whole * frame_samples].reshape(whole, frame_samples)
    for first in range(0, whole, _BLOCK_FRAMES):
        energy = frames[first : first + _BLOCK_FRAMES].var(axis=1, dtype=np.float32)
        yield first + np.flatnonzero(energy >= threshold)
    rest = samples[whole * frame_samples :]
    if rest.size and float(rest.var(dtype=np.float32)) >= threshold:
        yield np.array([whole], np.int64)
