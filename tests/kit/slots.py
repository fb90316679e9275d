"""One table of scenarios for every store of call slots, and the words it is written in."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.calls.admission import AgentLimits, CallKind, Granted, Limits, Refused, SlotRequest, Verdict

DAY = "2025-03-30"
NEXT_DAY = "2025-03-31"
WAITER_TTL_S = 0.3
"""In place of five seconds, because Redis' clock cannot be moved."""
MAX_WAITING = 3


@dataclass(frozen=True)
class Take:
    """A call asks; ``says`` is what the store must answer."""

    call: str
    says: str
    """``granted``, ``burst``, ``waiting N``, or the reason of a refusal."""
    agent: str = "a"
    own: int = -1
    daily: int | None = None
    bursting: bool = False
    kind: CallKind = CallKind.INBOUND
    wait: bool = False
    source: str = ""
    day: str = DAY

    def request(self) -> SlotRequest:
        """As the store's users would put it."""
        return SlotRequest(
            call_id=self.call,
            agent_id=self.agent,
            kind=self.kind,
            source=self.source,
            agent=AgentLimits(self.own, self.daily, self.bursting),
            wait=self.wait,
        )


@dataclass(frozen=True)
class End:
    """A call ends, or hangs up while it waits."""

    call: str
    refund: bool = False


@dataclass(frozen=True)
class Pause:
    """Time passes."""

    seconds: float


@dataclass(frozen=True)
class Burst:
    """Burst calls have lasted so much longer."""

    minutes: float
    day: str = DAY


@dataclass(frozen=True)
class Shows:
    """What the store says of itself."""

    calls: int
    burst: int = 0
    batch: int = 0
    waiting: int = 0


Step = Take | End | Pause | Burst | Shows


@dataclass(frozen=True)
class Scenario:
    """What happens in order."""

    name: str
    limits: Limits
    steps: tuple[Step, ...]


def said(verdict: Verdict) -> str:
    """A verdict in the words of the table."""
    if isinstance(verdict, Granted):
        return "burst" if verdict.is_burst else "granted"
    if isinstance(verdict, Refused):
        assert verdict.detail
        return verdict.reason.reason
    return f"waiting {verdict.position}"


def _limits(workspace: int | None, **more: float | None) -> Limits:
    return Limits(1000, workspace, **more)  # type: ignore[arg-type]


_BATCH = CallKind.BATCH

