"""Whole call flows in the simulated Twilio cloud, against a fake bridge with TwiML of its own."""

from __future__ import annotations

import asyncio
import io
import json
import wave
from pathlib import Path
from typing import Any

import pytest
from twilio.request_validator import RequestValidator

from bridge.media.tones import tone
from bridge.simulators.twilio_cloud import CloudRun, TwilioCloud, run_cloud
from bridge.simulators.twilio_cloud_calls import CallOrder
from bridge.simulators.twilio_cloud_media import MUSIC_HZ, RING_HZ, SAY_HZ
from bridge.simulators.twilio_cloud_options import CloudOptions
from bridge.simulators.twilio_exchange import MachineDetection
from bridge.simulators.twilio_leg import CallStatus
from bridge.simulators.twilio_line import HangUp, LoseAudio, PressKey, Silence, Speak
from bridge.simulators.twilio_person import Answer, PersonScript, PressWhenAsked, WaitUntilJoined
from bridge.simulators.twilio_status import CALL_EVENTS, CallbackTarget
from bridge.simulators.twilio_step import Source
from tests.simulators.twilio_bridge import AGENT_HZ, CALLER, HUMAN, OURS, TOKEN, both, fake_bridge, has_pitch, keys_in

pytestmark = pytest.mark.e2e

QUICK = PersonScript(answer_after_ms=20)
TALKER = PersonScript(answer_after_ms=20, actions=(WaitUntilJoined(), PressKey(digit="7"), Silence(ms=400)))
"""Presses a key once somebody else is there: its tone tells who hears them."""


# --- calls that come in ----------------------------------------------------------------------------------


async def test_an_incoming_call_is_answered_streamed_and_ended_by_the_caller() -> None:
    script = PersonScript(actions=(Silence(ms=100), PressKey(digit="5"), Silence(ms=200), HangUp()))
    async with both() as (cloud, bridge):
        bridge.answers["/voice"] = bridge.connect(
            "<Redirect>/fallback</Redirect>", statusCallback=bridge.url("/status")
        )
        leg = cloud.incoming(CALLER, OURS, bridge.url("/voice"), script, status_url=bridge.url("/status"))
        await cloud.wait_ended(leg)
        await cloud.wait_for_webhook("/status", CallStatus="completed")
        await cloud.wait_for_webhook("/status", StreamEvent="stream-stopped")
    [voice] = bridge.of("/voice")
    assert (voice["CallStatus"], voice["Direction"], voice["From"], voice["CallerCity"]) == (
        "ringing",
        "inbound",
        CALLER,
        "",
    )
    assert bridge.events(0)[:2] == ["connected", "start"] and bridge.events(0)[-1] == "stop"
    assert bridge.events(0).count("dtmf") == 1
    assert has_pitch(leg.heard, AGENT_HZ)
    assert (leg.status, leg.ended_by, cloud.violations) == (CallStatus.COMPLETED, "person", [])
    [end] = [form for form in bridge.of("/status") if form.get("CallStatus") == "completed"]
    assert (end["SequenceNumber"], end["CallbackSource"], end["SipResponseCode"]) == (
        "0",
        "call-progress-events",
        "200",
    )
    assert int(end["CallDuration"]) == 1 and end["Timestamp"].endswith("-0000")
    assert "/fallback" not in [asked.path for asked in bridge.asked]
    assert [form["StreamEvent"] for form in bridge.of("/status") if "StreamEvent" in form] == [
        "stream-started",
        "stream-stopped",
    ]


async def test_everything_that_comes_from_the_cloud_is_signed_as_the_sdk_expects() -> None:
    async with both() as (cloud, bridge):
        bridge.answers["/voice"] = bridge.connect()
        leg = cloud.incoming(CALLER, OURS, bridge.url("/voice?x=1#rt=5000"), PersonScript(hang_up_after_ms=60))
        await cloud.wait_ended(leg)
    validator = RequestValidator(TOKEN)
    [asked] = bridge.asked
    assert asked.target == "/voice?x=1"
    assert validator.validate(bridge.url("/voice?x=1"), asked.form, asked.headers["x-twilio-signature"])
    assert len(asked.headers["i-twilio-idempotency-token"]) == 32
    signature = bridge.upgrades[0].headers["X-Twilio-Signature"]
    assert validator.compute_signature(bridge.media_url, {}) == signature


async def test_a_shared_key_signs_webhooks_and_the_auth_token_the_upgrade() -> None:
    async with both(shared_key=("SK1", "secret")) as (cloud, bridge):
        bridge.answers["/voice"] = bridge.connect()
        await cloud.wait_ended(cloud.incoming(CALLER, OURS, bridge.url("/voice"), PersonScript(hang_up_after_ms=60)))
    headers = bridge.asked[0].headers
    assert headers["x-twilio-webhooks-signature-settings"] == "key=SK1,algorithm=HMAC_SHA256"
    assert headers["x-twilio-signature"] != RequestValidator(TOKEN).compute_signature(
        bridge.url("/voice"), bridge.asked[0].form
    )
    upgrade = bridge.upgrades[0].headers["X-Twilio-Signature"]
    assert upgrade == RequestValidator(TOKEN).compute_signature(bridge.media_url, {})


