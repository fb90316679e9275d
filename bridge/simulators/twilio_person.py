"""A scripted human (or machine) behind a number of the simulated Twilio cloud: how they answer, what they do then.

Sans-I/O, in steps of 20 ms, like ``genesys_person``, whose actions it shares; it adds what only happens on a phone:
being asked for keys by a <Gather>, being joined with somebody, and answering machines.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from bridge.media.format import ULAW_8K
from bridge.media.g711 import pcm_to_ulaw
from bridge.media.tones import tone
from bridge.simulators.genesys_person import AnyAction, Person
from bridge.simulators.speech import load_clip
from bridge.simulators.twilio_line import Action, HangUp, PressKey

KEY_EVERY_MS = 200
"""Between two keys pressed one after the other."""

BEEP_HZ, BEEP_MS, BEEP_LEVEL = 1000, 400, 8000
"""What an answering machine gives before it records."""

FAX_HZ, FAX_MS = 2100, 3000
"""The answer tone of a fax machine (ITU-T T.30)."""


class Answer(enum.Enum):
    """What becomes of a call to somebody."""

    PICK_UP = "pick_up"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    FAILS = "fails"
    """The number cannot be reached."""
    MACHINE = "machine"
    """An answering machine says its greeting and beeps."""
    FAX = "fax"


class PressWhenAsked(Action, frozen=True, tag="press_when_asked", kw_only=True, forbid_unknown_fields=True):
    """Wait until a <Gather> listens, then press keys."""

    digits: str
    after_ms: int = 100


class WaitUntilJoined(Action, frozen=True, tag="wait_until_joined", kw_only=True, forbid_unknown_fields=True):
    """Wait until another person is on the line: a bridged call, or a conference that has started."""


PhoneAction = AnyAction | PressWhenAsked | WaitUntilJoined


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonScript:
    """Somebody with a telephone."""

    answer: Answer = Answer.PICK_UP
    answer_after_ms: int = 50
    """From the first ring."""
    actions: tuple[PhoneAction, ...] = ()
    """What they do once they answered; afterwards they listen until the other side hangs up."""
    hang_up_after_ms: int | None = None
    """After answering, whatever the actions say."""
    verdict: str = ""
    """What machine detection says of them; empty = as ``answer`` has it."""
    verdict_after_ms: int = 200
    """After answering; the end of a message is told at its beep in any case."""
    greeting: str = "agent_greeting"
    """Clip that an answering machine plays."""
    refer_code: int = 202
    """SIP answer to a REFER that is sent to this person's phone."""
    sip_headers: tuple[tuple[str, str], ...] = ()
    """Headers that their phone adds to a SIP call it makes, e.g. ``("X-Account", "7")``."""

    @property
    def sip_code(self) -> int:
        """SIP status with which a call to them ends or is answered."""
        return {Answer.BUSY: 486, Answer.NO_ANSWER: 487, Answer.FAILS: 404}.get(self.answer, 200)

    def machine_message(self) -> bytes:
        """Greeting and beep of a machine, or the tone of a fax, as mu-law; empty for people."""
        if self.answer is Answer.MACHINE:
            beep = pcm_to_ulaw(tone((BEEP_HZ,), BEEP_MS, ULAW_8K.rate_hz, BEEP_LEVEL))
            return load_clip(self.greeting, ULAW_8K) + beep
        if self.answer is Answer.FAX:
            return pcm_to_ulaw(tone((FAX_HZ,), FAX_MS, ULAW_8K.rate_hz, BEEP_LEVEL))
        return b""

    def detect(self, *, message_end: bool) -> tuple[str, float]:
        """What machine detection says, and how many ms after the answer."""
        if self.verdict:
            return self.verdict, self.verdict_after_ms
        if self.answer is Answer.FAX:
            return "fax", self.verdict_after_ms
        if self.answer is not Answer.MACHINE:
            return "human", self.verdict_after_ms
        if message_end:
            return "machine_end_beep", ULAW_8K.duration_ms(len(self.machine_message()))
        return "machine_start", self.verdict_after_ms


class PhonePerson(Person):
    """One person on one leg. Call ``live`` for every 20 ms, in order, and take their ``wishes``."""

    def __init__(self, script: PersonScript, note: Callable[[float, str], None]) -> None:
        super().__init__((), note)
        self._script = list(script.actions)
        self._hang_up_after_ms = script.hang_up_after_ms
        self._speech = script.machine_message()
        self._keys: list[tuple[float, str]] = []
        self._pressing = False

    def live(self, at_ms: float, heard: bytes, *, asked: bool, joined: bool) -> bytes:
        """Live through 20 ms; ``asked`` while a <Gather> listens. Returns what is said in them."""
        if self._hang_up_after_ms is not None and at_ms >= self._hang_up_after_ms:
            self._hang_up_after_ms, self._script, self._actions = None, [], []
            self.wishes.append(HangUp())
        while self._keys and self._keys[0][0] <= at_ms:
            self.wishes.append(PressKey(digit=self._keys.pop(0)[1]))
        while self._script and not self._actions and self._next(self._script[0], at_ms, asked=asked, joined=joined):
            self._script.pop(0)
        return self.step(at_ms, heard)

    def _next(self, action: PhoneAction, at_ms: float, *, asked: bool, joined: bool) -> bool:
        """Begin the first action of the script; True when it may be struck off."""
        if isinstance(action, WaitUntilJoined):
            return joined
        if not isinstance(action, PressWhenAsked):
            self._actions.append(action)
            return True
        if not self._pressing and asked:
            self._pressing = True
            first_ms = at_ms + action.after_ms
            self._keys = [(first_ms + i * KEY_EVERY_MS, digit) for i, digit in enumerate(action.digits)]
            return False
        done = self._pressing and not self._keys
        self._pressing = self._pressing and not done
        return done
