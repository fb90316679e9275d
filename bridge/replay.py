"""A flight record fed through the same code again: leg, call and conversation, with the recorded clock.

What goes in is what was recorded: messages, timers, decisions. What comes out is compared with what was recorded:
messages to both sides, and what the call said of itself. So a call that went wrong in the field can be looked at, and
becomes a test. Pure: no socket, no clock, and nothing is asked of anybody.

Audio that was not kept is replaced by silence of the same size; only code that listens to it can then differ. Behind a
gap in the record nothing is compared any more, because nobody knows what the call had become; it is fed all the same.

Source of the format: ``bridge.calls.flight_file``. A new kind of entry is one line in ``_FEED`` or ``_OUT``; a new
decision is one name in ``bridge.calls.flight_steps.STEPS``.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bridge.calls.call import Call
from bridge.calls.carriers import ALL_CARRIERS
from bridge.calls.effects import Finished, Note
from bridge.calls.flight import CARRIERS, OURS, is_our_audio
from bridge.calls.flight_file import Entry, FlightFileError, FlightLog, FlightRequest
from bridge.calls.flight_privacy import is_blanked
from bridge.calls.flight_steps import FINISHED, read_options, step_arguments, takes_now
from bridge.calls.options import CallOptions
from bridge.calls.state import State
from bridge.convai.protocol import Conversation, ConversationOptions
from bridge.leg import CloseSocket, Leg, LegOptions, Outgoing, UpgradeRequest
from bridge.media.format import ULAW_8K
from bridge.outcome import BUG

CARRIER, AGENT, NOTE = "carrier", "agent", "note"
"""What is compared: what went to either side, and what the call said of itself."""

_OUT = {
    "carrier_out": CARRIER,
    "carrier_audio_out": CARRIER,
    "carrier_close": CARRIER,
    "agent_out": AGENT,
    "agent_audio_out": AGENT,
    "agent_close": AGENT,
    "note": NOTE,
}
"""Kinds of entries that came out, and the stream they belong to."""


@dataclass(frozen=True, slots=True)
class Out:
    """Something that came out."""

    t: float
    kind: str
    text: str = ""
    size: int = 0
    code: int = 0
    name: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "note":
                return f"{self.name}: {self.text}" if self.text else self.name
            case "carrier_close" | "agent_close":
                return f"close {self.code}"
            case "carrier_audio_out" | "agent_audio_out":
                return f"audio, a message of {self.size} characters"
            case _:
                return self.text[:200]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place at which record and replay part, in one stream."""

    at_s: float
    """Seconds since the socket was opened."""
    stream: str
    """``carrier``, ``agent``, ``note``, or ``code`` when it raised."""
    recorded: str
    """Empty = nothing."""
    replayed: str


@dataclass(slots=True)
class ReplayResult:
    """What came of it."""

    log: FlightLog
    differences: list[Difference] = field(default_factory=list)
    """At most one of each stream."""
    events: list[Out] = field(default_factory=list)
    """All that came out of the replay."""
    history: list[tuple[float, State]] = field(default_factory=list)
    """When the call came into which state."""
    compared_until_s: float | None = None
    """Where a gap, or a message that was not kept whole, ended the comparison; None = nowhere."""
    crash: str = ""
    """The exception that the recorded call died of, met again."""

    @property
    def is_same(self) -> bool:
        """Whether all that was compared is the same."""
        return not self.differences


def replay(log: FlightLog) -> ReplayResult:
    """Feed a record through the code. Raises ``FlightFileError`` for what this version cannot feed."""
    return _Replayer(log).run()


