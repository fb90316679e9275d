"""What the doctor looks at, in which order it is shown, and how long each may take."""

from __future__ import annotations

import ssl
from functools import partial

from bridge.calls.tools import STANDARD_TOOLS
from bridge.config import Configuration, Settings
from bridge.doctor import agent, agent_config, carriers, clocks, machine, public, signatures, stores
from bridge.doctor.findings import Finding, ok, warning
from bridge.doctor.runner import Check, Say, run_checks
from bridge.doctor.sip import sip_checks
from bridge.doctor.standin import present_bridge
from bridge.doctor.tools import DoctorOptions, Tools, new_http, secrets_of, secrets_of_trunks
from bridge.server.problems import problems_of

SETTINGS_NAME = "settings"
_ELSEWHERE = ("Set ELEVENLABS_AGENT_ID", "Set PUBLIC_URL")
"""Beginnings of problems of the settings that have checks of their own."""

AGENT_MEND = "Check the network to ELEVENLABS_BASE_URL, and whether the agent answers in the test in ElevenLabs."
PUBLIC_MEND = "Check DNS, proxy and firewall of PUBLIC_URL: requests get no answer."
BUCKET_TIMEOUT_S = 30.0
"""The bucket's client has patience of its own."""


async def examine(configuration: Configuration, options: DoctorOptions, say: Say) -> list[Finding]:
    """Look at everything; the findings in the order in which they are shown."""
    tls = ssl.create_default_context()
    async with new_http(tls) as http:
        tools = Tools(
            configuration.settings,
            configuration.routing,
            http,
            tls,
            options,
            configuration.tools,
            configuration.trunks,
        )
        try:
            return await examine_with(tools, say)
        finally:
            await tools.close()


async def examine_with(tools: Tools, say: Say) -> list[Finding]:
    """The same with tools of the caller's."""
    async with present_bridge(tools) as (here, is_here):
        hidden = (*secrets_of(tools.settings), *secrets_of_trunks(tools.trunks))
        findings = await run_checks(checks_of(tools, is_here), say, secrets=hidden)
    return [*judge_settings(tools.settings), here, *findings]


def judge_settings(settings: Settings) -> list[Finding]:
    """They load, or nobody would be asked; what works but is hardly meant is a warning each."""
    cautions = [
        warning(SETTINGS_NAME, *_split(problem))
        for problem in problems_of(settings)
        if not problem.startswith(_ELSEWHERE)
    ]
    if settings.bridge_auth == "off":
        mend = "Set BRIDGE_AUTH to on before real calls."
        cautions.append(warning(SETTINGS_NAME, "BRIDGE_AUTH is off: everybody on this machine is let in", mend))
    return cautions or [ok(SETTINGS_NAME, "all of them can be read, and fit together")]


def _split(caution: str) -> tuple[str, str]:
    """A caution is written as mend, colon, reason."""
    mend, _, reason = caution.partition(": ")
    return reason.rstrip("."), f"{mend}."


def wanted_tools(tools: Tools) -> tuple[str, ...]:
    """The client tools that the bridge carries out, by the agent's names for them; an empty name switches one off."""
    names = tools.settings.tool_name_map
    return (*(name for standard in STANDARD_TOOLS if (name := names.get(standard, standard))), *tools.http_tools)


def checks_of(tools: Tools, is_here: bool) -> list[Check]:
    """All checks for this configuration; ``is_here``: there is a bridge on this machine to ask."""
    settings = tools.settings
    records = stores.records_audio(settings, tools.routing)
    return [
        *_agent_checks(tools),
        Check(clocks.AGENT_CLOCK, lambda: clocks.check_agent_clock(tools)),
        Check(public.NAME, lambda: public.check_public(tools, is_here), 15.0, PUBLIC_MEND),
        Check(public.INSTANCE_NAME, lambda: public.check_instance(tools, is_here), 15.0, PUBLIC_MEND),
        Check(public.TLS_NAME, lambda: public.check_public_tls(tools), 15.0, PUBLIC_MEND),
        Check(signatures.TWILIO_NAME, lambda: signatures.check_signatures_twilio(tools, is_here), 20.0, PUBLIC_MEND),
        Check(signatures.GENESYS_NAME, lambda: signatures.check_signatures_genesys(tools, is_here), 20.0, PUBLIC_MEND),
        Check(signatures.VONAGE_NAME, lambda: signatures.check_signatures_vonage(tools, is_here), 15.0, PUBLIC_MEND),
        Check(carriers.ACCOUNT_NAME, lambda: carriers.check_twilio(tools), 20.0),
        Check(carriers.VONAGE_NAME, lambda: carriers.check_vonage_credentials(tools)),
        *sip_checks(tools),
        Check(stores.DATABASE_NAME, lambda: stores.check_database(tools)),
        Check(stores.REDIS_NAME, lambda: stores.check_redis(tools)),
        Check(machine.CLUSTER_NAME, lambda: machine.check_cluster(tools)),
        Check(stores.DISK_NAME, lambda: stores.check_disk(tools), on_timeout="The disk hangs: look at it."),
        Check(stores.RECORDINGS_NAME, lambda: stores.check_recordings(tools), BUCKET_TIMEOUT_S),
        *_target_checks(tools),
        Check(machine.FILES_NAME, lambda: machine.check_files(tools, records=records)),
        Check(machine.LIBRARIES_NAME, lambda: machine.check_libraries(tools, records=records)),
    ]


def _agent_checks(tools: Tools) -> list[Check]:
    settings = tools.settings
    found = agent.agents_of(settings, tools.routing)
    if not found:
        return [Check("agent", agent.no_agent)]
    patience_s = settings.agent_connect_timeout_s + settings.agent_ready_timeout_s + 5.0
    names = wanted_tools(tools)
    checks = []
    for wanted in found[: agent.MAX_AGENTS]:
        name = f"agent {wanted.target.agent_id}"
        checks += [
            Check(name, partial(agent.check_agent, tools, wanted), patience_s, AGENT_MEND),
            Check(f"{name}: formats", partial(agent.check_formats, tools, wanted), patience_s, AGENT_MEND),
            Check(f"{name}: configuration", partial(agent_config.check_config, tools, wanted, names), 15.0, AGENT_MEND),
        ]
    left_out = len(found) - agent.MAX_AGENTS
    if left_out > 0:
        checks.append(Check("agent", partial(agent.left_out, left_out)))
    return checks


def _target_checks(tools: Tools) -> list[Check]:
    settings = tools.settings
    targets: list[tuple[str, str, str | None]] = [
        ("webhooks", "WEBHOOK_URL", settings.webhook_url),
        ("personalization", "PERSONALIZATION_URL", settings.personalization_url),
        *((f"tool {name}", f"the tool {name}", tool.url) for name, tool in tools.http_tools.items()),
    ]
    return [
        Check(name, partial(machine.check_target, tools, name, setting, url), 20.0) for name, setting, url in targets
    ]
