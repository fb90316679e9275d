"""How recordings are called: a file's name comes from the call's id alone, and nothing else is ever opened.

Locations as records keep them: ``<call id>.wav`` below the folder, or ``s3://<bucket>/<prefix><call id>.wav``.
"""

from __future__ import annotations

import re
from typing import cast

from bridge.errors import BridgeError, LocalError
from bridge.server.recording.options import AudioFormat

PART = ".part"
"""Suffix while a file grows; its final name appears when it is whole."""

_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_NAME = re.compile(r"([A-Za-z0-9_-]{1,128})\.(wav|mp3)")


class AudioNotFoundError(BridgeError):
    """There is no audio at this location: never was, deleted, not there yet, or no location at all."""


def file_name(call_id: str, audio_format: AudioFormat) -> str:
    """The name of a call's recording. Raises ``LocalError`` for an id that is no plain word."""
    if not _CALL_ID.fullmatch(call_id):
        raise LocalError("a call's id is 1 to 128 letters, digits, '_' and '-'")
    return f"{call_id}.{audio_format}"


def parse_name(name: str) -> tuple[str, AudioFormat] | None:
    """Call id and format of a recording's name; None for any other name."""
    match = _NAME.fullmatch(name)
    return (match[1], cast(AudioFormat, match[2])) if match else None


def name_at(location: str) -> str:
    """The file's name in a location of either kind. Raises ``AudioNotFoundError`` if there is none."""
    name = location.rpartition("/")[2] if location.startswith("s3://") else location
    if parse_name(name) is None:
        raise AudioNotFoundError("this is no location of a recording")
    return name
