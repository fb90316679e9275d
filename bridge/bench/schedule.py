"""When each caller and each agent of the load sends: slots of 1 ms on an absolute clock.

The phases of all calls are spread evenly over a frame and over 100 ms of speech. The schedule is absolute: a late tick
makes up for all that are due, and its lateness is logged, because a load that is late measures itself.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import deque

from bridge.bench.agent import Agent
from bridge.bench.call import SPEECH_MS
from bridge.bench.carriers import ATTEND_MS, CarrierEnd
from bridge.bench.figures import NS_PER_MS

TICK_NS = NS_PER_MS
TICK_S = 0.001

INTERRUPTION_DELAY_TICKS = 20
"""An interruption follows 20 ms after a message of 100 ms: the carrier surely still has something to play, so
every one must be answered by a flush."""


class Schedule:
    """The clock of one round."""

    def __init__(self, calls: int, frame_ms: int, barge_in_every_s: float) -> None:
        self._calls = calls
        self._frame_ms = frame_ms
        self._barge_in_messages = round(barge_in_every_s * 1000 / SPEECH_MS)
        self._callers: list[list[CarrierEnd]] = [[] for _ in range(frame_ms)]
        self._attending: list[list[CarrierEnd]] = [[] for _ in range(ATTEND_MS)]
        self._agents: list[list[Agent]] = [[] for _ in range(SPEECH_MS)]
        self._interruptions: deque[tuple[int, Agent]] = deque()
        self._origin_ns = 0
        self._next = 0
        self._timer: asyncio.TimerHandle | None = None
        self._counting = False
        self.frames_sent = 0
        self.speech_sent = 0
        self.lateness_ms: array[float] = array("d")

    def add(self, index: int, caller: CarrierEnd, agent: Agent) -> None:
        """Put a call on the schedule; its phases follow from its index."""
        phase_ms = index * self._frame_ms // self._calls
        self._callers[phase_ms].append(caller)
        if self._frame_ms > ATTEND_MS:
            self._attending[phase_ms % ATTEND_MS].append(caller)
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
        callers = self._callers[number % self._frame_ms]
        agents = self._agents[number % SPEECH_MS]
        for caller in callers:
            caller.tick(clock())
        for caller in self._attending[number % ATTEND_MS]:
            caller.attend(clock())
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
