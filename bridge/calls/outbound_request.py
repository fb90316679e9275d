"""The parser of requests for outbound calls: every mistake with its field, the problem and the mend. Pure.

A member that is null is the same as left out. Numbers are never repeated in messages, which reach logs.

Sources: E.164; the package phonenumbers (lengths by country, emergency numbers, short codes); Twilio "Calls resource"
(SendDigits up to 32 characters, which switches machine detection off; Timeout up to 600 s; TimeLimit up to a day).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import msgspec
import phonenumbers

from bridge.calls.machine import MAX_MESSAGE_CHARS
from bridge.calls.outbound import (
    MACHINE,
    VERDICTS,
    Action,
    DetectionMode,
    MachineDetection,
    OutboundRequest,
    RequestRules,
)
from bridge.calls.personalization import AnswerError, parse_answer
from bridge.calls.rules import is_agent_id
from bridge.convai.messages import InitiationData
from bridge.errors import RemoteError

DEFAULT_PROVIDER: str = OutboundRequest(to_number="").provider
MAX_RING_S = 600
"""Twilio's longest Timeout."""
MAX_DIGITS = 32
"""Twilio's longest SendDigits."""
MIN_DURATION_S, MAX_DURATION_S = 10, 86_400
"""Twilio's longest TimeLimit is a day; a call of less than ten seconds says nothing."""
MAX_NUMBER_CHARS = 32
"""E.164 has 16 with its plus; the rest is room for separators."""
_SHOWN_CHARS = 60

