"""Genesys Cloud Audio Connector (AudioHook version 2, bidirectional): the leg, server side, sans-I/O.

Sources: Genesys Cloud Developer Center, "AudioHook: session walkthrough", "protocol reference", "security"; Genesys'
two reference implementations; what public integrations report of the service (rate limits, strictness).

Theory of operation: Genesys connects, sends ``open`` and wants ``opened`` within 5 s: the leg offers the call and
opens the session at ``Accept``, which need not wait for the agent. Then audio goes both ways as binary messages
beside JSON text. Every end is a transaction that Genesys finishes: ``close`` from Genesys, ``closed`` from us, and
Genesys closes the socket; when we want to end, ``disconnect`` asks Genesys for its ``close``. A socket that we closed
would count as a network failure and be tried again. So the leg outlives its call (``lingering``): after ``Ended`` or
``Hangup`` it still answers, with its timer running, until the socket is gone or ``LINGER_S`` are over.

States (``State``): WAITING --open--> OFFERED --Accept--> LIVE; WAITING --open of a probe--> PROBED;
any but OVER --Hangup, Reject, failure--> DISCONNECTING --close--> CLOSED; any --close--> CLOSED --socket gone--> OVER.

What is taken amiss: no JSON, no envelope, another session's id, a second ``open``, an ``open`` that cannot be read.
What is not, because a caller is on the line: unknown types and fields, gaps in ``seq``, parameters of small messages
that cannot be read, audio at the wrong time. Those are counted.

``bot_turn_response`` is never sent: it is for reports that Genesys does not yet show, and would spend the budget of
text messages that ``barge_in`` and ``pong`` need.
"""

from __future__ import annotations

import math
from typing import assert_never

from pybase64 import b64encode_as_string

from bridge import events, outcome
from bridge.auth import genesys as signature
from bridge.errors import LocalError, RemoteError
from bridge.events import Audio, Command, Ended, Event, Offered
from bridge.leg import CarrierSpec, LegOptions, Outgoing, TransferKind, UpgradeRequest
from bridge.media.format import ULAW_8K
from bridge.outcome import EndReason, Result
from bridge.providers import genesys_call as calls
from bridge.providers import genesys_messages as wire
from bridge.providers.genesys_media import SAMPLE_RATE_HZ, Channels, choose
from bridge.providers.genesys_sender import Sender
from bridge.providers.genesys_state import State, session_closed, socket_lost
from bridge.providers.genesys_upgrade import UpgradeVerifier

NAME = "genesys"

LEAD_MS = 2000
"""Audio given to Genesys ahead of its playing clock: ``barge_in`` empties its buffer at once, and rare large messages
need the room."""

CHUNK_MS = 500
"""Two messages a second while an answer goes on; Genesys allows five, and four are used."""

LINGER_S = 10.0
"""How long Genesys may take for its ``close``, and then for closing the socket: its own time-out for either."""

TOO_MANY = 429
"""Code of the ``error`` with which Genesys says that it gets too many messages."""


_LIVE = State.LIVE
"""For the media path: looking a member up in its enum costs as much as a method call in Python 3.11."""
_NOTHING: list[Event] = []


