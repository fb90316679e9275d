"""Agents: which there are, and conversations with simulated ones."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.server import ServerConnection, serve

from bridge import outcome
from bridge.calls.routing import RoutingTable
from bridge.calls.rules import Route, Rules
from bridge.doctor.agent import (
    Talked,
    Wanted,
    agents_of,
    check_agent,
    check_formats,
    judge_agent,
    left_out,
    no_agent,
)
from bridge.doctor.tools import DoctorOptions, Tools
from bridge.outcome import EndReason
from bridge.server.convai_client import AgentTarget
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_server import AgentServer
from tests.kit.doctor import told, tools_for
from tests.kit.server import free_port, settings_for

KEY = "sk_0123456789"
WANTED = Wanted(AgentTarget("agent_1"))


@contextlib.asynccontextmanager
async def agent(
    options: AgentOptions | None = None, doctor: DoctorOptions | None = None, **settings: str
) -> AsyncIterator[tuple[Tools, AgentServer]]:
    """A simulated agent, and tools that know where it is."""
    async with (
        AgentServer(options or AgentOptions()) as server,
        tools_for(None, settings, options=doctor, ELEVENLABS_BASE_URL=server.base_url) as tools,
    ):
        yield tools, server


# --- which agents ------------------------------------------------------------------------------------------


def test_agents_come_from_settings_routes_and_rules() -> None:
    settings = settings_for({"ELEVENLABS_AGENT_ID": "agent_1", "ELEVENLABS_BRANCH_ID": "main"})
    routing = RoutingTable(
        (
            Route(number="+49301*", agent="agent_2", language="de", environment="staging"),
            Route(number="+33*", language="fr"),
        ),
        {"agent_3": Rules(branch="b3", language="es")},
    )
    assert agents_of(settings, routing) == (
        Wanted(AgentTarget("agent_1", branch="main"), ("fr",)),
        Wanted(AgentTarget("agent_2", "staging"), ("de",)),
        Wanted(AgentTarget("agent_3", branch="b3"), ("es",)),
    )
    assert agents_of(settings_for({}), RoutingTable()) == ()


async def test_without_an_agent() -> None:
    assert told(await no_agent()) == (
        "failed",
        "no agent is named",
        "Set ELEVENLABS_AGENT_ID, or name agents in routes: calls have nobody to talk to.",
    )
    assert told(await left_out(3)) == ("skipped", "3 more agents are named; only the first 5 are looked at", "")


# --- conversations -----------------------------------------------------------------------------------------


async def test_a_conversation_is_begun_and_closed_at_once() -> None:
    async with agent(AgentOptions(api_key=KEY), ELEVENLABS_API_KEY=KEY) as (tools, server):
        finding = await check_agent(tools, WANTED)
        log = await server.wait_ended()
    assert finding.verdict.value == "ok"
    assert finding.seen.endswith("ms after the first request, closed again at once")
    assert (log.agent_id, log.closed_by, log.close_code, log.violations) == ("agent_1", "client", 1000, [])


async def test_formats_need_no_second_conversation() -> None:
    options = AgentOptions(input_format="pcm_16000", output_format="ulaw_8000")
    async with agent(options, GENESYS_API_KEY="k") as (tools, server):
        await check_agent(tools, WANTED)
        (finding,) = await check_formats(tools, WANTED)
        assert len(server.conversations) == 1
    assert told(finding) == (
        "ok",
        "pcm_16000 to the agent is converted",
        "It works; for the least delay and CPU set both of the agent's formats to ulaw_8000.",
    )


async def test_no_conversation_where_none_is_wanted() -> None:
    async with agent(doctor=DoctorOptions(conversation=False)) as (tools, server):
        found = [await check_agent(tools, WANTED), *await check_formats(tools, WANTED)]
        assert server.conversations == []
    assert [told(finding) for finding in found] == [("skipped", "--no-conversation was given", "")] * 2


async def test_a_wrong_key() -> None:
    async with agent(AgentOptions(api_key=KEY), ELEVENLABS_API_KEY="sk_wrong_wrong") as (tools, _):
        finding = await check_agent(tools, WANTED)
        (formats,) = await check_formats(tools, WANTED)
    assert finding.verdict.value == "failed"
    assert finding.seen.startswith("no conversation: agent_unauthorized (signed URL: HTTP 401")
    assert finding.advice == (
        "Check ELEVENLABS_API_KEY: copied whole, of this workspace and region, and with the permission for "
        "conversational agents. Without a key the agent must be public."
    )
    assert told(formats) == ("skipped", "the conversation did not begin, so they are not known", "")


async def test_an_agent_that_is_not_there() -> None:
    async with agent() as (tools, _):
        finding = await check_agent(tools, Wanted(AgentTarget("sim_nowhere")))
    assert finding.seen.startswith("no conversation: agent_not_found (handshake: HTTP 404")
    assert finding.advice == (
        "Check the agent's id in ELEVENLABS_AGENT_ID or its route, and that ELEVENLABS_BASE_URL is of its region."
    )


async def test_nobody_at_the_address() -> None:
    async with tools_for(ELEVENLABS_BASE_URL=f"http://127.0.0.1:{free_port()}") as tools:
        finding = await check_agent(tools, WANTED)
    assert finding.verdict.value == "failed"
    assert finding.seen.startswith("no conversation: agent_unreachable")
    assert finding.advice == "Check ELEVENLABS_BASE_URL, DNS, the firewall (port 443 outwards) and TLS."


@pytest.mark.parametrize(
    ("scenario", "reason"),
    [
        ("unknown_format", outcome.AGENT_FORMAT),
        ("garbage_first", outcome.AGENT_GARBAGE),
        ("refuse_429", outcome.AGENT_QUOTA),
        ("mute", outcome.AGENT_NOT_READY),
    ],
)
async def test_an_agent_with_which_no_conversation_begins(scenario: str, reason: EndReason) -> None:
    async with agent(AGENT_READY_TIMEOUT_S="0.3") as (tools, _):
        finding = await check_agent(tools, Wanted(AgentTarget(f"sim_{scenario}")))
    assert finding.verdict.value == "failed"
    assert finding.seen.startswith(f"no conversation: {reason.reason}")


async def test_an_agent_that_lacks_a_variable() -> None:
    async def refuse(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.close(1008, "missing_dynamic_variable: plan")

    async with serve(refuse, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with tools_for(ELEVENLABS_BASE_URL=f"http://127.0.0.1:{port}") as tools:
            finding = await check_agent(tools, WANTED)
    assert told(finding) == (
        "failed",
        "no conversation: agent_config (close 1008: missing_dynamic_variable: plan)",
        "Give the agent's variables defaults, or let your personalization webhook set them: calls end like this "
        "without.",
    )


# --- verdicts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        (
            outcome.AGENT_QUOTA,
            "The plan has no conversation left: wait for one to end, or raise the plan; then set "
            "WORKSPACE_CONCURRENCY to it.",
        ),
        (
            outcome.AGENT_GARBAGE,
            "Check ELEVENLABS_BASE_URL: what answers there is no ElevenLabs interface.",
        ),
        (
            outcome.AGENT_FORMAT,
            "Set the agent's input and output format to ulaw_8000 (mu-law 8000 Hz) in ElevenLabs.",
        ),
        (outcome.AGENT_NOT_READY, "Look at the agent in ElevenLabs: does it answer in the test there?"),
        (
            outcome.AGENT_CRASHED,
            "Look at the agent's words above, and at the agent in ElevenLabs: does it answer in the test there?",
        ),
        (
            outcome.AGENT_CONFIG,
            "Give the agent's variables defaults, or let your personalization webhook set them: calls end like this "
            "without.",
        ),
    ],
)
def test_each_failure_has_its_advice(reason: EndReason, advice: str) -> None:
    finding = judge_agent(WANTED, Talked(problem=reason, detail="its words"))
    assert told(finding) == ("failed", f"no conversation: {reason.reason} (its words)", advice)


def test_missing_variables_may_come_from_the_personalization_webhook() -> None:
    wanted = Wanted(AgentTarget("agent_1"), personalization=True)
    assert told(judge_agent(wanted, Talked(problem=outcome.AGENT_CONFIG))) == (
        "warning",
        "no conversation: agent_config",
        "Place a test call: the doctor does not ask your personalization webhook, which may give what is missing here.",
    )
