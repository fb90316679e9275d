"""Agents' own settings: what is read of them, and what the bridge needs of them."""

from __future__ import annotations

import json
from typing import Any

import httpx
import msgspec
import pytest
from elevenlabs.types import GetAgentResponseModel

from bridge.doctor.agent import Wanted
from bridge.doctor.agent_config import AgentConfig, check_config, judge_config, read_config, tool_ids
from bridge.server.convai_client import AgentTarget
from tests.kit.doctor import told, tools_for

ALL_EVENTS = [
    "audio", "interruption", "user_transcript", "agent_response", "agent_response_correction",
    "agent_tool_response", "client_tool_call", "ping", "conversation_initiation_metadata",
]  # fmt: skip
TOOLS = ("transfer_to_number", "end_call")
WANTED = Wanted(AgentTarget("agent_1"))
KEY = "sk_0123456789"
CLIENT_TOOL = {"type": "client", "name": "transfer_to_number", "description": "", "expects_response": True}


def document(
    *,
    events: list[str] | None = ALL_EVENTS,
    tools: list[dict[str, Any]] | None = None,
    ids: list[str] | None = None,
    built_in: dict[str, Any] | None = None,
    overrides: dict[str, Any] | None = None,
    **conversation: Any,
) -> dict[str, Any]:
    """The body of "Get agent", in the vendor's shape."""
    prompt: dict[str, Any] = {"prompt": "Be kind.", "tool_ids": ids or [], "built_in_tools": built_in or {}}
    if tools is not None:
        prompt["tools"] = tools
    return {
        "agent_id": "agent_1",
        "name": "Test",
        "metadata": {"created_at_unix_secs": 1, "updated_at_unix_secs": 1},
        "conversation_config": {
            "agent": {"language": "en", "first_message": "Hello", "prompt": prompt},
            "conversation": {"client_events": events, **conversation},
        },
        "platform_settings": {"overrides": {"conversation_config_override": {"agent": overrides or {}}}},
    }


def config_of(body: dict[str, Any]) -> AgentConfig:
    return read_config(json.dumps(body).encode())


def judged(
    config: AgentConfig, wanted: Wanted = WANTED, tools: tuple[str, ...] = TOOLS
) -> dict[str, tuple[str, str, str]]:
    """Findings by what they are about."""
    return {finding.name.partition(": ")[2]: told(finding) for finding in judge_config(wanted, config, tools)}


# --- read --------------------------------------------------------------------------------------------------


def test_the_vendors_shape_is_read() -> None:
    body = document(
        tools=[CLIENT_TOOL, {"type": "client", "name": "hold", "description": "", "expects_response": False},
               {"type": "system", "name": "end_call", "description": "", "params": {"system_tool_type": "end_call"}}],
        built_in={"play_keypad_touch_tone": {"name": "play_keypad_touch_tone",
                                             "params": {"system_tool_type": "play_keypad_touch_tone"}},
                  "skip_turn": None},
        overrides={"language": True, "first_message": False, "prompt": {"prompt": False}},
    )  # fmt: skip
    GetAgentResponseModel.model_validate(body)  # the vendor's own client takes it, too
    assert config_of(body) == AgentConfig(
        language="en",
        events=frozenset(ALL_EVENTS),
        may_override_language=True,
        client_tools=("transfer_to_number", "hold"),
        silent_tools=("hold",),
        system_tools=("play_keypad_touch_tone", "end_call"),
    )


def test_what_is_left_out_stands_for_the_vendors_defaults() -> None:
    config = config_of({"conversation_config": {}})
    assert config == AgentConfig()
    assert "interruption" in config.events and "client_tool_call" not in config.events


def test_tools_that_are_only_named_are_looked_up() -> None:
    assert tool_ids(json.dumps(document(ids=["t1", "t2", "t1"])).encode()) == ("t1", "t2")
    assert tool_ids(json.dumps(document(ids=["t1"], tools=[CLIENT_TOOL])).encode()) == ()
    looked_up = json.dumps({"id": "t1", "tool_config": CLIENT_TOOL}).encode()
    assert read_config(json.dumps(document(ids=["t1"])).encode(), [looked_up]).client_tools == ("transfer_to_number",)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"conversation_config": 1}', b"\xff"])
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeError)):
        read_config(body)


# --- judge -------------------------------------------------------------------------------------------------


def test_all_is_well() -> None:
    assert judged(config_of(document(tools=[CLIENT_TOOL, {**CLIENT_TOOL, "name": "end_call"}]))) == {
        "configuration": ("ok", "could be read, speaks en unless told otherwise", ""),
        "overrides": ("ok", "none needed, none allowed", ""),
        "client events": ("ok", "all that the bridge uses are on", ""),
        "tools": ("ok", "client tools there: transfer_to_number, end_call", ""),
    }


def test_an_agent_without_sound() -> None:
    assert judged(config_of(document(text_only=True)))["configuration"] == (
        "failed", "the agent is text only", "Switch text-only off in the agent's settings in ElevenLabs.",
    )  # fmt: skip


def test_an_archived_agent() -> None:
    assert judged(AgentConfig(archived=True))["configuration"] == (
        "failed", "the agent is archived", "Take it out of the archive in ElevenLabs, or name another agent.",
    )  # fmt: skip


def test_a_route_whose_language_may_not_be_overridden() -> None:
    wanted = Wanted(AgentTarget("agent_1"), ("de", "en"))
    assert judged(config_of(document()), wanted)["overrides"] == (
        "failed",
        "routes begin in de, but the agent does not allow the override of its language",
        "Allow it in ElevenLabs: the agent's Security tab, Overrides, Agent language. Calls on these routes are "
        "refused (close 1008) until then.",
    )
    allowed = config_of(document(overrides={"language": True, "first_message": True}))
    assert judged(allowed, wanted)["overrides"] == ("ok", "allowed: language, first message", "")


