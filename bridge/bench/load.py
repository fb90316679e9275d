"""The load: places calls, has them talk by the ``Schedule``, hangs up, measures itself. One process, one core.

Nothing but the public wire is needed to know which agent connection belongs to which call. A Genesys call names its
agent in its address, and each calls another one; so calls are placed at their own pace, whether or not the server has
answered the earlier ones. Twilio calls are placed one at a time: the agent connection that the server opens belongs
to the call that is being placed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from array import array
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from picows import (
    WSListener,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_connect,
    ws_create_server,
)

from bridge.bench.agent import CONVAI_PATH, Agent, Wire
from bridge.bench.call import Call, Logs, SignalKit
from bridge.bench.carriers import Carrier, CarrierEnd, call_name, called_name
from bridge.bench.figures import NS_PER_MS, PathTally
from bridge.bench.schedule import Schedule

Progress = Callable[[str], None]

DETAILS_PATH = "/v1/convai/conversations/"
DETAILS = b'{"status":"done","analysis":{"data_collection_results":{}}}'
"""What the agent's side says of every conversation: some carriers take its results, and the bridge asks for them."""

ANSWER_TIMEOUT_S = 10.0
"""How long a server may take to answer the carrier and to open its agent connection."""

CLOSE_TIMEOUT_S = 5.0
"""How long after the hang-up the server may hold its agent connections before they count as leaked."""


class BenchError(Exception):
    """The measurement cannot be made; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """One round: calls up, warm-up, measurement, calls down."""

    calls: int
    ramp_s: float
    warmup_s: float
    duration_s: float
    barge_in_every_s: float
    """0 = no barge-in."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What one round of load saw."""

    logs: Logs
    up: PathTally
    down: PathTally
    gaps: int
    gap_ms: float
    longest_gap_ms: float
    seconds: float
    """Length of the window."""
    opens_per_s: float
    """Calls placed a second."""
    frames_sent: int
    speech_sent: int
    """Messages sent inside the window."""
    load_cpu_s: float
    lateness_ms: array[float]
    leaked_connections: int
    """Agent connections that the server still held ``CLOSE_TIMEOUT_S`` after the hang-up."""
    long_gaps: int = 0
    """Gaps over 40 ms."""


