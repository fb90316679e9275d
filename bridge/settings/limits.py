"""How many calls, and what happens to those over it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ValidationInfo, field_validator

from bridge.calls.admission import PLANS
from bridge.calls.numbers import parse_target
from bridge.settings.base import Lower, Number, Topic, existing_file, setting

MAX_CONCURRENCY = 100_000
"""More calls at once than any plan or cluster has; a larger number is a slip."""


def _plan(value: object) -> object:
    """A plan's name stands for its limit."""
    return PLANS.get(value.strip().lower(), value) if isinstance(value, str) else value


class LimitSettings(Topic):
    """Limits."""

    bridge_max_calls: int = setting(
        1000,
        "Calls that this process carries at most; the next one is told busy. `bridge bench` says what the machine "
        "carries.",
        unit="calls",
        ge=1,
        le=MAX_CONCURRENCY,
    )
    workspace_concurrency: Annotated[int, BeforeValidator(_plan)] | None = setting(
        None,
        "The ElevenLabs plan's limit of concurrent conversations, over all processes: a number, or the plan's name ("
        + ", ".join(f"`{plan}` {calls}" for plan, calls in PLANS.items())
        + "). A caller over it is not connected to an agent that refuses. Unset: no limit.",
        unit="calls",
        expected=f"a whole number from 1 to {MAX_CONCURRENCY}, or a plan: {', '.join(PLANS)}",
        ge=1,
        le=MAX_CONCURRENCY,
    )
    agent_concurrency: int = setting(
        -1,
        "Calls at once of each agent that has no limit of its own in its route or in `[agents]`. -1 = whatever the "
        "workspace has.",
        unit="calls",
        ge=-1,
        le=MAX_CONCURRENCY,
    )
    agent_daily_limit: int | None = setting(
        None,
        "Calls a day of each agent, by the clock of `TIMEZONE`, as a guard against surprises on the bill. "
        "Unset: no limit.",
        unit="calls/day",
        ge=0,
        le=10_000_000,
    )
    burst: bool = setting(
        False,
        "`on` lets agents go above `WORKSPACE_CONCURRENCY`, up to three times as many or `BURST_CAP`, whichever is "
        "lower. The vendor bills those calls double and wants bursting enabled in the agent's settings.",
    )
    burst_cap: int = setting(
        300,
        "Most calls at once with bursting; 300 is what the vendor allows without a contract.",
        unit="calls",
        ge=1,
        le=MAX_CONCURRENCY,
    )
    burst_minutes_per_day: Number | None = setting(
        None,
        "Cost cap: once burst calls have lasted so long in a day of `TIMEZONE`, nobody bursts until midnight. "
        "Unset: no cap.",
        unit="min/day",
        ge=0,
        le=10_000_000,
    )
    calls_per_second_per_source: Number | None = setting(
        None,
        "How fast one caller's number may place calls; those over it are refused, so that one dialler cannot take all "
        "slots. Unset: any speed.",
        unit="calls/s",
        gt=0,
        le=10_000,
    )
    overflow: Annotated[Literal["reject", "queue", "divert"], Lower] = setting(
        "reject",
        "What happens to a caller for whom there is no slot: `reject` = busy, `queue` = wait with `HOLD_AUDIO`, "
        "`divert` = go to `OVERFLOW_DIVERT_TO`.",
    )
    overflow_queue_s: Number = setting(
        60, "How long a caller waits in the queue at most; few wait longer than a minute.", unit="s", gt=0, le=3600
    )
    overflow_divert_to: Annotated[str, AfterValidator(parse_target)] | None = setting(
        None, "Where diverted callers go: a number such as `+49301234567`, or a `sip:` address."
    )
    hold_audio: Annotated[Path, AfterValidator(existing_file)] | None = setting(
        None,
        "WAV file (16-bit PCM, mono or stereo) that waiting callers hear in a loop. Unset: a soft tone.",
        restart=True,
    )

    @field_validator("overflow_divert_to")
    @classmethod
    def _divert_has_a_target(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("overflow") == "divert":
            raise ValueError(
                "is not set although OVERFLOW is divert; set it to a number such as +49301234567 or a sip: address"
            )
        return value
