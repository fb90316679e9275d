"""From records to answers, with numbers masked where the operator wants that. Pure."""

from __future__ import annotations

import dataclasses

import msgspec

from bridge.calls.journal import Journal, Step, ToolUse, Turn
from bridge.calls.record import CallRecord, Recording
from bridge.calls.redact import redact_document, redact_number, redact_text
from bridge.outcome import CATALOGUE
from bridge.server.api.schemas import (
    AgentUsage,
    CallDetail,
    CallSummary,
    KeyEvent,
    LiveCallInfo,
    RecordingInfo,
    StepEvent,
    Timeline,
    ToolEvent,
    Transcript,
    TurnEvent,
    UsageInfo,
)
from bridge.server.live_calls import LiveCall
from bridge.server.slot_store import Usage


def is_live(record: CallRecord) -> bool:
    """Whether the call goes on."""
    return record.ended_at is None


@dataclasses.dataclass(frozen=True, slots=True)
class Views:
    """Makes the answers."""

    redact_numbers: bool
    """REDACT_NUMBERS: mask phone numbers and SIP users in everything that leaves by the API."""

    def summary(self, record: CallRecord) -> CallSummary:
        """For lists; needs no journal."""
        return CallSummary(
            id=record.id,
            instance_id=record.instance_id,
            provider=record.provider,
            direction=record.direction,
            caller=self._number(record.caller),
            called=self._number(record.called),
            call_sid=record.call_sid,
            agent_id=record.agent_id,
            conversation_id=record.conversation_id,
            state=record.state,
            live=is_live(record),
            admission=record.admission,
            is_burst=record.is_burst,
            queue_wait_ms=record.queue_wait_ms,
            created_at=record.created_at,
            answered_at=record.answered_at,
            ended_at=record.ended_at,
            duration_s=record.duration_s,
            result=record.result,
            reason=record.reason,
            recorded=record.recording is not None,
        )

    def detail(self, record: CallRecord) -> CallDetail:
        """All of it."""
        shown = self._redacted(record)
        journal = shown.journal
        end = CATALOGUE.get(shown.reason)
        return CallDetail(
            **msgspec.structs.asdict(self.summary(record)),
            detail=shown.detail,
            advice=end.advice if end is not None else "",
            stream_id=shown.stream_id,
            account_id=shown.account_id,
            route=shown.route,
            environment=shown.environment,
            branch=shown.branch,
            conversation_ids=shown.conversation_ids,
            carrier_format=shown.carrier_format,
            agent_input_format=shown.agent_input_format,
            agent_output_format=shown.agent_output_format,
            variables=shown.variables,
            initiation=shown.initiation,
            analysis=shown.analysis,
            outputs=shown.outputs,
            stats=shown.stats,
            latency=shown.latency,
            transcript=journal.turns,
            tools=journal.tools,
            keys=journal.digits,
            steps=journal.steps,
            entries_lost=journal.lost,
            turns=shown.turns,
            turn_summary=shown.turn_summary,
            media=shown.media,
            recording=_recording(record.id, record.recording),
        )

    def timeline(self, record: CallRecord) -> Timeline:
        """The four lists of the journal as one, by time; of one moment, steps come first."""
        journal, began = self._redacted(record).journal, record.created_at
        events: list[StepEvent | TurnEvent | ToolEvent | KeyEvent] = [
            *(
                StepEvent(at=began + step.at_s, at_s=step.at_s, event=step.event, detail=step.detail)
                for step in journal.steps
            ),
            *(
                TurnEvent(
                    at=began + turn.at_s,
                    at_s=turn.at_s,
                    role=turn.role,
                    text=turn.text,
                    original=turn.original,
                    interrupted=turn.interrupted,
                )
                for turn in journal.turns
            ),
            *(_tool_event(tool, began) for tool in journal.tools),
            *(
                KeyEvent(at=began + key.at_s, at_s=key.at_s, digit=key.digit, duration_ms=key.duration_ms)
                for key in journal.digits
            ),
        ]
        events.sort(key=lambda event: event.at_s)  # stable: of one moment, the order above
        return Timeline(call_id=record.id, live=is_live(record), events=events, entries_lost=journal.lost)

    def transcript(self, record: CallRecord) -> Transcript:
        """What was said."""
        return Transcript(
            call_id=record.id,
            conversation_id=record.conversation_id,
            live=is_live(record),
            turns=self._redacted(record).journal.turns,
        )

    def live(self, call: LiveCall) -> LiveCallInfo:
        """A call of the register."""
        return LiveCallInfo(
            id=call.call_id,
            instance_id=call.instance_id,
            provider=call.provider,
            direction=call.direction,
            caller=self._number(call.caller),
            called=self._number(call.called),
            agent_id=call.agent_id,
            conversation_id=call.conversation_id,
            state=call.state,
            is_burst=call.is_burst,
            created_at=call.started_at,
        )

    def _number(self, number: str) -> str:
        return redact_number(number) if self.redact_numbers else number

    def _redacted(self, record: CallRecord) -> CallRecord:
        """A copy whose texts hold no numbers, wherever in the record they may stand."""
        if not self.redact_numbers:
            return record
        known = (record.caller, record.called)
        return msgspec.structs.replace(
            record,
            detail=redact_text(record.detail, known),
            route=self._number(record.route) if record.route.strip("*+") else record.route,
            variables=redact_document(record.variables, known),
            initiation=redact_document(record.initiation, known),
            analysis=redact_document(record.analysis, known),
            outputs=redact_document(record.outputs, known),
            journal=_redacted_journal(record.journal, known),
        )