class Load:
    """The far ends of all calls of one target: agent server and callers."""

    def __init__(
        self,
        carrier: Carrier,
        kit: SignalKit,
        new_wire: Callable[[], Wire],
        progress: Progress,
        *,
        has_limits: bool = True,
    ) -> None:
        """``has_limits``: whether servers are held to the carrier's rate limits."""
        self._carrier = carrier
        self._has_limits = has_limits
        self._kit = kit
        self._new_wire = new_wire
        self._progress = progress
        self._awaited: dict[str, tuple[Call, asyncio.Future[Agent]]] = {}
        self._agents: list[Agent] = []
        self._callers: list[CarrierEnd] = []
        self.unexpected = 0
        """Agent connections that belonged to no call."""

    @contextlib.asynccontextmanager
    async def listen(self) -> AsyncIterator[int]:
        """Serve the agent's side; yields its port."""
        server = await ws_create_server(self._new_agent, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            for agent in self._agents:
                agent.hang_up()
            server.close()

    async def run_round(self, base_url: str, plan: RoundPlan, at_window: Callable[[bool], None]) -> LoadResult:
        """Place the calls at the server whose WebSocket address begins with ``base_url``, measure, hang up.

        ``at_window`` is called with True when the window opens and with False when it closes. Raises
        ``BenchError`` when the server does not take the calls.
        """
        logs = Logs()
        self._agents.clear()
        self._callers.clear()
        calls: list[Call] = []
        schedule = Schedule(plan.calls, self._carrier.frame_ms, plan.barge_in_every_s)
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            schedule.start()
            opens_per_s = await self._place_calls(base_url, plan, logs, calls, schedule)
            await self._wait(plan.warmup_s, "warming up")
            result = await self._measure(plan, logs, schedule, at_window)
            await asyncio.sleep(self._carrier.grace_s)
        finally:
            schedule.stop()
            for caller in self._callers:
                caller.hang_up()
            gc.enable()
            gc.unfreeze()
        leaked = await self._wait_until_closed()
        return self._sum_up(calls, logs, schedule, result, leaked, opens_per_s)

    # --- placing -----------------------------------------------------------------------------------------

    def _new_agent(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener | None:
        target = request.path.decode("ascii", "replace")
        path = target.partition("?")[0]
        if path.startswith(DETAILS_PATH):
            response = WSUpgradeResponse.create_ok_response(DETAILS, {"Connection": "close"})
            return WSUpgradeResponseWithListener(response, None)
        carrier = self._carrier
        if path != CONVAI_PATH and not path.startswith(f"/{carrier.name}/"):
            return None
        name = called_name(target) if carrier.names_calls else ""
        return Agent(self._new_wire(), lambda agent: self._claim(agent, name), carrier.head_start)

    def _claim(self, agent: Agent, name: str) -> Call | None:
        awaited = self._awaited.pop(name, None)
        if awaited is None:
            self.unexpected += 1
            return None
        call, answer = awaited
        self._agents.append(agent)
        if not answer.done():
            answer.set_result(agent)
        return call

    async def _place_calls(
        self, base_url: str, plan: RoundPlan, logs: Logs, calls: list[Call], schedule: Schedule
    ) -> float:
        """Place all calls of the plan; returns how many a second."""
        began = last_word = time.monotonic()

        async def place(call: Call) -> None:
            caller, listener = self._carrier.new_caller(call, self._has_limits)
            self._callers.append(caller)
            schedule.add(call.index, caller, await self._place(base_url, call, caller, listener))

        try:
            async with asyncio.TaskGroup() as group:
                for index in range(plan.calls):
                    due = began + plan.ramp_s * index / plan.calls
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    if time.monotonic() - last_word > 2:
                        last_word = time.monotonic()
                        self._progress(f"placed {index} of {plan.calls} calls")
                    calls.append(self._kit.new_call(index, logs))
                    placing = group.create_task(place(calls[-1]))
                    if not self._carrier.names_calls:
                        await placing
                placed_s = time.monotonic() - began
        except BaseExceptionGroup as problems:
            raise next((error for error in problems.exceptions if isinstance(error, BenchError)), problems) from None
        self._progress(f"placed {plan.calls} calls in {placed_s:.1f} s")
        return plan.calls / placed_s

    async def _place(self, base_url: str, call: Call, caller: CarrierEnd, listener: WSListener) -> Agent:
        carrier, index = self._carrier, call.index
        url = base_url + carrier.path(index)
        answer: asyncio.Future[Agent] = asyncio.get_running_loop().create_future()
        self._awaited[call_name(index) if carrier.names_calls else ""] = call, answer
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                if carrier.dial is None:
                    await ws_connect(lambda: listener, url, extra_headers=carrier.headers(index))
                else:
                    await carrier.dial(caller, url)
                return await answer
        except TimeoutError:
            raise BenchError(
                f"call {index}: no agent connection within {ANSWER_TIMEOUT_S:.0f} s of calling {url}"
            ) from None
        except Exception as error:
            raise BenchError(f"call {index}: {url} did not answer: {error}") from error

    # --- measuring ---------------------------------------------------------------------------------------

    async def _measure(
        self, plan: RoundPlan, logs: Logs, schedule: Schedule, at_window: Callable[[bool], None]
    ) -> tuple[float, float]:
        at_window(True)
        cpu_s = time.process_time()
        opened_ns = time.perf_counter_ns()
        logs.window.open(opened_ns)
        schedule.begin_counting()
        await self._wait(plan.duration_s, "measuring")
        closed_ns = time.perf_counter_ns()
        logs.window.close(closed_ns)
        cpu_s = time.process_time() - cpu_s
        at_window(False)
        schedule.stop()
        return (closed_ns - opened_ns) / 1e9, cpu_s

    async def _wait(self, seconds: float, what: str) -> None:
        ends = time.monotonic() + seconds
        if seconds > 2:
            self._progress(f"{what}: {seconds:.0f} s")
        while (left := ends - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 5.0))
            if (left := ends - time.monotonic()) > 2:
                self._progress(f"{what}: {left:.0f} s left")

    async def _wait_until_closed(self) -> int:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await asyncio.gather(*(agent.wait_closed() for agent in self._agents))
                await asyncio.gather(*(caller.wait_closed() for caller in self._callers))
        held = sum(agent.connected for agent in self._agents)
        for agent in self._agents:
            agent.hang_up()
        for caller in self._callers:
            caller.drop()
        return held

    def _sum_up(
        self,
        calls: list[Call],
        logs: Logs,
        schedule: Schedule,
        measured: tuple[float, float],
        leaked: int,
        opens_per_s: float,
    ) -> LoadResult:
        now_ns = time.perf_counter_ns()
        up, down = PathTally(), PathTally()
        for call in calls:
            call.close(now_ns)
            call_up, call_down = call.tallies()
            up.add(call_up)
            down.add(call_down)
        return LoadResult(
            logs=logs,
            up=up,
            down=down,
            gaps=sum(call.clock.gaps for call in calls),
            long_gaps=sum(call.clock.long_gaps for call in calls),
            gap_ms=sum(call.clock.gap_ns for call in calls) / NS_PER_MS,
            longest_gap_ms=max(call.clock.longest_gap_ns for call in calls) / NS_PER_MS,
            seconds=measured[0],
            opens_per_s=opens_per_s,
            frames_sent=schedule.frames_sent,
            speech_sent=schedule.speech_sent,
            load_cpu_s=measured[1],
            lateness_ms=schedule.lateness_ms,
            leaked_connections=leaked,
        )
