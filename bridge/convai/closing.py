"""From close codes, error events and refused handshakes of the agent's side to our end reasons.

Codes: AsyncAPI document of the Agents WebSocket (1000 normal, 1002 operational, 1008 contract, 1011 internal),
read 2026-11-21. That being over the quota closes with 1002 and says so only in words is a field report
(github elevenlabs/packages 911), and no code is documented for too many conversations at once: both are
recognised by their words, tested, and believed rather than known.
"""

from __future__ import annotations

from bridge import outcome
from bridge.outcome import EndReason

CLOSE_NORMAL = 1000
CLOSE_ABNORMAL = 1006
"""Not sent by anybody: the socket went without a close frame."""

DETAIL_MAX_CHARS = 300
"""How much of a peer's words goes into a log line."""

_BY_CLOSE_CODE = {
    1000: outcome.AGENT_HANGUP,
    1005: outcome.AGENT_HANGUP,  # a close frame without a code: the peer said good-bye, if curtly
    1001: outcome.AGENT_OPERATIONAL,
    1002: outcome.AGENT_OPERATIONAL,
    1006: outcome.AGENT_LOST,
    1008: outcome.AGENT_CONFIG,
    1011: outcome.AGENT_CRASHED,
}

_BY_HTTP_STATUS = {
    401: outcome.AGENT_UNAUTHORIZED,
    403: outcome.AGENT_UNAUTHORIZED,
    404: outcome.AGENT_NOT_FOUND,
    429: outcome.AGENT_QUOTA,
}

_QUOTA_WORDS = ("quota", "concurren", "too many", "entitlement_exceeded")
_DURATION_WORDS = ("max_duration", "maximum duration")


def _by_words(words: str) -> EndReason | None:
    lowered = words.lower()
    if any(word in lowered for word in _DURATION_WORDS):
        return outcome.MAX_DURATION
    if any(word in lowered for word in _QUOTA_WORDS):
        return outcome.AGENT_QUOTA
    return None


def reason_for_close(code: int, words: str) -> EndReason:
    """The end reason for a close ``code`` and what the peer said with it or in an error event before."""
    return _by_words(words) or _BY_CLOSE_CODE.get(code, outcome.AGENT_OPERATIONAL)


def reason_for_handshake(status: int) -> EndReason:
    """The end reason for an HTTP ``status`` in place of a conversation (signed URL or upgrade)."""
    if status >= 500:
        return outcome.AGENT_UNREACHABLE
    return _BY_HTTP_STATUS.get(status, outcome.AGENT_REFUSED)


def clip(words: str) -> str:
    """A peer's words, made fit for one log line."""
    flat = " ".join(words.split())
    return flat if len(flat) <= DETAIL_MAX_CHARS else flat[: DETAIL_MAX_CHARS - 3] + "..."
