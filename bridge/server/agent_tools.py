"""Puts tool definitions into an agent through the vendor's REST interface. Not part of the running bridge.

A tool belongs to the workspace, and an agent lists the ids of those that it uses. So a definition whose name one of the
agent's client tools has already replaces that tool, and others are created and added to the agent's list; doing it
twice changes nothing. No request is repeated on its own, and no message holds the key.

Source: ElevenLabs API reference, "Create tool", "Update tool", "Get tool", "Get agent", "Update agent" (read
2026-11-21).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from bridge import __version__
from bridge.calls.tool_definitions import ToolDefinition
from bridge.errors import BridgeError

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 20.0
"""The vendor writes an agent's new version meanwhile."""
MAX_TOOLS = 200
"""Of one agent that are looked at."""
MAX_DETAIL_CHARS = 300
"""Of the vendor's explanation that a message repeats."""


class PushFailed(BridgeError):
    """The vendor did not do it; the message says what and why, and holds no secret."""


@dataclass(frozen=True, slots=True)
class PushOptions:
    """Where the agent is, and the key to it."""

    base_url: str
    """``ELEVENLABS_BASE_URL`` without trailing slash."""
    api_key: str = field(repr=False)


Say = Callable[[str], None]
"""Told of every step, in words."""


def push(
    definitions: Iterable[ToolDefinition],
    agent_id: str,
    options: PushOptions,
    say: Say,
    transport: httpx.BaseTransport | None = None,
) -> None:
    """Create or replace the tools of this agent. Raises ``PushFailed``; what ``say`` was told of is done by then."""
    with httpx.Client(
        base_url=options.base_url,
        headers={"xi-api-key": options.api_key, "User-Agent": f"telephony-bridge/{__version__}"},
        timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        follow_redirects=False,
        trust_env=False,
        transport=transport,
    ) as client:
        _Push(client, agent_id, say).run(list(definitions))


class _Push:
    def __init__(self, client: httpx.Client, agent_id: str, say: Say) -> None:
        self._client = client
        self._agent_path = f"/v1/convai/agents/{quote(agent_id, safe='')}"
        self._say = say

    def run(self, definitions: list[ToolDefinition]) -> None:
        prompt = _prompt(self._ask("GET", self._agent_path))
        listed = prompt.get("tool_ids")
        ids = [each for each in listed if isinstance(each, str)] if isinstance(listed, list) else []
        if len(ids) > MAX_TOOLS:
            raise PushFailed(f"the agent has {len(ids)} tools; up to {MAX_TOOLS} are looked at")
        known = self._client_tools(ids)
        added = []
        for definition in definitions:
            body = {"tool_config": definition.document()}
            tool_id = known.get(definition.name)
            if tool_id is not None:
                self._ask("PATCH", f"/v1/convai/tools/{quote(tool_id, safe='')}", body)
                self._say(f"{definition.name}: replaced ({tool_id})")
                continue
            made = self._ask("POST", "/v1/convai/tools", body).get("id")
            if not isinstance(made, str) or not made:
                raise PushFailed(f"{definition.name}: the answer names no id")
            self._say(f"{definition.name}: created ({made})")
            added.append(made)
        if added:
            change = {"conversation_config": {"agent": {"prompt": {"tool_ids": [*ids, *added]}}}}
            self._ask("PATCH", self._agent_path, change)
            self._say(f"{len(added)} tools added to the agent")
        self._warn(prompt, definitions)

    def _client_tools(self, ids: list[str]) -> dict[str, str]:
        """Name -> id of the agent's client tools."""
        found: dict[str, str] = {}
        for tool_id in ids:
            config = self._ask("GET", f"/v1/convai/tools/{quote(tool_id, safe='')}").get("tool_config")
            if isinstance(config, dict) and config.get("type") == "client" and isinstance(config.get("name"), str):
                found.setdefault(config["name"], tool_id)
        return found

    def _warn(self, prompt: dict[str, Any], definitions: list[ToolDefinition]) -> None:
        """Of the vendor's own tools of the same name: nobody documents which of the two is called."""
        own = prompt.get("built_in_tools")
        for definition in definitions:
            if isinstance(own, dict) and own.get(definition.name) is not None:
                self._say(f"{definition.name}: switch the agent's own (system) tool of this name off; it is in the way")

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            answer = self._client.request(method, path, json=body)
        except httpx.TimeoutException:
            raise PushFailed(f"{method} {path}: no answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            kind = type(error).__name__
            raise PushFailed(f"{method} {path}: no connection ({kind}); check ELEVENLABS_BASE_URL") from None
        if not 200 <= answer.status_code < 300:
            raise PushFailed(f"{method} {path}: HTTP {answer.status_code}{_mend(answer)}")
        try:
            document = answer.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise PushFailed(f"{method} {path}: the answer is no JSON object; check ELEVENLABS_BASE_URL")
        return document


def _prompt(agent: dict[str, Any]) -> dict[str, Any]:
    here: Any = agent
    for name in ("conversation_config", "agent", "prompt"):
        here = here.get(name) if isinstance(here, dict) else None
    if not isinstance(here, dict):
        raise PushFailed("the agent's answer has no conversation_config.agent.prompt")
    return here


def _mend(answer: httpx.Response) -> str:
    mends = {
        401: "; check ELEVENLABS_API_KEY",
        403: "; the key needs the permission to write agents (ElevenLabs Agents: write)",
        404: "; check the agent's id and ELEVENLABS_BASE_URL",
    }
    if answer.status_code in mends:
        return mends[answer.status_code]
    text = " ".join(answer.text[: 4 * MAX_DETAIL_CHARS].split())
    text = "".join(char for char in text if char.isprintable())[:MAX_DETAIL_CHARS]
    return f": {text}" if text else ""
