"""The doctor beside a bridge that runs: it knows it by its answers, and leaves nothing behind."""

from __future__ import annotations

import pytest

from bridge.doctor.runner import run_checks
from bridge.doctor.sip import sip_checks
from tests.kit.doctor import tools_for
from tests.kit.server import Start
from tests.kit.sip import start_sip

pytestmark = pytest.mark.e2e


async def test_the_running_bridge_has_its_ports(start: Start) -> None:
    bridge = await start_sip(start)
    port = bridge.ports.signalling
    given = {**bridge.ports.settings(), "SIP_HOST": "127.0.0.1", "SIP_ALLOWED_ADDRESSES": "127.0.0.1"}
    async with tools_for(None, given, BRIDGE_MAX_CALLS="40") as tools:
        found = {finding.name: finding for finding in await run_checks(sip_checks(tools), lambda line: None)}
    for name in ("SIP: UDP port", "SIP: TCP port"):
        assert found[name].verdict.value == "ok"
        assert found[name].seen == f"127.0.0.1 port {port}: the running bridge answers OPTIONS there"
    result = await bridge.dial()
    assert result.status == 200
    assert await bridge.ended() == ["success/caller_hangup"]
