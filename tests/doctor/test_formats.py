"""Formats of an agent against each carrier."""

from __future__ import annotations

import pytest

from bridge.doctor.formats import configured_carriers, judge_formats, native_formats
from bridge.providers import REGISTRY
from tests.kit.doctor import told
from tests.kit.server import settings_for


@pytest.mark.parametrize(
    ("hears", "speaks", "carrier", "seen", "advice"),
    [
        ("ulaw_8000", "ulaw_8000", "twilio", "ulaw_8000 both ways passes through unchanged", ""),
        ("pcm_16000", "pcm_16000", "vonage", "pcm_16000 both ways passes through unchanged", ""),
        (
            "pcm_16000", "pcm_16000", "genesys",
            "pcm_16000 to the agent and pcm_16000 from the agent is converted",
            "It works; for the least delay and CPU set both of the agent's formats to ulaw_8000.",
        ),
        (
            "ulaw_8000", "pcm_24000", "twilio", "pcm_24000 from the agent is converted",
            "It works; for the least delay and CPU set both of the agent's formats to ulaw_8000.",
        ),
        (
            "pcm_16000", "pcm_24000", "vonage", "pcm_24000 from the agent is converted",
            "It works; for the least delay and CPU set both of the agent's formats to pcm_16000.",
        ),
        (
            "pcm_24000", "pcm_24000", "vonage", "pcm_24000 to the agent and pcm_24000 from the agent is converted",
            "It works; for the least delay and CPU set both of the agent's formats to pcm_16000, or VONAGE_RATE_HZ to "
            "24000.",
        ),
        (
            "ulaw_8000", "ulaw_8000", "vonage", "ulaw_8000 to the agent and ulaw_8000 from the agent is converted",
            "It works; for the least delay and CPU set both of the agent's formats to pcm_16000.",
        ),
    ],
)  # fmt: skip
def test_formats(hears: str, speaks: str, carrier: str, seen: str, advice: str) -> None:
    (finding,) = judge_formats("agent_1", hears, speaks, [carrier], native_formats(settings_for({})))
    assert finding.name == f"agent agent_1: formats on {carrier}"
    assert told(finding) == ("ok", seen, advice)


def test_an_unknown_format() -> None:
    (finding,) = judge_formats("agent_1", "ulaw_8000", "opus_48000", ["twilio", "genesys"], {})
    assert told(finding) == (
        "failed",
        "the agent's format 'opus_48000' is not known",
        "Set the agent's input and output format to ulaw_8000 (mu-law 8000 Hz) in ElevenLabs.",
    )


def test_carriers_by_what_is_set() -> None:
    assert configured_carriers(settings_for({"GENESYS_API_KEY": "k"})) == ("genesys",)
    assert configured_carriers(settings_for({"TWILIO_AUTH_TOKEN": "t", "GENESYS_API_KEY": "k"})) == (
        "twilio",
        "genesys",
    )
    assert configured_carriers(settings_for({})) == tuple(REGISTRY)


def test_the_rate_on_vonage_is_the_operators() -> None:
    assert native_formats(settings_for({"VONAGE_RATE_HZ": "24000"})) == {
        "twilio": "ulaw_8000",
        "genesys": "ulaw_8000",
        "vonage": "pcm_24000",
    }
