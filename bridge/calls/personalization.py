"""The personalization webhook's messages: what is asked about a call, what may come back, and how it is merged.

What it is: the vendor's own contract, so that a webhook written for it works unchanged. What it is not: the request
itself (``bridge.server.personalizer``).

Sources: ElevenLabs docs, "Twilio personalization", "Personalization: Conversation Initiation Client Data Structure",
"Dynamic variables", and the schema ConversationInitiationClientDataRequest (read 2026-11-21): members may be null,
which is the same as left out, and members that are not known here are skipped.

What wins, for a variable of the same name: our own facts (``caller_id``, ``called_number``, ``call_sid``), then the
webhook's answer, then what the carrier's set-up passed. The facts come from a verified request; neither a caller's SIP
header nor an answer that was mixed up can make the agent believe in another caller. They are always there, empty where
the carrier says nothing, because an agent that uses a variable refuses a conversation without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from bridge.convai.messages import InitiationData
from bridge.errors import RemoteError
from bridge.events import CallInfo

TYPE = "conversation_initiation_client_data"
RESERVED_PREFIX = "system__"
"""Names that only the vendor sets; a conversation that brings one of its own is refused."""
SOURCE = "telephony-bridge"

MAX_ANSWER_BYTES = 256 * 1024
"""An overridden prompt takes some ten kilobytes; a megabyte would hold up the call it is for."""
MAX_VARIABLES = 200
MAX_NAME_CHARS = 128
MAX_VALUE_CHARS = 16_384
"""Of one variable: several pages of text."""
MAX_USER_ID_CHARS = 512
MAX_DEPTH = 12
"""Nesting of the overrides and of the extra body; the vendor's own go down four."""
MAX_PROBLEMS = 10
"""Named at once; the log line stays readable."""

_SHOWN_CHARS = 60

Variable = str | int | float | bool


class PersonalizationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the webhook is told: the vendor's four parameters."""

    caller_id: str
    agent_id: str
    called_number: str
    call_sid: str


class AnswerError(RemoteError):
    """The webhook's answer cannot be used; ``problems`` names each member and rule, never a value."""

    def __init__(self, problems: list[str]) -> None:
        more = len(problems) - MAX_PROBLEMS
        shown = problems[:MAX_PROBLEMS] + ([f"and {more} more"] if more > 0 else [])
        self.problems = tuple(shown)
        super().__init__("; ".join(shown))


def encode_request(request: PersonalizationRequest) -> bytes:
    """The body of the request."""
    return msgspec.json.encode(request)


# --- the answer ------------------------------------------------------------------------------------------


def parse_answer(body: bytes) -> InitiationData:
    """The initiation data of an answer. Raises ``AnswerError`` with everything that is wrong with it."""
    if len(body) > MAX_ANSWER_BYTES:
        raise AnswerError([f"the answer is longer than {MAX_ANSWER_BYTES} bytes"])
    try:
        document: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError):
        raise AnswerError(["the answer is no JSON"]) from None
    except RecursionError:
        raise AnswerError(["the answer is nested too deeply"]) from None
    if not isinstance(document, dict):
        raise AnswerError([f"the answer is {_kind(document)}, not an object"])
    given = {name: value for name, value in document.items() if value is not None}
    if given.get("type", TYPE) != TYPE:
        raise AnswerError([f"type is not {TYPE}"])
    if not given.keys() & {"type", *_MEMBERS}:
        raise AnswerError([f"the answer has none of the members of {TYPE}"])
    problems: list[str] = []
    members: dict[str, Any] = {
        name: check(given[name], name, problems) for name, check in _MEMBERS.items() if name in given
    }
    if problems:
        raise AnswerError(problems)
    return InitiationData(**members)


def variable_problems(variables: Mapping[str, object], place: str = "dynamic_variables") -> list[str]:
    """What the vendor would refuse about these variables, one sentence each; names are quoted, values never."""
    problems = []
    if len(variables) > MAX_VARIABLES:
        problems.append(f"{place} has {len(variables)} members; there may be {MAX_VARIABLES}")
    for name, value in variables.items():
        if problem := _name_problem(name) or _value_problem(value):
            problems.append(f"{place}.{_shown(name)} {problem}")
    return problems


def _name_problem(name: str) -> str:
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        return f"has no usable name; give 1 to {MAX_NAME_CHARS} printable characters"
    if name.startswith(RESERVED_PREFIX):
        return f"has a reserved name; names that begin with {RESERVED_PREFIX} are the vendor's"
    return ""


def _value_problem(value: object) -> str:
    if not isinstance(value, Variable):
        return f"is {_kind(value)}; give a text, a number, or true or false"
    if isinstance(value, str) and len(value) > MAX_VALUE_CHARS:
        return f"is longer than {MAX_VALUE_CHARS} characters"
    return ""


def _variables(value: object, place: str, problems: list[str]) -> dict[str, Variable]:
    if not isinstance(value, dict):
        problems.append(f"{place} is {_kind(value)}, not an object")
        return {}
    given = {name: each for name, each in value.items() if each is not None}
    problems += variable_problems(given, place)
    return given


