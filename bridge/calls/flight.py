"""The flight recorder of one call: what came and went on both sockets, timers and decisions, within a byte bound.

It is filled within the media path and does nothing there but remember: no formatting, no parsing of the common
message. ``bridge.calls.flight_file`` makes a file of it, ``bridge.replay`` feeds that through the same code again.
Pure; one per call.

Theory of operation: every entry is a moment and a number in two preallocated arrays (a page). For most audio the number
is a kind and a size and that is all; everything else is an event, whose particulars stand in a list beside the page.
When a page is full the next one begins. The first page, with the handshake, is kept; of the others the oldest go when
the bound is reached, and what went is counted. Caller audio passes with one look-up of its message's length, because
messages of one length hold payloads of one size (to two bytes: so exact is base64, and carriers send frames); only the
first of a length is looked into.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass
from typing import Any, TypeGuard

from bridge.leg import CloseSocket, Outgoing, UpgradeRequest

PAGE_ENTRIES = 512
"""Eight seconds of a call; 6 kB."""
PAGE_TEXT_BYTES = 16 * 1024
"""A page with so much text is full as well, so that the bound can be kept by dropping pages."""
_ENTRY_BYTES = 12

MAX_TEXT_CHARS = 32 * 1024
"""Of one message; longer ones are cut, and cannot be replayed. A call's longest have a few kilobytes."""

MAX_SIZES = 256
"""Lengths of messages that are remembered; Twilio's have a dozen."""

_KIND = 1 << 24
"""More than any message has bytes (16 MiB is the agent's limit)."""
RELAYED, EVENT, CARRIER_AUDIO_IN, CARRIER_AUDIO_OUT, AGENT_AUDIO_OUT, TIMER = (kind * _KIND for kind in range(6))
"""What an entry's number is: one of these kinds, plus a size. Particulars of an ``EVENT`` stand beside the page."""

KINDS = ("relayed", "", "carrier_audio_in", "carrier_audio_out", "agent_audio_out", "timer")
"""Names of these kinds."""

CARRIERS, AGENTS, OURS = '"payload"', '"audio_base_64"', '"user_audio_chunk"'
"""Members that hold audio in JSON messages: of any carrier that speaks JSON, of the agent's side, and of ours to it."""
_LONG_CHARS = 160
"""A shorter message of ours is kept as it is: it holds less than a frame."""
_LEAST_CHARS = 40
"""A shorter payload is kept as it is: it is no frame."""
_ID_CHARS = 40
"""Text behind the audio that holds the event id as a rule."""
_BASE64 = re.compile(r"[A-Za-z0-9+/]{40}")


@dataclass(frozen=True, slots=True)
class FlightOptions:
    """The operator's settings that a recorder needs."""

    max_bytes: int = 512 * 1024
    """Memory of one call at most, texts included: some ten minutes of it; a shorter call takes less."""
    keep_audio: bool = False
    """Keep audio messages whole: for a bug that hangs on what was said. A second of a call takes some 30 kB then."""


def kind_and_size(code: int) -> tuple[str, int]:
    """Name and size of an entry that is no event."""
    kind, size = divmod(code, _KIND)
    return KINDS[kind], size


