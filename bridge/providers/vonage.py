"""Vonage Voice API, WebSocket endpoint (and the Video API's Audio Connector): the leg, server side, sans-I/O.

Sources: Vonage "WebSockets in the Vonage Voice API", "Play audio into a WebSocket", read 2026-11-21; what public
servers of it report.

Theory of operation: Vonage connects and sends ``websocket:connected`` with the audio's rate and the headers of our
NCCO: the leg offers the call. From then on audio goes both ways as binary messages, L16 little-endian mono, of exactly
20 ms. Vonage stops listening at the first message of another size, so what is played is cut and padded here.
Its buffer holds 3072 messages (60 s); ``bridge.media.playout`` keeps it at ``LEAD_MS``. What came of another size from
Vonage is put together again to frames of 20 ms; it is less than one frame that waits for the rest.

Marks are ``notify`` messages, which come back once played. ``clear`` empties the buffer and is confirmed by
``websocket:cleared``; whether marks before it still come back is not documented, so the confirmation stands for them,
and a mark counts once. Three things can end the call, in any order and more than once: the socket (the Voice API says
no more than that), ``websocket:disconnected`` of the Video API, and our own ``Hangup``; the first one counts. Vonage
asks the NCCO's ``eventUrl`` what to do when we close, which is how we hang up.

States (``State``): WAITING --websocket:connected--> OFFERED --Accept--> LIVE; any --close, Hangup, garbage--> OVER.

What is taken amiss: text that is no JSON object, audio before ``websocket:connected``, a second one, a rate that there
is not. What is not, because a caller is on the line: unknown events, known ones that cannot be read, JSON sent as
binary, audio of another size. Those are counted.
"""

from __future__ import annotations

import enum
import math
from typing import assert_never

from pybase64 import b64encode_as_string

from bridge import events, outcome
from bridge.errors import LocalError, RemoteError
from bridge.events import Audio, Command, Ended, Event, Offered
from bridge.leg import CarrierSpec, CloseSocket, LegOptions, Outgoing, ToneWay, TransferKind, UpgradeRequest
from bridge.media.format import FRAME_MS, Encoding, MediaFormat
from bridge.outcome import EndReason
from bridge.providers import vonage_messages as wire
from bridge.providers.vonage_call import PARAM_PEER, VIDEO_CONNECTION_HEADER, call_info
from bridge.providers.vonage_upgrade import UpgradeVerifier

NAME = "vonage"

MAX_MESSAGE_BYTES = 64 * 1024
"""Vonage's largest audio message has 960 bytes, its largest text a few kilobytes."""

BURST_MS = 60
"""Three messages at once at the beginning of an answer, then one every 10 ms until the lead is there: whoever looks at
the arrival of messages sees no gap behind a burst."""

LEAD_MS = 400
"""Audio sent ahead of Vonage's playing clock: outlasts a stall of ours, a hundred times less than its buffer holds, and
a ``clear`` that is lost or late leaves at most this much of the old answer."""

CHUNK_MS = FRAME_MS
"""One message is one frame, so there is nothing to gain from sending several at once."""

MAX_MARKS = 64
"""Marks that may be out. One a talkspurt is set, so these are minutes without a word of Vonage's about any."""

_CLEAN_CLOSES = (1000, 1001, 1005)
"""Closes with a close frame."""
CLOSE_NOT_TEXT, CLOSE_TOO_BIG = 1007, 1009
"""RFC 6455, 7.4.1: the driver's transport refused a message for its encoding, or its size."""

_NO_SIZE = -1
"""No message has this size."""
_NOTHING: list[Event] = []


class State(enum.Enum):
    """Where the socket stands."""

    WAITING = "waiting"
    """The socket is open; no ``websocket:connected`` yet."""
    OFFERED = "offered"
    """It was read; the call has not decided yet."""
    LIVE = "live"
    """Accepted: audio may go both ways."""
    OVER = "over"
    """Ended; whatever still comes is ignored."""


