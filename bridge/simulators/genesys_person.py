"""Somebody on a simulated call, sans-I/O, in steps of 20 ms: says its part, listens to the agent, wants things.

Knows nothing of any wire. What the caller wants of the line (a key, hold, hang up) comes out as the action itself.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bridge.media.format import FRAME_MS, ULAW_8K
from bridge.media.g711 import ulaw_to_pcm
from bridge.media.tones import DTMF_FREQUENCIES_HZ
from bridge.simulators.speech import load_clip
from bridge.simulators.twilio_line import (
    AUDIBLE_LEVEL,
    AUDIBLE_SHARE,
    DEMO_ACTIONS,
    PAUSE_MS,
    Action,
    HangUp,
    Interrupt,
    LoseAudio,
    PressKey,
    Silence,
    Speak,
    WaitForAgentEnd,
    WaitForClose,
)
from bridge.simulators.twilio_playout import SILENCE

FRAME_BYTES: Final = ULAW_8K.size_bytes(FRAME_MS)

_SILENT_FRAME: Final = SILENCE * FRAME_BYTES

_LOUD = bytes(abs(level) >= AUDIBLE_LEVEL for (level,) in struct.iter_unpack("<h", ulaw_to_pcm(bytes(range(256)))))
"""For ``bytes.translate``: 1 for every mu-law code of an audible sample, else 0."""

KEY_EVERY_MS = 200
"""Between two keys of ``press_keys``."""


class Hold(Action, frozen=True, tag="hold", kw_only=True, forbid_unknown_fields=True):
    """The flow or an agent puts the line on hold: paused, and resumed after a while."""

    ms: int


class ChangeLanguage(Action, frozen=True, tag="change_language", kw_only=True, forbid_unknown_fields=True):
    """The flow sets another language."""

    language: str


class ReportError(Action, frozen=True, tag="report_error", kw_only=True, forbid_unknown_fields=True):
    """The carrier reports an error that changes nothing."""

    code: int = 500
    message: str = "Internal error"


AnyAction = (
    Speak
    | Silence
    | LoseAudio
    | Interrupt
    | PressKey
    | WaitForAgentEnd
    | WaitForClose
    | HangUp
    | Hold
    | ChangeLanguage
    | ReportError
)

Wish = LoseAudio | PressKey | HangUp | Hold | ChangeLanguage | ReportError
"""What the line must do; ``LoseAudio`` and ``Hold`` begin with it and end with ``lasting`` being None again."""


def press_keys(digits: str, rest: Sequence[AnyAction] = DEMO_ACTIONS[1:]) -> tuple[AnyAction, ...]:
    """Hear the agent out, press keys, then go on with ``rest``."""
    keys: list[AnyAction] = [WaitForAgentEnd()]
    for digit in digits:
        keys += (PressKey(digit=digit), Silence(ms=KEY_EVERY_MS))
    return (*keys, *rest)


def caller_actions(script: Path | None, digits: str) -> tuple[AnyAction, ...]:
    """What the caller does: the actions of a JSON file, or the demo's, after the keys if there are any.

    Raises ``ValueError`` for a file or keys that do not work, ``OSError`` for a file that cannot be read.
    """
    if any(digit not in DTMF_FREQUENCIES_HZ for digit in digits):
        raise ValueError("digits are 0-9 * # A-D")
    if script is not None:
        if digits:
            raise ValueError("give the keys in the script, or without a script")
        try:
            return msgspec.json.decode(script.read_bytes(), type=tuple[AnyAction, ...])
        except msgspec.DecodeError as error:
            raise ValueError(f"{script.name} is no list of actions: {error}") from None
    return press_keys(digits) if digits else DEMO_ACTIONS


class Person:
    """One caller. Call ``step`` for every 20 ms of the line, in order."""

    def __init__(self, actions: Sequence[AnyAction], note: Callable[[float, str], None]) -> None:
        """``note`` gets what happens, with the time on the line's clock in ms."""
        self.wishes: list[Wish] = []
        """Wishes of the last step; the line takes them."""
        self.lasting: LoseAudio | Hold | None = None
        """The hold or loss of audio that goes on now."""
        self.utterances_ms: list[float] = []
        """When the agent became audible."""
        self.response_ms: list[float] = []
        """From the end of each utterance of ours to the agent's answer."""
        self.reaction_ms: list[float] = []
        """From the start of each barge-in to what the line told with ``cleared``."""
        self._actions = list(actions)
        self._note = note
        self._speech = b""
        self._began_ms: float | None = None
        self._spoke_in_action = False
        self._spoke_until_ms: float | None = None
        self._barge_in_ms: float | None = None
        self._talk_began_ms: float | None = None
        self._loud_until_ms = -math.inf
        self._agent_spoke = False

    def step(self, at_ms: float, heard: bytes) -> bytes:
        """Live through 20 ms that begin at ``at_ms``, in which ``heard`` is heard; returns what is said in them."""
        while self._actions and self._act(self._actions[0], at_ms):
            self._actions.pop(0)
            self._began_ms, self._spoke_in_action, self.lasting = None, False, None
        frame = self._say(at_ms)
        self._listen(at_ms, heard)
        return frame

    def cleared(self, at_ms: float) -> None:
        """Say that the agent's audio was thrown away: the reaction to a barge-in, if there was one."""
        if self._barge_in_ms is not None:
            self.reaction_ms.append(round(at_ms - self._barge_in_ms, 1))
            self._barge_in_ms = None

    # --- what it does ------------------------------------------------------------------------------------

    def _act(self, action: AnyAction, at_ms: float) -> bool:
        """Carry an action on; True when it is done."""
        if self._began_ms is None:
            self._began_ms = at_ms
            self._begin(action, at_ms)
        waited_ms = at_ms - self._began_ms
        match action:
            case Speak():
                return not self._speech
            case Silence() | LoseAudio() | Hold():
                return waited_ms >= action.ms
            case Interrupt():
                return self._interrupt(action, at_ms)
            case WaitForAgentEnd():
                return self._agent_ended(action, at_ms) or waited_ms >= action.timeout_ms
            case WaitForClose():
                return waited_ms >= action.timeout_ms
        return True

    def _begin(self, action: AnyAction, at_ms: float) -> None:
        match action:
            case Speak():
                self._speak(action.clip, at_ms)
            case PressKey():
                self.wishes.append(action)
                self._note(at_ms, f"caller presses {action.digit}")
            case HangUp() | ChangeLanguage() | ReportError():
                self.wishes.append(action)
            case LoseAudio() | Hold():
                self.lasting = action
                self.wishes.append(action)

    def _speak(self, clip: str, at_ms: float) -> None:
        self._speech = load_clip(clip, ULAW_8K)
        self._note(at_ms, f"caller speaks {clip}")

    def _say(self, at_ms: float) -> bytes:
        if not self._speech:
            return _SILENT_FRAME
        frame, self._speech = self._speech[:FRAME_BYTES], self._speech[FRAME_BYTES:]
        if not self._speech:
            self._spoke_until_ms = at_ms + FRAME_MS
            self._agent_spoke = False  # what counts from here on is the answer
            self._note(self._spoke_until_ms, "caller stops speaking")
        return frame.ljust(FRAME_BYTES, SILENCE)

    def _interrupt(self, action: Interrupt, at_ms: float) -> bool:
        if self._spoke_in_action:
            return not self._speech
        if self._talk_began_ms is not None and at_ms - self._talk_began_ms >= action.after_ms:
            self._barge_in_ms, self._spoke_in_action = at_ms, True
            self._note(at_ms, "caller barges in")
            self._speak(action.clip, at_ms)
        return False

    def _agent_ended(self, action: WaitForAgentEnd, at_ms: float) -> bool:
        if self._agent_spoke and at_ms - self._loud_until_ms >= action.quiet_ms:
            self._agent_spoke = False
            return True
        return False

    # --- what it hears -----------------------------------------------------------------------------------

    def _listen(self, at_ms: float, heard: bytes) -> None:
        # Silence is the most common frame of all, and a comparison the cheapest test.
        if heard != _SILENT_FRAME and heard.translate(_LOUD).count(1) * AUDIBLE_SHARE >= FRAME_BYTES:
            if self._talk_began_ms is None:
                self._agent_began(at_ms)
            self._loud_until_ms = at_ms + FRAME_MS
            self._agent_spoke = True
        elif self._talk_began_ms is not None and at_ms - self._loud_until_ms > PAUSE_MS:
            self._talk_began_ms = None
            self._note(self._loud_until_ms, "agent silent")

    def _agent_began(self, at_ms: float) -> None:
        self._talk_began_ms = at_ms
        self.utterances_ms.append(at_ms)
        self._note(at_ms, "agent audible")
        if self._spoke_until_ms is not None:
            self.response_ms.append(at_ms - self._spoke_until_ms)
            self._spoke_until_ms = None
