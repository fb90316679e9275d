"""What an AudioHook server may send, field by field, and the durations and errors of the protocol.

Stricter than Genesys Cloud, which lets unexpected fields pass outside ``media``: those are noted here, and do not end
the session. What ends it has ``fatal`` set. Independent of ``bridge.providers`` on purpose: each is a check on the
other.

Source: Genesys Cloud Developer Center, "AudioHook protocol reference" with the types and validators of the vendor's
reference implementations (message.ts, voice-bots.ts; read 2026-11-22). ``Unrecognized field ... in Media model`` is
what the production service says before it ends a session.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

NO_MESSAGE = 0
"""Code of a breach that no message can tell the server any more."""

BAD_REQUEST, TIMEOUT, CONFLICT, TOO_LARGE, UNSUPPORTED, TOO_MANY, INTERNAL = 400, 408, 409, 413, 415, 429, 500
"""Codes of the client's ``error`` message."""

MAX_BREACHES = 1000
"""Breaches noted per session: enough for any test, little enough for a peer gone mad."""

_SHOWN_CHARS = 80
"""How much of a wrong value is repeated in a breach."""

_DURATION = re.compile(r"PT(?:\d*\.)?\d+S", re.ASCII)

_ENVELOPE = ("version", "id", "type", "seq", "clientseq", "parameters")

_MEDIA_FIELDS = ("type", "format", "channels", "rate")


@dataclass(frozen=True, slots=True)
class Breach:
    """Something the server did against the protocol."""

    code: int
    """Code of the ``error`` that Genesys sends for it; ``NO_MESSAGE`` where it sends none."""
    text: str
    fatal: bool
    """Whether Genesys ends the session for it."""
    at_ms: float = 0.0
    """Since ``open`` was sent."""


class Flaw(NamedTuple):
    """A breach in the making."""

    code: int
    text: str
    fatal: bool


