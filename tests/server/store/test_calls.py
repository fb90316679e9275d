from __future__ import annotations

import itertools
from typing import Any

import pytest
from sqlalchemy import select

from bridge.calls.record import CallRecord
from bridge.errors import LocalError
from bridge.server.store.calls import CallStore, LiveCallError
from bridge.server.store.database import Database
from bridge.server.store.listing import CallFilter, QueryError
from bridge.server.store.retention import Retention
from bridge.server.store.schema import CALLS, CONVERSATIONS, INSTANCES, OUTBOX
from tests.kit.records import (
    CREATED_AT,
    call_record,
    ended_record,
    finished_recording,
    journal_of_everything,
    outbox_event,
)


@pytest.fixture
def store(database: Database) -> CallStore:
    return CallStore(database)


def lost_record(**fields: Any) -> CallRecord:
    """What another instance writes for a call whose process is silent."""
    return ended_record(result="server_error", reason="instance_lost", **fields)


async def events(database: Database) -> list[tuple[str, str, bytes]]:
    async with database.read() as connection:
        rows = await connection.execute(select(OUTBOX.c.id, OUTBOX.c.state, OUTBOX.c.body).order_by(OUTBOX.c.sequence))
        return [(row.id, row.state, row.body) for row in rows]


async def count(database: Database, table: Any) -> int:
    async with database.read() as connection:
        return len((await connection.execute(select(table))).all())


# --- writing ---


async def test_a_call_is_read_as_it_was_written(store: CallStore) -> None:
    record = ended_record(
        journal=journal_of_everything(),
        recording=finished_recording(),
        conversation_ids=["conv_1"],
        detail="all \0 well",
    )
    await store.save([(record, ())])
    assert await store.get("call1") == record
    assert await store.get("call2") is None


async def test_the_newest_version_stands_and_the_events_of_all_are_there_once(
    store: CallStore, database: Database
) -> None:
    started, ended = outbox_event(kind="call.started"), outbox_event(sequence=2)
    await store.save([(call_record(state="connecting"), (started,))])
    await store.save([(call_record(), ()), (ended_record(events_sent=2), (ended,))])
    await store.save([(ended_record(events_sent=2), (started, ended))])
    stored = await store.get("call1")
    assert stored is not None
    assert (stored.state, stored.events_sent) == ("ended", 2)
    assert await events(database) == [
        ("evt_call1_call.started", "pending", b'{"type":"call.started"}'),
        ("evt_call1_call.ended", "pending", b'{"type":"call.ended"}'),
    ]


async def test_a_batch_is_written_whole_or_not_at_all(store: CallStore, database: Database) -> None:
    broken = outbox_event("call2", created_at=None)
    with pytest.raises(Exception, match="NOT NULL|not-null"):
        await store.save([(call_record("call1"), (outbox_event("call1"),)), (call_record("call2"), (broken,))])
    assert await count(database, CALLS) == await count(database, OUTBOX) == 0


ACTIVE = call_record(detail="active")
END = ended_record(detail="end")
LOST = lost_record(detail="lost")
FAILED = ended_record(result="upstream_error", reason="agent_lost", ended_at=CREATED_AT + 31.0, detail="failed")


@pytest.mark.parametrize(
    "order", list(itertools.permutations([ACTIVE, END, LOST])), ids=lambda o: "-".join(r.detail for r in o)
)
async def test_whatever_the_order_the_processs_own_word_stands(store: CallStore, order: list[CallRecord]) -> None:
    for record in order:
        await store.save([(record, ())])
    stored = await store.get("call1")
    assert stored is not None
    assert stored.detail == "end"


@pytest.mark.parametrize(
    "order", list(itertools.permutations([ACTIVE, LOST])), ids=lambda o: "-".join(r.detail for r in o)
)
async def test_an_end_is_not_undone_by_a_version_without_one(store: CallStore, order: list[CallRecord]) -> None:
    await store.save([(record, ()) for record in order])
    stored = await store.get("call1")
    assert stored is not None
    assert stored.detail == "lost"


async def test_of_two_ends_the_first_stands(store: CallStore) -> None:
    for record in (END, FAILED, END):
        await store.save([(record, ())])
    stored = await store.get("call1")
    assert stored is not None
    assert stored.detail == "end"


async def test_a_later_version_of_the_same_end_takes_its_place(store: CallStore) -> None:
    await store.save([(END, ())])
    await store.save([(ended_record(outputs={"mood": "good"}), ())])
    stored = await store.get("call1")
    assert stored is not None
    assert stored.outputs == {"mood": "good"}


async def test_a_corrected_end_is_not_told_twice(store: CallStore, database: Database) -> None:
    await store.save([(LOST, (outbox_event(body=b"lost"),))])
    await store.save([(END, (outbox_event(body=b"the true end"),))])
    assert await events(database) == [("evt_call1_call.ended", "pending", b"lost")]
    async with database.write() as connection:
        await connection.execute(OUTBOX.update().values(state="delivered", body=b""))
    await store.save([(END, (outbox_event(body=b"the true end"),))])
    assert await events(database) == [("evt_call1_call.ended", "delivered", b"")]


