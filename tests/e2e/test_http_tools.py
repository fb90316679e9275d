"""The operator's HTTP tools, from the agent's call to the answer that it gets."""

from __future__ import annotations

import pytest

from bridge.calls.http_tools import HttpParameter, HttpTool, Method
from bridge.calls.routing import RoutingTable
from bridge.config import Configuration
from bridge.simulators.agent_scenarios import CallTools, Scenario, ToolCall
from tests.kit.caller import WireCaller
from tests.kit.server import Start, until
from tests.kit.twilio import STOP
from tests.kit.webhooks import Received, Receiver, Reply, receiver

pytestmark = pytest.mark.e2e


def weather(_request: Received, _number: int) -> Reply:
    return Reply(body=b'{"weather": "sunny"}')


def tools(server: Receiver) -> dict[str, HttpTool]:
    city = HttpParameter("city", "Which city.")
    url = f"http://127.0.0.1:{server.port}/weather/{{city}}"
    headers = {"Authorization": "Bearer secret"}
    tool = HttpTool("weather", "The weather.", url, Method.GET, headers, timeout_s=1.0, parameters=(city,))
    return {"weather": tool}


def asking(**parameters: object) -> Scenario:
    return Scenario(name="asking", steps=(CallTools(calls=(ToolCall(tool_name="weather", parameters=parameters),)),))


@pytest.mark.parametrize(
    ("allow", "parameters", "is_error", "words", "requests"),
    [
        ("127.0.0.0/8", {"city": "Ulm"}, False, '{"weather": "sunny"}', ["/weather/Ulm"]),
        ("127.0.0.0/8", {"city": "../admin"}, False, '{"weather": "sunny"}', ["/weather/..%2Fadmin"]),
        ("127.0.0.0/8", {}, True, "city", []),
        ("", {"city": "Ulm"}, True, "", []),
    ],
    ids=["answered", "quoted", "incomplete", "not allowed"],
)
async def test_an_http_tool(
    start: Start, allow: str, parameters: dict[str, object], is_error: bool, words: str, requests: list[str]
) -> None:
    async with receiver(weather) as server:
        at = await start(asking(**parameters), EGRESS_ALLOW=allow)
        at.bridge.apply(Configuration(at.settings, RoutingTable(), tools(server)))
        async with WireCaller(at) as caller:
            await caller.dial_in()
            await until(lambda: at.agent.conversations and at.agent.conversations[0].tool_results, "no answer")
            await caller.send(STOP)
            await caller.closed()
        assert await at.ended() == ["success/caller_hangup"]
        [outcome] = at.agent.conversations[0].tool_results
        assert outcome.is_error is is_error
        assert words in outcome.result
        assert [request.path for request in server.received] == requests
        assert all(request.headers["authorization"] == "Bearer secret" for request in server.received)
        assert "secret" not in str(at.lines)
        [record] = await at.records()
        assert [tool.name for tool in record.journal.tools] == ["weather"]
