"""The tasks beside a call: cut short by its end, and what they wait for has bounds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit import convai, logs, twilio
from tests.kit.server import until
from tests.kit.sessions import Table


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    with logs.captured() as captured:
        yield captured


async def test_the_calls_end_cuts_its_tasks_short_and_waits_for_their_cleaning_up() -> None:
    table = await Table().activate()
    steps: list[str] = []

    async def work() -> None:
        steps.append("begun")
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            steps.append("cleaned up")

    table.session.side.begin(work)
    await until(lambda: steps)
    table.hang_up()
    await table.settled()
    assert steps == ["begun", "cleaned up"]
    assert table.session.side._tasks == set()


async def test_a_mistake_in_a_task_ends_its_call_and_no_other(lines: list[dict[str, Any]]) -> None:
    table = await Table().activate()
    other = await Table(table.bridge).activate("CA2")

    async def work() -> None:
        raise ZeroDivisionError

    table.session.side.begin(work)
    await until(lambda: table.ends)
    assert table.ends == {"server_error/bug": 1}
    assert list(table.bridge.sessions.values()) == [other.session]
    other.hang_up()


async def test_what_was_heard_already_is_not_waited_for() -> None:
    table = await Table().activate()
    await asyncio.wait_for(table.session.side.heard(), 1.0)
    table.hang_up()


@pytest.mark.parametrize("how", ["mark", "interruption", "end"])
async def test_what_was_said_is_waited_for(how: str) -> None:
    table = await Table().activate()
    table.session.from_agent(convai.audio(b"\x01" * 1600))
    waiting = asyncio.create_task(table.session.side.heard())
    await until(lambda: twilio.marks(table.carrier.sent))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    if how == "mark":
        table.session.on_message(twilio.mark(twilio.marks(table.carrier.sent)[-1]))
    elif how == "interruption":
        table.session.from_agent(convai.interruption(1))
    else:
        table.hang_up()
    await asyncio.wait_for(waiting, 1.0)
    table.session.side.heard_now(999)
    table.hang_up()


async def test_a_stream_that_is_there_is_not_waited_for() -> None:
    table = await Table().activate()
    assert await table.session.side.stream_gone(0.01), "nobody has let it leave, so nothing is in doubt"
    await asyncio.wait_for(table.session.side.stream_back(60.0), 1.0)
    table.hang_up()


async def test_a_stream_is_waited_for_with_a_bound() -> None:
    table = await Table().activate()
    table.session.step(lambda now: table.session.call.let_leave(now + 5))
    began_s = time.monotonic()
    assert not await table.session.side.stream_gone(0.03)
    table.session.on_message(twilio.STOP)
    assert await table.session.side.stream_gone(0.03)
    await table.session.side.stream_back(0.03)
    assert 0.05 < time.monotonic() - began_s < 1.0
    waiting = asyncio.create_task(table.session.side.stream_back(60.0))
    await asyncio.sleep(0)
    table.session.side.is_back()
    await asyncio.wait_for(waiting, 1.0)
    table.hang_up()
    table.session.step(table.session.call.stayed)
    assert table.ends == {"success/caller_hangup": 1}
