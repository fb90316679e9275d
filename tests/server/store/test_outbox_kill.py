"""Worker processes that are killed while they deliver: nothing is lost, nothing goes out as something else."""

from __future__ import annotations

import asyncio
import base64
import itertools
import random
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path

import pytest

from bridge.calls.webhooks import WebhookOptions, on_answered, on_ended, on_started
from bridge.server.store.database import Database
from bridge.server.store.outbox import OutboxStore
from tests.kit.outbox_worker import AUDIO
from tests.kit.process import environment
from tests.kit.records import ended_record, finished_recording
from tests.kit.webhooks import Receiver, Reply, receiver

CALLS = 16
LEASE_S = 1.5
KILLS = 4
DEADLINE_S = 60.0

_owners = itertools.count(1)


async def start(database_url: str, hook: Receiver, folder: Path) -> Process:
    arguments = [database_url, hook.url, f"worker{next(_owners)}", str(LEASE_S)]
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.kit.outbox_worker", *arguments,
        env=environment({}), cwd=folder, stdout=DEVNULL, stderr=DEVNULL,
    )  # fmt: skip


async def fill(store: OutboxStore) -> dict[str, str]:
    """Five events of each call, one with audio; returns their types by id."""
    options = WebhookOptions()
    types: dict[str, str] = {}
    for number in range(CALLS):
        record = ended_record(f"call{number}", conversation_ids=[f"conv_{number}"], recording=finished_recording())
        now = time.time()
        events = [*on_started(record, now, options), *on_answered(record, now, options)]
        for event in [*events, *on_ended(record, now, options, audio=True)]:
            await store.add_next(event)
            types[event.id] = event.type
    return types


async def received(hook: Receiver, count: int, deadline_s: float) -> None:
    """Wait until so many requests have come."""
    while len(hook.received) < count:
        assert time.monotonic() < deadline_s, f"only {len(hook.received)} requests came"
        await asyncio.sleep(0.005)  # the receiver has no event for it


def check(hook: Receiver, types: dict[str, str]) -> None:
    """Everything arrived, as what it is, in order; audio is whole."""
    assert hook.problems() == []
    assert dict(hook.events(taken=False)) == types, "lost, or sent as another event"
    first = list(dict.fromkeys(name for name, _ in hook.events()))
    for number in range(CALLS):
        order = [types[name] for name in first if name.startswith(f"evt_call{number}_")]
        assert order == ["call.started", "call.answered", "call.ended", "post_call_transcription", "post_call_audio"]
    for request in hook.received:
        if request.event["type"] == "post_call_audio":
            assert base64.b64decode(request.event["data"]["full_audio"]) == AUDIO


@pytest.mark.e2e
async def test_killed_workers_lose_nothing(database: Database, database_url: str, tmp_path: Path) -> None:
    store = OutboxStore(database)
    types = await fill(store)
    deadline_s = time.monotonic() + DEADLINE_S
    chance = random.Random(7)
    async with receiver(lambda _request, _number: Reply(delay_s=0.03)) as hook:
        workers = [await start(database_url, hook, tmp_path) for _ in range(2)]
        try:
            for kill in range(1, KILLS + 1):
                await received(hook, min(kill * 15, len(types) - 10), deadline_s)
                await asyncio.sleep(chance.random() * 0.05)
                victim = workers.pop(0)
                victim.kill()
                await victim.wait()
                workers.append(await start(database_url, hook, tmp_path))
            while (await store.counts()).pending:
                assert time.monotonic() < deadline_s, await store.counts()
                await asyncio.sleep(0.05)
            check(hook, types)
            repeated = len(hook.received) - len(types)
            assert repeated <= KILLS * 8, "no more than a killed worker had under way"
            for worker in workers:
                worker.send_signal(signal.SIGTERM)
            assert [await worker.wait() for worker in workers] == [0, 0]
        finally:
            for worker in workers:
                if worker.returncode is None:
                    worker.kill()
                    await worker.wait()
        assert (await store.counts()).dead == 0


@pytest.mark.e2e
async def test_what_a_dead_worker_had_claimed_is_free_after_its_lease(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    store = OutboxStore(database)
    record = ended_record("call0")
    await store.add_next(on_started(record, time.time(), WebhookOptions())[0])
    async with receiver(lambda _request, number: Reply(delay_s=60.0 if number == 1 else 0.0)) as hook:
        first = await start(database_url, hook, tmp_path)
        await received(hook, 1, time.monotonic() + DEADLINE_S)
        first.kill()
        await first.wait()
        died_s = time.monotonic()
        second = await start(database_url, hook, tmp_path)
        try:
            await received(hook, 2, time.monotonic() + DEADLINE_S)
            assert time.monotonic() - died_s < LEASE_S + 5.0
            assert [request.headers["x-bridge-attempt"] for request in hook.received] == ["1", "2"]
            assert hook.problems() == []
        finally:
            second.kill()
            await second.wait()
