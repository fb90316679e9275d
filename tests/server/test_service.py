"""What all calls share: routes, slots, personalization, remembered ends, changed settings, and idleness."""

from __future__ import annotations

import asyncio
import json
import wave
from pathlib import Path

import httpx
import pytest

from bridge import outcome
from bridge.auth.tokens import CallClaims
from bridge.calls.admission import AgentLimits, CallKind, Granted, Refused, SlotRequest, Verdict, Waiting
from bridge.calls.routing import OverflowPolicy, Resolved, RoutingTable, parse_routing
from bridge.calls.rules import Overflow
from bridge.config import Configuration, Settings
from bridge.convai.messages import InitiationData
from bridge.events import CallInfo
from bridge.providers import genesys
from bridge.providers.twilio import SPEC
from bridge.server import service
from bridge.server.personalizer import Failed
from bridge.server.service import Bridge
from bridge.server.session import Session
from tests.kit import twilio
from tests.kit.legs import REQUEST
from tests.kit.offline import offline_bridge
from tests.kit.server import AUTH_TOKEN, settings_for
from tests.kit.sessions import Table

INFO = CallInfo(provider="twilio", call_sid="CA1", caller="+15550100", called="+15550199")
ROUTE = Resolved("agent_1")
PERSONAL = Resolved("agent_1", personalization=True, language="de")


class Watcher:
    def __init__(self) -> None:
        self.over: list[str] = []

    def noted(self, session: Session, event: str, detail: str) -> None:
        pass

    def call_over(self, session: Session, reason: outcome.EndReason) -> None:
        self.over.append(str(reason))


def changed(bridge: Bridge, **settings: str) -> Settings:
    """Settings like those of an offline bridge, with these changes."""
    return settings_for({"TWILIO_AUTH_TOKEN": AUTH_TOKEN, "ELEVENLABS_AGENT_ID": "agent_1", **settings})


# --- sockets and ids -------------------------------------------------------------------------------------


async def test_every_socket_has_an_id_until_its_call_has_one() -> None:
    bridge = offline_bridge()
    first, second = bridge.new_session(SPEC, REQUEST), bridge.new_session(SPEC, REQUEST)
    assert len({first.call_id, second.call_id}) == 2
    assert all(len(session.call_id) == 16 for session in (first, second))
    old = first.call_id
    bridge.rename(first, "call_of_the_webhook")
    assert (first.call_id, list(bridge.sessions)) == ("call_of_the_webhook", [second.call_id, "call_of_the_webhook"])
    assert old not in bridge.sessions
    bridge.call_over(first, outcome.NO_START)
    assert list(bridge.sessions) == [second.call_id]


async def test_what_verifiers_may_know() -> None:
    bridge = offline_bridge(PUBLIC_URL="https://b.example/eu/", TWILIO_AUTH_TOKEN="old,new")
    context = bridge.auth_context()
    assert context.public_url == "https://b.example/eu"
    assert context.secrets["twilio_auth_token"] == ("old", "new")
    assert context.unix_s > 1_700_000_000


# --- routes and slots ------------------------------------------------------------------------------------


async def test_the_webhook_knows_better_what_was_called() -> None:
    routing = parse_routing(
        {"routes": [{"number": "+15550199", "agent": "agent_a"}, {"number": "+15550142", "agent": "agent_b"}]}
    )
    bridge = offline_bridge(routing=routing)
    claims = CallClaims(caller="", called="+15550142", direction="inbound")
    assert bridge.route_for(INFO, None).agent_id == "agent_a"
    assert bridge.route_for(INFO, claims).agent_id == "agent_b"
    assert bridge.route_for(INFO, CallClaims(caller="", called="", direction="inbound")).agent_id == "agent_a"


async def test_the_carriers_address_may_name_the_agent() -> None:
    bridge = offline_bridge()
    named = CallInfo(provider="genesys", call_sid="G1", agent_id="agent_of_the_flow")
    claims = CallClaims(caller="", called="", direction="inbound", agent_id="agent_of_the_webhook")
    assert bridge.route_for(named, claims).agent_id == "agent_of_the_flow"
    assert bridge.route_for(INFO, claims).agent_id == "agent_of_the_webhook"
    assert bridge.route_for(INFO, None).agent_id == "agent_1"


