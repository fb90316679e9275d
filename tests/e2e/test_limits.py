"""Limits: who is told busy, who waits, who is sent on, and that a slot that is given back can be taken again."""

from __future__ import annotations

import httpx
import pytest

from bridge.calls.routing import parse_routing
from bridge.server import arrival
from tests.kit import twilio
from tests.kit.caller import WireCaller
from tests.kit.server import Start, until

pytestmark = pytest.mark.e2e

SECOND, THIRD = "CA00000000000000000000000000000002", "CA00000000000000000000000000000003"
BUSY = '<?xml version="1.0" encoding="UTF-8"?><Response><Reject reason="busy" /></Response>'
DESK = "+15550111"


def stop_of(call_sid: str) -> str:
    return twilio.STOP.replace(twilio.CALL_SID, call_sid)


@pytest.mark.parametrize(("max_calls", "concurrency"), [("1", ""), ("5", "1")])
async def test_one_call_and_no_more(start: Start, max_calls: str, concurrency: str) -> None:
    at = await start("echo", BRIDGE_MAX_CALLS=max_calls, WORKSPACE_CONCURRENCY=concurrency)
    async with (
        WireCaller(at) as first,
        WireCaller(at, call_sid=THIRD) as third,
        httpx.AsyncClient(base_url=at.http_url, trust_env=False) as operator,
    ):
        token = await first.order()
        assert at.active == 1, "the answer takes the slot, so that nobody is answered and then refused"
        assert await first.order() == token
        assert at.active == 1, "a repeated webhook takes no second one"
        await first.dial(token)
        await until(lambda: at.logged("agent_ready"))
        assert at.active == 1

        assert (await third.post("/twilio/voice")).text == BUSY
        ready = (await operator.get("/readyz")).json()
        assert (ready["active_calls"], ready["workspace"]["calls"]) == (1, 1)
        assert (ready["ready"], ready["reason"]) == ((True, "") if concurrency else (False, "capacity"))

        await first.send(twilio.STOP)
        await first.closed()
        assert await at.ended() == ["success/caller_hangup"]
        await third.dial_in()
        assert at.active == 1
        await third.send(stop_of(THIRD))
        await third.closed()
    assert len(await at.ended(2)) == 2
    assert at.bridge.ended_counts == {"server_error/capacity": 1, "success/caller_hangup": 2}
    text = at.bridge.metrics.render().decode()
    assert 'bridge_calls_started_total{burst="no",provider="twilio"} 2.0' in text
    assert 'bridge_calls_active{provider="twilio"} 0.0' in text
    assert 'bridge_call_duration_seconds_count{provider="twilio"} 2.0' in text
    refused, *taken = sorted(await at.records(), key=lambda record: record.result)
    assert (refused.call_sid, refused.admission, refused.reason) == (THIRD, "capacity", "capacity")
    assert {record.admission for record in taken} == {"granted"}


async def test_a_socket_without_a_webhook_finds_no_slot(start: Start) -> None:
    at = await start("echo", BRIDGE_AUTH="off", BRIDGE_MAX_CALLS="1")
    async with WireCaller(at) as first, WireCaller(at, call_sid=SECOND) as second:
        await first.dial("")
        await until(lambda: at.logged("agent_ready"))
        await second.dial("")
        assert await second.closed() == 1000
        assert at.ends() == ["server_error/capacity"]
        assert await second.verbs() == ["Say", "Hangup"]
        assert at.active == 1
        await first.send(twilio.STOP)
        await first.closed()
    assert await at.ended(2) == ["server_error/capacity", "success/caller_hangup"]


async def test_bursting_goes_above_the_limit_and_is_marked(start: Start) -> None:
    at = await start("echo", WORKSPACE_CONCURRENCY="1", BURST="on", BURST_CAP="2")
    async with (
        WireCaller(at) as first,
        WireCaller(at, call_sid=SECOND) as second,
        WireCaller(at, call_sid=THIRD) as third,
    ):
        await first.dial_in()
        await second.dial_in()
        assert (await third.post("/twilio/voice")).text == BUSY
        await first.send(twilio.STOP)
        await second.send(stop_of(SECOND))
        await first.closed()
        await second.closed()
    await at.ended(2)
    text = at.bridge.metrics.render().decode()
    for burst in ("yes", "no"):
        assert f'bridge_calls_started_total{{burst="{burst}",provider="twilio"}} 1.0' in text
    marked = {record.call_sid: (record.is_burst, record.admission) for record in await at.records()}
    assert marked == {
        twilio.CALL_SID: (False, "granted"),
        SECOND: (True, "burst"),
        THIRD: (False, "capacity"),
    }


