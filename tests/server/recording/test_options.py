"""``bridge.server.recording.options``: what does not go together is said at the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.server.recording.encoders import WAV_HEADER_BYTES
from bridge.server.recording.options import LONGEST_S, RecordingOptions, S3Options

FOLDER = Path("recordings")


def test_the_longest_recording_fits_a_wav_files_sizes_at_every_rate() -> None:
    assert WAV_HEADER_BYTES + LONGEST_S * 48_000 * 4 < 2**32


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        RecordingOptions(FOLDER, s3=S3Options("", access_key_id="key"), longest_s=21601, threads=0)
    assert str(caught.value) == (
        "a recording lasts 21600 s at most (and more than 0), not 21601 s; recording takes at least one thread; "
        "the bucket for recordings has no name; the bucket's key id and its secret key go together: set both or neither"
    )


def test_defaults_and_whole_settings_are_accepted() -> None:
    RecordingOptions(FOLDER)
    RecordingOptions(FOLDER, "mp3", S3Options("calls", access_key_id="key", secret_access_key="secret"))


def test_the_secret_is_not_shown() -> None:
    assert "hush" not in repr(S3Options("calls", access_key_id="key", secret_access_key="hush"))