@pytest.mark.parametrize(
    ("direction", "overflow", "kind", "wait"),
    [
        ("inbound", OverflowPolicy(), CallKind.INBOUND, False),
        ("outbound", OverflowPolicy(Overflow.QUEUE), CallKind.OUTBOUND, True),
        ("inbound", OverflowPolicy(Overflow.DIVERT, divert_to="+15550111"), CallKind.INBOUND, False),
    ],
)
@pytest.mark.parametrize("hold", [False, True])
async def test_what_a_slot_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    direction: str,
    overflow: OverflowPolicy,
    kind: CallKind,
    wait: bool,
    hold: bool,
) -> None:
    bridge = offline_bridge()
    asked: list[tuple[str, SlotRequest]] = []

    def asking(method: str) -> object:
        async def ask(request: SlotRequest) -> Verdict:
            asked.append((method, request))
            return Granted(is_burst=False)

        return ask

    for method in ("take", "reserve"):
        monkeypatch.setattr(bridge.admission, method, asking(method))
    limits = AgentLimits(3, 20, True)
    route = Resolved("agent_7", limits=limits, overflow=overflow)
    await bridge.take_slot("call_1", "+15550100", route, direction, hold=hold)
    wanted = SlotRequest(call_id="call_1", agent_id="agent_7", kind=kind, source="+15550100", agent=limits, wait=wait)
    assert asked == [("reserve" if hold else "take", wanted)]


async def test_a_queue_holds_who_would_else_be_refused() -> None:
    bridge = offline_bridge(BRIDGE_MAX_CALLS="1")
    assert await bridge.take_slot("call_1", "", ROUTE, "inbound") == Granted(is_burst=False)
    assert isinstance(await bridge.take_slot("call_2", "", ROUTE, "inbound"), Refused)
    queue = Resolved("agent_1", overflow=OverflowPolicy(Overflow.QUEUE))
    assert isinstance(await bridge.take_slot("call_3", "", queue, "inbound"), Waiting)


@pytest.mark.parametrize(
    ("settings", "taken", "refused"),
    [
        ({}, 1, False),
        ({"GENESYS_WHEN_FULL": "refuse"}, 0, False),
        ({"GENESYS_WHEN_FULL": "refuse"}, 1, True),
        ({"GENESYS_WHEN_FULL": "refuse", "BURST": "on"}, 1, False),
        ({"GENESYS_WHEN_FULL": "retry"}, 1, False),
        ({"GENESYS_WHEN_FULL": "refuse", "WORKSPACE_CONCURRENCY": "", "BRIDGE_MAX_CALLS": "1"}, 1, True),
    ],
)
async def test_refused_at_the_door(settings: dict[str, str], taken: int, refused: bool) -> None:
    bridge = offline_bridge({"WORKSPACE_CONCURRENCY": "1", **settings})
    for number in range(taken):
        await bridge.take_slot(f"call_{number}", "", ROUTE, "inbound")
    assert bridge.refuses_at_the_door(genesys.SPEC) is refused
    assert bridge.refuses_at_the_door(SPEC) is False, "another carrier's setting"


# --- personalization -------------------------------------------------------------------------------------


def personalized(answer: httpx.Response, **settings: str) -> tuple[Bridge, list[httpx.Request]]:
    """A bridge whose personalization webhook answers this, and what it was asked."""
    asked: list[httpx.Request] = []

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answer

    return offline_bridge(settings, answer=reply, PERSONALIZATION_URL="https://crm.example/hook"), asked


async def test_a_call_without_personalization_is_told_its_facts() -> None:
    bridge, asked = personalized(httpx.Response(200, json={}))
    data = await bridge.personalization("call", INFO, Resolved("agent_1", language="de"))
    assert isinstance(data, InitiationData)
    assert data.dynamic_variables == {"caller_id": "+15550100", "called_number": "+15550199", "call_sid": "CA1"}
    assert data.conversation_config_override == {"agent": {"language": "de"}}
    bridge.begin_personalization(INFO, ROUTE)
    assert (asked, len(bridge.parts.personalizer)) == ([], 0)


async def test_the_webhook_is_asked_once_however_often_it_is_begun() -> None:
    answer = {"type": "conversation_initiation_client_data", "dynamic_variables": {"name": "Ann"}, "user_id": "u1"}
    bridge, asked = personalized(httpx.Response(200, json=answer))
    bridge.begin_personalization(INFO, PERSONAL)
    bridge.begin_personalization(INFO, PERSONAL)
    data = await bridge.personalization("call", INFO, PERSONAL)
    assert isinstance(data, InitiationData)
    assert (data.dynamic_variables["name"], data.user_id) == ("Ann", "u1")
    assert data.conversation_config_override == {"agent": {"language": "de"}}
    [request] = asked
    assert json.loads(request.content) == {
        "caller_id": "+15550100",
        "agent_id": "agent_1",
        "called_number": "+15550199",
        "call_sid": "CA1",
    }