SCENARIOS = (
    Scenario("no limit", _limits(None), tuple(Take(str(n), "granted") for n in range(9))),
    Scenario("the limit", _limits(2), (Take("1", "granted"), Take("2", "granted"), Take("3", "capacity"))),
    Scenario("a limit of nothing", _limits(0), (Take("1", "capacity"), Take("2", "capacity", bursting=True))),
    Scenario(
        "a slot comes free",
        _limits(1),
        (Take("1", "granted"), Take("2", "capacity"), End("1"), Take("2", "granted"), Shows(1)),
    ),
    Scenario(
        "taking and giving back twice",
        _limits(2),
        (
            Take("1", "granted"),
            *(Take("1", "granted"), Take("2", "granted"), Shows(2), Take("3", "capacity"), Take("2", "granted")),
            *(End("1"), End("1"), End("never"), Shows(1), Take("3", "granted"), Take("4", "capacity")),
        ),
    ),
    Scenario(
        "burst begins above the limit and ends at three times it",
        _limits(2),
        (
            *(Take("1", "granted", bursting=True), Take("2", "granted", bursting=True)),
            *(Take(str(n), "burst", bursting=True) for n in (3, 4, 5, 6)),
            *(Take("7", "capacity", bursting=True), Shows(6, burst=4)),
        ),
    ),
    Scenario(
        "the burst cap",
        _limits(2, burst_cap=3),
        (*(Take(str(n), "burst" if n > 2 else "granted", bursting=True) for n in (1, 2, 3)), Take("4", "capacity")),
    ),
    Scenario(
        "burst calls keep their mark, and count",
        _limits(2),
        (
            *(Take("1", "granted"), Take("2", "granted"), Take("3", "burst", bursting=True)),
            *(End("1"), Take("3", "burst", bursting=True), Shows(2, burst=1)),
            *(Take("4", "capacity"), Take("5", "burst", bursting=True)),
            *(End("2"), End("5"), Take("6", "granted", bursting=True), Shows(2, burst=1)),
            *(End("3"), Shows(1, burst=0)),
        ),
    ),
    Scenario(
        "only the agent that may",
        _limits(1),
        (Take("1", "granted"), Take("2", "capacity", agent="b"), Take("3", "burst", agent="c", bursting=True)),
    ),
    Scenario(
        "burst minutes used up",
        _limits(1, burst_minutes_per_day=1.0),
        (
            *(Take("1", "granted", bursting=True), Take("2", "burst", bursting=True), Burst(0.9)),
            *(Take("3", "burst", bursting=True), Burst(0.1), End("3"), Take("4", "capacity", bursting=True)),
            *(Take("2", "burst", bursting=True), Take("5", "burst", bursting=True, day=NEXT_DAY)),
            *(End("1"), End("2"), End("5"), Take("6", "granted", bursting=True)),
        ),
    ),
    Scenario(
        "an agent's own limit",
        _limits(9),
        (
            *(Take("1", "granted", own=1), Take("2", "agent_capacity", own=1), Take("3", "granted", "b", own=1)),
            *(Take("4", "granted", agent="c"), End("1"), Take("2", "granted", own=1)),
        ),
    ),
    Scenario(
        "an agent's own limit is not for bursting",
        _limits(1),
        (Take("1", "granted", own=1, bursting=True), Take("2", "agent_capacity", own=1, bursting=True)),
    ),
    Scenario(
        "an agent's calls a day",
        _limits(9),
        (
            *(Take("1", "granted", daily=2), End("1"), Take("2", "granted", daily=2), Take("2", "granted", daily=2)),
            *(End("2"), Take("3", "agent_daily_limit", daily=2), Take("3", "agent_daily_limit", daily=2, wait=True)),
            *(Take("4", "granted", agent="b", daily=2), Take("5", "granted", daily=2, day=NEXT_DAY), Shows(2)),
        ),
    ),
    Scenario(
        "a call that never took place is none of the day's",
        _limits(9),
        (
            *(Take("1", "granted", daily=1), Take("2", "agent_daily_limit", daily=1), End("1", refund=True)),
            *(End("1", refund=True), Take("2", "granted", daily=1), Take("3", "agent_daily_limit", daily=1)),
        ),
    ),
    Scenario(
        "a refused call is none of the day's",
        _limits(1),
        (
            *(Take("1", "granted", agent="b"), Take("2", "capacity", daily=1), Take("3", "capacity", daily=1)),
            *(End("1"), Take("4", "granted", daily=1)),
        ),
    ),
    Scenario(
        "batches get their part",
        _limits(4),
        (
            *(Take("1", "granted", kind=_BATCH), Take("2", "granted", kind=_BATCH), Take("3", "capacity", kind=_BATCH)),
            *(Take("4", "granted"), Take("5", "granted"), Shows(4, batch=2)),
            *(End("1"), Take("3", "granted", kind=_BATCH), Shows(4, batch=2)),
        ),
    ),
    Scenario(
        "batches never burst",
        _limits(2),
        (
            *(Take("1", "granted"), Take("2", "granted"), Take("3", "capacity", kind=_BATCH, bursting=True)),
            *(Take("4", "burst", bursting=True), End("1"), Take("5", "capacity", kind=_BATCH, bursting=True)),
            *(End("4"), Take("5", "granted", kind=_BATCH, bursting=True)),
        ),
    ),
    Scenario("of one call batches get none", _limits(1), (Take("1", "capacity", kind=_BATCH), Take("2", "granted"))),
    Scenario(
        "the pace of a source",
        _limits(9, calls_per_second_per_source=2.0),
        (
            *(Take("1", "granted", source="x"), Take("1", "granted", source="x"), Take("2", "granted", source="x")),
            *(Take("3", "rate_limited", source="x"), Take("4", "granted", source="y"), Take("5", "granted")),
            *(Pause(0.55), Take("3", "granted", source="x"), Take("6", "rate_limited", source="x")),
        ),
    ),
    Scenario(
        "who waits does not place calls",
        _limits(1, calls_per_second_per_source=1.0),
        (
            *(Take("1", "granted", source="x"), Take("2", "waiting 1", source="y", wait=True)),
            *(Take("2", "waiting 1", source="y", wait=True), Take("3", "rate_limited", source="y", wait=True)),
            *(End("1"), Take("2", "granted", source="y", wait=True), Shows(1)),
        ),
    ),
    Scenario(
        "first come, first served",
        _limits(1),
        (
            *(Take("1", "granted"), Take("2", "waiting 1", wait=True), Take("3", "waiting 2", wait=True)),
            *(Take("2", "waiting 1", wait=True), Shows(1, waiting=2), End("1")),
            *(Take("4", "capacity"), Take("3", "waiting 2", wait=True), Take("2", "granted", wait=True)),
            *(Take("3", "waiting 1", wait=True), Shows(1, waiting=1), End("2"), Take("3", "granted"), Shows(1)),
        ),
    ),
    Scenario(
        "as many go as there are slots",
        _limits(2),
        (
            *(Take("1", "granted"), Take("2", "granted"), Take("3", "waiting 1", wait=True)),
            *(Take("4", "waiting 2", wait=True), End("1"), End("2"), Take("5", "capacity", agent="b")),
            *(Take("4", "granted", wait=True), Take("3", "granted", wait=True), Shows(2)),
        ),
    ),
    Scenario(
        "who waits for an agent holds up no other",
        _limits(9),
        (
            *(Take("1", "granted", own=1), Take("2", "waiting 1", own=1, wait=True), Take("3", "granted", "b", own=1)),
            *(End("1"), Take("4", "agent_capacity", own=1), Take("5", "granted", "c", own=1)),
            *(Take("2", "granted", own=1, wait=True), Shows(3)),
        ),
    ),
    Scenario(
        "a burst call does not take the slot that another waits for",
        _limits(1),
        (
            *(Take("1", "granted", "b"), Take("2", "waiting 1", "b", wait=True), Take("3", "burst", bursting=True)),
            *(End("1"), End("3"), Take("4", "capacity", bursting=True), Take("2", "granted", "b", wait=True)),
            *(Take("4", "burst", bursting=True), Shows(2, burst=1)),
        ),
    ),
    Scenario(
        "who hangs up does not wait",
        _limits(1),
        (
            *(Take("1", "granted"), Take("2", "waiting 1", wait=True), Take("3", "waiting 2", wait=True)),
            *(End("2"), Shows(1, waiting=1), Take("3", "waiting 1", wait=True), End("1"), Take("3", "granted")),
        ),
    ),
    Scenario(
        "who gives up waiting",
        _limits(1),
        (Take("1", "granted"), Take("2", "waiting 1", wait=True), Take("2", "capacity"), Shows(1, waiting=0)),
    ),
    Scenario(
        "who does not ask again has gone",
        _limits(1),
        (
            *(Take("1", "granted"), Take("2", "waiting 1", wait=True), Pause(WAITER_TTL_S * 0.7)),
            *(Take("3", "waiting 2", wait=True), Pause(WAITER_TTL_S * 0.7), Take("3", "waiting 1", wait=True)),
            *(End("1"), Take("3", "granted", wait=True), Shows(1)),
        ),
    ),
    Scenario(
        "the queue has an end",
        _limits(0),
        (
            *(Take(str(n), f"waiting {n}", wait=True) for n in (1, 2, 3)),
            *(Take("4", "capacity", wait=True), Take("2", "waiting 2", wait=True), End("1")),
            *(Take("4", "waiting 3", wait=True), Shows(0, waiting=3)),
        ),
    ),
    Scenario(
        "batches wait for their part",
        _limits(3),
        (
            *(Take("1", "granted", kind=_BATCH), Take("2", "granted", kind=_BATCH)),
            *(Take("3", "waiting 1", kind=_BATCH, wait=True), Take("4", "granted"), End("4"), End("1")),
            *(Take("5", "capacity", kind=_BATCH), Take("6", "granted"), Take("3", "granted", kind=_BATCH, wait=True)),
        ),
    ),
    Scenario(
        "odd names",
        _limits(2),
        (
            *(Take("a:b {c}\n", "granted", "{x}:é", daily=1, own=1), Take("2", "agent_daily_limit", "{x}:é", daily=1)),
            *(Take("3", "agent_capacity", "{x}:é", own=1), Take("", "granted", agent="")),
        ),
    ),
)  # fmt: skip