async def test_an_event_of_a_version_that_came_too_late_is_still_told(store: CallStore, database: Database) -> None:
    await store.save([(LOST, (outbox_event(sequence=2),))])
    await store.save([(ACTIVE, (outbox_event(kind="call.answered", sequence=3),))])
    assert [event[0] for event in await events(database)] == ["evt_call1_call.ended", "evt_call1_call.answered"]


async def test_the_instance_of_a_call_is_known_from_its_first_record_on(store: CallStore, database: Database) -> None:
    await store.save([(call_record("call1"), ()), (call_record("call2"), ())])
    async with database.read() as connection:
        row = (await connection.execute(select(INSTANCES, database.now().label("now")))).one()
    assert row.id == "instance1"
    assert row.now - 5 < row.seen_at <= row.now


async def test_many_calls_in_one_batch(store: CallStore, database: Database) -> None:
    await store.save([(call_record(f"call{n}"), (outbox_event(f"call{n}"),)) for n in range(300)])
    assert await count(database, CALLS) == await count(database, OUTBOX) == 300


async def test_an_empty_batch_is_nothing(store: CallStore, database: Database) -> None:
    await store.save([])
    assert await count(database, CALLS) == 0


# --- keeping nothing ---


async def test_with_no_days_for_records_only_the_events_of_an_end_stay(database: Database) -> None:
    store = CallStore(database, Retention(records_days=0))
    await store.save([(call_record(conversation_ids=["conv_1"]), (outbox_event(kind="call.started"),))])
    assert await count(database, CALLS) == 1
    await store.save([(ended_record(), (outbox_event(sequence=2),))])
    assert await count(database, CALLS) == await count(database, CONVERSATIONS) == 0
    assert len(await events(database)) == 2
    await store.save([(ended_record(), (outbox_event(sequence=2),))])
    assert await count(database, CALLS) == 0
    assert len(await events(database)) == 2


async def test_with_no_days_for_transcripts_a_live_call_has_none_either(database: Database) -> None:
    store = CallStore(database, Retention(transcripts_days=0))
    await store.save([(call_record(journal=journal_of_everything()), ())])
    stored = await store.get("call1")
    assert stored is not None
    assert stored.journal.turns == []
    assert [tool.name for tool in stored.journal.tools] == ["find_customer"]
    assert [(key.digit, key.duration_ms) for key in stored.journal.digits] == [("", 120)]


# --- the recording ---


async def test_a_recording_attached_to_the_row_outlives_a_record_that_does_not_know_of_it(store: CallStore) -> None:
    await store.save([(END, ())])
    assert await store.attach_recording("call1", finished_recording())
    await store.save([(ended_record(outputs={"a": "b"}), ())])
    stored = await store.get("call1")
    assert stored is not None
    assert stored.recording == finished_recording()
    assert stored.outputs == {"a": "b"}


async def test_a_recording_without_a_call_belongs_to_nobody(store: CallStore) -> None:
    assert not await store.attach_recording("call1", finished_recording())


# --- deleting ---


async def test_deleting_forgets_everything_but_what_is_still_to_be_sent(store: CallStore, database: Database) -> None:
    record = ended_record(conversation_ids=["conv_1"], recording=finished_recording())
    sent = [outbox_event(kind=kind, sequence=n) for n, kind in enumerate(("a", "b", "c"), 1)]
    await store.save([(record, tuple(sent)), (ended_record("call2"), ())])
    async with database.write() as connection:
        for kind, state in (("a", "delivered"), ("b", "dead")):
            await connection.execute(OUTBOX.update().where(OUTBOX.c.type == kind).values(state=state))
    deleted = await store.delete("call1")
    assert deleted is not None
    assert deleted.recording == finished_recording()
    assert await store.get("call1") is None
    assert await store.get("call2") is not None
    assert await count(database, CONVERSATIONS) == 0
    assert [(name, state) for name, state, _ in await events(database)] == [
        ("evt_call1_a", "delivered"),
        ("evt_call1_c", "pending"),
    ]


async def test_deleting_what_is_not_there(store: CallStore) -> None:
    assert await store.delete("call1") is None


async def test_a_call_without_audio_leaves_none_to_delete(store: CallStore) -> None:
    await store.save([(END, ())])
    deleted = await store.delete("call1")
    assert deleted is not None
    assert deleted.recording is None


async def test_a_call_that_goes_on_is_not_deleted(store: CallStore) -> None:
    await store.save([(ACTIVE, ())])
    with pytest.raises(LiveCallError, match="the call goes on"):
        await store.delete("call1")
    assert await store.get("call1") is not None


# --- finding ---