_SPELLED = re.compile(r"\+[0-9 ().\-]+")
_DIGITS = re.compile(r"[0-9A-D#*wW]+")
_MODES, _ACTIONS = get_args(DetectionMode), get_args(Action)


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong with a request."""

    field: str
    """Member at fault, with dots: ``machine_detection.mode``; empty = the whole."""
    words: str
    """The problem and the mend; the rest of a sentence that begins with the field."""

    def __str__(self) -> str:
        return f"{self.field} {self.words}" if self.field else self.words


class RequestError(RemoteError):
    """A request that cannot be carried out as it is; ``mistakes`` has all that is wrong with it."""

    def __init__(self, mistakes: Collection[Mistake], *, is_json: bool = True) -> None:
        self.mistakes = tuple(mistakes)
        self.is_json = is_json
        """False: the body is not even JSON."""
        super().__init__("; ".join(str(mistake) for mistake in self.mistakes))


def parse_request(body: bytes, rules: RequestRules) -> OutboundRequest:
    """The request of a JSON body. Raises ``RequestError``."""
    try:
        document: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise RequestError([Mistake("", "the body is no JSON; send an object with to_number")], is_json=False) from None
    return read_request(document, rules)


def read_request(document: object, rules: RequestRules) -> OutboundRequest:
    """The request of a JSON document; ``from_number`` and ``ring_timeout_s`` are filled in. Raises ``RequestError``."""
    if not isinstance(document, Mapping):
        raise RequestError([Mistake("", "the body is no object; send one with to_number")])
    mistakes: list[Mistake] = []
    given = document.get("provider")
    owned = rules.owned_numbers.get(given if isinstance(given, str) else DEFAULT_PROVIDER, ())
    found = _members(document, _checks(rules, owned), "", mistakes)
    if document.get("to_number") is None:
        mistakes.append(Mistake("to_number", "is missing; give the number to call, such as +49301234567"))
    if document.get("from_number") is None:
        found["from_number"] = next(iter(owned), "")
        if not owned:
            mistakes.append(Mistake("from_number", "is missing, and no number is set; give one of yours"))
    found.setdefault("ring_timeout_s", rules.ring_s)
    if not mistakes:
        _check_digits(found, rules, mistakes)
    if mistakes:
        raise RequestError(mistakes)
    return OutboundRequest(**found)


def _checks(rules: RequestRules, owned: Collection[str]) -> dict[str, Callable[[object], Any]]:
    """By member. Each takes what JSON gave and raises ``ValueError`` with the rest of the sentence, or a
    ``RequestError`` with mistakes of its own members."""
    return {
        "to_number": lambda value: _dialled(value, rules),
        "from_number": lambda value: _owned(value, owned, rules),
        "agent_id": _agent,
        "provider": lambda value: _one_of(value, tuple(sorted(rules.providers))),
        "conversation_initiation_client_data": _initiation,
        "ring_timeout_s": _whole(1, MAX_RING_S),
        "send_digits": _digits,
        "machine_detection": _detection,
        "max_duration_s": _whole(MIN_DURATION_S, MAX_DURATION_S),
    }


def _members(
    document: Mapping[Any, object],
    checks: Mapping[str, Callable[[object], Any]],
    place: str,
    mistakes: list[Mistake],
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in document.items():
        check = checks.get(name)
        if check is None:
            mistakes.append(Mistake(f"{place}{_clipped(name)}", f"is no member{_nearest(name, checks)}"))
        elif value is not None:
            try:
                found[name] = check(value)
            except ValueError as problem:
                mistakes.append(Mistake(f"{place}{name}", str(problem)))
            except RequestError as error:
                mistakes += [Mistake(f"{name}{mistake.field}", mistake.words) for mistake in error.mistakes]
    return found


def _check_digits(found: Mapping[str, Any], rules: RequestRules, mistakes: list[Mistake]) -> None:
    """Twilio switches machine detection off where it is to press keys, without a word."""
    given: MachineDetection | None = found.get("machine_detection")
    mode = given.mode if given is not None else rules.detection
    if found.get("send_digits") and mode != "off":
        mend = 'leave send_digits out, or send "machine_detection": {"mode": "off"}'
        mistakes.append(Mistake("send_digits", f"cannot go with machine detection at the carrier; {mend}"))


# --- numbers ---------------------------------------------------------------------------------------------


def _number(value: object, rules: RequestRules) -> str:
    """E.164."""
    mend = "give it with + and country code, such as +49301234567"
    if not isinstance(value, str) or len(value) > MAX_NUMBER_CHARS or not _SPELLED.fullmatch(value.strip()):
        raise ValueError(f"is no international number; {mend}")
    try:
        number = phonenumbers.parse(value.strip())
    except phonenumbers.NumberParseException:
        raise ValueError(f"is of no country that there is; {mend}") from None
    if _is_emergency(number):
        raise ValueError("is an emergency number, which this bridge does not call; give a subscriber's number")
    if not phonenumbers.is_possible_number(number) or phonenumbers.is_valid_short_number(number):
        raise ValueError(f"is too short or too long for its country; {mend}")
    if rules.existing_only and not phonenumbers.is_valid_number(number):
        raise ValueError(f"does not exist in its country's numbering plan; {mend}")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _is_emergency(number: phonenumbers.PhoneNumber) -> bool:
    """Whether it is one once the country code is taken off, in any country of that code."""
    national = phonenumbers.national_significant_number(number)
    regions = phonenumbers.region_codes_for_country_code(number.country_code or 0)
    return any(phonenumbers.is_emergency_number(national, region) for region in regions)


def _dialled(value: object, rules: RequestRules) -> str:
    if isinstance(value, str) and _is_short(value):
        raise ValueError("is an emergency number or a short code, which this bridge does not call")
    return _number(value, rules)


def _is_short(text: str) -> bool:
    """Whether somebody wrote 911, 112 or a short code, with or without a plus."""
    digits = text.strip().removeprefix("+")
    return digits.isascii() and digits.isdigit() and len(digits) <= 6


def _owned(value: object, owned: Collection[str], rules: RequestRules) -> str:
    number = _number(value, rules)
    if owned and number not in owned:
        raise ValueError("is none of the numbers that are set as yours; give one of those, or leave it out")
    return number


# --- other members ---------------------------------------------------------------------------------------


def _agent(value: object) -> str:
    if not isinstance(value, str) or not is_agent_id(value):
        raise ValueError("is no agent's id; copy it again from the agent's page, such as agent_01abc")
    return value


def _initiation(value: object) -> InitiationData | None:
    if not isinstance(value, Mapping):
        raise ValueError("is no object; give one with dynamic_variables, conversation_config_override or user_id")
    if not any(member is not None for member in value.values()):
        return None
    try:
        return parse_answer(msgspec.json.encode(value))
    except AnswerError as error:
        # "the answer" is what the same data is called where a personalization webhook gives it
        raise ValueError(": " + "; ".join(error.problems).replace("the answer", "it")) from None


def _digits(value: object) -> str:
    if not isinstance(value, str) or not _DIGITS.fullmatch(value) or len(value) > MAX_DIGITS:
        raise ValueError(f"are not 1 to {MAX_DIGITS} of 0-9 A-D # * w W; w waits 0.5 s, W 1 s")
    return value


def _detection(value: object) -> MachineDetection:
    if not isinstance(value, Mapping):
        raise ValueError('is no object; give one such as {"mode": "enable", "rules": {"machine": "hang_up"}}')
    mistakes: list[Mistake] = []
    checks = {"mode": lambda mode: _one_of(mode, _MODES), "rules": _machine_rules, "message": _message}
    found = _members(value, checks, ".", mistakes)
    if found.get("mode") == "off" and (found.get("rules") or found.get("message")):
        mistakes.append(Mistake(".mode", "is off, so nothing follows from rules or message; leave them out"))
    if mistakes:
        raise RequestError(mistakes)
    return MachineDetection(**found)


def _machine_rules(value: object) -> dict[str, Any]:
    wanted = (*VERDICTS, MACHINE)
    if not isinstance(value, Mapping):
        raise ValueError('is no object; give one such as {"machine": "hang_up"}')
    for verdict, action in value.items():
        if verdict not in wanted:
            raise ValueError(f"has {_clipped(verdict)}, which is no verdict; there are {', '.join(wanted)}")
        if action not in _ACTIONS:
            raise ValueError(f"does not say what follows from {verdict}; give one of {', '.join(_ACTIONS)}")
    return dict(value)


def _message(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_MESSAGE_CHARS:
        raise ValueError(f"is no text of 1 to {MAX_MESSAGE_CHARS} characters")
    return value.strip()


def _one_of(value: object, choices: Collection[str]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"is none of {', '.join(choices)}")
    return value


def _whole(least: int, most: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"is no whole number from {least} to {most}")
        return value

    return check


def _clipped(name: object) -> str:
    text = str(name)
    return text if text.isprintable() and len(text) <= _SHOWN_CHARS else repr(text[:_SHOWN_CHARS])


def _nearest(name: object, known: Collection[str]) -> str:
    near = difflib.get_close_matches(str(name)[:_SHOWN_CHARS], known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
