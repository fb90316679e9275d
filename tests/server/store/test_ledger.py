from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError, OperationalError

from bridge.server.store.calls import CallStore
from bridge.server.store.database import Database
from bridge.server.store.encoding import EncodedCall, encode_call
from bridge.server.store.ledger import Ledger, LedgerOptions
from bridge.server.store.retention import KEEP_ALL, Retention
from tests.kit.clock import FakeClock
from tests.kit.records import call_record, ended_record, outbox_event
from tests.kit.server import until

FAST = LedgerOptions(batch_interval_s=0.0, busy_interval_s=0.0, retry_first_s=0.001, retry_max_s=0.002)
ONE = encode_call(call_record(), (), KEEP_ALL).size_bytes
LOCKED = OperationalError("INSERT", {}, sqlite3.OperationalError("database is locked"))
REFUSED = IntegrityError("INSERT", {}, sqlite3.IntegrityError("+15550001"))


class FakeStore:
    """A store that fails when told to and remembers what it was given."""

    def __init__(self) -> None:
        self.retention: Retention = KEEP_ALL
        self.batches: list[list[EncodedCall]] = []
        self.attempts = 0
        self.error: Callable[[Sequence[EncodedCall]], Exception | None] = lambda _items: None
        self.gate = asyncio.Event()
        self.gate.set()

    async def save_encoded(self, items: Sequence[EncodedCall]) -> None:
        items = list(items)
        self.attempts += 1
        await self.gate.wait()
        error = self.error(items)
        if error is not None:
            raise error
        self.batches.append(items)

    def written(self) -> list[tuple[str, str, list[str]]]:
        """Id, state and kinds of events of every version, in order."""
        return [(one.id, one.row["state"], [e["type"] for e in one.events]) for batch in self.batches for one in batch]


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
async def ledger(store: FakeStore) -> AsyncIterator[Ledger]:
    ledger = Ledger(store, FAST)
    ledger.start()
    yield ledger
    store.gate.set()
    await ledger.close(1.0)


async def busy(ledger: Ledger, store: FakeStore) -> None:
    """Have the writer at work on another call, until the gate opens."""
    store.gate.clear()
    ledger.put(call_record("busy"))
    await until(lambda: store.attempts == 1)


# --- what is written ---


async def test_a_version_is_written_with_its_events(ledger: Ledger, store: FakeStore) -> None:
    ledger.put(call_record(), [outbox_event(kind="call.started")])
    assert await ledger.flush(1.0)
    assert store.written() == [("call1", "active", ["call.started"])]
    assert (ledger.written, ledger.pending, ledger.pending_bytes, ledger.lost, ledger.lag_s) == (1, 0, 0, 0, 0.0)


async def test_versions_that_pile_up_become_one_with_all_events(ledger: Ledger, store: FakeStore) -> None:
    await busy(ledger, store)
    ledger.put(call_record(state="connecting"), [outbox_event(kind="call.started")])
    ledger.put(call_record())
    ledger.put(call_record("call2"))
    ledger.put(ended_record(), [outbox_event(sequence=2)])
    store.gate.set()
    assert await ledger.flush(1.0)
    assert store.written() == [
        ("busy", "active", []),
        ("call1", "ended", ["call.started", "call.ended"]),
        ("call2", "active", []),
    ]
    assert ledger.pending_bytes == 0


async def test_a_version_that_comes_while_its_elder_is_written_goes_after_it(ledger: Ledger, store: FakeStore) -> None:
    store.gate.clear()
    ledger.put(call_record(), [outbox_event(kind="call.started")])
    await until(lambda: store.attempts == 1)
    ledger.put(ended_record(), [outbox_event(sequence=2)])
    assert ledger.pending == 2
    store.gate.set()
    assert await ledger.flush(1.0)
    assert store.written() == [("call1", "active", ["call.started"]), ("call1", "ended", ["call.ended"])]


async def test_what_happens_to_the_record_after_put_is_not_written(ledger: Ledger, store: FakeStore) -> None:
    record = call_record()
    ledger.put(record)
    record.state = "ended"
    record.journal.said("user", "later words", 1.0)
    assert await ledger.flush(1.0)
    (only,) = store.batches[0]
    assert only.row["state"] == "active"
    assert b"later words" not in only.row["journal"]


