"""What must be true of a cluster's slots, records and webhooks, counted against the calls that were really made."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from tests.kit.cluster import Cluster, until_true
from tests.kit.phones import Phone
from tests.kit.webhooks import Received

STARTED, ANSWERED, ENDED = "call.started", "call.answered", "call.ended"


def by_call(received: Iterable[Received]) -> dict[str, list[Received]]:
    """The events of each call, in the order in which they were taken, repetitions left out.

    A repetition must be the same event to the letter.
    """
    first: dict[str, Received] = {}
    for request in received:
        known = first.setdefault(request.event_id, request)
        assert known.body == request.body, f"{request.event_id} came with two bodies"
    calls: dict[str, list[Received]] = defaultdict(list)
    for request in first.values():
        calls[_call_of(request)].append(request)
    return dict(calls)


def _call_of(request: Received) -> str:
    """The call's id is in the event's: ``evt_CALL_TYPE``."""
    return request.event_id.removeprefix("evt_").split("_", 1)[0]


def types(events: Iterable[Received]) -> list[str]:
    """Their types."""
    return [request.event["type"] for request in events]


def event_of(events: Iterable[Received], kind: str) -> dict[str, Any]:
    """The one event of this type."""
    [found] = [request.event for request in events if request.event["type"] == kind]
    return found


def assert_events_in_order(cluster: Cluster) -> None:
    """Every event that came is well signed and well formed; those of a call begin, go on and end in order."""
    assert cluster.receiver.problems() == []
    for call_id, events in by_call(cluster.receiver.taken).items():
        own = [request.event for request in events if "sequence" in request.event]
        numbers = [event["sequence"] for event in own]
        assert numbers == sorted(set(numbers)), f"{call_id}: {types(events)} with {numbers}"
        kinds = types(events)
        assert kinds[0] == STARTED, f"{call_id}: {kinds}"
        assert max(Counter(kinds).values()) == 1, f"{call_id}: {kinds}"
        assert set(kinds[kinds.index(ENDED) + 1 :] if ENDED in kinds else ()) <= {"post_call_transcription"}


def entered(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records of calls that were let in; the others were refused, or over before."""
    return [call for call in records if call["admission"] in ("granted", "burst", "queued")]


async def settled(cluster: Cluster, made: Iterable[Phone], timeout_s: float, at: str | None = None) -> float:
    """Wait until every one of these calls that was let in has its end in the records and at the receiver.

    Returns the seconds that took. Fails when something is missing then.
    """
    made = list(made)
    wanted: set[str] = set()
    left: list[str] = []

    async def all_told() -> bool:
        nonlocal left, wanted
        records = {call["call_sid"]: call for call in entered(await cluster.records(at))}
        told = {call_id for call_id, events in by_call(cluster.receiver.taken).items() if ENDED in types(events)}
        wanted = {phone.call_sid for phone in made if phone.first_heard_s or phone.call_sid in records}
        left = [_lack(call_sid, records.get(call_sid), told) for call_sid in sorted(wanted)]
        left = [lack for lack in left if lack]
        return not left

    began_s = time.monotonic()
    try:
        await until_true(all_told, "", timeout_s)
    except AssertionError:
        raise AssertionError(f"{len(left)} of {len(wanted)} answered calls have no end: {left[:3]}") from None
    return time.monotonic() - began_s


def _lack(call_sid: str, record: dict[str, Any] | None, told: set[str]) -> str:
    """What is missing of an answered call's end; empty = nothing."""
    if record is None:
        return f"{call_sid}: no record"
    if record["ended_at"] is None:
        return f"{call_sid}: goes on ({record['state']} on {record['instance_id']})"
    return "" if record["id"] in told else f"{call_sid}: {ENDED} was not sent"


async def assert_balanced(cluster: Cluster, made: Iterable[Phone], at: str | None = None) -> None:
    """One ended record for every call that was answered, and its events once; no event without a record."""
    records = await cluster.records(at)
    let_in = entered(records)
    by_sid = Counter(call["call_sid"] for call in let_in)
    events = by_call(cluster.receiver.taken)
    for phone in made:
        if phone.first_heard_s:
            assert by_sid[phone.call_sid] == 1, f"{by_sid[phone.call_sid]} records of {phone.call_sid}"
    for call in let_in:
        assert call["ended_at"] is not None, call
        kinds = types(events.get(call["id"], ()))
        assert (STARTED in kinds, ENDED in kinds) == (True, True), f"{call['id']} {call['reason']}: {kinds}"
    assert set(events) == {call["id"] for call in let_in}
    assert_events_in_order(cluster)


def reasons(records: Iterable[dict[str, Any]], made: Iterable[Phone]) -> Counter[str]:
    """How these calls ended."""
    ours = {phone.call_sid for phone in made}
    return Counter(f"{call['result']}/{call['reason']}" for call in records if call["call_sid"] in ours)
