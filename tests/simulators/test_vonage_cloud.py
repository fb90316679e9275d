"""The simulated Vonage: NCCO, media sockets, transfers, events; against a small application."""

from __future__ import annotations

import asyncio

import pytest
from websockets.asyncio.server import ServerConnection

from bridge.auth.vonage import VonageKeys, verify_webhook
from bridge.simulators.speech import load_clip
from bridge.simulators.twilio_cloud_media import SAY_HZ
from bridge.simulators.twilio_line import HangUp, PressKey, Silence, Speak
from bridge.simulators.twilio_person import Answer, PersonScript, PressWhenAsked
from bridge.simulators.vonage_calls import Source
from bridge.simulators.vonage_ncco import Talk
from tests.simulators.vonage_app import AGENT_HZ, CALLER, HUMAN, OURS, level, wired

pytestmark = pytest.mark.e2e

LISTENS = PersonScript()
GOES = PersonScript(actions=(Silence(ms=600), HangUp()))


async def test_a_call_to_a_media_socket_and_its_events() -> None:
    async with wired() as (cloud, app):
        app.answers["/answer"] = [[app.socket(eventType="synchronous", eventUrl=[app.url("/media-events")])]]
        person = PersonScript(actions=(Silence(ms=300), PressKey(digit="5"), Silence(ms=500), HangUp()))
        leg = cloud.incoming(CALLER, OURS, app.url("/answer"), person)
        await cloud.wait_ended(leg)
        await cloud.wait_until(lambda: "completed" in app.statuses("/media-events"))
        assert cloud.violations == []
        assert app.firsts == [{"event": "websocket:connected", "content-type": "audio/l16;rate=16000", "token": "t1"}]
        assert [text["event"] for text in app.texts] == ["websocket:dtmf", "websocket:notify"]
        assert level(leg.heard, AGENT_HZ) > 0.1
        assert len(app.heard) % 640 == 0
        assert app.statuses("/media-events") == ["started", "answered", "completed"]
        await cloud.wait_until(lambda: "completed" in app.statuses("/events"))
        assert app.statuses("/events") == ["started", "ringing", "answered", "completed"]
        asked = next(asked for asked in app.asked if asked.path == "/answer")
        assert {**asked.fields, "uuid": "", "conversation_uuid": ""} == {
            "from": CALLER,
            "to": OURS,
            "uuid": "",
            "conversation_uuid": "",
            "endpoint_type": "phone",
            "region_url": cloud.base_url,
        }
        ended = app.asked[-1].fields
        assert {"duration", "rate", "price", "start_time", "end_time", "network"} <= ended.keys()


async def test_all_requests_are_signed() -> None:
    async with wired() as (cloud, app):
        app.answers["/answer"] = [[app.socket()]]
        leg = cloud.incoming(CALLER, OURS, app.url("/answer"), GOES, method="POST")
        await cloud.wait_ended(leg)
        keys = VonageKeys((cloud.options.signature_secret,), cloud.options.application_id, require_payload_hash=True)
        now = leg.ended_unix_s
        assert len(app.asked) >= 4
        assert [verify_webhook(keys, asked.headers, asked.body, now).problem for asked in app.asked] == [""] * len(
            app.asked
        )
        assert [verify_webhook(keys, upgrade, b"", now).problem for upgrade in app.upgrades] == [""]
        ids = {verify_webhook(keys, asked.headers, asked.body, now).jti for asked in app.asked}
        assert len(ids) == len(app.asked)


@pytest.mark.parametrize("size", [320, 1280])
async def test_a_frame_of_the_wrong_size_is_a_violation(size: int) -> None:
    closes: list[int] = []

    async def media(connection: ServerConnection) -> None:
        await connection.send(bytes(size))
        await connection.wait_closed()
        closes.append(connection.close_code or 0)

    async with wired() as (cloud, app):
        app.media = media
        app.answers["/answer"] = [[app.socket(eventType="synchronous", eventUrl=[app.url("/media-events")])]]
        leg = cloud.incoming(CALLER, OURS, app.url("/answer"), LISTENS)
        await cloud.wait_ended(leg)
        assert [item.text for item in cloud.violations] == [
            f"media socket: unexpected frame size {size}, when required 640"
        ]
        await cloud.wait_until(lambda: closes)
        assert closes == [1006]
        assert app.statuses("/media-events") == ["started", "answered", "disconnected"]


