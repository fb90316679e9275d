"""The doctor in a process of its own: what it found, that it is bounded, and that there is only one."""

from __future__ import annotations

import asyncio
import sys

import pytest

from bridge.server.console import doctor as doctor_module
from bridge.server.console.doctor import DoctorRuns
from bridge.web.health import CheckResult
from tests.kit.server import until

REPORT = '{"ok": true, "counts": {}, "checks": [{"name": "clock", "verdict": "ok", "seen": "%s", "took_ms": 3}]}'


def runs(code: str) -> DoctorRuns:
    return DoctorRuns((sys.executable, "-c", code))


async def over(doctor: DoctorRuns) -> DoctorRuns:
    await until(lambda: not doctor.is_running, "it goes on")
    return doctor


async def test_what_it_found_is_read_with_its_options_and_whatever_its_exit_code() -> None:
    doctor = runs(f"import sys; print({REPORT!r} % sys.argv[1]); sys.exit(1)")
    assert (doctor.checks, doctor.is_running) == (None, False)
    assert doctor.begin(("all is well",), lambda: 7.0)
    assert doctor.is_running
    assert not doctor.begin(), "one at a time"
    await over(doctor)
    assert doctor.checks == [CheckResult("clock", "ok", "all is well", "", 3)]
    assert (doctor.problem, doctor.finished_at) == ("", 7.0)


@pytest.mark.parametrize(
    "code",
    ["print('no JSON')", "print('[]')", "raise SystemExit(2)", "print('x' * (1 << 21))"],
    ids=lambda code: code[:12],
)
async def test_what_is_no_report_is_a_problem_and_no_crash(code: str) -> None:
    doctor = runs(code)
    doctor.begin()
    await over(doctor)
    assert (doctor.checks, "could not be run" in doctor.problem) == (None, True)


async def test_a_command_that_is_not_there() -> None:
    doctor = DoctorRuns(("/nowhere/at/all",))
    doctor.begin()
    await over(doctor)
    assert doctor.problem


async def test_one_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "RUN_TIMEOUT_S", 0.3)
    doctor = runs("import time; time.sleep(60)")
    doctor.begin()
    await over(doctor)
    assert "did not come to an end" in doctor.problem
    doctor.begin()
    assert doctor.problem == "" or doctor.is_running
    await over(doctor)


async def test_the_loop_goes_on_meanwhile() -> None:
    doctor = runs("import time; time.sleep(0.3)")
    doctor.begin()
    turns = 0
    while doctor.is_running:
        await asyncio.sleep(0.01)
        turns += 1
    assert turns > 10
