"""What Twilio takes in the attributes of TwiML, and the code it logs for anything else.

Not a schema of all of TwiML: the verbs and nouns that a voice bridge can use. Sources: Twilio docs "TwiML for
Programmable Voice" (the page of each verb), "Error and Warning Dictionary" (12200, 13210 to 13910), read 2026-11-21.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

SCHEMA = 12200

Check = Callable[[str], bool]
Rule = tuple[int, Check]

_SHOWN_CHARS = 60
"""How much of a wrong value is repeated."""

_E164 = re.compile(r"\+?[0-9]{3,15}")
_SIP = re.compile(r"sips?:[^@\s]+@[^@\s]+|sips?:[^@\s]+", re.IGNORECASE)
_DIGITS = re.compile(r"[0-9A-D#*wW]*")
_CALL_EVENTS = frozenset({"initiated", "ringing", "answered", "completed"})
_CONFERENCE_EVENTS = frozenset({"start", "end", "join", "leave", "mute", "hold", "modify", "speaker", "announcement"})


def _any(_: str) -> bool:
    return True


def _one_of(*allowed: str) -> Check:
    return lambda value: value in allowed


def _whole(low: int, high: int) -> Check:
    return lambda value: value.isascii() and value.isdigit() and low <= int(value[:9]) <= high


def _events(known: frozenset[str]) -> Check:
    return lambda value: set(value.split()) <= known


def is_digits(value: str) -> bool:
    """Whether these are keys and pauses as Twilio takes them."""
    return _DIGITS.fullmatch(value) is not None


def is_phone_number(value: str) -> bool:
    """Whether this looks like a phone number to Twilio (E.164, plus optional)."""
    return _E164.fullmatch(re.sub(r"[\s().-]", "", value)) is not None


def is_sip_uri(value: str) -> bool:
    """Whether this is a SIP URI."""
    return _SIP.fullmatch(value) is not None


_BOOLEAN = _one_of("true", "false")
_METHOD = _one_of("GET", "POST")
_LOOP = _whole(0, 1000)
_FREE: Rule = (SCHEMA, _any)


def _machine_detection() -> dict[str, Rule]:
    return {
        "machineDetection": (SCHEMA, _one_of("Enable", "DetectMessageEnd")),
        "machineDetectionTimeout": (SCHEMA, _whole(3, 60)),
        "machineDetectionSpeechThreshold": (SCHEMA, _whole(1000, 6000)),
        "machineDetectionSpeechEndThreshold": (SCHEMA, _whole(500, 5000)),
        "machineDetectionSilenceTimeout": (SCHEMA, _whole(2000, 10000)),
        "amdStatusCallback": _FREE,
        "amdStatusCallbackMethod": (SCHEMA, _METHOD),
    }


def _callee(method_code: int) -> dict[str, Rule]:
    return {
        "url": _FREE,
        "method": (method_code, _METHOD),
        "statusCallback": _FREE,
        "statusCallbackMethod": (method_code, _METHOD),
        "statusCallbackEvent": (SCHEMA, _events(_CALL_EVENTS)),
    }


_RULES: Mapping[str, Mapping[str, Rule]] = {
    "Response": {},
    "Connect": {"action": _FREE, "method": (SCHEMA, _METHOD)},
    "Connect/Stream": {
        "url": _FREE,
        "name": _FREE,
        "track": _FREE,
        "connectorName": _FREE,
        "statusCallback": _FREE,
        "statusCallbackMethod": (SCHEMA, _METHOD),
    },
    "Stream/Parameter": {"name": _FREE, "value": _FREE},
    "Dial": {
        "action": _FREE,
        "method": (13210, _METHOD),
        "timeout": (13212, _whole(5, 600)),
        "callerId": _FREE,
        "answerOnBridge": (SCHEMA, _BOOLEAN),
        "hangupOnStar": (13213, _BOOLEAN),
        "timeLimit": (13216, _whole(1, 86_400)),
        "record": (13217, _any),
        "referUrl": _FREE,
        "referMethod": (SCHEMA, _METHOD),
        "ringTone": _FREE,
        "sequential": (SCHEMA, _BOOLEAN),
    },
    "Dial/Number": {**_callee(13221), **_machine_detection(), "sendDigits": (13222, is_digits), "byoc": _FREE},
    "Dial/Sip": {**_callee(13241), **_machine_detection(), "username": _FREE, "password": _FREE},
    "Dial/Client": _callee(SCHEMA),
    "Dial/Conference": {
        "muted": (13230, _BOOLEAN),
        "beep": (13235, _one_of("true", "false", "onEnter", "onExit")),
        "startConferenceOnEnter": (13232, _BOOLEAN),
        "endConferenceOnExit": (13231, _BOOLEAN),
        "participantLabel": _FREE,
        "jitterBufferSize": _FREE,
        "waitUrl": _FREE,
        "waitMethod": (13234, _METHOD),
        "maxParticipants": (SCHEMA, _whole(2, 250)),
        "record": _FREE,
        "region": _FREE,
        "coach": _FREE,
        "statusCallback": _FREE,
        "statusCallbackMethod": (SCHEMA, _METHOD),
        "statusCallbackEvent": (SCHEMA, _events(_CONFERENCE_EVENTS)),
    },
    "Gather": {
        "input": (SCHEMA, lambda value: set(value.split()) <= {"dtmf", "speech"}),
        "action": _FREE,
        "method": (13312, _METHOD),
        "timeout": (13313, _whole(0, 1000)),
        "finishOnKey": (13310, lambda value: len(value) <= 1 and value in "0123456789#*"),
        "numDigits": (13314, _whole(1, 1000)),
        "actionOnEmptyResult": (SCHEMA, _BOOLEAN),
        "language": _FREE,
        "bargeIn": (SCHEMA, _BOOLEAN),
        "speechTimeout": _FREE,
        "hints": _FREE,
    },
    "Hangup": {},
    "Pause": {"length": (13910, _whole(0, 600))},
    "Play": {"loop": (13410, _LOOP), "digits": (SCHEMA, is_digits)},
    "Redirect": {"method": (13710, _METHOD)},
    "Refer": {"action": _FREE, "method": (SCHEMA, _METHOD)},
    "Refer/Sip": {},
    "Reject": {"reason": (SCHEMA, _one_of("busy", "rejected"))},
    "Say": {"voice": _FREE, "language": _FREE, "loop": (13510, _LOOP)},
}
"""By element: its attributes, and of each the code that Twilio logs for a wrong value."""

VERBS = frozenset(
    {"Connect", "Dial", "Gather", "Hangup", "Pause", "Play", "Redirect", "Refer", "Reject", "Say"},
)
DIAL_NOUNS = frozenset({"Number", "Sip", "Client", "Conference"})
GATHER_VERBS = frozenset({"Say", "Play", "Pause"})


def wrong_attributes(element: str, attributes: Mapping[str, str]) -> Iterator[tuple[str, int, str]]:
    """What is wrong with the attributes of an element (``Dial`` or ``Dial/Number``): which, code and text of each."""
    rules, name = _RULES[element], element.rpartition("/")[2]
    for attribute in sorted(attributes.keys() - rules.keys()):
        yield attribute, SCHEMA, f"<{name}> has the unknown attribute {attribute}"
    for attribute, value in attributes.items():
        code, check = rules.get(attribute, _FREE)
        if not check(value):
            yield attribute, code, f"<{name}> {attribute} is {value[:_SHOWN_CHARS]!r}"