async def test_the_fallback_when_the_application_closes_its_socket() -> None:
    async def media(connection: ServerConnection) -> None:
        await asyncio.sleep(0.2)

    async with wired() as (cloud, app):
        app.media = media
        app.answers["/answer"] = [[app.socket(eventType="synchronous", eventUrl=[app.url("/fallback")])]]
        app.answers["/fallback"] = [None, None, [{"action": "talk", "text": "Sorry, something went wrong."}]]
        leg = cloud.incoming(CALLER, OURS, app.url("/answer"), LISTENS)
        await cloud.wait_ended(leg)
        assert app.statuses("/fallback") == ["started", "answered", "disconnected"]
        assert (leg.words, leg.actions) == (["Sorry, something went wrong."], ["connect", "talk"])
        assert leg.ended_by == "ncco"


async def test_the_fallback_when_there_is_no_socket() -> None:
    async with wired() as (cloud, app):
        endpoint = {"type": "websocket", "uri": "ws://127.0.0.1:9/none"}
        action = {"action": "connect", "endpoint": [endpoint], "from": OURS}
        app.answers["/answer"] = [[{**action, "eventType": "synchronous", "eventUrl": [app.url("/fallback")]}]]
        app.answers["/fallback"] = [None, [app.phone()]]
        leg = cloud.incoming(CALLER, OURS, app.url("/answer"), GOES)
        human = await cloud.wait_for_call_to(HUMAN)
        await cloud.wait_ended(leg)
        assert app.statuses("/fallback") == ["started", "failed"]
        assert human.over


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (PersonScript(answer=Answer.BUSY), "busy"),
        (PersonScript(answer=Answer.FAILS), "failed"),
        (PersonScript(answer=Answer.NO_ANSWER), "unanswered"),
        (None, "rejected"),
    ],
)
async def test_a_human_who_does_not_answer(script: PersonScript | None, status: str) -> None:
    options = {"people": {HUMAN: script}} if script else {"rejecting": frozenset({HUMAN})}
    async with wired(**options) as (cloud, app):
        app.answers["/answer"] = [[app.phone(timeout=1, eventType="synchronous", eventUrl=[app.url("/back")])]]
        app.answers["/back"] = [None, [{"action": "talk", "text": "Nobody is there."}]]
        if status not in ("failed", "rejected"):
            app.answers["/back"].insert(0, None)
        leg = cloud.incoming(CALLER, OURS, app.url("/answer"), LISTENS)
        await cloud.wait_ended(leg)
        assert app.statuses("/back")[-1] == status
        assert leg.words == ["Nobody is there."]


async def test_a_key_that_a_human_presses() -> None:
    async with wired(people={HUMAN: PersonScript(actions=(PressWhenAsked(digits="1"),))}) as (cloud, app):
        ask = {
            "action": "input",
            "type": ["dtmf"],
            "dtmf": {"maxDigits": 1, "timeOut": 5},
            "eventUrl": [app.url("/key")],
        }
        app.answers["/answer"] = [[{"action": "talk", "text": "Press 1.", "bargeIn": True}, ask]]
        app.answers["/key"] = [[{"action": "talk", "text": "Thank you."}]]
        leg = cloud.incoming(HUMAN, OURS, app.url("/answer"))
        await cloud.wait_ended(leg)
        [key] = [asked for asked in app.asked if asked.path == "/key"]
        assert key.fields["dtmf"] == {"digits": "1", "timed_out": False}
        assert leg.words == ["Press 1.", "Thank you."]


