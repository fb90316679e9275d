"""What an agent's own settings allow: overrides, client events, tools. Read from the vendor, judged against ours.

Sources: ElevenLabs API reference, "Get agent" and "Get tool" (fields as in the Python SDK 2.78.0, ``types``), docs
"Overrides", "Client events" and "System tools" (read 2026-11-21). A key may hold conversations and not be allowed to
read agents; then nothing is judged. Only fields that are judged are declared; absent ones stand for the vendor's
defaults.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import httpx
import msgspec

from bridge.doctor.agent import Wanted
from bridge.doctor.findings import Finding, failed, ok, skipped, warning
from bridge.doctor.tools import Tools, listed, words_of

MAX_BODY_BYTES = 4 * 1024 * 1024
"""Agents with long prompts and workflows have some hundred kilobytes."""
MAX_TOOLS = 40
"""Tools that are looked up by their ids."""

DEFAULT_EVENTS = (
    "audio",
    "interruption",
    "agent_response",
    "user_transcript",
    "tentative_user_transcript",
    "conversation_initiation_metadata",
    "ping",
)
"""What the vendor sends where an agent's ``client_events`` are not set."""

VITAL_EVENTS = {
    "audio": "callers would hear nothing",
    "interruption": "the agent would talk on while the caller speaks",
}
USEFUL_EVENTS = {
    "user_transcript": "what callers say would be missing from records",
    "agent_response": "what the agent says would be missing from records",
    "agent_response_correction": "records would hold what the agent never got to say",
    "agent_tool_response": "the end of a call would not be known before the line closes",
}
TOOL_EVENT = "client_tool_call"

CARRIED_OUT_BY_VENDOR = frozenset({"transfer_to_number", "play_keypad_touch_tone"})
"""System tools that need the vendor's own telephony; over a WebSocket they come to nothing."""


class _Fields(msgspec.Struct, frozen=True):
    pass


class _Tool(_Fields, frozen=True):
    name: str = ""
    type: str = ""
    expects_response: bool | None = None


class _Prompt(_Fields, frozen=True):
    tools: list[_Tool] | None = None
    tool_ids: list[str] | None = None
    built_in_tools: dict[str, msgspec.Raw] | None = None


class _AgentPart(_Fields, frozen=True):
    language: str | None = None
    prompt: _Prompt | None = None


class _ConversationPart(_Fields, frozen=True):
    client_events: list[str] | None = None
    text_only: bool | None = None


class _Config(_Fields, frozen=True):
    agent: _AgentPart | None = None
    conversation: _ConversationPart | None = None


class _AgentAllowed(_Fields, frozen=True):
    language: bool | None = None
    first_message: bool | None = None


class _OverrideParts(_Fields, frozen=True):
    agent: _AgentAllowed | None = None


class _Overrides(_Fields, frozen=True):
    conversation_config_override: _OverrideParts | None = None


class _Platform(_Fields, frozen=True):
    overrides: _Overrides | None = None
    archived: bool | None = None


class _Document(_Fields, frozen=True):
    conversation_config: _Config
    platform_settings: _Platform | None = None


class _ToolDocument(_Fields, frozen=True):
    tool_config: _Tool


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """An agent's settings, as far as the bridge depends on them."""

    language: str = ""
    text_only: bool = False
    archived: bool = False
    events: frozenset[str] = frozenset(DEFAULT_EVENTS)
    may_override_language: bool = False
    may_override_first_message: bool = False
    client_tools: tuple[str, ...] = ()
    silent_tools: tuple[str, ...] = ()
    """Client tools whose answer the agent does not wait for."""
    system_tools: tuple[str, ...] = ()


# --- read ------------------------------------------------------------------------------------------------