class GenesysLeg:
    """One AudioHook session. See ``bridge.leg.Leg`` for the contract."""

    def __init__(self, options: LegOptions, request: UpgradeRequest, now: float) -> None:
        headers = request.headers
        self._options = options
        self._agent_id = request.path_values.get("agent_id", "")
        self._organization_id = headers.get(signature.ORGANIZATION_HEADER, "").strip()
        self._id = headers.get(signature.SESSION_HEADER, "").strip()  # until ``open`` says it; empty = unknown
        self._opened_s = now
        self._last_message_s = now
        self._deadline_s = math.inf  # of PROBED, DISCONNECTING and CLOSED
        self.state = State.WAITING
        self._call_over = False  # ``Ended`` went up, or ``Hangup`` or ``Reject`` came down
        self._sender = Sender(self._id, now)
        self._offer: str | None = None
        self._channels = Channels(1, 0)
        self._is_mono = True
        self._last_error = 0  # code of Genesys' last ``error``
        self._relay_head = self._relay_tail = ""
        self._relay_sizes = range(0)
        self.position = 0
        """Samples of the caller's audio so far, gaps included."""
        self.relayed = 0
        self.last_payload = b""
        self.oddities = calls.Oddities()
        """What was let pass."""

    def lingering(self) -> bool:
        """Whether the call is over but the socket and the timer are still needed, to close the session properly."""
        return self._call_over and self.state is not State.OVER

    # --- from Genesys ---

    def receive(self, message: str | bytes, now: float) -> list[Event]:
        """Feed one message; see ``Leg.receive``."""
        self._last_message_s = now
        if isinstance(message, bytes):
            payload = self.read_audio(message, now)
            if payload is None:
                self.oddities.misplaced_audio_bytes += len(message)
            return [Audio(payload, self.position - len(payload))] if payload else _NOTHING
        if self.state in (State.CLOSED, State.OVER):
            return _NOTHING
        try:
            envelope = wire.decode(message)
            if not envelope.id or (self._id and envelope.id.lower() != self._id.lower()):
                raise RemoteError(f"{ascii(envelope.type[:40])}: id is not the session's")
        except RemoteError as error:
            return self._fail(outcome.BAD_MESSAGE, str(error), now)
        if self.state is State.WAITING:
            self._id = envelope.id
            self._sender.name_session(envelope.id)
        if envelope.seq != self._sender.client_seq + 1:
            self.oddities.seq_gaps += 1
        self._sender.client_seq = envelope.seq
        try:
            return self._on_text(envelope, now)
        except RemoteError:
            self.oddities.malformed_messages += 1
            return _NOTHING

    def set_relay(self, head: str, tail: str, sizes: range) -> None:
        """See ``Leg.set_relay``."""
        self._relay_head, self._relay_tail, self._relay_sizes = head, tail, sizes

    def relay(self, message: str | bytes, now: float) -> str | None:
        """The shortest cut; see ``Leg.relay``. Every line of it counts."""
        if type(message) is bytes and self.state is _LIVE and self._is_mono:
            size = len(message)
            if size in self._relay_sizes:
                self._last_message_s = now
                self.position += size
                self.relayed += 1
                self.last_payload = message
                return self._relay_head + b64encode_as_string(message) + self._relay_tail
        return None

    def read_audio(self, message: str | bytes, now: float) -> bytes | None:
        """The short cut of ``receive``; see ``Leg.read_audio``."""
        if type(message) is not bytes or self.state is not _LIVE:
            return None
        payload = self._channels.extract(message)
        self._last_message_s = now
        self.position += len(payload)
        return payload or None

    def audio_message(self, payload: bytes) -> str | bytes | None:
        """Never taken: audio is gathered, so that a message of the call's is seldom one of ours."""
        return None

    def connection_lost(self, code: int, now: float) -> list[Event]:
        """Say that the socket is gone; see ``Leg.connection_lost``."""
        before, over = self.state, self._call_over
        self.state, self._call_over = State.OVER, True
        if over:
            return _NOTHING
        return [socket_lost(before, code)]

    # --- from the call ---

    def send(self, command: Command, now: float) -> None:
        """Carry out a command; see ``Leg.send``."""
        if self._call_over:
            return
        match command:
            case events.Play(payload):
                self._require_live(command)
                self._sender.play(payload, now)
            case events.Mark(name):
                self._require_live(command)
                self._sender.mark(name, now)
            case events.Flush():
                self._require_live(command)
                self._sender.flush(now)
            case events.Accept(media):
                if self.state is not State.OFFERED or media != ULAW_8K:
                    raise LocalError(f"Accept({media.name}) in state {self.state.value}; offered is {ULAW_8K.name}")
                self.state = State.LIVE
                self._sender.say("opened", wire.opened(self._offer), now)
                self._sender.begin_audio(self._channels, now)
            case events.Reject(reason, detail, outputs) | events.Hangup(reason, detail, outputs):
                self._end_call(reason, detail, outputs, now)
            case events.SendDtmf() | events.Transfer() | events.Answer():
                raise LocalError(f"the Audio Connector cannot carry {type(command).__name__}; its flow does that")
            case _:
                assert_never(command)

    def drain(self) -> list[Outgoing]:
        """Take what must go out; see ``Leg.drain``."""
        return self._sender.drain()

    # --- time ---

    def next_timer(self) -> float:
        """See ``Leg.next_timer``."""
        if self.state is State.OVER:
            return math.inf
        if self.state is State.WAITING:
            return self._opened_s + self._options.start_timeout_s
        others = self._silent_at_s() if self.state in (State.OFFERED, State.LIVE) else self._deadline_s
        return min(others, self._sender.next_timer())

    def handle_timer(self, now: float) -> list[Event]:
        """Let time pass; see ``Leg.handle_timer``."""
        if now < self.next_timer():
            return _NOTHING
        if self.state is State.WAITING:
            return self._fail(outcome.NO_START, f"no open in {self._options.start_timeout_s:g} s", now)
        marks = self._sender.handle_timer(now)
        if self.state not in (State.OFFERED, State.LIVE):
            return self._on_deadline() if now >= self._deadline_s else _NOTHING
        if now >= self._silent_at_s():
            return self._fail(outcome.CARRIER_SILENT, f"nothing for {self._options.silence_timeout_s:g} s", now)
        return _reached(marks)

    def _silent_at_s(self) -> float:
        return self._last_message_s + self._options.silence_timeout_s

    def _on_deadline(self) -> list[Event]:
        """A probe that never closed, or a closing that Genesys did not finish."""
        probed = self.state is State.PROBED
        self._sender.close("the session was not closed in time")
        self.state, self._call_over = State.OVER, True
        return [Ended(outcome.PROBE, "the probe did not close")] if probed else _NOTHING

    # --- inside: Genesys' text messages ---

    def _on_text(self, envelope: wire.Envelope, now: float) -> list[Event]:
        match envelope.type:
            case "open":
                return self._on_open(envelope, now)
            case "close":
                return self._on_close(envelope, now)
            case "ping":
                if self.state in (State.WAITING, State.OFFERED):
                    self.oddities.malformed_messages += 1  # ``opened`` must be our first word
                else:
                    self._sender.pong(now)
            case "error":
                self._on_error(envelope, now)
            case "update" | "paused" | "resumed" | "discarded" | "dtmf" | "playback_started" | "playback_completed":
                if self.state is State.LIVE:
                    return self._on_live(envelope, now)
                if self.state is not State.DISCONNECTING:  # there they only crossed with our word
                    self.oddities.malformed_messages += 1
            case _:
                self.oddities.unknown_messages += 1
        return _NOTHING

    def _on_live(self, envelope: wire.Envelope, now: float) -> list[Event]:
        match envelope.type:
            case "update":
                self._sender.updated(now)
            case "paused":
                if not self._sender.paused:
                    self._sender.paused = True
                    return [events.Paused()]
            case "resumed":
                return self._on_resumed(envelope, now)
            case "discarded":
                self._skip(envelope)
            case "dtmf":
                return [events.Dtmf(wire.decode_parameters(envelope, wire.Dtmf).digit.upper())]
            case "playback_started":
                self._sender.playback_started(now)
            case _:  # playback_completed
                return _reached(self._sender.playback_completed(now))
        return _NOTHING

    def _on_resumed(self, envelope: wire.Envelope, now: float) -> list[Event]:
        was_paused = self._sender.paused
        self._sender.resume(now)
        try:
            self._skip(envelope)
        except RemoteError:
            self.oddities.malformed_messages += 1  # the stream goes on all the same
        return [events.Resumed()] if was_paused else _NOTHING

    def _skip(self, envelope: wire.Envelope) -> None:
        """Audio that was never sent is part of the position."""
        self.position += wire.duration_samples(wire.decode_parameters(envelope, wire.Gap).discarded)

    def _on_error(self, envelope: wire.Envelope, now: float) -> None:
        error = wire.decode_parameters(envelope, wire.Error)
        self._last_error = error.code
        if error.code == TOO_MANY:
            wait_samples = wire.duration_samples(error.retryAfter or "PT1S")
            self._sender.back_off(wait_samples / SAMPLE_RATE_HZ, now)

    def _on_open(self, envelope: wire.Envelope, now: float) -> list[Event]:
        if self.state is State.DISCONNECTING:  # it crossed with our word
            return _NOTHING
        if self.state is not State.WAITING:
            return self._fail(outcome.BAD_MESSAGE, "open a second time", now)
        try:
            opening = wire.decode_parameters(envelope, wire.Open)
        except RemoteError as error:
            return self._fail(outcome.BAD_MESSAGE, str(error), now)
        if self._organization_id and opening.organizationId.lower() != self._organization_id.lower():
            detail = "open: organizationId is not the one of Audiohook-Organization-Id"
            return self._fail(outcome.BAD_MESSAGE, detail, now, "unauthorized")
        choice = choose(opening.media or [])
        if choice is not None:
            self._offer, self._channels = choice
            self._is_mono = self._channels.count == 1
        if calls.is_probe(opening):
            self.state, self._deadline_s = State.PROBED, now + LINGER_S
            self._sender.say("opened", wire.opened(self._offer), now)
            return _NOTHING
        if choice is None:
            self._sender.say("opened", wire.opened(None), now)
            return self._fail(outcome.UNSUPPORTED_MEDIA, "open: no offer of PCMU at 8000 Hz", now)
        try:
            info = calls.call_info(NAME, self._id, self._agent_id, opening)
        except RemoteError as error:
            return self._fail(outcome.BAD_VARIABLES, str(error), now)
        self.state = State.OFFERED
        return [Offered(info, (ULAW_8K,))]

    def _on_close(self, envelope: wire.Envelope, now: float) -> list[Event]:
        try:
            reason = wire.decode_parameters(envelope, wire.Close).reason
        except RemoteError:
            self.oddities.malformed_messages += 1
            reason = "end"
        before, over = self.state, self._call_over
        self._let_go(State.CLOSED, now)
        self._sender.say("closed", wire.NO_PARAMETERS, now)
        self._call_over = True
        if over:
            return _NOTHING
        return [session_closed(before, reason, self._last_error)]

    # --- inside: ends ---

    def _require_live(self, command: Command) -> None:
        if self.state is not State.LIVE:
            raise LocalError(f"{type(command).__name__} in state {self.state.value}; Accept comes first")

    def _end_call(self, reason: EndReason, detail: str, outputs: dict[str, str], now: float) -> None:
        when_full = self._options.carrier.get("genesys_when_full", calls.RETRY)
        overflow = calls.overflows(reason, when_full, began=self.state is State.LIVE)
        word = "completed" if overflow or reason.result is Result.SUCCESS else "error"
        parameters, self.oddities.dropped_outputs = calls.end_parameters(
            word, reason, detail, outputs, overflow=overflow
        )
        self._disconnect(parameters, now)

    def _fail(self, reason: EndReason, detail: str, now: float, word: str = "error") -> list[Event]:
        """End because of what Genesys did, or did not do."""
        if self._call_over:
            return _NOTHING
        parameters, _ = calls.end_parameters(word, reason, detail, {}, overflow=False)
        self._disconnect(parameters, now)
        return [Ended(reason, detail)]

    def _disconnect(self, parameters: str, now: float) -> None:
        self._call_over = True
        if not self._id:  # nothing can be said without the session's id
            self._sender.close("no session was opened")
            self.state = State.OVER
            return
        self._let_go(State.DISCONNECTING, now)
        self._sender.say("disconnect", parameters, now)

    def _let_go(self, state: State, now: float) -> None:
        """Nothing of the call's is sent any more; Genesys has the next word."""
        self.state, self._deadline_s = state, now + LINGER_S
        self._sender.end_audio(now)


def _reached(marks: list[str]) -> list[Event]:
    return [events.PlaybackReached(mark) for mark in marks]


SPEC = CarrierSpec(
    name=NAME,
    media_paths=("/genesys/{agent_id}", "/v1/convai/conversation/genesys/{agent_id}"),
    new_leg=GenesysLeg,
    authenticate_upgrade=UpgradeVerifier(),
    needs_token=False,
    lead_ms=LEAD_MS,
    chunk_ms=CHUNK_MS,
    max_message_bytes=wire.MAX_MESSAGE_BYTES,
    refusal_status=401,  # "AudioHook: security"; Genesys does not try such a request again
    takes_results=True,
    transfers=frozenset({TransferKind.FLOW}),
)