async def test_nobody_presses_a_key() -> None:
    async with wired() as (cloud, app):
        ask = {"action": "input", "type": ["dtmf"], "dtmf": {"timeOut": 1}, "eventUrl": [app.url("/key")]}
        app.answers["/answer"] = [[ask]]
        leg = cloud.incoming(CALLER, OURS, app.url("/answer"))
        await cloud.wait_ended(leg)
        [key] = [asked for asked in app.asked if asked.path == "/key"]
        assert key.fields["dtmf"] == {"digits": "", "timed_out": True}


async def test_legs_in_a_conversation_hear_each_other_and_one_who_ends_it_ends_it_for_all() -> None:
    talker = PersonScript(actions=(Silence(ms=200), PressKey(digit="1"), Silence(ms=1200), HangUp()))
    async with wired() as (cloud, app):
        app.answers["/one"] = [[{"action": "conversation", "name": "room", "endOnExit": True}]]
        app.answers["/two"] = [[{"action": "conversation", "name": "room"}, {"action": "talk", "text": "Gone."}]]
        one = cloud.incoming(CALLER, OURS, app.url("/one"), talker)
        two = cloud.incoming(HUMAN, OURS, app.url("/two"), PersonScript())
        await cloud.wait_until(lambda: one.conversation is two.conversation)
        cloud.talk(one, "x" * 200)
        await cloud.wait_ended(two)
        assert (one.ended_by, two.ended_by) == ("person", "conversation")
        assert level(one.heard, SAY_HZ) > 0.1, "a voice is for one leg only"
        assert level(two.heard, SAY_HZ) < 0.01


async def test_people_hear_each_other_over_connect() -> None:
    speaks = PersonScript(actions=(Speak(clip="caller_thanks"), HangUp()))
    async with wired(people={HUMAN: speaks}) as (cloud, app):
        app.answers["/answer"] = [[app.phone()]]
        leg = cloud.incoming(CALLER, OURS, app.url("/answer"), LISTENS)
        await cloud.wait_ended(leg)
        assert load_clip("caller_thanks")[2000:3000] in bytes(leg.heard)
        assert leg.ended_by == "ncco"


async def test_a_transfer_takes_the_caller_and_the_media_socket_goes() -> None:
    async with wired() as (cloud, app):
        app.answers["/answer"] = [[app.socket(eventType="synchronous", eventUrl=[app.url("/media-events")])]]
        leg = cloud.incoming(CALLER, OURS, app.url("/answer"), LISTENS)
        media = await cloud.wait_for_media()
        before = leg.conversation.uuid
        cloud.move(leg, Source((Talk(text="One moment."),)))
        await cloud.wait_ended(leg)
        assert (media.ended_by, leg.words) == ("connect", ["One moment."])
        assert app.statuses("/media-events") == ["started", "answered", "completed"], "not disconnected"
        [moved] = [asked.fields for asked in app.asked if asked.fields.get("type") == "transfer"]
        assert moved["conversation_uuid_from"] == before
        assert cloud.violations == []


async def test_an_answer_webhook_is_asked_twice_at_most() -> None:
    async with wired() as (cloud, app):
        app.answers["/answer"] = [500, [{"action": "talk", "text": "Hello."}]]
        first = cloud.incoming(CALLER, OURS, app.url("/answer"))
        await cloud.wait_ended(first)
        assert first.words == ["Hello."]
        app.answers["/answer"] = [500]
        second = cloud.incoming(CALLER, OURS, app.url("/answer"))
        await cloud.wait_ended(second)
        assert [asked.path for asked in app.asked].count("/answer") == 4
        assert [item.text for item in cloud.violations] == ["answer webhook: GET /answer: answered with 500"]
        assert second.status.value == "failed"


async def test_a_wrong_document_is_a_violation() -> None:
    async with wired() as (cloud, app):
        app.answers["/answer"] = [[{"action": "talk", "text": "x", "voice": "Kim"}]]
        leg = cloud.incoming(CALLER, OURS, app.url("/answer"))
        await cloud.wait_ended(leg)
        assert [item.text for item in cloud.violations] == ["NCCO: Object contains unknown field `voice` - at `$[0]`"]
