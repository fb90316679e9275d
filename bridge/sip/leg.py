"""SIP: the leg, as the call sees it; sans-I/O. Dialog and media stream are the line's (``bridge.server.sip.line``).

Theory of operation: the line feeds the caller's audio in frames of 20 ms, taken out of the jitter buffer by the media
clock, and notices of what happened in the dialog (``bridge.sip.line_words``); what it drains are audio to be sent on
that clock and orders. What waits in the line can be dropped to the frame, so ``LEAD_MS`` costs nothing at an
interruption and spares timers.

A call that is let in rings until the agent is ready (``events.Answer``), so a caller pays for no second in which nobody
is there, and one whose agent cannot be had is refused with a status that has their carrier try elsewhere. Whoever
shall hear something before (hold audio in a queue) is answered for it.

States (``State``): WAITING --invite--> OFFERED --Accept--> RINGING --Answer--> LIVE; any --over, Reject, Hangup-->
OVER.
"""

from __future__ import annotations

import enum
import math
from typing import assert_never

from pybase64 import b64encode_as_string

from bridge import events, outcome
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
from bridge.media.format import FRAME_MS, MediaFormat
from bridge.outcome import EndReason, Result
from bridge.sip import line_words as words

NAME = "sip"
RATE_HZ = 8000

LEAD_MS = 1000
"""Audio that may wait in the line: outlasts any stall of the agent's connection that a caller would put up with."""
CHUNK_MS = 100
"""Audio released to the line in one go; five packets, which the line sends one by one."""
MAX_MESSAGE_BYTES = 64 * 1024
"""Of a notice; the line bounds what it passes on of headers far below."""

WHEN_FULL = "sip_when_full"
"""Name of the setting in ``LegOptions.carrier``: ``busy`` (486) or ``unavailable`` (503 with Retry-After)."""
RETRY_AFTER_S = 10
"""What a carrier is told when all slots are taken: calls end in about so long where there are many."""

_FULL = (
    outcome.CAPACITY,
    outcome.AGENT_CAPACITY,
    outcome.AGENT_DAILY_LIMIT,
    outcome.QUEUE_TIMEOUT,
    outcome.RATE_LIMITED,
)
_LATE = (outcome.AGENT_UNREACHABLE, outcome.AGENT_NOT_READY, outcome.AGENT_SILENT)

_ENDS: dict[str, EndReason] = {
    "bye": outcome.CALLER_HANGUP,
    "cancelled": outcome.CALLER_HANGUP,
    "no_media": outcome.CARRIER_SILENT,
    "not_acceptable": outcome.UNSUPPORTED_MEDIA,
}
"""By ``Over.how``; everything else means that the line broke."""

_FRAME_BYTES = RATE_HZ * FRAME_MS // 1000
_NOTHING: list[Event] = []


class State(enum.Enum):
    """Where the call stands."""

    WAITING = "waiting"
    OFFERED = "offered"
    RINGING = "ringing"
    LIVE = "live"
    OVER = "over"


_LIVE = State.LIVE


def refusal_status(reason: EndReason, *, when_full: str = "busy") -> tuple[int, int]:
    """Status and Retry-After (seconds, 0 = none) for a call that is not answered.

    RFC 3261 section 21: 486 makes a caller hear the busy tone, 503 makes a carrier try its next gateway.
    """
    if reason in _FULL:
        return (486, 0) if when_full == "busy" else (503, RETRY_AFTER_S)
    if reason in (outcome.DRAINING, outcome.LIMITS_UNKNOWN, outcome.AGENT_QUOTA):
        return 503, RETRY_AFTER_S
    if reason is outcome.UNSUPPORTED_MEDIA:
        return 488, 0
    if reason.result is Result.UPSTREAM_ERROR:
        return (504 if reason in _LATE else 502), 0
    if reason.result is Result.SERVER_ERROR:
        return 500, 0
    return 480, 0


