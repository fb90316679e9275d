"""What a Genesys session tells about its call, and what the call's end tells Genesys' flow. Pure data, no state.

Sources: "AudioHook: protocol reference" (``open``, ``disconnect``) and Genesys' help page of the Architect action "Call
Audio Connector" (input and output variables, success and failure path), as of 2025.

Ends. ``completed`` takes the action's success path, ``error`` its failure path; both hand the output variables on.
Genesys tries again, with another session, when a session ends in ``error`` before it was opened. So when the bridge is
full there are two answers, and the operator's ``GENESYS_WHEN_FULL`` chooses: ``retry`` = ``error``, and Genesys comes
back in a moment; ``overflow`` = ``completed`` with the output variable ``overflow`` = ``true``, and the flow goes on at
once, to a queue for instance.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from bridge import outcome
from bridge.errors import RemoteError
from bridge.events import CallInfo
from bridge.outcome import EndReason, Result
from bridge.providers import genesys_messages as wire

RESERVED_PREFIX = "system__"
"""Dynamic variables that belong to the agent's vendor."""

ZERO_ID = "00000000-0000-0000-0000-000000000000"
"""Conversation and participant of a connection probe, with which Genesys tries an integration out."""

RETRY, OVERFLOW = "retry", "overflow"
"""The values of ``GENESYS_WHEN_FULL``."""

MAX_INFO_CHARS = 500
"""Of ``disconnect.info``; it is read by people in Genesys' operational events."""

MAX_OUTPUT_BYTES = 60_000
"""Of all output variables together: Genesys takes messages of 64,000 bytes."""

_FULL = frozenset(
    {
        outcome.CAPACITY,
        outcome.AGENT_CAPACITY,
        outcome.AGENT_DAILY_LIMIT,
        outcome.AGENT_QUOTA,
        outcome.QUEUE_TIMEOUT,
        outcome.LIMITS_UNKNOWN,
        outcome.RATE_LIMITED,
    }
)
"""Ends for want of room, whether before the call began or once it waited."""

_NUMBER = re.compile(r"\+?[0-9]{2,20}")
_SEPARATORS = str.maketrans("", "", "-.() ")


@dataclass(slots=True)
class Oddities:
    """What a session's peer did beside the protocol, and was let pass."""

    unknown_messages: int = 0
    """Messages of types that this version does not know; ignored."""
    malformed_messages: int = 0
    """Messages that were ignored because they cannot be read or came at the wrong time."""
    seq_gaps: int = 0
    """How often the client's numbers did not follow each other."""
    misplaced_audio_bytes: int = 0
    """Audio before ``opened`` or after the end; ignored."""
    dropped_outputs: int = 0
    """Output variables of ours for which ``disconnect`` had no room."""


def is_probe(opening: wire.Open) -> bool:
    """Whether this is Genesys trying the connection out rather than a call."""
    participant = opening.participant
    return opening.conversationId == ZERO_ID and participant is not None and participant.id == ZERO_ID


def call_info(provider: str, session_id: str, agent_id: str, opening: wire.Open) -> CallInfo:
    """The call that an ``open`` offers. Raises ``RemoteError`` for a variable that the agent cannot take."""
    participant = opening.participant or wire.Participant()
    own = {
        "genesys_session_id": session_id,
        "genesys_conversation_id": opening.conversationId,
        "genesys_participant_id": participant.id,
        "genesys_organization_id": opening.organizationId,
        "genesys_ani_name": participant.aniName,
        "genesys_language": opening.language,
    }
    parameters = _variables(opening.inputVariables or {})
    parameters.update({name: value for name, value in own.items() if value})
    return CallInfo(
        provider=provider,
        call_sid=opening.conversationId or session_id,
        stream_id=session_id,
        account_id=opening.organizationId,
        caller=number(participant.ani or ""),
        called=number(participant.dnis or ""),
        agent_id=agent_id,
        parameters=parameters,
    )


def number(uri: str) -> str:
    """The number in a ``tel:`` or ``sip:`` URI (RFC 3966: separators mean nothing), or the text where it has none."""
    scheme, colon, rest = uri.strip().partition(":")
    if not colon or scheme.lower() not in ("tel", "sip", "sips"):
        scheme, rest = "", uri.strip()
    user = rest.partition(";")[0].partition("@")[0].translate(_SEPARATORS)
    if _NUMBER.fullmatch(user):
        return user
    return rest if scheme.lower() == "tel" else uri.strip()


def _variables(given: dict[str, Any]) -> dict[str, str]:
    for name in given:
        if name.startswith(RESERVED_PREFIX):
            raise RemoteError(
                f"input variable {ascii(name[:80])}: names that begin with {RESERVED_PREFIX} belong to the agent's "
                "vendor; rename it in the flow"
            )
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}


# --- the end ---------------------------------------------------------------------------------------------


def overflows(reason: EndReason, when_full: str, *, began: bool) -> bool:
    """Whether the flow shall go on elsewhere. ``began``: the session was opened; a shutdown after that is a failure."""
    full = reason in _FULL or (reason is outcome.DRAINING and not began)
    return (full and when_full == OVERFLOW) or reason is outcome.DIVERTED


def end_parameters(
    word: str, reason: EndReason, detail: str, outputs: dict[str, str], *, overflow: bool
) -> tuple[str, int]:
    """Parameters of ``disconnect`` for an end of ours, and how many of ``outputs`` had no room."""
    fixed = {"end_reason": reason.reason}
    info = ""
    if overflow:
        fixed["overflow"] = "true"
    if reason.result is not Result.SUCCESS:
        text = detail or reason.advice
        fixed |= {"end_detail": text, "errorType": reason.reason, "errorMessage": text}
        info = f"{reason.reason}: {text}"[:MAX_INFO_CHARS]
    elif detail:
        fixed["end_detail"] = detail
    variables, dropped = _fitting(fixed, outputs)
    return wire.disconnect(word, info, variables), dropped


def _fitting(fixed: dict[str, str], outputs: dict[str, str]) -> tuple[dict[str, str], int]:
    """Our own variables, and of the others in their order what has room."""
    variables = {name: value[:MAX_INFO_CHARS] for name, value in fixed.items()}
    room = MAX_OUTPUT_BYTES - sum(_size(*item) for item in variables.items())
    dropped = 0
    for name, value in outputs.items():
        if name in variables:
            continue
        size = _size(name, value)
        if size > room:
            dropped += 1
            continue
        room -= size
        variables[name] = value
    return variables, dropped


def _size(name: str, value: str) -> int:
    return len(json.dumps(name)) + len(json.dumps(value)) + 2