def duration(samples: int, rate_hz: int = 8000) -> str:
    """A position as AudioHook writes it, exact: ``PT1.2S``."""
    return seconds(samples * (1_000_000_000 // rate_hz))


def seconds(nanoseconds: int) -> str:
    """A duration as AudioHook writes it, to the nanosecond: ``PT0.001393723S``."""
    whole, rest = divmod(nanoseconds, 1_000_000_000)
    return f"PT{whole}.{rest:09d}".rstrip("0").rstrip(".") + "S"


def check(body: object, session_id: str) -> list[Flaw]:
    """What is wrong with a decoded message of the server; after a fatal flaw nothing more is looked for."""
    flaws: list[Flaw] = []
    for flaw in _flaws(body, session_id):
        flaws.append(flaw)
        if flaw.fatal:
            break
    return flaws


def _flaws(body: object, session_id: str) -> Iterator[Flaw]:
    if not isinstance(body, dict):
        yield _fatal("Message not an AudioHook server message: not a JSON object")
    else:
        yield from _message_flaws(body, session_id)


def _message_flaws(body: dict[str, Any], session_id: str) -> Iterator[Flaw]:
    for name in _ENVELOPE:
        if name not in body:
            yield _fatal(f"Message not an AudioHook server message: {name} is missing")
    kind, parameters = body["type"], body["parameters"]
    if body["version"] != "2":
        yield _fatal(f"version is {_shown(body['version'])}, not '2'")
    if body["id"] != session_id:
        yield _fatal(f"id is {_shown(body['id'])}, not this session's")
    if not isinstance(kind, str) or kind not in _PARAMETERS:
        yield _fatal(f"type is {_shown(kind)}; a server sends {', '.join(_PARAMETERS)}")
    for name in ("seq", "clientseq"):
        if type(body[name]) is not int or body[name] < 0:
            yield _fatal(f"{kind}.{name} is {_shown(body[name])}, not an integer from 0")
    if not isinstance(parameters, dict):
        yield _fatal(f"{kind}.parameters is {_shown(parameters)}, not an object")
    yield from _unexpected(body, _ENVELOPE, kind)
    yield from _fields(parameters, _PARAMETERS[kind], f"{kind}.parameters")


Check = Callable[[Any, str], Iterator[Flaw]]


class _Field(NamedTuple):
    """A field of some object."""

    check: Check
    required: bool = False


def _fields(values: dict[str, Any], known: dict[str, _Field], where: str) -> Iterator[Flaw]:
    for name, field in known.items():
        if name in values:
            yield from field.check(values[name], f"{where}.{name}")
        elif field.required:
            yield _fatal(f"{where}.{name} is missing")
    yield from _unexpected(values, tuple(known), where)


def _unexpected(values: dict[str, Any], known: tuple[str, ...], where: str) -> Iterator[Flaw]:
    for name in values:
        if name not in known:
            yield Flaw(BAD_REQUEST, f"{where} has the unexpected field {name[:_SHOWN_CHARS]}", fatal=False)


def _text(value: object, where: str) -> Iterator[Flaw]:
    if not isinstance(value, str):
        yield _fatal(f"{where} is {_shown(value)}, not a string")


def _flag(value: object, where: str) -> Iterator[Flaw]:
    if not isinstance(value, bool):
        yield _fatal(f"{where} is {_shown(value)}, not a boolean")


def _duration(value: object, where: str) -> Iterator[Flaw]:
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        yield _fatal(f"{where} is {_shown(value)}, not a duration like PT1.5S")


def _share(value: object, where: str) -> Iterator[Flaw]:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        yield _fatal(f"{where} is {_shown(value)}, not a number from 0 to 1")


def _texts(value: object, where: str) -> Iterator[Flaw]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        yield _fatal(f"{where} is {_shown(value)}, not a list of strings")


def _variables(value: object, where: str) -> Iterator[Flaw]:
    if not isinstance(value, dict):
        yield _fatal(f"{where} is {_shown(value)}, not an object")
    else:
        for name, item in value.items():
            if not isinstance(item, str):
                yield _fatal(f"{where}.{name[:_SHOWN_CHARS]} is {type(item).__name__}, not a string")


def _one_of(*choices: str) -> Check:
    def check_choice(value: object, where: str) -> Iterator[Flaw]:
        if value not in choices:
            yield _fatal(f"{where} is {_shown(value)}, not one of {', '.join(choices)}")

    return check_choice


def _media(value: object, where: str) -> Iterator[Flaw]:
    for entry in _objects(value, where):
        if isinstance(entry, Flaw):
            yield entry
        else:
            yield from _media_entry(entry, where)
    if isinstance(value, list) and len(value) > 1:
        yield _fatal("More than one media selected")


def _media_entry(entry: dict[str, Any], where: str) -> Iterator[Flaw]:
    for name in entry:
        if name not in _MEDIA_FIELDS:
            yield _fatal(f"Unrecognized field {name[:_SHOWN_CHARS]} in Media model")
    for name in _MEDIA_FIELDS:
        if name not in entry:
            yield _fatal(f"{where} lacks {name}")
    yield from _text(entry["type"], f"{where}.type")
    yield from _text(entry["format"], f"{where}.format")
    yield from _texts(entry["channels"], f"{where}.channels")
    if type(entry["rate"]) is not int:
        yield _fatal(f"{where}.rate is {_shown(entry['rate'])}, not an integer")


def _entities(value: object, where: str) -> Iterator[Flaw]:
    if value == []:
        yield _fatal(f"{where} is empty, at least one entity belongs there")
    for entity in _objects(value, where):
        if isinstance(entity, Flaw):
            yield entity
        else:
            for name in ("type", "data"):
                if name not in entity:
                    yield _fatal(f"{where} holds an entity without {name}")
            yield from _unexpected(entity, ("type", "data"), where)
            yield from _entity(entity, where)


def _objects(value: object, where: str) -> Iterator[dict[str, Any] | Flaw]:
    """The objects of a list, and a flaw in place of whatever is none."""
    if not isinstance(value, list):
        yield _fatal(f"{where} is {_shown(value)}, not a list")
    else:
        yield from (
            item if isinstance(item, dict) else _fatal(f"{where} holds {_shown(item)}, not an object") for item in value
        )


def _entity(entity: dict[str, Any], where: str) -> Iterator[Flaw]:
    kind, data = entity["type"], entity["data"]
    if not isinstance(kind, str) or kind not in _ENTITIES:
        text = f"{where} holds an entity of type {_shown(kind)}; an Audio Connector takes {', '.join(_ENTITIES)}"
        yield Flaw(BAD_REQUEST, text, fatal=False)
    elif not isinstance(data, dict):
        yield _fatal(f"{where}: the data of {kind} is {_shown(data)}, not an object")
    else:
        yield from _fields(data, _ENTITIES[kind], f"{where}.{kind}.data")


def _fatal(text: str) -> Flaw:
    return Flaw(BAD_REQUEST, text, fatal=True)


def _shown(value: object) -> str:
    return repr(value)[:_SHOWN_CHARS]


_ENTITIES: dict[str, dict[str, _Field]] = {
    "barge_in": {},
    "bot_turn_response": {
        "disposition": _Field(_one_of("no_input", "no_match", "match"), required=True),
        "text": _Field(_text),
        "confidence": _Field(_share),
    },
}
"""Entities of an ``event`` that the Audio Connector knows; transcripts and agent assist belong to other products."""

_PARAMETERS: dict[str, dict[str, _Field]] = {
    "opened": {
        "media": _Field(_media, required=True),
        "startPaused": _Field(_flag),
        "discardTo": _Field(_duration),
        "supportedLanguages": _Field(_texts),
    },
    "closed": {},
    "pong": {},
    "pause": {},
    "resume": {},
    "updated": {},
    "event": {"entities": _Field(_entities, required=True)},
    "disconnect": {
        "reason": _Field(_one_of("completed", "unauthorized", "error"), required=True),
        "info": _Field(_text),
        "outputVariables": _Field(_variables),
    },
    "reconnect": {"info": _Field(_text)},
}
