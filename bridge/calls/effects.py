"""What a call asks of its driver besides writing to the two sockets. Immutable, like all events."""

from __future__ import annotations

import msgspec

from bridge.events import CallInfo
from bridge.outcome import EndReason


class AskAdmission(msgspec.Struct, frozen=True):
    """Decide about this call, then ``Call.admit`` or ``Call.refuse``."""

    info: CallInfo


class ConnectAgent(msgspec.Struct, frozen=True):
    """Connect the agent, then ``Call.agent_connected`` or ``Call.fail``."""

    info: CallInfo


class FetchResults(msgspec.Struct, frozen=True):
    """Fetch what the agent's side made of the conversation, then ``Call.give_results``."""

    conversation_id: str


class TransferPlanned(msgspec.Struct, frozen=True):
    """The caller will be handed to this target when the call ends, by the carrier's flow."""

    target: str


class Finished(msgspec.Struct, frozen=True):
    """The call is over: give the slot back. Comes exactly once."""

    reason: EndReason
    detail: str


class Note(msgspec.Struct, frozen=True):
    """Something for the log: what happened, without what was said."""

    event: str
    detail: str = ""


Effect = AskAdmission | ConnectAgent | FetchResults | TransferPlanned | Finished | Note
