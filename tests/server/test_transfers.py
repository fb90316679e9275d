"""The book of transfers: who reports first counts, on whichever process, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from bridge.auth.tokens import CallClaims
from bridge.server.call_tokens import MemoryTokens
from bridge.server.redis_client import RedisLink, RedisOptions
from bridge.server.shared_state import SharedState
from bridge.server.transfers import TransferCard, Transfers, Verdict, come_back
from tests.kit.redis import RedisServer, prefix

CARD = TransferCard(
    provider="twilio",
    call_id="call_1",
    call_sid="CA1",
    account_id="AC1",
    caller="+15550100",
    called="+15550199",
    agent_message="A caller.",
    accept_key="5",
    language="de",
)


def book(shared: SharedState | None = None) -> Transfers:
    return Transfers(shared or SharedState(), MemoryTokens(60.0, 10))


async def test_what_webhooks_must_know() -> None:
    transfers = book()
    transfer_id = await transfers.open(CARD)
    assert await transfers.card(transfer_id) == CARD
    transfers.close(transfer_id)
    assert await transfers.card(transfer_id) == CARD, "its webhooks come for hours"
    assert [await transfers.card(unknown) for unknown in ("", "guessed")] == [None, None]
    assert len(transfer_id) == 24
    assert transfer_id != await transfers.open(CARD)


async def test_the_first_verdict_counts() -> None:
    transfers = book()
    transfer_id = await transfers.open(CARD)
    assert await transfers.verdict_of(transfer_id) is None
    assert await transfers.report(transfer_id, Verdict.ACCEPTED)
    assert not await transfers.report(transfer_id, Verdict.BUSY)
    assert await transfers.verdict_of(transfer_id) is Verdict.ACCEPTED
    assert await transfers.wait(transfer_id, 5.0) is Verdict.ACCEPTED


async def test_a_verdict_is_waited_for_with_a_bound() -> None:
    transfers = book()
    transfer_id = await transfers.open(CARD)
    assert await transfers.wait(transfer_id, 0.01) is None
    waiting = asyncio.create_task(transfers.wait(transfer_id, 5.0))
    await asyncio.sleep(0)
    await transfers.report(transfer_id, Verdict.MACHINE)
    assert await waiting is Verdict.MACHINE


async def test_a_verdict_after_the_waiting_is_kept_all_the_same() -> None:
    transfers = book()
    transfer_id = await transfers.open(CARD)
    transfers.close(transfer_id)
    transfers.close(transfer_id)
    assert await transfers.report(transfer_id, Verdict.DECLINED)
    assert await transfers.verdict_of(transfer_id) is Verdict.DECLINED


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        (("has_left", "joins", "has_left", "left"), [False, True, False, True]),
        (("joins", "left", "left"), [True, True, True]),
        (("left", "has_left"), [False, True]),
        (("left", "joins", "left"), [False, False, True]),
    ],
)
async def test_who_comes_and_who_goes(steps: tuple[str, ...], told: list[bool | None]) -> None:
    """``left`` is true where a caller was sent to somebody who is not there; ``joins`` false where nobody is."""
    transfers = book()
    transfer_id = await transfers.open(CARD)
    assert [await getattr(transfers, step)(transfer_id) for step in steps] == told


async def test_whom_a_caller_was_sent_to() -> None:
    transfers = book()
    assert await transfers.human_of("CA1") == ""
    await transfers.meets("CA1", "CA2")
    assert await transfers.human_of("CA1") == "CA2"


async def test_whether_a_human_has_answered() -> None:
    transfers = book()
    transfer_id = await transfers.open(CARD)
    assert not await transfers.is_known_human(transfer_id)
    await transfers.is_human(transfer_id)
    assert await transfers.is_known_human(transfer_id)


async def test_the_token_with_which_a_stream_comes_back() -> None:
    tokens = MemoryTokens(60.0, 10)
    transfers = Transfers(SharedState(), tokens)
    first = await transfers.come_back(CARD)
    assert (first.caller, first.called) == ("+15550100", "+15550199")
    assert (await come_back(tokens, CARD)).token == first.token, "a webhook may be repeated"
    claims = await tokens.redeem(first.token, "CA1")
    assert isinstance(claims, CallClaims)
    assert (claims.call_id, claims.comeback, claims.caller, claims.direction) == (
        "call_1",
        True,
        "+15550100",
        "inbound",
    )
    assert (await transfers.come_back(CARD)).token != first.token


# --- two processes ---------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def two_processes(server: RedisServer) -> AsyncIterator[tuple[Transfers, Transfers]]:
    name = prefix()
    async with contextlib.AsyncExitStack() as stack:
        books = []
        for _ in range(2):
            link = RedisLink(RedisOptions(server.url, name))
            await link.start()
            stack.push_async_callback(link.close)
            shared = SharedState(link)
            await shared.start()
            stack.push_async_callback(shared.close)
            books.append(book(shared))
        yield books[0], books[1]


@pytest.mark.e2e
async def test_a_verdict_reaches_the_process_that_carries_the_call(shared_redis: RedisServer) -> None:
    async with two_processes(shared_redis) as (here, there):
        transfer_id = await here.open(CARD)
        assert await there.card(transfer_id) == CARD
        waiting = asyncio.create_task(here.wait(transfer_id, 5.0))
        await asyncio.sleep(0.02)
        began_s = time.monotonic()
        assert await there.report(transfer_id, Verdict.ACCEPTED)
        assert await waiting is Verdict.ACCEPTED
        assert time.monotonic() - began_s < 1.0
        assert not await here.report(transfer_id, Verdict.BUSY)
        assert await there.joins(transfer_id)
        assert await here.left(transfer_id)


@pytest.mark.e2e
async def test_a_verdict_of_the_own_process_needs_no_detour(shared_redis: RedisServer) -> None:
    async with two_processes(shared_redis) as (here, _):
        transfer_id = await here.open(CARD)
        assert await here.wait(transfer_id, 0.08) is None
        before = asyncio.all_tasks()
        waiting = asyncio.create_task(here.wait(transfer_id, 5.0))
        await asyncio.sleep(0.02)
        await here.report(transfer_id, Verdict.BUSY)
        assert await waiting is Verdict.BUSY
        await asyncio.sleep(0.01)
        assert asyncio.all_tasks() - before - {waiting} == set(), "nobody looks any more"
