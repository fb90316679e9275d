"""What an operator writes about a number or an agent: the structs, and the parser that names every mistake.

The same members stand in ``[[routes]]`` and ``[agents."id"]`` of the TOML file and in the JSON of a route in the
database. A member that is left out inherits. Routing itself is in ``bridge.calls.routing``.
"""

from __future__ import annotations

import difflib
import enum
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from bridge.calls.keypad import MAX_DIGITS, KeypadMode
from bridge.calls.machine import MAX_MESSAGE_CHARS, MachineAction
from bridge.calls.numbers import normal_pattern, parse_target

MAX_CONCURRENCY = 100_000
MAX_DAILY_CALLS = 10_000_000
MAX_QUEUE_S = 3600
"""An hour; nobody waits longer."""
MAX_NAME_CHARS = 128
"""Of a branch or an environment."""
MAX_TARGETS = 1_000
"""Patterns of transfer targets of one route or agent; each is looked at before a transfer."""
MAX_PAUSE_S = 30
"""Between two keys of one entry."""
NO_END_KEY = "none"
"""In the place of an end key: no key ends an entry."""
_SHOWN_CHARS = 60
"""How much of a wrong value a message repeats; routes hold no secrets."""

_AGENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,2}")


class Overflow(enum.Enum):
    """What happens to a caller for whom there is no slot."""

    REJECT = "reject"
    """Told busy."""
    QUEUE = "queue"
    """Waits with hold audio, with a bound."""
    DIVERT = "divert"
    """Goes to another number."""


