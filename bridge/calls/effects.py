"""What a call asks of its driver besides writing to the two sockets. Immutable, like all events.

Those that hold numbers, keys or what an agent has passed to a tool do not show them in their ``repr``.
"""

from __future__ import annotations

import enum

import msgspec

from bridge.calls.orders import HttpOrder, TransferOrder
from bridge.events import CallInfo
from bridge.outcome import EndReason


class AskAdmission(msgspec.Struct, frozen=True):
    """Decide about this call, then ``Call.admit`` or ``Call.refuse``."""

    info: CallInfo


class ConnectAgent(msgspec.Struct, frozen=True):
    """Connect the agent, then ``Call.agent_connected`` or ``Call.fail``."""

    info: CallInfo
    again: bool = False
    """The connection broke in the middle of the call; the conversation is a new one (``Call.conversation``)."""


class FetchResults(msgspec.Struct, frozen=True):
    """Fetch what the agent's side made of the conversation, then ``Call.give_results``."""

    conversation_id: str


class TransferPlanned(msgspec.Struct, frozen=True):
    """The caller will be handed to this target when the call ends, by the carrier's flow."""

    target: str

    def __repr__(self) -> str:
        return "TransferPlanned(...)"


class BeginTransfer(msgspec.Struct, frozen=True):
    """Make this transfer; its outcome is the answer to the tool call (``Call.answer_tool``, ``Call.handed_over``)."""

    order: TransferOrder
    tool_call_id: str

    def __repr__(self) -> str:
        return f"BeginTransfer({self.order.kind.value})"


class PlayTones(msgspec.Struct, frozen=True):
    """Have the carrier press these keys, then ``Call.answer_tool``."""

    digits: str
    tool_call_id: str

    def __repr__(self) -> str:
        return "PlayTones(...)"


class RunTool(msgspec.Struct, frozen=True):
    """Call the operator's HTTP tool, then ``Call.answer_tool``."""

    order: HttpOrder
    tool_call_id: str

    def __repr__(self) -> str:
        return f"RunTool({self.order.tool})"


class Words(enum.Enum):
    """What the bridge itself has to say to a caller."""

    GIVEN = "given"
    """The text that comes with it."""
    VOICEMAIL = "voicemail"
    """The message for answering machines."""
    APOLOGY = "apology"
    """The agent failed for good."""


class Speak(msgspec.Struct, frozen=True):
    """Make speech of this in the format of ``Call.downlink``, then ``Call.give_speech``, also where there is none."""

    words: Words
    text: str = ""


class Heard(msgspec.Struct, frozen=True):
    """The caller has heard all that was said before ``Call.ask_heard`` gave this number, or had time enough to."""

    ticket: int


class DigitsTyped(msgspec.Struct, frozen=True):
    """Keys that nobody but the operator's own webhook may know."""

    digits: str

    def __repr__(self) -> str:
        return "DigitsTyped(...)"


class Finished(msgspec.Struct, frozen=True):
    """The call is over: give the slot back. Comes exactly once."""

    reason: EndReason
    detail: str


class Note(msgspec.Struct, frozen=True):
    """Something for the log: what happened, without what was said."""

    event: str
    detail: str = ""


Effect = (
    AskAdmission
    | ConnectAgent
    | FetchResults
    | TransferPlanned
    | BeginTransfer
    | PlayTones
    | RunTool
    | Speak
    | Heard
    | DigitsTyped
    | Finished
    | Note
)