class _Replayer:
    """One replay."""

    def __init__(self, log: FlightLog) -> None:
        header = log.header
        spec = ALL_CARRIERS.get(header.provider)
        if spec is None:
            raise FlightFileError(f"the record is of carrier {header.provider[:40]!r}, which this bridge does not know")
        self.result = ReplayResult(log)
        self._spec = spec
        self._header = header
        try:
            self._leg_options = LegOptions(**header.leg)
            conversation = Conversation(ConversationOptions(**header.conversation))
            options = read_options(CallOptions, header.call)
        except (TypeError, ValueError, msgspec.ValidationError) as error:
            raise FlightFileError(f"the record's options cannot be read: {str(error)[:200]}") from None
        self._leg = self._new_leg(header.request, header.opened_s)
        self._next_leg: Leg | None = None
        self.call = Call(self._leg, spec, options, conversation)
        self._form = ("", "")
        self._shift_s = 0.0  # gaps so far: time that the replay leaves out
        self._last_s = header.opened_s
        self._comparing = True
        self._recorded: dict[str, deque[Out]] = {CARRIER: deque(), AGENT: deque(), NOTE: deque()}
        self._replayed: dict[str, deque[Out]] = {CARRIER: deque(), AGENT: deque(), NOTE: deque()}
        self._parted: set[str] = set()
        self._crash_s: float | None = None
        self._feed: dict[str, Callable[[Entry, float], None]] = {
            "relayed": self._caller_audio,
            "carrier_audio_in": self._caller_audio,
            "carrier_in": lambda entry, now: self._from_carrier(entry.text, now),
            "agent_in": lambda entry, now: self._from_agent(entry.text, now),
            "agent_audio_in": self._agent_audio,
            "timer": lambda entry, now: self.call.handle_timer(now),
            "step": self._step,
            "audio_form": self._take_form,
            "leg": self._open_leg,
            "leg_in": self._feed_leg,
        }

    def run(self) -> ReplayResult:
        """All of it."""
        for entry in self.result.log.entries:
            if entry.k in _OUT:
                self._record(entry)
            elif entry.k == "gap":
                self._stop_comparing(entry.t)
                self._shift_s += max(0.0, entry.t - self._last_s)
            elif entry.cut:
                self._stop_comparing(entry.t)
            else:
                self._one(entry)
            self._last_s = entry.t
        for stream in _OUT.values():
            self._compare(stream, at_the_end=True)
        if self._crash_s is not None and self._comparing:
            self._part(Difference(self._since(self._crash_s), "code", "", self.result.crash))
        self.result.history = list(self.call.history)
        return self.result

    def _one(self, entry: Entry) -> None:
        """One thing that happened: do it again, and look at what comes out."""
        act, now = self._feed.get(entry.k), entry.t - self._shift_s
        if act is None:
            raise FlightFileError(f"the record has an entry {entry.k[:40]!r}, which this bridge does not know")
        if entry.k == "step" and entry.args.get("reason") == BUG.reason and self.result.crash:
            self._crash_s = None  # the recorded call died of it as well
        try:
            act(entry, now)
            self._drain(now)
        except FlightFileError:
            raise
        except Exception as error:  # a bug is what one replays for
            if not self.result.crash:
                self.result.crash, self._crash_s = f"{type(error).__name__}: {error}", entry.t
        for stream in (CARRIER, AGENT, NOTE):
            self._compare(stream)

    # --- in ---

    def _caller_audio(self, entry: Entry, now: float) -> None:
        self._from_carrier(self._audio_message(entry), now)

    def _audio_message(self, entry: Entry) -> str | bytes:
        head, tail = self._form
        payload = _kept(entry)
        if payload is None:
            downlink = self.call.downlink
            payload = (ULAW_8K if downlink is None else downlink.media).silence(entry.size).ljust(entry.size, b"\0")
        return head + base64.b64encode(payload).decode() + tail if head else payload

    def _from_carrier(self, message: str | bytes, now: float) -> None:
        """As the driver does it."""
        relayed = self.call.leg.relay(message, now)
        if relayed is None:
            relayed = self.call.relay_to_agent(message, now)
        if relayed is None:
            self.call.carrier_message(message, now)

    def _agent_audio(self, entry: Entry, now: float) -> None:
        payload = _kept(entry)
        if payload is None:
            formats = self.call.agent_formats
            payload = (ULAW_8K if formats is None else formats[1]).silence(entry.size).ljust(entry.size, b"\0")
        body: dict[str, Any] = {"audio_base_64": base64.b64encode(payload).decode()}
        if entry.id is not None:
            body["event_id"] = entry.id
        self._from_agent(msgspec.json.encode({"type": "audio", "audio_event": body}).decode(), now)

    def _from_agent(self, message: str, now: float) -> None:
        """As the driver does it."""
        relayed = self.call.relay_to_caller(message, now)
        if relayed is None:
            self.call.agent_message(message, now)
        elif relayed:
            self._came(CARRIER, _out(relayed, CARRIER, now))

    def _step(self, entry: Entry, now: float) -> None:
        try:
            given = step_arguments(entry.name, entry.args)
        except (LookupError, ValueError, msgspec.ValidationError) as error:
            raise FlightFileError(f"the decision {entry.name[:40]!r} cannot be read: {str(error)[:200]}") from None
        if entry.name == "take_leg":
            if self._next_leg is None:
                raise FlightFileError("the call goes on over a leg of which the record has nothing")
            given["leg"], self._next_leg = self._next_leg, None
        if takes_now(entry.name):
            given["now"] = now
        getattr(self.call, entry.name)(**given)

    def _take_form(self, entry: Entry, now: float) -> None:
        """What the carrier's audio messages look like."""
        at = entry.text.find(CARRIERS)
        place = entry.text.find('"', at + len(CARRIERS)) + 1
        self._form = (entry.text[:place], entry.text[place:]) if at >= 0 else ("", "")

    def _open_leg(self, entry: Entry, now: float) -> None:
        if entry.request is not None:
            self._next_leg = self._new_leg(entry.request, now)

    def _feed_leg(self, entry: Entry, now: float) -> None:
        if self._next_leg is not None:
            self._next_leg.receive(entry.text, now)

    def _new_leg(self, request: FlightRequest, now: float) -> Leg:
        return self._spec.new_leg(
            self._leg_options, UpgradeRequest(request.raw_path, request.headers, request.path_values), now
        )

    # --- out ---

    def _drain(self, now: float) -> None:
        for item in self.call.leg.drain():
            self._came(CARRIER, _out(item, CARRIER, now))
        for message in self.call.conversation.drain():
            self._came(AGENT, _out(message, AGENT, now))
        for effect in self.call.drain():
            if isinstance(effect, Note):
                self._came(NOTE, Out(now, "note", effect.detail, name=effect.event))
            elif isinstance(effect, Finished):
                self._came(NOTE, Out(now, "note", f"{effect.reason}: {effect.detail}", name=FINISHED))

    def _came(self, stream: str, out: Out) -> None:
        self.result.events.append(out)
        if self._comparing:
            self._replayed[stream].append(out)

    def _record(self, entry: Entry) -> None:
        if self._comparing:
            out = Out(entry.t, entry.k, entry.text, entry.size, entry.code, entry.name)
            self._recorded[_OUT[entry.k]].append(out)
            self._compare(_OUT[entry.k])

    def _stop_comparing(self, at_s: float) -> None:
        if self._comparing:
            self._comparing = False
            self.result.compared_until_s = self._since(at_s)

    def _compare(self, stream: str, *, at_the_end: bool = False) -> None:
        """Compare what both have by now. What only one of them has is a difference at the end, not before: the driver
        may have written later than the replay does."""
        recorded, replayed = self._recorded[stream], self._replayed[stream]
        while recorded and replayed and stream not in self._parted:
            was, came = recorded.popleft(), replayed.popleft()
            if not _is_same(was, came):
                self._part(Difference(self._since(was.t), stream, str(was), str(came)))
        if at_the_end and self._comparing and stream not in self._parted and (recorded or replayed):
            first = (recorded or replayed)[0]
            words = (str(first), "") if recorded else ("", str(first))
            self._part(Difference(self._since(first.t), stream, *words))

    def _part(self, difference: Difference) -> None:
        self._parted.add(difference.stream)
        self.result.differences.append(difference)
        self.result.differences.sort(key=lambda each: each.at_s)

    def _since(self, t: float) -> float:
        return round(t - self._header.opened_s, 6)