class Rules(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What holds for an agent, or for the calls of a route. None and empty = inherited."""

    environment: str = ""
    """Environment of the agent's variables."""
    branch: str = ""
    """Branch of the agent."""
    language: str = ""
    """Language in which the agent begins, e.g. ``de``; the agent's settings must allow the override."""
    concurrency: int | None = None
    """Calls of the agent at once; -1 = whatever the workspace has."""
    daily_limit: int | None = None
    """Calls of the agent a day."""
    burst: bool | None = None
    """Whether the calls may go above the workspace's limit."""
    overflow: Overflow | None = None
    overflow_queue_s: float | None = None
    overflow_divert_to: str = ""
    """E.164 or SIP address."""
    recording: bool | None = None
    personalization: bool | None = None
    """Whether the personalization webhook is asked."""
    transfer_allow: tuple[str, ...] | None = None
    """Patterns of the targets that the agent may transfer to; none at all = it may transfer to nobody."""
    fallback_to: str = ""
    """Where callers go when the agent has failed for good: E.164 or SIP address."""
    voicemail_action: MachineAction | None = None
    """What happens when a machine has answered."""
    voicemail_message: str = ""
    """What is said to it."""
    dtmf_to_agent: KeypadMode | None = None
    """What the agent is told of keys."""
    dtmf_pause_s: float | None = None
    """A pause of so long ends what the caller types, seconds."""
    dtmf_length: int | None = None
    """Keys that make an entry complete; 0 = any number."""
    dtmf_end_key: str = ""
    """``#``, ``*`` or ``none``."""
    dtmf_inband: bool | None = None
    """Whether tones are looked for in the caller's audio."""
    redact_dtmf: bool | None = None
    """Whether keys go to the operator's webhook and nowhere else."""


class Route(Rules, frozen=True, kw_only=True):
    """Where calls to a number go."""

    number: str
    """Pattern of the called number or SIP address, as ``bridge.calls.numbers.normal_pattern`` writes it."""
    provider: str = ""
    """Carrier; empty = any."""
    agent: str = ""
    """Agent that takes the calls; empty = the one that the carrier's address names, or the default agent."""

    @property
    def key(self) -> tuple[str, str]:
        """What no two routes of one source may share."""
        return self.number, self.provider


def is_agent_id(text: str) -> bool:
    """Whether this can be an agent's id: letters, digits, underscores and hyphens."""
    return _AGENT_ID.fullmatch(text) is not None


# --- one member ------------------------------------------------------------------------------------------
# Each check takes what TOML or JSON gave, and raises ValueError with the rest of a sentence that begins with the
# member's name.


def _wrong(value: object, mend: str) -> ValueError:
    shown = repr(value)
    if len(shown) > _SHOWN_CHARS:
        shown = shown[:_SHOWN_CHARS] + "..."
    return ValueError(f"is {shown}; give {mend}")


def _text(value: object, mend: str) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise _wrong(value, mend)
    return value.strip()


def _number(value: object) -> str:
    return normal_pattern(_text(value, "a text such as +4930*, sip:sales@* or *"))


def _name(value: object) -> str:
    text = _text(value, mend := f"a name of up to {MAX_NAME_CHARS} characters")
    if not text or len(text) > MAX_NAME_CHARS:
        raise _wrong(value, mend)
    return text


def _agent(value: object) -> str:
    text = _text(value, mend := "an agent's id, such as agent_01abc")
    if not is_agent_id(text):
        raise _wrong(value, mend)
    return text


def _language(value: object) -> str:
    text = _text(value, mend := "a language code such as de or pt-br")
    if not _LANGUAGE.fullmatch(text):
        raise _wrong(value, mend)
    return text


def _target(value: object) -> str:
    return parse_target(_text(value, "a number such as +49301234567, or a sip: address"))


def _targets(value: object) -> tuple[str, ...]:
    mend = "a list of patterns such as +4930*, sip:*@pbx.example.com, sales"
    texts = value.split(",") if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        raise _wrong(value, mend)
    if len(texts) > MAX_TARGETS:
        raise ValueError(f"has {len(texts)} patterns; there may be {MAX_TARGETS}")
    return tuple(normal_pattern(bare) for text in texts if (bare := _text(text, mend)))


def _message(value: object) -> str:
    text = _text(value, mend := f"a text of up to {MAX_MESSAGE_CHARS} printable characters")
    if len(text) > MAX_MESSAGE_CHARS:
        raise _wrong(value, mend)
    return text


def _choice(kind: type[enum.Enum]) -> Callable[[object], enum.Enum]:
    def check(value: object) -> enum.Enum:
        word = "off" if value is False else str(value).strip().lower()  # TOML and YAML people write off without quotes
        try:
            return kind(word)
        except ValueError:
            raise _wrong(value, "one of " + ", ".join(choice.value for choice in kind)) from None

    return check


def _end_key(value: object) -> str:
    text = value.strip().lower() if isinstance(value, str) else ""
    if text not in ("#", "*", NO_END_KEY):
        raise _wrong(value, "one of #, *, none")
    return text


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = value.strip().lower() if isinstance(value, str) else ""
    if text not in ("on", "off"):
        raise _wrong(value, "true or false")
    return text == "on"


def _whole(least: int, most: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise _wrong(value, f"a whole number from {least} to {most}")
        return value

    return check


def _seconds(most: int) -> Callable[[object], float]:
    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
            raise _wrong(value, f"seconds above 0, up to {most}")
        return float(value)

    return check


_CHECKS: dict[str, Callable[[object], Any]] = {
    "number": _number,
    "agent": _agent,
    "environment": _name,
    "branch": _name,
    "language": _language,
    "concurrency": _whole(-1, MAX_CONCURRENCY),
    "daily_limit": _whole(0, MAX_DAILY_CALLS),
    "burst": _switch,
    "overflow": _choice(Overflow),
    "overflow_queue_s": _seconds(MAX_QUEUE_S),
    "overflow_divert_to": _target,
    "recording": _switch,
    "personalization": _switch,
    "transfer_allow": _targets,
    "fallback_to": _target,
    "voicemail_action": _choice(MachineAction),
    "voicemail_message": _message,
    "dtmf_to_agent": _choice(KeypadMode),
    "dtmf_pause_s": _seconds(MAX_PAUSE_S),
    "dtmf_length": _whole(0, MAX_DIGITS),
    "dtmf_end_key": _end_key,
    "dtmf_inband": _switch,
    "redact_dtmf": _switch,
}
_OF_ROUTES = frozenset({"number", "provider", "agent"})
_TEXTS = frozenset(
    {
        "provider", "agent", "environment", "branch", "language", "overflow_divert_to", "fallback_to",
        "voicemail_message", "dtmf_end_key",
    }
)  # fmt: skip
"""Members in which an empty text is the same as none. Not ``transfer_allow``: there it closes every way out."""


# --- whole tables ----------------------------------------------------------------------------------------


def parse_rules(document: object, place: str, mistakes: list[str]) -> Rules:
    """The rules of an agent; ``mistakes`` gets a line for each that is wrong, beginning with ``place``."""
    return Rules(**_members(document, place, frozenset(), (), mistakes))


def parse_route(document: object, place: str, providers: Collection[str], mistakes: list[str]) -> Route | None:
    """A route; None where it cannot be one. ``providers`` are the carriers there are."""
    before = len(mistakes)
    members = _members(document, place, _OF_ROUTES, providers, mistakes)
    if isinstance(document, Mapping) and not any(str(name).lower() == "number" for name in document):
        mistakes.append(f"{_at(place)}number is missing; give one such as +4930*, sip:sales@* or *")
    return Route(**members) if len(mistakes) == before else None


def _members(
    document: object, place: str, more: frozenset[str], providers: Collection[str], mistakes: list[str]
) -> dict[str, Any]:
    if not isinstance(document, Mapping):
        mistakes.append(f"{place or 'the route'} is no table")
        return {}
    known = [name for name in (*_CHECKS, "provider") if name in more or name not in _OF_ROUTES]
    found: dict[str, Any] = {}
    for key, value in document.items():
        name = str(key).lower()
        if name not in known:
            mistakes.append(f"{_at(place)}{_clipped(str(key))} is no member of it{_nearest(name, known)}")
        elif not (value is None or (value == "" and name in _TEXTS)):
            try:
                found[name] = _provider(value, providers) if name == "provider" else _CHECKS[name](value)
            except ValueError as problem:
                mistakes.append(f"{_at(place)}{name} {problem}")
    return found


def _provider(value: object, providers: Collection[str]) -> str:
    mend = "one of " + ", ".join(sorted(providers))
    text = _text(value, mend).lower()
    if text not in providers:
        raise _wrong(value, mend)
    return text


def _at(place: str) -> str:
    return f"{place}." if place else ""


def _clipped(text: str) -> str:
    return text if text.isprintable() and len(text) <= _SHOWN_CHARS else repr(text[:_SHOWN_CHARS])


def _nearest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
