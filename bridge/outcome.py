"""How a call ended, in two words that reach the log, the metric label, the call record and the webhook.

``result`` says whose verdict it is, ``reason`` says what happened. The catalogue below is closed: a reason
that is not in it cannot be built, so metric labels stay bounded and every end has advice for the operator.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Result(enum.Enum):
    """Who answers for the end of a call."""

    SUCCESS = "success"
    """Ended as calls should."""
    CLIENT_ERROR = "client_error"
    """The carrier's side or the caller broke a rule or was refused."""
    SERVER_ERROR = "server_error"
    """The bridge itself failed, was full or was shut down."""
    UPSTREAM_ERROR = "upstream_error"
    """The agent's side refused, failed or fell silent."""
    INDETERMINATE = "indeterminate"
    """The line went without a word; nobody can say whose doing it was."""


@dataclass(frozen=True, slots=True)
class EndReason:
    """The end of a call. Use the constants of this module; they are all there is."""

    result: Result
    reason: str
    advice: str
    """What the operator should do next; one sentence, shown in the log line of the call's end."""

    def __str__(self) -> str:
        return f"{self.result.value}/{self.reason}"


CATALOGUE: dict[str, EndReason] = {}
"""Every reason by name, in the order of definition; docs and metrics are generated from it."""


def _define(result: Result, reason: str, advice: str) -> EndReason:
    end = EndReason(result, reason, advice)
    CATALOGUE[reason] = end
    return end


_OK, _CLIENT, _SERVER, _UPSTREAM = (
    Result.SUCCESS,
    Result.CLIENT_ERROR,
    Result.SERVER_ERROR,
    Result.UPSTREAM_ERROR,
)

CALLER_HANGUP = _define(_OK, "caller_hangup", "Nothing to do: the caller hung up.")
AGENT_HANGUP = _define(_OK, "agent_hangup", "Nothing to do: the agent ended the conversation.")
MAX_DURATION = _define(
    _OK,
    "max_duration",
    "The agent's longest conversation was reached; raise it in the agent's settings if too short.",
)

OPERATOR_HANGUP = _define(_OK, "operator_hangup", "Nothing to do: somebody ended the call through the API.")
PROBE = _define(_OK, "probe", "Nothing to do: the carrier tried the connection; no call took place.")
TRANSFERRED = _define(_OK, "transferred", "Nothing to do: the agent handed the caller on.")
DIVERTED = _define(_OK, "diverted", "All slots were taken and the route's overflow number took the call.")
VOICEMAIL = _define(
    _OK,
    "voicemail",
    "Nothing to do: an answering machine took the call and was left a message or hung up on, as VOICEMAIL_ACTION says.",
)
FAX = _define(_OK, "fax", "Nothing to do: a fax machine took the call and was hung up on; drop this number.")
CALL_CANCELED = _define(
    _OK, "call_canceled", "Nothing to do: the placed call was taken back at the carrier while it still rang."
)

BAD_MESSAGE = _define(
    _CLIENT,
    "bad_message",
    "The carrier's side broke its protocol; the log line names the field. Check what connects here.",
)
MESSAGE_TOO_BIG = _define(
    _CLIENT,
    "message_too_big",
    "The carrier's side sent a message over the limit; check what connects to this address.",
)
NO_START = _define(
    _CLIENT,
    "no_start",
    "A socket was opened but no call began on it in time; check what connects to this address.",
)
BAD_TOKEN = _define(
    _CLIENT,
    "bad_token",
    "The one-time token of the answer webhook was missing, used, expired or of another call; "
    "let the carrier fetch its answer from this bridge.",
)
UNSUPPORTED_MEDIA = _define(
    _CLIENT,
    "unsupported_media",
    "The carrier offered no audio format that the bridge speaks; the log line names it.",
)

BAD_VARIABLES = _define(
    _CLIENT,
    "bad_variables",
    "The carrier's side passed variables that the agent cannot take; the log line names them.",
)
RATE_LIMITED = _define(
    _CLIENT,
    "rate_limited",
    "One source placed calls faster than CALLS_PER_SECOND_PER_SOURCE; raise it if these are genuine.",
)

LINE_BUSY = _define(_CLIENT, "line_busy", "The placed call found the line busy, or was declined; try again later.")
NO_ANSWER = _define(
    _CLIENT,
    "no_answer",
    "Nobody answered the placed call in time; try again later, or let it ring longer (ring_timeout_s).",
)
LINE_FAILED = _define(
    _CLIENT,
    "line_failed",
    "The carrier could not connect the placed call; check that the number exists, and the carrier's own log.",
)
CONTROL_FAILED = _define(
    _CLIENT,
    "control_failed",
    "The carrier's control interface refused the request or did not answer; the log line says which. Check the "
    "credentials, the numbers and the carrier's status page.",
)

