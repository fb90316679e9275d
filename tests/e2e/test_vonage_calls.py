"""Whole Vonage calls: the strict simulated Vonage, a bridge with everything on, an agent."""

from __future__ import annotations

import pytest

from bridge.media.format import Encoding, MediaFormat
from bridge.media.g711 import ulaw_to_pcm
from bridge.media.tones import DtmfDetector, dominant_frequencies
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_scenarios import CallTools, Close, EndCall, Say, Scenario, ToolCall, WaitForCaller
from bridge.simulators.twilio_line import HangUp, Interrupt, PressKey, Silence, Speak, WaitForAgentEnd, WaitForClose
from bridge.simulators.twilio_person import Answer, PersonScript, PressWhenAsked, WaitUntilJoined
from bridge.simulators.vonage_line import Inject
from bridge.simulators.vonage_signer import Forgery
from bridge.simulators.vonage_wire import RATES_HZ
from tests.kit.server import Start, until
from tests.kit.vonage_calls import APPLICATION, HUMAN, OPEN, SECRET, dial, wired

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


def wideband(scenario: Scenario) -> AgentOptions:
    """An agent as Vonage's users have it."""
    return AgentOptions(scenario=scenario, input_format="pcm_16000", output_format="pcm_16000")


def tools_agent(*calls: ToolCall) -> Scenario:
    """An agent that greets, calls these tools one after the other, and listens."""
    return Scenario(name="tools", steps=(Say(duration_ms=400, speed=0), *(CallTools(calls=(call,)) for call in calls)))


# --- the media socket ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", RATES_HZ)
async def test_a_conversation_with_a_barge_in_at_every_rate(start: Start, rate_hz: int) -> None:
    at = await start(options=wideband(TURNS), **OPEN)
    caller = (WaitForAgentEnd(), Speak(clip="caller_thanks"), Interrupt(clip="caller_thanks"), WaitForClose())
    result = await dial(at, *caller, rate_hz=rate_hz)
    assert (result.ended_by, result.close_code, result.violations) == ("bridge", 1000, []), result.to_text()
    assert (result.clear_count, result.unplayed_ms, result.long_gaps) == (1, 0, 0), result.to_text()
    assert 100 < result.cleared_ms <= 420, "no more than the lead waited to be played"
    assert len(result.notifies_echoed) >= 2
    assert len(result.utterances_ms) == 3
    log = await at.agent.wait_ended()
    assert (log.violations, log.closed_by, len(log.interruptions)) == ([], "agent", 1)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
async def test_every_millisecond_of_the_goodbye_is_heard_in_frames_of_20_ms(start: Start, rate_hz: int) -> None:
    at = await start(options=wideband(GOODBYE), **OPEN)
    result = await dial(at, rate_hz=rate_hz)
    assert (result.ended_by, result.violations, result.unplayed_ms, result.gaps) == ("bridge", [], 0, [])
    assert result.frames_received == 61, "1210 ms, the last frame filled up"
    media = MediaFormat(Encoding.L16, rate_hz)
    began = media.size_bytes(result.utterances_ms[0] + 20)
    piece = bytes(result.heard_pcm[began : began + media.size_bytes(1000)])
    [peak] = dominant_frequencies(piece, rate_hz)
    assert peak.frequency_hz == pytest.approx(1000, abs=3)


@pytest.mark.parametrize("nested", [False, True])
async def test_keys_are_told_to_the_agent_and_faults_are_let_pass(start: Start, nested: bool) -> None:
    at = await start(options=wideband(LISTEN), **OPEN)
    faults = (
        Inject(100, '{"event":"websocket:media:update","anything":1}'),
        Inject(200, b'{"event":"websocket:dtmf","digit":"9"}'),
        Inject(300, bytes(639)),
        Inject(300, bytes(1)),
        Inject(400, '{"event":"websocket:notify","payload":"x"}'),
        Inject(400, '{"no":"event"}'),
    )
    keys = (Silence(ms=600), PressKey(digit="4"), Silence(ms=100), PressKey(digit="#"), Silence(ms=500), HangUp())
    result = await dial(at, *keys, nested_dtmf=nested, injections=faults)
    assert (result.ended_by, result.violations) == ("caller", [])
    log = await at.agent.wait_ended()
    assert log.violations == []
    await until(lambda: at.logged("call_ended"))
    assert [line["reason"] for line in at.logged("call_ended")] == ["caller_hangup"]
    [record] = await at.records()
    assert [key.digit for key in record.journal.digits] == ["4", "#"]