@pytest.mark.parametrize("policy", ["continue", "fallback"])
async def test_a_webhook_that_fails(policy: str) -> None:
    bridge, _ = personalized(httpx.Response(500), PERSONALIZATION_ON_FAILURE=policy)
    data = await bridge.personalization("call", INFO, PERSONAL)
    if policy == "fallback":
        assert isinstance(data, Failed)
        assert data.detail == "HTTP 500"
    else:
        assert isinstance(data, InitiationData)
        assert data.dynamic_variables["caller_id"] == "+15550100"


# --- ends ------------------------------------------------------------------------------------------------


async def test_the_end_of_a_call_gives_everything_back_once() -> None:
    table = await Table().connect()
    bridge, session = table.bridge, table.session
    watcher = Watcher()
    bridge.observer = watcher
    assert bridge.admission.active == 1
    waiting = asyncio.create_task(bridge.wait_idle())
    await asyncio.sleep(0)
    assert not waiting.done()
    bridge.call_over(session, outcome.AGENT_LOST)
    bridge.call_over(session, outcome.BUG)
    await waiting
    assert (bridge.admission.active, bridge.sessions) == (0, {})
    assert bridge.ended_counts == {"upstream_error/agent_lost": 1}
    assert watcher.over == ["upstream_error/agent_lost"]
    end = await bridge.shared.end_of(twilio.CALL_SID)
    assert end is not None
    assert (end.reason, dict(end.extra)) == (outcome.AGENT_LOST, {})
    assert await bridge.shared.end_of("CAother") is None


async def test_the_personalization_of_a_call_is_forgotten_with_it() -> None:
    bridge, _ = personalized(httpx.Response(200, json={"dynamic_variables": {}}), BRIDGE_AUTH="off")
    table = await Table(bridge).connect()
    assert len(bridge.parts.personalizer) == 1
    table.hang_up()
    assert len(bridge.parts.personalizer) == 0


async def test_idle_only_when_the_last_call_is_gone() -> None:
    bridge = offline_bridge()
    first, second = bridge.new_session(SPEC, REQUEST), bridge.new_session(SPEC, REQUEST)
    bridge.call_over(first, outcome.NO_START)
    waiting = asyncio.create_task(bridge.wait_idle())
    await asyncio.sleep(0)
    assert not waiting.done()
    bridge.call_over(second, outcome.NO_START)
    await waiting


async def test_the_last_end_of_a_call_counts() -> None:
    """A call may have several streams in turn."""
    bridge = offline_bridge()
    for reason in (outcome.CARRIER_LOST, outcome.AGENT_HANGUP):
        session = bridge.new_session(SPEC, REQUEST)
        session.call.carrier_message(twilio.start(), 0.0)
        bridge.call_over(session, reason)
    end = await bridge.shared.end_of(twilio.CALL_SID)
    assert end is not None
    assert end.reason is outcome.AGENT_HANGUP


@pytest.mark.parametrize(
    ("kind", "reason", "target"),
    [
        (Overflow.DIVERT, outcome.CAPACITY, "+15550111"),
        (Overflow.DIVERT, outcome.AGENT_CAPACITY, "+15550111"),
        (Overflow.DIVERT, outcome.AGENT_DAILY_LIMIT, "+15550111"),
        (Overflow.DIVERT, outcome.QUEUE_TIMEOUT, "+15550111"),
        (Overflow.DIVERT, outcome.AGENT_LOST, ""),
        (Overflow.DIVERT, outcome.CALLER_HANGUP, ""),
        (Overflow.REJECT, outcome.CAPACITY, ""),
        (Overflow.QUEUE, outcome.QUEUE_TIMEOUT, ""),
    ],
)
async def test_where_the_fallback_sends_a_caller(kind: Overflow, reason: outcome.EndReason, target: str) -> None:
    bridge = offline_bridge()
    session = bridge.new_session(SPEC, REQUEST)
    session.call.carrier_message(twilio.start(), 0.0)
    divert_to = "+15550111" if kind is Overflow.DIVERT else ""
    session.facts.route = Resolved("agent_1", overflow=OverflowPolicy(kind, divert_to=divert_to))
    session.call.ended_as = reason
    bridge.call_over(session, reason)
    end = await bridge.shared.end_of(twilio.CALL_SID)
    assert end is not None
    assert end.extra.get(service.DIVERT_TO, "") == target


async def test_calls_that_never_came_are_counted() -> None:
    bridge = offline_bridge()
    bridge.count_refusal("twilio", outcome.CAPACITY)
    bridge.count_refusal("twilio", outcome.CAPACITY)
    bridge.count_refusal("twilio", outcome.DIVERTED)
    assert bridge.ended_counts == {"server_error/capacity": 2, "success/diverted": 1}
    text = bridge.metrics.render().decode()
    assert 'bridge_calls_ended_total{provider="twilio",reason="capacity",result="server_error"} 2.0' in text


