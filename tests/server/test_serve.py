"""Who may open a media socket, and what the server does on signals; whole drains are in ``tests/e2e``."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from multidict import CIMultiDict
from picows import WSUpgradeRequest
from twilio.request_validator import RequestValidator

from bridge import outcome
from bridge.calls.routing import Resolved
from bridge.providers.twilio import SPEC
from bridge.server import serve, service
from bridge.server.serve import BridgeServer, decide_upgrade
from bridge.server.sockets import MediaSocket
from bridge.server.upgrade import Refusal
from tests.kit import logs
from tests.kit.legs import REQUEST
from tests.kit.offline import offline_bridge
from tests.kit.server import AUTH_TOKEN, until
from tests.kit.sessions import Table

PUBLIC = "https://bridge.example.com"


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    with logs.captured() as captured:
        yield captured


def request(path: str = "/twilio/media", *, signed_as: str = "wss://bridge.example.com/twilio/media") -> Any:
    """An upgrade request as picows reads it, with Twilio's signature over this URL."""
    made = WSUpgradeRequest()
    made.method, made.path, made.version = b"GET", path.encode(), b"HTTP/1.1"
    signature = RequestValidator(AUTH_TOKEN).compute_signature(signed_as, {}) if signed_as else "wrong"
    made.headers = CIMultiDict({"X-Twilio-Signature": signature})
    return made


def refusal(answer: object) -> tuple[int, str]:
    assert isinstance(answer, Refusal)
    return answer.status, answer.text


@pytest.mark.parametrize("path", ["/twilio/media", "/twilio/media/", "/twilio/media?x=%20"])
async def test_a_genuine_request_is_let_in(path: str) -> None:
    bridge = offline_bridge(PUBLIC_URL=PUBLIC)
    answer = decide_upgrade(bridge, request(path, signed_as=f"wss://bridge.example.com{path}"))
    assert isinstance(answer, MediaSocket)
    assert bridge.sessions == {}, "the handshake may still fail; there is no session before it is done"
    assert bridge.admission.active == 0


@pytest.mark.parametrize("path", ["/eu/twilio/media", "/twilio/media"])
async def test_a_proxy_may_leave_the_prefix_of_the_public_url_on(path: str) -> None:
    bridge = offline_bridge(PUBLIC_URL=f"{PUBLIC}/eu", BRIDGE_AUTH="off")
    assert isinstance(decide_upgrade(bridge, request(path)), MediaSocket)
    for other in ("/eux/twilio/media", "/us/twilio/media", "/eu/eu/twilio/media", "/eu"):
        assert refusal(decide_upgrade(bridge, request(other)))[0] == 404


@pytest.mark.parametrize("path", ["/", "/twilio", "/twilio/voice", "/twilio/mediaX", "/TWILIO/MEDIA"])
async def test_other_paths(path: str) -> None:
    assert refusal(decide_upgrade(offline_bridge(PUBLIC_URL=PUBLIC), request(path)))[0] == 404


@pytest.mark.parametrize("signed_as", ["", "wss://other.example/twilio/media", "https://bridge.example.com/x"])
async def test_a_wrong_signature(lines: list[dict[str, Any]], signed_as: str) -> None:
    bridge = offline_bridge(PUBLIC_URL=PUBLIC)
    assert refusal(decide_upgrade(bridge, request(signed_as=signed_as))) == (403, "forbidden")
    assert 'bridge_refused_requests_total{entrance="twilio_media"} 1.0' in bridge.metrics.render().decode()
    [line] = lines
    assert (line["event"], line["entrance"]) == ("request_refused", "twilio_media")


async def test_no_signature_is_needed_without_authentication() -> None:
    bridge = offline_bridge(BRIDGE_AUTH="off")
    assert isinstance(decide_upgrade(bridge, request(signed_as="")), MediaSocket)


async def test_a_stopping_bridge_takes_no_sockets_but_tells_strangers_nothing() -> None:
    bridge = offline_bridge(PUBLIC_URL=PUBLIC)
    bridge.admission.draining = True
    assert refusal(decide_upgrade(bridge, request())) == (503, "shutting down")
    assert refusal(decide_upgrade(bridge, request(signed_as="")))[0] == 403


