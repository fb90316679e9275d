"""Limits: who is told busy, where, and that a slot that is given back can be taken again."""

from __future__ import annotations

import httpx
import pytest

from tests.kit import twilio
from tests.kit.caller import WireCaller
from tests.kit.server import Start

pytestmark = pytest.mark.e2e

SECOND, THIRD = "CA00000000000000000000000000000002", "CA00000000000000000000000000000003"
BUSY = '<?xml version="1.0" encoding="UTF-8"?><Response><Reject reason="busy" /></Response>'


@pytest.mark.parametrize(("max_calls", "concurrency"), [("1", ""), ("5", "1")])
async def test_one_call_and_no_more(start: Start, max_calls: str, concurrency: str) -> None:
    at = await start("echo", BRIDGE_MAX_CALLS=max_calls, WORKSPACE_CONCURRENCY=concurrency)
    async with (
        WireCaller(at) as first,
        WireCaller(at, call_sid=SECOND) as second,
        WireCaller(at, call_sid=THIRD) as third,
        httpx.AsyncClient(base_url=at.http_url, trust_env=False) as operator,
    ):
        early_token = await second.order()  # answered while there was room
        await first.dial_in()
        assert at.active == 1

        assert (await third.post("/twilio/voice")).text == BUSY
        ready = await operator.get("/readyz")
        assert (ready.status_code, ready.json()["ready"], ready.json()["reason"]) == (200, False, "capacity")

        await second.dial(early_token)
        assert await second.closed() == 1000
        assert at.ends() == ["server_error/capacity"]
        assert await second.verbs() == ["Say", "Hangup"]
        assert at.active == 1

        await first.send(twilio.STOP)
        await first.closed()
        assert await at.ended(2) == ["server_error/capacity", "success/caller_hangup"]
        await third.dial_in()
        assert at.active == 1
        await third.send(twilio.STOP.replace(twilio.CALL_SID, THIRD))
        await third.closed()
    assert len(await at.ended(3)) == 3
    assert len(at.logged("call_started")) == 2
    text = at.bridge.metrics.render().decode()
    assert 'bridge_calls_started_total{provider="twilio"} 2.0' in text
    assert 'bridge_calls_active{provider="twilio"} 0.0' in text
    assert 'bridge_call_duration_seconds_count{provider="twilio"} 2.0' in text