async def test_what_goes_on_after_calls_is_waited_for_with_a_bound() -> None:
    bridge = offline_bridge()
    go_on, done = asyncio.Event(), []

    async def job() -> None:
        await go_on.wait()
        done.append(True)

    task = asyncio.create_task(job())
    bridge.after(task)
    await bridge.wait_partings(0.01)
    assert not done and not task.done(), "who is late is left alone, not cancelled"
    go_on.set()
    await bridge.wait_partings(5.0)
    assert done == [True]


async def test_partings_are_waited_for_with_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "PARTING_POLL_S", 0.001)
    bridge = offline_bridge()
    bridge.parting.add(bridge.new_session(SPEC, REQUEST))
    await bridge.wait_partings(0.01)
    assert len(bridge.parting) == 1
    bridge.parting.clear()
    await bridge.wait_partings(5.0)


# --- changed settings ------------------------------------------------------------------------------------


async def test_changed_settings_hold_for_new_calls_only() -> None:
    table = await Table(offline_bridge(BRIDGE_AUTH="off", BRIDGE_MAX_CALLS="2", CALLER_BUFFER_MS="100")).activate()
    bridge, told = table.bridge, []
    before = table.session.facts.route
    bridge.on_apply.append(lambda: told.append("now"))
    fresh = changed(
        bridge,
        BRIDGE_AUTH="off",
        BRIDGE_MAX_CALLS="1",
        CALLER_BUFFER_MS="200",
        ELEVENLABS_AGENT_ID="agent_2",
        WEBHOOK_URL="https://hooks.example/x",
        WEBHOOK_SECRET="s",
        WEBHOOK_EVENTS="call.ended",
        PERSONALIZATION_URL="https://crm.example/hook",
    )
    kept = bridge.parts.agents
    bridge.apply(Configuration(fresh, RoutingTable()))
    assert told == ["now"]
    assert table.session.facts.route is before
    assert (bridge.defaults.agent_id, bridge.call_options.caller_buffer_ms) == ("agent_2", 200)
    assert bridge.admission.limits.max_calls == 1
    assert "bridge_max_calls 1.0" in bridge.metrics.render().decode()
    assert bridge.events.options.events == frozenset({"call.ended"})
    assert bridge.parts.personalizer.options.url == "https://crm.example/hook"
    assert bridge.parts.agents is not kept
    assert bridge.parts.agents.settings is bridge.parts.results.settings is fresh
    table.hang_up()
    assert bridge.ended_counts == {"success/caller_hangup": 1}


async def test_fewer_calls_than_there_are_end_none() -> None:
    bridge = offline_bridge(BRIDGE_AUTH="off", BRIDGE_MAX_CALLS="2")
    first, second = await Table(bridge).activate("CA1"), await Table(bridge).activate("CA2")
    bridge.apply(Configuration(changed(bridge, BRIDGE_AUTH="off", BRIDGE_MAX_CALLS="1"), RoutingTable()))
    assert bridge.admission.active == 2
    assert isinstance(await bridge.take_slot("call_3", "", ROUTE, "inbound"), Refused)
    first.hang_up()
    assert isinstance(await bridge.take_slot("call_3", "", ROUTE, "inbound"), Refused)
    second.hang_up()
    assert isinstance(await bridge.take_slot("call_3", "", ROUTE, "inbound"), Granted)


async def test_new_routes_are_taken() -> None:
    bridge = offline_bridge()
    routing = parse_routing({"routes": [{"number": "+15550199", "agent": "agent_b"}]})
    bridge.apply(Configuration(bridge.settings, routing))
    assert bridge.route_for(INFO, None).agent_id == "agent_b"


async def test_hold_audio_is_read_once(tmp_path: Path) -> None:
    """It takes a restart to change it, so a reload needs no file, which may be gone by then."""
    path = tmp_path / "hold.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(1600))
    bridge = offline_bridge(HOLD_AUDIO=str(path))
    audio = bridge.call_options.hold_audio
    assert audio is not None
    path.unlink()
    told: list[bool] = []
    bridge.on_apply.append(lambda: told.append(True))
    bridge.apply(Configuration(bridge.settings, RoutingTable()))
    assert bridge.call_options.hold_audio is audio
    assert told == [True]


async def test_ready_while_calls_are_taken() -> None:
    bridge = offline_bridge()
    assert "bridge_ready 1.0" in bridge.metrics.render().decode()
    bridge.admission.draining = True
    assert "bridge_ready 0.0" in bridge.metrics.render().decode()
