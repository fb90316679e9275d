"""What admission through Redis costs: decisions a second on one core, and how long one takes at 1,000 a second.

A decision is a slot taken and given back, as a call does it, through everything that a call passes: the process's
limit, the script in Redis, the books of this process. The decider runs on one core, Redis on another where there is
one. It is not about calls: nothing is heard here.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
import time
from array import array
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bridge.bench.figures import percentile
from bridge.bench.process import ServerProcess, free_port, pinned, plan_cores, wait_for_port
from bridge.calls.admission import AgentLimits, Granted, Limits, SlotRequest
from bridge.server.admission import Admission
from bridge.server.admission_redis import RedisSlotOptions, RedisSlots
from bridge.server.redis_client import RedisLink, RedisOptions

START_TIMEOUT_S = 10.0
CALLERS = 128
"""Decisions on their way at once while the most is measured: a burst of calls, as after an advertisement."""
HELD_CALLS = 500
"""Calls in progress meanwhile, whose leases are renewed beside."""
PACED_PER_S = 1000
PACE_GRAIN_S = 0.001
"""Arrivals are let go this often, each with the time at which it was due."""
WARM_UP_S = 0.3
AGENTS = 20
TIMEOUT_S = 5.0
"""Of a command: a busy machine must show as a slow figure, not as Redis being down."""


@dataclass(frozen=True, slots=True)
class AdmissionFigures:
    """What was measured."""

    decisions_per_s: float
    """With ``CALLERS`` of them on their way at all times."""
    decider_cpu_us: float
    """CPU of this process per decision then."""
    redis_cpu_us: float
    """CPU of Redis per decision then."""
    paced_per_s: float
    """Decisions a second that were really made while paced."""
    p50_ms: float
    p99_ms: float
    max_ms: float
    """From when a decision was due until it was there; the pace's own grain, a millisecond, is in it."""
    refused: int
    """Decisions that were not ``Granted``, or not made by Redis; 0 when all is well."""
    shared_core: bool
    """Redis and the decider shared a core, which distorts the figures."""

    def render_text(self) -> str:
        """For people."""
        lines = [
            f"most decisions: {self.decisions_per_s:.0f}/s ({self.decider_cpu_us:.0f} us of CPU here, "
            f"{self.redis_cpu_us:.0f} us in Redis, each)",
            f"at {self.paced_per_s:.0f}/s: "
            f"p50 {self.p50_ms:.2f} ms, p99 {self.p99_ms:.2f} ms, max {self.max_ms:.1f} ms",
        ]
        if self.refused:
            lines.append(f"warning: {self.refused} decisions were refused or not made by Redis")
        if self.shared_core:
            lines.append("note: only one core: Redis and the decider share it")
        return "\n".join(lines)


def redis_command(port: int, directory: Path) -> list[str]:
    """How to start a Redis that keeps nothing. Raises ``FileNotFoundError`` when the package is missing."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise FileNotFoundError("redis-server is missing: install the package redis-server")
    return [
        *(binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)),
        *("--save", "", "--appendonly", "no"),
    ]


def measure_admission(seconds: float = 3.0, core: int | None = None) -> AdmissionFigures:
    """Start a Redis, measure each load for ``seconds``, stop it. Blocks.

    Raises ``FileNotFoundError`` without redis-server, and ``RuntimeError`` when it does not start.
    """
    plan = plan_cores(os.sched_getaffinity(0), core)
    with tempfile.TemporaryDirectory(prefix="bench-redis-") as name:
        directory, port = Path(name), free_port()
        command = redis_command(port, directory)
        server = ServerProcess(command, {}, min(plan.load), directory)
        server.start()
        try:
            if not wait_for_port(server, port, b"", START_TIMEOUT_S):
                raise RuntimeError(f"redis-server did not start: {server.log_tail()}")
            with pinned(frozenset({plan.server})), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(_measure(port, server, seconds, plan.shared))
        finally:
            server.stop()


async def _measure(port: int, server: ServerProcess, seconds: float, shared_core: bool) -> AdmissionFigures:
    link = RedisLink(RedisOptions(f"redis://127.0.0.1:{port}/0", timeout_s=TIMEOUT_S))
    await link.start()
    admission = Admission(Limits(100_000, 50_000), store=RedisSlots(link, RedisSlotOptions("bench")))
    await admission.start()
    try:
        for number in range(HELD_CALLS):
            await admission.take(_request(f"held-{number}"))
        load = _Load(admission)
        await load.as_many_as_possible(WARM_UP_S)
        own_s, redis_s = time.process_time(), server.cpu_s()
        made, elapsed_s = await load.as_many_as_possible(seconds)
        own_s, redis_s = time.process_time() - own_s, server.cpu_s() - redis_s
        paced_per_s, latencies_ms = await load.paced(seconds)
        ordered = sorted(latencies_ms)
        return AdmissionFigures(
            decisions_per_s=made / elapsed_s,
            decider_cpu_us=own_s / max(made, 1) * 1e6,
            redis_cpu_us=redis_s / max(made, 1) * 1e6,
            paced_per_s=paced_per_s,
            p50_ms=percentile(ordered, 0.50),
            p99_ms=percentile(ordered, 0.99),
            max_ms=ordered[-1] if ordered else 0.0,
            refused=load.refused + link.failures,
            shared_core=shared_core,
        )
    finally:
        await admission.close()
        await link.close()


def _request(call_id: str, number: int = 0) -> SlotRequest:
    limits = AgentLimits(concurrency=40_000, daily=900_000_000, bursting=True)
    return SlotRequest(call_id=call_id, agent_id=f"agent-{number % AGENTS}", agent=limits)


class _Load:
    """Places calls and ends them at once."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._numbers = itertools.count()
        self.refused = 0

    async def _decide(self) -> None:
        number = next(self._numbers)
        call_id = f"call-{number}"
        if not isinstance(await self._admission.take(_request(call_id, number)), Granted):
            self.refused += 1
        self._admission.give_back(call_id)

    async def as_many_as_possible(self, seconds: float) -> tuple[int, float]:
        """``CALLERS`` decide without a pause; returns how many decisions were made in how many seconds."""
        started_s = time.perf_counter()
        ends_s = started_s + seconds
        made = 0

        async def caller() -> None:
            nonlocal made
            while time.perf_counter() < ends_s:
                await self._decide()
                made += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(caller())
        return made, time.perf_counter() - started_s

    async def paced(self, seconds: float) -> tuple[float, array[float]]:
        """Decisions at their own pace, whether or not earlier ones are done; returns rate and latencies."""
        latencies_ms = array("d")
        started_s = time.perf_counter()

        async def decide(due_s: float) -> None:
            await self._decide()
            latencies_ms.append((time.perf_counter() - due_s) * 1000)

        async with asyncio.TaskGroup() as group:
            for number in range(int(seconds * PACED_PER_S)):
                due_s = started_s + number / PACED_PER_S
                while time.perf_counter() < due_s:  # noqa: ASYNC110  # the clock sets no event
                    await asyncio.sleep(PACE_GRAIN_S)
                group.create_task(decide(due_s))
        return len(latencies_ms) / (time.perf_counter() - started_s), latencies_ms
