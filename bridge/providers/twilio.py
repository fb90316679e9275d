"""Twilio Media Streams, bidirectional (``<Connect><Stream>``): the leg, server side, sans-I/O.

Source: Twilio "Media Streams - WebSocket messages", "TwiML Stream", error pages 31920-31951, read 2026-11-21.

Theory of operation: ``connected`` -> ``start`` -> (``media`` | ``dtmf`` | ``mark``)* -> ``stop`` -> close. The
leg offers the call at ``start`` and gives caller audio at once, accepted or not: Twilio drops audio of slow
readers (31930), so it is the call's job to hold it while the agent connects. Three things can end it, in any
order and more than once: ``stop``, the socket, and our own ``Hangup``; the first one counts. Twilio takes a
closed socket as the end of ``<Connect>`` and goes on with the next verb, which is how we hang up.

States (``State``): WAITING --start--> OFFERED --Accept--> LIVE; any --stop, close, Hangup, garbage--> OVER.
"""

from __future__ import annotations

import enum
import math
from typing import assert_never

from pybase64 import b64encode_as_string

from bridge import events, outcome
from bridge.auth import twilio as signature
from bridge.errors import LocalError, RemoteError
from bridge.events import Audio, CallInfo, Command, Ended, Event, Offered
from bridge.leg import (
    AuthContext,
    CarrierSpec,
    CloseSocket,
    LegOptions,
    Outgoing,
    ToneWay,
    TransferKind,
    UpgradeRequest,
)
from bridge.media.format import Encoding, MediaFormat
from bridge.media.frames import Reframer
from bridge.outcome import EndReason
from bridge.providers import twilio_messages as wire
from bridge.providers.twilio_messages import DECODE_ERRORS, Media, decode_fast

NAME = "twilio"

MAX_MESSAGE_BYTES = 64 * 1024
"""Twilio's largest message is a ``start`` with many parameters of 500 characters, a few kilobytes."""

LEAD_MS = 400
"""Audio sent ahead of Twilio's playing clock: outlasts a stall of ours, and a ``clear`` that is lost or late
leaves at most this much of the old answer."""

CHUNK_MS = 100
"""Twilio takes any size: 100 ms a message when there is plenty costs a fifth of sending 20 ms frames."""

PARAM_TOKEN, PARAM_CALLER, PARAM_CALLED = "token", "caller", "called"
"""Our own ``<Parameter>`` names; everything else in customParameters is the operator's."""

_ENCODINGS = {
    "audio/x-mulaw": Encoding.ULAW,
    "audio/x-alaw": Encoding.ALAW,
    # Believed, not proven: no public page shows an L16 stream yet; the SDK (9.12.0) has the attributes for it.
    "audio/x-l16": Encoding.L16,
    "audio/l16": Encoding.L16,
}

_CLEAN_CLOSES = (1000, 1001, 1005)
"""Closes with a close frame. Twilio was seen to close with 1000 and 1005 after a hang-up."""

CLOSE_NOT_TEXT, CLOSE_TOO_BIG = 1007, 1009
"""RFC 6455, 7.4.1: the driver's transport refused a message for its encoding, or its size."""

_NOTHING: list[Event] = []


class State(enum.Enum):
    """Where the stream stands."""

    WAITING = "waiting"
    """The socket is open; no ``start`` yet."""
    OFFERED = "offered"
    """``start`` was read; the call has not decided yet."""
    LIVE = "live"
    """Accepted: audio may go both ways."""
    OVER = "over"
    """Ended; whatever still comes is ignored."""


_OVER, _LIVE = State.OVER, State.LIVE
"""For the media path: looking a member up in its enum costs as much as a method call in Python 3.11."""


