"""What the agent is told of its tool calls. Pure texts; the agent's model reads them and acts on them.

Each says what happened, and what to do now, in words that work in any language the agent speaks. None holds a number,
a digit or a name of the caller's: results stand in transcripts.
"""

from __future__ import annotations

import enum

# --- what cannot be read or may not be -------------------------------------------------------------------

UNAVAILABLE = (
    "The tool {name!r} is not available on this phone line. Tell the caller that this cannot be done right now "
    "and go on with the conversation."
)
"""The answer to tools that there are not."""
NO_TARGET = (
    "The transfer was not made: the tool call names no destination. Ask the caller where to, then call the tool with "
    "transfer_number."
)
NO_TARGET_TEXT = (
    "The transfer was not made: {parameter} must be a text. Call the tool again with an international number such as "
    '"+14155550100", in quotes.'
)
UNREADABLE_TARGET = (
    "The transfer was not made: the destination is neither a phone number nor a SIP address. Give an international "
    "number such as +14155550100, or a plain SIP address such as sip:sales@pbx.example.com."
)
NATIONAL_TARGET = (
    "The transfer was not made: the number has no country code. Call the tool again with + and the country code, such "
    "as +14155550100."
)
WORD_TARGET = (
    "The transfer was not made: this phone line needs a phone number, not a name. Call the tool again with an "
    "international number such as +14155550100."
)
NOT_ALLOWED = (
    "The transfer was not made: this destination is not allowed. Tell the caller that you cannot connect them there, "
    "and offer help yourself."
)
EMERGENCY = (
    "The transfer was not made: emergency and short numbers are not dialled from here. If the caller is in danger, "
    "tell them to hang up and dial the emergency number themselves."
)
NO_TRANSFERS = (
    "The transfer was not made: this phone line cannot transfer calls. Tell the caller that you cannot connect them, "
    "and offer help yourself."
)
UNKNOWN_KIND = (
    "The transfer was not made: transfer_type is none that there is. Call the tool again with one of: {kinds}; or "
    "without transfer_type."
)
WRONG_KIND = (
    "The transfer was not made: this phone line cannot make it as {kind}. Call the tool again with transfer_type one "
    "of: {kinds}; or without transfer_type."
)
REFER_NEEDS_SIP = (
    "The transfer was not made: sip_refer needs a SIP address. Call the tool again with sip_uri, or with another "
    "transfer_type."
)
NO_KEYS_AFTER = (
    "The transfer was not made: this way of transferring cannot press keys afterwards. Call the tool again without "
    "post_dial_digits and with a number that needs none."
)
NOT_A_TEXT = "Nothing was done: {parameter} must be a text. Call the tool again with a text in quotes."
NO_KEYS = "No key was pressed: dtmf_tones is missing. Call the tool again with the keys to press, such as 1 or 123#."
WRONG_KEYS = (
    "Nothing was done: {parameter} has characters that are no keys. Allowed are the digits 0-9, * and #, w for a pause "
    "of half a second and W for a pause of one second. Call the tool again with only these."
)
TOO_MANY_KEYS = (
    "Nothing was done: {parameter} is too long. Call the tool again with at most {most} keys and {pause_s} seconds of "
    "pauses; press the rest in a second call."
)
NO_TONES = (
    "No key was pressed: this phone line cannot send keypad tones. Tell the caller that this cannot be done right now "
    "and go on with the conversation."
)

# --- what was done ---------------------------------------------------------------------------------------

TRANSFERRED = "The human has answered and the caller is connected to them. Your part is over: say nothing more."
"""A warm transfer has come to its good end."""
TRANSFERRING = "The caller is being transferred now. Say nothing more."
"""A transfer that is out of our hands from here: blind, by REFER, or by the carrier's flow."""
KEYS_PRESSED = "The keys were pressed. Listen to what the line answers before you press more."
ENDING = "The call ends now. Say nothing more."
NOTED = (
    "It is noted that an answering machine has taken the call. Where a message is set for machines, the phone system "
    "leaves it and ends the call: say nothing more. Otherwise go on with the conversation."
)
"""Answer to ``voicemail_detection``; what then happens is the operator's choice."""
ON_HOLD = "The caller is on hold and hears hold music; they do not hear you. Call resume to go back to them."
OFF_HOLD = "The caller is back and hears you again."
ALREADY_ON_HOLD = "The caller is on hold already. Call resume to go back to them."
NOT_ON_HOLD = "The caller is not on hold: they hear you. Go on with the conversation."