async def test_batches_have_a_bound_in_calls_and_in_bytes(store: FakeStore) -> None:
    big = call_record("big", detail="x" * 50_000)
    ledger = Ledger(
        store, LedgerOptions(batch_calls=3, batch_bytes=ONE * 20, busy_interval_s=0.0, batch_interval_s=0.0)
    )
    for number in range(4):
        ledger.put(call_record(f"call{number}"))
    ledger.put(big)
    ledger.put(call_record("last"))
    ledger.start()
    await ledger.close(1.0)
    assert [[one.id for one in batch] for batch in store.batches] == [
        ["call0", "call1", "call2"],
        ["call3"],
        ["big"],
        ["last"],
    ]


async def test_a_busy_ledger_takes_its_time_between_batches(store: FakeStore) -> None:
    ledger = Ledger(store, LedgerOptions(batch_interval_s=3600.0))
    ledger.start()
    ledger.put(call_record("call1"))
    await until(lambda: len(store.batches) == 1)
    ledger.put(call_record("call2"))
    await asyncio.sleep(0.01)
    assert len(store.batches) == 1
    assert await ledger.flush(1.0)  # whoever stops does not wait
    assert len(store.batches) == 2
    await ledger.close(1.0)


async def test_put_works_before_the_start(store: FakeStore) -> None:
    ledger = Ledger(store, FAST)
    ledger.put(call_record())
    ledger.start()
    await ledger.close(1.0)
    assert store.written() == [("call1", "active", [])]


# --- when the database fails ---


async def test_a_failure_is_tried_again_and_newer_versions_join(
    ledger: Ledger, store: FakeStore, lines: list[dict[str, Any]]
) -> None:
    store.error = lambda _items: LOCKED
    ledger.put(call_record(), [outbox_event(kind="call.started")])
    ledger.put(call_record("call2"))
    await until(lambda: store.attempts >= 3)
    ledger.put(ended_record(), [outbox_event(sequence=2)])
    await until(lambda: store.attempts >= 6)
    assert ledger.trouble == "OperationalError: database is locked"
    assert ledger.pending == 2
    store.error = lambda _items: None
    assert await ledger.flush(1.0)
    assert store.written() == [("call1", "ended", ["call.started", "call.ended"]), ("call2", "active", [])]
    assert (ledger.trouble, ledger.pending_bytes, ledger.lost) == ("", 0, 0)
    assert [line["event"] for line in lines] == ["database_failed", "database_back"]
    assert lines[0]["log_level"] == "error"
    assert lines[0]["detail"] == "OperationalError: database is locked"


async def test_events_of_a_batch_that_failed_join_the_version_that_came_meanwhile(
    ledger: Ledger, store: FakeStore
) -> None:
    store.error = lambda _items: LOCKED if store.attempts == 1 else None
    store.gate.clear()
    ledger.put(call_record(), [outbox_event(kind="call.started")])
    await until(lambda: store.attempts == 1)
    ledger.put(ended_record(), [outbox_event(sequence=2)])
    store.gate.set()
    assert await ledger.flush(1.0)
    assert store.written() == [("call1", "ended", ["call.started", "call.ended"])]
    assert ledger.pending_bytes == 0


