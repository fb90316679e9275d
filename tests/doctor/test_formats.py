"""Formats of an agent against each carrier."""

from __future__ import annotations

import pytest

from bridge.doctor.formats import configured_carriers, judge_formats, native_formats
from bridge.media.format import Encoding
from bridge.providers import REGISTRY
from bridge.sip.trunks import Trunk
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


# --- SIP -------------------------------------------------------------------------------------------------

SIP = {"SIP_UDP_PORT": "5060"}
EUROPE = Trunk("europe", codecs=(Encoding.ALAW, Encoding.ULAW))
AMERICA = Trunk("america")


def test_sip_by_the_first_codec() -> None:
    assert native_formats(settings_for(SIP))["sip"] == "ulaw_8000"
    assert native_formats(settings_for({**SIP, "SIP_CODECS": "PCMA,PCMU"}))["sip"] == "alaw_8000"
    assert native_formats(settings_for(SIP), [EUROPE])["sip"] == "alaw_8000"
    assert "sip" not in native_formats(settings_for({}), [EUROPE])


def test_trunks_with_other_codecs_are_told_apart() -> None:
    settings, trunks = settings_for(SIP), [AMERICA, EUROPE, Trunk("more")]
    native = native_formats(settings, trunks)
    assert (native["sip (america, more)"], native["sip (europe)"]) == ("ulaw_8000", "alaw_8000")
    assert configured_carriers(settings, trunks) == ("sip (america, more)", "sip (europe)")
    assert configured_carriers(settings_for({**SIP, "GENESYS_API_KEY": "k"})) == ("genesys", "sip")
    found = judge_formats("agent_1", "ulaw_8000", "ulaw_8000", configured_carriers(settings, trunks), native)
    assert [(finding.name, *told(finding)) for finding in found] == [
        (
            "agent agent_1: formats on sip (america, more)", "ok",
            "ulaw_8000 both ways passes through unchanged", "",
        ),
        (
            "agent agent_1: formats on sip (europe)", "ok",
            "ulaw_8000 to the agent and ulaw_8000 from the agent is converted",
            "It works; for the least delay and CPU set both of the agent's formats to alaw_8000, or put PCMU first in "
            "SIP_CODECS (in the file: codecs of the trunk).",
        ),
    ]  # fmt: skip


def test_wideband_over_sip_is_converted() -> None:
    (finding,) = judge_formats("agent_1", "pcm_16000", "pcm_16000", ["sip"], native_formats(settings_for(SIP)))
    assert finding.advice == "It works; for the least delay and CPU set both of the agent's formats to ulaw_8000."


def test_the_rate_on_vonage_is_the_operators() -> None:
    assert native_formats(settings_for({"VONAGE_RATE_HZ": "24000"})) == {
        "twilio": "ulaw_8000",
        "genesys": "ulaw_8000",
        "vonage": "pcm_24000",
    }