class Page:
    """Entries in the order in which they happened."""

    __slots__ = ("codes", "events", "text_bytes", "times")

    def __init__(self) -> None:
        self.times = array("d", bytes(8 * PAGE_ENTRIES))
        self.codes = array("I", bytes(4 * PAGE_ENTRIES))
        self.events: list[tuple[Any, ...]] = []
        """The particulars of the entries that are events, in their order: kind, then what belongs to it."""
        self.text_bytes = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a recorder holds at one moment; another thread may read it while the call goes on."""

    pages: tuple[tuple[list[float], list[int], list[tuple[Any, ...]]], ...]
    """Times, numbers and events of each page."""
    lost: int
    """Entries between the first page and the second that had to go."""


class Flight:
    """Takes what happens. ``now`` is seconds on a monotonic clock; what goes out belongs to the last ``now``."""

    __slots__ = (
        "_codes",
        "_events",
        "_max_bytes",
        "_next",
        "_now",
        "_pages",
        "_sizes",
        "_times",
        "entries_lost",
        "opened_s",
        "request",
    )

    def __init__(self, options: FlightOptions, request: UpgradeRequest, opened_s: float) -> None:
        """For a leg that was made for ``request`` at ``opened_s``."""
        self.request, self.opened_s = request, opened_s
        self._max_bytes = options.max_bytes
        self._pages = [Page()]
        self._next = 0
        self._now = 0.0
        self._sizes: dict[int, int] = {}  # length of an audio message -> bytes of its payload
        self._take(self._pages[0])
        self.entries_lost = 0
        """Entries that had to go."""

    # --- the media path ---

    def relayed(self, now: float, message: str | bytes) -> None:
        """Caller audio went straight to the agent. Fifty times a second and call: every line counts."""
        size = self._sizes.get(len(message))
        if size is None:
            size = self._learn(now, message)
        place = self._next
        try:
            self._times[place] = now
        except IndexError:
            self._turn_page()
            place = 0
            self._times[0] = now
        self._codes[place] = size
        self._next = place + 1

    # --- the sockets ---

    def carrier_in(self, now: float, message: str | bytes) -> None:
        """A message of the carrier's that went the long way, audio or not."""
        self._now = now
        if audio_span(message, CARRIERS) is not None:
            size = self._sizes.get(len(message))
            if size is None:
                size = self._learn(now, message)
            self._put(now, CARRIER_AUDIO_IN + size)
        else:
            self._add_text(now, "carrier_in", str(message))

    def agent_audio(self, now: float, message: str | bytes) -> None:
        """A message of the agent's that is known to be audio."""
        self._now = now
        self._add(now, ("agent_audio_in", *_agent_audio(message)))

    def agent_in(self, now: float, message: str | bytes) -> None:
        """A message of the agent's, audio or not."""
        self._now = now
        if audio_span(message, AGENTS) is not None:
            self._add(now, ("agent_audio_in", *_agent_audio(message)))
        else:
            self._add_text(now, "agent_in", str(message))

    def carrier_out(self, item: Outgoing) -> None:
        """Something goes out to the carrier."""
        if is_our_audio(item, CARRIERS):
            self._put(self._now, CARRIER_AUDIO_OUT + len(item))
        else:
            self._out("carrier", item)

    def agent_out(self, item: Outgoing) -> None:
        """Something goes out to the agent. Not called for what ``relayed`` tells."""
        if is_our_audio(item, OURS):
            self._put(self._now, AGENT_AUDIO_OUT + len(item))
        else:
            self._out("agent", item)

    # --- the rest ---

    def timer(self, now: float) -> None:
        """Time was let pass."""
        self._now = now
        self._put(now, TIMER)

    def step(self, name: str, args: dict[str, Any], now: float | None = None) -> None:
        """A decision came from outside: a method of the call's, with its arguments; some take no ``now``."""
        if now is not None:
            self._now = now
        self._add(self._now, ("step", name, args), sum(len(arg) for arg in args.values() if isinstance(arg, str)))

    def note(self, event: str, detail: str = "") -> None:
        """The call says what happened, as in its log."""
        self._add(self._now, ("note", event, detail), len(event) + len(detail))

    def adopt(self, other: Flight) -> None:
        """The call goes on over another socket, which has its own recorder so far: take over what that one heard."""
        self._sizes.clear()
        self._add(other.opened_s, ("leg", other.request))
        for times, codes, events in other.snapshot().pages:
            happened = iter(events)
            for now, code in zip(times, codes, strict=True):
                if code == EVENT:
                    event = next(happened)
                    if event[0] == "carrier_in":
                        self._add(now, ("leg_in", *event[1:]), len(event[1]))

    def snapshot(self) -> Snapshot:
        """What there is now."""
        pages = [(list(page.times), list(page.codes), list(page.events)) for page in self._pages[:-1]]
        used = self._next
        pages.append((list(self._times[:used]), list(self._codes[:used]), list(self._events)))
        return Snapshot(tuple(pages), self.entries_lost)

    # --- inside ---

    def _out(self, side: str, item: Outgoing) -> None:
        if isinstance(item, CloseSocket):
            self._add(self._now, (f"{side}_close", item.code, item.reason))
        else:
            self._add_text(self._now, f"{side}_out", str(item))

    def _add_text(self, now: float, kind: str, text: str) -> None:
        size = len(text)
        if size > MAX_TEXT_CHARS:
            text = text[:MAX_TEXT_CHARS]
        self._add(now, (kind, text, size), len(text))

    def _add(self, now: float, event: tuple[Any, ...], text_bytes: int = 0) -> None:
        self._put(now, EVENT)
        self._events.append(event)
        if text_bytes:
            page = self._pages[-1]
            page.text_bytes += text_bytes
            if page.text_bytes > PAGE_TEXT_BYTES:
                self._turn_page()

    def _put(self, now: float, code: int) -> None:
        place = self._next
        try:
            self._times[place] = now
        except IndexError:
            self._turn_page()
            place = 0
            self._times[0] = now
        self._codes[place] = code
        self._next = place + 1

    def _turn_page(self) -> None:
        """Begin another page; the oldest but the first go when there is no room."""
        pages, page = self._pages, self._pages[-1]
        del page.times[self._next :]
        del page.codes[self._next :]
        size_bytes = sum(each.text_bytes + PAGE_ENTRIES * _ENTRY_BYTES for each in pages)
        while len(pages) > 2 and size_bytes + PAGE_ENTRIES * _ENTRY_BYTES > self._max_bytes:
            gone = pages.pop(1)
            self.entries_lost += len(gone.times)
            size_bytes -= gone.text_bytes + PAGE_ENTRIES * _ENTRY_BYTES
        pages.append(Page())
        self._take(pages[-1])

    def _take(self, page: Page) -> None:
        self._times, self._codes, self._events = page.times, page.codes, page.events
        self._next = 0

    def _learn(self, now: float, message: str | bytes) -> int:
        """The payload's size in a message of a new length; of a socket's first one the form is kept as well."""
        if len(self._sizes) >= MAX_SIZES:
            self._sizes.clear()
        if isinstance(message, bytes):
            size, form = len(message), ""
        else:
            start, end = audio_span(message, CARRIERS) or (0, 0)
            size, form = _decoded_bytes(message, start, end), message[:start] + message[end:]
        if not self._sizes:
            self._add(now, ("audio_form", form[:MAX_TEXT_CHARS]), len(form))
        self._sizes[len(message)] = size = min(size, _KIND - 1)
        return size