async def test_the_back_off_doubles_up_to_its_bound(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(store, LedgerOptions(retry_first_s=0.2, retry_max_s=1.0, batch_interval_s=0.5))
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(round(seconds, 3))
        await asyncio.sleep(0)

    monkeypatch.setattr(ledger, "_pause", pause)
    store.error = lambda _items: LOCKED if store.attempts <= 5 else None
    ledger.put(call_record())
    ledger.start()
    await until(lambda: bool(store.batches))
    await until(lambda: len(pauses) == 6)
    assert pauses[:5] == [0.2, 0.4, 0.8, 1.0, 1.0]
    assert 0.4 < pauses[5] <= 0.5
    await ledger.close(1.0)


async def test_a_database_that_swallows_everything_counts_as_failed(store: FakeStore) -> None:
    store.gate.clear()
    ledger = Ledger(store, LedgerOptions(write_timeout_s=0.01, retry_first_s=0.001, retry_max_s=0.001))
    ledger.start()
    ledger.put(call_record())
    await until(lambda: ledger.trouble == "TimeoutError: no answer in time")
    store.gate.set()
    await ledger.close(1.0)
    assert store.written() == [("call1", "active", [])]


async def test_what_the_database_refuses_does_not_hold_up_the_rest(
    ledger: Ledger, store: FakeStore, lines: list[dict[str, Any]]
) -> None:
    store.error = lambda items: REFUSED if any(one.id == "bad" for one in items) else None
    await busy(ledger, store)
    for name in ("call1", "bad", "call2"):
        ledger.put(call_record(name), [outbox_event(name)])
    store.gate.set()
    assert await ledger.flush(1.0)
    assert [name for name, _, _ in store.written()] == ["busy", "call1", "call2"]
    assert (ledger.lost, ledger.lost_events, ledger.pending_bytes) == (1, 1, 0)
    (line,) = lines
    assert line["event"] == "records_lost"
    assert line["log_level"] == "error"
    assert line["detail"] == "refused by the database: IntegrityError"


async def test_an_outage_while_looking_for_the_refused_one_loses_nothing_else(ledger: Ledger, store: FakeStore) -> None:
    def error(items: Sequence[EncodedCall]) -> Exception | None:
        if store.attempts == 4:
            return LOCKED
        return REFUSED if any(one.id == "bad" for one in items) else None

    store.error = error
    await busy(ledger, store)
    for name in ("bad", "call1", "call2"):
        ledger.put(call_record(name))
    store.gate.set()
    assert await ledger.flush(1.0)
    assert [name for name, _, _ in store.written()] == ["busy", "call1", "call2"]
    assert ledger.lost == 1
    assert ledger.pending_bytes == 0


async def test_what_cannot_be_encoded_is_lost_and_said(
    ledger: Ledger, store: FakeStore, lines: list[dict[str, Any]]
) -> None:
    endless: list[Any] = []
    endless.append(endless)
    ledger.put(call_record(initiation={"n": endless}), [outbox_event()])
    assert await ledger.flush(1.0)
    assert store.batches == []
    assert (ledger.lost, ledger.lost_events) == (1, 1)
    assert lines[0]["detail"] == "cannot be encoded: RecursionError"


# --- the bound ---


async def test_without_room_versions_without_events_go_first_then_the_oldest(
    store: FakeStore, lines: list[dict[str, Any]]
) -> None:
    with_event = encode_call(call_record("a"), [outbox_event("a")], KEEP_ALL).size_bytes
    ledger = Ledger(store, LedgerOptions(max_pending_bytes=2 * with_event + 10), lambda: 0.0)
    ledger.put(call_record("a"), [outbox_event("a")])
    ledger.put(call_record("b"))
    assert (ledger.pending, ledger.lost) == (2, 0)
    ledger.put(call_record("c"), [outbox_event("c")])
    assert (ledger.pending, ledger.lost, ledger.lost_events) == (2, 1, 0)  # b
    ledger.put(call_record("d"), [outbox_event("d")])
    assert (ledger.pending, ledger.lost, ledger.lost_events) == (2, 2, 1)  # a
    assert ledger.pending_bytes <= 2 * with_event + 10
    assert len(lines) == 1  # not one a loss
    assert lines[0] == {
        "event": "records_lost",
        "log_level": "error",
        "lost_records": 1,
        "lost_events": 0,
        "detail": "no room left: the database takes nothing",
    }
    ledger.start()
    await ledger.close(1.0)
    assert [name for name, _, _ in store.written()] == ["c", "d"]


async def test_losses_that_go_on_are_logged_from_time_to_time(store: FakeStore, lines: list[dict[str, Any]]) -> None:
    clock = FakeClock()
    ledger = Ledger(store, LedgerOptions(max_pending_bytes=0), lambda: clock.now)
    for _ in range(3):
        ledger.put(call_record())
        clock.advance(6.0)
    assert [line["lost_records"] for line in lines] == [1, 3]


async def test_a_version_that_gains_an_event_no_longer_goes_first(store: FakeStore) -> None:
    ledger = Ledger(store, LedgerOptions(max_pending_bytes=4 * ONE + 200))
    ledger.put(call_record("a"))
    ledger.put(call_record("b"))
    ledger.put(call_record("a"), [outbox_event("a")])
    ledger.put(call_record("c"), [outbox_event("c")])
    ledger.start()
    await ledger.close(1.0)
    assert [name for name, _, _ in store.written()] == ["a", "c"]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans(), st.integers(0, 5000)), max_size=40))
