"""The outbox's queries on a real database: claims, leases, order, giving up, replay."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from bridge.calls.record import OutboxEvent
from bridge.server.store.database import Database, open_database
from bridge.server.store.outbox import Claimed, OutboxCounts, OutboxStore, Outcome
from bridge.server.store.schema import OUTBOX

LEASE_S = 20.0


def event(call_id: str = "c1", sequence: int = 1, *, body: bytes = b"{}", audio: str = "") -> OutboxEvent:
    return OutboxEvent(
        id=f"evt_{call_id}_{sequence}",
        call_id=call_id,
        sequence=sequence,
        type="call.started",
        created_at=1_000.0 + sequence,
        body=body,
        audio=audio,
        audio_format="wav" if audio else "",
    )


@pytest.fixture
def store(database: Database) -> OutboxStore:
    return OutboxStore(database)


def ids(claimed: list[Claimed]) -> list[str]:
    return [item.event.id for item in claimed]


async def delivered(store: OutboxStore, stored: OutboxEvent) -> None:
    """Somebody delivered it, whoever had the claim."""
    await store.settle("somebody", [Outcome(event=stored, state="delivered")])


async def failed(store: OutboxStore, owner: str, stored: OutboxEvent, error: str, retry_in_s: float) -> None:
    await store.settle(owner, [Outcome(event=stored, state="pending", error=error, retry_in_s=retry_in_s)])


async def bury(store: OutboxStore, owner: str, stored: OutboxEvent, error: str) -> None:
    await store.settle(owner, [Outcome(event=stored, state="dead", error=error)])


async def expire_claims(database: Database) -> None:
    """Let every lease be over."""
    async with database.write() as connection:
        await connection.execute(update(OUTBOX).values(claimed_until=database.now() - 0.001))


async def make_due(database: Database) -> None:
    """Let every retry's time have come."""
    async with database.write() as connection:
        await connection.execute(update(OUTBOX).values(next_attempt_at=0.0))


async def test_an_event_is_claimed_as_it_was_stored(store: OutboxStore) -> None:
    stored = event(body=b'{"type":"post_call_audio"}', audio="2026/11/c1.wav")
    assert await store.add_next(stored)
    claimed = (await store.claim("a", 10, LEASE_S))[0]
    assert claimed.event == stored
    assert claimed.attempt == 1
    assert claimed.age_s > 1e9  # it says that it is of 1970


async def test_a_claimed_event_is_nobody_elses_until_its_lease_is_over(store: OutboxStore, database: Database) -> None:
    await store.add_next(event())
    assert ids(await store.claim("a", 10, LEASE_S)) == ["evt_c1_1"]
    assert await store.claim("b", 10, LEASE_S) == []
    assert await store.claim("a", 10, LEASE_S) == []
    await expire_claims(database)
    again = await store.claim("b", 10, LEASE_S)
    assert (ids(again), again[0].attempt) == (["evt_c1_1"], 2)


async def test_a_renewed_lease_holds(store: OutboxStore, database: Database) -> None:
    await store.add_next(event())
    await store.claim("a", 10, LEASE_S)
    await expire_claims(database)
    await store.renew("a", ["evt_c1_1"], LEASE_S)
    assert await store.claim("b", 10, LEASE_S) == []


async def test_a_lease_taken_over_is_not_renewed(store: OutboxStore, database: Database) -> None:
    await store.add_next(event())
    await store.claim("a", 10, LEASE_S)
    await expire_claims(database)
    await store.claim("b", 10, LEASE_S)
    await expire_claims(database)
    await store.renew("a", ["evt_c1_1"], LEASE_S)
    assert len(await store.claim("c", 10, LEASE_S)) == 1


async def test_the_order_within_a_call_is_kept_and_other_calls_do_not_wait(store: OutboxStore) -> None:
    for stored in (event("c1", 1), event("c1", 2), event("c2", 1)):
        await store.add_next(stored)
    assert sorted(ids(await store.claim("a", 10, LEASE_S))) == ["evt_c1_1", "evt_c2_1"]
    assert await store.claim("a", 10, LEASE_S) == []
    await delivered(store, event())
    assert ids(await store.claim("a", 10, LEASE_S)) == ["evt_c1_2"]


