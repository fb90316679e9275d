"""Whole SIP calls in both directions: the strict simulated phone and trunk, a bridge with everything on, an agent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bridge.media.format import ULAW_8K, Encoding
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_scenarios import CallTools, Close, EndCall, Say, Scenario, ToolCall, Wait, WaitForCaller
from bridge.simulators.genesys_person import AnyAction, Hold
from bridge.simulators.sip_leg_options import HoldBy, Keys, Referral
from bridge.simulators.sip_phone import SipPhone, SipPhoneOptions
from bridge.simulators.sip_result import SipResult
from bridge.simulators.sip_terms import Wanted
from bridge.simulators.sip_trunk import SipTrunk, SipTrunkOptions, TrunkScript
from bridge.simulators.speech import load_clip
from bridge.simulators.twilio_line import HangUp, Interrupt, PressKey, Silence, Speak, WaitForAgentEnd, WaitForClose
from tests.kit.server import Start, until
from tests.kit.sip import CALLER, HUMAN, OURS, SipPorts, start_sip, trunked

pytestmark = pytest.mark.e2e

LISTEN = Scenario(name="listen")
GOODBYE = Scenario(name="goodbye", steps=(Say(tone_hz=1000.0, duration_ms=1210, speed=0), EndCall(), Close()))
TURNS = Scenario(
    name="turns",
    steps=(
        Say(text="Hello.", duration_ms=500),
        WaitForCaller(text="Good morning."),
        Say(text="A long story.", duration_ms=15_000),
        WaitForCaller(text="Stop, please."),
        Say(text="Good-bye.", duration_ms=600),
        EndCall(),
        Close(),
    ),
)
FRAME_BYTES = ULAW_8K.size_bytes(20)


def tools_agent(*calls: ToolCall) -> Scenario:
    """An agent that greets, calls these tools one after the other, and listens."""
    return Scenario(name="tools", steps=(Say(duration_ms=400, speed=0), *(CallTools(calls=(call,)) for call in calls)))


def pressed(keys: str, every_ms: int) -> list[AnyAction]:
    """Press keys, with pauses."""
    return [action for key in keys for action in (PressKey(digit=key), Silence(ms=every_ms))]


def share_heard(clip: str, heard: bytes) -> float:
    """How much of a clip came back unchanged, in its order: the share of its pieces of 20 ms that are heard."""
    said = load_clip(clip, ULAW_8K)
    starts = range(0, len(said) - FRAME_BYTES, FRAME_BYTES)
    place = found = 0
    for start in starts:
        at = heard.find(said[start : start + FRAME_BYTES], place)
        if at >= 0:
            found, place = found + 1, at
    return found / len(starts)


def loud_ms(heard: bytes) -> int:
    """How long something was to be heard, in frames of 20 ms."""
    silent = b"\xff" * FRAME_BYTES
    return 20 * sum(
        heard[start : start + FRAME_BYTES] not in (silent, b"\x7f" * FRAME_BYTES)
        for start in range(0, len(heard) - FRAME_BYTES, FRAME_BYTES)
    )


def assert_clean(result: SipResult, by: str = "caller") -> None:
    """An answered call that went well in every respect."""
    assert [str(violation) for violation in result.violations] == [], result.trace
    assert (result.status, result.ended_by) == (200, by), result.to_text()
    assert (result.rtp.lost, result.rtp.duplicates, result.rtp.sources) == (0, 0, 1), result.to_text()


# --- calls to the bridge ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transport", "codec"), [("udp", Encoding.ULAW), ("udp", Encoding.ALAW), ("tcp", Encoding.ULAW)]
)
async def test_what_the_caller_says_comes_back_from_an_echo(start: Start, transport: str, codec: Encoding) -> None:
    bridge = await start_sip(start)
    actions = (Silence(ms=400), Speak(clip="caller_question"), Silence(ms=1500), HangUp())
    result = await bridge.dial(*actions, transport=transport, wanted=Wanted(codecs=(codec,)))
    assert_clean(result)
    assert result.encoding == codec.value
    assert result.statuses[-2:] == [180, 200], "it rings while the agent connects"
    assert result.rtp.longest_gap_ms < 200, "the figure for a quiet machine is the bench's"
    if codec is Encoding.ULAW:
        assert share_heard("caller_question", bytes(result.heard)) > 0.9
    assert await bridge.ended() == ["success/caller_hangup"]


async def test_a_conversation_with_a_barge_in(start: Start) -> None:
    bridge = await start_sip(start, TURNS)
    caller = (WaitForAgentEnd(), Speak(clip="caller_thanks"), Interrupt(clip="caller_thanks"), WaitForClose())
    result = await bridge.dial(*caller)
    assert_clean(result, "bridge")
    assert len(result.utterances_ms) == 3
    log = await bridge.at.agent.wait_ended()
    assert (log.violations, log.closed_by, len(log.interruptions)) == ([], "agent", 1)


async def test_every_millisecond_of_the_goodbye_is_heard(start: Start) -> None:
    bridge = await start_sip(start, GOODBYE)
    result = await bridge.dial(WaitForClose())
    assert_clean(result, "bridge")
    assert loud_ms(bytes(result.heard)) == pytest.approx(1210, abs=40)


@pytest.mark.parametrize("keys", [Keys.EVENTS, Keys.INFO])
async def test_keys_reach_the_record(start: Start, keys: Keys) -> None:
    bridge = await start_sip(start, LISTEN)
    result = await bridge.dial(Silence(ms=300), *pressed("4#0*", 350), HangUp(), keys=keys)
    assert_clean(result)
    await bridge.ended()
    [record] = await bridge.at.records()
    assert [key.digit for key in record.journal.digits] == ["4", "#", "0", "*"]
    assert "4#0*" not in str(bridge.at.lines)


async def test_keys_as_tones_where_they_are_looked_for(start: Start) -> None:
    trunk: dict[str, Any] = {"BRIDGE_AUTH": "on", "SIP_ALLOWED_ADDRESSES": "127.0.0.0/8", "SIP_INBAND_DTMF": "on"}
    bridge = await start_sip(start, LISTEN, **trunk)
    result = await bridge.dial(
        Silence(ms=300), *pressed("42#", 500), HangUp(), keys=Keys.TONES, wanted=Wanted(event_type=None)
    )
    assert_clean(result)
    await bridge.ended()
    [record] = await bridge.at.records()
    assert [key.digit for key in record.journal.digits] == ["4", "2", "#"]


@pytest.mark.parametrize("events", [101, 96, None])
async def test_keys_of_the_agent_reach_the_caller(start: Start, events: int | None) -> None:
    tool = ToolCall(tool_name="play_keypad_touch_tone", parameters={"dtmf_tones": "42w#", "reason": "menu"})
    bridge = await start_sip(start, tools_agent(tool))
    result = await bridge.dial(Silence(ms=4000), HangUp(), wanted=Wanted(event_type=events))
    assert_clean(result)
    assert (result.digits or result.heard_digits()) == "42#"


@pytest.mark.parametrize("hold", list(HoldBy))
async def test_hold_and_resume(start: Start, hold: HoldBy) -> None:
    bridge = await start_sip(start, SIP_RTP_TIMEOUT_S="1")
    actions = (Silence(ms=500), Hold(ms=2000), Silence(ms=300), Speak(clip="caller_thanks"), Silence(ms=3500), HangUp())
    result = await bridge.dial(*actions, hold=hold)
    assert_clean(result)
    assert (result.holds, result.rtp.held_received) == (1, 0)
    assert share_heard("caller_thanks", bytes(result.heard)) > 0.8, "both directions are open again"
    assert await bridge.ended() == ["success/caller_hangup"], "no audio is no fault while on hold"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_delayed_offer(start: Start, transport: str) -> None:
    bridge = await start_sip(start)
    actions = (Silence(ms=300), Speak(clip="caller_thanks"), Silence(ms=1200), HangUp())
    result = await bridge.dial(*actions, is_delayed_offer=True, transport=transport)
    assert_clean(result)
    assert share_heard("caller_thanks", bytes(result.heard)) > 0.8


async def test_a_caller_who_wants_reliable_ringing(start: Start) -> None:
    bridge = await start_sip(start, options=AgentOptions(scenario="echo", upgrade_delay_s=0.5))
    result = await bridge.dial(Silence(ms=500), HangUp(), requires_100rel=True)
    assert_clean(result)
    assert "PRACK" in result.trace


async def test_a_route_set_is_followed(start: Start) -> None:
    bridge = await start_sip(start, GOODBYE)
    phone = SipPhone(
        SipPhoneOptions(to=bridge.ports.uri(), caller=CALLER, actions=(WaitForClose(),), max_duration_s=20.0)
    )
    await phone.open()
    host, port = phone.party.wire.address
    await phone.close()
    routes = (f"<sip:{host}:{port};lr;hop=2>", f"<sip:{host}:{port};lr;hop=1>")
    result = await bridge.dial(WaitForClose(), record_routes=routes, local_port=port)
    assert_clean(result, "bridge")


@pytest.mark.parametrize("after_ms", [0.0, 300.0, 800.0])
async def test_cancel_while_the_agent_connects(start: Start, after_ms: float) -> None:
    bridge = await start_sip(start, options=AgentOptions(scenario="echo", upgrade_delay_s=3.0))
    result = await bridge.dial(cancel_after_ms=after_ms)
    assert [str(violation) for violation in result.violations] == []
    assert (result.status, result.ended_by) == (487, "caller")
    await until(lambda: bridge.at.logged("call_ended"), "the bridge goes on")
    assert bridge.at.active == 0


@pytest.mark.parametrize("after_ms", [20.0, 60.0, 100.0, 140.0])
async def test_cancel_crosses_the_answer(start: Start, after_ms: float) -> None:
    bridge = await start_sip(start)
    result = await bridge.dial(WaitForClose(), cancel_after_ms=after_ms, max_duration_s=5.0)
    assert [str(violation) for violation in result.violations] == []
    assert result.status in (200, 487)
    await until(lambda: not bridge.at.bridge.sessions, "a call is left")


async def test_an_agent_that_refuses_after_it_rang(start: Start) -> None:
    bridge = await start_sip(start, "refuse_503")
    result = await bridge.dial()
    assert [str(violation) for violation in result.violations] == []
    assert result.status // 100 == 5, result.to_text()


async def test_no_room(start: Start) -> None:
    bridge = await start_sip(start, BRIDGE_MAX_CALLS="1")
    first = asyncio.create_task(bridge.dial(Silence(ms=2500), HangUp()))
    await until(lambda: bridge.at.active == 1)
    refused = await bridge.dial()
    assert refused.status in (486, 503)
    assert [str(violation) for violation in refused.violations] == []
    assert_clean(await first)
    assert_clean(await bridge.dial(Silence(ms=200), HangUp()))


async def test_no_rtp_ports_left_and_then_again(start: Start) -> None:
    bridge = await start_sip(start, rtp_ports=4)
    held = [asyncio.create_task(bridge.dial(Silence(ms=2500), HangUp())) for _ in range(2)]
    await until(lambda: bridge.at.active == 2)
    refused = await bridge.dial()
    assert refused.status == 503
    for call in held:
        assert_clean(await call)


async def test_digest_authentication(start: Start) -> None:
    settings: dict[str, Any] = {"BRIDGE_AUTH": "on", "SIP_USERNAME": "trunk", "SIP_PASSWORD": "secret"}
    bridge = await start_sip(start, **settings)
    result = await bridge.dial(Silence(ms=500), HangUp(), username="trunk", password="secret")
    assert_clean(result)
    assert result.challenges == 1
    for username, password in (("trunk", "wrong"), ("", "")):
        refused = await bridge.dial(username=username, password=password)
        assert refused.status in (401, 403)
        assert bridge.at.active == 0
    assert "secret" not in str(bridge.at.lines)


async def test_strangers_are_refused(start: Start) -> None:
    bridge = await start_sip(start, BRIDGE_AUTH="on", SIP_ALLOWED_ADDRESSES="192.0.2.0/24")
    result = await bridge.dial()
    assert (result.status, bridge.at.active) == (403, 0)


async def test_options_tell_whether_there_is_room(start: Start) -> None:
    bridge = await start_sip(start)
    phone = SipPhone(SipPhoneOptions(to=bridge.ports.uri()))
    await phone.open()
    response = await phone.ping()
    await phone.close()
    assert response is not None
    assert response.status == 200
    assert "INVITE" in (response.headers.get("Allow") or "")
    assert phone.notes.violations == []


async def test_a_lost_ack_ends_the_call_by_bye(start: Start) -> None:
    bridge = await start_sip(start)
    result = await bridge.dial(WaitForClose(), acks=False, max_duration_s=45.0)
    assert result.ended_by == "bridge", "after 32 s (RFC 3261 section 13.3.1.4)"
    assert result.retransmissions >= 9


async def test_headers_become_variables(start: Start) -> None:
    bridge = await start_sip(start)
    headers = {"X-CALL-ID": "ticket-7", "x-contact-id": "c42", "X-CALLER-ID": "+4930999999"}
    assert_clean(await bridge.dial(Silence(ms=400), HangUp(), headers=headers))
    log = await bridge.at.agent.wait_ended()
    variables = log.initiation.get("dynamic_variables", {}) if log.initiation else {}
    assert variables.get("sip_contact_id") == "c42", variables


# --- calls of the bridge ---------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_placed_call_is_talked_on(start: Start, transport: str) -> None:
    people = {HUMAN: TrunkScript(actions=(Silence(ms=300), Speak(clip="caller_thanks"), Silence(ms=1200), HangUp()))}
    async with trunked(start, people=people, transport=transport) as at:
        answer = await at.bridge.place()
        assert answer.status_code == 201, answer.text
        result = await at.trunk.ended(await at.trunk.next_call())
        assert_clean(result)
        assert share_heard("caller_thanks", bytes(result.heard)) > 0.8
        assert OURS in result.invite["From"]
        assert await at.bridge.ended() == ["success/caller_hangup"]


@pytest.mark.parametrize(
    ("status", "reason"), [(486, "busy"), (600, "busy"), (480, "no-answer"), (404, "unknown"), (503, "unknown")]
)
async def test_a_placed_call_that_is_refused(start: Start, status: int, reason: str) -> None:
    async with trunked(start, people={HUMAN: TrunkScript(status=status)}) as at:
        assert (await at.bridge.place()).status_code == 201
        result = await at.trunk.ended(await at.trunk.next_call())
        assert result.ended_by == "refused"
        await until(lambda: at.bridge.at.active == 0, "the slot is taken for ever")


async def test_nobody_answers(start: Start) -> None:
    async with trunked(start, people={HUMAN: TrunkScript(status=0)}) as at:
        assert (await at.bridge.place(ring_timeout_s=1)).status_code == 201
        result = await at.trunk.ended(await at.trunk.next_call())
        assert (result.ended_by, result.status) == ("bridge", 487)
        await until(lambda: at.bridge.at.active == 0)


@pytest.mark.parametrize("is_reliable", [False, True])
async def test_early_media_is_not_talked_into(start: Start, is_reliable: bool) -> None:
    script = TrunkScript(
        provisional=(183,), is_reliable=is_reliable, ring_ms=1500.0, actions=(Silence(ms=1500), HangUp())
    )
    async with trunked(start, GOODBYE, people={HUMAN: script}) as at:
        assert (await at.bridge.place()).status_code == 201
        call = await at.trunk.next_call()
        await asyncio.sleep(1.0)
        assert not call.is_final
        assert at.bridge.at.logged("agent_ready") == [] or call.result.rtp.early_received == 0
        result = await at.trunk.ended(call)
        assert (result.status, result.violations) == (200, ())
        heard_ms = loud_ms(bytes(result.heard))
        assert heard_ms == pytest.approx(1210, abs=60), "the greeting waited for the answer"


@pytest.mark.parametrize("challenge", [401, 407])
async def test_the_trunk_asks_for_credentials(start: Start, challenge: int) -> None:
    script = TrunkScript(username="bridge", password="secret", challenge=challenge, actions=(Silence(ms=500), HangUp()))
    credentials: dict[str, Any] = {"SIP_OUTBOUND_USERNAME": "bridge", "SIP_OUTBOUND_PASSWORD": "secret"}
    async with trunked(start, people={HUMAN: script}, **credentials) as at:
        assert (await at.bridge.place()).status_code == 201
        result = await at.trunk.ended(await at.trunk.next_call())
        assert_clean(result)
        assert result.challenges == 1


async def test_a_redirection_elsewhere_leaves_nothing_behind(start: Start) -> None:
    hangs_up = TrunkScript(actions=(Silence(ms=300), HangUp()))
    async with SipTrunk(SipTrunkOptions(default=hangs_up)) as other:
        moved = (("Contact", f"<sip:+4930777777@{other.address}>"),)
        people = {HUMAN: TrunkScript(status=302, fields=moved)}
        async with trunked(start, people=people) as at:
            assert (await at.bridge.place()).status_code == 201
            result = await at.trunk.ended(await at.trunk.next_call())
            assert (result.status, result.ended_by) == (302, "refused")
            await until(lambda: at.bridge.at.active == 0, "neither followed nor given up")


async def test_a_redirection_to_the_trunk_itself_is_followed(start: Start) -> None:
    ports = SipPorts.free()
    moved = (("Contact", f"<sip:+4930777777@127.0.0.1:{ports.signalling}>"),)
    people = {
        HUMAN: TrunkScript(status=302, fields=moved),
        "+4930777777": TrunkScript(actions=(Silence(ms=500), HangUp())),
    }
    async with SipTrunk(SipTrunkOptions(port=ports.signalling, people=people)) as trunk:
        async with trunked(start, SIP_OUTBOUND_ADDRESS=trunk.address) as at:
            assert (await at.bridge.place()).status_code == 201
            result = await trunk.ended(await trunk.next_call(2))
            assert (result.number, result.status, result.ended_by) == ("+4930777777", 200, "caller")
        assert trunk.violations == ()


@pytest.mark.parametrize("progress", [(100, 180, 200), (200,), ()])
async def test_a_transfer_by_refer(start: Start, progress: tuple[int, ...]) -> None:
    tool = ToolCall(
        tool_name="transfer_to_number",
        parameters={"transfer_number": HUMAN, "transfer_type": "sip_refer", "reason": "wants a person"},
    )
    bridge = await start_sip(start, tools_agent(tool), TRANSFER_ALLOW="+4930*")
    result = await bridge.dial(WaitForClose(), referral=Referral(progress=progress))
    assert [str(violation) for violation in result.violations] == [], result.trace
    assert len(result.referred_to) == 1
    assert HUMAN in result.referred_to[0]
    assert result.ended_by in ("transferred", "bridge")


async def test_a_transfer_that_fails_brings_the_agent_back(start: Start) -> None:
    tool = ToolCall(
        tool_name="transfer_to_number",
        parameters={"transfer_number": HUMAN, "transfer_type": "sip_refer", "reason": "wants a person"},
    )
    steps = (*tools_agent(tool).steps, Wait(ms=1000), *GOODBYE.steps)
    bridge = await start_sip(start, Scenario(name="back", steps=steps), TRANSFER_ALLOW="+4930*")
    result = await bridge.dial(WaitForClose(), referral=Referral(progress=(100, 486)))
    assert_clean(result, "bridge")
    assert len(result.utterances_ms) >= 2, "the agent went on speaking"