_LIVE = State.LIVE
"""For the media path: looking a member up in its enum costs as much as a method call in Python 3.11."""


class VonageLeg:
    """One media socket. See ``bridge.leg.Leg`` for the contract."""

    __slots__ = (
        "_clear",
        "_clears_confirmed",
        "_clears_sent",
        "_fast_bytes",
        "_frame_bytes",
        "_held",
        "_last_message_s",
        "_marks",
        "_media",
        "_opened_s",
        "_options",
        "_out",
        "_relay_head",
        "_relay_sizes",
        "_relay_tail",
        "_request",
        "malformed_events",
        "misplaced_texts",
        "odd_sizes",
        "position",
        "last_payload",
        "relayed",
        "state",
        "unknown_events",
    )

    def __init__(self, options: LegOptions, request: UpgradeRequest, now: float) -> None:
        self._options = options
        self._request = request
        self._opened_s = now
        self._last_message_s = now
        self.state = State.WAITING
        self._out: list[Outgoing] = []
        self._media: MediaFormat | None = None
        self._frame_bytes = 0  # of 20 ms, once the format is known
        self._fast_bytes = _NO_SIZE  # of a message that is a frame as it stands: ``_frame_bytes`` while nothing is held
        self._held = b""  # the end of a message of another size: less than a frame
        self._marks: dict[str, int] = {}  # marks that are out -> ``_clears_sent`` when they were set
        self._clears_sent = self._clears_confirmed = 0
        self._clear = wire.VIDEO_CLEAR if VIDEO_CONNECTION_HEADER in request.headers else wire.CLEAR
        self._relay_head = self._relay_tail = ""
        self._relay_sizes = range(0)
        self.relayed = 0
        self.last_payload = b""
        self.position = 0
        """Samples of the caller's audio so far."""
        self.odd_sizes = 0
        """Audio messages of another size than 20 ms."""
        self.misplaced_texts = 0
        """JSON sent as binary; ignored."""
        self.unknown_events = 0
        """Events that this version does not know, and JSON without one; ignored."""
        self.malformed_events = 0
        """Known events that cannot be read; ignored."""

    # --- from Vonage ---

    def receive(self, message: str | bytes, now: float) -> list[Event]:
        """Feed one message; see ``Leg.receive``."""
        if self.state is State.OVER:
            return _NOTHING
        self._last_message_s = now
        if isinstance(message, bytes):
            return self._on_binary(message)
        try:
            return self._on_text(wire.decode(message))
        except RemoteError as error:
            return self._fail(outcome.BAD_MESSAGE, str(error))
        except wire.Malformed:
            self.malformed_events += 1
            return _NOTHING

    def set_relay(self, head: str, tail: str, sizes: range) -> None:
        """See ``Leg.set_relay``."""
        self._relay_head, self._relay_tail, self._relay_sizes = head, tail, sizes

    def relay(self, message: str | bytes, now: float) -> str | None:
        """The shortest cut; see ``Leg.relay``. Every line of it counts."""
        if type(message) is bytes:
            size = len(message)
            if size == self._fast_bytes and size in self._relay_sizes:
                self._last_message_s = now
                self.position += size >> 1
                self.relayed += 1
                self.last_payload = message
                return self._relay_head + b64encode_as_string(message) + self._relay_tail
        return None

    def read_audio(self, message: str | bytes, now: float) -> bytes | None:
        """The short cut of ``receive``; see ``Leg.read_audio``."""
        if type(message) is not bytes or len(message) != self._fast_bytes:
            return None
        self._last_message_s = now
        self.position += len(message) >> 1
        return message

    def audio_message(self, payload: bytes) -> bytes | None:
        """The short cut of ``send``; see ``Leg.audio_message``. Taken for one frame, which is one message."""
        return payload if self.state is _LIVE and len(payload) == self._frame_bytes else None

    def connection_lost(self, code: int, now: float) -> list[Event]:
        """Say that the socket is gone; see ``Leg.connection_lost``."""
        if self.state is State.OVER:
            return _NOTHING
        if code == CLOSE_NOT_TEXT:
            return self._end(outcome.BAD_MESSAGE, "a text message that is not UTF-8")
        if code == CLOSE_TOO_BIG:
            return self._end(outcome.MESSAGE_TOO_BIG, f"a message over {MAX_MESSAGE_BYTES} bytes")
        if self.state is State.WAITING:
            return self._end(outcome.NO_START, f"close {code} before {wire.CONNECTED}")
        return self._end(outcome.CALLER_HANGUP if code in _CLEAN_CLOSES else outcome.CARRIER_LOST, f"close {code}")

    # --- from the call ---

    def send(self, command: Command, now: float) -> None:
        """Carry out a command; see ``Leg.send``."""
        if self.state is State.OVER:
            return
        match command:
            case events.Play(payload):
                self._require_live(command)
                self._play(payload)
            case events.Mark(name):
                self._require_live(command)
                self._mark(name)
            case events.Flush():
                self._require_live(command)
                self._clears_sent += 1
                self._out.append(self._clear)
            case events.Accept(media):
                if self.state is not State.OFFERED or media != self._media:
                    raise LocalError(f"Accept({media.name}) in state {self.state.value}; offered was {self._media}")
                self.state = State.LIVE
            case events.Reject(reason) | events.Hangup(reason):
                self._close(reason)
            case events.SendDtmf() | events.Transfer() | events.Answer():
                raise LocalError(f"a media socket cannot carry {type(command).__name__}; it needs Vonage's REST API")
            case _:
                assert_never(command)

    def drain(self) -> list[Outgoing]:
        """Take what must go out; see ``Leg.drain``."""
        out, self._out = self._out, []
        return out

    # --- time ---

    def next_timer(self) -> float:
        """See ``Leg.next_timer``."""
        if self.state is State.OVER:
            return math.inf
        if self.state is State.WAITING:
            return self._opened_s + self._options.start_timeout_s
        return self._last_message_s + self._options.silence_timeout_s

    def lingering(self) -> bool:
        """See ``Leg.lingering``: Vonage is told by the close itself."""
        return False

    def handle_timer(self, now: float) -> list[Event]:
        """Let time pass; see ``Leg.handle_timer``. Vonage sends audio all the time, silence too."""
        if now < self.next_timer():
            return _NOTHING
        if self.state is State.WAITING:
            return self._fail(outcome.NO_START, f"no {wire.CONNECTED} in {self._options.start_timeout_s:g} s")
        return self._fail(outcome.CARRIER_SILENT, f"nothing for {self._options.silence_timeout_s:g} s")

    # --- inside: what comes ---

    def _on_binary(self, message: bytes) -> list[Event]:
        if self._media is None:
            return self._fail(outcome.BAD_MESSAGE, f"binary message before {wire.CONNECTED}")
        if len(message) != self._frame_bytes:
            if message.startswith(b"{") and message.endswith(b"}"):  # sound so rarely begins and ends like that
                self.misplaced_texts += 1
                return _NOTHING
            self.odd_sizes += 1
        payload, position = self._reframed(message), self.position
        self.position += len(payload) >> 1
        return [Audio(payload, position)] if payload else _NOTHING

    def _reframed(self, message: bytes) -> bytes:
        """All whole frames there are now. A message of the right size says that the stream is in step again."""
        if len(message) == self._frame_bytes:
            payload = self._held[: len(self._held) & ~1] + message
            self._held = b""
        else:
            stream = self._held + message
            whole_bytes = len(stream) - len(stream) % self._frame_bytes
            payload, self._held = stream[:whole_bytes], stream[whole_bytes:]
        self._fast_bytes = _NO_SIZE if self._held else self._frame_bytes
        return payload

    def _on_text(self, message: wire.FromVonage) -> list[Event]:
        match message:
            case wire.Connected():
                return self._on_connected(message)
            case wire.Gone(name):
                return self._fail(outcome.NO_START if self._media is None else outcome.CALLER_HANGUP, name)
            case wire.Unknown():
                self.unknown_events += 1
                return _NOTHING
            case wire.Dtmf(digit, duration_ms):
                return [events.Dtmf(digit, duration_ms)] if self._media is not None else self._early("websocket:dtmf")
            case wire.Notified(mark):
                return self._reached([mark] if mark in self._marks else [])
            case wire.Cleared():
                self._clears_confirmed = min(self._clears_confirmed + 1, self._clears_sent)
                return self._reached([mark for mark, clear in self._marks.items() if clear < self._clears_confirmed])
            case _:
                assert_never(message)

    def _early(self, name: str) -> list[Event]:
        return self._fail(outcome.BAD_MESSAGE, f"{name} before {wire.CONNECTED}")

    def _reached(self, marks: list[str]) -> list[Event]:
        for mark in marks:
            del self._marks[mark]
        return [events.PlaybackReached(mark) for mark in marks]

    def _on_connected(self, connected: wire.Connected) -> list[Event]:
        if self.state is not State.WAITING:
            return self._fail(outcome.BAD_MESSAGE, f"{wire.CONNECTED} a second time")
        try:
            media = MediaFormat(Encoding.L16, wire.rate_of(connected.content_type))
        except ValueError as error:
            return self._fail(outcome.UNSUPPORTED_MEDIA, f"{wire.CONNECTED}: content-type: {error}")
        info = call_info(NAME, connected, self._request)  # RemoteError: see ``receive``
        self.state = State.OFFERED
        self._media = media
        self._frame_bytes = self._fast_bytes = media.size_bytes(FRAME_MS)
        return [Offered(info, (media,))]

    # --- inside: what goes ---

    def _play(self, payload: bytes) -> None:
        """Whole frames, one a message; a tail is filled up with silence, because Vonage takes no short message."""
        size = self._frame_bytes
        for start in range(0, len(payload), size):
            self._out.append(payload[start : start + size].ljust(size, b"\0"))

    def _mark(self, name: str) -> None:
        while len(self._marks) >= MAX_MARKS:
            del self._marks[next(iter(self._marks))]
        self._marks[name] = self._clears_sent
        self._out.append(wire.notify(name))

    # --- inside: ends ---

    def _require_live(self, command: Command) -> None:
        if self.state is not State.LIVE:
            raise LocalError(f"{type(command).__name__} in state {self.state.value}; Accept comes first")

    def _fail(self, reason: EndReason, detail: str) -> list[Event]:
        """End because of what Vonage did, or did not do: there is no error reply, closing says it."""
        self._close(reason)
        return [Ended(reason, detail)]

    def _close(self, reason: EndReason) -> None:
        self._end(reason, "")
        self._out.append(CloseSocket(1000, reason.reason))

    def _end(self, reason: EndReason, detail: str) -> list[Event]:
        self.state = State.OVER
        self._fast_bytes = _NO_SIZE
        self._held = b""
        self._marks.clear()
        return [Ended(reason, detail)]


SPEC = CarrierSpec(
    name=NAME,
    media_paths=("/vonage/media",),
    new_leg=VonageLeg,
    authenticate_upgrade=UpgradeVerifier(),
    needs_token=True,
    token_waived_by=PARAM_PEER,
    lead_ms=LEAD_MS,
    chunk_ms=CHUNK_MS,
    burst_ms=BURST_MS,
    max_message_bytes=MAX_MESSAGE_BYTES,
    refusal_status=401,
    transfers=frozenset({TransferKind.BLIND, TransferKind.WARM}),
    tones=ToneWay.CONTROL,
)
