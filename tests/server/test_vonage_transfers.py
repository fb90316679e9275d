"""Vonage's webhooks of a transfer: the human's leg of a warm one, and how a blind one came out."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from bridge.auth.tokens import CallClaims
from bridge.server.transfers import TransferCard, Verdict
from tests.kit.vonage_webhooks import CALL, LEG, PUBLIC, REGION, Vonage, report, socket_of, vonage

HUMAN = "cccccccc-dddd-eeee-ffff-0123456789ab"


async def opened(at: Vonage, **fields: Any) -> str:
    """A transfer of a call on ``LEG``; returns its id."""
    card = TransferCard(
        provider="vonage",
        call_id="0123456789abcdef",
        call_sid=LEG,
        caller="+447700900000",
        control_url=REGION,
        **{"called": "+447700900001", "agent_message": "An invoice.", "accept_key": "1", "language": "en", **fields},
    )
    return await at.bridge.transfers.open(card)


async def told(at: Vonage, step: str, transfer_id: str, status: str = "", **fields: object) -> httpx.Response:
    return await at.post(f"/vonage/transfer/{step}?id={transfer_id}", report(status, HUMAN, **fields))


def keys(digits: str) -> dict[str, object]:
    return {"digits": digits, "timed_out": not digits}


GONE = "The caller is no longer on the line. Goodbye."
WAITS = "conversation"


def first_of(response: httpx.Response) -> tuple[str, str]:
    """Action, and the words or the name."""
    action = response.json()[0]
    return action["action"], action.get("text", action.get("name", ""))


# --- warm ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_human_hears_who_calls_and_presses_the_key(method: str) -> None:
    async with vonage(INSTANCE_URL="https://one.example.com") as at:
        transfer_id = await opened(at)
        path = f"/vonage/transfer/whisper?id={transfer_id}"
        whisper = await (at.post(path, CALL) if method == "POST" else at.get(path, CALL))
        words, prompt, listens = whisper.json()
        assert (words["text"], prompt["text"]) == ("An invoice.", "To take the call, press 1.")
        assert listens["eventUrl"] == [f"https://one.example.com/vonage/transfer/accept?id={transfer_id}"]
        accepted = await told(at, "accept", transfer_id, dtmf=keys("1"))
        assert first_of(accepted) == (WAITS, f"transfer-{transfer_id}")
        assert await at.bridge.transfers.wait(transfer_id, 1.0) is Verdict.ACCEPTED
        assert first_of(await told(at, "accept", transfer_id, dtmf=keys("1"))) == first_of(accepted)


@pytest.mark.parametrize("dtmf", [keys("2"), keys(""), None, "9"])
async def test_another_key_or_none_declines(dtmf: object) -> None:
    async with vonage() as at:
        transfer_id = await opened(at)
        assert (await told(at, "accept", transfer_id, dtmf=dtmf)).json() == []
        assert await at.bridge.transfers.verdict_of(transfer_id) is Verdict.DECLINED
        assert first_of(await told(at, "accept", transfer_id, dtmf=keys("1"))) == ("talk", GONE)


@pytest.mark.parametrize(("detects", "wait_s"), [(True, 5), (False, 1)])
async def test_without_a_key_whoever_listens_takes_the_caller(detects: bool, wait_s: int) -> None:
    async with vonage() as at:
        transfer_id = await opened(at, accept_key="", detects_machine=detects)
        _, listens = (await told(at, "whisper", transfer_id)).json()
        assert (listens["action"], listens["dtmf"]["timeOut"]) == ("input", wait_s)
        assert await at.bridge.transfers.verdict_of(transfer_id) is None
        assert first_of(await told(at, "accept", transfer_id, dtmf=keys(""))) == (WAITS, f"transfer-{transfer_id}")


async def test_but_no_machine_does() -> None:
    async with vonage() as at:
        transfer_id = await opened(at, accept_key="", detects_machine=True)
        assert (await told(at, "human", transfer_id, "machine")).status_code == 204
        assert await at.bridge.transfers.verdict_of(transfer_id) is Verdict.MACHINE
        assert first_of(await told(at, "accept", transfer_id, dtmf=keys(""))) == ("talk", GONE)
        assert first_of(await told(at, "whisper", transfer_id)) == ("talk", GONE)


@pytest.mark.parametrize("step", ["whisper", "accept"])
async def test_a_caller_who_is_gone_and_a_transfer_that_there_is_not(step: str) -> None:
    async with vonage() as at:
        transfer_id = await opened(at, language="de")
        await at.bridge.transfers.report(transfer_id, Verdict.NO_ANSWER)
        action, words = first_of(await told(at, step, transfer_id, dtmf=keys("1")))
        assert action == "talk"
        assert words != GONE, "it is said in the call's language"
        assert first_of(await told(at, step, "no-such-id", dtmf=keys("1"))) == ("talk", GONE)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("started", None),
        ("ringing", None),
        ("answered", None),
        ("human", None),
        ("busy", Verdict.BUSY),
        ("rejected", Verdict.DECLINED),
        ("unanswered", Verdict.NO_ANSWER),
        ("timeout", Verdict.NO_ANSWER),
        ("cancelled", Verdict.NO_ANSWER),
        ("failed", Verdict.FAILED),
        ("completed", Verdict.DECLINED),
        ("machine", Verdict.MACHINE),
    ],
)
async def test_what_becomes_of_the_humans_leg(status: str, verdict: Verdict | None) -> None:
    async with vonage() as at:
        transfer_id = await opened(at)
        for _ in range(2):
            assert (await told(at, "human", transfer_id, status)).status_code == 204
        assert await at.bridge.transfers.verdict_of(transfer_id) is verdict
        assert at.api.asked == [], "the caller is with the agent"
        assert (await told(at, "human", "no-such-id", status)).status_code == 204


@pytest.mark.parametrize("answer", [httpx.Response(204), httpx.Response(404), httpx.Response(503)], ids=str)
async def test_when_the_human_leaves_the_caller_is_not_left_alone(answer: httpx.Response) -> None:
    async with vonage(answer) as at:
        transfer_id = await opened(at)
        await told(at, "accept", transfer_id, dtmf=keys("1"))
        assert await at.bridge.transfers.joins(transfer_id)
        assert (await told(at, "human", transfer_id, "completed")).status_code == 204
        assert at.api.asked == [("PUT", f"{REGION}/v1/calls/{LEG}", {"action": "hangup"})]


async def test_without_credentials_nobody_can_be_hung_up_on() -> None:
    async with vonage() as at:
        transfer_id = await opened(at)
        await at.bridge.transfers.joins(transfer_id)
        at.bridge.parts.controls.clear()
        assert (await told(at, "human", transfer_id, "completed")).status_code == 204


# --- blind ---------------------------------------------------------------------------------------------------


async def test_a_blind_transfer_that_was_answered() -> None:
    async with vonage() as at:
        transfer_id = await opened(at, is_warm=False)
        for status, verdict in (("started", None), ("ringing", None), ("answered", Verdict.ACCEPTED)):
            response = await told(at, "action", transfer_id, status)
            assert (response.status_code, response.content) == (204, b"")
            assert await at.bridge.transfers.verdict_of(transfer_id) is verdict
        assert (await told(at, "action", transfer_id, "completed")).status_code == 204
        assert (await told(at, "action", "no-such-id", "failed")).status_code == 204


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("unanswered", Verdict.NO_ANSWER),
        ("timeout", Verdict.NO_ANSWER),
        ("busy", Verdict.BUSY),
        ("rejected", Verdict.DECLINED),
        ("failed", Verdict.FAILED),
        ("cancelled", Verdict.NO_ANSWER),
    ],
)
async def test_where_nobody_answers_the_caller_comes_back_to_the_agent(status: str, verdict: Verdict) -> None:
    async with vonage(INSTANCE_URL="https://one.example.com") as at:
        transfer_id = await opened(at, is_warm=False)
        response = await told(at, "action", transfer_id, status)
        assert await at.bridge.transfers.wait(transfer_id, 1.0) is verdict
        socket = socket_of(response.json())
        assert socket["uri"] == "wss://one.example.com/vonage/media"
        assert socket["headers"]["uuid"] == LEG
        assert response.json()[0]["from"] == "447700900001"
        claims = await at.bridge.tokens.redeem(socket["headers"]["token"], LEG)
    assert isinstance(claims, CallClaims)
    assert (claims.comeback, claims.call_id, claims.control_url) == (True, "0123456789abcdef", REGION)


async def test_what_was_known_of_the_call_is_known_after_it() -> None:
    async with vonage() as at:
        await at.answered()
        transfer_id = await opened(at, is_warm=False, called="")
        [connect] = (await told(at, "action", transfer_id, "busy")).json()
    assert connect["from"] == "447700900001"
    assert connect["eventUrl"] == [f"{PUBLIC}/vonage/events?leg={LEG}"]
