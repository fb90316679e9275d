"""What an agent's tool call comes to, once it was read and allowed. Immutable and pure.

``bridge.calls.tools`` makes them, ``bridge.calls.call`` and the carriers' control clients carry them out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from bridge.leg import TransferKind


class TransferOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Hand the caller to somebody else."""

    kind: TransferKind
    target: str
    """E.164, a SIP URI, or (``TransferKind.FLOW``) any word of the carrier's flow; allowed already."""
    client_message: str = ""
    """For the caller, while the human is called."""
    agent_message: str = ""
    """For the human, before the caller joins."""
    post_dial_digits: str = ""
    """Keys to press once the human's side has answered, e.g. an extension: ``0-9 * # w W``."""
    reason: str = ""

    @property
    def is_sip(self) -> bool:
        """Whether the target is a SIP address."""
        return self.target.startswith(("sip:", "sips:"))


class TonesOrder(msgspec.Struct, frozen=True):
    """Press these keys on the caller's line: ``0-9 * #``, ``w`` = 0.5 s and ``W`` = 1 s pause."""

    digits: str


class EndOrder(msgspec.Struct, frozen=True):
    """End the call once the caller has heard everything."""

    reason: str
    message: str = ""
    """Last words for the caller."""


class VoicemailOrder(msgspec.Struct, frozen=True):
    """The agent says that a machine has answered."""

    reason: str


class HoldOrder(msgspec.Struct, frozen=True):
    """Put the caller on hold, or (``on`` false) take them back."""

    on: bool


class HttpOrder(msgspec.Struct, frozen=True):
    """Call the operator's HTTP tool of this name."""

    tool: str
    parameters: dict[str, Any]


class Refused(msgspec.Struct, frozen=True):
    """The tool call cannot be carried out."""

    words: str
    """For the agent's model: what happened, and what to do now."""


Order = TransferOrder | TonesOrder | EndOrder | VoicemailOrder | HoldOrder | HttpOrder | Refused
