"""What the demo fills in before it starts; its call itself is in ``tests/e2e/test_demo.py``."""

from __future__ import annotations

import socket

import pytest

from bridge.simulators.demo import prepare
from tests.kit.server import settings_for


def test_without_settings_everything_is_made_up() -> None:
    settings, local_agent = prepare(settings_for({}), port_is_set=False)
    assert local_agent
    [token] = settings.twilio_keys.auth_tokens
    assert len(token) == 32
    assert settings.public_url == f"http://127.0.0.1:{settings.bridge_port}"


@pytest.mark.parametrize("missing", ["ELEVENLABS_API_KEY", "ELEVENLABS_AGENT_ID"])
def test_a_real_agent_needs_key_and_id(missing: str) -> None:
    given = {"ELEVENLABS_API_KEY": "k", "ELEVENLABS_AGENT_ID": "a"}
    assert prepare(settings_for(given), port_is_set=True)[1] is False
    del given[missing]
    assert prepare(settings_for(given), port_is_set=True)[1] is True


def test_what_is_set_stays() -> None:
    given = {"TWILIO_AUTH_TOKEN": "mine", "PUBLIC_URL": "https://b.example/eu", "TWILIO_SHARED_KEYS": "id=secret"}
    settings, _ = prepare(settings_for(given), port_is_set=True)
    assert settings == settings_for(given)


def test_a_taken_port_is_left_alone_unless_it_was_asked_for() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        settings = settings_for({"BRIDGE_PORT": str(port)})
        assert prepare(settings, port_is_set=True)[0].bridge_port == port
        moved, _ = prepare(settings, port_is_set=False)
        assert moved.bridge_port != port
        assert moved.public_url == f"http://127.0.0.1:{moved.bridge_port}"