async def test_no_more_than_the_limit_is_claimed(store: OutboxStore) -> None:
    for number in range(5):
        await store.add_next(event(f"c{number}"))
    assert len(await store.claim("a", 3, LEASE_S)) == 3
    assert len(await store.claim("b", 3, LEASE_S)) == 2


async def test_what_was_delivered_loses_its_body_and_stays_known(store: OutboxStore, database: Database) -> None:
    await store.add_next(event(body=b"what was said"))
    await store.claim("a", 1, LEASE_S)
    await delivered(store, event())
    async with database.read() as connection:
        row = (await connection.execute(select(OUTBOX))).one()
    assert (row.state, row.body, row.claimed_by) == ("delivered", b"", "")
    assert row.delivered_at > 1e9
    assert not await store.add_next(event(body=b"what was said"))
    assert await store.claim("a", 1, LEASE_S) == []


async def test_a_failed_attempt_waits_and_so_do_the_calls_later_events(store: OutboxStore, database: Database) -> None:
    await store.add_next(event("c1", 1))
    await store.add_next(event("c1", 2))
    claimed = (await store.claim("a", 1, LEASE_S))[0]
    await failed(store, "a", claimed.event, "HTTP 500", 60.0)
    assert await store.claim("a", 1, LEASE_S) == []
    async with database.read() as connection:
        waits = (await connection.scalars(select(OUTBOX.c.next_attempt_at - database.now()))).all()
    assert all(59.0 < wait_s < 61.0 for wait_s in waits), waits
    listed = await store.of_call("c1")
    assert [(item.attempts, item.last_error, item.state) for item in listed] == [
        (1, "HTTP 500", "pending"),
        (0, "", "pending"),
    ]
    await make_due(database)
    assert (await store.claim("a", 1, LEASE_S))[0].attempt == 2


async def test_many_attempts_are_settled_at_once(store: OutboxStore) -> None:
    for number in (1, 2, 3, 4):
        await store.add_next(event(f"c{number}"))
    one, two, three, four = (item.event for item in await store.claim("a", 4, LEASE_S))
    outcomes = [
        Outcome(event=one, state="delivered"),
        Outcome(event=two, state="pending", error="HTTP 500", retry_in_s=60.0),
        Outcome(event=three, state="dead", error="HTTP 410"),
        Outcome(event=four, state="delivered"),
    ]
    await store.settle("a", outcomes)
    await store.settle("a", outcomes)
    states = [(await store.of_call(stored.call_id))[0].state for stored in (one, two, three, four)]
    assert states == ["delivered", "pending", "dead", "delivered"]
    await store.settle("a", [])


async def test_a_long_error_is_cut(store: OutboxStore) -> None:
    await store.add_next(event())
    claimed = (await store.claim("a", 1, LEASE_S))[0]
    await failed(store, "a", claimed.event, "x" * 10_000, 60.0)
    assert len((await store.of_call("c1"))[0].last_error) == 500


async def test_one_that_lost_its_claim_can_still_say_delivered_but_nothing_else(
    store: OutboxStore, database: Database
) -> None:
    await store.add_next(event())
    claimed = (await store.claim("a", 1, LEASE_S))[0]
    await expire_claims(database)
    await store.claim("b", 1, LEASE_S)
    await failed(store, "a", claimed.event, "late", 1.0)
    await bury(store, "a", claimed.event, "late")
    await store.release("a", [claimed.event.id])
    listed = (await store.of_call("c1"))[0]
    assert (listed.state, listed.last_error, listed.attempts) == ("pending", "", 2)
    await delivered(store, claimed.event)
    assert (await store.of_call("c1"))[0].state == "delivered"
    await failed(store, "b", claimed.event, "lost the race", 1.0)
    assert (await store.of_call("c1"))[0].state == "delivered"


async def test_a_released_claim_was_no_attempt(store: OutboxStore) -> None:
    await store.add_next(event())
    await store.claim("a", 1, LEASE_S)
    await store.release("a", ["evt_c1_1"])
    assert (await store.claim("b", 1, LEASE_S))[0].attempt == 1


