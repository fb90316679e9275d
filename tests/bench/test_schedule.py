"""When who sends."""

from __future__ import annotations

import pytest

from bridge.bench.agent import Agent, ConvaiWire
from bridge.bench.schedule import Schedule


class Ear:
    """A caller that writes down when it was asked; the slot is its clock."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self.ticks: list[int] = []
        self.looks: list[int] = []

    def tick(self, now_ns: int) -> None:
        self.ticks.append(self._schedule._next)

    def attend(self, now_ns: int) -> None:
        self.looks.append(self._schedule._next)

    def hang_up(self) -> None: ...

    async def wait_closed(self) -> None: ...

    def drop(self) -> None: ...


def run(schedule: Schedule, milliseconds: int) -> None:
    for schedule._next in range(milliseconds):
        schedule._run_slot(schedule._next)


def new_agent() -> Agent:
    return Agent(ConvaiWire("ulaw_8000"), lambda agent: None)


@pytest.mark.parametrize(
    ("frame_ms", "ticks", "looks"),
    [(20, [10, 30, 50, 70], []), (200, [100, 300], [0, 20, 40, 60])],
)
def test_a_caller_sends_every_frame_and_looks_at_its_player_between_long_ones(
    frame_ms: int, ticks: list[int], looks: list[int]
) -> None:
    schedule = Schedule(2, frame_ms, barge_in_every_s=0)
    ear = Ear(schedule)
    schedule.add(1, ear, new_agent())
    run(schedule, 400)
    assert ear.ticks[: len(ticks)] == ticks
    assert len(ear.ticks) == 400 // frame_ms
    assert ear.looks[:4] == looks


def test_phases_are_spread_evenly_and_counted() -> None:
    schedule = Schedule(200, 200, barge_in_every_s=0)
    ears = [Ear(schedule) for _ in range(200)]
    for index, ear in enumerate(ears):
        schedule.add(index, ear, new_agent())
    schedule.begin_counting()
    run(schedule, 200)
    assert sorted(ear.ticks[0] for ear in ears) == list(range(200))
    assert (schedule.frames_sent, schedule.speech_sent) == (200, 400)
    assert len(schedule.lateness_ms) == 200
