"""What the bench knows of its carriers."""

from __future__ import annotations

import pytest

from bridge.bench.carriers import CARRIERS, GENESYS, TWILIO, VONAGE, call_name, called_name


@pytest.mark.parametrize(
    "target",
    [
        "/v1/convai/conversation?agent_id=bench-17&environment=production",
        "/v1/convai/conversation?source=x&agent_id=bench-17",
        "/genesys/bench-17",
    ],
)
def test_a_far_end_knows_its_call_from_the_address(target: str) -> None:
    assert called_name(target) == call_name(17) == "bench-17"


def test_addresses_and_paces() -> None:
    assert list(CARRIERS) == ["twilio", "genesys", "vonage", "sip"]
    assert (TWILIO.path(17), GENESYS.path(17)) == ("/twilio/media", "/genesys/bench-17")
    assert (TWILIO.ramp_s(400), GENESYS.ramp_s(200)) == (4.0, 4.0)
    assert GENESYS.ramp_s(100) == 2.0
    assert VONAGE.path(17) == "/vonage/media?uuid=63f61863-4a51-4f6b-86e1-000000000011"
    assert (VONAGE.ramp_s(100), VONAGE.headers(17)) == (4.0, {})


def test_what_is_spoken_on_both_sides() -> None:
    spoken = {
        f"{carrier.name} {name}": (mode.agent, mode.carrier.name, mode.is_converting)
        for carrier in CARRIERS.values()
        for name, mode in carrier.modes.items()
    }
    assert spoken == {
        "twilio passthrough": ("ulaw_8000", "ulaw_8000", False),
        "twilio convert": ("pcm_16000", "ulaw_8000", True),
        "genesys passthrough": ("ulaw_8000", "ulaw_8000", False),
        "genesys convert": ("pcm_16000", "ulaw_8000", True),
        "vonage passthrough": ("pcm_16000", "pcm_16000", False),
        "vonage convert": ("pcm_16000", "pcm_8000", True),
        "vonage convert-24k": ("pcm_16000", "pcm_24000", True),
        "sip passthrough": ("ulaw_8000", "ulaw_8000", False),
    }
