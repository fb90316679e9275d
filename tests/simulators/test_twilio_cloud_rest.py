"""The REST side of the simulated Twilio cloud, with the official SDK as client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from twilio.base.exceptions import TwilioRestException

from bridge.simulators.twilio_cloud_media import MUSIC_HZ, SAY_HZ
from bridge.simulators.twilio_cloud_options import Fault
from bridge.simulators.twilio_leg import CallStatus
from bridge.simulators.twilio_line import PressKey, Silence
from bridge.simulators.twilio_person import Answer, PersonScript, WaitUntilJoined
from tests.simulators.twilio_bridge import ACCOUNT, CALLER, HUMAN, OURS, TOKEN, both, has_pitch, keys_in, sdk

pytestmark = pytest.mark.e2e

EVENTS = ["initiated", "ringing", "answered", "completed"]


async def ask(question: Callable[[], Any]) -> Any:
    """Ask the SDK, which blocks."""
    return await asyncio.to_thread(question)


async def refused(question: Callable[[], Any]) -> tuple[int, int]:
    """Status and code with which the cloud refuses."""
    with pytest.raises(TwilioRestException) as caught:
        await ask(question)
    return caught.value.status, caught.value.code


# --- calls -----------------------------------------------------------------------------------------------


async def test_the_sdk_creates_fetches_lists_and_ends_a_call() -> None:
    async with both(people={HUMAN: PersonScript(answer_after_ms=20)}) as (cloud, bridge):
        client = sdk(cloud)
        bridge.answers["/voice"] = bridge.connect()
        call = await ask(
            lambda: client.calls.create(
                to=HUMAN,
                from_=OURS,
                url=bridge.url("/voice"),
                status_callback=bridge.url("/status"),
                status_callback_event=EVENTS,
                timeout=30,
            )
        )
        assert (call.status, call.direction, call.to, call._from) == ("queued", "outbound-api", HUMAN, OURS)
        assert call.sid.startswith("CA") and call.date_created is not None and call.start_time is None
        await cloud.wait_until(lambda: bridge.streams)
        call = await ask(lambda: client.calls(call.sid).fetch())
        assert call.status == "in-progress" and call.start_time is not None
        assert [listed.sid for listed in await ask(lambda: client.calls.list(status="in-progress"))] == [call.sid]
        assert await ask(lambda: client.calls.list(to="+15550000")) == []
        call = await ask(lambda: client.calls(call.sid).update(status="completed"))
        assert (call.status, call.duration) == ("completed", "1") and call.end_time is not None
        await cloud.wait_for_webhook("/status", CallStatus="completed")
        await cloud.wait_until(lambda: bridge.events(0)[-1] == "stop")
        assert await refused(lambda: client.calls(call.sid).update(status="completed")) == (404, 20404)
        assert await refused(lambda: client.calls(call.sid).update(twiml="<Response/>")) == (400, 21220)
    assert [form["CallStatus"] for form in bridge.of("/status")] == ["initiated", "ringing", "in-progress", "completed"]
    assert cloud.violations == []


async def test_an_update_replaces_the_running_twiml() -> None:
    async with both() as (cloud, bridge):
        client = sdk(cloud)
        bridge.answers["/voice"] = bridge.connect()
        leg = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        await cloud.wait_until(lambda: bridge.streams)
        bridge.answers["/new"] = "<Response><Say>New.</Say></Response>"
        call = await ask(lambda: client.calls(leg.sid).update(url=bridge.url("/new"), method="GET"))
        assert call.status == "in-progress"
        await cloud.wait_ended(leg)
    assert bridge.events(0)[-1] == "stop" and leg.words == ["New."]
    assert [(asked.path, asked.method) for asked in bridge.asked] == [("/voice", "POST"), ("/new", "GET")]


async def test_a_ringing_call_can_be_canceled_and_not_be_redirected() -> None:
    async with both(people={HUMAN: PersonScript(answer=Answer.NO_ANSWER)}) as (cloud, bridge):
        client = sdk(cloud)
        call = await ask(lambda: client.calls.create(to=HUMAN, from_=OURS, twiml="<Response/>"))
        assert await refused(lambda: client.calls(call.sid).update(twiml="<Response/>")) == (400, 21220)
        call = await ask(lambda: client.calls(call.sid).update(status="canceled"))
        assert call.status == "canceled"


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"to": "abc"}, 21211),
        ({"to": ""}, 21201),
        ({"from_": "abc"}, 21212),
        ({"from_": ""}, 21213),
        ({"from_": "+15557777"}, 21210),
        ({"url": "ftp://x/"}, 21205),
        ({"url": "http://under_score/"}, 21205),
        ({"url": ""}, 21205),
        ({"url": "", "twiml": 4001 * "x"}, 20001),
        ({"method": "PUT"}, 21209),
        ({"timeout": 601}, 21208),
        ({"send_digits": "1x"}, 21206),
        ({"send_digits": 33 * "1"}, 21206),
        ({"status_callback": "nowhere"}, 21609),
        ({"machine_detection": "Maybe"}, 20001),
    ],
)
async def test_wrong_orders_are_refused_with_twilios_codes(wrong: dict[str, Any], code: int) -> None:
    async with both() as (cloud, bridge):
        order = {"to": HUMAN, "from_": OURS, "url": bridge.url("/voice")} | wrong
        assert await refused(lambda: sdk(cloud).calls.create(**order)) == (400, code)
        assert cloud.calls == []


async def test_a_wrong_event_is_taken_and_no_callback_ever_comes() -> None:
    async with both(people={HUMAN: PersonScript(hang_up_after_ms=50)}) as (cloud, bridge):
        call = await ask(
            lambda: sdk(cloud).calls.create(
                to=HUMAN,
                from_=OURS,
                twiml="<Response><Pause length='5'/></Response>",
                status_callback=bridge.url("/status"),
                status_callback_event=["initiated ringing"],
            )
        )
        await cloud.wait_ended(cloud.exchange.legs[call.sid])
    assert bridge.asked == []
    assert [violation.code for violation in cloud.violations] == [21626]


async def test_credentials_are_checked_and_api_keys_work_too() -> None:
    async with both(api_keys={"SK1": "secret"}) as (cloud, _):
        assert await ask(lambda: sdk(cloud, "SK1", "secret").calls.list()) == []
        for user, password in ((ACCOUNT, "wrong"), ("SK1", TOKEN), ("SK2", "")):
            assert await refused(lambda: sdk(cloud, user, password or "x").calls("CA1").fetch()) == (401, 20003)  # noqa: B023
        other = "AC" + 32 * "1"
        assert await refused(lambda: sdk(cloud, account=other).calls("CA1").fetch()) == (401, 20003)
        async with httpx.AsyncClient(base_url=cloud.base_url) as client:
            answer = await client.get("/2010-04-01/Accounts/x/Calls.json")
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="Twilio API"'
    assert answer.json() == {
        "code": 20003,
        "message": "Authenticate",
        "more_info": "https://www.twilio.com/docs/errors/20003",
        "status": 401,
    }


async def test_unknown_resources_and_methods() -> None:
    async with both() as (cloud, _):
        assert await refused(lambda: sdk(cloud).calls("CA" + 32 * "0").fetch()) == (404, 20404)
        assert await refused(lambda: sdk(cloud).conferences("CF" + 32 * "0").fetch()) == (404, 20404)
        assert await refused(lambda: sdk(cloud).messages("SM1").fetch()) == (404, 20404)
        assert await refused(lambda: sdk(cloud).calls("CA" + 32 * "0").delete()) == (405, 20004)


async def test_rates_of_requests_and_of_calls() -> None:
    async with both(calls_per_s=1, people={HUMAN: PersonScript(answer=Answer.BUSY)}) as (cloud, _):
        client = sdk(cloud)
        await ask(lambda: client.calls.create(to=HUMAN, from_=OURS, twiml="<Response/>"))
        assert await refused(lambda: client.calls.create(to=HUMAN, from_=OURS, twiml="<Response/>")) == (429, 20429)
        assert len(cloud.calls) == 1
    async with both(requests_per_s=2) as (cloud, _):
        client = sdk(cloud)
        assert [await ask(lambda: client.calls.list()) for _ in range(2)] == [[], []]
        assert await refused(lambda: client.calls("CA1").fetch()) == (429, 20429)


async def test_numbers_of_the_account() -> None:
    async with both(numbers=(OURS, "+15550777")) as (cloud, _):
        found = await ask(lambda: sdk(cloud).incoming_phone_numbers.list(phone_number=OURS))
        assert [(number.phone_number, number.capabilities["voice"]) for number in found] == [(OURS, True)]
        assert await ask(lambda: sdk(cloud).incoming_phone_numbers.list(phone_number="+15559999")) == []


# --- who answered ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("person", "mode", "verdict"),
    [
        (PersonScript(verdict_after_ms=30), "Enable", "human"),
        (PersonScript(answer=Answer.MACHINE, verdict_after_ms=30), "Enable", "machine_start"),
        (PersonScript(answer=Answer.FAX, verdict_after_ms=30), "DetectMessageEnd", "fax"),
    ],
)
async def test_the_verdict_is_told_beside_the_call(person: PersonScript, mode: str, verdict: str) -> None:
    async with both(people={HUMAN: person}) as (cloud, bridge):
        bridge.answers["/voice"] = bridge.connect()
        call = await ask(
            lambda: sdk(cloud).calls.create(
                to=HUMAN,
                from_=OURS,
                url=bridge.url("/voice"),
                machine_detection=mode,
                async_amd="true",
                async_amd_status_callback=bridge.url("/amd"),
            )
        )
        await cloud.wait_for_webhook("/amd")
        leg = cloud.exchange.legs[call.sid]
        await cloud.wait_until(lambda: bridge.streams and len(bridge.streams[0]) > 10)
    expected = {"CallSid": leg.sid, "AccountSid": ACCOUNT, "AnsweredBy": verdict, "MachineDetectionDuration": "30"}
    assert bridge.of("/amd") == [expected]
    assert "AnsweredBy" not in bridge.of("/voice")[0] and leg.answered_by == verdict


async def test_without_async_the_call_waits_for_the_verdict() -> None:
    person = PersonScript(answer=Answer.MACHINE, verdict="machine_end_beep", verdict_after_ms=200)
    async with both(people={HUMAN: person}) as (cloud, bridge):
        order = {"to": HUMAN, "from_": OURS, "url": bridge.url("/voice"), "machine_detection": "DetectMessageEnd"}
        call = await ask(lambda: sdk(cloud).calls.create(**order))
        await cloud.wait_for_webhook("/voice", AnsweredBy="machine_end_beep", MachineDetectionDuration="200")
        fetched = await ask(lambda: sdk(cloud).calls(call.sid).fetch())
    assert fetched.answered_by == "machine_end_beep"


# --- conferences -----------------------------------------------------------------------------------------


async def test_a_warm_transfer_human_first_then_the_caller() -> None:
    human_script = PersonScript(answer_after_ms=20, actions=(WaitUntilJoined(), Silence(ms=60), PressKey(digit="4")))
    async with both(people={HUMAN: human_script}) as (cloud, bridge):
        client = sdk(cloud)
        bridge.answers["/voice"] = bridge.connect()
        caller = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        await cloud.wait_until(lambda: bridge.streams)
        human = await ask(
            lambda: client.conferences("room-1").participants.create(
                from_=OURS,
                to=HUMAN,
                label="human",
                end_conference_on_exit=True,
                beep="false",
                status_callback=bridge.url("/human"),
                status_callback_event=["answered", "completed"],
                conference_status_callback=bridge.url("/room"),
                conference_status_callback_event=["start", "end"],
            )
        )
        assert human.status == "queued" and human.conference_sid.startswith("CF") and human.label == "human"
        await cloud.wait_for_webhook("/human", CallStatus="in-progress")
        [room] = await ask(lambda: client.conferences.list(friendly_name="room-1"))
        assert (room.sid, room.status) == (human.conference_sid, "init")
        await cloud.wait_until(lambda: has_pitch(cloud.calls[1].heard, MUSIC_HZ))
        join = "<Response><Dial><Conference beep='false'>room-1</Conference></Dial><Say>Alone.</Say></Response>"
        await ask(lambda: client.calls(caller.sid).update(twiml=join))
        await cloud.wait_for_webhook("/room", StatusCallbackEvent="conference-start", FriendlyName="room-1")
        await cloud.wait_until(lambda: keys_in(caller.heard) == "4")
        listed = await ask(lambda: client.conferences(room.sid).participants.list())
        assert {member.call_sid for member in listed} == {caller.sid, human.call_sid}
        await ask(lambda: client.conferences(room.sid).participants("human").delete())
        await cloud.wait_ended(caller)
        await cloud.wait_for_webhook("/human", CallStatus="completed")
        await cloud.wait_for_webhook("/room", StatusCallbackEvent="conference-end")
        room = await ask(lambda: client.conferences(room.sid).fetch())
    assert room.reason_conference_ended == "participant-with-end-conference-on-exit-kicked"
    assert caller.words == ["Alone."] and bridge.events(0)[-1] == "stop"


async def test_participants_can_be_muted_held_and_spoken_to() -> None:
    talker = PersonScript(actions=tuple(PressKey(digit="8") if i % 2 else Silence(ms=300) for i in range(40)))
    async with both() as (cloud, bridge):
        client = sdk(cloud)
        conference = "<Response><Dial><Conference beep='false'>r</Conference></Dial></Response>"
        bridge.answers["/voice"] = conference
        bridge.answers["/announce"] = "<Response><Say>Somebody waits for you here.</Say></Response>"
        first = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        second = cloud.incoming(HUMAN, OURS, bridge.url("/voice"), talker)
        await cloud.wait_until(lambda: "8" in keys_in(first.heard))
        room = cloud.conference("r")
        assert room is not None
        people = client.conferences(room.sid).participants
        assert (await ask(lambda: people(second.sid).update(muted=True))).muted is True
        quiet_from = len(first.heard) + 1600
        await cloud.wait_until(lambda: len(first.heard) > quiet_from + 6400)
        assert keys_in(first.heard[quiet_from:]) == ""
        assert (await ask(lambda: people(second.sid).update(muted=False))).muted is False
        assert (await ask(lambda: people(first.sid).update(hold=True))).hold is True
        mark = len(first.heard)
        await cloud.wait_until(lambda: has_pitch(first.heard[mark:], MUSIC_HZ))
        await ask(lambda: people(first.sid).update(hold=False, announce_url=bridge.url("/announce")))
        await cloud.wait_until(lambda: has_pitch(first.heard, SAY_HZ))
        assert not has_pitch(second.heard, SAY_HZ)
        assert (await ask(lambda: people(first.sid).fetch())).hold is False
        room_ended = await ask(lambda: client.conferences(room.sid).update(status="completed"))
        await cloud.wait_ended(first)
        await cloud.wait_ended(second)
    assert (room_ended.status, room_ended.reason_conference_ended) == ("completed", "conference-ended-via-api")


async def test_changes_of_conferences_that_are_refused_and_ones_that_end_ringing() -> None:
    async with both(people={HUMAN: PersonScript(answer=Answer.NO_ANSWER)}) as (cloud, bridge):
        client = sdk(cloud)
        people = client.conferences("r").participants
        human = await ask(lambda: people.create(from_=OURS, to=HUMAN, machine_detection="Enable", beep="onExit"))
        room = client.conferences(human.conference_sid)
        assert await refused(lambda: room.update(status="init")) == (400, 20001)
        assert await refused(lambda: room.update(announce_url="x")) == (400, 21205)
        assert await refused(lambda: room.participants("nobody").fetch()) == (404, 20404)
        assert await refused(lambda: room.participants(human.call_sid).update(announce_url="x")) == (400, 21205)
        assert (await ask(lambda: room.update(announce_url=bridge.url("/a")))).status == "init"
        await ask(lambda: room.participants(human.call_sid).delete())
        assert cloud.exchange.legs[human.call_sid].status is CallStatus.CANCELED
        second = await ask(lambda: people.create(from_=OURS, to=HUMAN))
        await ask(lambda: room.update(status="completed"))
        assert cloud.exchange.legs[second.call_sid].status is CallStatus.CANCELED
        assert await refused(lambda: room.participants.create(from_=OURS, to=HUMAN)) == (404, 20404)
        missing = "CF" + 32 * "0"
        create = client.conferences(missing).participants.create
        assert await refused(lambda: create(from_=OURS, to=HUMAN)) == (404, 20404)


async def test_changes_of_calls_that_are_refused() -> None:
    async with both() as (cloud, bridge):
        bridge.answers["/voice"] = bridge.connect()
        leg = cloud.incoming(CALLER, OURS, bridge.url("/voice"))
        await cloud.wait_until(lambda: leg.live)
        call = sdk(cloud).calls(leg.sid)
        assert await refused(lambda: call.update(status="canceled")) == (400, 21220)
        assert await refused(lambda: call.update(status="busy")) == (400, 20001)
        assert await refused(lambda: call.update(url=bridge.url("/a"), twiml="<Response/>")) == (400, 20001)
        assert await refused(lambda: call.update()) == (400, 21205)


async def test_sip_targets_need_no_number_of_ours_and_strange_parameters_are_told() -> None:
    async with both() as (cloud, _):
        path = f"/2010-04-01/Accounts/{ACCOUNT}/Calls.json"
        order = {"To": "sip:desk@pbx.example", "From": "agent", "Twiml": "<Response/>", "Sadness": "1"}
        async with httpx.AsyncClient(base_url=cloud.base_url, auth=(ACCOUNT, TOKEN)) as client:
            answer = await client.post(path, data=order)
            strange = await client.post(
                path, data=order | {"MachineDetection": "Enable", "MachineDetectionTimeout": "2"}
            )
    assert (answer.status_code, strange.status_code) == (201, 400)
    assert cloud.violations[0].text == "unknown parameter Sadness"


@pytest.mark.parametrize("answer", [Answer.BUSY, Answer.NO_ANSWER])
async def test_a_participant_who_does_not_answer_leaves_no_trace(answer: Answer) -> None:
    async with both(people={HUMAN: PersonScript(answer=answer)}) as (cloud, bridge):
        client = sdk(cloud)
        human = await ask(
            lambda: client.conferences("r").participants.create(
                from_=OURS, to=HUMAN, status_callback=bridge.url("/human"), status_callback_event=EVENTS
            )
        )
        leg = cloud.exchange.legs[human.call_sid]
        if answer is Answer.NO_ANSWER:
            await cloud.wait_until(lambda: leg.status is CallStatus.RINGING)
            await ask(lambda: client.calls(leg.sid).update(status="completed"))
        await cloud.wait_for_webhook("/human", CallStatus="busy" if answer is Answer.BUSY else "canceled")
        await cloud.wait_until(lambda: leg.task is not None and leg.task.done())
        assert await ask(lambda: client.conferences(human.conference_sid).participants.list()) == []


# --- faults ----------------------------------------------------------------------------------------------


async def test_faults_delay_refuse_and_drop_what_was_asked() -> None:
    async with both(people={HUMAN: PersonScript(answer=Answer.BUSY)}) as (cloud, _):
        auth = (ACCOUNT, TOKEN)
        path = f"/2010-04-01/Accounts/{ACCOUNT}/Calls.json"
        order = {"To": HUMAN, "From": OURS, "Twiml": "<Response/>"}
        async with httpx.AsyncClient(base_url=cloud.base_url, auth=auth, timeout=0.3) as client:
            cloud.faults.append(Fault(method="POST", path="/Calls.json", status=503, headers={"Retry-After": "1"}))
            answer = await client.post(path, data=order)
            assert (answer.status_code, answer.json()["code"], answer.headers["Retry-After"]) == (503, 20500, "1")
            assert cloud.calls == []
            cloud.faults.append(Fault(path="/Calls.json", status=500, carried_out=True))
            assert (await client.post(path, data=order)).status_code == 500 and len(cloud.calls) == 1
            cloud.faults.append(Fault(drop=True, carried_out=True))
            with pytest.raises(httpx.TransportError):
                await client.post(path, data=order)
            assert len(cloud.calls) == 2
            cloud.faults.append(Fault(delay_s=0.5))
            with pytest.raises(httpx.ReadTimeout):
                await client.post(path, data=order)
            assert (await client.post(path, data=order)).status_code == 201
    assert [status for _, _, status in cloud.rest_requests][:3] == [503, 500, 0]


@pytest.mark.parametrize(
    "raw",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/1.1",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n\xff\xff",
        b"GET /" + 20_000 * b"x",
    ],
)
async def test_what_is_no_request_is_answered_with_400_and_closed(raw: bytes) -> None:
    async with both() as (cloud, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(cloud.base_url.rpartition(":")[2]))
        writer.write(raw)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