DRAINING = _define(_SERVER, "draining", "The bridge is shutting down; the carrier was told to go elsewhere.")
CAPACITY = _define(
    _SERVER,
    "capacity",
    "All call slots are taken; raise BRIDGE_MAX_CALLS or WORKSPACE_CONCURRENCY, or add an instance.",
)
AGENT_CAPACITY = _define(
    _SERVER,
    "agent_capacity",
    "The agent's own concurrency limit is reached; raise it in its route or in AGENT_CONCURRENCY.",
)
AGENT_DAILY_LIMIT = _define(
    _SERVER,
    "agent_daily_limit",
    "The agent had all the calls it may have today; raise its daily limit, or wait for midnight in TIMEZONE.",
)
QUEUE_TIMEOUT = _define(
    _SERVER,
    "queue_timeout",
    "No slot came free within OVERFLOW_QUEUE_S; raise the limits, or divert calls instead.",
)
LIMITS_UNKNOWN = _define(
    _SERVER,
    "limits_unknown",
    "Redis does not answer and LIMITS_WHEN_REDIS_DOWN is fail_closed; bring Redis back, or set it to fail_open.",
)
INSTANCE_LOST = _define(
    _SERVER,
    "instance_lost",
    "The process that carried the call died without a word; look at its log, its memory and who killed it.",
)
PERSONALIZATION_FAILED = _define(
    _UPSTREAM,
    "personalization_failed",
    "The personalization webhook failed and PERSONALIZATION_ON_FAILURE is fallback; the log line has the cause.",
)
BUG = _define(_SERVER, "bug", "The bridge failed on its own; please report the traceback in the log.")

AGENT_UNREACHABLE = _define(
    _UPSTREAM,
    "agent_unreachable",
    "No connection to the agent; check ELEVENLABS_BASE_URL, DNS, the firewall and TLS.",
)
AGENT_UNAUTHORIZED = _define(
    _UPSTREAM,
    "agent_unauthorized",
    "The agent's side refused the key; check ELEVENLABS_API_KEY and its permissions.",
)
AGENT_NOT_FOUND = _define(
    _UPSTREAM,
    "agent_not_found",
    "The agent does not exist in this workspace or region; check ELEVENLABS_AGENT_ID.",
)
AGENT_REFUSED = _define(
    _UPSTREAM, "agent_refused", "The agent's side refused the conversation; the log line has its answer."
)
AGENT_QUOTA = _define(
    _UPSTREAM,
    "agent_quota",
    "The workspace is over its quota or concurrency; see its plan, or lower WORKSPACE_CONCURRENCY.",
)
AGENT_CONFIG = _define(
    _UPSTREAM,
    "agent_config",
    "The agent refused what it was sent (close 1008): a missing dynamic variable or an override that its security "
    "settings do not allow; the log line has its words.",
)
AGENT_OPERATIONAL = _define(
    _UPSTREAM,
    "agent_operational",
    "The agent's side failed while talking (close 1002); the log line has its words.",
)
AGENT_CRASHED = _define(
    _UPSTREAM, "agent_crashed", "The agent's side crashed (close 1011); if it goes on, ask the vendor."
)
AGENT_LOST = _define(_UPSTREAM, "agent_lost", "The connection to the agent broke without a word; check the network.")
AGENT_SILENT = _define(
    _UPSTREAM,
    "agent_silent",
    "The agent's side sent nothing at all for AGENT_SILENCE_S seconds; check the network.",
)
AGENT_NOT_READY = _define(
    _UPSTREAM, "agent_not_ready", "The agent's side took the connection but never began the conversation."
)
AGENT_FORMAT = _define(
    _UPSTREAM,
    "agent_format",
    "The agent speaks an audio format that is not known; set it to ulaw_8000 both ways.",
)
AGENT_GARBAGE = _define(
    _UPSTREAM, "agent_garbage", "The agent's side sent what is no conversation; check ELEVENLABS_BASE_URL."
)

CARRIER_LOST = _define(
    Result.INDETERMINATE,
    "carrier_lost",
    "The carrier's connection broke without a stop; check the network and the proxy.",
)
CARRIER_SILENT = _define(
    Result.INDETERMINATE,
    "carrier_silent",
    "The carrier sent nothing at all for CARRIER_SILENCE_S seconds; the line is dead.",
)
NO_MEDIA = _define(
    Result.INDETERMINATE,
    "no_media",
    "The call was answered and its media stream never came: the other side hung up at once, or the carrier cannot "
    "reach PUBLIC_URL; its own log says which.",
)
