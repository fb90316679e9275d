"""The client tools that the bridge carries out for an agent. Pure: what is asked, whether it may be, what to say.

So far one: ``transfer_to_number``, on carriers that route by the conversation's results (``CarrierSpec.takes_results``,
Genesys): the call ends with the output ``transfer_to``, and the carrier's flow does the rest. Everywhere else, and for
every other tool, the agent is told in words that it cannot be done, and goes on talking.

Source for name and parameters: ElevenLabs docs, "Transfer to number" (system tool), read 2026-11-21; on a plain
WebSocket the vendor's own tool cannot work, so agents define a client tool of the same name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bridge.calls.numbers import matches, normal_pattern, spellings

TRANSFER = "transfer_to_number"

TARGET_NAMES = ("transfer_number", "sip_uri", "destination")
"""Parameters that may name the target, the first given one counts; ``destination`` may be any word of the flow's."""

MAX_TARGET_CHARS = 256
MAX_REASON_CHARS = 500

UNAVAILABLE = (
    "The tool {name!r} is not available on this phone line. Tell the caller that this cannot be done right now "
    "and go on with the conversation."
)
"""The answer to other tools: it reads like an instruction because the agent's model reads it."""

NO_TARGET = (
    "The transfer was not made: the tool call names no destination. Ask the caller where to, then call the tool with "
    "transfer_number."
)
NOT_ALLOWED = (
    "The transfer was not made: this destination is not allowed. Tell the caller that you cannot connect them there, "
    "and offer help yourself."
)
TRANSFERRING = "The caller is being transferred now. Say nothing more."


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer that may be made."""

    target: str
    reason: str


def allowed_patterns(texts: Iterable[str]) -> tuple[str, ...]:
    """TRANSFER_ALLOW in the spelling that is compared. Raises ``ValueError`` with the mend."""
    return tuple(normal_pattern(text) for text in texts)


def plan_transfer(parameters: Mapping[str, object], allow: tuple[str, ...]) -> Transfer | str:
    """The transfer that a tool call asks for, or what to tell the agent instead."""
    target = next((text for name in TARGET_NAMES if (text := _text(parameters.get(name), MAX_TARGET_CHARS))), "")
    if not target:
        return NO_TARGET
    known_as = spellings(target)
    if not any(matches(pattern, spelling) for pattern in allow for spelling in known_as):
        return NOT_ALLOWED
    return Transfer(target, _text(parameters.get("reason"), MAX_REASON_CHARS))


def _text(value: object, limit: int) -> str:
    """A printable text without blanks around it; empty for anything else."""
    if not isinstance(value, str):
        return ""
    text = value.strip()
    return text if text.isprintable() and len(text) <= limit else ""
