"""The pace of new calls: even, in order of arrival, with a side door, and never faster."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from bridge.server.call_pace import CallPace, PaceOptions
from bridge.server.carrier_control import ControlError, ControlFault


class Bench:
    """A pace with a clock that only its own waits move."""

    def __init__(self, calls_per_second: float, max_wait_s: float = 1000.0) -> None:
        self.now = 500.0
        self.turns: list[tuple[str, float]] = []
        self.pace = CallPace(PaceOptions(calls_per_second, max_wait_s), monotonic=lambda: self.now, sleep=self.sleep)
        self.wakes: asyncio.Queue[None] = asyncio.Queue()
        self.held = False

    async def sleep(self, seconds: float) -> None:
        if self.held:
            await self.wakes.get()
        self.now += seconds

    async def call(self, name: str, *, urgent: bool = False) -> None:
        await self.pace.turn(urgent=urgent)
        self.turns.append((name, self.now - 500.0))


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_calls_are_spread_evenly_in_order_of_arrival() -> None:
    bench = Bench(4.0)
    await asyncio.gather(*(bench.call(name) for name in "abcde"))
    assert bench.turns == [("a", 0.0), ("b", 0.25), ("c", 0.5), ("d", 0.75), ("e", 1.0)]


async def test_a_pause_saves_up_no_calls() -> None:
    bench = Bench(1.0)
    await bench.call("a")
    bench.now += 60.0
    await bench.call("b")
    await bench.call("c")
    assert bench.turns == [("a", 0.0), ("b", 60.0), ("c", 61.0)]


async def test_somebody_on_the_line_goes_before_calls_that_nobody_waits_for_but_no_faster() -> None:
    bench = Bench(1.0)
    await bench.call("first")
    bench.held = True
    tasks = [asyncio.create_task(bench.call(name)) for name in "abc"]
    await settle()
    tasks.append(asyncio.create_task(bench.call("human", urgent=True)))
    await settle()
    for _ in range(4):
        bench.wakes.put_nowait(None)
    await asyncio.gather(*tasks)
    assert bench.turns == [("first", 0.0), ("a", 1.0), ("human", 2.0), ("b", 3.0), ("c", 4.0)]


async def test_who_goes_away_takes_nobodys_turn() -> None:
    bench = Bench(1.0)
    await bench.call("first")
    bench.held = True
    gone, waiting = (asyncio.create_task(bench.call(name)) for name in ("gone", "waiting"))
    await settle()
    gone.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await gone
    bench.wakes.put_nowait(None)
    await waiting
    assert bench.turns == [("first", 0.0), ("waiting", 1.0)]


async def test_who_would_wait_too_long_is_told_so_at_once() -> None:
    bench = Bench(1.0, max_wait_s=2.0)
    await bench.call("first")
    bench.held = True
    tasks = [asyncio.create_task(bench.call(name)) for name in "ab"]
    await settle()
    with pytest.raises(ControlError, match="^more calls wait than are placed within 2 s$") as caught:
        await bench.call("c")
    assert caught.value.fault is ControlFault.BUSY
    tasks.append(asyncio.create_task(bench.call("human", urgent=True)))
    await settle()
    with pytest.raises(ControlError, match="^more calls wait than are placed within 2 s$"):
        await bench.call("human 2", urgent=True)
    for _ in range(3):
        bench.wakes.put_nowait(None)
    await asyncio.gather(*tasks)
    assert [name for name, _ in bench.turns] == ["first", "a", "human", "b"]
    bench.held = False
    await bench.call("later")  # nobody waits any longer


async def test_on_the_real_clock() -> None:
    pace = CallPace(PaceOptions(200.0))
    began_s = asyncio.get_running_loop().time()
    await asyncio.gather(*(pace.turn() for _ in range(11)))
    assert asyncio.get_running_loop().time() - began_s >= 0.049
