"""What the bench knows of its carriers."""

from __future__ import annotations

import pytest

from bridge.bench.carriers import CARRIERS, GENESYS, TWILIO, call_name, called_name


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
    assert list(CARRIERS) == ["twilio", "genesys"]
    assert (TWILIO.path(17), GENESYS.path(17)) == ("/twilio/media", "/genesys/bench-17")
    assert (TWILIO.ramp_s(400), GENESYS.ramp_s(200)) == (4.0, 4.0)
    assert GENESYS.ramp_s(100) == 2.0
