"""Who and what a simulated Audio Connector session is about: ids, participant, media and variables of its ``open``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bridge.simulators.genesys_limits import Limits
from bridge.simulators.genesys_media import OFFERS, MediaEntry

NULL_UUID = "00000000-0000-0000-0000-000000000000"
"""Conversation and participant of a connection probe (AudioHook protocol reference, "Connection probe")."""

MAX_CUSTOM_CONFIG_BYTES = 60_000
"""Largest ``customConfig`` that Genesys lets an administrator enter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSetup:
    """Everything a session knows before it begins."""

    organization_id: str
    session_id: str
    conversation_id: str
    """The null UUID makes it a connection probe, as does ``participant_id``."""
    participant_id: str
    ani: str = ""
    """Caller, as Genesys writes it: ``tel:+15550100``."""
    ani_name: str = ""
    dnis: str = ""
    media: tuple[MediaEntry, ...] = OFFERS["external"]
    language: str = ""
    input_variables: Mapping[str, str] = field(default_factory=dict)
    custom_config: Mapping[str, Any] | None = None
    limits: Limits = Limits()
    completed_after_barge_in: bool = True
    """Whether ``playback_completed`` follows when ``barge_in`` has emptied the buffer. No source says what Genesys
    does; a server must live with both."""

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for a ``custom_config`` that Genesys would not take."""
        if len(msgspec.json.encode(self.custom_config)) > MAX_CUSTOM_CONFIG_BYTES:
            raise ValueError(f"custom_config is over {MAX_CUSTOM_CONFIG_BYTES} bytes")

    @property
    def is_probe(self) -> bool:
        """Whether Genesys only tries the connection."""
        return self.conversation_id == NULL_UUID

    def open_parameters(self) -> dict[str, object]:
        """Parameters of ``open``."""
        participant = {
            "id": self.participant_id,
            "ani": self.ani,
            "aniName": self.ani_name,
            "dnis": self.dnis,
        }
        parameters: dict[str, object] = {
            "organizationId": self.organization_id,
            "conversationId": self.conversation_id,
            "participant": participant,
            "media": self.media,
        }
        if self.language:
            parameters["language"] = self.language
        if self.custom_config is not None:
            parameters["customConfig"] = self.custom_config
        if self.input_variables:
            parameters["inputVariables"] = self.input_variables
        return parameters


def parse_variables(pairs: Iterable[str]) -> dict[str, str]:
    """Input variables from ``NAME=VALUE`` texts. Raises ``ValueError`` for another form (without the value)."""
    variables: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ValueError("an input variable is given as NAME=VALUE")
        variables[name] = value
    return variables


def parse_custom_config(text: str) -> dict[str, Any] | None:
    """The ``customConfig`` object of a JSON text; None for an empty one. Raises ``ValueError`` otherwise."""
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        raise ValueError("the custom configuration is not a JSON object") from None
