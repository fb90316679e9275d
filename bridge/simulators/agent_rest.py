"""What the vendor's REST interface says of a conversation and of an agent, and speech that it makes of a text.

Source: ElevenLabs API reference, "Get Conversation Details", "Get agent", "Create speech" (read 2026-11-21). Only the
fields that a telephony client reads are given, in the vendor's names and types.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from bridge.media.format import MediaFormat
from bridge.simulators.agent_log import ConversationLog
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_posts import Answer, Post
from bridge.simulators.agent_scenarios import Scenario
from bridge.simulators.speech import load_clip

SPEECH_PATH = "/v1/text-to-speech/"
SPEECH_CLIP = "agent_reply"
"""What every text sounds like."""

VOICE_ID = "simulated_voice"
"""Of every simulated agent."""

MAX_SPEECH_CHARS = 5_000
"""Of one text; the vendor's models take 5,000 to 40,000."""

_OUTPUT_FORMATS = {
    name: MediaFormat.parse(name) for name in ("ulaw_8000", "pcm_8000", "pcm_16000", "pcm_22050", "pcm_24000")
}


class _Speech(msgspec.Struct):
    text: str
    model_id: str = ""


def agent_configuration(agent_id: str, scenario: Scenario, options: AgentOptions) -> dict[str, Any]:
    """The body of ``GET /v1/convai/agents/{id}``."""
    return {
        "agent_id": agent_id,
        "name": scenario.name,
        "conversation_config": {
            "asr": {"user_input_audio_format": scenario.input_format or options.input_format},
            "tts": {
                "voice_id": VOICE_ID,
                "agent_output_audio_format": scenario.output_format or options.output_format,
            },
            "agent": {"language": "en", "first_message": "", "prompt": {"tools": []}},
        },
        "platform_settings": {},
    }


def answer_post(post: Post, *, has_key: bool) -> Answer:
    """The answer to ``POST /v1/text-to-speech/{voice_id}?output_format=``, and to every other POST."""
    target = urlsplit(post.target)
    voice_id = target.path.removeprefix(SPEECH_PATH)
    if voice_id == target.path:
        return _refusal(HTTPStatus.NOT_FOUND, "not_found", "Not Found")
    if not has_key:
        return _refusal(HTTPStatus.UNAUTHORIZED, "invalid_api_key", "Invalid API key")
    if voice_id != VOICE_ID:
        return _refusal(HTTPStatus.NOT_FOUND, "voice_not_found", "No such voice")
    name = parse_qs(target.query).get("output_format", ["mp3_44100_128"])[0]
    media = _OUTPUT_FORMATS.get(name)
    try:
        text = msgspec.json.decode(post.body, type=_Speech).text
    except msgspec.MsgspecError as error:
        return _refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_body", str(error))
    if media is None or not 0 < len(text) <= MAX_SPEECH_CHARS:
        return _refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", "output_format or text is not served")
    return Answer(HTTPStatus.OK, load_clip(SPEECH_CLIP, media), "audio/basic")


def _refusal(status: HTTPStatus, kind: str, message: str) -> Answer:
    return Answer(status, msgspec.json.encode({"detail": {"status": kind, "message": message}}))


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
