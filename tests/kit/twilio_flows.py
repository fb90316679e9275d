"""A bridge, a scripted agent and a whole simulated Twilio around them, for call flows."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.calls.record import CallRecord
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_scenarios import AnyStep, CallTools, Say, Scenario, ToolCall, Wait, WaitPlayed
from bridge.simulators.twilio_cloud import TwilioCloud, running_cloud
from bridge.simulators.twilio_cloud_options import CloudOptions
from bridge.simulators.twilio_leg import Leg
from bridge.simulators.twilio_person import PersonScript
from tests.kit.server import AUTH_TOKEN, RunningBridge, Start

ACCOUNT = "AC" + "ab" * 16
OWN, CALLER, HUMAN = "+15550199", "+15550100", "+15550123"

SAY = Say(clip="agent_greeting")


def tool(name: str, **parameters: object) -> CallTools:
    """The agent calls one tool, and waits for its result."""
    return CallTools(calls=(ToolCall(tool_name=name, parameters=parameters),), timeout_ms=30_000)


def talk(*steps: AnyStep) -> Scenario:
    """An agent that greets, then does this, then listens."""
    return Scenario(name="flow", steps=(SAY, *steps))


@dataclass
class Flow:
    """One bridge and its Twilio."""

    at: RunningBridge
    cloud: TwilioCloud

    def call(self, script: PersonScript | None = None, caller: str = CALLER, **more: Any) -> Leg:
        """Somebody calls in."""
        status = f"{self.at.http_url}/twilio/status"
        return self.cloud.incoming(caller, OWN, self.at.voice, script, status_url=status, **more)

    async def ended(self, leg: Leg, count: int = 1) -> CallRecord:
        """Wait until the carrier's and the bridge's side are over; returns the bridge's first record."""
        await self.cloud.wait_ended(leg, 30.0)
        await self.at.ended(count)
        return (await self.at.records())[0]

    def results(self) -> list[tuple[str, bool]]:
        """What the agents were answered to their tool calls: text, and whether it was an error."""
        found: list[tuple[str, bool]] = []
        for log in self.at.agent.conversations:
            found += [(outcome.result, outcome.is_error) for outcome in log.tool_results]
        return found


@contextlib.asynccontextmanager
async def flow(
    start: Start, scenario: Scenario, people: Mapping[str, PersonScript] | None = None, **settings: str
) -> AsyncIterator[Flow]:
    """Run all three. ``settings`` come on top of credentials and an allowed HUMAN."""
    options = CloudOptions(
        account_sid=ACCOUNT, auth_token=AUTH_TOKEN, numbers=(OWN,), people=dict(people or {}), say_ms_per_char=4.0
    )
    async with running_cloud(options) as cloud:
        at = await start(
            options=AgentOptions(scenario=scenario),
            TWILIO_ACCOUNT_SID=ACCOUNT,
            TWILIO_API_BASE_URL=cloud.base_url,
            TWILIO_FROM_NUMBERS=OWN,
            TRANSFER_ALLOW=HUMAN + ", sip:*@pbx.example.com",
            **settings,  # type: ignore[arg-type]  # names of settings, none of the parameters before
        )
        yield Flow(at, cloud)
        assert [str(violation) for violation in cloud.violations] == []


__all__ = ["ACCOUNT", "CALLER", "HUMAN", "OWN", "Flow", "Wait", "WaitPlayed", "flow", "talk", "tool"]
