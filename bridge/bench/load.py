"""The load: places calls one after another, keeps their absolute schedule, measures itself.

One process, one core, one timer of 1 ms. A caller sends in one of 20 slots of its 20 ms, an agent talks in one of
100 slots of its 100 ms, so the phases of all calls are spread evenly, on a grid of 1 ms. The schedule is
absolute: a late tick makes up for all that are due, and its lateness is logged, because a load that is late
measures itself and not the server.

Calls are placed one at a time: the agent connection that the server opens belongs to the call that is being
placed. So nothing but the public wire is needed to know which is whose.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from array import array
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from picows import WSListener, WSUpgradeRequest, ws_connect, ws_create_server

from bridge.bench.agent import CONVAI_PATH, Agent, Wire
from bridge.bench.call import FRAME_MS, SPEECH_MS, Call, Logs, SignalKit
from bridge.bench.caller import Caller
from bridge.bench.figures import NS_PER_MS, PathTally

Progress = Callable[[str], None]

TICK_NS = NS_PER_MS
TICK_S = 0.001

INTERRUPTION_DELAY_TICKS = 20
"""An interruption follows 20 ms after a message of 100 ms: the carrier surely still has something to play, so
every one must be answered by a ``clear``."""

ANSWER_TIMEOUT_S = 10.0
"""How long a server may take to answer the carrier and to open its agent connection."""

GRACE_S = 1.0
"""How long after the last frame audio may still arrive before it counts as lost."""

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
    frames_sent: int
    speech_sent: int
    """Messages sent inside the window."""
    load_cpu_s: float
    lateness_ms: array[float]
    leaked_connections: int
    """Agent connections that the server still held ``CLOSE_TIMEOUT_S`` after the hang-up."""


class Load:
    """The far ends of all calls of one target: agent server and callers."""

    def __init__(self, kit: SignalKit, new_wire: Callable[[], Wire], progress: Progress) -> None:
        self._kit = kit
        self._new_wire = new_wire
        self._progress = progress
        self._pending: Call | None = None
        self._answered = asyncio.Event()
        self._agents: list[Agent] = []
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

    async def run_round(self, url: str, plan: RoundPlan, at_window: Callable[[bool], None]) -> LoadResult:
        """Place the calls at ``url``, measure, hang up.

        ``at_window`` is called with True when the window opens and with False when it closes. Raises
        ``BenchError`` when the server does not take the calls.
        """
        logs = Logs()
        self._agents.clear()
        callers: list[Caller] = []
        calls: list[Call] = []
        schedule = Schedule(plan)
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            schedule.start()
            await self._place_calls(url, plan, logs, calls, callers, schedule)
            await self._wait(plan.warmup_s, "warming up")
            result = await self._measure(plan, logs, schedule, at_window)
            await asyncio.sleep(GRACE_S)
        finally:
            schedule.stop()
            for caller in callers:
                caller.hang_up()
            gc.enable()
            gc.unfreeze()
        leaked = await self._wait_until_closed()
        return self._sum_up(calls, logs, schedule, result, leaked)

    # --- placing -----------------------------------------------------------------------------------------

    def _new_agent(self, request: WSUpgradeRequest) -> WSListener | None:
        path = request.path.decode("ascii", "replace").partition("?")[0]
        if path not in (CONVAI_PATH, "/twilio/media"):
            return None
        return Agent(self._new_wire(), self._claim)

    def _claim(self, agent: Agent) -> Call | None:
        call, self._pending = self._pending, None
        if call is None:
            self.unexpected += 1
            return None
        self._agents.append(agent)
        self._answered.set()
        return call

    async def _place_calls(
        self,
        url: str,
        plan: RoundPlan,
        logs: Logs,
        calls: list[Call],
        callers: list[Caller],
        schedule: Schedule,
    ) -> None:
        began = last_word = time.monotonic()
        for index in range(plan.calls):
            due = began + plan.ramp_s * index / plan.calls
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if time.monotonic() - last_word > 2:
                last_word = time.monotonic()
                self._progress(f"placed {index} of {plan.calls} calls")
            call = self._kit.new_call(index, logs)
            caller = Caller(call)
            calls.append(call)
            callers.append(caller)
            agent = await self._place(url, call, caller)
            schedule.add(index, caller, agent)
        self._progress(f"placed {plan.calls} calls in {time.monotonic() - began:.1f} s")

    async def _place(self, url: str, call: Call, caller: Caller) -> Agent:
        self._pending = call
        self._answered.clear()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await ws_connect(lambda: caller, url)
                await self._answered.wait()
        except TimeoutError:
            raise BenchError(
                f"call {call.index}: no agent connection within {ANSWER_TIMEOUT_S:.0f} s of calling {url}"
            ) from None
        except Exception as error:
            raise BenchError(f"call {call.index}: {url} did not answer: {error}") from error
        return self._agents[-1]

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
        held = sum(agent.connected for agent in self._agents)
        for agent in self._agents:
            agent.hang_up()
        return held

    def _sum_up(
        self,
        calls: list[Call],
        logs: Logs,
        schedule: Schedule,
        measured: tuple[float, float],
        leaked: int,
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
            gap_ms=sum(call.clock.gap_ns for call in calls) / NS_PER_MS,
            longest_gap_ms=max(call.clock.longest_gap_ns for call in calls) / NS_PER_MS,
            seconds=measured[0],
            frames_sent=schedule.frames_sent,
            speech_sent=schedule.speech_sent,
            load_cpu_s=measured[1],
            lateness_ms=schedule.lateness_ms,
            leaked_connections=leaked,
        )


class Schedule:
    """When each caller and each agent sends: slots of 1 ms on an absolute clock."""

    def __init__(self, plan: RoundPlan) -> None:
        self._calls = plan.calls
        self._barge_in_messages = round(plan.barge_in_every_s * 1000 / SPEECH_MS)
        self._callers: list[list[Caller]] = [[] for _ in range(FRAME_MS)]
        self._agents: list[list[Agent]] = [[] for _ in range(SPEECH_MS)]
        self._interruptions: deque[tuple[int, Agent]] = deque()
        self._origin_ns = 0
        self._next = 0
        self._timer: asyncio.TimerHandle | None = None
        self._counting = False
        self.frames_sent = 0
        self.speech_sent = 0
        self.lateness_ms: array[float] = array("d")

    def add(self, index: int, caller: Caller, agent: Agent) -> None:
        """Put a call on the schedule; its phases follow from its index."""
        self._callers[index * FRAME_MS // self._calls].append(caller)
        # 37 has no common factor with 100: neighbours talk far apart, and all slots are used evenly.
        self._agents[(index * SPEECH_MS // self._calls * 37) % SPEECH_MS].append(agent)

    def start(self) -> None:
        """Begin to tick."""
        self._origin_ns = time.perf_counter_ns()
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def begin_counting(self) -> None:
        """Count messages and log lateness from here."""
        self._counting = True

    def stop(self) -> None:
        """Send nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        due = (time.perf_counter_ns() - self._origin_ns) // TICK_NS
        while self._next <= due:
            self._run_slot(self._next)
            self._next += 1

    def _run_slot(self, number: int) -> None:
        clock = time.perf_counter_ns
        callers = self._callers[number % FRAME_MS]
        agents = self._agents[number % SPEECH_MS]
        for caller in callers:
            caller.tick(clock())
        for agent in agents:
            if agent.tick(clock()) and self._barge_in_messages and agent.wants_interruption(self._barge_in_messages):
                self._interruptions.append((number + INTERRUPTION_DELAY_TICKS, agent))
        while self._interruptions and self._interruptions[0][0] <= number:
            self._interruptions.popleft()[1].interrupt(clock())
        if self._counting:
            self.frames_sent += len(callers)
            self.speech_sent += len(agents)
            # Taken after the work of the slot: the last message of a slot is the latest.
            self.lateness_ms.append((clock() - self._origin_ns) / NS_PER_MS - number)
