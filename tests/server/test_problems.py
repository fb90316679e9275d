"""What is still to be set before calls can work, in words."""

from __future__ import annotations

import pytest

from bridge.server.problems import problems_of
from tests.kit.server import settings_for

COMPLETE = {
    "ELEVENLABS_AGENT_ID": "agent_1",
    "TWILIO_AUTH_TOKEN": "t",
    "PUBLIC_URL": "https://b.example",
    "BRIDGE_API_KEY": "key",
}
AGENT = "Set ELEVENLABS_AGENT_ID: no agent is there to take calls."
CARRIER = (
    "Set TWILIO_AUTH_TOKEN, GENESYS_API_KEY or VONAGE_SIGNATURE_SECRET: requests of carriers cannot be verified and "
    "are refused. Or set SIP_UDP_PORT and SIP_ALLOWED_ADDRESSES for a SIP trunk."
)
ADDRESS = "Set PUBLIC_URL: carriers cannot reach this machine by its loopback address."
HTTPS = "Set PUBLIC_URL to an https address: carriers connect to media sockets by wss only."
KEY = "Set BRIDGE_API_KEY: without a key nobody can ask the API below /v1 for calls."


def problems(**changes: str) -> tuple[str, ...]:
    given = {**COMPLETE, **changes}
    return problems_of(settings_for({name: value for name, value in given.items() if value}))


def test_nothing_is_missing() -> None:
    assert problems() == ()


def test_everything_is_missing() -> None:
    assert problems_of(settings_for({})) == (AGENT, CARRIER, ADDRESS, KEY)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"ELEVENLABS_AGENT_ID": ""}, AGENT),
        ({"TWILIO_AUTH_TOKEN": ""}, CARRIER),
        ({"PUBLIC_URL": ""}, ADDRESS),
        ({"PUBLIC_URL": "http://b.example"}, HTTPS),
        ({"BRIDGE_API_KEY": ""}, KEY),
    ],
)
def test_one_thing_is_missing(changes: dict[str, str], problem: str) -> None:
    assert problems(**changes) == (problem,)


@pytest.mark.parametrize(
    "instead",
    [{"TWILIO_SHARED_KEYS": "id=secret"}, {"GENESYS_API_KEY": "key"}, {"VONAGE_SIGNATURE_SECRET": "secret"}],
    ids=["shared keys", "genesys", "vonage"],
)
def test_any_carrier_will_do(instead: dict[str, str]) -> None:
    assert problems(TWILIO_AUTH_TOKEN="", **instead) == ()


def test_without_authentication_no_secrets_are_missed() -> None:
    changes = {"TWILIO_AUTH_TOKEN": "", "BRIDGE_API_KEY": "", "PUBLIC_URL": "http://b.example"}
    assert problems(BRIDGE_AUTH="off", **changes) == ()


def test_what_works_but_is_hardly_meant_comes_last() -> None:
    found = problems(ELEVENLABS_AGENT_ID="", BURST="on")
    assert found == (AGENT, "Set WORKSPACE_CONCURRENCY: without it BURST has no effect.")
