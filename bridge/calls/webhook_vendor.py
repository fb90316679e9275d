"""Post-call events in the vendor's shape, so that a receiver written for ElevenLabs' webhooks needs no change.

Pure: a record in, a JSON body out. What differs from the vendor's own events: ``analysis`` is empty, because the
judgement of the conversation is the vendor's (it comes with the vendor's webhook, which the bridge enriches and
passes on); and ``data.bridge`` holds the facts of the call that the vendor's shape has no place for. The audio event
has its three members and nothing else.

Sources: ElevenLabs docs, "Post-call webhooks", and API reference, "Get Conversation Details"
(``GetConversationResponseModel``; both read 2026-11-21). ``has_auxiliary_audio`` is from the SDK's later model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from bridge.calls.journal import ToolUse, Turn
from bridge.calls.record import CallRecord
from bridge.calls.webhook_facts import BridgeFacts, Redaction, bridge_facts, utf8

TRANSCRIPTION = "post_call_transcription"
AUDIO = "post_call_audio"
INITIATION_FAILURE = "call_initiation_failure"

MAX_TRANSCRIPT_CHARS = 2_000_000
"""Of messages, tool parameters and results in one event: ten hours of talk. What does not fit is counted."""

MAX_PARAMETERS_CHARS = 20_000
"""Of one tool call's parameters as JSON; longer ones are left out, as half a JSON text is none."""

FailureReason = Literal["busy", "no-answer", "unknown"]


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A tool that the agent called."""

    type: str = "client"
    request_id: str
    tool_name: str
    params_as_json: str
    tool_has_been_called: bool = True
    tool_details: None = None


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool answered."""

    type: str = "client"
    request_id: str
    tool_name: str
    result_value: str
    is_error: bool
    tool_has_been_called: bool = True
    tool_latency_secs: float
    dynamic_variable_updates: list[None] = []


class TranscriptTurn(msgspec.Struct, frozen=True, kw_only=True):
    """One turn; a tool call is a turn of the agent without a message."""

    role: str
    message: str | None
    tool_calls: list[ToolCall] = []
    tool_results: list[ToolResult] = []
    feedback: None = None
    llm_override: None = None
    time_in_call_secs: int
    conversation_turn_metrics: None = None
    rag_retrieval_info: None = None
    llm_usage: None = None
    interrupted: bool = False
    original_message: str | None = None
    source_medium: str | None = None


class PhoneCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The carrier's side; the vendor knows Twilio and SIP trunks."""

    type: str
    direction: str
    phone_number_id: str
    """The vendor's id of an imported number; the bridge's numbers are not imported, so it is the route's name."""
    agent_number: str
    external_number: str
    call_sid: str
    stream_sid: str | None = None


class Charging(msgspec.Struct, frozen=True, kw_only=True):
    """The vendor's charges are not known here; what is known is whether the call ran in burst."""

    dev_discount: bool = False
    is_burst: bool


class DeletionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The vendor's retention is not known here."""

    deletion_time_unix_secs: None = None
    deleted_logs_at_time_unix_secs: None = None
    deleted_audio_at_time_unix_secs: None = None
    deleted_transcript_at_time_unix_secs: None = None
    delete_transcript_and_pii: bool = False
    delete_audio: bool = False


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """Callers on the phone give no feedback."""

    overall_score: None = None
    likes: int = 0
    dislikes: int = 0


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """When, how long, over which line."""

    start_time_unix_secs: int
    accepted_time_unix_secs: int | None
    call_duration_secs: int
    queue_wait_secs: float | None
    cost: None = None
    deletion_settings: DeletionSettings = DeletionSettings()
    feedback: Feedback = Feedback()
    charging: Charging
    phone_call: PhoneCall | None
    batch_call: None = None
    termination_reason: str
    error: None = None
    text_only: bool = False
    conversation_initiation_source: str


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """Of our own events always empty; see the module's text."""

    evaluation_criteria_results: dict[str, None] = {}
    data_collection_results: dict[str, None] = {}
    call_successful: str = "unknown"
    transcript_summary: str = ""


class TranscriptionData(msgspec.Struct, frozen=True, kw_only=True):
    """The vendor's ``GetConversationResponseModel``, with ``bridge`` beside it."""

    agent_id: str
    conversation_id: str
    status: str
    user_id: str | None
    transcript: list[TranscriptTurn]
    metadata: Metadata
    analysis: Analysis = Analysis()
    conversation_initiation_client_data: dict[str, Any]
    has_audio: bool
    has_user_audio: bool
    has_response_audio: bool
    has_auxiliary_audio: bool = False
    bridge: BridgeFacts


