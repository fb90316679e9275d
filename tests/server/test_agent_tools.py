"""Tool definitions on their way into an agent: what is created, replaced and added, and every way it can fail."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from bridge.calls.tool_definitions import ToolDefinition
from bridge.server.agent_tools import PushFailed, PushOptions, push

KEY = "sk_secret"
OPTIONS = PushOptions("https://api.example.com", KEY)
HOLD = ToolDefinition(name="hold", description="Holds.")
END = ToolDefinition(name="end_call", description="Ends.")


class Vendor:
    """The four requests that the vendor answers, on its own state."""

    def __init__(self) -> None:
        self.tools: dict[str, dict[str, Any]] = {
            "tool_1": {"type": "client", "name": "hold", "description": "old"},
            "tool_2": {"type": "webhook", "name": "end_call"},
        }
        self.agent: Any = {"tool_ids": ["tool_1", "tool_2"], "built_in_tools": {"end_call": {"name": "end_call"}}}
        self.asked: list[str] = []
        self.answers: dict[str, httpx.Response] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["xi-api-key"] == KEY
        what = f"{request.method} {request.url.path}"
        self.asked.append(what)
        if what in self.answers:
            return self.answers[what]
        body = json.loads(request.content) if request.content else None
        if request.url.path == "/v1/convai/agents/agent_1":
            if body is not None:
                self.agent |= body["conversation_config"]["agent"]["prompt"]
            return httpx.Response(200, json={"conversation_config": {"agent": {"prompt": self.agent}}})
        tool_id = request.url.path.removeprefix("/v1/convai/tools").strip("/") or f"tool_{len(self.tools) + 1}"
        if body is not None:
            self.tools[tool_id] = body["tool_config"]
        return httpx.Response(200, json={"id": tool_id, "tool_config": self.tools[tool_id]})

    def push(self, *definitions: ToolDefinition, agent_id: str = "agent_1") -> list[str]:
        said: list[str] = []
        push(definitions, agent_id, OPTIONS, said.append, httpx.MockTransport(self))
        return said


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


def test_a_tool_that_the_agent_has_is_replaced_and_another_created(vendor: Vendor) -> None:
    assert vendor.push(HOLD, END) == [
        "hold: replaced (tool_1)",
        "end_call: created (tool_3)",
        "1 tools added to the agent",
        "end_call: switch the agent's own (system) tool of this name off; it is in the way",
    ]
    assert vendor.tools["tool_1"] == HOLD.document()
    assert vendor.tools["tool_3"] == END.document()
    assert vendor.tools["tool_2"]["type"] == "webhook"
    assert vendor.agent["tool_ids"] == ["tool_1", "tool_2", "tool_3"]


def test_a_second_time_nothing_is_created(vendor: Vendor) -> None:
    vendor.push(HOLD, END)
    state = json.dumps([vendor.tools, vendor.agent])
    vendor.asked.clear()
    assert vendor.push(HOLD, END)[:2] == ["hold: replaced (tool_1)", "end_call: replaced (tool_3)"]
    assert json.dumps([vendor.tools, vendor.agent]) == state
    assert not [what for what in vendor.asked if what.startswith("POST")]


def test_an_agent_without_tools(vendor: Vendor) -> None:
    vendor.agent = {"tool_ids": None, "built_in_tools": None}
    assert vendor.push(HOLD) == ["hold: created (tool_3)", "1 tools added to the agent"]
    assert vendor.agent["tool_ids"] == ["tool_3"]


def test_an_id_stays_inside_its_segment(vendor: Vendor) -> None:
    vendor.answers["GET /v1/convai/agents/../x"] = httpx.Response(404)
    with pytest.raises(PushFailed, match=r"^GET /v1/convai/agents/\.\.%2Fx: HTTP 404; check the agent's id and"):
        vendor.push(HOLD, agent_id="../x")


@pytest.mark.parametrize(
    ("what", "answer", "message"),
    [
        ("GET /v1/convai/agents/agent_1", httpx.Response(401, text=KEY), "HTTP 401; check ELEVENLABS_API_KEY"),
        (
            "POST /v1/convai/tools",
            httpx.Response(403),
            "HTTP 403; the key needs the permission to write agents (ElevenLabs Agents: write)",
        ),
        (
            "POST /v1/convai/tools",
            httpx.Response(422, text='{"detail":\n"name is\x00 wrong"}'),
            'HTTP 422: {"detail": "name is wrong"}',
        ),
        ("PATCH /v1/convai/tools/tool_1", httpx.Response(500), "HTTP 500"),
        ("PATCH /v1/convai/agents/agent_1", httpx.Response(302, headers={"location": "/x"}), "HTTP 302"),
        (
            "GET /v1/convai/tools/tool_1",
            httpx.Response(200, text="<html>"),
            "the answer is no JSON object; check ELEVENLABS_BASE_URL",
        ),
        (
            "GET /v1/convai/tools/tool_1",
            httpx.Response(200, json=[]),
            "the answer is no JSON object; check ELEVENLABS_BASE_URL",
        ),
    ],
)
def test_what_the_vendor_refuses(vendor: Vendor, what: str, answer: httpx.Response, message: str) -> None:
    vendor.answers[what] = answer
    with pytest.raises(PushFailed) as caught:
        vendor.push(HOLD, END)
    assert str(caught.value) == f"{what}: {message}"
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("document", [{}, {"conversation_config": {"agent": {"prompt": None}}}])
def test_an_agent_that_is_none(vendor: Vendor, document: dict[str, Any]) -> None:
    vendor.answers["GET /v1/convai/agents/agent_1"] = httpx.Response(200, json=document)
    with pytest.raises(PushFailed, match=r"^the agent's answer has no conversation_config\.agent\.prompt$"):
        vendor.push(HOLD)


def test_a_tool_that_was_created_without_an_id(vendor: Vendor) -> None:
    vendor.answers["POST /v1/convai/tools"] = httpx.Response(200, json={"id": ""})
    with pytest.raises(PushFailed, match="^end_call: the answer names no id$"):
        vendor.push(END)


def test_an_agent_with_more_tools_than_are_looked_at(vendor: Vendor) -> None:
    vendor.agent["tool_ids"] = [f"tool_{number}" for number in range(201)]
    with pytest.raises(PushFailed, match="^the agent has 201 tools; up to 200 are looked at$"):
        vendor.push(HOLD)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (httpx.ReadTimeout(KEY), "no answer in time"),
        (httpx.ConnectError(KEY), "no connection (ConnectError); check ELEVENLABS_BASE_URL"),
    ],
)
def test_a_vendor_that_does_not_answer(error: Exception, message: str) -> None:
    def broken(_request: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(PushFailed) as caught:
        push([HOLD], "agent_1", OPTIONS, print, httpx.MockTransport(broken))
    assert str(caught.value) == f"GET /v1/convai/agents/agent_1: {message}"


def test_the_key_is_not_shown() -> None:
    assert KEY not in repr(OPTIONS)