def _object(value: object, place: str, problems: list[str]) -> dict[str, Any]:
    """Any object that is not too deep; nulls in it are left out, as they mean "not given"."""
    if not isinstance(value, dict):
        problems.append(f"{place} is {_kind(value)}, not an object")
        return {}
    if _depth(value) > MAX_DEPTH:
        problems.append(f"{place} is nested deeper than {MAX_DEPTH}")
        return {}
    given: dict[str, Any] = _without_nulls(value)
    return given


def _override(value: object, place: str, problems: list[str]) -> dict[str, Any]:
    document = _object(value, place, problems)
    for path, kinds, wanted in _OVERRIDES:
        for member in _at(document, path):
            if not isinstance(member, kinds) or (isinstance(member, bool) and bool not in kinds):
                problems.append(f"{place}.{'.'.join(path)} is {_kind(member)}, not {wanted}")
    if any(member is True for member in _at(document, ("conversation", "text_only"))):
        problems.append(f"{place}.conversation.text_only is true, which would leave the caller in silence")
    return document


def _user_id(value: object, place: str, problems: list[str]) -> str:
    if isinstance(value, str) and len(value) <= MAX_USER_ID_CHARS:
        return value
    problems.append(
        f"{place} is longer than {MAX_USER_ID_CHARS} characters"
        if isinstance(value, str)
        else f"{place} is {_kind(value)}, not a text"
    )
    return ""


def _source(value: object, place: str, problems: list[str]) -> dict[str, str]:
    document = _object(value, place, problems)
    if not all(isinstance(each, str) and len(each) <= MAX_NAME_CHARS for each in document.values()):
        problems.append(f"{place} holds something else than texts of up to {MAX_NAME_CHARS} characters")
    return document


_MEMBERS = {
    "dynamic_variables": _variables,
    "conversation_config_override": _override,
    "custom_llm_extra_body": _object,
    "user_id": _user_id,
    "source_info": _source,
}

_TEXT, _MAP, _NUMBER = (str,), (dict,), (int, float)
_OVERRIDES: tuple[tuple[tuple[str, ...], tuple[type, ...], str], ...] = (
    (("agent",), _MAP, "an object"),
    (("agent", "prompt"), _MAP, "an object"),
    (("agent", "prompt", "prompt"), _TEXT, "a text"),
    (("agent", "prompt", "llm"), _TEXT, "a text"),
    (("agent", "first_message"), _TEXT, "a text"),
    (("agent", "language"), _TEXT, "a text"),
    (("tts",), _MAP, "an object"),
    (("tts", "voice_id"), _TEXT, "a text"),
    (("tts", "stability"), _NUMBER, "a number"),
    (("tts", "speed"), _NUMBER, "a number"),
    (("tts", "similarity_boost"), _NUMBER, "a number"),
    (("conversation",), _MAP, "an object"),
)
"""Members whose type is known for certain; all others go to the vendor as they are."""


def _at(document: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[object]:
    """What stands at this path, if anything does."""
    here: object = document
    for name in path:
        if not isinstance(here, dict) or name not in here:
            return
        here = here[name]
    yield here


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def _depth(value: object) -> int:
    """How deep it is nested, counted without recursion as far as it matters."""
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH:
        depth += any(isinstance(each, dict | list) for each in level)
        inner: list[object] = []
        for each in level:
            inner += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
        level = inner
    return depth


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "a truth value"
    names = ((str, "a text"), (dict, "an object"), (list, "a list"), (int | float, "a number"))
    return next((name for kind, name in names if isinstance(value, kind)), "null")


def _shown(name: str) -> str:
    clipped = name if len(name) <= _SHOWN_CHARS else name[:_SHOWN_CHARS] + "..."
    return clipped if name and name.isprintable() else repr(clipped)


# --- merge -----------------------------------------------------------------------------------------------


def facts_of(info: CallInfo) -> dict[str, Variable]:
    """What the agent is always told of a call, under names of our own (``system__`` ones are the vendor's)."""
    return {"caller_id": info.caller, "called_number": info.called, "call_sid": info.call_sid}


def initiation_for(info: CallInfo, answer: InitiationData | None = None, language: str = "") -> InitiationData:
    """What the agent is told before the conversation; ``answer`` is the webhook's, None = there was none.

    Carrier parameters that the vendor would refuse (see ``variable_problems``) are left out. ``language`` is the
    route's; the webhook's own choice wins over it.
    """
    parameters = {
        name: value for name, value in info.parameters.items() if not (_name_problem(name) or _value_problem(value))
    }
    given = answer if answer is not None else InitiationData()
    return InitiationData(
        conversation_config_override=_with_language(given.conversation_config_override, language),
        custom_llm_extra_body=given.custom_llm_extra_body,
        dynamic_variables={**parameters, **given.dynamic_variables, **facts_of(info)},
        user_id=given.user_id,
        source_info=given.source_info or {"source": SOURCE},
    )


def _with_language(override: dict[str, Any], language: str) -> dict[str, Any]:
    agent = override.get("agent", {})
    if not language or "language" in agent:
        return override
    return {**override, "agent": {**agent, "language": language}}
