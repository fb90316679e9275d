"""Who gets in on Genesys calls, by which address, and what those are told who do not."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_scenarios import Scenario, scenario_for
from bridge.simulators.agent_server import AgentServer
from bridge.simulators.genesys_caller import GenesysCall
from bridge.simulators.genesys_signature import PRODUCTION_ORDER, REFERENCE_ORDER
from bridge.simulators.twilio_line import HangUp, Silence
from tests.kit.genesys_calls import (
    API_KEY,
    KEYS,
    ORGANIZATION,
    PATIENT,
    SECRET,
    SHORT,
    SIGNED,
    Dialled,
    assert_proper,
    dial,
    ended,
    options_for,
    record_of,
    told,
)
from tests.kit.process import bridge_process
from tests.kit.server import DEADLINE_S, RunningBridge, Start, until

pytestmark = pytest.mark.e2e

LISTEN = Scenario(name="listen")
PUBLIC = "https://voice.example.com/eu/bridge"


async def assert_untouched(at: RunningBridge) -> None:
    """Nothing came of it but a log line: no agent, slot, session, record or event."""
    assert at.agent.conversations == []
    assert (at.active, at.bridge.sessions, at.bridge.parting) == (0, {}, set())
    assert await at.records() == []
    storage = at.bridge.parts.storage
    assert storage is not None
    counts = await storage.outbox.counts()
    assert (counts.pending, counts.dead) == (0, 0)


async def status_of(url: str, headers: dict[str, str]) -> int:
    """HTTP status of an upgrade with exactly these headers; 101 = let in."""
    try:
        connection = await connect(url, additional_headers=headers, compression=None, proxy=None)
    except InvalidStatus as error:
        return error.response.status_code
    connection.transport.abort()
    await connection.wait_closed()
    return 101


# --- strangers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "call"),
    [
        (KEYS, {"api_key": "d3Jvbmc="}),
        (KEYS, {"api_key": ""}),
        ({}, {}),
        (SIGNED, {"client_secret": ""}),
        (SIGNED, {"client_secret": "d3JvbmcgYnV0IGxvbmcgZW5vdWdo"}),
        (SIGNED, {"client_secret": SECRET, "public_url": "https://elsewhere.example.com"}),
        (SIGNED, {"client_secret": SECRET, "signature_order": PRODUCTION_ORDER[1:]}),
        (KEYS, {"client_secret": SECRET}),
        ({**KEYS, "GENESYS_ORGANIZATION_ID": ORGANIZATION}, {}),
    ],
    ids=[
        "wrong key",
        "no key",
        "no key is set here",
        "unsigned",
        "wrong secret",
        "signed for another host",
        "not all is signed",
        "signed but no secret is set here",
        "another organization",
    ],
)
async def test_strangers_are_refused_and_nothing_else_happens(start: Start, settings: Any, call: Any) -> None:
    at = await start("greet", **settings, WEBHOOK_URL="http://127.0.0.1:9/events")
    result = await dial(at, **call, retries=5)
    assert (result.http_status, result.ended_by, len(result.attempts)) == (401, "refused", 1), "and never again"
    assert_proper(result, "failure")
    await assert_untouched(at)
    [line] = at.logged("request_refused")
    assert line["entrance"] == "genesys_media"
    assert not [secret for secret in (API_KEY, SECRET, "d3Jvbmc") if secret in str(line)]
    assert 'bridge_refused_requests_total{entrance="genesys_media"} 1.0' in at.bridge.metrics.render().decode()


@pytest.mark.parametrize(
    "missing", ["Audiohook-Organization-Id", "Audiohook-Session-Id", "Audiohook-Correlation-Id", "Signature"]
)
async def test_a_request_without_its_headers(start: Start, missing: str) -> None:
    at = await start("greet", **SIGNED)
    call = GenesysCall(options_for(at, client_secret=SECRET))
    headers = call.headers(0)
    del headers[missing]
    assert await status_of(call.url, headers) == 401
    await assert_untouched(at)


async def test_a_request_works_once(start: Start) -> None:
    at = await start("greet", **SIGNED)
    call = GenesysCall(options_for(at, client_secret=SECRET))
    headers = call.headers(0)
    assert await status_of(call.url, headers) == 101
    assert await status_of(call.url, headers) == 401
    assert at.logged("request_refused")[0]["detail"] == "nonce used before"


async def test_a_socket_on_which_no_session_begins(start: Start) -> None:
    """It is told so, and given the time to part that Genesys has."""
    at = await start("greet", **KEYS, START_TIMEOUT_S="0.2")
    call = GenesysCall(options_for(at))
    async with connect(call.url, additional_headers=call.headers(0), proxy=None) as socket:
        async with asyncio.timeout(DEADLINE_S):
            message = json.loads(await socket.recv())
        assert (message["type"], message["parameters"]["info"]) == ("disconnect", "no_start: no open in 0.2 s")
        assert (at.bridge.sessions, len(at.bridge.parting)) == ({}, 1)
    assert await ended(at) == ["client_error/no_start"]
    assert at.agent.conversations == []


# --- addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "connector_id"),
    [
        ("/genesys/", "agent_7"),
        ("/genesys", "/agent_7"),
        ("/genesys/", "/agent_7"),
        ("/genesys/", "agent_7/"),
        ("/genesys/", "agent%5F7?version=2&x=%20"),
        ("/v1/convai/conversation/genesys/", "agent_7"),
    ],
)
async def test_every_address_that_names_the_agent(start: Start, base: str, connector_id: str) -> None:
    at = await start("greet", **SIGNED)
    to = at.http_url.replace("http", "ws", 1) + base
    result = await dial(
        at,
        Silence(ms=200),
        HangUp(),
        to=to,
        agent=connector_id,
        client_secret=SECRET,
        signature_order=REFERENCE_ORDER,
    )
    assert_proper(result, "none")
    assert await ended(at) == ["success/caller_hangup"]
    assert (await record_of(at, result)).agent_id == "agent_7"


@pytest.mark.parametrize("prefix", ["", "/eu/bridge"], ids=["cut off", "left on"])
async def test_a_proxy_with_a_path_prefix(start: Start, prefix: str) -> None:
    """Genesys signs what it was told: the public host, and the path with the prefix."""
    at = await start("greet", **SIGNED, PUBLIC_URL=PUBLIC)
    told_url = "https://voice.example.com" if prefix else PUBLIC
    to = f"{at.http_url.replace('http', 'ws', 1)}{prefix}/genesys/"
    result = await dial(at, *SHORT, to=to, client_secret=SECRET, public_url=told_url)
    assert_proper(result, "none")
    assert await ended(at) == ["success/caller_hangup"]


async def test_an_address_without_an_agent(start: Start) -> None:
    at = await start("greet", **KEYS)
    result = await dial(at, agent="")
    assert result.http_status == 404
    await assert_untouched(at)


# --- the probe -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offer", ["external", "both", "l16", "none"])
async def test_a_probe_touches_nothing(start: Start, offer: str) -> None:
    at = await start("greet", **SIGNED, WEBHOOK_URL="http://127.0.0.1:9/events")
    result = await dial(at, probe=True, client_secret=SECRET, media=offer)
    assert_proper(result, "none")
    assert result.ended_by == "probe"
    await until(lambda: not at.bridge.sessions and not at.bridge.parting)
    await assert_untouched(at)


async def test_a_probe_while_all_slots_are_taken(start: Start) -> None:
    at = await start(LISTEN, **KEYS, BRIDGE_MAX_CALLS="1")
    async with Dialled(at, *PATIENT) as first:
        await until(lambda: at.logged("agent_ready"))
        probe = await dial(at, probe=True)
        assert_proper(probe, "none")
        assert at.active == 1
        assert first.call.line is not None
        first.call.line.hang_up(asyncio.get_running_loop().time())
    await ended(at, 2)
    assert len(await at.records()) == 1


# --- no room ---------------------------------------------------------------------------------------------


async def test_no_slot_asks_for_another_try(start: Start) -> None:
    at = await start(LISTEN, **KEYS, BRIDGE_MAX_CALLS="1")
    async with Dialled(at, Silence(ms=700), HangUp()) as first:
        await until(lambda: at.logged("agent_ready"))
        refused = await dial(at)
        assert_proper(refused, "failure")
        assert refused.opened_ms is None, "it never opened, so Genesys tries again"
        assert refused.disconnect is not None
        assert refused.disconnect.info.startswith("capacity: ")
        assert (told(refused)["errorType"], refused.disconnect.reason) == ("capacity", "error")

        async def until_there_is_room(_seconds: float) -> None:
            await first.result()
            await until(lambda: at.active == 0)

        second = GenesysCall(options_for(at, *SHORT, retries=1), sleep=until_there_is_room)
        result = await second.run()
    assert_proper(result, "none")
    assert [attempt.ended_by for attempt in result.attempts] == ["server", "caller"]
    assert sorted(await ended(at, 4)) == ["server_error/capacity"] * 2 + ["success/caller_hangup"] * 2


async def test_no_slot_lets_the_flow_go_on(start: Start) -> None:
    at = await start(LISTEN, **KEYS, BRIDGE_MAX_CALLS="1", GENESYS_WHEN_FULL="overflow")
    async with Dialled(at, Silence(ms=700), HangUp()):
        await until(lambda: at.logged("agent_ready"))
        result = await dial(at, retries=5)
        assert_proper(result)
        assert len(result.attempts) == 1
        assert (result.output_variables["overflow"], result.output_variables["end_reason"]) == ("true", "capacity")
    await ended(at, 2)
    assert (await record_of(at, result)).admission == "capacity"


async def test_no_slot_is_refused_at_the_door(start: Start) -> None:
    at = await start(LISTEN, **KEYS, WORKSPACE_CONCURRENCY="1", GENESYS_WHEN_FULL="refuse")
    async with Dialled(at, Silence(ms=700), HangUp()):
        await until(lambda: at.logged("agent_ready"))
        result = await dial(at, retries=5)
        assert (result.http_status, len(result.attempts)) == (503, 1)
        assert await status_of(GenesysCall(options_for(at)).url, {}) == 401, "strangers are not told"
    assert await ended(at) == ["success/caller_hangup"]
    assert at.bridge.ended_counts == {"server_error/capacity": 1, "success/caller_hangup": 1}


async def test_a_queue_with_hold_audio_and_then_the_agent(start: Start) -> None:
    at = await start(scenario_for("greet"), **KEYS, WORKSPACE_CONCURRENCY="1", OVERFLOW="queue")
    async with Dialled(at, Silence(ms=1500), HangUp()):
        await until(lambda: at.logged("agent_ready"))
        async with Dialled(at, Silence(ms=4000), HangUp()) as second:
            await until(lambda: second.sounds, "whoever waits is on the line")
            assert at.bridge.queued
            result = await second.result()
    assert (result.breaches, result.architect_path) == ([], "none"), result.to_text()
    assert await ended(at, 2) == ["success/caller_hangup"] * 2
    assert len(at.agent.conversations) == 2
    waited = [record for record in await at.records() if record.queue_wait_ms]
    assert [record.admission for record in waited] == ["queued"]
    assert waited[0].stream_id == result.session_id
    assert len(result.barge_ins) == 1, "the hold audio is thrown away when the agent comes"
    assert result.barge_ins[0].at_ms > 500


@pytest.mark.parametrize("when_full", ["retry", "overflow"])
async def test_a_queue_that_takes_too_long(start: Start, when_full: str) -> None:
    at = await start(
        LISTEN,
        **KEYS,
        WORKSPACE_CONCURRENCY="1",
        OVERFLOW="queue",
        OVERFLOW_QUEUE_S="1",
        GENESYS_WHEN_FULL=when_full,
    )
    async with Dialled(at, Silence(ms=3000), HangUp()):
        await until(lambda: at.logged("agent_ready"))
        result = await dial(at)
    assert_proper(result, "success" if when_full == "overflow" else "failure")
    assert result.counts.audio_ms > 500, "hold audio"
    assert told(result)["end_reason"] == "queue_timeout"
    assert ("overflow" in told(result)) == (when_full == "overflow")
    assert "server_error/queue_timeout" in await ended(at, 2)


async def test_the_flow_is_told_where_to_send_a_caller_without_a_slot(start: Start) -> None:
    settings: Any = {"WORKSPACE_CONCURRENCY": "1", "OVERFLOW": "divert", "OVERFLOW_DIVERT_TO": "+49731555"}
    at = await start(LISTEN, **KEYS, **settings)
    async with Dialled(at, Silence(ms=700), HangUp()):
        await until(lambda: at.logged("agent_ready"))
        result = await dial(at, retries=5)
    assert_proper(result)
    assert len(result.attempts) == 1
    variables = result.output_variables
    assert (variables["transfer_to"], variables["overflow"], variables["end_reason"]) == (
        "+49731555",
        "true",
        "diverted",
    )
    assert "success/diverted" in await ended(at, 2)
    assert (await record_of(at, result)).admission == "capacity"


# --- the bridge stops ------------------------------------------------------------------------------------


@pytest.mark.parametrize("patience_s", ["0.5", "30"])
async def test_a_drain_lets_calls_finish_and_parts_properly(tmp_path: Path, patience_s: str) -> None:
    """One call ends in its own time, or is ended with words; each by disconnect, close, closed, and the socket."""
    async with (
        AgentServer(AgentOptions(scenario=LISTEN)) as agent,
        bridge_process(tmp_path, ELEVENLABS_BASE_URL=agent.base_url, DRAIN_TIMEOUT_S=patience_s, **SIGNED) as at,
        Dialled(at, Silence(ms=2500), HangUp(), client_secret=SECRET) as call,
        httpx.AsyncClient(base_url=at.http_url, trust_env=False) as operator,
    ):
        await until(lambda: at.logged("agent_ready"))
        at.process.send_signal(signal.SIGTERM)
        await until(lambda: at.logged("draining"))
        assert (await operator.get("/readyz")).status_code == 503
        late = await dial(at, client_secret=SECRET)
        assert late.http_status == 503
        result = await call.result()
        assert await at.exited() == 0
        log = await agent.wait_ended()
    [end] = at.logged("call_ended")
    if patience_s == "30":
        assert_proper(result, "none")
        assert end["reason"] == "caller_hangup"
    else:
        assert_proper(result, "failure")
        assert (end["reason"], told(result)["errorType"]) == ("draining", "draining")
    assert (log.closed_by, log.close_code) == ("client", 1000)


# --- many ------------------------------------------------------------------------------------------------


async def test_fifty_sessions_at_once_with_pings_and_talk(start: Start) -> None:
    """Each is long enough for three pings, of which none may go without its pong for five seconds."""
    at = await start("tone_440", **SIGNED)
    before = asyncio.all_tasks()
    results = await asyncio.gather(
        *(
            dial(at, Silence(ms=6_300 + 10 * number), HangUp(), client_secret=SECRET, keep_audio=False)
            for number in range(50)
        )
    )
    for result in results:
        assert (result.breaches, result.architect_path) == ([], "none"), result.to_text()
        assert len(result.rtt_ms) == 3
        assert result.least_text_tokens > 10
        assert result.counts.audio_ms > 5_000
    assert await ended(at, 50) == ["success/caller_hangup"] * 50
    assert {record.stream_id for record in await at.records()} == {result.session_id for result in results}
    await until(lambda: not asyncio.all_tasks() - before, "a task is left")


async def test_ends_of_every_kind_leave_nothing(start: Start) -> None:
    """Sockets cut, sessions closed in their first moment, agents that go: at once and in numbers."""
    at = await start("echo", **KEYS)

    async def cut(number: int) -> None:
        call = GenesysCall(options_for(at))
        async with connect(call.url, additional_headers=call.headers(0), proxy=None) as socket:
            if number % 2:
                await socket.send("{}" if number % 4 == 1 else b"\xff" * 1600)
            socket.transport.abort()

    def quick(number: int, scenario: str) -> Any:
        return dial(at, Silence(ms=10 * number), HangUp(), agent=scenario, keep_audio=False)

    await asyncio.gather(
        *(cut(number) for number in range(8)),
        *(quick(number, "sim_echo") for number in range(10)),
        *(quick(80, f"sim_close_1011_{100 * number}") for number in range(5)),
        *(quick(80, f"sim_drop_{100 * number}") for number in range(5)),
    )
    ends = await ended(at, 28)
    assert ends.count("success/caller_hangup") >= 10
    await until(lambda: all(log.closed_by for log in at.agent.conversations), "a conversation goes on")
    assert 'bridge_calls_active{provider="genesys"} 0.0' in at.bridge.metrics.render().decode()
