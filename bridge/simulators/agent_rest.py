"""What the vendor's REST interface says of a conversation: its state and, some time after its end, its analysis.

Source: ElevenLabs API reference, "Get Conversation Details" (read 2026-11-21). Only the fields that a telephony
client reads are given, in the vendor's names and types.
"""

from __future__ import annotations

from typing import Any

from bridge.simulators.agent_log import ConversationLog
from bridge.simulators.agent_options import AgentOptions


def conversation_details(log: ConversationLog, options: AgentOptions, now: float) -> dict[str, Any]:
    """The body of ``GET /v1/convai/conversations/{id}``; ``now`` in seconds on the log's clock."""
    return {
        "agent_id": log.agent_id,
        "conversation_id": log.conversation_id,
        "status": _status(log, options, now),
        "transcript": [],
        "metadata": {
            "start_time_unix_secs": 0,
            "call_duration_secs": int(max(0.0, (log.ended_s or now) - log.started_s)),
        },
        "analysis": _analysis(options) if _status(log, options, now) == "done" else None,
        "conversation_initiation_client_data": log.initiation or {},
        "has_audio": False,
        "has_user_audio": False,
        "has_response_audio": False,
    }


def _status(log: ConversationLog, options: AgentOptions, now: float) -> str:
    """``initiated``, ``in-progress``, ``processing`` or ``done``; the simulator's analyses never fail."""
    if not log.closed_by:
        return "in-progress" if log.initiation is not None else "initiated"
    return "done" if now - log.ended_s >= options.analysis_delay_s else "processing"


def _analysis(options: AgentOptions) -> dict[str, Any]:
    results = {
        name: {"data_collection_id": name, "value": value, "rationale": "simulated", "json_schema": None}
        for name, value in options.data_collection.items()
    }
    return {
        "evaluation_criteria_results": {},
        "data_collection_results": results,
        "call_successful": "success",
        "transcript_summary": "A simulated conversation.",
    }