@pytest.mark.parametrize(
    ("injection", "reason"),
    [
        (Inject(100, "no json"), "bad_message"),
        (Inject(100, '{"event":"websocket:connected","content-type":"audio/l16;rate=16000"}'), "bad_message"),
    ],
)
async def test_what_the_bridge_will_not_have(start: Start, injection: Inject, reason: str) -> None:
    at = await start(options=wideband(LISTEN), **OPEN)
    result = await dial(at, injections=(injection,))
    assert (result.ended_by, result.violations) == ("bridge", [])
    await until(lambda: at.logged("call_ended"))
    assert [line["reason"] for line in at.logged("call_ended")] == [reason]


async def test_audio_without_a_first_message(start: Start) -> None:
    at = await start(options=wideband(LISTEN), **OPEN)
    result = await dial(at, say_connected=False)
    assert result.ended_by == "bridge"


@pytest.mark.parametrize(
    "forgery", [item for item in Forgery if item not in (Forgery.NONE, Forgery.REPLAY, Forgery.WRONG_HASH)]
)
async def test_a_forged_upgrade_is_refused(start: Start, forgery: Forgery) -> None:
    at = await start(options=wideband(LISTEN), VONAGE_SIGNATURE_SECRET=SECRET, VONAGE_APPLICATION_ID=APPLICATION)
    result = await dial(at, secret=SECRET, application_id=APPLICATION, forgery=forgery)
    assert (result.ended_by, result.http_status) == ("refused", 401)


async def test_a_signed_upgrade_needs_a_token_and_works_once(start: Start) -> None:
    at = await start(options=wideband(LISTEN), VONAGE_SIGNATURE_SECRET=SECRET, VONAGE_APPLICATION_ID=APPLICATION)
    result = await dial(at, secret=SECRET, application_id=APPLICATION, forgery=Forgery.REPLAY)
    assert result.ended_by == "bridge", "let in by its signature, and without a one-time token no call"
    result = await dial(at, secret=SECRET, application_id=APPLICATION, forgery=Forgery.REPLAY)
    assert (result.ended_by, result.http_status) == ("refused", 401)


# --- over the answer webhook ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_call_over_the_answer_webhook(start: Start, method: str) -> None:
    async with wired(start, TURNS) as at:
        leg = at.call(WaitForAgentEnd(), Speak(clip="caller_thanks"), Interrupt(clip="caller_thanks"), method=method)
        await at.cloud.wait_ended(leg, 30)
        media = await at.cloud.wait_for_media()
        assert at.cloud.violations == [], at.cloud.timeline
        assert (media.ended_by, leg.ended_by) == ("connect", "rest"), "hung up on, so that no fallback is asked for"
        assert media.socket is not None
        assert (len(media.socket.clears), media.socket.playout.long_gaps) == (1, 0)
        assert [record.status for record in at.cloud.webhooks if record.status not in (200, 204)] == []


async def test_no_forged_answer_webhook_is_answered(start: Start) -> None:
    async with wired(start, LISTEN, cloud={"forgery": Forgery.OTHER_KEY}) as at:
        leg = at.call()
        await at.cloud.wait_ended(leg)
        assert {record.status for record in at.cloud.webhooks if record.path == "/vonage/answer"} <= {401, 403}
        assert at.cloud.media_leg() is None


