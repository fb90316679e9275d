"""Who may call now: the operator's limits as arithmetic, without a store, a clock or a socket.

Theory of operation: ``ask`` turns limits and a request into an ``Ask`` of plain integers (how many calls may be on for
this one to be let in). ``judge`` holds such an ask against ``Counts``. ``held_up`` sees to it that nobody overtakes a
caller who waits. The stores in ``bridge.server`` only count; the one in memory calls these functions, the one in Redis
repeats them in Lua, and one table of scenarios is held against both.

The rules are the vendor's ("Burst pricing", "Batch calling: Concurrency", plan limits; ElevenLabs docs):

- A workspace may have so many conversations at once. An agent with bursting may go on to three times as many, or 300,
  whichever is lower (never below the normal limit); a call let in above the normal limit is a burst call and stays one.
- An agent's own limit (-1 = the workspace's) and its calls per day are hard: bursting is about the workspace.
- Batch calls never take more than 70 % of the limit, rounded down, and never burst.

What it is not: the limit of one process, which ``bridge.server.admission`` adds with the same functions.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, tzinfo
from fractions import Fraction

import msgspec

from bridge import outcome
from bridge.outcome import EndReason

UNLIMITED = 1_000_000_000
"""Stands for "no limit" where integers are compared, here and in Lua; more calls than there are telephones."""

PLANS: dict[str, int] = {"free": 4, "starter": 6, "creator": 10, "pro": 20, "scale": 30, "business": 30}
"""Concurrent conversations of the vendor's plans."""

US_PER_S = 1_000_000
MS_PER_MINUTE = 60_000


class CallKind(enum.Enum):
    """Where a call comes from, as far as limits care."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"
    BATCH = "batch"
    """Placed by a batch: only a share of the limit, and never burst."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The operator's limits."""

    max_calls: int
    """What this process may carry (BRIDGE_MAX_CALLS)."""
    workspace_concurrency: int | None = None
    """The vendor plan's limit (WORKSPACE_CONCURRENCY); None = none."""
    burst_cap: int = 300
    """Most calls at once with bursting; 300 is what the vendor allows without a contract."""
    burst_factor: int = 3
    """Bursting goes up to so many times the workspace's limit."""
    batch_share: float = 0.7
    """Part of the workspace's limit (without one: of ``max_calls``) that batch calls may take."""
    burst_minutes_per_day: float | None = None
    """Cost cap: once burst calls have lasted so long today, nobody bursts until midnight; None = no cap."""
    calls_per_second_per_source: float | None = None
    """How fast one source may place calls, with one second's worth at once; None = any."""


@dataclass(frozen=True, slots=True)
class AgentLimits:
    """What the route says of its agent."""

    concurrency: int = -1
    """Calls at once; -1 = whatever the workspace has."""
    daily: int | None = None
    """Calls a day in the operator's time zone; None = any."""
    bursting: bool = False
    """Whether its calls may go above the workspace's limit, at twice the price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotRequest:
    """A call that wants a slot. Asking again with the same id is the same request."""

    call_id: str
    agent_id: str = ""
    kind: CallKind = CallKind.INBOUND
    source: str = ""
    """Whose calls per second are counted: a caller, a trunk, an account. Empty = nobody's. Stores see a digest."""
    agent: AgentLimits = AgentLimits()
    wait: bool = False
    """Whether to queue when there is no slot; a waiting call asks again every second or so."""


# --- verdicts --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Granted:
    """The call has a slot, now or from an earlier take."""

    is_burst: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The call has no slot. ``detail`` is for the log and never holds numbers or secrets of the call."""

    reason: EndReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The call queues: ask again within a few seconds, or the place is lost."""

    position: int
    """1 = next."""
    reason: EndReason = outcome.CAPACITY
    """What it waits for: the workspace's slots or the agent's own."""


Verdict = Granted | Refused | Waiting


# --- arithmetic ------------------------------------------------------------------------------------------


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """A request and its limits in integers. A store lets it in while every count is below its ceiling.

    An array on the wire, because Lua reads it by position: change both together.
    """

    call_id: str
    agent_id: str
    normal: int
    """Calls of the workspace from which on a call is burst."""
    ceiling: int
    """Calls of the workspace from which on this call is refused."""
    agent: int
    """Calls of the agent from which on this call is refused."""
    is_batch: bool
    batch: int
    """Batch calls of the workspace from which on this call is refused."""
    daily: int
    """Calls of the agent today from which on this call is refused."""
    burst_ms: int
    """Burst time of today from which on ``normal`` is the ceiling."""
    day: str
    """The operator's day, whatever names it."""
    wait: bool
    source: str
    """Digest of the source; empty = no rate limit."""
    spacing_us: int
    """Least mean distance of two calls of the source."""
    tolerance_us: int
    """How far ahead of that mean a call may be."""


def ask(limits: Limits, request: SlotRequest, day: str, instances: int = 1) -> Ask:
    """What the workspace's limits mean for this request; with ``instances``, what one of so many processes may do.

    A share is never below 1 (a process that may do nothing helps nobody), except of what is 0 already and of batches,
    which must not go over their part in any event.
    """
    normal = UNLIMITED if limits.workspace_concurrency is None else limits.workspace_concurrency
    burst = max(normal, min(limits.burst_factor * normal, limits.burst_cap))
    is_batch = request.kind is CallKind.BATCH
    ceiling = burst if request.agent.bursting and not is_batch else normal
    own = UNLIMITED if request.agent.concurrency < 0 else request.agent.concurrency
    daily = UNLIMITED if request.agent.daily is None else request.agent.daily
    minutes = limits.burst_minutes_per_day
    spacing_us, tolerance_us = _spacing(limits.calls_per_second_per_source if request.source else None)
    return Ask(
        request.call_id,
        request.agent_id,
        _share(normal, instances),
        _share(ceiling, instances),
        _share(own, instances),
        is_batch,
        batch_ceiling(normal, limits.batch_share) // instances if is_batch else UNLIMITED,
        _share(daily, instances),
        UNLIMITED if minutes is None else int(minutes * MS_PER_MINUTE) // instances,
        day,
        request.wait,
        source_digest(request.source) if spacing_us else "",
        spacing_us,
        tolerance_us,
    )


