"""Reads the operator's hold audio: a WAV file, once at the start."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from bridge.calls.hold import MAX_HOLD_S, HoldAudio
from bridge.errors import ConfigError
from bridge.media.format import SUPPORTED_RATES_HZ

MAX_CHANNELS = 2


def load_hold_audio(path: Path) -> HoldAudio:
    """The file as 16-bit mono; stereo is mixed down. Raises ``ConfigError`` for what cannot be played."""
    mend = "give a WAV file with 16-bit PCM, mono or stereo, at 8000, 16000, 22050, 24000, 44100 or 48000 Hz"
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate_hz = file.getnchannels(), file.getsampwidth(), file.getframerate()
            if width != 2 or channels > MAX_CHANNELS or rate_hz not in SUPPORTED_RATES_HZ:
                raise ConfigError(
                    f"HOLD_AUDIO {path} has {channels} channels of {8 * width} bits at {rate_hz} Hz; {mend}"
                )
            frames = file.readframes(rate_hz * MAX_HOLD_S)
    except (OSError, EOFError, wave.Error) as problem:
        raise ConfigError(f"HOLD_AUDIO {path} cannot be read ({problem}); {mend}") from None
    if not frames:
        raise ConfigError(f"HOLD_AUDIO {path} is empty; {mend}")
    samples = np.frombuffer(frames, "<i2").reshape(-1, channels)
    mono = samples.astype(np.int32).sum(axis=1) // channels
    return HoldAudio(mono.astype("<i2").tobytes(), rate_hz)
