"""Twilio's webhooks of a transfer: what the human's leg is told, what is learnt from it, and how blind ones end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any
from xml.etree import ElementTree as ET

import httpx
import msgspec
import pytest

from bridge.auth.tokens import CallClaims
from bridge.auth.twilio import sign_webhook
from bridge.server.carrier_control import ControlFault
from bridge.server.service import Bridge
from bridge.server.transfers import TransferCard, Verdict
from bridge.server.twilio_transfers import DETECTION_WAIT_S
from tests.kit import twilio
from tests.kit.controls import FakeControl, fault
from tests.kit.offline import asked
from tests.kit.server import AUTH_TOKEN

PUBLIC = "https://bridge.example.com"
CARD = TransferCard(provider="twilio", call_id="call_1", call_sid=twilio.CALL_SID, caller="+15550100")
GONE = '<Response><Say language="en-US">The caller is no longer on the line. Goodbye.</Say><Hangup /></Response>'
HANG_UP = "<Response><Hangup /></Response>"


class Desk:
    """A bridge and whoever asks its webhooks."""

    def __init__(self, bridge: Bridge, client: httpx.AsyncClient) -> None:
        self.bridge, self.client = bridge, client
        self.control = FakeControl()
        bridge.parts.controls["twilio"] = self.control
        self.id = ""

    async def open(self, card: TransferCard = CARD) -> Desk:
        """A transfer begins."""
        self.id = await self.bridge.transfers.open(card)
        return self

    async def post(self, step: str, *, query: str = "", sign: bool = True, **form: str) -> httpx.Response:
        """A webhook of it."""
        path = f"/twilio/transfer/{step}?id={self.id}{query}"
        fields: Mapping[str, str] = {"AccountSid": twilio.ACCOUNT_SID, **form}
        headers = {"X-Twilio-Signature": sign_webhook(AUTH_TOKEN, PUBLIC + path, tuple(fields.items()))} if sign else {}
        return await self.client.post(path, data=fields, headers=headers)

    async def said(self, step: str, *, query: str = "", **form: Any) -> str:
        """The document with which it is answered."""
        response = await self.post(step, query=query, **form)
        assert response.status_code == 200
        assert ET.fromstring(response.text).tag == "Response"
        return response.text.removeprefix('<?xml version="1.0" encoding="UTF-8"?>')

    async def verdict(self) -> Verdict | None:
        """What is known by now."""
        return await self.bridge.transfers.verdict_of(self.id)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with asked(PUBLIC_URL=PUBLIC, TWILIO_ACCOUNT_SID=twilio.ACCOUNT_SID) as at:
        yield Desk(at.bridge, at.client)


def card(**more: Any) -> TransferCard:
    return msgspec.structs.replace(CARD, **more)


@pytest.mark.parametrize("step", ["whisper", "accept", "human", "amd", "action"])
async def test_a_forged_request_changes_nothing(desk: Desk, step: str) -> None:
    await desk.open()
    response = await desk.post(step, sign=False, CallStatus="busy", AnsweredBy="fax", DialCallStatus="busy")
    assert response.status_code == 403
    assert await desk.verdict() is None


@pytest.mark.parametrize(
    ("step", "answer"), [("whisper", GONE), ("accept", GONE), ("human", ""), ("amd", ""), ("action", HANG_UP)]
)
async def test_a_transfer_that_nobody_knows(desk: Desk, step: str, answer: str) -> None:
    for desk.id in ("", "guessed", "x" * 5000):
        response = await desk.post(step, CallStatus="completed", AnsweredBy="human", DialCallStatus="completed")
        assert response.text.removeprefix('<?xml version="1.0" encoding="UTF-8"?>') == answer
        assert response.status_code == (200 if answer else 204)
    assert desk.control.log == []


# --- the human -------------------------------------------------------------------------------------------


async def test_the_human_is_told_and_asked_for_a_key(desk: Desk) -> None:
    await desk.open(card(agent_message="Ann <wants> help.", accept_key="5", language="de"))
    text = await desk.said("whisper")
    assert f'action="{PUBLIC}/twilio/transfer/accept?id={desk.id}"' in text
    assert '<Say language="de-DE">Ann &lt;wants&gt; help.</Say>' in text
    assert "drücken Sie 5." in text
    assert text.endswith("</Gather><Hangup /></Response>")


async def test_without_a_key_whoever_answers_takes_the_caller(desk: Desk) -> None:
    await desk.open(card(agent_message="A caller."))
    assert "Redirect" in await desk.said("whisper")
    text = await desk.said("accept")
    assert f">transfer-{desk.id}</Conference>" in text
    assert await desk.verdict() is Verdict.ACCEPTED
    assert await desk.said("accept") == text, "Twilio repeats what got lost"


@pytest.mark.parametrize(
    ("digits", "verdict"),
    [("5", Verdict.ACCEPTED), ("6", Verdict.DECLINED), ("", Verdict.DECLINED), ("55", Verdict.DECLINED)],
)
async def test_the_key_that_takes_the_caller(desk: Desk, digits: str, verdict: Verdict) -> None:
    await desk.open(card(accept_key="5"))
    text = await desk.said("accept", Digits=digits)
    assert ("<Conference" in text) is (verdict is Verdict.ACCEPTED)
    assert await desk.verdict() is verdict


async def test_who_comes_too_late_is_told_so(desk: Desk) -> None:
    await desk.open(card(language="de"))
    await desk.bridge.transfers.report(desk.id, Verdict.NO_ANSWER)
    for step in ("whisper", "accept"):
        assert "Der Anrufer ist nicht mehr in der Leitung" in await desk.said(step)


async def test_a_human_waits_until_it_is_known_that_they_are_one(desk: Desk) -> None:
    await desk.open(card(detects_machine=True))
    url = f"{PUBLIC}/twilio/transfer/accept?id={desk.id}"
    again = f'<Response><Pause length="1" /><Redirect method="POST">{url}&amp;waited='
    assert await desk.said("accept") == f"{again}1</Redirect></Response>"
    assert await desk.said("accept", query="&waited=1") == f"{again}2</Redirect></Response>"
    assert await desk.said("accept", query="&waited=x") == f"{again}1</Redirect></Response>"
    assert (await desk.post("amd", AnsweredBy="human")).status_code == 204
    assert "<Conference" in await desk.said("accept", query="&waited=2")


async def test_detection_that_says_nothing_is_waited_for_with_a_bound(desk: Desk) -> None:
    await desk.open(card(detects_machine=True))
    assert "<Conference" in await desk.said("accept", query=f"&waited={DETECTION_WAIT_S}")


@pytest.mark.parametrize(
    ("answered_by", "verdict"),
    [
        ("human", None),
        ("unknown", None),
        ("", None),
        ("machine_start", Verdict.MACHINE),
        ("machine_end_beep", Verdict.MACHINE),
        ("fax", Verdict.MACHINE),
    ],
)
async def test_machine_detection(desk: Desk, answered_by: str, verdict: Verdict | None) -> None:
    await desk.open(card(detects_machine=True))
    await desk.post("amd", AnsweredBy=answered_by)
    assert await desk.verdict() is verdict
    assert await desk.bridge.transfers.is_known_human(desk.id) is (verdict is None)
    if verdict is not None:
        assert await desk.said("accept") == GONE


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("initiated", None),
        ("ringing", None),
        ("in-progress", None),
        ("busy", Verdict.BUSY),
        ("no-answer", Verdict.NO_ANSWER),
        ("canceled", Verdict.NO_ANSWER),
        ("failed", Verdict.FAILED),
        ("completed", Verdict.DECLINED),
        ("made-up", None),
    ],
)
async def test_how_the_humans_leg_is_doing(desk: Desk, status: str, verdict: Verdict | None) -> None:
    await desk.open()
    assert (await desk.post("human", CallStatus=status)).status_code == 204
    assert await desk.verdict() is verdict
    assert desk.control.log == []


async def test_a_caller_whose_human_has_left_the_room_is_not_left_in_it(desk: Desk) -> None:
    await desk.open()
    await desk.said("accept")
    assert await desk.bridge.transfers.joins(desk.id)
    await desk.post("human", CallStatus="completed")
    assert desk.control.log == ["hang up"]
    assert desk.control.lines[0].call_sid == twilio.CALL_SID


async def test_a_caller_who_cannot_be_hung_up_on_harms_nothing(desk: Desk) -> None:
    await desk.open()
    await desk.bridge.transfers.joins(desk.id)
    desk.control.failures["hang up"] = fault(ControlFault.DOWN)
    assert (await desk.post("human", CallStatus="completed")).status_code == 204
    desk.bridge.parts.controls.clear()
    assert (await desk.post("human", CallStatus="completed")).status_code == 204


# --- blind and REFER -------------------------------------------------------------------------------------

BLIND = {"is_warm": False}


@pytest.mark.parametrize(
    ("status", "verdict"), [("in-progress", Verdict.ACCEPTED), ("completed", None), ("busy", None), ("ringing", None)]
)
async def test_the_dialled_leg_of_a_blind_transfer(desk: Desk, status: str, verdict: Verdict | None) -> None:
    """Only its answer is news: how it ends is the action's to tell, with the caller to go on with."""
    await desk.open(card(**BLIND))
    await desk.post("human", CallStatus=status)
    assert await desk.verdict() is verdict
    assert desk.control.log == []


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({"DialCallStatus": "completed"}, Verdict.ACCEPTED),
        ({"DialCallStatus": "answered"}, Verdict.ACCEPTED),
        ({"DialCallStatus": "busy"}, Verdict.BUSY),
        ({"DialCallStatus": "no-answer"}, Verdict.NO_ANSWER),
        ({"DialCallStatus": "canceled"}, Verdict.NO_ANSWER),
        ({"DialCallStatus": "failed"}, Verdict.FAILED),
        ({"DialCallStatus": "made-up"}, Verdict.FAILED),
        ({"ReferCallStatus": "completed", "ReferSipResponseCode": "202"}, Verdict.ACCEPTED),
        (
            {"ReferCallStatus": "completed", "ReferSipResponseCode": "202", "NotifySipResponseCode": "486"},
            Verdict.BUSY,
        ),
        ({"ReferCallStatus": "completed"}, Verdict.ACCEPTED),
        ({"ReferSipResponseCode": "480"}, Verdict.NO_ANSWER),
        ({"ReferSipResponseCode": "603"}, Verdict.FAILED),
        ({"ReferCallStatus": "failed"}, Verdict.FAILED),
        ({}, Verdict.FAILED),
    ],
)
async def test_how_a_blind_transfer_came_out(desk: Desk, fields: dict[str, str], verdict: Verdict) -> None:
    await desk.open(card(**BLIND))
    text = await desk.said("action", **fields)
    assert await desk.verdict() is verdict
    assert (text == HANG_UP) is (verdict is Verdict.ACCEPTED)


async def test_a_caller_whom_nobody_took_is_connected_to_the_same_call_again(desk: Desk) -> None:
    await desk.open(card(**BLIND))
    text = await desk.said("action", DialCallStatus="busy")
    [stream] = ET.fromstring(text).iter("Stream")
    assert stream.attrib["url"] == "wss://bridge.example.com/twilio/media"
    parameters = {one.attrib["name"]: one.attrib["value"] for one in stream}
    claims = await desk.bridge.tokens.redeem(parameters["token"], twilio.CALL_SID)
    assert isinstance(claims, CallClaims)
    assert (claims.call_id, claims.comeback) == ("call_1", True)
    assert f">{PUBLIC}/twilio/fallback</Redirect>" in text


async def test_who_was_answered_and_then_hung_up_on_is_not_sent_back(desk: Desk) -> None:
    await desk.open(card(**BLIND))
    await desk.post("human", CallStatus="in-progress")
    assert await desk.said("action", DialCallStatus="failed") == HANG_UP