async def test_a_stream_that_the_bridge_closes_goes_on_with_the_action_or_the_next_verb() -> None:
    async with both() as (cloud, bridge):
        bridge.answers["/voice"] = bridge.connect("<Redirect method='GET'>/after?y=2</Redirect>")
        bridge.answers["/after"] = "<Response><Say>Goodbye.</Say></Response>"
        leg = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        await cloud.wait_until(lambda: bridge.sockets)
        await bridge.sockets[0].close(1000)
        await cloud.wait_ended(leg)
    assert [asked.method for asked in bridge.asked] == ["POST", "GET"]
    assert bridge.of("/after")[0]["CallStatus"] == "in-progress"
    assert RequestValidator(TOKEN).validate(
        bridge.url(bridge.asked[1].target), {}, bridge.asked[1].headers["x-twilio-signature"]
    )
    assert (leg.words, leg.ended_by) == (["Goodbye."], "twiml")
    assert has_pitch(leg.heard, SAY_HZ, at_least_ms=60)


async def test_wrong_messages_and_refused_sockets_are_violations() -> None:
    async with both() as (cloud, bridge):
        bridge.answers["/voice"] = bridge.connect()
        leg = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        await cloud.wait_until(lambda: bridge.sockets)
        await bridge.sockets[0].send(json.dumps({"event": "stop"}))
        await bridge.sockets[0].send(b"\x00")
        await bridge.sockets[0].close()
        await cloud.wait_ended(leg)
        assert [violation.code for violation in leg.violations] == [31951, 31950]
        nowhere = f'<Stream url="ws://127.0.0.1:{bridge.port}/no" statusCallback="/s"/>'
        bridge.answers["/voice"] = f"<Response><Connect>{nowhere}</Connect></Response>"
        leg = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        await cloud.wait_ended(leg)
        await cloud.wait_for_webhook("/s", StreamEvent="stream-error")
    assert leg.violations[0].code == 31920
    assert bridge.of("/s")[0]["StreamError"] == "31920: upgrade was answered with 200"


@pytest.mark.parametrize(("reason", "status", "sip"), [("reason='busy'", "busy", "486"), ("", "no-answer", "603")])
async def test_a_rejected_call_is_never_answered(reason: str, status: str, sip: str) -> None:
    async with both() as (cloud, bridge):
        bridge.answers["/voice"] = f"<Response><Reject {reason}/></Response>"
        leg = cloud.incoming(CALLER, OURS, bridge.url("/voice"), status_url=bridge.url("/status"))
        await cloud.wait_ended(leg)
        await cloud.wait_for_webhook("/status", CallStatus=status, SipResponseCode=sip, CallDuration="0")
    assert not leg.answered.is_set() and leg.verbs[0].startswith("Reject")


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (None, (200, "text/xml"), 11200),
        ("no", (500, "text/plain"), 11200),
        ("{}", (200, "application/json"), 12300),
        ("<Response", (200, "text/xml"), 12100),
    ],
)
async def test_a_document_that_cannot_be_had_goes_to_the_fallback(
    answer: str | None, kind: tuple[int, str], code: int
) -> None:
    async with both() as (cloud, bridge):
        bridge.answers["/voice"], bridge.kinds["/voice"] = answer, kind
        bridge.answers["/sorry"] = "<Response><Say>Sorry.</Say></Response>"
        url = bridge.url("/voice")
        leg = cloud.incoming(CALLER, OURS, url, fallback_url=bridge.url("/sorry"))
        await cloud.wait_ended(leg)
        assert (bridge.of("/sorry")[0]["ErrorCode"], bridge.of("/sorry")[0]["ErrorUrl"]) == (str(code), url)
        assert (leg.words, [violation.code for violation in leg.violations]) == (["Sorry."], [code])
        leg = cloud.incoming(CALLER, OURS, url)
        await cloud.wait_ended(leg)
    assert (leg.status, leg.verbs) == (CallStatus.CANCELED, [])
    retried = [asked.headers["i-twilio-idempotency-token"] for asked in bridge.asked if asked.path == "/voice"]
    assert len(retried) == (4 if answer is None else 2) and len(set(retried)) == 2


async def test_a_lost_answer_is_asked_for_again_with_the_same_token() -> None:
    async with both(duplicate_answer_webhook=True) as (cloud, bridge):
        bridge.answers["/voice"] = "<Response><Hangup/></Response>"
        await cloud.wait_ended(cloud.incoming(CALLER, OURS, bridge.url("/voice")))
    tokens = [asked.headers["i-twilio-idempotency-token"] for asked in bridge.asked]
    assert len(tokens) == 2 and len(set(tokens)) == 1


