"""What callers get when the agent fails in the middle of a call, and what is kept to find out why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator

from bridge.calls.numbers import parse_target
from bridge.settings.base import Lower, Number, Topic, setting
from bridge.settings.storage import MAX_DAYS


def _audio(path: Path) -> Path:
    if path.is_dir():
        if not any(path.glob("*.wav")):
            raise ValueError("is a folder without WAV files; put in default.wav, or one a language such as de.wav")
    elif not path.is_file():
        raise ValueError("is no file or folder that is there; give a WAV file, or a folder with default.wav")
    return path


class SurvivalSettings(Topic):
    """When the agent fails."""

    agent_reconnect: bool = setting(
        True,
        "`on` connects the agent once more when its connection breaks in the middle of a call, and tells the new "
        "conversation what was said so far; the caller hears a soft tone meanwhile.",
    )
    agent_reconnect_s: Number = setting(
        2,
        "How long that may take before the caller gets the apology; longer, and callers hang up by themselves.",
        unit="s",
        gt=0,
        le=30,
    )
    fallback_to: Annotated[str, AfterValidator(parse_target)] | None = setting(
        None,
        "Where callers go when their agent has failed for good: a number such as `+49301234567`, or a `sip:` address. "
        "Unset: they hear the apology, and the call ends.",
    )
    apology_audio: Annotated[Path, AfterValidator(_audio)] | None = setting(
        None,
        "What callers hear when their agent has failed for good: one WAV file (16-bit PCM), or a folder with one a "
        "language (`de.wav`, `pt-br.wav`) and `default.wav` for all others. Unset: the carrier's own voice says a "
        "sentence where it can.",
        restart=True,
    )
    elevenlabs_voice_id: str | None = setting(
        None,
        "Voice for texts that the bridge says itself, such as messages for machines. Unset: the agent's own voice is "
        "looked up.",
        pattern=r"^[A-Za-z0-9_-]{1,128}$",
        expected="up to 128 letters, digits, underscores and hyphens",
    )


class FlightSettings(Topic):
    """Flight recorder."""

    flight_recorder: Annotated[Literal["errors", "all", "off"], Lower] = setting(
        "off",
        "Which calls leave a file with their latest wire events, for `bridge replay`: those that ended badly "
        "(`errors`), `all`, or none. Without `FLIGHT_AUDIO` it holds no audio. Recording costs about a fifth more "
        "CPU per call: switch it on while you look for something.",
        restart=True,
    )
    flight_recorder_kb: int = setting(
        512, "Memory for one call's wire events; the oldest go first.", unit="kB", ge=16, le=65_536
    )
    flight_audio: bool = setting(
        False, "`on` keeps audio in those files too; it fills `FLIGHT_RECORDER_KB` in about half a minute."
    )
    retention_flights_days: int = setting(
        30, "How long these files are kept. 0 = none is written.", unit="days", ge=0, le=MAX_DAYS, restart=True
    )