class SipLeg:
    """One call. See ``bridge.leg.Leg`` for the contract."""

    __slots__ = (
        "_answers_at_once",
        "_marks",
        "_media",
        "_opened_s",
        "_options",
        "_out",
        "_relay_head",
        "_relay_sizes",
        "_relay_tail",
        "last_payload",
        "position",
        "relayed",
        "state",
        "unreadable",
    )

    def __init__(self, options: LegOptions, request: UpgradeRequest, now: float) -> None:
        self._options = options
        self._opened_s = now
        self.state = State.WAITING
        self._out: list[Outgoing] = []
        self._media: MediaFormat | None = None
        self._answers_at_once = False
        self._marks: set[str] = set()
        self._relay_head = self._relay_tail = ""
        self._relay_sizes = range(0)
        self.relayed = 0
        self.last_payload = b""
        self.position = 0
        """Samples of the caller's audio so far."""
        self.unreadable = 0
        """Notices that are none."""

    # --- from the line ---

    def receive(self, message: str | bytes, now: float) -> list[Event]:
        """Feed a frame or a notice; see ``Leg.receive``."""
        if self.state is State.OVER:
            return _NOTHING
        if isinstance(message, bytes):
            return self._heard(message)
        try:
            notice = words.read_notice(message)
        except RemoteError as error:
            self.unreadable += 1
            return self._end(outcome.BAD_MESSAGE, str(error), 500)
        return self._on_notice(notice)

    def set_relay(self, head: str, tail: str, sizes: range) -> None:
        """See ``Leg.set_relay``."""
        self._relay_head, self._relay_tail, self._relay_sizes = head, tail, sizes

    def relay(self, message: str | bytes, now: float) -> str | None:
        """The shortest cut; see ``Leg.relay``. Every line of it counts."""
        if type(message) is bytes and self.state is _LIVE:
            size = len(message)
            if size in self._relay_sizes:
                self.position += size
                self.relayed += 1
                self.last_payload = message
                return self._relay_head + b64encode_as_string(message) + self._relay_tail
        return None

    def read_audio(self, message: str | bytes, now: float) -> bytes | None:
        """The short cut of ``receive``; see ``Leg.read_audio``."""
        if type(message) is not bytes or self.state is not _LIVE:
            return None
        self.position += len(message)
        return message

    def audio_message(self, payload: bytes) -> bytes | None:
        """The short cut of ``send``; see ``Leg.audio_message``."""
        return payload if self.state is _LIVE else None

    def connection_lost(self, code: int, now: float) -> list[Event]:
        """The line is gone without a notice: only by a mistake of ours."""
        if self.state is State.OVER:
            return _NOTHING
        self.state = State.OVER
        return [Ended(outcome.CARRIER_LOST, "the line was dropped")]

    # --- from the call ---

    def send(self, command: Command, now: float) -> None:
        """Carry out a command; see ``Leg.send``."""
        if self.state is State.OVER:
            return
        match command:
            case events.Play(payload):
                self._pick_up()
                self._out.append(payload)
            case events.Mark(name):
                self._pick_up()
                self._say(words.MarkHere(name))
            case events.Flush():
                self._pick_up()
                self._say(words.Clear())
            case events.SendDtmf(digits):
                self._pick_up()
                self._say(words.Press(digits))
            case events.Accept(media):
                self._accept(media)
            case events.Answer():
                self._pick_up()
            case events.Reject(reason):
                status = 404 if reason is outcome.AGENT_NOT_FOUND else None
                self._close(reason, status)
            case events.Hangup(reason):
                self._close(reason)
            case events.Transfer():
                raise LocalError("a SIP leg is transferred by its line (REFER), not by the leg")
            case _:
                assert_never(command)

    def drain(self) -> list[Outgoing]:
        """Take what must go out; see ``Leg.drain``."""
        out, self._out = self._out, []
        return out

    # --- time ---

    def next_timer(self) -> float:
        """See ``Leg.next_timer``: silence is watched by the media stream, which knows of holds."""
        return self._opened_s + self._options.start_timeout_s if self.state is State.WAITING else math.inf

    def lingering(self) -> bool:
        """See ``Leg.lingering``: the line ends its dialog on its own."""
        return False

    def handle_timer(self, now: float) -> list[Event]:
        """Let time pass; see ``Leg.handle_timer``."""
        if now < self.next_timer():
            return _NOTHING
        return self._end(outcome.NO_START, f"no invite in {self._options.start_timeout_s:g} s")

    # --- inside ---

    def _heard(self, payload: bytes) -> list[Event]:
        if self._media is None:
            return self._end(outcome.BAD_MESSAGE, "audio before the invite")
        position, self.position = self.position, self.position + len(payload)
        return [Audio(payload, position)] if payload and self.state is _LIVE else _NOTHING

    def _on_notice(self, notice: words.Notice) -> list[Event]:
        match notice:
            case words.Invite():
                return self._on_invite(notice)
            case words.Over(how, detail):
                return self._end(_ENDS.get(how, outcome.CARRIER_LOST), detail or how)
            case _ if self._media is None:
                return self._end(outcome.BAD_MESSAGE, "a notice before the invite", 500)
            case words.Key(digit, duration_ms):
                return [events.Dtmf(digit, duration_ms)]
            case words.Played(mark):
                if mark not in self._marks:
                    return _NOTHING
                self._marks.discard(mark)
                return [events.PlaybackReached(mark)]
            case words.Held():
                return [events.Paused()]
            case words.Unheld():
                return [events.Resumed()]
            case _:
                assert_never(notice)

    def _on_invite(self, invite: words.Invite) -> list[Event]:
        if self.state is not State.WAITING:
            return self._end(outcome.BAD_MESSAGE, "a second invite", 500)
        self.state = State.OFFERED
        self._answers_at_once = invite.answers_at_once
        self._media = MediaFormat(invite.encoding, RATE_HZ)
        info = CallInfo(
            provider=NAME,
            call_sid=invite.call_sid,
            account_id=invite.trunk,
            caller=invite.caller,
            called=invite.called,
            direction=invite.direction,
            token=invite.token,
            parameters=invite.parameters,
        )
        return [Offered(info, (self._media,), not invite.answers_at_once)]

    def _accept(self, media: MediaFormat) -> None:
        if self.state is not State.OFFERED or media != self._media:
            raise LocalError(f"Accept({media.name}) in state {self.state.value}; offered was {self._media}")
        self.state = State.RINGING
        if self._answers_at_once:
            self._pick_up()
        else:
            self._say(words.Ring())

    def _pick_up(self) -> None:
        """Whoever is to hear something, or has an agent, is answered."""
        if self.state is State.RINGING:
            self.state = State.LIVE
            self._say(words.PickUp())
        elif self.state is not _LIVE:
            raise LocalError(f"a command for a call in state {self.state.value}: accept it first")

    def _say(self, order: words.Order) -> None:
        if isinstance(order, words.MarkHere):
            self._marks.add(order.mark)
        self._out.append(words.encode(order))

    def _close(self, reason: EndReason, status: int | None = None) -> None:
        code, retry_after_s = refusal_status(reason, when_full=self._options.carrier.get(WHEN_FULL, "busy"))
        self.state = State.OVER
        self._say(words.End(status or code, retry_after_s, str(reason)))
        self._out.append(CloseSocket())

    def _end(self, reason: EndReason, detail: str, status: int = 480) -> list[Event]:
        self.state = State.OVER
        self._say(words.End(status, 0, str(reason)))
        self._out.append(CloseSocket())
        return [Ended(reason, detail)]


def _no_upgrade(request: UpgradeRequest, context: AuthContext) -> str:
    return "SIP calls do not come by WebSocket"


SPEC = CarrierSpec(
    name=NAME,
    media_paths=(),
    new_leg=SipLeg,
    authenticate_upgrade=_no_upgrade,
    needs_token=False,
    lead_ms=LEAD_MS,
    chunk_ms=CHUNK_MS,
    max_message_bytes=MAX_MESSAGE_BYTES,
    transfers=frozenset({TransferKind.REFER, TransferKind.BLIND}),
    tones=ToneWay.LEG,
)
"""The card of SIP. Who may call is checked at the trunk (``bridge.sip.access``), so no token is needed."""