class AudioData(msgspec.Struct, frozen=True, kw_only=True):
    """Three members and no more."""

    agent_id: str
    conversation_id: str
    full_audio: str
    """Base64 of MP3. Empty in what ``audio_body`` makes: it is put in while the event is sent (``split_audio``)."""


class FailureMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The carrier's own words."""

    type: str
    body: dict[str, Any]


class FailureData(msgspec.Struct, frozen=True, kw_only=True):
    """A call that did not come about."""

    agent_id: str
    conversation_id: str
    """Where no conversation was begun: our id of the call."""
    failure_reason: FailureReason
    metadata: FailureMetadata


class VendorEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The frame around all of them."""

    type: str
    event_timestamp: int
    data: TranscriptionData | AudioData | FailureData


@dataclass(frozen=True, slots=True)
class InitiationFailure:
    """Why a call that we placed did not come about."""

    reason: FailureReason
    type: str
    """``twilio`` or ``sip``; another carrier's name for others."""
    body: Mapping[str, Any]
    """Twilio: the form of its status callback. SIP: ``sip_failure_body``."""


# --- bodies ----------------------------------------------------------------------------------------------


def transcription_body(record: CallRecord, unix_s: float, redaction: Redaction) -> bytes:
    """The body of ``post_call_transcription``."""
    transcript, cut = _transcript(record, redaction)
    recorded = record.recording is not None and record.recording.complete
    initiation = redaction.document(record.initiation)
    user_id = initiation.get("user_id")
    data = TranscriptionData(
        agent_id=utf8(record.agent_id),
        conversation_id=utf8(record.conversation_id),
        status="failed" if record.result in ("server_error", "upstream_error") else "done",
        user_id=user_id if isinstance(user_id, str) else None,
        transcript=transcript,
        metadata=_metadata(record, redaction),
        conversation_initiation_client_data={
            "conversation_config_override": {},
            "custom_llm_extra_body": {},
            **initiation,
            "dynamic_variables": redaction.document(record.variables),
        },
        has_audio=recorded,
        has_user_audio=recorded,
        has_response_audio=recorded,
        bridge=bridge_facts(record, redaction, record.journal.lost + cut),
    )
    return _encode(TRANSCRIPTION, unix_s, data)


def audio_body(record: CallRecord, unix_s: float) -> bytes:
    """The body of ``post_call_audio`` with a gap where the audio goes."""
    data = AudioData(agent_id=utf8(record.agent_id), conversation_id=utf8(record.conversation_id), full_audio="")
    return _encode(AUDIO, unix_s, data)


_AUDIO_END = b'"}}'


def split_audio(body: bytes) -> tuple[bytes, bytes]:
    """What stands before and behind the base64 of the audio, in a body that ``audio_body`` made.

    Raises ``ValueError`` for another body.
    """
    if not body.endswith(b'"full_audio":"' + _AUDIO_END):
        raise ValueError("this body has no gap for audio at its end")
    return body[: -len(_AUDIO_END)], _AUDIO_END


def failure_body(record: CallRecord, unix_s: float, failure: InitiationFailure, redaction: Redaction) -> bytes:
    """The body of ``call_initiation_failure``."""
    data = FailureData(
        agent_id=utf8(record.agent_id),
        conversation_id=utf8(record.conversation_id or record.id),
        failure_reason=failure.reason,
        metadata=FailureMetadata(type=failure.type, body=redaction.document(dict(failure.body))),
    )
    return _encode(INITIATION_FAILURE, unix_s, data)


def _encode(kind: str, unix_s: float, data: TranscriptionData | AudioData | FailureData) -> bytes:
    return msgspec.json.encode(VendorEvent(type=kind, event_timestamp=int(unix_s), data=data))


# --- failures --------------------------------------------------------------------------------------------

_SIP_BUSY = frozenset({486, 600, 603})
"""RFC 3261: Busy Here, Busy Everywhere; and Decline, which the vendor's three words have no better one for."""
_SIP_NO_ANSWER = frozenset({408, 480, 487})
"""Time-out, Temporarily Unavailable, and Request Terminated: our own CANCEL when it rang for too long."""


def twilio_failure_reason(call_status: str) -> FailureReason:
    """From Twilio's ``CallStatus``."""
    if call_status == "busy":
        return "busy"
    return "no-answer" if call_status == "no-answer" else "unknown"