def read_config(body: bytes, looked_up: Iterable[bytes] = ()) -> AgentConfig:
    """The settings in an answer; ``looked_up`` are the answers for its tools. Raises ``msgspec.DecodeError``."""
    document = msgspec.json.decode(body, type=_Document)
    agent = document.conversation_config.agent or _AgentPart()
    talk = document.conversation_config.conversation or _ConversationPart()
    prompt = agent.prompt or _Prompt()
    platform = document.platform_settings or _Platform()
    overrides = platform.overrides or _Overrides()
    allowed = (overrides.conversation_config_override or _OverrideParts()).agent or _AgentAllowed()
    tools = [*(prompt.tools or ()), *(msgspec.json.decode(each, type=_ToolDocument).tool_config for each in looked_up)]
    client = [tool for tool in tools if tool.type == "client"]
    built_in = [name for name, raw in (prompt.built_in_tools or {}).items() if bytes(raw) != b"null"]
    system = [tool.name for tool in tools if tool.type == "system"]
    return AgentConfig(
        language=agent.language or "",
        text_only=bool(talk.text_only),
        archived=bool(platform.archived),
        events=frozenset(talk.client_events or DEFAULT_EVENTS),
        may_override_language=bool(allowed.language),
        may_override_first_message=bool(allowed.first_message),
        client_tools=tuple(dict.fromkeys(tool.name for tool in client)),
        silent_tools=tuple(dict.fromkeys(tool.name for tool in client if tool.expects_response is False)),
        system_tools=tuple(dict.fromkeys([*built_in, *system])),
    )


def tool_ids(body: bytes) -> tuple[str, ...]:
    """Ids of tools that the answer only names. Raises ``msgspec.DecodeError``."""
    agent = msgspec.json.decode(body, type=_Document).conversation_config.agent or _AgentPart()
    prompt = agent.prompt or _Prompt()
    return () if prompt.tools else tuple(dict.fromkeys(prompt.tool_ids or ()))[:MAX_TOOLS]


# --- judge -----------------------------------------------------------------------------------------------


def judge_config(wanted: Wanted, config: AgentConfig, tools: tuple[str, ...]) -> list[Finding]:
    """What the configuration comes to; ``tools`` are the names of the client tools that the bridge carries out."""
    name = f"agent {wanted.target.agent_id}"
    return [
        _judge_state(name, config),
        _judge_overrides(name, wanted, config),
        _judge_events(name, config, tools),
        _judge_tools(name, config, tools),
    ]


def _judge_state(name: str, config: AgentConfig) -> Finding:
    name += ": configuration"
    if config.archived:
        return failed(name, "the agent is archived", "Take it out of the archive in ElevenLabs, or name another agent.")
    if config.text_only:
        return failed(name, "the agent is text only", "Switch text-only off in the agent's settings in ElevenLabs.")
    language = f", speaks {config.language} unless told otherwise" if config.language else ""
    return ok(name, f"could be read{language}")


def _judge_overrides(name: str, wanted: Wanted, config: AgentConfig) -> Finding:
    name += ": overrides"
    foreign = [language for language in wanted.languages if language != config.language]
    if foreign and not config.may_override_language:
        return failed(
            name,
            f"routes begin in {listed(foreign)}, but the agent does not allow the override of its language",
            "Allow it in ElevenLabs: the agent's Security tab, Overrides, Agent language. Calls on these routes are "
            "refused (close 1008) until then.",
        )
    allowed = [
        what
        for what, may in (
            ("language", config.may_override_language),
            ("first message", config.may_override_first_message),
        )
        if may
    ]
    if wanted.personalization and not allowed:
        return warning(
            name,
            "neither language nor first message may be overridden, and a personalization webhook is set",
            "If your webhook overrides anything, allow just that in ElevenLabs: the agent's Security tab, Overrides.",
        )
    return ok(name, f"allowed: {', '.join(allowed)}" if allowed else "none needed, none allowed")


