"""Idempotency keys: one request acts, the others are told; what nobody knows is said to be unknown."""

from __future__ import annotations

import asyncio

import pytest

from bridge.server import idempotency
from bridge.server.api.ports import PlacedCall, PlacementRefused, Refusal
from bridge.server.idempotency import IdempotencyKeys, key_problem
from bridge.server.shared_state import SharedState
from tests.kit.clock import FakeClock

PLACED = PlacedCall(call_id="c1", call_sid="CA1", status="queued")
REFUSAL = Refusal(status=502, code="carrier_down", message="No.", stays=True)


def keys(clock: FakeClock | None = None, *, wait_s: float = 0.0) -> IdempotencyKeys:
    clock = clock or FakeClock()
    return IdempotencyKeys(SharedState(monotonic=lambda: clock.now), wait_s=wait_s)


async def refusal(book: IdempotencyKeys, digest: str = "d1") -> Refusal:
    with pytest.raises(PlacementRefused) as caught:
        await book.claim("key", digest, "c2")
    return caught.value.refusal


async def test_the_first_acts_and_the_others_are_told() -> None:
    book = keys()
    assert await book.claim("key", "d1", "c1") is None
    await book.settle("key", PLACED)
    assert await book.claim("key", "d1", "c2") == PLACED
    assert await book.claim("other", "d1", "c3") is None


async def test_a_refusal_is_told_as_well() -> None:
    book = keys()
    await book.claim("key", "d1", "c1")
    await book.settle("key", None, REFUSAL)
    assert await refusal(book) == REFUSAL


async def test_a_key_of_another_request_is_refused_even_while_the_first_runs() -> None:
    book = keys()
    await book.claim("key", "d1", "c1")
    assert (await refusal(book, "d2")).code == "idempotency_key_reused"
    await book.settle("key", PLACED)
    assert (await refusal(book, "d2")).status == 422


async def test_who_comes_while_the_first_runs_waits_for_it() -> None:
    book = keys(wait_s=5.0)
    await book.claim("key", "d1", "c1")
    waiting = asyncio.create_task(book.claim("key", "d1", "c2"))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await book.settle("key", PLACED)
    assert await waiting == PLACED


async def test_what_became_of_a_request_that_broke_off_is_unknown() -> None:
    book = keys()
    await book.claim("key", "d1", "9f86d081884c7d65")
    told = await refusal(book)
    assert (told.status, told.code, told.field) == (409, "placement_unknown", "Idempotency-Key")
    assert "GET /v1/calls/9f86d081884c7d65" in told.message


async def test_a_key_that_was_given_free_can_be_used_again() -> None:
    book = keys()
    await book.claim("key", "d1", "c1")
    await book.release("key")
    assert await book.claim("key", "d2", "c2") is None


async def test_a_key_is_forgotten_after_a_day() -> None:
    clock = FakeClock()
    book = keys(clock)
    await book.claim("key", "d1", "c1")
    await book.settle("key", PLACED)
    clock.advance(24 * 3600 - 1)
    assert await book.claim("key", "d1", "c2") == PLACED
    clock.advance(2)
    assert await book.claim("key", "d1", "c3") is None


async def test_a_key_that_is_taken_and_given_free_all_the_time() -> None:
    class Restless(SharedState):
        async def put_if_absent(self, key: str, value: bytes, ttl_s: float) -> bool:
            return False

    told = await refusal(IdempotencyKeys(Restless()))
    assert told.code == "placement_unknown"
    assert "GET /v1/calls," in told.message


async def test_an_outcome_without_words_is_unknown() -> None:
    book = keys()
    await book.claim("key", "d1", "c1")
    await book.settle("key", None)
    assert (await refusal(book)).code == "placement_unknown"


@pytest.mark.parametrize("key", ["a", "b6a2f0b4-6f0e-4c57-9a0e-0d3a8f5f8a11", "!~", "x" * 255])
def test_keys(key: str) -> None:
    assert key_problem(key) == ""


@pytest.mark.parametrize("key", ["", " ", "a b", "ü", "a\n", "x" * 256])
def test_what_is_no_key(key: str) -> None:
    assert key_problem(key) == "must have 1 to 255 visible ASCII characters; a UUID is best"


def test_a_repetition_waits_longer_than_a_carrier_may_take() -> None:
    assert idempotency.WAIT_S > 5.0