# --- what failed -----------------------------------------------------------------------------------------


class ToolFailure(enum.Enum):
    """Why a tool call that was allowed came to nothing; the values are labels of metrics and words of the record."""

    BUSY = "busy"
    """The human's line is engaged."""
    NO_ANSWER = "no_answer"
    """The human's phone rang, and nobody took the call."""
    DECLINED = "declined"
    """The human refused, or hung up without taking the caller."""
    VOICEMAIL = "voicemail"
    """A machine answered in the human's place."""
    CALLER_GONE = "caller_gone"
    """The caller hung up meanwhile."""
    CARRIER_REFUSED = "carrier_refused"
    """The carrier does not do it: credentials, permissions, a number it does not serve."""
    CARRIER_DOWN = "carrier_down"
    """The carrier does not answer, or not sensibly."""
    TIMEOUT = "timeout"
    """Nothing came of it in time."""
    IN_PROGRESS = "in_progress"
    """Another transfer of this call is running."""
    CALL_OVER = "call_over"
    NOT_NOW = "not_now"
    """The state of the call does not allow it: connecting, being transferred, coming back."""
    TOO_MANY = "too_many"
    """More tool calls at once than anybody has a use for."""


_BACK = "The caller is still with you: tell them, and offer to try again, to take a message, or to help yourself."

_TRANSFER_FAILURES = {
    ToolFailure.BUSY: f"The transfer failed: the line is busy. {_BACK}",
    ToolFailure.NO_ANSWER: f"The transfer failed: nobody answered. {_BACK}",
    ToolFailure.DECLINED: f"The transfer failed: the person did not take the call. {_BACK}",
    ToolFailure.VOICEMAIL: f"The transfer failed: an answering machine took the call. {_BACK}",
    ToolFailure.CARRIER_REFUSED: (
        "The transfer failed: the phone network refused it. Trying again will not help. The caller is still with you: "
        "tell them that you cannot connect them, and offer to take a message or to help yourself."
    ),
    ToolFailure.CARRIER_DOWN: f"The transfer failed: the phone network does not respond. {_BACK}",
    ToolFailure.TIMEOUT: f"The transfer failed: it took too long. {_BACK}",
}

_FAILURES = {
    ToolFailure.CALLER_GONE: "Nothing was done: the caller has hung up. Say nothing more.",
    ToolFailure.CALL_OVER: "Nothing was done: the call is over. Say nothing more.",
    ToolFailure.IN_PROGRESS: (
        "Nothing was done: a transfer of this call is under way already. Wait for its result, and do not call the "
        "tool again until it is there."
    ),
    ToolFailure.NOT_NOW: (
        "Nothing was done: this is not possible at this moment of the call. Go on with the conversation, and try "
        "again in a few seconds if it is still needed."
    ),
    ToolFailure.TOO_MANY: (
        "Nothing was done: too many tool calls are waiting for their result. Wait for those results before you call "
        "another tool."
    ),
    ToolFailure.CARRIER_REFUSED: (
        "It failed: the phone network refused it. Trying again will not help. Tell the caller that this cannot be done "
        "right now and go on with the conversation."
    ),
    ToolFailure.CARRIER_DOWN: (
        "It failed: the phone network does not respond. Go on with the conversation, and try again in a moment if it "
        "is still needed."
    ),
    ToolFailure.TIMEOUT: (
        "It failed: there was no result in time. Go on with the conversation, and try again in a moment if it is still "
        "needed."
    ),
}


def transfer_failed(failure: ToolFailure) -> str:
    """The result of a transfer that came to nothing; the caller is still with the agent, or the text says otherwise."""
    return _TRANSFER_FAILURES.get(failure) or tool_failed(failure)


def tool_failed(failure: ToolFailure) -> str:
    """The result of any other tool that came to nothing."""
    return _FAILURES.get(failure, _FAILURES[ToolFailure.TIMEOUT])