async def test_unknown_verbs_and_wrong_values_are_warnings_and_the_rest_is_carried_out() -> None:
    async with both() as (cloud, bridge):
        bridge.answers["/voice"] = "<Response><Sing/><Say pitch='1' loop='x1'>a</Say><Say>b</Say></Response>"
        leg = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        await cloud.wait_ended(leg)
    assert leg.words == ["a", "b"]
    assert [(violation.code, violation.text) for violation in leg.violations] == [
        (12200, "<Sing> is no verb known here"),
        (12200, "<Say> has the unknown attribute pitch"),
        (13510, "<Say> loop is 'x1'"),
    ]


async def test_a_loop_of_redirects_ends() -> None:
    async with both() as (cloud, bridge):
        bridge.answers["/voice"] = "<Response><Redirect>/voice</Redirect></Response>"
        leg = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        await cloud.wait_ended(leg)
    assert len(bridge.asked) == 50 and leg.violations[0].text == "more than 50 documents in one call"


async def test_urls_of_the_bridge_may_be_public_ones() -> None:
    async with fake_bridge() as bridge:
        bridge.answers["/base/voice"] = "<Response><Hangup/></Response>"
        options = CloudOptions(public_url="https://pbx.example.com/base", reach_url=bridge.url("/base"))
        result = await run_cloud(CloudRun(cloud=options, voice="https://pbx.example.com/base/voice"))
    asked = bridge.asked[0]
    url = "https://pbx.example.com/base/voice"
    assert RequestValidator(TOKEN).validate(url, asked.form, asked.headers["x-twilio-signature"])
    body: Any = result.to_json()
    assert body["webhooks"] == ["POST /base/voice 200"] and body["violations"] == []
    assert (body["calls"][0]["status"], body["calls"][0]["verbs"]) == ("completed", ["Hangup"])


# --- keys, sounds ----------------------------------------------------------------------------------------


async def test_gather_takes_keys_and_its_prompt_stops_at_the_first() -> None:
    script = PersonScript(actions=(PressWhenAsked(digits="12#"),))
    async with both(say_ms_per_char=100) as (cloud, bridge):
        bridge.answers["/voice"] = (
            "<Response><Gather action='/keys'><Say>Please press some keys now.</Say></Gather></Response>"
        )
        bridge.answers["/keys"] = "<Response><Hangup/></Response>"
        leg = cloud.incoming(CALLER, OURS, bridge.url("/voice"), script)
        await cloud.wait_ended(leg)
    assert bridge.of("/keys")[0]["Digits"] == "12"
    assert len(leg.heard) < 8000 * 1.5


async def test_gather_without_keys_goes_on_or_tells_when_asked_to() -> None:
    async with both() as (cloud, bridge):
        bridge.answers["/voice"] = "<Response><Gather timeout='0' numDigits='1'/><Say>Nothing.</Say></Response>"
        leg = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        await cloud.wait_ended(leg)
        assert leg.words == ["Nothing."]
        bridge.answers["/voice"] = "<Response><Gather timeout='0' actionOnEmptyResult='true' action='/k'/></Response>"
        bridge.answers["/k"] = "<Response/>"
        await cloud.wait_ended(cloud.incoming(CALLER, OURS, bridge.url("/voice")))
    assert bridge.of("/k")[0]["Digits"] == ""


async def test_tones_are_heard_on_the_line_and_a_fresh_stream_follows() -> None:
    async with both() as (cloud, bridge):
        bridge.answers["/voice"] = bridge.connect()
        leg = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        await cloud.wait_until(lambda: bridge.streams and len(bridge.streams[0]) > 5)
        again = bridge.connect().replace("<Connect>", '<Play digits="12#"/><Connect>')
        cloud.redirect(leg, Source(twiml=again))
        await cloud.wait_until(lambda: len(bridge.streams) == 2 and len(bridge.streams[1]) > 5)
        cloud.hang_up(leg)
        await cloud.wait_ended(leg)
        await cloud.wait_until(lambda: bridge.events(1)[-1] == "stop")
    assert bridge.events(0)[-1] == "stop"
    assert keys_in(leg.heard) == "12#"
    starts = [stream[1]["start"] for stream in bridge.streams]
    assert starts[0]["callSid"] == starts[1]["callSid"] and starts[0]["streamSid"] != starts[1]["streamSid"]


async def test_play_fetches_audio_and_refuses_anything_else() -> None:
    async with both() as (cloud, bridge):
        bridge.answers["/voice"] = "<Response><Play>/a</Play><Play>/b</Play></Response>"
        bridge.answers["/a"], bridge.kinds["/a"] = "\x00" * 1600, (200, "audio/basic")
        leg = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        await cloud.wait_ended(leg)
    assert b"\x00" * 1600 in leg.heard
    assert [violation.code for violation in leg.violations] == [13420]


