"""Checks beside each other: time-outs, faults, order, progress."""

from __future__ import annotations

import asyncio

from bridge.doctor.findings import Finding, Verdict, ok
from bridge.doctor.runner import Check, run_checks


def quiet(_line: str) -> None:
    raise AssertionError("nothing takes so long here")


async def fine() -> Finding:
    return ok("fine", "well")


async def several() -> list[Finding]:
    return [ok("one", "1"), ok("two", "2")]


async def hangs() -> Finding:
    await asyncio.Event().wait()
    raise AssertionError


async def breaks() -> Finding:
    raise RuntimeError("words that may hold a secret")


async def test_findings_come_in_the_order_of_the_checks() -> None:
    found = await run_checks([Check("fine", fine), Check("several", several)], quiet)
    assert [finding.name for finding in found] == ["fine", "one", "two"]


async def test_none_breaks_another() -> None:
    checks = [Check("slow", hangs, 0.02, "Wait."), Check("broken", breaks), Check("fine", fine)]
    slow, broken, good = await run_checks(checks, quiet)
    assert (slow.name, slow.verdict, slow.seen, slow.advice) == (
        "slow", Verdict.FAILED, "no result within 0.02 s", "Wait.",
    )  # fmt: skip
    assert (broken.name, broken.verdict, broken.seen, broken.advice) == (
        "broken", Verdict.FAILED, "the check itself broke: RuntimeError",
        "Please report this with the version you run.",
    )  # fmt: skip
    assert good.verdict is Verdict.OK
    assert slow.took_ms >= 15


async def test_they_run_beside_each_other() -> None:
    met = asyncio.Barrier(3)

    async def meets() -> Finding:
        await met.wait()
        return ok("met", "")

    found = await run_checks([Check("met", meets, 5.0)] * 3, quiet)
    assert [finding.verdict for finding in found] == [Verdict.OK] * 3


async def test_a_slow_one_is_named_meanwhile() -> None:
    said: list[str] = []
    go_on = asyncio.Event()

    async def slow() -> Finding:
        await go_on.wait()
        return ok("slow", "")

    def say(line: str) -> None:
        said.append(line)
        go_on.set()

    await run_checks([Check("slow", slow, 5.0), Check("fine", fine)], say, progress_after_s=0.01)
    assert said == ["still looking: slow"]


async def test_secrets_are_blotted_out() -> None:
    async def blabs() -> Finding:
        return ok("blabs", "the key is hunter2hunter2")

    (finding,) = await run_checks([Check("blabs", blabs)], quiet, secrets=["hunter2hunter2"])
    assert finding.seen == "the key is (hidden)"
