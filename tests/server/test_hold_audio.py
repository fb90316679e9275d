"""The operator's hold audio: read once, and refused with a mend when it cannot be played."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest

from bridge.calls.hold import HoldAudio
from bridge.errors import ConfigError
from bridge.server.hold_audio import load_hold_audio


def write(path: Path, data: bytes, *, channels: int = 1, width: int = 2, rate_hz: int = 8000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate_hz)
        file.writeframes(data)
    return path


def test_mono_comes_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", b"\x01\x00\x02\x00", rate_hz=16000)
    assert load_hold_audio(path) == HoldAudio(b"\x01\x00\x02\x00", 16000)


def test_stereo_is_mixed_down(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", b"\x04\x00\x02\x00\xff\x7f\xff\x7f", channels=2)
    assert load_hold_audio(path) == HoldAudio(b"\x03\x00\xff\x7f", 8000)


@pytest.mark.parametrize(
    ("data", "form", "words"),
    [
        (b"\x00" * 8, {"width": 1}, "has 1 channels of 8 bits at 8000 Hz"),
        (b"\x00" * 12, {"channels": 3}, "has 3 channels"),
        (b"\x00" * 8, {"rate_hz": 11025}, "at 11025 Hz"),
        (b"", {}, "is empty"),
    ],
)
def test_what_cannot_be_played(tmp_path: Path, data: bytes, form: dict[str, int], words: str) -> None:
    path = write(tmp_path / "a.wav", data, **form)
    with pytest.raises(ConfigError, match=words) as caught:
        load_hold_audio(path)
    assert "give a WAV file with 16-bit PCM" in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"RIFF", b"no wav at all"])
def test_what_is_no_wav_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_hold_audio(path)
