"""Runs the checks beside each other: each has its own time-out, and none can break another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from time import monotonic

from bridge.doctor.findings import Finding, failed, without_secrets

PROGRESS_AFTER_S = 2.0
"""A check that takes longer is named while it goes on, so that nobody takes the doctor for dead."""
DEFAULT_TIMEOUT_S = 10.0
"""Of a check. What answers later than that is of no use to a caller."""

Say = Callable[[str], None]
"""Shows a line of progress."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at."""

    name: str
    look: Callable[[], Awaitable[Finding | Sequence[Finding]]]
    """Looks and judges. May raise: that is a failed check, and no trouble for others."""
    timeout_s: float = DEFAULT_TIMEOUT_S
    on_timeout: str = "Check the network between this machine and what was asked, then run the doctor again."
    """Advice when it does not end in time."""


async def run_checks(
    checks: Iterable[Check],
    say: Say,
    *,
    secrets: Sequence[str] = (),
    progress_after_s: float = PROGRESS_AFTER_S,
) -> list[Finding]:
    """Run all of them; the findings come in the checks' order. ``secrets`` are blotted out of whatever they say."""
    results = await asyncio.gather(*(_run(check, say, progress_after_s) for check in checks))
    return [without_secrets(finding, secrets) for findings in results for finding in findings]


async def _run(check: Check, say: Say, progress_after_s: float) -> list[Finding]:
    began_s = monotonic()
    progress = asyncio.get_running_loop().call_later(progress_after_s, say, f"still looking: {check.name}")
    try:
        findings = await _look(check)
    finally:
        progress.cancel()
    took_ms = round((monotonic() - began_s) * 1000)
    return [replace(finding, took_ms=took_ms) for finding in findings]


async def _look(check: Check) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(check.timeout_s):
            found = await check.look()
    except TimeoutError:
        return [failed(check.name, f"no result within {check.timeout_s:g} s", check.on_timeout)]
    except Exception as error:  # a fault of the check itself must not take the others' findings along
        kind = type(error).__name__  # its words may hold anything
        return [failed(check.name, f"the check itself broke: {kind}", "Please report this with the version you run.")]
    return [found] if isinstance(found, Finding) else found
