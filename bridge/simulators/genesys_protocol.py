"""Genesys Cloud's side of an Audio Connector session, sans-I/O: AudioHook version 2 as a strict client.

Theory of operation. The session starts OPENING with ``open`` on the wire. ``opened`` makes it OPEN: audio flows both
ways, pings go out, playback is reported. ``close`` (the caller is gone, the server asked with ``disconnect``, or it
broke the protocol) makes it CLOSING; ``closed`` makes it CLOSED. The client then lingers for a moment, so that a
server that closes the socket itself is caught, and closes the socket: GONE. A breach for which Genesys ends the
session is answered with ``error`` and ``close``; every breach is noted.

Source: Genesys Cloud Developer Center, "AudioHook protocol reference" and "Session walkthrough"; the vendor's
reference client (read 2026-11-22) for timers, error texts, and which errors end the session.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from bridge.media.format import ULAW_8K
from bridge.simulators.genesys_limits import TokenBucket
from bridge.simulators.genesys_media import MediaEntry, decode_audio
from bridge.simulators.genesys_outbox import Outbox, Outgoing
from bridge.simulators.genesys_ping import Pinger
from bridge.simulators.genesys_playout import Playback, Playout
from bridge.simulators.genesys_record import BargeIn, Counts, Disconnect, State
from bridge.simulators.genesys_setup import SessionSetup
from bridge.simulators.genesys_wire import (
    BAD_REQUEST,
    CONFLICT,
    INTERNAL,
    MAX_BREACHES,
    NO_MESSAGE,
    TIMEOUT,
    TOO_LARGE,
    TOO_MANY,
    UNSUPPORTED,
    Breach,
    check,
    seconds,
)

LINGER_S = 0.05
"""From ``closed`` until the client closes the socket: a round trip, in which a right server does nothing."""

LATE_MS = 300.0
"""Audio that comes so soon after ``barge_in`` belongs to the interrupted turn: no agent answers as fast."""

_LIVE = (State.OPENING, State.OPEN)

_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


class GenesysSession:
    """One session. ``now`` is seconds on a monotonic clock; write what ``drain`` gives.

    The caller's and the bot's audio are mono mu-law here, whatever was negotiated.
    """

    def __init__(self, setup: SessionSetup, now: float) -> None:
        """Sends ``open``."""
        self.setup = setup
        self.state = State.OPENING
        self.started_s = now
        self.outbox = Outbox(setup.session_id)
        self.breaches: list[Breach] = []
        self.killed = False
        """Whether a breach ended the session."""
        self.open_timed_out = False
        self.counts = Counts()
        self.barge_ins: list[BargeIn] = []
        self.playbacks: list[Playback] = []
        """Playback events that went out."""
        self.disconnect: Disconnect | None = None
        self.media: MediaEntry | None = None
        """What the server chose; None = nothing yet, or a session without audio."""
        self.opened_s: float | None = None
        self.playout: Playout | None = None
        self.pinger: Pinger | None = None
        """Both from ``opened`` on."""
        limits = setup.limits
        self._binary, self._text = TokenBucket(limits.binary, now), TokenBucket(limits.text, now)
        self._pause_resume = TokenBucket(limits.pause_resume, now)
        self._clientseq_seen = 0
        self._updates_pending = 0
        self._deadline_s = now + limits.open_timeout_s
        self.outbox.send("open", setup.open_parameters())

    def elapsed_ms(self, now: float) -> float:
        """Since ``open``."""
        return (now - self.started_s) * 1000

    def least_tokens(self) -> tuple[float, float]:
        """How near the server came to the rate limits of binary and of text messages."""
        return self._binary.least_tokens, self._text.least_tokens

    # --- what Genesys sends ------------------------------------------------------------------------------

    def drain(self) -> list[Outgoing]:
        """Take what must go out, in order."""
        return self.outbox.drain()

    def send_audio(self, external: bytes, internal: bytes) -> bool:
        """Send the caller's audio; beside it what the caller heard meanwhile, for offers with an internal channel.

        Both are mono mu-law of the same length. During a pause it is dropped and counted. Returns whether it went out.
        """
        if self.state is not State.OPEN or self.media is None or not external:
            return False
        return self.outbox.send_audio(self.media, external, internal)

    def discard_audio(self, samples: int) -> None:
        """Say that the next audio was lost, e.g. from congestion."""
        if self.state is State.OPEN:
            self.outbox.discard(samples)

    def pause(self) -> None:
        """Pause from the client's side (hold, secure flow)."""
        if self.state is State.OPEN:
            self.outbox.pause(by_server=False)

    def resume(self) -> None:
        """End the client's pause."""
        if self.state is State.OPEN:
            self.outbox.resume(by_server=False)

    def send_dtmf(self, digit: str) -> None:
        """The caller pressed a key."""
        self._send("dtmf", {"digit": digit})

    def send_update(self, language: str) -> None:
        """The language changed."""
        self._updates_pending += self.state is State.OPEN
        self._send("update", {"language": language})

    def send_error(self, code: int, message: str) -> None:
        """Report an error that changes nothing."""
        self._send("error", {"code": code, "message": message})

    def close(self, now: float, reason: str = "end") -> None:
        """End the session: ``end``, ``error`` or ``disconnect``. Playback ends with it."""
        if self.state in _LIVE:
            self._advance(now)
            self.state = State.CLOSING
            self._deadline_s = now + self.setup.limits.close_timeout_s
            self.outbox.send("close", {"reason": reason})

    def _send(self, kind: str, parameters: dict[str, object]) -> None:
        if self.state is State.OPEN:
            self.outbox.send(kind, parameters)

    # --- breaches ----------------------------------------------------------------------------------------

    def _note(self, code: int, text: str, now: float, *, fatal: bool = False) -> None:
        if len(self.breaches) < MAX_BREACHES:
            self.breaches.append(Breach(code, text, fatal, round(self.elapsed_ms(now), 1)))

    def _kill(self, code: int, text: str, now: float, retry_s: float = 0.0) -> None:
        """Note a breach for which Genesys ends the session, and end it, unless it is ending already."""
        self._note(code, text, now, fatal=True)
        if self.state not in _LIVE:
            return
        self.killed = True
        parameters: dict[str, object] = {"code": code, "message": text}
        if retry_s:
            parameters["retryAfter"] = seconds(math.ceil(retry_s * 1000) * 1_000_000)
        self.outbox.send("error", parameters)
        self.close(now, "error")

    # --- time --------------------------------------------------------------------------------------------

    def next_timer(self) -> float:
        """When ``handle_timer`` is to be called."""
        if self.state is State.OPEN:
            assert self.playout is not None and self.pinger is not None
            return min(self.playout.next_report_s(), self.pinger.next_timer())
        return math.inf if self.state is State.GONE else self._deadline_s

    def handle_timer(self, now: float) -> None:
        """Let time pass."""
        if self.state is State.OPEN:
            self._advance(now)
            self._ping(now)
        elif self.state is not State.GONE and self._deadline_s <= now:
            self._too_late(now)

    def _too_late(self, now: float) -> None:
        if self.state is State.OPENING:
            self.open_timed_out = True
            self._kill(TIMEOUT, "Timed out waiting for opened response", now)
            return
        if self.state is State.CLOSING:
            text = "Timed out waiting for closed response"
            self._note(TIMEOUT, text, now, fatal=True)
            self.outbox.send("error", {"code": TIMEOUT, "message": text})
        self.state = State.GONE
        self.outbox.close_socket()

    def _ping(self, now: float) -> None:
        assert self.pinger is not None
        if self.pinger.overdue(now):
            self._kill(TIMEOUT, "Timeout waiting for pong", now)
        elif self.pinger.due(now):
            rtt_s = self.pinger.rtt_s
            self.outbox.send("ping", {} if rtt_s is None else {"rtt": seconds(round(rtt_s * 1e9))})
            self.pinger.sent(self.outbox.seq, now)

    def _advance(self, now: float) -> None:
        """Let the caller hear up to ``now`` and report it."""
        if self.state is State.OPEN and self.playout is not None:
            self._report(self.playout.advance(now))

    def _report(self, reports: list[Playback]) -> None:
        for report in reports:
            self.playbacks.append(report)
            self._send(report.value, {})

    # --- what Genesys receives ---------------------------------------------------------------------------

    def connection_lost(self, code: int, now: float) -> None:
        """Say that the socket is gone; only the client may close it."""
        if self.state is not State.GONE:
            self._advance(now)
            where = f"in state {self.state.value}, before the client closed it"
            self._note(NO_MESSAGE, f"the socket was closed with {code} {where}", now)
            self.state = State.GONE

    def receive(self, message: str | bytes, now: float) -> None:
        """Feed one message of the server."""
        if self.state is State.GONE:
            return
        self._advance(now)
        binary = isinstance(message, bytes)
        self._meter("binary" if binary else "text", self._binary if binary else self._text, now)
        size_bytes = len(message) if isinstance(message, bytes) else len(message.encode())
        if size_bytes > self.setup.limits.max_message_bytes:
            self._kill(TOO_LARGE, f"{'binary' if binary else 'text'} message of {size_bytes} bytes", now)
        if isinstance(message, bytes):
            self._receive_audio(message, now)
        else:
            self._receive_text(message, now)

    def _meter(self, kind: str, bucket: TokenBucket, now: float) -> None:
        """Count a message against its rate."""
        wait_s = bucket.take(now)
        if wait_s and self.state in _LIVE:
            self._kill(TOO_MANY, f"Rate limit of {kind} messages exceeded", now, wait_s)

    # --- audio

    def _receive_audio(self, payload: bytes, now: float) -> None:
        self.counts.binary_messages += 1
        size = f"audio of {len(payload)} bytes"
        if self.state is State.OPENING:
            self._kill(CONFLICT, f"{size} before opened", now)
        elif self.disconnect is not None or self.state is State.CLOSED:
            self._note(CONFLICT, f"{size} after {'disconnect' if self.disconnect else 'closed'}", now)
        elif self.state is State.OPEN:
            if self.media is None:
                self._kill(UNSUPPORTED, f"{size} in a session without media", now)
            elif not payload or len(payload) % self.media.bytes_per_sample:
                self._kill(BAD_REQUEST, f"{size} is not a whole number of samples from 1", now)
            else:
                self._play(decode_audio(self.media, payload), now)

    def _play(self, audio: bytes, now: float) -> None:
        assert self.playout is not None
        length_ms = ULAW_8K.duration_ms(len(audio))
        self.counts.audio_ms += length_ms
        self.counts.longest_message_ms = max(self.counts.longest_message_ms, length_ms)
        self.counts.messages_while_paused += self.outbox.client_paused
        if self.barge_ins and self.elapsed_ms(now) - self.barge_ins[-1].at_ms < LATE_MS:
            self.barge_ins[-1].late_bytes += len(audio)
        self._report(self.playout.push(audio, now))

    # --- messages

    def _receive_text(self, text: str, now: float) -> None:
        self.counts.text_messages += 1
        try:
            body = _decoder.decode(text)
        except msgspec.DecodeError:
            self._kill(BAD_REQUEST, "Message not well-formed JSON", now)
            return
        flaws = check(body, self.setup.session_id)
        for flaw in flaws:
            (self._kill if flaw.fatal else self._note)(flaw.code, flaw.text, now)
        self._check_seq(body, now)
        if not (flaws and flaws[-1].fatal):
            self._check_clientseq(body["clientseq"], now)
            self._obey(body["type"], body["parameters"], body["clientseq"], now)

    def _check_seq(self, body: object, now: float) -> None:
        """Every message counts, a wrong one too. Once a breach has ended the session nobody knows where it stands."""
        expected = self.outbox.serverseq + 1
        seq = body.get("seq") if isinstance(body, dict) else None
        if type(seq) is int and seq >= 0:
            if seq != expected and not self.killed:
                text = f"Invalid seq: expected sequence {expected} but received sequence {seq}"
                self._kill(INTERNAL, text, now)
            expected = seq
        self.outbox.serverseq = expected

    def _check_clientseq(self, clientseq: int, now: float) -> None:
        if clientseq > self.outbox.seq:
            text = f"clientseq is {clientseq}, the client's last seq is {self.outbox.seq}"
            self._kill(INTERNAL, text, now)
        elif clientseq < self._clientseq_seen:
            self._note(BAD_REQUEST, f"clientseq went back from {self._clientseq_seen} to {clientseq}", now)
        self._clientseq_seen = max(clientseq, self._clientseq_seen)

    def _obey(self, kind: str, parameters: dict[str, Any], clientseq: int, now: float) -> None:
        """Act on a well-formed message. While the session is closing, what crossed ``close`` is let pass."""
        state = self.state
        if state is State.CLOSED:
            self._note(CONFLICT, f"Unexpected '{kind}' message after closed", now)
        elif kind == "disconnect":
            self._on_disconnect(parameters, now)
        elif kind == "closed" and state is State.CLOSING:
            self.state, self._deadline_s = State.CLOSED, now + LINGER_S
        elif kind == "opened" and state is State.OPENING:
            self._on_opened(parameters, now)
        elif state is State.OPENING or (state is State.OPEN and kind in ("closed", "opened")):
            self._kill(CONFLICT, f"Unexpected '{kind}' message in state {state.value}", now)
        elif state is State.OPEN:
            self._obey_open(kind, parameters, clientseq, now)

    def _obey_open(self, kind: str, parameters: dict[str, Any], clientseq: int, now: float) -> None:
        if kind == "event":
            self._on_event(parameters["entities"], now)
        elif kind == "pong":
            self._on_pong(clientseq, now)
        elif kind in ("pause", "resume"):
            self._on_pause(kind, now)
        elif kind == "updated":
            if not self._updates_pending:
                self._note(CONFLICT, "Unexpected 'updated' (no outstanding 'update')", now)
            self._updates_pending = max(self._updates_pending - 1, 0)
        else:
            self._note(CONFLICT, f"'{kind}' is not for an Audio Connector", now)

    def _on_opened(self, parameters: dict[str, Any], now: float) -> None:
        chosen = [msgspec.convert(entry, MediaEntry) for entry in parameters["media"]]
        if not all(entry in self.setup.media for entry in chosen):
            self._kill(BAD_REQUEST, "Selected media not one of the offered", now)
            return
        self.state = State.OPEN
        self.media = chosen[0] if chosen else None
        self.opened_s = now
        self.playout = Playout(now, completed_after_clear=self.setup.completed_after_barge_in)
        self.pinger = Pinger(now, self.setup.limits.pong_timeout_s)
        self.outbox.server_paused = parameters.get("startPaused", False)

    def _on_disconnect(self, parameters: dict[str, Any], now: float) -> None:
        if self.disconnect is not None:
            self._note(CONFLICT, "disconnect came twice", now)
            return
        self._advance(now)
        self.disconnect = Disconnect(
            reason=parameters["reason"],
            info=parameters.get("info", ""),
            output_variables=parameters.get("outputVariables", {}),
            at_ms=round(self.elapsed_ms(now), 1),
            unplayed_ms=self.playout.buffered_ms if self.playout is not None else 0.0,
        )
        self.close(now, "disconnect")

    def _on_event(self, entities: list[dict[str, Any]], now: float) -> None:
        assert self.playout is not None
        for entity in entities:
            if entity["type"] == "barge_in":
                dropped_ms, reports = self.playout.clear(now)
                self.barge_ins.append(BargeIn(self.elapsed_ms(now), dropped_ms))
                self._report(reports)
            elif entity["type"] == "bot_turn_response":
                self.counts.turn_responses.append(entity["data"]["disposition"])

    def _on_pong(self, clientseq: int, now: float) -> None:
        """A wrong pong is told, and does not end the session by itself: its ping goes without an answer."""
        assert self.pinger is not None
        problem = self.pinger.pong(clientseq, now)
        if problem is not None:
            code, text = problem
            self._note(code, text, now)
            self.outbox.send("error", {"code": code, "message": text})

    def _on_pause(self, kind: str, now: float) -> None:
        self._meter("pause and resume", self._pause_resume, now)
        if self.state is State.OPEN:
            self.outbox.pause(by_server=True) if kind == "pause" else self.outbox.resume(by_server=True)
