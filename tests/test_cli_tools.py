"""``bridge tools export``: what it prints, what it pushes, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import ClassVar

import pytest
from typer.testing import CliRunner, Result

from bridge.calls.http_tools import HttpTool
from bridge.calls.tool_definitions import ExportOptions
from bridge.calls.tools import HOLD, STANDARD_TOOLS
from bridge.cli_tools import ToolsSetup, tools_app

KEY = "sk_secret"
SETUP = ToolsSetup(
    ExportOptions(names={HOLD: "wait"}, http_tools={"order": HttpTool("order", "Looks up.", "https://a.example/")}),
    api_key=KEY,
    agent_id="agent_1",
)
NAMES = [*("wait" if name == HOLD else name for name in STANDARD_TOOLS), "order"]


def run(*arguments: str, setup: ToolsSetup = SETUP) -> Result:
    return CliRunner().invoke(tools_app(lambda: setup), ["export", *arguments])


def test_all_tools_as_one_list() -> None:
    shown = run()
    assert shown.exit_code == 0
    assert [each["name"] for each in json.loads(shown.stdout)] == NAMES
    assert shown.stdout.startswith('[\n  {\n    "name": "transfer_to_number",\n')
    assert shown.stderr == ""


def test_one_tool_as_an_object_to_paste() -> None:
    shown = json.loads(run("--tool", "wait").stdout)
    assert (shown["type"], shown["name"], shown["expects_response"]) == ("client", "wait", True)


def test_a_tool_that_there_is_not() -> None:
    shown = run("--tool", "hold")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert shown.stderr == f"there is no tool 'hold'; there are {', '.join(NAMES)}\n"


def test_what_a_carrier_can_do() -> None:
    shown = json.loads(run("--carrier", "Vonage").stdout)
    transfer = next(each for each in shown if each["name"] == "transfer_to_number")
    assert transfer["parameters"]["properties"]["transfer_type"]["enum"] == ["conference", "blind"]
    assert "play_keypad_touch_tone" in {each["name"] for each in shown}


def test_a_carrier_that_there_is_not() -> None:
    shown = run("--carrier", "pigeon")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert shown.stderr.startswith("there is no carrier 'pigeon'; there are genesys, sip, twilio")


class Vendor(BaseHTTPRequestHandler):
    """Says yes to everything, about an agent without tools."""

    asked: ClassVar[list[str]] = []

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.asked.append(f"{self.command} {self.path}")
        body = b'{"id": "tool_1", "conversation_config": {"agent": {"prompt": {}}}}'
        if "missing" in self.path:
            self.send_response(404)
            body = b""
        else:
            self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = _answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def base_url() -> Iterator[str]:
    Vendor.asked.clear()
    with HTTPServer(("127.0.0.1", 0), Vendor) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_tools_are_pushed(base_url: str) -> None:
    shown = run("--push", "--tool", "wait", setup=ToolsSetup(SETUP.export, base_url, KEY, "agent_1"))
    assert shown.exit_code == 0
    assert shown.stdout == "wait: created (tool_1)\n1 tools added to the agent\n"
    assert Vendor.asked == [
        "GET /v1/convai/agents/agent_1",
        "POST /v1/convai/tools",
        "PATCH /v1/convai/agents/agent_1",
    ]


def test_what_the_vendor_refuses_is_told(base_url: str) -> None:
    setup = ToolsSetup(SETUP.export, base_url, KEY, "agent_1")
    shown = run("--push", "--agent", "missing", setup=setup)
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert shown.stderr == ("GET /v1/convai/agents/missing: HTTP 404; check the agent's id and ELEVENLABS_BASE_URL\n")


@pytest.mark.parametrize(
    ("setup", "message"),
    [
        (ToolsSetup(ExportOptions()), "set ELEVENLABS_API_KEY to a key that may write agents\n"),
        (ToolsSetup(ExportOptions(), api_key=KEY), "give --agent, or set ELEVENLABS_AGENT_ID\n"),
    ],
)
def test_what_pushing_needs(setup: ToolsSetup, message: str) -> None:
    shown = run("--push", setup=setup)
    assert (shown.exit_code, shown.stderr) == (2, message)


def test_the_key_is_not_shown() -> None:
    assert KEY not in repr(SETUP)