class TwilioLeg:
    """One Media Streams socket. See ``bridge.leg.Leg`` for the contract."""

    __slots__ = (
        "_aligner",
        "_encoder",
        "_last_message_s",
        "_media",
        "_opened_s",
        "_relay_head",
        "_relay_sizes",
        "_relay_tail",
        "_options",
        "_out",
        "_samples_per_ms",
        "_stream_sid",
        "last_payload",
        "relayed",
        "state",
        "unknown_events",
    )

    def __init__(self, options: LegOptions, request: UpgradeRequest, now: float) -> None:
        self._options = options
        self._opened_s = now
        self.state = State.WAITING
        self._out: list[Outgoing] = []
        self._encoder = wire.Encoder("")  # replaced at ``start``
        self._stream_sid: str | None = None  # None before ``start`` and after the end, so that no audio fits it
        self._media: MediaFormat | None = None
        self._aligner: Reframer | None = None  # for formats of more than one byte a sample
        self._samples_per_ms = 0  # of ``_media``
        self._last_message_s = now
        self._relay_head = self._relay_tail = ""
        self._relay_sizes = range(0)
        self.relayed = 0
        self.last_payload = b""
        self.unknown_events = 0
        """Messages of events that this version does not know; ignored."""

    # --- from Twilio ---

    def receive(self, message: str | bytes, now: float) -> list[Event]:
        """Feed one message; see ``Leg.receive``."""
        self._last_message_s = now
        if isinstance(message, bytes):
            return self._fail(outcome.BAD_MESSAGE, "binary message; Media Streams are JSON text")
        try:
            decoded = decode_fast(message)
        except DECODE_ERRORS:
            return self._on_undecodable(message)
        if type(decoded) is not Media:
            return self._on_message(decoded)
        if decoded.streamSid != self._stream_sid:
            return self._on_misplaced_media()
        body = decoded.media
        if body.track != "inbound" or not body.payload:
            return _NOTHING
        payload = body.payload
        if self._aligner is not None:  # half a sample at a message's end waits for its other half
            payload = self._aligner.push(payload)
            if self._aligner.pending_bytes:
                self._relay_sizes = range(0)  # the call sets it again after audio that came this way
        return [Audio(payload, _number(body.timestamp) * self._samples_per_ms)] if payload else _NOTHING

    def set_relay(self, head: str, tail: str, sizes: range) -> None:
        """See ``Leg.set_relay``."""
        if self._aligner is not None:  # whole samples only, and none while half of one waits
            sizes = range(0) if self._aligner.pending_bytes else range(sizes.start + sizes.start % 2, sizes.stop, 2)
        self._relay_head, self._relay_tail, self._relay_sizes = head, tail, sizes

    def relay(self, message: str | bytes, now: float) -> str | None:
        """The shortest cut; see ``Leg.relay``. Every line of it counts."""
        if isinstance(message, bytes):
            return None
        try:
            decoded = decode_fast(message)
        except DECODE_ERRORS:
            return None
        if type(decoded) is Media and decoded.streamSid == self._stream_sid:
            body = decoded.media
            payload = body.payload
            if len(payload) in self._relay_sizes and body.track == "inbound":
                self._last_message_s = now
                self.relayed += 1
                self.last_payload = payload
                return self._relay_head + b64encode_as_string(payload) + self._relay_tail
        return None

    def read_audio(self, message: str | bytes, now: float) -> bytes | None:
        """The short cut of ``receive``; see ``Leg.read_audio``."""
        if isinstance(message, bytes):
            return None
        try:
            decoded = decode_fast(message)
        except DECODE_ERRORS:
            return None
        if type(decoded) is Media and decoded.streamSid == self._stream_sid:
            body = decoded.media
            if body.track == "inbound":
                if self._aligner is not None and (self._aligner.pending_bytes or len(body.payload) % 2):
                    return None
                self._last_message_s = now
                return body.payload or None
        return None

    def audio_message(self, payload: bytes) -> str | None:
        """The short cut of ``send``; see ``Leg.audio_message``."""
        return self._encoder.media(payload) if self.state is _LIVE else None

    def connection_lost(self, code: int, now: float) -> list[Event]:
        """Say that the socket is gone; see ``Leg.connection_lost``."""
        if self.state is State.OVER:
            return _NOTHING
        if code == CLOSE_NOT_TEXT:
            return self._end(outcome.BAD_MESSAGE, "a text message that is not UTF-8")
        if code == CLOSE_TOO_BIG:
            return self._end(outcome.MESSAGE_TOO_BIG, f"a message over {MAX_MESSAGE_BYTES} bytes")
        if self.state is State.WAITING:
            return self._end(outcome.NO_START, f"close {code} before start")
        if code in _CLEAN_CLOSES:
            return self._end(outcome.CALLER_HANGUP, f"close {code} without stop")
        return self._end(outcome.CARRIER_LOST, f"close {code} without stop")

    # --- from the call ---

    def send(self, command: Command, now: float) -> None:
        """Carry out a command; see ``Leg.send``."""
        if self.state is _OVER:
            return
        match command:
            case events.Play(payload):
                self._require_live(command)
                self._out.append(self._encoder.media(payload))
            case events.Mark(name):
                self._require_live(command)
                self._out.append(self._encoder.mark(name))
            case events.Flush():
                self._require_live(command)
                self._out.append(self._encoder.clear)
            case events.Accept(media):
                if self.state is not State.OFFERED or media != self._media:
                    raise LocalError(f"Accept({media.name}) in state {self.state.value}; offered was {self._media}")
                self.state = State.LIVE
            case events.Reject(reason) | events.Hangup(reason):
                self._close(reason)
            case events.SendDtmf() | events.Transfer() | events.Answer():
                raise LocalError(f"a media stream cannot carry {type(command).__name__}; it needs Twilio's REST API")
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
        """See ``Leg.lingering``: Twilio is told by the close itself."""
        return False

    def handle_timer(self, now: float) -> list[Event]:
        """Let time pass; see ``Leg.handle_timer``."""
        if now < self.next_timer():
            return _NOTHING
        if self.state is State.WAITING:
            return self._fail(outcome.NO_START, f"no start in {self._options.start_timeout_s:g} s")
        return self._fail(outcome.CARRIER_SILENT, f"nothing for {self._options.silence_timeout_s:g} s")

    # --- inside ---

    def _on_undecodable(self, message: str) -> list[Event]:
        if self.state is _OVER:
            return _NOTHING
        try:
            wire.decode(message)
        except RemoteError as error:
            return self._fail(outcome.BAD_MESSAGE, str(error))
        except wire.UnknownEvent:
            self.unknown_events += 1
        return _NOTHING

    def _on_misplaced_media(self) -> list[Event]:
        if self._media is None:
            return self._fail(outcome.BAD_MESSAGE, "media before start")
        return self._fail(outcome.BAD_MESSAGE, "media: streamSid is not the one of start")

    def _on_message(self, message: wire.FromTwilio) -> list[Event]:
        if isinstance(message, wire.Connected) or self.state is _OVER:
            return _NOTHING
        if isinstance(message, wire.Start):
            return self._on_start(message.start)
        name = str(message.__struct_config__.tag)
        if self.state is State.WAITING:
            return self._fail(outcome.BAD_MESSAGE, f"{name} before start")
        if message.streamSid != self._stream_sid:
            return self._fail(outcome.BAD_MESSAGE, f"{name}: streamSid is not the one of start")
        match message:
            case wire.Mark(mark=mark):
                return [events.PlaybackReached(mark.name)]
            case wire.Dtmf(dtmf=dtmf):
                return self._on_dtmf(dtmf.digit)
            case _:  # stop; closed from our side too, so that no socket outlives its call
                return self._fail(outcome.CALLER_HANGUP, "stop")

    def _on_dtmf(self, digit: str) -> list[Event]:
        if len(digit) != 1 or digit not in "0123456789*#ABCD":
            return self._fail(outcome.BAD_MESSAGE, "dtmf.digit is not one of 0-9 * # A-D")
        return [events.Dtmf(digit)]

    def _on_start(self, start: wire.StartBody) -> list[Event]:
        if self.state is not State.WAITING:
            return self._fail(outcome.BAD_MESSAGE, "start a second time")
        if not start.streamSid or not start.callSid:
            return self._fail(outcome.BAD_MESSAGE, "start: streamSid or callSid is empty")
        try:
            media = _read_format(start.mediaFormat)
        except ValueError as error:
            return self._fail(outcome.UNSUPPORTED_MEDIA, f"start.mediaFormat: {str(error)[:200]}")
        self.state = State.OFFERED
        self._media = media
        self._aligner = Reframer(media.bytes_per_sample) if media.bytes_per_sample > 1 else None
        self._samples_per_ms = media.rate_hz // 1000
        self._stream_sid = start.streamSid
        self._encoder = wire.Encoder(start.streamSid)
        parameters = dict(start.customParameters)
        info = CallInfo(
            provider=NAME,
            call_sid=start.callSid,
            stream_id=start.streamSid,
            account_id=start.accountSid,
            token=parameters.pop(PARAM_TOKEN, ""),
            caller=parameters.pop(PARAM_CALLER, ""),
            called=parameters.pop(PARAM_CALLED, ""),
            parameters=parameters,
        )
        return [Offered(info, (media,))]

    def _require_live(self, command: Command) -> None:
        if self.state is not State.LIVE:
            raise LocalError(f"{type(command).__name__} in state {self.state.value}; Accept comes first")

    def _fail(self, reason: EndReason, detail: str) -> list[Event]:
        """End because of the peer's words: Twilio has no error reply, closing makes it go on with its TwiML."""
        if self.state is _OVER:
            return _NOTHING
        self._close(reason)
        return [Ended(reason, detail)]

    def _close(self, reason: EndReason) -> None:
        self._end(reason, "")
        self._out.append(CloseSocket(1000, reason.reason))

    def _end(self, reason: EndReason, detail: str) -> list[Event]:
        self.state = _OVER
        self._stream_sid = None
        return [Ended(reason, detail)]


