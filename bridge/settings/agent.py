"""The agent's side: workspace, default agent, and its interface."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, SecretStr

from bridge.settings.base import HttpUrl, Topic, setting


def _ascii(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().isascii():
        raise ValueError("holds a character that no key has; copy it again from ElevenLabs' settings")
    return value


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

    @property
    def agent_ws_base(self) -> str:
        """``elevenlabs_base_url`` for WebSockets: ``ws`` for ``http``, ``wss`` for ``https``."""
        return "ws" + self.elevenlabs_base_url.removeprefix("http")
