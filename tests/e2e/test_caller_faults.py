"""What a carrier's side may do wrong, or what may come in an odd order, on a socket with a genuine signature."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from tests.kit import twilio
from tests.kit.caller import WireCaller
from tests.kit.server import DEADLINE_S, Start, until

pytestmark = pytest.mark.e2e

OTHER_CALL = "CA00000000000000000000000000000002"
APOLOGY = ["Say", "Hangup"]
ONCE_MORE = ["Connect", "Redirect"]
"""The line broke, or nobody knows what became of it: another stream may work."""
AUDIO = twilio.media(b"\x01" * 160)


def without(message: str, *path: str) -> str:
    """``message`` with one field taken out."""
    body = inner = json.loads(message)
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return json.dumps(body)


def with_value(message: str, value: object, *path: str) -> str:
    """``message`` with another value in one field."""
    body = inner = json.loads(message)
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return json.dumps(body)


BROKEN: dict[str, str | bytes] = {
    "not JSON": "GET / HTTP/1.1",
    "empty": "",
    "no object": "[]",
    "no event": "{}",
    "event of a wrong type": '{"event":7}',
    "nested without end": "[" * 60_000,
    "no media": without(AUDIO, "media"),
    "no payload": without(AUDIO, "media", "payload"),
    "payload of a wrong type": with_value(AUDIO, 7, "media", "payload"),
    "payload not base64": with_value(AUDIO, "%%%%", "media", "payload"),
    "timestamp not a text": with_value(AUDIO, ["soon"], "media", "timestamp"),
    "media of another stream": twilio.media(b"\x01", stream_sid="MZother"),
    "mark of another stream": twilio.mark("m", stream_sid="MZother"),
    "key of another stream": twilio.dtmf("1", stream_sid="MZother"),
    "no such key": twilio.dtmf("x"),
    "start twice": twilio.start(),
    "binary": b"\x00\x01",
}


async def test_a_broken_message_ends_its_call_with_words_and_no_other(start: Start) -> None:
    at = await start("echo")

    async def break_off(number: int, message: str | bytes) -> tuple[int, list[str]]:
        async with WireCaller(at, call_sid=f"CA{number:032x}") as caller:
            await caller.dial_in()
            await caller.send(message)
            return await caller.closed(), await caller.verbs()

    async with WireCaller(at) as bystander:
        await bystander.dial_in()
        got = await asyncio.gather(*(break_off(number, message) for number, message in enumerate(BROKEN.values())))
        assert dict(zip(BROKEN, got, strict=True)) == dict.fromkeys(BROKEN, (1000, APOLOGY))
        assert at.ends() == ["client_error/bad_message"] * len(BROKEN)
        assert at.active == 1
        await bystander.send(AUDIO)
        await until(lambda: bystander.heard == b"\x01" * 160, "another call was harmed")
        await bystander.send(twilio.STOP)
        await bystander.closed()
    await at.ended(len(BROKEN) + 1)
    await until(lambda: all(log.close_code == 1000 for log in at.agent.conversations), "an agent was left alone")


async def test_unknown_events_and_fields_are_let_pass(start: Start) -> None:
    at = await start("echo")
    async with WireCaller(at) as caller:
        await caller.dial_in()
        await caller.send('{"event":"future","streamSid":"MZother"}', with_value(AUDIO, [1], "novelty"))
        await until(lambda: caller.heard == b"\x01" * 160, "the call did not go on")
        await caller.send(twilio.STOP)
        assert await caller.closed() == 1000
    assert await at.ended() == ["success/caller_hangup"]


async def test_a_message_of_10_megabytes(start: Start) -> None:
    at = await start("echo")
    async with WireCaller(at) as caller:
        await caller.dial_in()
        await caller.send(twilio.media(b"\x01" * 7_500_000))
        assert await caller.closed() in (1009, 1006)  # 1006: reset, because the rest of it was never read
        assert await at.ended() == ["client_error/message_too_big"]
        assert await caller.verbs() == APOLOGY


@pytest.mark.parametrize("message", [AUDIO, twilio.dtmf("1"), twilio.mark("m"), twilio.STOP])
async def test_anything_before_start(start: Start, message: str) -> None:
    at = await start("echo")
    async with WireCaller(at) as caller:
        await caller.open()
        await caller.send(twilio.CONNECTED, message)
        assert await caller.closed() == 1000
        assert await at.ended() == ["client_error/bad_message"]
        assert await caller.verbs() == ONCE_MORE
        assert await caller.verbs() == APOLOGY, "once"
    assert at.agent.conversations == []
    assert at.logged("call_started") == []


async def test_a_socket_on_which_nothing_begins(start: Start) -> None:
    at = await start("echo", START_TIMEOUT_S="0.2")
    async with WireCaller(at) as caller:
        await caller.open()
        assert await caller.closed() == 1000
    assert await at.ended() == ["client_error/no_start"]


async def test_a_socket_that_goes_before_start(start: Start) -> None:
    at = await start("echo")
    async with WireCaller(at) as caller:
        await caller.open()
        await until(lambda: at.bridge.sessions)
        caller.abort()
        assert await at.ended() == ["client_error/no_start"]


async def test_a_carrier_that_sends_nothing_any_more(start: Start) -> None:
    at = await start("echo", CARRIER_SILENCE_S="0.3")
    async with WireCaller(at) as caller:
        await caller.dial_in()
        assert await caller.closed() == 1000
        assert await at.ended() == ["indeterminate/carrier_silent"]
        assert await caller.verbs() == ONCE_MORE


async def test_a_format_that_is_not_spoken(start: Start) -> None:
    at = await start("echo", CALL_TOKEN_TTL_S="1")
    async with WireCaller(at) as caller:
        token = await caller.order()
        await caller.open()
        await caller.send(with_value(caller.start(token), "audio/opus", "start", "mediaFormat", "encoding"))
        assert await caller.closed() == 1000
    await until(lambda: at.active == 0, "the slot that its webhook took was not given back")
    assert await at.ended() == ["client_error/unsupported_media"]


# --- tokens ----------------------------------------------------------------------------------------------


async def test_a_token_works_once(start: Start) -> None:
    at = await start("echo")
    async with WireCaller(at) as caller, WireCaller(at) as thief:
        token = await caller.order()
        await caller.dial(token)
        await until(lambda: at.logged("agent_ready"))
        await thief.dial(token)
        assert await thief.closed() == 1000
        assert at.ends() == ["client_error/bad_token"]
        assert at.logged("call_ended")[0]["detail"] == "token used before"
        await caller.send(AUDIO)
        await until(lambda: caller.heard, "the first call does not go on")
        await caller.send(twilio.STOP)
        await caller.closed()
        assert await at.ended(2) == ["client_error/bad_token", "success/caller_hangup"]
        assert await caller.verbs() == ["Hangup"]
    assert len(at.agent.conversations) == 1


@pytest.mark.parametrize(("token", "detail"), [("", "no token"), ("made-up", "unknown token")])
async def test_no_genuine_token(start: Start, token: str, detail: str) -> None:
    at = await start("echo")
    async with WireCaller(at) as caller:
        await caller.dial(token)
        assert await caller.closed() == 1000
        assert await at.ended() == ["client_error/bad_token"]
        assert await caller.verbs() == APOLOGY
    assert at.logged("call_ended")[0]["detail"] == detail
    assert at.agent.conversations == []


async def test_an_expired_token(start: Start) -> None:
    at = await start("echo", CALL_TOKEN_TTL_S="0.1")
    async with WireCaller(at) as caller:
        token = await caller.order()
        now_s = asyncio.get_running_loop().time()
        await until(lambda: asyncio.get_running_loop().time() > now_s + 0.11)
        await caller.dial(token)
        assert await caller.closed() == 1000
    assert await at.ended() == ["client_error/bad_token"]
    assert at.logged("call_ended")[0]["detail"] == "expired token"


async def test_the_token_of_another_call_does_not_harm_that_call(start: Start) -> None:
    at = await start("echo")
    async with WireCaller(at) as caller, WireCaller(at, call_sid=OTHER_CALL) as other:
        token = await caller.order()
        await other.dial(token)
        assert await other.closed() == 1000
        assert at.logged("call_ended")[0]["detail"] == "token of another call"
        await caller.dial(token)
        await until(lambda: at.logged("agent_ready"))
        await caller.send(twilio.STOP)
        await caller.closed()
    assert await at.ended(2) == ["client_error/bad_token", "success/caller_hangup"]


# --- ends ------------------------------------------------------------------------------------------------


async def stop(caller: WireCaller) -> None:
    await caller.send(twilio.STOP)


async def stop_and_close(caller: WireCaller) -> None:
    await caller.send(twilio.STOP)
    await caller.close()


async def stop_twice(caller: WireCaller) -> None:
    await caller.send(twilio.STOP, twilio.STOP)


async def stop_and_go_on(caller: WireCaller) -> None:
    await caller.send(twilio.STOP, AUDIO, "rubbish")


async def close_without_stop(caller: WireCaller) -> None:
    await caller.close()


async def close_as_going_away(caller: WireCaller) -> None:
    await caller.close(1001)


async def abort(caller: WireCaller) -> None:
    caller.abort()


async def close_in_error(caller: WireCaller) -> None:
    await caller.close(1011)


LEAVING: dict[Callable[[WireCaller], Awaitable[None]], tuple[str, list[str]]] = {
    stop: ("success/caller_hangup", ["Hangup"]),
    stop_and_close: ("success/caller_hangup", ["Hangup"]),
    stop_twice: ("success/caller_hangup", ["Hangup"]),
    stop_and_go_on: ("success/caller_hangup", ["Hangup"]),
    close_without_stop: ("success/caller_hangup", ["Hangup"]),
    close_as_going_away: ("success/caller_hangup", ["Hangup"]),
    close_in_error: ("indeterminate/carrier_lost", ONCE_MORE),
    abort: ("indeterminate/carrier_lost", ONCE_MORE),
}


@pytest.mark.parametrize("scenario", ["echo", "mute"])
async def test_the_caller_goes(start: Start, scenario: str) -> None:
    """With the agent there, and while its side has yet to begin the conversation."""
    at = await start(scenario)

    async def go(number: int, leave: Callable[[WireCaller], Awaitable[None]]) -> tuple[str, list[str]]:
        async with WireCaller(at, call_sid=f"CA{number:032x}") as caller:
            await caller.dial()
            await until(lambda: caller.call_sid in agents_know(), "the agent never came")
            await leave(caller)
            end = await at.bridge.shared.end_of(caller.call_sid, DEADLINE_S)
            assert end is not None, "the call did not end"
            await caller.closed()
            return str(end.reason), await caller.verbs()

    def agents_know() -> list[str]:
        told = (log.initiation or {} for log in at.agent.conversations)
        return [data["dynamic_variables"]["call_sid"] for data in told if data]

    got = await asyncio.gather(*(go(number, leave) for number, leave in enumerate(LEAVING)))
    assert dict(zip(LEAVING, got, strict=True)) == LEAVING
    assert len(await at.ended(len(LEAVING))) == len(LEAVING)
    await until(lambda: all(log.close_code == 1000 for log in at.agent.conversations), "an agent was left alone")
