"""Reads the operator's own audio (hold music, apologies, a message for machines): WAV files, once at the start."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from bridge.calls.hold import MAX_HOLD_S, HoldAudio
from bridge.errors import ConfigError
from bridge.media.format import SUPPORTED_RATES_HZ

MAX_CHANNELS = 2


def load_hold_audio(path: Path, setting: str = "HOLD_AUDIO") -> HoldAudio:
    """The file as 16-bit mono; stereo is mixed down. Raises ``ConfigError`` for what cannot be played.

    ``setting`` is the one that names the file.
    """
    mend = "give a WAV file with 16-bit PCM, mono or stereo, at 8000, 16000, 22050, 24000, 44100 or 48000 Hz"
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate_hz = file.getnchannels(), file.getsampwidth(), file.getframerate()
            if width != 2 or channels > MAX_CHANNELS or rate_hz not in SUPPORTED_RATES_HZ:
                raise ConfigError(
                    f"{setting} {path} has {channels} channels of {8 * width} bits at {rate_hz} Hz; {mend}"
                )
            frames = file.readframes(rate_hz * MAX_HOLD_S)
    except (OSError, EOFError, wave.Error) as problem:
        raise ConfigError(f"{setting} {path} cannot be read ({problem}); {mend}") from None
    if not frames:
        raise ConfigError(f"{setting} {path} is empty; {mend}")
    samples = np.frombuffer(frames, "<i2").reshape(-1, channels)
    mono = samples.astype(np.int32).sum(axis=1) // channels
    return HoldAudio(mono.astype("<i2").tobytes(), rate_hz)


def load_apologies(path: Path) -> dict[str, HoldAudio]:
    """Apologies by language, from a folder with ``de.wav``, ``en.wav``, ``default.wav``, or from one file for all.

    Raises ``ConfigError`` for what cannot be played, and for a folder without any.
    """
    if not path.is_dir():
        return {DEFAULT_LANGUAGE: load_hold_audio(path, "APOLOGY_AUDIO")}
    found = {file.stem.lower(): load_hold_audio(file, "APOLOGY_AUDIO") for file in sorted(path.glob("*.wav"))}
    if not found:
        raise ConfigError(f"APOLOGY_AUDIO {path} has no WAV files; put default.wav there, and others such as de.wav")
    return found


DEFAULT_LANGUAGE = "default"
"""Name of the audio that serves languages without one of their own."""
