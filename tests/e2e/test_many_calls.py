"""Many calls at once that end in every way and at every moment: nothing of them may be left."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from tests.kit import twilio
from tests.kit.caller import WireCaller
from tests.kit.server import RunningBridge, Start, until

pytestmark = pytest.mark.e2e

CALLS = 20
AUDIO = twilio.media(b"\x01" * 160)


WAYS = ("stop", "close", "abort", "rubbish", "no such key")


async def live_and_end(at: RunningBridge, number: int, chance: random.Random) -> None:
    """One call: a random while of audio, which may be none, then one of five ends."""
    async with WireCaller(at, call_sid=f"CA{number:032x}") as caller:
        await caller.dial()
        for _ in range(chance.choice((0, chance.randrange(1, 30)))):
            await caller.send(AUDIO)
            await asyncio.sleep(chance.random() * 0.02)  # a caller's own time, not for anybody to be ready
        match WAYS[number % len(WAYS)]:
            case "stop":
                await caller.send(twilio.STOP)
            case "close":
                await caller.close()
            case "abort":
                caller.abort()
            case "rubbish":
                await caller.send("rubbish")
            case _:
                await caller.send(twilio.dtmf("x"))
        await caller.closed()


@pytest.mark.parametrize("seed", [1, 2])
async def test_random_ends_leave_nothing(start: Start, seed: int) -> None:
    chance = random.Random(seed)
    at = await start("echo")
    tasks_before = asyncio.all_tasks()
    seeds = [random.Random(chance.random()) for _ in range(CALLS)]
    await asyncio.gather(*(live_and_end(at, number, own) for number, own in enumerate(seeds)))
    ends = Counter(await at.ended(CALLS))
    each = CALLS // len(WAYS)
    assert ends == {
        "success/caller_hangup": 2 * each,
        "indeterminate/carrier_lost": each,
        "client_error/bad_message": 2 * each,
    }
    await until(lambda: all(log.closed_by for log in at.agent.conversations), "a conversation goes on")
    await until(lambda: not asyncio.all_tasks() - tasks_before, "a task is left")
    started = len(at.logged("call_started"))  # those that ended at once never were
    records = await at.records()
    assert (len(records), {record.state for record in records}) == (CALLS, {"ended"})
    assert Counter(f"{record.result}/{record.reason}" for record in records) == ends
    text = at.bridge.metrics.render().decode()
    assert f'bridge_calls_started_total{{burst="no",provider="twilio"}} {started:.1f}' in text
    assert 'bridge_calls_active{provider="twilio"} 0.0' in text
