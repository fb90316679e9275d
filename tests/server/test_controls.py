"""Clients of the carriers' control interfaces: one for each carrier that there are credentials for."""

from __future__ import annotations

import pytest

from bridge.leg import ToneWay, TransferKind
from bridge.server.controls import open_controls, twilio_control_options, twilio_rest_options
from tests.kit.server import settings_for

ACCOUNT = "AC" + "0" * 32
KEY = "SK" + "1" * 32
TOKEN = "t" * 32


@pytest.mark.parametrize(
    ("settings", "there"),
    [
        ({}, False),
        ({"TWILIO_ACCOUNT_SID": ACCOUNT}, False),
        ({"TWILIO_AUTH_TOKEN": TOKEN}, False),
        ({"TWILIO_ACCOUNT_SID": ACCOUNT, "TWILIO_AUTH_TOKEN": TOKEN}, True),
        ({"TWILIO_ACCOUNT_SID": ACCOUNT, "TWILIO_API_KEY": KEY, "TWILIO_API_KEY_SECRET": "s"}, True),
    ],
)
async def test_twilio_needs_an_account_and_a_secret(settings: dict[str, str], there: bool) -> None:
    controls = open_controls(settings_for(settings))
    assert ("twilio" in controls) is there
    for control in controls.values():
        if there:
            assert TransferKind.WARM in control.transfers
            assert control.tones is ToneWay.EXCURSION
        await control.aclose()


def test_what_the_clients_are_told() -> None:
    settings = settings_for(
        {
            "PUBLIC_URL": "https://b.example/eu",
            "TWILIO_ACCOUNT_SID": ACCOUNT,
            "TWILIO_AUTH_TOKEN": f"{TOKEN},{'u' * 32}",
            "TWILIO_API_BASE_URL": "http://127.0.0.1:1",
            "TWILIO_FROM_NUMBERS": "+15550199,+15550142",
            "CARRIER_REQUEST_TIMEOUT_S": "3",
        }
    )
    rest, control = twilio_rest_options(settings), twilio_control_options(settings)
    assert (rest.account_sid, rest.auth_token, rest.timeout_s) == (ACCOUNT, TOKEN, 3)
    assert rest.base_url == "http://127.0.0.1:1"
    assert (rest.edge, rest.region, rest.api_key) == ("", "", "")
    assert control.callback_base == "https://b.example/eu"
    assert control.stream_url == "wss://b.example/eu/twilio/media"
    assert control.caller_id == "+15550199"
    assert TOKEN not in repr(rest)