def wav(channels: int = 1) -> str:
    """A WAV file of 200 ms as latin-1 text, the agent's pitch."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes(tone((AGENT_HZ,), 200, 16_000, 6000) * channels)
    return file.getvalue().decode("latin-1")


@pytest.mark.parametrize(
    ("body", "kind", "pitch_hz", "codes"),
    [
        (wav(), "audio/wav", AGENT_HZ, []),
        (wav(2), "audio/wav", 0, [13420]),
        ("RIFFnonsense", "audio/wav", 0, [13420]),
        ("ID3", "audio/mpeg", MUSIC_HZ, []),
    ],
)
async def test_kinds_of_audio(body: str, kind: str, pitch_hz: float, codes: list[int]) -> None:
    async with both() as (cloud, bridge):
        bridge.answers["/voice"] = "<Response><Play>/a</Play></Response>"
        bridge.answers["/a"], bridge.kinds["/a"] = body, (200, kind)
        leg = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        await cloud.wait_ended(leg)
    assert [violation.code for violation in leg.violations] == codes
    assert not pitch_hz or has_pitch(leg.heard, pitch_hz)


async def test_an_action_needs_an_absolute_url_and_a_late_reject_is_told() -> None:
    async with both(people={HUMAN: QUICK}) as (cloud, bridge):
        nowhere = "<Response><Gather timeout='0' actionOnEmptyResult='true' action='/k'/></Response>"
        leg = cloud.place(CallOrder(caller=OURS, called=HUMAN, source=Source(twiml=nowhere)))
        await cloud.wait_ended(leg)
        assert [violation.code for violation in leg.violations] == [11100]
        late = "<Response><Say>a</Say><Reject/></Response>"
        leg = cloud.place(CallOrder(caller=OURS, called=HUMAN, source=Source(twiml=late)))
        await cloud.wait_ended(leg)
    assert leg.violations[0].text == "<Reject> on a call that is answered already"


async def test_a_socket_that_breaks_off_is_a_violation_and_the_next_verb_runs() -> None:
    async with both() as (cloud, bridge):
        bridge.answers["/voice"] = bridge.connect("<Say>Oh.</Say>", name="s1")
        leg = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        await cloud.wait_until(lambda: bridge.streams and bridge.streams[0])
        bridge.sockets[0].transport.abort()
        await cloud.wait_ended(leg)
    assert ([violation.code for violation in leg.violations], leg.words) == ([31903], ["Oh."])


async def test_a_socket_that_nobody_listens_on_and_a_stream_with_an_action() -> None:
    async with both() as (cloud, bridge):
        stream = "<Connect action='/done'><Stream url='ws://127.0.0.1:9/m'/></Connect>"
        bridge.answers["/voice"] = f"<Response>{stream}<Say>never</Say></Response>"
        leg = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        await cloud.wait_ended(leg)
    assert [asked.path for asked in bridge.asked] == ["/voice", "/done"]
    assert ([violation.code for violation in leg.violations], leg.words) == ([31901], [])


async def test_audio_that_is_lost_makes_a_hole_in_the_counts() -> None:
    script = PersonScript(actions=(Silence(ms=100), LoseAudio(ms=100), Silence(ms=100), HangUp()))
    async with both() as (cloud, bridge):
        bridge.answers["/voice"] = bridge.connect()
        await cloud.wait_ended(cloud.incoming(CALLER, OURS, bridge.url("/voice"), script))
        await cloud.wait_until(lambda: bridge.events(0)[-1] == "stop")
    chunks = [int(message["media"]["chunk"]) for message in bridge.streams[0] if message["event"] == "media"]
    assert chunks[-1] - len(chunks) in (4, 5, 6)


# --- calls that are placed -------------------------------------------------------------------------------


async def test_a_placed_call_rings_is_answered_and_its_progress_told_in_order() -> None:
    async with both(people={HUMAN: PersonScript(hang_up_after_ms=100)}) as (cloud, bridge):
        bridge.answers["/voice"] = bridge.connect()
        leg = cloud.place(order(bridge.url("/voice"), bridge.url("/status")))
        await cloud.wait_ended(leg)
        await cloud.wait_for_webhook("/status", CallStatus="completed")
    told = [(form["CallStatus"], form["SequenceNumber"]) for form in bridge.of("/status")]
    assert told == [("initiated", "0"), ("ringing", "1"), ("in-progress", "2"), ("completed", "3")]
    assert (bridge.of("/voice")[0]["CallStatus"], bridge.of("/voice")[0]["Direction"]) == (
        "in-progress",
        "outbound-api",
    )


@pytest.mark.parametrize(
    ("answer", "status", "sip"),
    [(Answer.BUSY, "busy", "486"), (Answer.NO_ANSWER, "no-answer", "487"), (Answer.FAILS, "failed", "404")],
)
async def test_a_placed_call_that_nobody_takes(answer: Answer, status: str, sip: str) -> None:
    async with both(people={HUMAN: PersonScript(answer=answer)}) as (cloud, bridge):
        leg = cloud.place(order(bridge.url("/voice"), bridge.url("/status"), timeout_s=0.1))
        await cloud.wait_ended(leg)
        await cloud.wait_for_webhook("/status", CallStatus=status, SipResponseCode=sip, CallDuration="0")
    assert bridge.of("/voice") == [] and not leg.heard


async def test_the_longest_duration_and_machine_detection_that_takes_too_long() -> None:
    slow = PersonScript(verdict="human", verdict_after_ms=5000)
    async with both(people={HUMAN: slow}) as (cloud, bridge):
        source = Source(twiml="<Response><Pause length='9'/></Response>")
        detection = MachineDetection(timeout_s=0.05)
        leg = cloud.place(CallOrder(caller=OURS, called=HUMAN, source=source, time_limit_s=0.3, detection=detection))
        await cloud.wait_ended(leg)
    assert (leg.answered_by, leg.ended_by, leg.status) == ("unknown", "limit", CallStatus.COMPLETED)


async def test_a_callback_that_fails_is_told() -> None:
    async with both(people={HUMAN: PersonScript(answer=Answer.FAILS)}) as (cloud, bridge):
        bridge.kinds["/status"] = (500, "text/plain")
        leg = cloud.place(order(bridge.url("/voice"), bridge.url("/status")))
        await cloud.wait_until(lambda: len(leg.violations) == 2)
    assert {violation.code for violation in leg.violations} == {15003}


async def test_callbacks_come_twice_and_out_of_order_when_told_to() -> None:
    people = {HUMAN: PersonScript(hang_up_after_ms=40)}
    async with both(people=people, callback_reorder_ms=120, duplicate_callbacks=True) as (cloud, bridge):
        bridge.answers["/voice"] = "<Response><Pause length='5'/></Response>"
        await cloud.wait_ended(cloud.place(order(bridge.url("/voice"), bridge.url("/status"))))
        await cloud.wait_until(lambda: len(bridge.of("/status")) == 8)
    numbers = [form["SequenceNumber"] for form in bridge.of("/status")]
    assert sorted(numbers) == list("00112233") and numbers[0] == "1"


async def test_keys_are_sent_after_the_answer() -> None:
    async with both(people={HUMAN: QUICK}) as (cloud, bridge):
        leg = cloud.place(CallOrder(caller=OURS, called=HUMAN, source=Source(twiml="<Response/>"), send_digits="w42#"))
        await cloud.wait_ended(leg)
    assert keys_in(leg.heard) == "42#"


def order(voice: str, status: str, timeout_s: float = 5.0) -> CallOrder:
    target = CallbackTarget(url=status, events=CALL_EVENTS)
    return CallOrder(caller=OURS, called=HUMAN, source=Source(voice), timeout_s=timeout_s, callbacks=target)


# --- dial ------------------------------------------------------------------------------------------------


async def test_dial_rings_joins_and_tells_its_action() -> None:
    async with both(people={HUMAN: TALKER}) as (cloud, bridge):
        events = "statusCallback='/human' statusCallbackEvent='initiated answered completed'"
        dial = f"<Dial action='/after' callerId='{OURS}'><Number {events}>{HUMAN}</Number></Dial>"
        bridge.answers["/voice"] = f"<Response>{dial}<Say>never</Say></Response>"
        bridge.answers["/after"] = "<Response><Say>Back.</Say></Response>"
        caller = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        human = await cloud.wait_for_call_to(HUMAN)
        await cloud.wait_until(lambda: keys_in(caller.heard) == "7")
        cloud.hang_up(human)
        await cloud.wait_ended(caller)
        await cloud.wait_for_webhook("/human", CallStatus="completed")
    after = bridge.of("/after")[0]
    assert (after["DialCallStatus"], after["DialCallSid"], after["DialBridged"]) == ("completed", human.sid, "true")
    assert after["DialCallDuration"] == "1" and after["CallSid"] == caller.sid
    assert [form["CallStatus"] for form in bridge.of("/human")] == ["initiated", "in-progress", "completed"]
    assert bridge.of("/human")[0]["ParentCallSid"] == caller.sid
    assert human.facts.caller == OURS and caller.words == ["Back."]
    assert has_pitch(caller.heard, RING_HZ[0], at_least_ms=20)


@pytest.mark.parametrize(
    ("answer", "status"), [(Answer.BUSY, "busy"), (Answer.NO_ANSWER, "no-answer"), (Answer.FAILS, "failed")]
)
async def test_a_dial_that_comes_to_nothing_gives_the_caller_back(answer: Answer, status: str) -> None:
    async with both(people={HUMAN: PersonScript(answer=answer)}, ring_extra_s=-4.9) as (cloud, bridge):
        bridge.answers["/voice"] = f"<Response><Dial timeout='5' action='/after'>{HUMAN}</Dial></Response>"
        bridge.answers["/after"] = bridge.connect()
        caller = cloud.incoming(CALLER, OURS, bridge.url("/voice"), PersonScript(hang_up_after_ms=600))
        await cloud.wait_ended(caller)
    after = bridge.of("/after")[0]
    assert (after["DialCallStatus"], after["DialBridged"]) == (status, "false")
    assert "DialCallDuration" not in after and len(bridge.streams) == 1


async def test_the_whisper_is_heard_by_the_human_alone_and_a_key_accepts() -> None:
    script = PersonScript(
        answer_after_ms=20, actions=(PressWhenAsked(digits="1"), WaitUntilJoined(), PressKey(digit="9"))
    )
    async with both(people={HUMAN: script}) as (cloud, bridge):
        bridge.answers["/voice"] = (
            f"<Response><Dial answerOnBridge='true'><Number url='/whisper'>{HUMAN}</Number></Dial></Response>"
        )
        bridge.answers["/whisper"] = (
            "<Response><Gather numDigits='1' action='/accept'><Say>A caller.</Say></Gather><Hangup/></Response>"
        )
        bridge.answers["/accept"] = "<Response/>"
        caller = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        human = await cloud.wait_for_call_to(HUMAN)
        await cloud.wait_until(lambda: human.gathering is not None)
        assert not caller.answered.is_set()
        await cloud.wait_until(lambda: keys_in(caller.heard) == "9")
        cloud.hang_up(caller)
        await cloud.wait_ended(human)
    assert bridge.of("/accept")[0]["Digits"] == "1" and bridge.of("/accept")[0]["CallSid"] == human.sid
    assert (human.words, caller.words) == (["A caller."], [])
    assert not has_pitch(caller.heard, SAY_HZ, at_least_ms=20)
    assert (human.status, human.ended_by) == (CallStatus.COMPLETED, "dial")


async def test_a_human_who_hangs_up_in_the_whisper_was_never_joined() -> None:
    async with both(people={HUMAN: PersonScript(answer_after_ms=20, hang_up_after_ms=100)}) as (cloud, bridge):
        bridge.answers["/voice"] = (
            f"<Response><Dial action='/after'><Number url='/whisper'>{HUMAN}</Number></Dial></Response>"
        )
        bridge.answers["/whisper"] = "<Response><Dial>+15550111</Dial><Pause length='5'/></Response>"
        caller = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        await cloud.wait_for_webhook("/after", DialCallStatus="completed", DialBridged="false")
        await cloud.wait_ended(caller)
    assert 13201 in [violation.code for violation in cloud.violations]


async def test_a_call_redirected_in_a_dial_asks_for_both_documents() -> None:
    async with both(people={HUMAN: QUICK}) as (cloud, bridge):
        bridge.answers["/voice"] = f"<Response><Dial action='/after'>{HUMAN}</Dial></Response>"
        bridge.answers["/after"] = "<Response><Say>Wrong.</Say></Response>"
        bridge.answers["/new"] = "<Response><Say>Right.</Say></Response>"
        caller = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        human = await cloud.wait_for_call_to(HUMAN)
        await cloud.wait_until(lambda: caller.media.joined)
        cloud.redirect(caller, Source(bridge.url("/new")))
        await cloud.wait_ended(caller)
    assert [asked.path for asked in bridge.asked] == ["/voice", "/after", "/new"]
    assert bridge.of("/after")[0]["DialCallStatus"] == "completed"
    assert (caller.words, human.over) == (["Right."], True)


async def test_a_caller_who_leaves_a_dial_ends_the_human_and_the_action_is_told() -> None:
    async with both(people={HUMAN: PersonScript(answer=Answer.NO_ANSWER)}) as (cloud, bridge):
        bridge.answers["/voice"] = f"<Response><Dial action='/after'>{HUMAN}</Dial></Response>"
        cloud.incoming(CALLER, OURS, bridge.url("/voice"), PersonScript(hang_up_after_ms=100))
        human = await cloud.wait_for_call_to(HUMAN)
        await cloud.wait_ended(human)
        await cloud.wait_for_webhook("/after", CallStatus="completed")
    assert human.status is CallStatus.CANCELED


async def test_dial_refuses_a_foreign_caller_id_and_numbers_that_are_none() -> None:
    async with both() as (cloud, bridge):
        bridge.answers["/voice"] = f"<Response><Dial callerId='+15559999'>{HUMAN}</Dial><Dial>abc</Dial></Response>"
        leg = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        await cloud.wait_ended(leg)
    assert sorted(violation.code for violation in leg.violations) == [13214, 13223]


async def test_several_are_rung_at_once_and_the_first_to_answer_takes_the_call() -> None:
    people = {
        HUMAN: PersonScript(answer_after_ms=3000),
        "client:ann": PersonScript(answer_after_ms=200),
        "sip:bob@pbx.example": PersonScript(answer=Answer.BUSY, answer_after_ms=1),
    }
    async with both(people=people) as (cloud, bridge):
        targets = f"<Number>{HUMAN}</Number><Client>ann</Client><Sip>sip:bob@pbx.example</Sip>"
        bridge.answers["/voice"] = f"<Response><Dial>{targets}</Dial></Response>"
        caller = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        await cloud.wait_until(lambda: caller.media.joined)
        statuses = {leg.facts.called: leg.status for leg in cloud.calls[1:]}
        cloud.hang_up(caller)
    assert statuses == {
        HUMAN: CallStatus.CANCELED,
        "client:ann": CallStatus.IN_PROGRESS,
        "sip:bob@pbx.example": CallStatus.BUSY,
    }


async def test_the_caller_ends_a_dial_with_a_star_and_goes_on() -> None:
    caller_script = PersonScript(actions=(WaitUntilJoined(), Silence(ms=60), PressKey(digit="*")))
    async with both(people={HUMAN: QUICK}) as (cloud, bridge):
        bridge.answers["/voice"] = f"<Response><Dial hangupOnStar='true'>{HUMAN}</Dial><Say>On.</Say></Response>"
        caller = cloud.incoming(CALLER, OURS, bridge.url("/voice"), caller_script)
        await cloud.wait_ended(caller)
    assert caller.words == ["On."] and cloud.calls[1].ended_by == "dial"


async def test_a_dialled_leg_is_looked_at_for_machines_and_gets_its_keys() -> None:
    machine = PersonScript(answer=Answer.MACHINE, answer_after_ms=20, verdict_after_ms=20)
    async with both(people={HUMAN: machine, "+15550124": QUICK}) as (cloud, bridge):
        detect = "machineDetection='Enable' amdStatusCallback='/amd'"
        bridge.answers["/voice"] = f"<Response><Dial timeLimit='1'><Number {detect}>{HUMAN}</Number></Dial></Response>"
        caller = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        await cloud.wait_for_webhook("/amd", AnsweredBy="machine_start")
        await cloud.wait_ended(caller)
        dial = "<Dial timeLimit='1'><Number sendDigits='w5'>+15550124</Number></Dial>"
        bridge.answers["/voice"] = f"<Response>{dial}</Response>"
        await cloud.wait_ended(cloud.incoming(CALLER, OURS, bridge.url("/voice")))
        human = cloud.call_to("+15550124")
    assert human is not None and keys_in(human.heard) == "5"


async def test_a_human_who_is_redirected_leaves_the_dial() -> None:
    async with both(people={HUMAN: QUICK}) as (cloud, bridge):
        bridge.answers["/voice"] = f"<Response><Dial action='/after'>{HUMAN}</Dial></Response>"
        caller = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        human = await cloud.wait_for_call_to(HUMAN)
        await cloud.wait_until(lambda: human.media.joined)
        cloud.redirect(human, Source(twiml="<Response><Say>Elsewhere.</Say><Pause length='1'/></Response>"))
        await cloud.wait_for_webhook("/after", DialCallStatus="completed", DialBridged="true")
        await cloud.wait_ended(caller)
        assert not human.over
    assert human.words == ["Elsewhere."]


# --- conferences -----------------------------------------------------------------------------------------


async def test_two_callers_meet_in_a_conference_and_the_one_ends_it() -> None:
    room = (
        "<Dial action='/left'><Conference endConferenceOnExit='true' beep='false' statusCallback='/room' "
        "statusCallbackEvent='start end join leave'>meeting</Conference></Dial>"
    )
    async with both() as (cloud, bridge):
        bridge.answers["/voice"] = f"<Response>{room}</Response>"
        first = cloud.incoming(CALLER, OURS, bridge.url("/voice"), PersonScript())
        await cloud.wait_until(lambda: has_pitch(first.heard, MUSIC_HZ))
        second = cloud.incoming(HUMAN, OURS, bridge.url("/voice"), TALKER)
        await cloud.wait_until(lambda: keys_in(first.heard) == "7")
        cloud.hang_up(first)
        await cloud.wait_ended(second)
        await cloud.wait_for_webhook("/room", StatusCallbackEvent="conference-end")
    told = [form["StatusCallbackEvent"] for form in bridge.of("/room")]
    assert told == [
        "participant-join",
        "participant-join",
        "conference-start",
        "participant-leave",
        "participant-leave",
        "conference-end",
    ]
    assert bridge.of("/room")[-1]["ReasonConferenceEnded"] == "participant-with-end-conference-on-exit-left"
    [left] = [form for form in bridge.of("/left") if form["CallSid"] == second.sid]
    assert left["DialCallStatus"] == "answered"
    assert keys_in(second.heard) == ""


THIRD_KEY = (WaitUntilJoined(), Silence(ms=200))


async def test_three_hear_each_other_and_what_one_waits_with_is_checked() -> None:
    first_script = PersonScript(actions=(*THIRD_KEY, PressKey(digit="1"), Silence(ms=600)))
    second_script = PersonScript(actions=(*THIRD_KEY, PressKey(digit="1"), Silence(ms=600)))
    async with both() as (cloud, bridge):
        bridge.answers["/voice"] = "<Response><Dial><Conference waitUrl='/wait'>r</Conference></Dial></Response>"
        bridge.answers["/wait"] = "<Response><Play>/a.wav</Play><Dial>+15550123</Dial></Response>"
        cloud.incoming(CALLER, OURS, bridge.url("/voice"), first_script)
        cloud.incoming(HUMAN, OURS, bridge.url("/voice"), second_script)
        third = cloud.incoming("+15550124", OURS, bridge.url("/voice"))
        await cloud.wait_until(lambda: "1" in keys_in(third.heard))
    assert 13238 in [violation.code for violation in cloud.violations]
    assert bridge.of("/wait")[0]["FriendlyName"] == "r"


# --- SIP -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "code", "expected"),
    [
        (PersonScript(), 202, ("in-progress", "202", "200")),
        (PersonScript(answer=Answer.BUSY), 202, ("busy", "202", "486")),
        (PersonScript(), 405, ("failed", "405", "")),
    ],
)
async def test_refer_tells_how_the_other_phone_fared(
    target: PersonScript, code: int, expected: tuple[str, str, str]
) -> None:
    async with both(people={"sip:desk@pbx.example": target}) as (cloud, bridge):
        bridge.answers["/voice"] = (
            "<Response><Refer action='/after'><Sip>sip:desk@pbx.example?X-A=1</Sip></Refer></Response>"
        )
        bridge.answers["/after"] = "<Response><Pause length='1'/></Response>"
        script = PersonScript(refer_code=code, sip_headers=(("X-Account", "7"),))
        leg = cloud.incoming("sip:ann@pbx.example", "sip:agent@x.sip.twilio.com", bridge.url("/voice"), script)
        await cloud.wait_ended(leg)
    after = bridge.of("/after")[0]
    found = (after["ReferCallStatus"], after["ReferSipResponseCode"], after.get("NotifySipResponseCode", ""))
    assert found == expected
    assert leg.ended_by == ("person" if expected[2] == "200" else "twiml")
    voice = bridge.of("/voice")[0]
    assert (voice["SipDomain"], voice["SipHeader_X-Account"]) == ("x.sip.twilio.com", "7")


async def test_refer_on_a_telephone_line_is_an_error() -> None:
    async with both() as (cloud, bridge):
        bridge.answers["/voice"] = "<Response><Refer action='/after'><Sip>sip:a@b</Sip></Refer></Response>"
        leg = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        await cloud.wait_ended(leg)
    assert bridge.of("/after") == [] and leg.violations[0].text == "<Refer> on a leg that is no SIP call"


# --- the simulator itself --------------------------------------------------------------------------------


async def test_a_mistake_of_the_simulator_ends_the_call_in_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, verb: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr("bridge.simulators.twilio_execution.Execution._reject", broken)
    async with both() as (cloud, bridge):
        bridge.answers["/voice"] = "<Response><Reject/></Response>"
        leg = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        await cloud.wait_ended(leg)
        assert leg.task is not None
        with pytest.raises(KeyError):
            await leg.task
    assert leg.status is CallStatus.FAILED
    assert leg.violations[0].text == "the simulator failed: KeyError: 'oops'"


async def test_a_run_waits_for_the_calls_of_the_bridge_and_records_the_first(tmp_path: Path) -> None:
    people = {HUMAN: PersonScript(hang_up_after_ms=200)}
    placed: list[str] = []

    def ready(cloud: TwilioCloud) -> None:
        source = Source(twiml="<Response><Say>Hello there, you.</Say><Pause length='5'/></Response>")
        placed.append(cloud.place(CallOrder(caller=OURS, called=HUMAN, source=source)).sid)

    run = CloudRun(cloud=CloudOptions(people=people), recording=tmp_path / "call.wav")
    result = await run_cloud(run, ready)
    assert [leg.sid for leg in result.calls] == placed
    assert (result.calls[0].status, result.calls[0].words) == (CallStatus.COMPLETED, ["Hello there, you."])
    with wave.open(str(tmp_path / "call.wav")) as file:
        assert file.getnchannels() == 2 and 0.1 < file.getnframes() / 8000 < 0.6


async def test_a_run_whose_time_is_up_hangs_up() -> None:
    result = await run_cloud(CloudRun(voice="http://127.0.0.1:9/voice", max_duration_s=0.01))
    assert result.calls[0].over


# --- closing ---------------------------------------------------------------------------------------------


async def test_a_cloud_that_closes_hangs_up_for_all_and_tells_it() -> None:
    async with both(people={HUMAN: QUICK}) as (cloud, bridge):
        bridge.answers["/voice"] = bridge.connect()
        leg = cloud.incoming(
            CALLER,
            OURS,
            bridge.url("/voice"),
            PersonScript(actions=(Speak(clip="caller_thanks"),)),
            status_url=bridge.url("/status"),
        )
        await cloud.wait_until(lambda: bridge.streams and len(bridge.streams[0]) > 20)
        await cloud.aclose()
        await asyncio.sleep(0.05)
    assert (leg.status, leg.ended_by) == (CallStatus.COMPLETED, "cloud")
    assert bridge.of("/status")[0]["CallStatus"] == "completed" and bridge.events(0)[-1] == "stop"
