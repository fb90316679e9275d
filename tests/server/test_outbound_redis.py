"""Placed calls of two processes over a real Redis: slot, token and end move as they should, whoever is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from bridge.auth.tokens import CallClaims
from bridge.calls.admission import CallKind, Granted, Limits, SlotRequest
from bridge.server.admission import Admission, AdmissionOptions
from bridge.server.admission_redis import RedisSlotOptions, RedisSlots
from bridge.server.answer import Busy, Connect
from bridge.server.api.ports import PlacementRefused
from bridge.server.call_tokens import MemoryTokens, RedisTokens
from bridge.server.redis_client import RedisLink, RedisOptions
from bridge.server.shared_state import SharedState
from tests.kit.outbound import SID, Office, answer_info
from tests.kit.redis import RedisServer, prefix
from tests.kit.server import until

pytestmark = pytest.mark.e2e

LEASE_S = 0.6


@asynccontextmanager
async def process(server: RedisServer, name: str, instance_id: str, limit: int = 10) -> AsyncIterator[Office]:
    """The outbound calls of one process, with short leases."""
    async with AsyncExitStack() as stack:
        link = RedisLink(RedisOptions(server.url, prefix=name, retry_first_s=0.05))
        await link.start()
        stack.push_async_callback(link.close)
        slots = RedisSlots(link, RedisSlotOptions(instance_id, lease_s=LEASE_S))
        options = AdmissionOptions(renew_every_s=LEASE_S / 4, settle_s=LEASE_S)
        admission = Admission(Limits(999, limit), options, slots)
        link.on_up(admission.store_is_back)
        tokens = RedisTokens(link, 60.0, MemoryTokens(60.0, 100))
        shared = SharedState(link)
        for part in (admission, shared):
            await part.start()
            stack.push_async_callback(part.close)
        stack.push_async_callback(tokens.close)
        office = Office(shared=shared, tokens=tokens, admission=admission)
        stack.push_async_callback(office.outbound.close)
        yield office


async def in_use(office: Office) -> int:
    """Slots of the workspace, as of the latest renewal."""
    await asyncio.sleep(LEASE_S / 2)
    return office.admission.usage().calls


async def test_a_call_that_is_placed_answered_talked_on_and_over_at_three_places(shared_redis: RedisServer) -> None:
    name = prefix()
    async with process(shared_redis, name, "i1") as placer, process(shared_redis, name, "i2") as talker:
        call_id = (await placer.place("key")).call_id
        assert await talker.place("key") == await placer.place("key")
        told = await talker.outbound.answered(call_id, answer_info())
        assert isinstance(told, Connect)
        claims = await talker.tokens.redeem(told.token, SID)
        assert isinstance(claims, CallClaims)
        request = SlotRequest(call_id=claims.call_id, agent_id="agent_1", kind=CallKind.OUTBOUND)
        assert await talker.admission.take(request) == Granted()
        talker.outbound.joined(call_id)
        talker.lines.call_sids.add(SID)
        await until(lambda: placer.slots == 0, "the placer still thinks that it has the slot")
        await placer.outbound.look()
        assert (len(placer.outbound), placer.live.here()) == (0, [])
        assert (await in_use(placer), talker.slots) == (1, 1)
        assert await placer.status(call_id, "completed", 3)
        assert placer.lines.over == [SID]
        assert placer.ends + talker.ends == []
        talker.admission.give_back(call_id)
        assert await in_use(placer) == 0


async def test_a_call_that_fails_before_the_eyes_of_another_process(shared_redis: RedisServer) -> None:
    name = prefix()
    async with process(shared_redis, name, "i1", 1) as placer, process(shared_redis, name, "i2", 1) as other:
        call_id = (await placer.place()).call_id
        with pytest.raises(PlacementRefused):
            await other.place()
        told = await other.outbound.answered(call_id, answer_info())
        assert isinstance(told, Connect)
        reports = [office.status(call_id, "completed", 3) for office in (placer, other, other, placer)]
        assert await asyncio.gather(*reports) == [True] * 4
        assert len(placer.failures) + len(other.failures) == 1
        assert placer.ends + other.ends == ["no_media"]
        await placer.outbound.look()
        await until(lambda: placer.slots == 0, "the slot is held for ever")
        assert isinstance(await placer.outbound.answered(call_id, answer_info()), Busy)
        assert await in_use(other) == 0
        assert (await other.place()).call_sid


async def test_processes_that_race_with_one_key_place_one_call(shared_redis: RedisServer) -> None:
    name = prefix()
    async with process(shared_redis, name, "i1") as first, process(shared_redis, name, "i2") as second:
        placed = await asyncio.gather(*(office.place("key") for office in (first, second) * 5))
        assert len({call.call_id for call in placed}) == 1
        assert len(first.control.placed) + len(second.control.placed) == 1
        assert first.slots + second.slots == 1