def _judge_events(name: str, config: AgentConfig, tools: tuple[str, ...]) -> Finding:
    name += ": client events"
    mend = "Switch on in ElevenLabs, the agent's Advanced tab, Client events: "
    vital = [event for event in VITAL_EVENTS if event not in config.events]
    if vital:
        seen = "; ".join(f"{event} is off: {VITAL_EVENTS[event]}" for event in vital)
        return failed(name, seen, f"{mend}{', '.join(vital)}.")
    useful = {**USEFUL_EVENTS}
    if set(tools) & set(config.client_tools):
        useful[TOOL_EVENT] = "the agent's client tools would never reach the bridge"
    missing = [event for event in useful if event not in config.events]
    if TOOL_EVENT in missing:
        return failed(name, f"{TOOL_EVENT} is off: {useful[TOOL_EVENT]}", f"{mend}{', '.join(missing)}.")
    if missing:
        seen = "; ".join(f"{event} is off: {useful[event]}" for event in missing)
        return warning(name, seen, f"{mend}{', '.join(missing)}.")
    return ok(name, "all that the bridge uses are on")


def _judge_tools(name: str, config: AgentConfig, tools: tuple[str, ...]) -> Finding:
    name += ": tools"
    idle = [tool for tool in config.system_tools if tool in CARRIED_OUT_BY_VENDOR]
    if idle:
        return warning(
            name,
            f"the system tool {listed(idle)} is on, which does nothing over a WebSocket",
            "Switch it off in ElevenLabs and add a client tool of the same name, which the bridge carries out.",
        )
    silent = [tool for tool in tools if tool in config.silent_tools]
    if silent:
        return warning(
            name,
            f"the client tool {listed(silent)} does not wait for its answer",
            "Switch on Wait for response in the tool's settings: the agent would not hear that a transfer failed.",
        )
    present = [tool for tool in tools if tool in config.client_tools]
    absent = [tool for tool in tools if tool not in config.client_tools and tool not in config.system_tools]
    if absent:
        seen = f"client tools there: {listed(present) if present else 'none'}; not there: {listed(absent, most=8)}"
        return ok(name, seen, "Where callers should have them, add them as client tools in ElevenLabs.")
    return ok(name, f"client tools there: {listed(present, most=8) if present else 'none wanted'}")


# --- the check -------------------------------------------------------------------------------------------


async def check_config(tools: Tools, wanted: Wanted, names: tuple[str, ...]) -> list[Finding]:
    """Read the agent's settings, where the key may, and judge them."""
    settings = tools.settings
    name = f"agent {wanted.target.agent_id}: configuration"
    if settings.elevenlabs_api_key is None:
        return [skipped(name, "ELEVENLABS_API_KEY is not set, so it cannot be read")]
    try:
        response = await _get(tools, f"/v1/convai/agents/{wanted.target.agent_id}", wanted.target.branch)
        problem = _refusal(response)
        if problem:
            return [skipped(name, *problem)]
        ids = tool_ids(response.content)
        answers = await asyncio.gather(*(_get(tools, f"/v1/convai/tools/{each}") for each in ids))
        config = read_config(response.content, [each.content for each in answers if each.status_code == 200])
    except httpx.HTTPError as error:
        return [skipped(name, f"it cannot be read: {words_of(error)}")]
    except msgspec.DecodeError:
        return [skipped(name, "it cannot be read: the answer has not the shape that this version knows")]
    return judge_config(wanted, config, names)


def _refusal(response: httpx.Response) -> tuple[str, str] | None:
    """Reason and advice where there is no configuration in the answer."""
    status = response.status_code
    if status in (401, 403):
        return (
            f"the key may not read agents (HTTP {status})",
            "To have it judged, give the key read access to agents in ElevenLabs; calls work without.",
        )
    if status != 200:
        return f"it cannot be read here (HTTP {status})", ""
    if len(response.content) > MAX_BODY_BYTES:
        return "it is larger than this version reads", ""
    return None


async def _get(tools: Tools, path: str, branch: str = "") -> httpx.Response:
    key = tools.settings.elevenlabs_api_key
    assert key is not None, "looked at before"
    return await tools.http.get(
        tools.settings.elevenlabs_base_url + path,
        params={"branch_id": branch} if branch else None,
        headers={"xi-api-key": key.get_secret_value()},
    )