def test_a_personalization_webhook_that_may_override_nothing() -> None:
    wanted = Wanted(AgentTarget("agent_1"), personalization=True)
    assert judged(config_of(document()), wanted)["overrides"] == (
        "warning",
        "neither language nor first message may be overridden, and a personalization webhook is set",
        "If your webhook overrides anything, allow just that in ElevenLabs: the agent's Security tab, Overrides.",
    )


def without(*names: str) -> list[str]:
    return [event for event in ALL_EVENTS if event not in names]


def test_events_without_which_no_call_works() -> None:
    assert judged(config_of(document(events=without("interruption"))))["client events"] == (
        "failed",
        "interruption is off: the agent would talk on while the caller speaks",
        "Switch on in ElevenLabs, the agent's Advanced tab, Client events: interruption.",
    )


def test_events_that_are_missed() -> None:
    events = without("user_transcript", "agent_tool_response", "client_tool_call")
    assert judged(config_of(document(events=events)))["client events"] == (
        "warning",
        "user_transcript is off: what callers say would be missing from records; agent_tool_response is off: the "
        "end of a call would not be known before the line closes",
        "Switch on in ElevenLabs, the agent's Advanced tab, Client events: user_transcript, agent_tool_response.",
    )


def test_tools_without_their_event() -> None:
    config = config_of(document(events=without("client_tool_call"), tools=[CLIENT_TOOL]))
    assert judged(config)["client events"] == (
        "failed",
        "client_tool_call is off: the agent's client tools would never reach the bridge",
        "Switch on in ElevenLabs, the agent's Advanced tab, Client events: client_tool_call.",
    )


def test_a_system_tool_that_does_nothing_here() -> None:
    config = config_of(document(built_in={"transfer_to_number": {"name": "transfer_to_number"}}))
    assert judged(config)["tools"] == (
        "warning",
        "the system tool transfer_to_number is on, which does nothing over a WebSocket",
        "Switch it off in ElevenLabs and add a client tool of the same name, which the bridge carries out.",
    )


def test_a_client_tool_that_does_not_wait() -> None:
    config = config_of(document(tools=[{**CLIENT_TOOL, "expects_response": False}]))
    assert judged(config)["tools"] == (
        "warning",
        "the client tool transfer_to_number does not wait for its answer",
        "Switch on Wait for response in the tool's settings: the agent would not hear that a transfer failed.",
    )


def test_tools_that_are_not_there() -> None:
    assert judged(config_of(document()))["tools"] == (
        "ok",
        "client tools there: none; not there: transfer_to_number, end_call",
        "Where callers should have them, add them as client tools in ElevenLabs.",
    )
    # The vendor's own end_call works over a WebSocket, so nothing is missing.
    own = config_of(document(tools=[CLIENT_TOOL], built_in={"end_call": {"name": "end_call"}}))
    assert judged(own)["tools"] == ("ok", "client tools there: transfer_to_number", "")
    assert judged(own, tools=())["tools"] == ("ok", "client tools there: none wanted", "")


# --- the check ---------------------------------------------------------------------------------------------


async def test_the_key_is_shown_and_the_branch_named() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if "/tools/" in request.url.path:
            return httpx.Response(200, json={"id": "t1", "tool_config": CLIENT_TOOL})
        return httpx.Response(200, json=document(ids=["t1"]))

    async with tools_for(answer, ELEVENLABS_API_KEY=KEY) as tools:
        found = await check_config(tools, Wanted(AgentTarget("agent_1", branch="b1")), TOOLS)
    assert [str(request.url) for request in asked] == [
        "https://api.elevenlabs.io/v1/convai/agents/agent_1?branch_id=b1",
        "https://api.elevenlabs.io/v1/convai/tools/t1",
    ]
    assert {request.headers["xi-api-key"] for request in asked} == {KEY}
    assert found[-1].seen == "client tools there: transfer_to_number; not there: end_call"


@pytest.mark.parametrize(
    ("response", "seen", "advice"),
    [
        (
            httpx.Response(401), "the key may not read agents (HTTP 401)",
            "To have it judged, give the key read access to agents in ElevenLabs; calls work without.",
        ),
        (httpx.Response(404), "it cannot be read here (HTTP 404)", ""),
        (httpx.Response(200, content=b" " * (4 * 1024 * 1024 + 1)), "it is larger than this version reads", ""),
        (
            httpx.Response(200, content=b"<html>"),
            "it cannot be read: the answer has not the shape that this version knows", "",
        ),
    ],
)  # fmt: skip
async def test_what_cannot_be_read_is_not_judged(response: httpx.Response, seen: str, advice: str) -> None:
    async with tools_for(lambda _: response, ELEVENLABS_API_KEY=KEY) as tools:
        (finding,) = await check_config(tools, WANTED, TOOLS)
    assert finding.name == "agent agent_1: configuration"
    assert told(finding) == ("skipped", seen, advice)


async def test_without_key_or_network() -> None:
    def gone(_request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("x")

    async with tools_for(gone) as tools:
        (keyless,) = await check_config(tools, WANTED, TOOLS)
    async with tools_for(gone, ELEVENLABS_API_KEY=KEY) as tools:
        (silent,) = await check_config(tools, WANTED, TOOLS)
    assert told(keyless) == ("skipped", "ELEVENLABS_API_KEY is not set, so it cannot be read", "")
    assert told(silent) == ("skipped", "it cannot be read: no answer in time", "")
