"""Who is told of a call when: the database, the webhooks, the registry of live calls.

Called at the turns of a call's life, never per frame; nothing here waits. Records and the events that tell of them
go to the ledger together, which writes both in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from bridge.calls.record import CallRecord, OutboxEvent
from bridge.calls.state import State
from bridge.server.facts import record_of
from bridge.server.live_calls import LiveCall

if TYPE_CHECKING:
    from bridge.server.session import Session


class RecordSink(Protocol):
    """Where records go: ``bridge.server.store.ledger.Ledger``."""

    def put(self, record: CallRecord, events: Sequence[OutboxEvent]) -> None:
        """Write this down as soon as possible; never blocks, never raises."""


class LiveSink(Protocol):
    """Where the calls in progress are shown: ``bridge.server.live_calls.LiveCalls``."""

    def put(self, call: LiveCall) -> None:
        """This call goes on, as it stands now."""

    def remove(self, call_id: str) -> None:
        """This call is over."""


class EventMaker(Protocol):
    """Makes webhook events of a record and counts them in it: ``bridge.calls.webhooks``."""

    def on_started(self, record: CallRecord, now: float) -> Sequence[OutboxEvent]:
        """The call was let in."""

    def on_answered(self, record: CallRecord, now: float) -> Sequence[OutboxEvent]:
        """The agent is ready."""

    def on_transferred(self, record: CallRecord, now: float, target: str) -> Sequence[OutboxEvent]:
        """The caller was handed to this target."""

    def on_ended(self, record: CallRecord, now: float) -> Sequence[OutboxEvent]:
        """The call is over."""

    def on_recorded(self, record: CallRecord, now: float) -> Sequence[OutboxEvent]:
        """The recording is complete."""


class CallTraces(Protocol):
    """Who makes traces of calls: ``bridge.server.tracing.Tracing``."""

    def call_over(self, record: CallRecord) -> None:
        """The call has ended."""


class Chronicle:
    """Writes down what happens to this process's calls."""

    def __init__(self, ledger: RecordSink, live: LiveSink, events: EventMaker, unix: Callable[[], float]) -> None:
        self.traces: CallTraces | None = None
        """None = no traces are made."""
        self._ledger = ledger
        self._live = live
        self._events = events
        self._unix = unix

    def began(self, session: Session) -> None:
        """The call was let in."""
        self._write(session, self._events.on_started)

    def answered(self, session: Session) -> None:
        """The agent is ready."""
        self._write(session, self._events.on_answered)

    def transferred(self, session: Session, target: str) -> None:
        """The caller is handed to this target, number or word of the carrier's flow."""
        self._write(session, lambda record, now: self._events.on_transferred(record, now, target))

    def moved(self, session: Session) -> None:
        """Something that is worth showing, but no event: the call waits in the queue, say."""
        self._show(session, record_of(session.call_id, session.call, session.facts))

    def refused(self, session: Session) -> None:
        """The call ended without having been let in: kept for the operator's eyes, told to nobody."""
        record = record_of(session.call_id, session.call, session.facts)
        self._ledger.put(record, ())
        self._show(session, record)
        if self.traces is not None:
            self.traces.call_over(record)

    def turned_away(self, record: CallRecord) -> None:
        """A call that was refused before it reached us, likewise."""
        self._ledger.put(record, ())

    def ended(self, session: Session) -> None:
        """The call is over."""
        record = self._write(session, self._events.on_ended)
        if self.traces is not None:
            self.traces.call_over(record)

    def recorded(self, session: Session) -> None:
        """The recording of a call that is over is complete."""
        self._write(session, self._events.on_recorded)

    def amended(self, session: Session) -> None:
        """Something became known after the end."""
        self._ledger.put(record_of(session.call_id, session.call, session.facts), ())

    def _write(self, session: Session, make: Callable[[CallRecord, float], Sequence[OutboxEvent]]) -> CallRecord:
        record = record_of(session.call_id, session.call, session.facts)
        events = make(record, self._unix())
        session.facts.events_sent = record.events_sent
        self._ledger.put(record, events)
        self._show(session, record)
        return record

    def _show(self, session: Session, record: CallRecord) -> None:
        if record.state == State.ENDED.value:
            self._live.remove(record.id)
            return
        self._live.put(
            LiveCall(
                call_id=record.id,
                instance_id=record.instance_id,
                provider=record.provider,
                direction=record.direction,
                caller=record.caller,
                called=record.called,
                agent_id=record.agent_id,
                conversation_id=record.conversation_id,
                state=record.state,
                is_burst=record.is_burst,
                started_at=record.created_at,
            )
        )
