"""The agent's side: workspace, default agent, and its interface."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, SecretStr

from bridge.calls.tools import allowed_patterns
from bridge.settings.base import CommaList, HttpUrl, Lower, Number, Topic, setting


def _ascii(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().isascii():
        raise ValueError("holds a character that no key has; copy it again from ElevenLabs' settings")
    return value


def _patterns(texts: tuple[str, ...]) -> tuple[str, ...]:
    allowed_patterns(texts)
    return texts


class AgentSettings(Topic):
    """Agent."""

    elevenlabs_api_key: Annotated[SecretStr, AfterValidator(_ascii)] | None = setting(
        None, "Key of the ElevenLabs workspace, to fetch signed URLs. Unset: only public agents can be reached."
    )
    elevenlabs_agent_id: str | None = setting(
        None, "Agent that takes the calls for which neither a route nor the carrier's address names one."
    )
    elevenlabs_base_url: HttpUrl = setting(
        "https://api.elevenlabs.io",
        "ElevenLabs' interface: another region's host, or `http://127.0.0.1:9090` for `bridge agent`. "
        "The WebSocket address follows from it.",
    )
    elevenlabs_branch_id: str | None = setting(
        None, "Branch of `ELEVENLABS_AGENT_ID` to talk to. Unset: the agent's main branch."
    )
    elevenlabs_environment: str | None = setting(
        None, "Environment of the agent's variables. Unset: the vendor's default, `production`."
    )

    dtmf_to_agent: Annotated[Literal["message", "each", "off"], Lower] = setting(
        "message",
        "What the agent is told of keys that callers press: `message` = what was typed, up to `#` or a pause, as if "
        "the caller had said it; `each` = every key at once, without taking a turn; `off` = nothing. With "
        "`REDACT_DTMF` it is told nothing.",
    )
    dtmf_pause_s: Number = setting(2, "A pause of so long ends what a caller types.", unit="s", gt=0, le=30)
    transfer_allow: Annotated[tuple[str, ...], CommaList, AfterValidator(_patterns)] = setting(
        (),
        "Where agents may transfer callers to: numbers, SIP addresses and words of the carrier's flow, with commas "
        "between them and `*` for any characters: `+4930*, sip:*@pbx.example.com, sales`. Unset: nowhere.",
    )

    @property
    def agent_ws_base(self) -> str:
        """``elevenlabs_base_url`` for WebSockets: ``ws`` for ``http``, ``wss`` for ``https``."""
        return "ws" + self.elevenlabs_base_url.removeprefix("http")