async def test_keys_of_the_agent_are_heard_by_the_caller(start: Start) -> None:
    tool = ToolCall(tool_name="play_keypad_touch_tone", parameters={"dtmf_tones": "42w#", "reason": "menu"})
    async with wired(start, tools_agent(tool)) as at:
        leg = at.call(Silence(ms=3000), HangUp())
        await at.cloud.wait_ended(leg, 15)
        assert at.cloud.violations == []
        assert ("PUT", f"/v1/calls/{leg.uuid}/dtmf", 200) in at.cloud.rest_requests
        detector = DtmfDetector(8000)
        hits = [*detector.process(ulaw_to_pcm(bytes(leg.heard))), *detector.flush()]
        assert "".join(hit.digit for hit in hits) == "42#"


async def test_a_blind_transfer(start: Start) -> None:
    tool = ToolCall(
        tool_name="transfer_to_number",
        parameters={"transfer_number": f"+{HUMAN}", "transfer_type": "blind", "reason": "wants a person"},
    )
    people = {HUMAN: PersonScript(actions=(Silence(ms=1500), HangUp()))}
    async with wired(start, tools_agent(tool), cloud={"people": people}, TRANSFER_ALLOW="+1555*") as at:
        leg = at.call()
        human = await at.cloud.wait_for_call_to(HUMAN)
        await at.cloud.wait_ended(human)
        await at.cloud.wait_ended(leg)
        assert at.cloud.violations == [], at.cloud.timeline
        assert human.answered.is_set()


async def test_a_blind_transfer_that_fails_brings_the_agent_back(start: Start) -> None:
    tool = ToolCall(
        tool_name="transfer_to_number",
        parameters={"transfer_number": f"+{HUMAN}", "transfer_type": "blind", "reason": "wants a person"},
    )
    people = {HUMAN: PersonScript(answer=Answer.BUSY)}
    async with wired(start, tools_agent(tool), cloud={"people": people}, TRANSFER_ALLOW="+1555*") as at:
        leg = at.call(Silence(ms=6000), HangUp())
        human = await at.cloud.wait_for_call_to(HUMAN)
        await at.cloud.wait_ended(human)
        await at.cloud.wait_until(lambda: sum(leg.socket is not None for leg in at.cloud.calls) == 2)
        await at.cloud.wait_ended(leg)
        assert at.cloud.violations == [], at.cloud.timeline


@pytest.mark.parametrize("topology", ["direct", "conversation"])
async def test_a_warm_transfer_to_a_human_who_presses_the_key(start: Start, topology: str) -> None:
    tool = ToolCall(
        tool_name="transfer_to_number",
        parameters={
            "transfer_number": f"+{HUMAN}",
            "transfer_type": "conference",
            "reason": "wants a person",
            "agent_message": "A caller for you.",
        },
    )
    human = PersonScript(actions=(PressWhenAsked(digits="1"), WaitUntilJoined(), Silence(ms=1500), HangUp()))
    settings = {"TRANSFER_ALLOW": "+1555*", "VONAGE_TOPOLOGY": topology}
    async with wired(start, tools_agent(tool), cloud={"people": {HUMAN: human}}, **settings) as at:
        leg = at.call()
        called = await at.cloud.wait_for_call_to(HUMAN)
        await at.cloud.wait_until(lambda: called.conversation is leg.conversation)
        media = await at.cloud.wait_for_media()
        await at.cloud.wait_ended(called)
        await at.cloud.wait_ended(leg)
        assert media.over
        assert at.cloud.violations == [], at.cloud.timeline


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_call_that_meets_the_bridge_in_a_conversation(start: Start, method: str) -> None:
    async with wired(start, GOODBYE, VONAGE_TOPOLOGY="conversation") as at:
        leg = at.call(method=method)
        await at.cloud.wait_ended(leg, 15)
        assert at.cloud.violations == [], at.cloud.timeline
        media = await at.cloud.wait_for_media()
        assert media.parent is None, "a leg of its own"
        assert media.over
