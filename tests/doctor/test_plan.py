"""The whole examination: what is looked at, and a bridge and an agent that are well."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bridge.calls.http_tools import HttpTool
from bridge.calls.routing import RoutingTable
from bridge.calls.rules import Rules
from bridge.config import Configuration
from bridge.doctor.findings import Verdict, exit_code
from bridge.doctor.plan import checks_of, examine, judge_settings, wanted_tools
from bridge.doctor.report import to_json
from bridge.doctor.tools import DoctorOptions
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_server import AgentServer
from bridge.sip.trunks import Inbound, Trunk, parse_network
from tests.kit.doctor import told, tools_for
from tests.kit.server import free_port, settings_for
from tests.kit.sip import free_signalling_port

TOKEN = "12345678901234567890123456789012"
WORD = "a-word-of-a-trunk"


def quiet(_line: str) -> None:
    """Progress that nobody looks at."""


async def test_everything_is_looked_at() -> None:
    async with tools_for(ELEVENLABS_AGENT_ID="agent_1") as tools:
        names = [check.name for check in checks_of(tools, True)]
    assert names == [
        "agent agent_1", "agent agent_1: formats", "agent agent_1: configuration", "clock: agent's host",
        "PUBLIC_URL", "INSTANCE_URL",
        "PUBLIC_URL: TLS", "Twilio: signature", "Genesys: probe", "Vonage: signature", "Twilio: account",
        "Vonage: credentials", "SIP", "database", "Redis", "several processes", "DATA_DIR", "recordings: folder",
        "webhooks", "personalization", "open files", "libraries",
    ]  # fmt: skip


async def test_sip_is_looked_at_where_it_is_on() -> None:
    given = {"SIP_UDP_PORT": "5060", "SIP_OUTBOUND_ADDRESS": "sip.example.com"}
    async with tools_for(None, given, ELEVENLABS_AGENT_ID="agent_1") as tools:
        names = [check.name for check in checks_of(tools, True)]
    first = names.index("Vonage: credentials") + 1
    assert names[first : first + 6] == [
        "SIP: trunks", "SIP: address", "SIP: UDP port", "SIP: RTP ports", "SIP: certificate", "SIP trunk default",
    ]  # fmt: skip
    assert names[first + 6] == "database"


async def test_agents_beyond_the_first_few_are_named_as_left_out() -> None:
    routing = RoutingTable((), {f"agent_{number}": Rules() for number in range(7)})
    async with tools_for(routing=routing) as tools:
        checks = checks_of(tools, True)
        left = next(check for check in checks if check.name == "agent")
        assert (sum(check.name.startswith("agent agent_") for check in checks), await left.look()) == (
            15,
            left_out := await left.look(),
        )
    assert "2 more agents are named" in str(left_out)


async def test_without_an_agent_that_is_said() -> None:
    async with tools_for() as tools:
        assert checks_of(tools, True)[0].name == "agent"


def test_settings_that_are_hardly_meant() -> None:
    given = {"BRIDGE_API_KEY": "k" * 32, "TWILIO_AUTH_TOKEN": TOKEN, "WEBHOOK_URL": "https://hooks.example.com"}
    (caution,) = judge_settings(settings_for(given))
    assert told(caution) == (
        "warning",
        "webhooks go out unsigned, and whoever receives them cannot trust them",
        "Set WEBHOOK_SECRET.",
    )
    (fine,) = judge_settings(settings_for({"BRIDGE_API_KEY": "k" * 32, "TWILIO_AUTH_TOKEN": TOKEN}))
    assert told(fine) == ("ok", "all of them can be read, and fit together", "")
    off = judge_settings(settings_for({"BRIDGE_AUTH": "off"}))[-1]
    assert told(off) == (
        "warning",
        "BRIDGE_AUTH is off: everybody on this machine is let in",
        "Set BRIDGE_AUTH to on before real calls.",
    )


async def test_tools_go_by_the_agents_names() -> None:
    given = {"TOOL_NAMES": json.dumps({"transfer_to_number": "connect_caller", "end_call": ""})}
    async with tools_for(None, given) as tools:
        tools.http_tools = {"look_up": HttpTool("look_up", "Looks up.", "https://api.example.com/{id}")}
        assert wanted_tools(tools) == (
            "connect_caller", "play_keypad_touch_tone", "voicemail_detection", "hold", "resume", "look_up",
        )  # fmt: skip
        assert [check.name for check in checks_of(tools, True)][-3:] == ["tool look_up", "open files", "libraries"]


@pytest.mark.parametrize("conversation", [True, False])
async def test_a_bridge_and_an_agent_that_are_well(conversation: bool, tmp_path: Path) -> None:
    key, port = "sk_0123456789", free_port()
    async with AgentServer(AgentOptions(api_key=key)) as agent:
        given = {
            "ELEVENLABS_BASE_URL": agent.base_url, "ELEVENLABS_API_KEY": key, "ELEVENLABS_AGENT_ID": "agent_1",
            "BRIDGE_PORT": str(port), "DATA_DIR": str(tmp_path), "TWILIO_AUTH_TOKEN": TOKEN,
            "GENESYS_API_KEY": "genesys-key", "PUBLIC_URL": f"http://127.0.0.1:{port}",
            "SIP_UDP_PORT": str(free_signalling_port()),
        }  # fmt: skip
        office = Trunk("office", Inbound((parse_network("127.0.0.1"),), username="office", passwords=(WORD,)))
        configuration = Configuration(settings_for(given), trunks=(office,))
        findings = await examine(configuration, DoctorOptions(conversation=conversation), quiet)
        assert len(agent.conversations) == conversation
    by_name = {finding.name: finding for finding in findings}
    assert [name for name, finding in by_name.items() if finding.verdict is Verdict.FAILED] == ["PUBLIC_URL: TLS"]
    for name in (
        "PUBLIC_URL",
        "PUBLIC_URL: proxy",
        "Twilio: signature",
        "Twilio: media socket",
        "Genesys: probe",
        "SIP: trunks",
    ):
        assert by_name[name].verdict is Verdict.OK, by_name[name]
    assert by_name["agent agent_1"].verdict is (Verdict.OK if conversation else Verdict.SKIPPED)
    assert exit_code(findings) == 1
    shown = to_json(findings)
    assert not [secret for secret in (key, TOKEN, WORD, "genesys-key") if secret in shown]
    assert os.listdir(tmp_path) == []
