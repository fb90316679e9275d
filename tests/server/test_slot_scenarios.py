"""One table of scenarios against both stores of call slots: memory and Redis count alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import pytest

from bridge.calls.admission import MS_PER_MINUTE, Ask, Verdict, ask
from bridge.server.admission_memory import QueueOptions, SlotLedger
from bridge.server.admission_redis import RedisSlotOptions, RedisSlots
from bridge.server.redis_client import RedisLink, RedisOptions
from bridge.server.slot_store import Release, Usage
from tests.kit.clock import FakeClock
from tests.kit.redis import RedisServer, prefix
from tests.kit.slots import DAY, MAX_WAITING, SCENARIOS, WAITER_TTL_S, Burst, End, Pause, Scenario, Shows, Take, said

QUEUE = QueueOptions(WAITER_TTL_S, MAX_WAITING)


class Stage(Protocol):
    """A store under test."""

    async def take(self, wanted: Ask) -> Verdict: ...

    async def end(self, released: Release) -> None: ...

    async def pause(self, seconds: float) -> None: ...

    async def burst(self, day: str, burst_ms: int) -> None: ...

    async def usage(self) -> Usage: ...


class MemoryStage:
    def __init__(self) -> None:
        self._ledger = SlotLedger(QUEUE)
        self._clock = FakeClock()

    async def take(self, wanted: Ask) -> Verdict:
        return self._ledger.take(wanted, self._clock.now)

    async def end(self, released: Release) -> None:
        self._ledger.give_back(released)

    async def pause(self, seconds: float) -> None:
        self._clock.advance(seconds)

    async def burst(self, day: str, burst_ms: int) -> None:
        self._ledger.add_burst(day, burst_ms)

    async def usage(self) -> Usage:
        return self._ledger.usage(DAY, self._clock.now)


class RedisStage:
    def __init__(self, slots: RedisSlots) -> None:
        self._slots = slots

    async def take(self, wanted: Ask) -> Verdict:
        return await self._slots.take(wanted)

    async def end(self, released: Release) -> None:
        await self._slots.give_back([released])

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def burst(self, day: str, burst_ms: int) -> None:
        await self._slots.renew((), day, burst_ms)

    async def usage(self) -> Usage:
        await self._slots.renew((), DAY, 0)
        return self._slots.usage()


@asynccontextmanager
async def memory_stage(_request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    yield MemoryStage()


@asynccontextmanager
async def redis_stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    server: RedisServer = request.getfixturevalue("shared_redis")
    link = RedisLink(RedisOptions(server.url, prefix=prefix(), timeout_s=5))
    await link.start()
    try:
        yield RedisStage(RedisSlots(link, RedisSlotOptions("i1", queue=QUEUE)))
    finally:
        await link.close()


Stages = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Stage]]


@pytest.mark.parametrize("stage", [memory_stage, pytest.param(redis_stage, marks=pytest.mark.e2e)])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_scenario(scenario: Scenario, stage: Stages, request: pytest.FixtureRequest) -> None:
    async with stage(request) as store:
        for number, step in enumerate(scenario.steps):
            where = f"step {number}: {step}"
            match step:
                case Take():
                    verdict = await store.take(ask(scenario.limits, step.request(), step.day))
                    assert said(verdict) == step.says, where
                case End(call, refund):
                    await store.end(Release(call, refund))
                case Pause(seconds):
                    await store.pause(seconds)
                case Burst(minutes, day):
                    await store.burst(day, int(minutes * MS_PER_MINUTE))
                case Shows(calls, burst, batch, waiting):
                    usage = await store.usage()
                    assert (usage.calls, usage.burst, usage.batch, usage.waiting) == (calls, burst, batch, waiting), (
                        where
                    )
        await shown_is_counted(store)


async def shown_is_counted(store: Stage) -> None:
    """The calls by agent add up."""
    usage = await store.usage()
    assert sum(usage.agents.values()) == usage.calls
    assert 0 not in usage.agents.values()
