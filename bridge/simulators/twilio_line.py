"""A caller on a Twilio line, sans-I/O: says its part, listens to the agent, hangs up.

``FakeTwilio`` joins a ``TwilioStream`` (the wire) to a list of actions (the caller). It ticks every 20 ms on an
absolute schedule: late ticks are made up for, so the clock of the line never drifts.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from bridge.media.format import FRAME_MS, ULAW_8K
from bridge.media.g711 import ulaw_to_pcm
from bridge.simulators.call_result import CallResult
from bridge.simulators.speech import load_clip
from bridge.simulators.twilio_playout import SILENCE, Gap
from bridge.simulators.twilio_protocol import TwilioStream

FRAME_BYTES: Final = ULAW_8K.size_bytes(FRAME_MS)

AUDIBLE_LEVEL = 500
"""Sample value (of 32768) from which the ear hears something on a phone line."""

AUDIBLE_SHARE = 8
"""A frame is audible when one sample in so many reaches the level."""

PAUSE_MS = 450
"""A pause up to this long does not end what the agent is saying."""


_LOUD = bytes(abs(level) >= AUDIBLE_LEVEL for (level,) in struct.iter_unpack("<h", ulaw_to_pcm(bytes(range(256)))))
"""For ``bytes.translate``: 1 for every mu-law code of an audible sample, else 0."""


class Action(msgspec.Struct, frozen=True, tag_field="action", kw_only=True, forbid_unknown_fields=True):
    """Base of what a caller does."""


class Speak(Action, frozen=True, tag="speak"):
    """Say something, whether the agent speaks or not."""

    clip: str


class Silence(Action, frozen=True, tag="silence"):
    """Say nothing for a while."""

    ms: int


class LoseAudio(Action, frozen=True, tag="lose_audio"):
    """For a while the caller's frames get lost on their way to the bridge: a hole in all counts of the stream."""

    ms: int


class Interrupt(Action, frozen=True, tag="interrupt"):
    """Wait until the agent has been audible for a while, then speak into it."""

    clip: str = "caller_interruption"
    after_ms: int = 1000


class PressKey(Action, frozen=True, tag="press_key"):
    """Press a key."""

    digit: str


class WaitForAgentEnd(Action, frozen=True, tag="wait_for_agent_end"):
    """Wait until the agent has said something and fallen silent."""

    quiet_ms: int = 700
    timeout_ms: int = 20_000
    """Go on after that long in any case."""


class WaitForClose(Action, frozen=True, tag="wait_for_close"):
    """Stay on the line until the other side ends it."""

    timeout_ms: int = 60_000


class HangUp(Action, frozen=True, tag="hang_up"):
    """Hang up."""


AnyAction = Speak | Silence | LoseAudio | Interrupt | PressKey | WaitForAgentEnd | WaitForClose | HangUp

DEMO_ACTIONS: tuple[AnyAction, ...] = (
    WaitForAgentEnd(),
    Speak(clip="caller_question"),
    Interrupt(after_ms=1200),
    WaitForAgentEnd(),
    Speak(clip="caller_thanks"),
    WaitForClose(),
)
"""The caller's part in the agent's ``demo`` scenario."""


class CloseStream(msgspec.Struct, frozen=True):
    """For the driver: close the socket, the caller is gone."""


LineAction = str | CloseStream


