"""A caller on a Genesys Cloud line, sans-I/O: joins a session (the wire) to a person (the script).

Audio goes out every 200 ms on an absolute schedule, as Genesys sends it; each time the person lives through the 200
ms that have passed, in steps of 20 ms. So a caller costs five wake-ups a second, and still barges in to the frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, assert_never

from bridge.media.format import FRAME_MS, ULAW_8K
from bridge.simulators.genesys_outbox import CloseSocket, Outgoing
from bridge.simulators.genesys_person import (
    FRAME_BYTES,
    AnyAction,
    ChangeLanguage,
    Hold,
    Person,
    ReportError,
    Wish,
)
from bridge.simulators.genesys_protocol import GenesysSession
from bridge.simulators.genesys_record import State
from bridge.simulators.genesys_result import GenesysResult
from bridge.simulators.twilio_line import HangUp, LoseAudio, PressKey
from bridge.simulators.twilio_playout import SILENCE, Gap

TICK_MS: Final = 200
"""Audio in one message (1600 bytes of PCMU), as call logs of the Audio Connector show it."""

_STEPS: Final = TICK_MS // FRAME_MS


class GenesysLine:
    """One attempt of a call. Feed as the driver does: ``receive``, ``handle_timer``, ``drain``."""

    def __init__(
        self,
        session: GenesysSession,
        actions: Sequence[AnyAction],
        result: GenesysResult,
        *,
        keep_audio: bool = True,
    ) -> None:
        """``keep_audio`` keeps both tracks in the result; without it a long call takes no memory."""
        self.session = session
        self.result = result
        self.finished = False
        self._person = Person(actions, self._note_on_line)
        self._keep_audio = keep_audio
        self._ticks = 0
        self._unsent = bytearray()
        self._unsent_heard = bytearray()
        self._lost_samples = 0
        self._lasting: LoseAudio | Hold | None = None
        self._offset_ms = 0.0
        self._barge_ins_seen = 0
        result.session_id = session.setup.session_id
        result.conversation_id = session.setup.conversation_id
        result.note(0, "open sent")

    # --- the driver's side -------------------------------------------------------------------------------

    def receive(self, message: str | bytes, now: float) -> None:
        """Feed one message of the server."""
        if not self.finished:
            self.session.receive(message, now)
            self._notice(now)

    def connection_lost(self, code: int, reason: str, now: float) -> None:
        """Say that the socket is gone; right only after the client has closed it."""
        if not self.finished:
            was_closed = self.session.state is State.CLOSED
            self.session.connection_lost(code, now)
            self.result.close_code = code
            if not was_closed and self.result.ended_by in ("", "server"):
                self.result.ended_by = "lost"  # for Genesys a network failure, whatever was said before
            self.result.note(self.session.elapsed_ms(now), f"socket closed with {code} {reason}".rstrip())
            self._finish()

    def drain(self) -> list[Outgoing]:
        """Take what must go out, in order."""
        out = self.session.drain()
        if out and isinstance(out[-1], CloseSocket):
            self._finish()
        return out

    def next_timer(self) -> float:
        """When ``handle_timer`` is to be called next."""
        return math.inf if self.finished else min(self._next_tick_s(), self.session.next_timer())

    def handle_timer(self, now: float) -> None:
        """Let time pass: audio goes out every 200 ms, playback events and pings when they are due."""
        while (tick_s := self._next_tick_s()) <= now:
            self.session.handle_timer(tick_s)
            if self.session.state is State.OPEN:
                self._ticks += 1
                self._tick(tick_s)
        self.session.handle_timer(now)
        self._notice(now)

    def hang_up(self, now: float, ended_by: str = "caller") -> None:
        """The caller hangs up now, whatever the actions say."""
        if self.session.state in (State.OPENING, State.OPEN):
            self._flush()
            self.result.ended_by = ended_by
            self.result.note(self.session.elapsed_ms(now), "caller hangs up" if ended_by != "probe" else "probed")
            self.session.close(now)

    # --- ticks -------------------------------------------------------------------------------------------

    def _next_tick_s(self) -> float:
        if self.session.state is not State.OPEN or self.session.opened_s is None:
            return math.inf
        return self.session.opened_s + (self._ticks + 1) * TICK_MS / 1000

    def _note_on_line(self, at_ms: float, what: str) -> None:
        self.result.note(self._offset_ms + at_ms, what)

    def _tick(self, now: float) -> None:
        playout = self.session.playout
        assert playout is not None
        heard = playout.take_heard(TICK_MS * FRAME_BYTES // FRAME_MS)
        began_ms = (self._ticks - 1) * float(TICK_MS)
        for step in range(_STEPS):
            heard_now = heard[step * FRAME_BYTES : (step + 1) * FRAME_BYTES]
            said = self._person.step(began_ms + step * FRAME_MS, heard_now)
            self._notice_lasting()
            self._carry_out(now)
            if self.session.state is not State.OPEN:
                return
            if self._keep_audio:
                self.result.said += said
                self.result.heard += heard_now
            if isinstance(self._lasting, LoseAudio):
                self._lost_samples += len(said)
            else:
                self._unsent += said
                self._unsent_heard += heard_now
        self._flush()

    def _flush(self) -> None:
        """Send what was said since the last time."""
        self.result.frames_sent += self.session.send_audio(bytes(self._unsent), bytes(self._unsent_heard))
        self._unsent.clear()
        self._unsent_heard.clear()

    def _notice_lasting(self) -> None:
        """End a hold or a loss of audio that is over."""
        if self._lasting is None or self._lasting is self._person.lasting:
            return
        if isinstance(self._lasting, Hold):
            self._flush()  # into the pause
            self.session.resume()
        else:
            self.session.discard_audio(self._lost_samples)
            self._lost_samples = 0
        self._lasting = None

    def _carry_out(self, now: float) -> None:
        wishes, self._person.wishes = self._person.wishes, []
        for wish in wishes:
            self._grant(wish, now)

    def _grant(self, wish: Wish, now: float) -> None:
        match wish:
            case PressKey():
                self.session.send_dtmf(wish.digit)
            case ChangeLanguage():
                self.session.send_update(wish.language)
            case ReportError():
                self.session.send_error(wish.code, wish.message)
            case Hold():
                self._flush()
                self.session.pause()
                self._lasting = wish
            case LoseAudio():
                self._flush()
                self._lasting = wish
            case HangUp():
                self.hang_up(now)
            case _:
                assert_never(wish)

    # --- ends --------------------------------------------------------------------------------------------

    def _notice(self, now: float) -> None:
        """See what became of the session in the last step."""
        session, result = self.session, self.result
        at_ms = session.elapsed_ms(now)
        if result.opened_ms is None and session.opened_s is not None:
            result.opened_ms = round((session.opened_s - session.started_s) * 1000, 3)
            self._offset_ms = result.opened_ms
            result.note(at_ms, "opened")
            if session.setup.is_probe:
                self.hang_up(now, "probe")
        for barge_in in session.barge_ins[self._barge_ins_seen :]:
            self._barge_ins_seen += 1
            result.note(barge_in.at_ms, f"barge_in, {barge_in.dropped_ms:.0f} ms dropped")
            self._person.cleared(barge_in.at_ms - self._offset_ms)
        if not result.ended_by and session.killed:
            result.ended_by = "breach"
            result.note(at_ms, f"session ended for a breach: {session.breaches[-1].text}")
        elif not result.ended_by and session.disconnect is not None:
            result.ended_by = "server"
            result.note(at_ms, f"disconnect {session.disconnect.reason}")

    def _finish(self) -> None:
        """Close the books."""
        self.finished = True
        session, result, person, playout = self.session, self.result, self._person, self.session.playout
        if session.media is not None:
            result.media = f"{session.media.format} {' '.join(session.media.channels)}"
        result.disconnect = session.disconnect
        result.open_timed_out = session.open_timed_out
        result.counts = session.counts
        result.barge_ins = session.barge_ins
        result.breaches += session.breaches
        result.playback_events = [playback.value for playback in session.playbacks]
        result.reaction_ms, result.response_ms = person.reaction_ms, person.response_ms
        result.utterances_ms = person.utterances_ms
        if person.utterances_ms:
            result.first_audio_ms = self._offset_ms + person.utterances_ms[0]
        result.least_binary_tokens, result.least_text_tokens = session.least_tokens()
        result.timeline.sort(key=lambda entry: entry[0])  # the person lives up to 200 ms behind the wire
        if session.pinger is not None:
            result.rtt_ms = [round(rtt_s * 1000, 3) for rtt_s in session.pinger.rtts_s]
        if playout is not None:
            self._keep_rest(playout.take_heard(playout.played_samples))
            result.duration_ms = ULAW_8K.duration_ms(playout.played_samples)
            result.unplayed_ms = playout.buffered_ms
            result.lead_max_ms = playout.lead_max_ms
            result.gaps = [Gap(gap.at_ms + self._offset_ms, gap.length_ms) for gap in playout.gaps]

    def _keep_rest(self, heard: bytes) -> None:
        """What was heard since the last tick; both tracks stay on one clock."""
        result = self.result
        if self._keep_audio:
            result.heard += heard
            result.said += SILENCE * (len(result.heard) - len(result.said))
            result.heard += SILENCE * (len(result.said) - len(result.heard))