def usage_info(usage: Usage) -> UsageInfo:
    """Slots and limits."""
    busiest_first = sorted(usage.agents.items(), key=lambda agent: (-agent[1], agent[0]))
    return UsageInfo(
        store=usage.store,
        limit=usage.limit,
        used=usage.calls,
        burst=usage.burst,
        batch=usage.batch,
        waiting=usage.waiting,
        instances=usage.instances,
        instance_limit=usage.max_calls,
        instance_used=usage.active,
        burst_minutes_today=usage.burst_minutes_today,
        agents=[AgentUsage(agent_id=name, used=used) for name, used in busiest_first],
    )


def _redacted_journal(journal: Journal, known: tuple[str, ...]) -> Journal:
    def turn(entry: Turn) -> Turn:
        text, original = redact_text(entry.text, known), redact_text(entry.original, known)
        return msgspec.structs.replace(entry, text=text, original=original)

    def tool(entry: ToolUse) -> ToolUse:
        parameters, result = redact_document(entry.parameters, known), redact_text(entry.result, known)
        return msgspec.structs.replace(entry, parameters=parameters, result=result)

    def step(entry: Step) -> Step:
        return msgspec.structs.replace(entry, detail=redact_text(entry.detail, known))

    return msgspec.structs.replace(
        journal,
        turns=[turn(entry) for entry in journal.turns],
        tools=[tool(entry) for entry in journal.tools],
        steps=[step(entry) for entry in journal.steps],
    )


def _tool_event(tool: ToolUse, began: float) -> ToolEvent:
    return ToolEvent(
        at=began + tool.at_s,
        at_s=tool.at_s,
        name=tool.name,
        tool_call_id=tool.call_id,
        parameters=tool.parameters,
        result=tool.result,
        is_error=tool.is_error,
        took_ms=tool.took_ms,
    )


def _recording(call_id: str, recording: Recording | None) -> RecordingInfo | None:
    if recording is None:
        return None
    return RecordingInfo(
        url=f"/v1/calls/{call_id}/audio",
        location=recording.location,
        format=recording.format,
        duration_ms=recording.duration_ms,
        size_bytes=recording.size_bytes,
        pauses=recording.pauses,
        complete=recording.complete,
    )