def process_ask(limits: Limits, request: SlotRequest) -> Ask:
    """What this process's own limit means for the request: room for ``max_calls``, nothing else.

    Without a workspace limit, 70 % of the process's calls is what batches may take.
    """
    unlimited = limits.workspace_concurrency is None
    room = limits.max_calls
    is_batch = unlimited and request.kind is CallKind.BATCH
    batch = batch_ceiling(room, limits.batch_share) if is_batch else UNLIMITED
    return Ask(
        request.call_id, "", room, room, UNLIMITED, is_batch, batch, UNLIMITED, UNLIMITED, "", request.wait, "", 0, 0
    )


def batch_ceiling(limit: int, share: float) -> int:
    """Batch calls at once: the share of the limit, rounded down (of 1 call: none)."""
    if limit >= UNLIMITED:
        return UNLIMITED
    # 0.7 is no binary number: 0.7 * 90 is 62.99... in floats.
    return int(Fraction(str(share)) * limit)


def _share(limit: int, instances: int) -> int:
    if limit >= UNLIMITED or limit <= 0:
        return limit
    return max(1, limit // instances)


def _spacing(per_second: float | None) -> tuple[int, int]:
    """Distance and tolerance in microseconds of a generic cell rate algorithm; zeros = no limit."""
    if per_second is None or per_second <= 0:
        return 0, 0
    spacing_us = max(1, round(US_PER_S / per_second))
    return spacing_us, spacing_us * (max(1, int(per_second)) - 1)


def source_digest(source: str) -> str:
    """What stores know a source by: sources are telephone numbers, and stores are shared."""
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def day_key(unix_s: float, zone: tzinfo) -> str:
    """The operator's day at this moment, e.g. ``2025-03-30``."""
    return datetime.fromtimestamp(unix_s, zone).date().isoformat()


def parse_workspace_limit(text: str) -> int:
    """A plan's name or a number of calls. Raises ``ValueError`` with the choices."""
    name = text.strip().lower()
    if name in PLANS:
        return PLANS[name]
    if name.isascii() and name.isdigit() and 1 <= int(name[:12]) <= UNLIMITED:
        return int(name)
    raise ValueError(f"neither a number of calls from 1 on nor a plan ({', '.join(PLANS)})")


# --- the decision ----------------------------------------------------------------------------------------


class Counts(msgspec.Struct, frozen=True, array_like=True):
    """What a store has counted that matters to one ask."""

    calls: int
    """Of the workspace."""
    batch: int
    """Of them placed by batches."""
    agent: int
    """Of the ask's agent."""
    today: int
    """Let in for the agent on the ask's day."""
    burst_ms: int
    """How long burst calls lasted on that day."""


def judge(wanted: Ask, counts: Counts) -> EndReason | None:
    """Whether one more call may start: None = yes, otherwise why not."""
    if counts.today >= wanted.daily:
        return outcome.AGENT_DAILY_LIMIT
    if counts.agent >= wanted.agent:
        return outcome.AGENT_CAPACITY
    ceiling = wanted.normal if counts.burst_ms >= wanted.burst_ms else wanted.ceiling
    if counts.batch >= wanted.batch or counts.calls >= ceiling:
        return outcome.CAPACITY
    return None


def held_up(
    wanted: Ask, counts: Counts, ahead: Iterable[Ask], agent_counts: Callable[[Ask], tuple[int, int]]
) -> EndReason | None:
    """Why a call that would fit must let others go first: one who waited longer would not fit any more.

    ``agent_counts`` gives calls and calls today of the agent of an ask. Those ahead who cannot be let in anyway (their
    agent is full, say) hold up nobody.
    """
    calls, batch = counts.calls, counts.batch
    agents: dict[str, tuple[int, int]] = {}
    for waiter in ahead:
        own, today = agents.get(waiter.agent_id) or agent_counts(waiter)
        if judge(waiter, Counts(calls, batch, own, today, counts.burst_ms)) is not None:
            continue
        same = int(waiter.agent_id == wanted.agent_id)
        beside = Counts(calls + 1, batch + wanted.is_batch, own + same, today + same, counts.burst_ms)
        reason = judge(waiter, beside)
        if reason is not None:
            return reason
        calls, batch = calls + 1, batch + waiter.is_batch
        agents[waiter.agent_id] = own + 1, today + 1
    return None


def explain(reason: EndReason, wanted: Ask, counts: Counts, waiting: int) -> str:
    """The refusal in words, for the log."""
    if reason is outcome.AGENT_DAILY_LIMIT:
        return f"{counts.today} of the agent's {wanted.daily} calls today"
    if reason is outcome.AGENT_CAPACITY:
        return f"{counts.agent} of the agent's {wanted.agent} calls in progress, {waiting} waiting"
    if reason is outcome.RATE_LIMITED:
        return f"more than {US_PER_S / wanted.spacing_us:g} calls a second from one source"
    if counts.batch >= wanted.batch:
        return f"{counts.batch} of {wanted.batch} batch calls in progress, {waiting} waiting"
    return f"{counts.calls} calls in progress, {waiting} waiting"