async def test_a_call_is_found_by_any_of_its_conversations(store: CallStore) -> None:
    await store.save([(call_record(conversation_ids=["conv_1"]), ())])
    await store.save([(call_record(conversation_ids=["conv_1", "conv_2"]), ()), (call_record("call2"), ())])
    for name in ("conv_1", "conv_2"):
        found = await store.by_conversation(name)
        assert found is not None
        assert (found.id, found.conversation_id) == ("call1", "conv_2")
    assert await store.by_conversation("conv_3") is None
    assert await store.by_conversation("") is None


async def test_of_calls_with_one_carriers_id_the_newest_is_found(store: CallStore) -> None:
    await store.save(
        [
            (ended_record("call1", call_sid="CA1"), ()),
            (ended_record("call3", call_sid="CA1", created_at=CREATED_AT + 60), ()),
        ]
    )
    await store.save([(ended_record("call2", call_sid="CA1", created_at=CREATED_AT + 30), ())])
    found = await store.by_call_sid("CA1")
    assert found is not None
    assert found.id == "call3"
    assert await store.by_call_sid("CA2") is None


# --- lists ---


async def ids(store: CallStore, wanted: CallFilter) -> list[str]:
    page = await store.page(wanted, None, 200)
    assert page.next_cursor is None
    return [record.id for record in page.calls]


async def test_pages_are_newest_first_without_gap_or_repetition(store: CallStore) -> None:
    # Seven calls, three of them at one moment: then the id decides.
    times = {"a": 1.0, "b": 3.0, "c": 3.0, "d": 3.0, "e": 2.0, "f": 5.0, "g": 4.0}
    await store.save([(call_record(name, created_at=at), ()) for name, at in times.items()])
    found: list[list[str]] = []
    cursor: str | None = None
    while True:
        page = await store.page(CallFilter(), cursor, 2)
        found.append([record.id for record in page.calls])
        cursor = page.next_cursor
        if cursor is None:
            break
        if len(found) == 1:  # what comes in while somebody reads shifts nothing
            await store.save([(call_record("z", created_at=9.0), ())])
    assert found == [["f", "g"], ["d", "c"], ["b", "e"], ["a"]]


async def test_a_page_that_is_just_full_is_the_last(store: CallStore) -> None:
    await store.save([(call_record(name), ()) for name in "ab"])
    page = await store.page(CallFilter(), None, 2)
    assert len(page.calls) == 2
    assert page.next_cursor is None


async def test_a_list_is_without_journals_but_with_recordings(store: CallStore) -> None:
    await store.save([(ended_record(journal=journal_of_everything(), recording=finished_recording()), ())])
    (record,) = (await store.page(CallFilter(), None, 1)).calls
    assert record.journal.turns == []
    assert record.recording == finished_recording()


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (CallFilter(), ["b", "a"]),
        (CallFilter(provider="genesys"), ["b"]),
        (CallFilter(agent_id="agent_1"), ["a"]),
        (CallFilter(caller="+15550001"), ["a"]),
        (CallFilter(called="+15550009"), ["b"]),
        (CallFilter(state="active"), ["a"]),
        (CallFilter(result="success"), ["b"]),
        (CallFilter(reason="caller_hangup"), ["b"]),
        (CallFilter(direction="outbound"), ["b"]),
        (CallFilter(live=True), ["a"]),
        (CallFilter(live=False), ["b"]),
        (CallFilter(since=CREATED_AT + 60), ["b"]),
        (CallFilter(until=CREATED_AT + 60), ["a"]),
        (CallFilter(since=CREATED_AT, until=CREATED_AT + 61), ["b", "a"]),
        (CallFilter(conversation_id="conv_1"), ["b"]),
        (CallFilter(call_sid="CAb"), ["b"]),
        (CallFilter(agent_id="agent_2", live=True), []),
        (CallFilter(caller="%"), []),
        (CallFilter(caller="' OR 1=1 --"), []),
    ],
)
async def test_every_filter_finds_its_own(store: CallStore, wanted: CallFilter, found: list[str]) -> None:
    other = ended_record(
        "b",
        provider="genesys",
        agent_id="agent_2",
        caller="+15550008",
        called="+15550009",
        direction="outbound",
        created_at=CREATED_AT + 60,
        conversation_ids=["conv_1", "conv_2"],
    )
    await store.save([(call_record("a"), ()), (other, ())])
    assert await ids(store, wanted) == found


@pytest.mark.parametrize("limit", [0, 201])
async def test_a_page_has_its_bounds(store: CallStore, limit: int) -> None:
    with pytest.raises(LocalError, match=f"a page has 1 to 200 calls, not {limit}"):
        await store.page(CallFilter(), None, limit)


async def test_a_forged_cursor_is_refused_or_leads_elsewhere(store: CallStore) -> None:
    await store.save([(call_record("a"), ())])
    with pytest.raises(QueryError):
        await store.page(CallFilter(), "nonsense", 10)
    assert (await store.page(CallFilter(), "AAAAAAAAAABhYWE", 10)).calls == []