class FakeTwilio:
    """One stream with a caller at its far end. Feed as the driver does: ``receive``, ``handle_timer``, ``drain``."""

    def __init__(
        self, stream: TwilioStream, actions: Sequence[AnyAction], now: float, result: CallResult | None = None
    ) -> None:
        """Sends ``connected`` and ``start``. ``result`` continues that of an earlier stream of the same call."""
        self.stream = stream
        self.result = result or CallResult(call_sid=stream.call_sid)
        self.finished = False
        self._actions = list(actions)
        self._started_s = self._next_tick_s = now
        self._offset_ms = ULAW_8K.duration_ms(len(self.result.said))
        self._ticks = 0
        self._closing = False
        self._speech = b""
        self._spoke_until_ms: float | None = None
        self._barge_in_ms: float | None = None
        self._action_began_ms: float | None = None
        self._clears_seen = self._analysed = 0
        self._talk_began_ms: float | None = None
        self._loud_until_ms = -math.inf
        self._agent_spoke = self._spoke_in_action = False
        self.result.stream_sids.append(stream.stream_sid)
        stream.send_connected()
        stream.send_start(now)
        self._note(0, "stream started")

    # --- the driver's side -------------------------------------------------------------------------------

    def receive(self, message: str | bytes, now: float) -> None:
        """Feed one message of the server."""
        if not self.finished:
            self.stream.receive(message, now)
            self._notice_clears()

    def connection_lost(self, code: int, reason: str, now: float) -> None:
        """Say that the socket is gone: the server closed it, unless the caller hung up before."""
        if not self.finished:
            self.result.ended_by = "lost" if code == 1006 else "bridge"
            self.result.close_code, self.result.close_reason = code, reason
            self._note(self._elapsed_ms(now), f"stream closed with {code}")
            self._finish(now)

    def drain(self) -> list[LineAction]:
        """Take what must go out, in order."""
        out: list[LineAction] = [*self.stream.drain()]
        if self._closing:
            self._closing = False
            out.append(CloseStream())
        return out

    def next_timer(self) -> float:
        """When ``handle_timer`` is to be called next."""
        return math.inf if self.finished else min(self._next_tick_s, self.stream.next_timer())

    def handle_timer(self, now: float) -> None:
        """Let time pass: every 20 ms a frame goes out; marks go out when they are due."""
        while not self.finished and self._next_tick_s <= now:
            self._tick(self._next_tick_s)
            self._ticks += 1
            self._next_tick_s = self._started_s + self._ticks * FRAME_MS / 1000
        if not self.finished:
            self.stream.advance(now)

    def remaining_actions(self) -> list[AnyAction]:
        """What the caller has not done yet; for the next stream of the same call."""
        return list(self._actions)

    def hang_up(self, now: float, ended_by: str = "caller") -> None:
        """The caller hangs up now, whatever the actions say."""
        if not self.finished:
            self.stream.advance(now)
            self.stream.send_stop()
            self.result.ended_by, self.result.close_code = ended_by, 1000
            self._note(self._elapsed_ms(now), "caller hangs up")
            self._closing = True
            self._finish(now)

    # --- ticks -------------------------------------------------------------------------------------------

    def _elapsed_ms(self, now: float) -> float:
        return (now - self._started_s) * 1000

    def _note(self, at_ms: float, what: str) -> None:
        self.result.note(self._offset_ms + at_ms, what)

    def _tick(self, now: float) -> None:
        self.stream.advance(now)
        self._listen()
        elapsed_ms = self._ticks * float(FRAME_MS)
        while self._actions and self._act(self._actions[0], elapsed_ms, now):
            if self.finished:
                return
            self._actions.pop(0)
            self._action_began_ms, self._spoke_in_action = None, False
        frame = self._speech[:FRAME_BYTES].ljust(FRAME_BYTES, SILENCE)
        if self._speech:
            self._speech = self._speech[FRAME_BYTES:]
            if not self._speech:
                self._spoke_until_ms = elapsed_ms + FRAME_MS
                self._agent_spoke = False  # what counts from here on is the answer
                self._note(self._spoke_until_ms, "caller stops speaking")
        self.result.said += frame
        if self._actions and isinstance(self._actions[0], LoseAudio):
            self.stream.skip_media(FRAME_BYTES)
            return
        self.stream.send_media(frame)
        self.result.frames_sent += 1

    def _act(self, action: AnyAction, elapsed_ms: float, now: float) -> bool:
        """Carry an action on; True when it is done."""
        if self._action_began_ms is None:
            self._action_began_ms = elapsed_ms
            if isinstance(action, Speak):
                self._speak(action.clip, elapsed_ms)
            elif isinstance(action, PressKey):
                self.stream.send_dtmf(action.digit)
                self._note(elapsed_ms, f"caller presses {action.digit}")
        waited_ms = elapsed_ms - self._action_began_ms
        match action:
            case Speak():
                return not self._speech
            case Silence() | LoseAudio():
                return waited_ms >= action.ms
            case Interrupt():
                return self._interrupt(action, elapsed_ms)
            case WaitForAgentEnd():
                return self._agent_ended(action, elapsed_ms) or waited_ms >= action.timeout_ms
            case WaitForClose():
                return waited_ms >= action.timeout_ms
            case HangUp():
                self.hang_up(now)
        return True

    def _speak(self, clip: str, elapsed_ms: float) -> None:
        self._speech = load_clip(clip, ULAW_8K)
        self._note(elapsed_ms, f"caller speaks {clip}")

    def _interrupt(self, action: Interrupt, elapsed_ms: float) -> bool:
        if self._spoke_in_action:
            return not self._speech
        if self._talk_began_ms is not None and elapsed_ms - self._talk_began_ms >= action.after_ms:
            self._barge_in_ms, self._spoke_in_action = elapsed_ms, True
            self._note(elapsed_ms, "caller barges in")
            self._speak(action.clip, elapsed_ms)
        return False

    def _agent_ended(self, action: WaitForAgentEnd, elapsed_ms: float) -> bool:
        if self._agent_spoke and elapsed_ms - self._loud_until_ms >= action.quiet_ms:
            self._agent_spoke = False
            return True
        return False

    # --- ears --------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Look at what was heard since the last tick, frame by frame."""
        playout = self.stream.playout
        while playout is not None and self._analysed + FRAME_BYTES <= len(playout.heard):
            frame = playout.heard[self._analysed : self._analysed + FRAME_BYTES]
            at_ms = ULAW_8K.duration_ms(self._analysed)
            self._analysed += FRAME_BYTES
            if frame.translate(_LOUD).count(1) * AUDIBLE_SHARE >= FRAME_BYTES:
                if self._talk_began_ms is None:
                    self._agent_began(at_ms)
                self._loud_until_ms = at_ms + FRAME_MS
                self._agent_spoke = True
            elif self._talk_began_ms is not None and at_ms - self._loud_until_ms > PAUSE_MS:
                self._talk_began_ms = None
                self._note(self._loud_until_ms, "agent silent")

    def _agent_began(self, at_ms: float) -> None:
        self._talk_began_ms = at_ms
        self._note(at_ms, "agent audible")
        if self.result.first_audio_ms is None:
            self.result.first_audio_ms = at_ms
        if self._spoke_until_ms is not None:
            self.result.response_ms.append(at_ms - self._spoke_until_ms)
            self._spoke_until_ms = None

    def _notice_clears(self) -> None:
        for clear in self.stream.clears[self._clears_seen :]:
            self._clears_seen += 1
            at_ms = self._elapsed_ms(clear.at_s)
            self._note(at_ms, f"clear, {clear.dropped_ms:.0f} ms dropped, {clear.marks} marks back")
            self.result.clear_count += 1
            self.result.cleared_ms += clear.dropped_ms
            if self._barge_in_ms is not None:
                self.result.reaction_ms.append(round(at_ms - self._barge_in_ms, 1))
                self._barge_in_ms = None

    def _finish(self, now: float) -> None:
        """Close the books of this stream."""
        self.finished = True
        stream, result, playout = self.stream, self.result, self.stream.playout
        assert playout is not None  # started by the constructor
        playout.advance_clock(now)
        self._listen()
        result.unplayed_ms += playout.buffered_ms
        result.lead_max_ms = max(result.lead_max_ms, playout.lead_max_ms)
        result.gaps += (Gap(gap.at_ms + self._offset_ms, gap.length_ms) for gap in playout.gaps)
        result.heard += playout.heard
        size_bytes = max(len(result.said), len(result.heard))  # both tracks stay on one clock
        result.said += SILENCE * (size_bytes - len(result.said))
        result.heard += SILENCE * (size_bytes - len(result.heard))
        result.duration_ms = ULAW_8K.duration_ms(size_bytes)
        result.media_messages += stream.media_messages
        result.media_bytes += stream.media_bytes
        result.marks_received += stream.marks_received
        result.marks_echoed += stream.marks_echoed
        result.violations += stream.violations
