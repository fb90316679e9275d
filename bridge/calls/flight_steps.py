"""A call that tells its flight recorder everything, and the decisions from outside as a table. Pure.

A decision is a public method of ``Call`` (``STEPS``). Each is written down with its arguments before it is carried
out, and the replay calls the same method with the same arguments. To record another one: add its name to ``STEPS``;
arguments are plain values, structs and dataclasses of this package. What the call decides by itself, inside a message,
a timer or another decision, is not written down: it will decide it again.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import msgspec

from bridge.calls.call import Call
from bridge.calls.effects import Effect, Finished, Note
from bridge.calls.flight import Flight
from bridge.calls.options import CallOptions
from bridge.calls.tap import Tap
from bridge.convai.protocol import Conversation
from bridge.leg import CarrierSpec, Leg
from bridge.media.format import MediaFormat
from bridge.outcome import CATALOGUE, EndReason

STEPS = (
    "admit",
    "agent_connected",
    "agent_lost",
    "answer_tool",
    "ask_heard",
    "caller_speech",
    "carrier_lost",
    "configure",
    "fail",
    "give_results",
    "give_speech",
    "hand_on",
    "handed_over",
    "hold",
    "key_pressed",
    "let_leave",
    "line_over",
    "listen",
    "machine_verdict",
    "put_on_hold",
    "refuse",
    "remark",
    "set_agent_writable",
    "set_carrier_writable",
    "stayed",
    "take_leg",
)
"""Public methods of ``Call`` by which the outside decides."""

FINISHED = "finished"
"""Name under which the end of a call is noted."""

_SKIPPED = frozenset({"self", "leg", "now"})
"""Arguments that are not written down: a leg has entries of its own, ``now`` is the entry's time."""


class RecordedCall(Call):
    """A call that tells a flight recorder what comes in, what is decided, and what it says of itself.

    Its driver tells what only the driver sees: ``Flight.relayed``, ``carrier_out`` and ``agent_out``.
    """

    __slots__ = ("_inside", "flight")

    def __init__(
        self, leg: Leg, spec: CarrierSpec, options: CallOptions, conversation: Conversation, flight: Flight
    ) -> None:
        self.flight = flight
        self._inside = True
        super().__init__(leg, spec, options, conversation)
        self._inside = False

    def carrier_message(self, message: str | bytes, now: float) -> None:
        """See ``Call``."""
        self.flight.carrier_in(now, message)
        with _Inside(self):
            super().carrier_message(message, now)

    def relay_to_agent(self, message: str | bytes, now: float) -> str | None:
        """See ``Call``."""
        relayed = super().relay_to_agent(message, now)
        if relayed is not None:
            self.flight.carrier_in(now, message)
        return relayed

    def agent_message(self, message: str | bytes, now: float) -> None:
        """See ``Call``."""
        self.flight.agent_in(now, message)
        with _Inside(self):
            super().agent_message(message, now)

    def relay_to_caller(self, message: str | bytes, now: float) -> str | bytes | None:
        """See ``Call``."""
        relayed = super().relay_to_caller(message, now)
        if relayed is not None:
            self.flight.agent_audio(now, message)
        return relayed

    def release_audio(self, now: float) -> float | None:
        """See ``Call``; a replay handles it as the timer that it is."""
        due_s = super().release_audio(now)
        if due_s is not None:
            self.flight.timer(now)
        return due_s

    def handle_timer(self, now: float) -> None:
        """See ``Call``."""
        self.flight.timer(now)
        with _Inside(self):
            super().handle_timer(now)

    def drain(self) -> list[Effect]:
        """See ``Call``."""
        effects = super().drain()
        for effect in effects:
            if isinstance(effect, Note):
                self.flight.note(effect.event, effect.detail)
            elif isinstance(effect, Finished):
                self.flight.note(FINISHED, f"{effect.reason}: {effect.detail}")
        return effects


class _Inside:
    """While it lasts, what the call does is its own doing."""

    __slots__ = ("_before", "_call")

    def __init__(self, call: RecordedCall) -> None:
        self._call, self._before = call, call._inside

    def __enter__(self) -> None:
        self._call._inside = True

    def __exit__(self, *_: object) -> None:
        self._call._inside = self._before


def _recorded(name: str) -> Callable[..., Any]:
    method = getattr(Call, name)
    signature = inspect.signature(method)

    @functools.wraps(method)
    def decide(self: RecordedCall, *args: Any, **kwargs: Any) -> Any:
        if self._inside:
            return method(self, *args, **kwargs)
        given = signature.bind(self, *args, **kwargs).arguments
        self.flight.step(name, {key: each for key, each in given.items() if key not in _SKIPPED}, given.get("now"))
        with _Inside(self):
            return method(self, *args, **kwargs)

    return decide


for _name in STEPS:
    setattr(RecordedCall, _name, _recorded(_name))


# --- arguments as JSON has them, and back ----------------------------------------------------------------


def plain(value: Any) -> Any:
    """An argument as JSON has it. Of audio only the size is kept, of a listener that there is one."""
    if isinstance(value, EndReason):
        return value.reason
    if isinstance(value, MediaFormat):
        return value.name
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, CallOptions):
        return plain_options(value)
    if value is None or isinstance(value, bool | int | float | str | dict | list | msgspec.Struct):
        return msgspec.to_builtins(value)
    return True


def plain_options(options: Any) -> dict[str, Any]:
    """Fields of a dataclass of options; audio is left out, and of the operator's own tools where they are and how to
    get in."""
    kept = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name == "hold_audio" or (isinstance(value, str) and field.repr is False):
            continue
        kept[field.name] = msgspec.to_builtins(value, enc_hook=dict)
        for tool in kept[field.name].get("http_tools", {}).values() if isinstance(kept[field.name], dict) else ():
            tool |= {"url": "https://elided.invalid/", "headers": {}}
    return kept


def read_options(kind: type[Any], kept: dict[str, Any]) -> Any:
    """Options from what was kept of them; what is missing or not known any more has its default."""
    hints = get_type_hints(kind)
    names = {field.name for field in dataclasses.fields(kind)} - {"hold_audio"}
    return kind(
        **{name: msgspec.convert(each, hints[name], strict=False) for name, each in kept.items() if name in names}
    )


def step_arguments(name: str, kept: dict[str, Any]) -> dict[str, Any]:
    """Arguments for the method of this name. Raises ``LookupError``, ``ValueError`` or ``msgspec.ValidationError``."""
    if name not in STEPS:
        raise LookupError(f"there is no decision {name[:40]!r}")
    method = getattr(Call, name)
    hints = get_type_hints(method)
    return {key: _read(each, hints[key]) for key, each in kept.items()}


def takes_now(name: str) -> bool:
    """Whether this decision is told the time."""
    return "now" in inspect.signature(getattr(Call, name)).parameters


def _read(kept: Any, hint: Any) -> Any:
    if hint is EndReason:
        return CATALOGUE[kept]
    if hint is MediaFormat:
        return MediaFormat.parse(kept)
    if hint is CallOptions:
        return read_options(CallOptions, kept)
    if hint == bytes | None:
        return None if kept is None else bytes(kept)
    if hint == Tap | None:
        return Deaf() if kept else None
    return msgspec.convert(kept, hint, strict=False)


class Deaf:
    """A listener that hears nothing: it makes audio take the way that it takes when somebody listens."""

    def caller(self, payload: bytes, now: float) -> None:
        """See ``Tap``."""

    def agent(self, payload: bytes, now: float) -> None:
        """See ``Tap``."""

    def flush(self, now: float) -> None:
        """See ``Tap``."""
