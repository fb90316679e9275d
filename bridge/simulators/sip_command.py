"""``bridge call sip``: from what somebody types to a phone that can be run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bridge.media.format import Encoding
from bridge.simulators.genesys_person import caller_actions
from bridge.simulators.sip_leg_options import Keys
from bridge.simulators.sip_phone import SipPhone, SipPhoneOptions
from bridge.simulators.sip_terms import CODEC_NAMES, Wanted
from bridge.sip.grammar import is_token


@dataclass(frozen=True, slots=True, kw_only=True)
class SipCommand:
    """What was typed; see the command's help."""

    to: str
    caller: str = "+15550100"
    username: str = ""
    password: str = field(default="", repr=False)
    headers: tuple[str, ...] = ()
    """Each ``NAME=VALUE``."""
    codecs: str = "PCMU,PCMA"
    keys: str = Keys.EVENTS.value
    digits: str = ""
    script: Path | None = None
    ca_file: Path | None = None
    recording: Path | None = None
    max_duration_s: float = 120.0


def phone(command: SipCommand) -> SipPhone:
    """The phone that makes the call. Raises ``ValueError`` with what to mend, ``OSError`` for a file."""
    return SipPhone(
        SipPhoneOptions(
            to=command.to,
            caller=command.caller,
            username=command.username,
            password=command.password,
            headers=dict(_header(text) for text in command.headers),
            wanted=Wanted(codecs=_codecs(command.codecs)),
            keys=_keys(command.keys),
            actions=caller_actions(command.script, command.digits),
            ca_file=command.ca_file,
            recording=command.recording,
            max_duration_s=command.max_duration_s,
        )
    )


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not is_token(name) or not value.isprintable():
        raise ValueError("--header: write NAME=VALUE, on one line")
    return name, value


def _codecs(text: str) -> tuple[Encoding, ...]:
    by_name = {name: encoding for encoding, name in CODEC_NAMES.items()}
    wanted = [part.strip().upper() for part in text.split(",")]
    if not set(wanted) <= set(by_name) or len(set(wanted)) < len(wanted):
        raise ValueError("--codec: PCMU, PCMA, or both with a comma between them")
    return tuple(by_name[name] for name in wanted)


def _keys(text: str) -> Keys:
    try:
        return Keys(text)
    except ValueError:
        raise ValueError(f"--keys: one of {', '.join(way.value for way in Keys)}") from None