def test_the_bytes_add_up_and_stay_below_the_bound(puts: list[tuple[str, bool, int]]) -> None:
    ledger = Ledger(FakeStore(), LedgerOptions(max_pending_bytes=20_000), lambda: 0.0)
    for number, (name, has_event, size) in enumerate(puts):
        events = [outbox_event(name, kind=f"k{number}")] if has_event else []
        ledger.put(call_record(name, detail="x" * size), events)
        assert ledger.pending_bytes == sum(one.call.size_bytes for one in ledger._pending.values())
        assert ledger.pending_bytes <= 20_000
        assert set(ledger._bare) == {name for name, one in ledger._pending.items() if not one.call.events}


# --- figures and the end ---


async def test_the_lag_is_the_age_of_the_oldest_that_waits(store: FakeStore) -> None:
    clock = FakeClock()
    ledger = Ledger(store, FAST, lambda: clock.now)
    ledger.put(call_record("a"))
    clock.advance(2.0)
    ledger.put(call_record("b"))
    ledger.put(ended_record("a"))  # a newer version waits since the first
    clock.advance(1.0)
    assert ledger.lag_s == 3.0
    store.gate.clear()
    ledger.start()
    await until(lambda: store.attempts == 1)
    assert ledger.lag_s == 3.0  # what is being written is not yet kept
    store.gate.set()
    await ledger.close(1.0)
    assert ledger.lag_s == 0.0


async def test_what_cannot_be_written_before_the_end_is_lost_and_said(
    store: FakeStore, lines: list[dict[str, Any]]
) -> None:
    store.error = lambda _items: LOCKED
    ledger = Ledger(store, FAST)
    ledger.start()
    ledger.put(call_record(), [outbox_event()])
    assert not await ledger.flush(0.02)
    assert ledger.lost == 0
    await ledger.close(0.02)
    assert (ledger.lost, ledger.lost_events) == (1, 1)
    assert lines[-1]["event"] == "records_lost"
    assert lines[-1]["detail"] == "the bridge stopped before the write"


async def test_a_ledger_that_never_began_ends_all_the_same(store: FakeStore) -> None:
    ledger = Ledger(store, FAST)
    await ledger.close(0.0)
    assert ledger.lost == 0


async def test_a_thousand_ends_at_once_reach_the_database(database: Database) -> None:
    calls = CallStore(database)
    ledger = Ledger(calls)
    ledger.start()
    for number in range(1000):
        ledger.put(ended_record(f"call{number}"), [outbox_event(f"call{number}")])
    await ledger.close(20.0)
    assert (ledger.written, ledger.lost) == (1000, 0)
    assert await calls.get("call999") is not None


# --- waiting for one call ---


async def test_a_call_is_kept_once_it_is_written(ledger: Ledger, store: FakeStore) -> None:
    await busy(ledger, store)
    ledger.put(call_record("c"))
    waiting = asyncio.create_task(ledger.kept("c", 10.0))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    store.gate.set()
    assert await waiting
    assert ("c", "active", []) in store.written()
    assert await ledger.kept("c", 0.0), "at once"
    assert await ledger.kept("unknown", 0.0)


async def test_nobody_waits_for_a_call_longer_than_said_nor_for_a_database_in_trouble(
    ledger: Ledger, store: FakeStore
) -> None:
    await busy(ledger, store)
    ledger.put(call_record("c"))
    assert not await ledger.kept("c", 0.01)
    assert not await ledger.kept("busy", 0.01), "on its way"
    waiting = asyncio.create_task(ledger.kept("c", 10.0))
    store.error = lambda _items: LOCKED
    store.gate.set()
    assert not await waiting, "the database is in trouble"
    assert not await ledger.kept("c", 10.0)
    store.error = lambda _items: None
    await until(lambda: not ledger.trouble)
    assert await ledger.kept("c", 10.0)
