"""A process that stores calls until it is killed: ``python -m tests.kit.writer DATABASE_URL INSTANCE_ID PACE``.

Each round a call begins, is answered and ends, with an event at each turn; of every four one goes on. What it prints,
``kept N``, is a promise: the first N rounds are in the database. ``PACE`` divides the times of ``Instances``, so that
tests see in a second what takes twenty.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from bridge.calls.record import CallRecord, OutboxEvent
from bridge.server.store import instances
from bridge.server.store.calls import CallStore
from bridge.server.store.database import open_database
from bridge.server.store.instances import Instances
from bridge.server.store.ledger import Ledger
from tests.kit.records import call_record, ended_record, outbox_event

ROUNDS_A_FLUSH = 7
GOES_ON_EVERY = 4

_TIMES = ("BEAT_S", "DEAD_S", "BEAT_TIMEOUT_S", "RETRY_S", "STEADY_S", "LATE_S")


def quicken(pace: float) -> None:
    """Divide the times of ``Instances`` in this process."""
    for name in _TIMES:
        setattr(instances, name, getattr(instances, name) / pace)


def end_event(record: CallRecord) -> list[OutboxEvent]:
    """The event of a lost call's end."""
    record.events_sent += 1
    return [outbox_event(record.id, sequence=record.events_sent, body=record.reason.encode())]


async def write(url: str, instance_id: str, rounds: int | None = None) -> None:
    """Store calls, for ever unless told how many."""
    database = open_database(url, Path())
    await database.upgrade()
    store = CallStore(database)
    own = Instances(database, store, instance_id, end_event)
    await own.heartbeat()
    beating = asyncio.create_task(own.run(lambda _closed: None))
    ledger = Ledger(store)
    ledger.start()
    number = 0
    while number != rounds:
        await one_round(ledger, f"{instance_id}-{number}", instance_id, goes_on=number % GOES_ON_EVERY == 0)
        number += 1
        if number % ROUNDS_A_FLUSH == 0:
            assert await ledger.flush(30.0)
            print(f"kept {number}", flush=True)  # noqa: T201
    beating.cancel()
    await ledger.close(10.0)
    await database.close()


async def one_round(ledger: Ledger, call_id: str, instance_id: str, *, goes_on: bool) -> None:
    """The life of a call."""
    facts = {"instance_id": instance_id, "created_at": time.time()}
    ledger.put(call_record(call_id, events_sent=1, **facts), [outbox_event(call_id, "call.started", 1)])
    await asyncio.sleep(0.001)
    ledger.put(call_record(call_id, events_sent=2, **facts), [outbox_event(call_id, "call.answered", 2)])
    await asyncio.sleep(0.001)
    if not goes_on:
        event = outbox_event(call_id, sequence=3, body=b"caller_hangup")
        ledger.put(ended_record(call_id, events_sent=3, **facts), [event])


if __name__ == "__main__":
    quicken(float(sys.argv[3]))
    asyncio.run(write(sys.argv[1], sys.argv[2]))
