"""Who is told of a call when: every life is written down, in order, with its events, and shown while it lasts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bridge import outcome
from bridge.calls.record import CallRecord, OutboxEvent
from bridge.server.chronicle import Chronicle
from bridge.server.live_calls import LiveCall, LiveCalls
from tests.kit import convai, twilio
from tests.kit.offline import Records, offline_bridge, records_of
from tests.kit.records import call_record, outbox_event
from tests.kit.server import until
from tests.kit.sessions import Table

HOOKS = {"BRIDGE_AUTH": "off", "WEBHOOK_URL": "https://hooks.example/x", "WEBHOOK_SECRET": "s"}
SECOND = "CA00000000000000000000000000000002"


class Maker:
    """Makes one event a moment, and counts it as the real one does."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []

    def _make(self, kind: str, record: CallRecord, now: float) -> Sequence[OutboxEvent]:
        self.asked.append((kind, now))
        record.events_sent += 1
        return (outbox_event(record.id, kind, record.events_sent),)

    def on_started(self, record: CallRecord, now: float) -> Sequence[OutboxEvent]:
        return self._make("started", record, now)

    def on_answered(self, record: CallRecord, now: float) -> Sequence[OutboxEvent]:
        return self._make("answered", record, now)

    def on_transferred(self, record: CallRecord, now: float, target: str) -> Sequence[OutboxEvent]:
        return self._make(f"transferred to {target}", record, now)

    def on_ended(self, record: CallRecord, now: float) -> Sequence[OutboxEvent]:
        return self._make("ended", record, now)

    def on_recorded(self, record: CallRecord, now: float) -> Sequence[OutboxEvent]:
        return self._make("recorded", record, now)


class Desk:
    """A chronicle on a call, with everything it tells."""

    def __init__(self, table: Table) -> None:
        self.session = table.session
        self.records, self.maker = Records(), Maker()
        self.live = LiveCalls("instance_1")
        self.chronicle = Chronicle(self.records, self.live, self.maker, lambda: 1_700_000_000.0)
        self.session.facts.instance_id = "instance_1"

    @property
    def shown(self) -> list[LiveCall]:
        return self.live.here()


# --- one moment ------------------------------------------------------------------------------------------


async def test_every_moment_is_written_with_its_event_and_counted() -> None:
    table = await Table().activate()
    desk = Desk(table)
    chronicle, session = desk.chronicle, desk.session
    chronicle.began(session)
    chronicle.answered(session)
    chronicle.transferred(session, "sales")
    chronicle.ended(session)
    chronicle.recorded(session)
    kinds = ("started", "answered", "transferred to sales", "ended", "recorded")
    assert desk.maker.asked == [(kind, 1_700_000_000.0) for kind in kinds]
    assert [[event.sequence for event in events] for _, events in desk.records.puts] == [[1], [2], [3], [4], [5]]
    assert [record.events_sent for record, _ in desk.records.puts] == [1, 2, 3, 4, 5], "the record knows of its events"
    assert session.facts.events_sent == 5
    table.hang_up()


async def test_moments_that_nobody_is_told_of() -> None:
    table = await Table().activate()
    desk = Desk(table)
    desk.chronicle.refused(desk.session)
    desk.chronicle.amended(desk.session)
    desk.chronicle.turned_away(call_record("call_2"))
    desk.chronicle.moved(desk.session)
    assert (desk.maker.asked, desk.records.events) == ([], [])
    assert [record.id for record, _ in desk.records.puts] == [desk.session.call_id, desk.session.call_id, "call_2"]
    table.hang_up()


async def test_what_is_shown_of_a_call() -> None:
    table = await Table().activate(caller="+15550100", called="+15550199")
    desk = Desk(table)
    desk.session.facts.is_burst = True
    desk.chronicle.answered(desk.session)
    assert desk.shown == [
        LiveCall(
            call_id=desk.session.call_id,
            instance_id="instance_1",
            provider="twilio",
            direction="inbound",
            caller="+15550100",
            called="+15550199",
            agent_id="agent_1",
            conversation_id=convai.CONVERSATION_ID,
            state="active",
            is_burst=True,
            started_at=desk.session.facts.created_at,
        )
    ]
    table.hang_up()


@pytest.mark.parametrize("moment", ["ended", "refused", "moved", "recorded"])
async def test_a_call_that_is_over_is_shown_no_more(moment: str) -> None:
    table = await Table().activate()
    desk = Desk(table)
    desk.chronicle.began(desk.session)
    assert len(desk.shown) == 1
    desk.session.facts.end = outcome.CALLER_HANGUP
    getattr(desk.chronicle, moment)(desk.session)
    assert desk.shown == []
    table.hang_up()


# --- whole lives -----------------------------------------------------------------------------------------


def story(records: Records) -> list[tuple[str, str, list[str]]]:
    """State, reason and events of every version that was written."""
    return [(record.state, record.reason, [event.type for event in events]) for record, events in records.puts]


async def test_the_life_of_a_call_that_was_answered() -> None:
    table = await Table(offline_bridge(HOOKS)).activate()
    assert [call.state for call in table.bridge.live.here()] == ["active"]
    table.hang_up()
    assert story(table.records) == [
        ("connecting", "", ["call.started"]),
        ("active", "", ["call.answered"]),
        ("ended", "caller_hangup", ["call.ended", "post_call_transcription"]),
    ]
    assert table.bridge.live.here() == []
    assert {record.id for record, _ in table.records.puts} == {table.session.call_id}
    created, answered, ended = (
        table.records.last.created_at,
        table.records.last.answered_at,
        table.records.last.ended_at,
    )
    assert answered is not None and ended is not None
    assert created <= answered <= ended


async def test_the_life_of_a_call_whose_agent_never_came() -> None:
    table = Table(offline_bridge(HOOKS), failure=ZeroDivisionError())
    table.offer()
    await until(lambda: table.ends)
    assert story(table.records) == [("connecting", "", ["call.started"]), ("ended", "bug", ["call.ended"])]
    assert table.bridge.live.here() == []


async def test_the_life_of_a_call_that_was_not_let_in() -> None:
    bridge = offline_bridge(HOOKS, BRIDGE_MAX_CALLS="1")
    first = await Table(bridge).activate()
    second = Table(bridge).offer(SECOND)
    await until(lambda: second.carrier.closed)
    assert story(records_of(bridge))[2:] == [("ended", "capacity", [])]
    assert [call.call_id for call in bridge.live.here()] == [first.session.call_id]
    first.hang_up()


async def test_a_socket_that_offers_no_call_is_nobodys_business() -> None:
    table = Table(offline_bridge(HOOKS))
    table.session.on_lost(1006, "")
    assert table.ends == {"client_error/no_start": 1}
    assert table.records.puts == []


async def test_events_go_nowhere_without_an_address() -> None:
    table = await Table().activate()
    table.hang_up()
    assert (table.records.states, table.records.events) == (["connecting", "active", "ended"], [])


@pytest.mark.parametrize("redact", ["on", "off"])
async def test_keys_are_written_down_unless_they_are_to_be_hidden(redact: str) -> None:
    table = await Table(offline_bridge(BRIDGE_AUTH="off", REDACT_DTMF=redact)).activate()
    table.session.on_message(twilio.dtmf("7"))
    table.hang_up()
    digits: list[Any] = [press.digit for press in table.records.last.journal.digits]
    assert digits == (["7"] if redact == "off" else [""])
    assert table.records.last.stats["dtmf"] == 1
