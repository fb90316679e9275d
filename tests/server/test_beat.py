"""A task that works when woken and every so often."""

from __future__ import annotations

import asyncio

from bridge.server.beat import Beat
from tests.kit import logs


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_it_runs_at_the_start_when_woken_and_when_due() -> None:
    runs: list[bool] = []

    async def work(is_due: bool) -> None:
        runs.append(is_due)

    beat = Beat("test", 0.05, work)
    await beat.start()
    assert runs == [True]
    beat.wake()
    beat.wake()
    await settled()
    assert runs == [True, False], "two wakes at once are one"
    beat.wake(due=True)
    await settled()
    assert runs == [True, False, True]
    await asyncio.sleep(0.12)
    assert runs[3:] in ([True], [True, True])
    await beat.stop()
    await beat.stop()
    count = len(runs)
    beat.wake()
    await asyncio.sleep(0.06)
    assert len(runs) == count


async def test_a_bug_is_logged_and_does_not_end_it() -> None:
    runs = 0

    async def work(_is_due: bool) -> None:
        nonlocal runs
        runs += 1
        raise ValueError("broken")

    beat = Beat("the test", 0.02, work)
    with logs.captured() as lines:
        await beat.start()
        await asyncio.sleep(0.07)
        await beat.stop()
    assert runs >= 2
    assert [(line["event"], line["where"]) for line in lines] == [("bug", "the test")] * runs