def sip_failure_reason(status: int) -> FailureReason:
    """From the status code of the final answer to an INVITE."""
    if status in _SIP_BUSY:
        return "busy"
    return "no-answer" if status in _SIP_NO_ANSWER else "unknown"


def sip_failure_body(status: int, phrase: str, call_sid: str) -> dict[str, Any]:
    """The ``body`` of a SIP failure's metadata."""
    return {
        "sip_status_code": status,
        "error_reason": f"INVITE failed: sip status: {status}: {phrase} (SIP {status})",
        "call_sid": call_sid,
        "sip_status": phrase,
    }


# --- parts of the transcription --------------------------------------------------------------------------


def _metadata(record: CallRecord, redaction: Redaction) -> Metadata:
    return Metadata(
        start_time_unix_secs=int(record.created_at),
        accepted_time_unix_secs=None if record.answered_at is None else int(record.answered_at),
        call_duration_secs=round(record.duration_s),
        queue_wait_secs=record.queue_wait_ms / 1000 if record.queue_wait_ms else None,
        charging=Charging(is_burst=record.is_burst),
        phone_call=_phone_call(record, redaction),
        termination_reason=record.reason,
        conversation_initiation_source={"twilio": "twilio", "sip": "sip_trunk", "genesys": "genesys"}.get(
            record.provider, "unknown"
        ),
    )


def _phone_call(record: CallRecord, redaction: Redaction) -> PhoneCall | None:
    """The line in the vendor's words, where it has some; ``data.bridge`` names every carrier."""
    kinds = {"twilio": "twilio", "sip": "sip_trunking"}
    if record.provider not in kinds:
        return None
    inbound = record.direction == "inbound"
    return PhoneCall(
        type=kinds[record.provider],
        direction="inbound" if inbound else "outbound",
        phone_number_id=redaction.text(record.route),
        agent_number=redaction.number(record.called if inbound else record.caller),
        external_number=redaction.number(record.caller if inbound else record.called),
        call_sid=utf8(record.call_sid),
        stream_sid=utf8(record.stream_id) if record.provider == "twilio" else None,
    )


def _transcript(record: CallRecord, redaction: Redaction) -> tuple[list[TranscriptTurn], int]:
    """The turns and tool calls in the order of their times, and how many of them did not fit."""
    journal = record.journal
    entries: list[Turn | ToolUse] = [*journal.turns, *journal.tools]
    entries.sort(key=lambda entry: entry.at_s)
    turns: list[TranscriptTurn] = []
    room = MAX_TRANSCRIPT_CHARS
    for entry in entries:
        turn = _spoken(entry, redaction) if isinstance(entry, Turn) else _tool_turn(entry, redaction)
        room -= _weight(turn)
        if room < 0:
            break
        turns.append(turn)
    return turns, len(entries) - len(turns)


def _weight(turn: TranscriptTurn) -> int:
    calls = sum(len(call.params_as_json) for call in turn.tool_calls)
    results = sum(len(result.result_value) for result in turn.tool_results)
    return len(turn.message or "") + len(turn.original_message or "") + calls + results


def _spoken(turn: Turn, redaction: Redaction) -> TranscriptTurn:
    return TranscriptTurn(
        role=turn.role,
        message=redaction.text(turn.text),
        time_in_call_secs=int(turn.at_s),
        interrupted=turn.interrupted,
        original_message=redaction.text(turn.original) if turn.original else None,
        source_medium="audio" if turn.role == "user" else None,
    )


def _tool_turn(tool: ToolUse, redaction: Redaction) -> TranscriptTurn:
    parameters = msgspec.json.encode(redaction.document(tool.parameters)).decode()
    name, request_id = utf8(tool.name), utf8(tool.call_id)
    results = []
    if tool.took_ms is not None:
        results = [
            ToolResult(
                request_id=request_id,
                tool_name=name,
                result_value=redaction.text(tool.result),
                is_error=tool.is_error,
                tool_latency_secs=round(tool.took_ms / 1000, 3),
            )
        ]
    call = ToolCall(
        request_id=request_id,
        tool_name=name,
        params_as_json=parameters if len(parameters) <= MAX_PARAMETERS_CHARS else "{}",
    )
    return TranscriptTurn(
        role="agent", message=None, tool_calls=[call], tool_results=results, time_in_call_secs=int(tool.at_s)
    )