async def test_who_waits_hears_hold_audio_and_gets_the_next_slot(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "QUEUE_POLL_S", 0.02)
    at = await start("echo", BRIDGE_MAX_CALLS="1", OVERFLOW="queue", OVERFLOW_QUEUE_S="30")
    async with WireCaller(at) as first, WireCaller(at, call_sid=SECOND) as second:
        await first.dial_in()
        await second.dial()
        await until(lambda: at.logged("queued"), "nobody waits")
        await until(lambda: second.heard, "the line is dead")
        assert [call.state for call in await at.bridge.live.all()] == ["active", "queued"]
        assert len(at.bridge.queued) == 1
        assert at.active == 1
        await first.send(twilio.STOP)
        await first.closed()
        await until(lambda: len(at.logged("agent_ready")) == 2, "who waited got no slot")
        assert at.active == 1
        before = len(second.heard)
        await second.send(twilio.media(b"\x01" * 160))
        await until(lambda: b"\x01" * 160 in second.heard[before:], "the agent does not answer")
        await second.send(stop_of(SECOND))
        await second.closed()
    assert await at.ended(2) == ["success/caller_hangup"] * 2
    waited = next(record for record in await at.records() if record.call_sid == SECOND)
    assert (waited.admission, waited.queue_wait_ms > 0) == ("queued", True)
    assert at.bridge.queued == set()


async def test_who_waits_too_long_is_told_so(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "QUEUE_POLL_S", 0.02)
    at = await start("echo", BRIDGE_MAX_CALLS="1", OVERFLOW="queue", OVERFLOW_QUEUE_S="0.2")
    async with WireCaller(at) as first, WireCaller(at, call_sid=SECOND) as second:
        await first.dial_in()
        await second.dial()
        assert await second.closed() == 1000
        assert at.ends() == ["server_error/queue_timeout"]
        assert await second.verbs() == ["Say", "Hangup"]
        await first.send(twilio.STOP)
        await first.closed()
    assert await at.ended(2) == ["server_error/queue_timeout", "success/caller_hangup"]


async def test_who_hangs_up_while_waiting_leaves_nothing_but_a_record(start: Start) -> None:
    at = await start("echo", BRIDGE_MAX_CALLS="1", OVERFLOW="queue")
    async with WireCaller(at) as first, WireCaller(at, call_sid=SECOND) as second:
        await first.dial_in()
        await second.dial()
        await until(lambda: at.logged("queued"))
        await second.send(stop_of(SECOND))
        await second.closed()
        await until(lambda: len(at.bridge.sessions) == 1)
        assert at.bridge.queued == set()
        assert at.bridge.admission.usage().waiting == 0
        await first.send(twilio.STOP)
        await first.closed()
    assert await at.ended(2) == ["success/caller_hangup"] * 2
    assert len(at.agent.conversations) == 1
    gave_up = next(record for record in await at.records() if record.call_sid == SECOND)
    assert (gave_up.admission, gave_up.reason, gave_up.answered_at) == ("queued", "caller_hangup", None)


async def test_who_finds_no_slot_is_sent_on_before_and_after_the_answer(start: Start) -> None:
    at = await start("echo", BRIDGE_AUTH="off", BRIDGE_MAX_CALLS="1", OVERFLOW="divert", OVERFLOW_DIVERT_TO=DESK)
    async with WireCaller(at) as first, WireCaller(at, call_sid=SECOND) as second:
        await first.dial("")
        await until(lambda: at.logged("agent_ready"))
        answer = await second.post("/twilio/voice")
        assert f"<Dial><Number>{DESK}</Number></Dial>" in answer.text
        await second.dial("")
        assert await second.closed() == 1000
        assert await second.verbs() == ["Dial"]
        await first.send(twilio.STOP)
        await first.closed()
        assert await first.verbs() == ["Hangup"]
    await at.ended(2)
    assert at.bridge.ended_counts == {
        "success/diverted": 1,
        "server_error/capacity": 1,
        "success/caller_hangup": 1,
    }


async def test_an_agents_own_limit_is_its_own(start: Start) -> None:
    routing = parse_routing(
        {"routes": [{"number": "+15550101", "agent": "agent_small", "concurrency": 1}], "agents": {}}
    )
    at = await start("echo", routing=routing)
    async with (
        WireCaller(at, called="+15550101") as first,
        WireCaller(at, call_sid=SECOND, called="+15550101") as second,
        WireCaller(at, call_sid=THIRD, called="+15550102") as third,
    ):
        await first.dial_in()
        assert (await second.post("/twilio/voice")).text == BUSY
        await third.dial_in()
        await first.send(twilio.STOP)
        await third.send(stop_of(THIRD))
        await first.closed()
        await third.closed()
    await at.ended(2)
    agents = {record.call_sid: (record.agent_id, record.route, record.reason) for record in await at.records()}
    assert agents == {
        twilio.CALL_SID: ("agent_small", "+15550101", "caller_hangup"),
        SECOND: ("agent_small", "+15550101", "agent_capacity"),
        THIRD: ("agent_1", "", "caller_hangup"),
    }