async def test_a_dead_event_lets_the_later_ones_go(store: OutboxStore) -> None:
    await store.add_next(event("c1", 1))
    await store.add_next(event("c1", 2))
    claimed = (await store.claim("a", 1, LEASE_S))[0]
    await bury(store, "a", claimed.event, "HTTP 410")
    assert ids(await store.claim("a", 1, LEASE_S)) == ["evt_c1_2"]
    dead = await store.dead(10)
    assert [(item.id, item.state, item.last_error) for item in dead] == [("evt_c1_1", "dead", "HTTP 410")]


async def test_replay_brings_dead_events_back_with_their_bodies(store: OutboxStore) -> None:
    for number in (1, 2, 3):
        await store.add_next(event(f"c{number}", body=b"kept"))
        claimed = (await store.claim("a", 1, LEASE_S))[0]
        await bury(store, "a", claimed.event, "gave up")
    assert await store.replayed(["evt_c1_1", "evt_unknown"]) == ["evt_c1_1"]
    again = (await store.claim("a", 10, LEASE_S))[0]
    assert (again.event.id, again.event.body, again.attempt) == ("evt_c1_1", b"kept", 1)
    assert again.age_s < 10.0, "its time to live begins anew"
    assert await store.replay(None) == 2
    assert await store.replay(None) == 0
    assert len(await store.claim("a", 10, LEASE_S)) == 2


async def test_only_dead_events_are_replayed(store: OutboxStore) -> None:
    await store.add_next(event("c1"))
    await store.add_next(event("c2"))
    await store.claim("a", 1, LEASE_S)
    await delivered(store, event())
    assert await store.replayed(["evt_c1_1", "evt_c2_1"]) == []


async def test_counts(store: OutboxStore, database: Database) -> None:
    assert await store.counts() == OutboxCounts(pending=0, dead=0, oldest_pending_s=0.0)
    for number in (1, 2, 3, 4):
        await store.add_next(event(f"c{number}"))
    first, second, _third = await store.claim("a", 3, LEASE_S)
    await bury(store, "a", first.event, "gave up")
    await delivered(store, second.event)
    async with database.write() as connection:
        await connection.execute(update(OUTBOX).values(created_at=database.now() - 90.0))
    counts = await store.counts()
    assert (counts.pending, counts.dead) == (2, 1)
    assert 90.0 <= counts.oldest_pending_s < 95.0


async def test_listing_is_oldest_first_and_bounded(store: OutboxStore) -> None:
    for sequence in (3, 1, 2):
        await store.add_next(event(f"c{sequence}", sequence))
    listed = await store.in_states(("pending", "dead"), 2)
    assert [item.id for item in listed] == ["evt_c1_1", "evt_c2_2"]
    assert listed[0].next_attempt_at is None
    assert await store.in_states(("pending",), -1) == []


async def test_an_event_added_behind_the_others_of_its_call(store: OutboxStore, database: Database) -> None:
    await store.add_next(event("c1", 4))
    await store.add_next(event("c1", 1))  # of the vendor's webhook: it knows nothing of our count
    assert [(item.id, item.sequence) for item in await store.of_call("c1")] == [("evt_c1_4", 4), ("evt_c1_1", 5)]
    async with database.read() as connection:
        assert await connection.scalar(select(func.count()).select_from(OUTBOX)) == 2


async def test_a_forgotten_call_leaves_nothing(store: OutboxStore) -> None:
    await store.add_next(event("c1", 1))
    await store.add_next(event("c1", 2))
    await store.add_next(event("c2", 1))
    assert await store.forget("c1") == 2
    assert await store.of_call("c1") == []
    assert len(await store.of_call("c2")) == 1


async def test_two_stores_never_claim_the_same(store: OutboxStore, database_url: str, tmp_path: Path) -> None:
    other_database = open_database(database_url, tmp_path)
    other = OutboxStore(other_database)
    for number in range(60):
        await store.add_next(event(f"c{number}"))
    try:

        async def take(source: OutboxStore, owner: str) -> list[str]:
            got: list[str] = []
            while batch := await source.claim(owner, 4, LEASE_S):
                got += ids(batch)
            return got

        taken = await asyncio.gather(*(take(source, f"o{index}") for index, source in enumerate([store, other] * 2)))
    finally:
        await other_database.close()
    everything = [name for part in taken for name in part]
    assert len(everything) == len(set(everything)) == 60