def _kept(entry: Entry) -> bytes | None:
    """The payload, where audio was kept."""
    if not entry.audio:
        return None
    try:
        return base64.b64decode(entry.audio, validate=True)
    except (binascii.Error, ValueError):
        raise FlightFileError("the audio of an entry is not base64") from None


_AUDIO_MEMBERS = {CARRIER: CARRIERS, AGENT: OURS}


def _out(item: Outgoing, stream: str, now: float) -> Out:
    """What the driver would have written."""
    if isinstance(item, CloseSocket):
        return Out(now, f"{stream}_close", item.reason, code=item.code)
    if is_our_audio(item, _AUDIO_MEMBERS[stream]):
        return Out(now, f"{stream}_audio_out", size=len(item))
    return Out(now, f"{stream}_out", str(item))


def _is_same(was: Out, came: Out) -> bool:
    if (was.kind, was.size, was.code, was.name) != (came.kind, came.size, came.code, came.name):
        return False
    if was.text == came.text:
        return True
    try:
        return _matches(msgspec.json.decode(was.text), msgspec.json.decode(came.text))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return is_blanked(was.text)


def _matches(was: Any, came: Any) -> bool:
    """The same JSON, but for what was taken out of the record."""
    if isinstance(was, dict) and isinstance(came, dict):
        return was.keys() == came.keys() and all(_matches(each, came[name]) for name, each in was.items())
    if isinstance(was, list) and isinstance(came, list):
        return len(was) == len(came) and all(map(_matches, was, came))
    return bool(was == came) or (isinstance(was, str) and is_blanked(was))
