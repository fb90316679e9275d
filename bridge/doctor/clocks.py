"""Whether this machine's clock agrees with those of the agent's host, of Redis and of the database.

What hangs on it: Genesys' signatures are taken for ten seconds, signed webhooks and tokens of Vonage carry a time, and
records are compared by theirs.

Source: RFC 9110, section 6.6.1 (Date has a resolution of one second).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

import httpx

from bridge.auth.genesys import MAX_AGE_S
from bridge.doctor.findings import Finding, failed, ok, skipped, warning
from bridge.doctor.tools import Tools, words_of

AGENT_CLOCK = "clock: agent's host"

SKEW_WARNING_S = 2.0
"""Beyond what reading a clock over the network can be wrong by."""
SKEW_FAILED_S = float(MAX_AGE_S)
"""From here on genuine signatures are refused."""

SYNCHRONISE = "Synchronise this machine's clock (chrony or systemd-timesyncd) and look again."


@dataclass(frozen=True, slots=True)
class Reading:
    """Another machine's clock, read over the network."""

    ahead_s: float
    """How far it is ahead of ours, at best guess."""
    give_or_take_s: float
    """How wrong that may be: half the round trip, and the resolution."""


def reading(theirs_unix_s: float, asked_unix_s: float, answered_unix_s: float, resolution_s: float = 0.0) -> Reading:
    """Compare a time that came back with our times before and after."""
    middle_s = (asked_unix_s + answered_unix_s) / 2
    return Reading(
        theirs_unix_s + resolution_s / 2 - middle_s, abs(answered_unix_s - asked_unix_s) / 2 + resolution_s / 2
    )


def judge_clock(name: str, whose: str, read: Reading) -> Finding:
    """What to make of the difference, in favour of the clocks where the reading is vague."""
    least_s = max(0.0, abs(read.ahead_s) - read.give_or_take_s)
    side = "behind" if read.ahead_s > 0 else "ahead of"
    if least_s < SKEW_WARNING_S:
        return ok(name, f"this clock and that of {whose} agree to within {max(least_s, read.give_or_take_s):.1f} s")
    seen = f"this clock is {least_s:.0f} s {side} that of {whose}"
    return failed(name, seen, SYNCHRONISE) if least_s >= SKEW_FAILED_S else warning(name, seen, SYNCHRONISE)


async def check_agent_clock(tools: Tools) -> Finding:
    """Compare with the Date header of the agent's host."""
    name, whose = AGENT_CLOCK, "the agent's host"
    asked = tools.unix()
    try:
        response = await tools.http.get(tools.settings.elevenlabs_base_url + "/")
    except httpx.HTTPError as error:
        return skipped(name, f"the agent's host gives no time: {words_of(error)}")
    theirs = date_of(response.headers.get("date", ""))
    if theirs is None:
        return skipped(name, "the agent's host gives no time: no Date header")
    return judge_clock(name, whose, reading(theirs, asked, tools.unix(), resolution_s=1.0))


def date_of(text: str) -> float | None:
    """An HTTP date as Unix seconds; None for anything else."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