class FlightWithAudio(Flight):
    """A recorder that keeps audio messages whole."""

    __slots__ = ()

    def relayed(self, now: float, message: str | bytes) -> None:
        """See ``Flight``."""
        self._whole(now, "relayed_whole", message, CARRIERS)

    def carrier_in(self, now: float, message: str | bytes) -> None:
        """See ``Flight``."""
        self._whole(now, "carrier_in", message, CARRIERS)

    def agent_audio(self, now: float, message: str | bytes) -> None:
        """See ``Flight``."""
        self._whole(now, "agent_in", message, AGENTS)

    def agent_in(self, now: float, message: str | bytes) -> None:
        """See ``Flight``."""
        self._whole(now, "agent_in", message, AGENTS)

    def _whole(self, now: float, kind: str, message: str | bytes, member: str) -> None:
        self._now = now
        span = audio_span(message, member)
        if span is None:
            self._add_text(now, kind, str(message))
            return
        payload = message if isinstance(message, bytes) else message[span[0] : span[1]]
        kind = {"carrier_in": "carrier_audio_in_whole", "agent_in": "agent_audio_in_whole"}.get(kind, kind)
        if member == AGENTS:
            self._add(now, (kind, payload, *_agent_audio(message)), len(payload))
            return
        size = self._sizes.get(len(message))
        if size is None:
            size = self._learn(now, message)
        self._add(now, (kind, payload, size), len(payload))


def new_flight(options: FlightOptions, request: UpgradeRequest, opened_s: float) -> Flight:
    """A recorder as the operator wants it."""
    return (FlightWithAudio if options.keep_audio else Flight)(options, request, opened_s)


def is_our_audio(item: Outgoing, member: str) -> TypeGuard[str | bytes]:
    """Whether a message that goes out is audio; where it is JSON, the audio's ``member`` stands near its begin."""
    if isinstance(item, str):
        return len(item) > _LONG_CHARS and member in item[:_LONG_CHARS]
    return isinstance(item, bytes)


def audio_span(message: str | bytes, member: str) -> tuple[int, int] | None:
    """Where the audio of a message stands; all of it where it is binary. None = it is no audio."""
    if isinstance(message, bytes):
        return 0, len(message)
    at = message.find(member)
    if at < 0:
        return None
    start = message.find('"', at + len(member)) + 1
    end = message.find('"', start)
    if end - start < _LEAST_CHARS or not _BASE64.match(message, start):
        return None
    return start, end


def _agent_audio(message: str | bytes) -> tuple[int, str]:
    """Bytes of an audio message's payload, and text with its event id, which says what an interruption makes void."""
    if isinstance(message, bytes):
        return len(message), ""
    start = message.find('"', message.find(AGENTS) + len(AGENTS)) + 1
    end = message.find('"', start)
    around = message[end : end + _ID_CHARS]
    if '"event_id"' not in around:
        at = message.rfind('"event_id"')
        around = message[at : at + _ID_CHARS] if at >= 0 else ""
    return (end - start) * 3 // 4 - message.count("=", end - 2, end), around


def _decoded_bytes(message: str, start: int, end: int) -> int:
    """Bytes that the base64 between these places stands for."""
    return (end - start) * 3 // 4 - message.count("=", max(start, end - 2), end)
