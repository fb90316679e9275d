"""A caller on a Vonage line, sans-I/O: joins a media socket (the wire) to a person (the script).

A frame goes out every 20 ms on an absolute schedule: late ones are made up for, so the clock never drifts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.media.format import FRAME_MS, ULAW_8K
from bridge.simulators.genesys_person import AnyAction, ChangeLanguage, Hold, Person, ReportError
from bridge.simulators.twilio_line import HangUp, LoseAudio, PressKey
from bridge.simulators.vonage_result import VonageResult, intervals
from bridge.simulators.vonage_socket import Outgoing, VonageSocket
from bridge.simulators.vonage_voice import Ear, Mouth

_NO_CLOSE_FRAME = 1006


@dataclass(frozen=True, slots=True)
class Inject:
    """A message of Vonage's that is sent whatever the call is at, right or wrong."""

    at_ms: float
    message: str | bytes


def check_actions(actions: Sequence[AnyAction]) -> None:
    """Raises ``ValueError`` for an action that a Vonage line does not have."""
    for action in actions:
        if isinstance(action, Hold | ChangeLanguage | ReportError):
            raise ValueError(f"a caller over Vonage cannot {type(action).__name__}")


class VonageLine:
    """One call. Feed as the driver does: ``receive``, ``handle_timer``, ``drain``."""

    def __init__(
        self,
        socket: VonageSocket,
        actions: Sequence[AnyAction],
        result: VonageResult,
        *,
        injections: Sequence[Inject] = (),
        keep_audio: bool = True,
    ) -> None:
        """``keep_audio`` keeps all tracks in the result; without it a long call takes no memory."""
        check_actions(actions)
        rate_hz = result.rate_hz = socket.setup.rate_hz
        self.socket, self.result = socket, result
        self._person = Person(actions, result.note)
        self._mouth, self._ear = Mouth(rate_hz), Ear(rate_hz)
        self._injections = sorted(injections, key=lambda item: item.at_ms)
        self._keep_audio = keep_audio
        self._ticks = self._clears_seen = 0
        self._finished = False
        result.note(0, "socket opened")

    # --- the driver's side -------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether all is said once the last ``drain`` is carried out."""
        return self._finished

    def receive(self, message: str | bytes, now: float) -> None:
        """Feed one message of the server."""
        if self._finished:
            return
        self.socket.receive(message, now)
        self._notice_clears()
        if self.socket.over:
            self.result.note(self.socket.elapsed_ms(now), self.socket.violations[-1].text)
            self._finish("violation", _NO_CLOSE_FRAME, now)

    def connection_lost(self, code: int, reason: str, now: float) -> None:
        """Say that the socket is gone."""
        if not self._finished:
            self.socket.connection_lost()
            self.result.close_reason = reason
            self.result.note(self.socket.elapsed_ms(now), f"socket closed with {code} {reason}".rstrip())
            self._finish("lost" if code == _NO_CLOSE_FRAME else "bridge", code, now)

    def drain(self) -> list[Outgoing]:
        """Take what must go out, in order."""
        return self.socket.drain()

    def next_timer(self) -> float:
        """When ``handle_timer`` is to be called next."""
        return math.inf if self._finished else min(self._next_tick_s(), self.socket.next_timer())

    def handle_timer(self, now: float) -> None:
        """Let time pass: every 20 ms a frame goes out, notifies when they are due."""
        while not self._finished and self._next_tick_s() <= now:
            tick_s = self._next_tick_s()
            self._ticks += 1
            self._tick(tick_s)
        if not self._finished:
            self.socket.advance(now)

    def hang_up(self, now: float, ended_by: str = "caller") -> None:
        """The caller hangs up now, whatever the actions say."""
        if not self._finished:
            self.result.note(self.socket.elapsed_ms(now), "caller hangs up")
            self.socket.advance(now)
            self.socket.close()
            self._finish(ended_by, 1000, now)

    # --- ticks -------------------------------------------------------------------------------------------

    def _next_tick_s(self) -> float:
        return self.socket.started_s + (self._ticks + 1) * FRAME_MS / 1000

    def _tick(self, now: float) -> None:
        at_ms = (self._ticks - 1) * float(FRAME_MS)
        self.socket.advance(now)
        while self._injections and self._injections[0].at_ms <= at_ms:
            self.socket.inject(self._injections.pop(0).message)
        heard = self._listen()
        said = self._person.step(at_ms, heard)
        self._carry_out(now)
        if self._finished:
            return
        if self._keep_audio:
            self.result.said += said
        frame = self._mouth.frame(said)
        if not isinstance(self._person.lasting, LoseAudio):
            self.socket.send_audio(frame)

    def _listen(self) -> bytes:
        pcm = self.socket.playout.take_heard()
        self._ear.feed(pcm)
        heard = self._ear.frame()
        if self._keep_audio:
            self.result.heard_pcm += pcm
            self.result.heard += heard
        return heard

    def _carry_out(self, now: float) -> None:
        wishes, self._person.wishes = self._person.wishes, []
        for wish in wishes:
            if isinstance(wish, PressKey):
                self.socket.send_dtmf(wish.digit)
            elif isinstance(wish, HangUp):
                self.hang_up(now)

    # --- books -------------------------------------------------------------------------------------------

    def _notice_clears(self) -> None:
        for clear in self.socket.clears[self._clears_seen :]:
            self._clears_seen += 1
            at_ms = self.socket.elapsed_ms(clear.at_s)
            self.result.note(at_ms, f"clear, {clear.dropped_ms:.0f} ms dropped")
            self._person.cleared(at_ms)

    def _finish(self, ended_by: str, code: int, now: float) -> None:
        """Close the books."""
        self._finished = True
        socket, result, person, playout = self.socket, self.result, self._person, self.socket.playout
        playout.advance(now)
        self._listen()
        result.ended_by, result.close_code = ended_by, code
        result.duration_ms = round(socket.elapsed_ms(now), 1)
        result.frames_sent, result.frames_received = socket.frames_sent, socket.frames_received
        result.bytes_received = socket.bytes_received
        result.frame_intervals = intervals(playout.intervals_ms)
        result.lead_max_messages = playout.lead_max_messages
        result.gaps = playout.gaps
        result.clear_count = len(socket.clears)
        result.cleared_ms = sum(clear.dropped_ms for clear in socket.clears)
        result.unplayed_ms = playout.buffered_ms
        result.notifies_received = socket.notifies_received
        result.notifies_echoed = [dict(payload) for payload in socket.notified]
        result.reaction_ms, result.response_ms = person.reaction_ms, person.response_ms
        result.utterances_ms = person.utterances_ms
        if person.utterances_ms:
            result.first_audio_ms = person.utterances_ms[0]
        result.violations = socket.violations
        size_bytes = max(len(result.said), len(result.heard))  # both tracks stay on one clock
        for track in (result.said, result.heard):
            track += ULAW_8K.silence(size_bytes - len(track))