def _number(text: str | int) -> int:
    """A number that Twilio writes as text; 0 for what is none, because no call must die of a decoration."""
    try:
        return int(text)
    except ValueError:
        return 0


def _read_format(announced: wire.TwilioMediaFormat) -> MediaFormat:
    """The format of ``start.mediaFormat``; ``ValueError`` says what is not supported."""
    encoding = _ENCODINGS.get(announced.encoding.lower())
    if encoding is None:
        raise ValueError(f"encoding {announced.encoding[:40]!r} is none of {', '.join(_ENCODINGS)}")
    media = MediaFormat(encoding, int(announced.sampleRate), int(announced.channels))
    if media.channels != 1 or (encoding is not Encoding.L16 and media.rate_hz != 8000):
        raise ValueError(f"{media.name} with {media.channels} channels; G.711 is 8000 Hz and streams are mono")
    if media.rate_hz % 1000:  # timestamps are whole milliseconds; no carrier uses the rates of compact discs
        raise ValueError(f"{media.name}; rates are whole kilohertz")
    return media


def authenticate_upgrade(request: UpgradeRequest, context: AuthContext) -> str:
    """Check ``X-Twilio-Signature`` of the upgrade over the ``wss`` URL that our TwiML named."""
    keys = signature.TwilioKeys(
        auth_tokens=context.secrets.get("twilio_auth_token", ()),
        shared_keys=signature.parse_shared_keys(context.secrets.get("twilio_shared_keys", ())),
        subaccount_tokens=signature.parse_subaccount_tokens(context.secrets.get("twilio_subaccount_tokens", ())),
    )
    problem = ""
    for base in dict.fromkeys((context.public_url, context.instance_url or context.public_url)):
        url = "ws" + base.removeprefix("http") + request.raw_path
        problem = signature.verify_upgrade(keys, url, request.headers)
        if not problem:
            break
    return problem


SPEC = CarrierSpec(
    name=NAME,
    media_paths=("/twilio/media",),
    new_leg=TwilioLeg,
    authenticate_upgrade=authenticate_upgrade,
    needs_token=True,
    lead_ms=LEAD_MS,
    chunk_ms=CHUNK_MS,
    max_message_bytes=MAX_MESSAGE_BYTES,
    transfers=frozenset({TransferKind.WARM, TransferKind.BLIND, TransferKind.REFER}),
    tones=ToneWay.EXCURSION,  # in-band tones within the stream do not get through; see bridge.server.twilio_control
)