async def test_a_carrier_that_wants_it_is_refused_before_its_call_begins() -> None:
    bridge = offline_bridge(BRIDGE_AUTH="off", WORKSPACE_CONCURRENCY="1", GENESYS_WHEN_FULL="refuse")
    assert isinstance(decide_upgrade(bridge, request("/genesys/agent_7")), MediaSocket)
    await bridge.take_slot("somebody", "", Resolved("agent_1"), "inbound")
    assert refusal(decide_upgrade(bridge, request("/genesys/agent_7"))) == (503, "all lines are busy")
    assert isinstance(decide_upgrade(bridge, request()), MediaSocket), "another carrier"
    assert bridge.ended_counts == {"server_error/capacity": 1}
    text = bridge.metrics.render().decode()
    assert 'bridge_calls_ended_total{provider="genesys",reason="capacity",result="server_error"} 1.0' in text


async def test_a_stranger_is_not_told_that_the_lines_are_busy() -> None:
    bridge = offline_bridge(GENESYS_API_KEY="key", WORKSPACE_CONCURRENCY="1", GENESYS_WHEN_FULL="refuse")
    await bridge.take_slot("somebody", "", Resolved("agent_1"), "inbound")
    assert refusal(decide_upgrade(bridge, request("/genesys/agent_7"))) == (401, "unauthorized")


async def test_signals_only_set_flags() -> None:
    bridge = offline_bridge()
    server = BridgeServer(bridge, uvicorn.Config("x:y", log_config=None), None)
    server.handle_exit(signal.SIGTERM, None)
    assert (bridge.admission.draining, server.should_exit) == (True, False)
    server.handle_exit(signal.SIGTERM, None)
    assert server.should_exit


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "LAST_WORDS_S", 0.0)
    monkeypatch.setattr(service, "PARTING_POLL_S", 0.001)


@pytest.mark.usefixtures("brief")
async def test_a_drain_waits_for_partings_recordings_and_late_results() -> None:
    bridge = offline_bridge()
    server = BridgeServer(bridge, uvicorn.Config("x:y", log_config=None), None)
    job_done, session = asyncio.Event(), bridge.new_session(SPEC, REQUEST)
    bridge.call_over(session, outcome.NO_START)
    bridge.parting.add(session)

    async def job() -> None:
        await job_done.wait()

    bridge.after(asyncio.create_task(job()))
    draining = asyncio.create_task(server.drain())
    for gone in (job_done.set, bridge.parting.clear):
        await asyncio.sleep(0.02)
        assert not draining.done()
        gone()
    await draining
    assert server.should_exit


@pytest.mark.usefixtures("brief")
async def test_a_drain_has_an_end_whoever_is_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "PARTING_TIMEOUT_S", 0.02)
    bridge = offline_bridge()
    server = BridgeServer(bridge, uvicorn.Config("x:y", log_config=None), None)
    session = bridge.new_session(SPEC, REQUEST)
    bridge.call_over(session, outcome.NO_START)
    bridge.parting.add(session)
    await server.drain()
    assert server.should_exit


@pytest.mark.usefixtures("brief")
async def test_a_drain_waits_for_calls_and_begins_no_other() -> None:
    table = await Table(offline_bridge(BRIDGE_AUTH="off")).activate()
    server = BridgeServer(table.bridge, uvicorn.Config("x:y", log_config=None), None)
    draining = asyncio.create_task(server.drain())
    await asyncio.sleep(0.02)
    assert not draining.done()
    late = Table(table.bridge).offer("CA2")
    await until(lambda: late.carrier.closed)
    assert table.ends == {"server_error/draining": 1}
    table.hang_up()
    await draining
    assert table.ends == {"server_error/draining": 1, "success/caller_hangup": 1}


@pytest.mark.usefixtures("brief")
async def test_a_drain_ends_what_is_left(lines: list[dict[str, Any]]) -> None:
    bridge = offline_bridge(DRAIN_TIMEOUT_S="0")
    bridge.new_session(SPEC, REQUEST)
    server = BridgeServer(bridge, uvicorn.Config("x:y", log_config=None), None)
    await server.drain()
    assert server.should_exit
    assert bridge.ended_counts == {str(outcome.DRAINING): 1}
    assert bridge.sessions == {}
    assert [line["event"] for line in lines] == ["draining", "drain_timeout", "call_ended"]
