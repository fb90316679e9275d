"""One call leg of the simulated Twilio cloud: who is at its far end, what it is connected to, what was said and heard.

Sans-I/O but for asyncio's events; ``twilio_exchange`` drives it, frame by frame.
"""

from __future__ import annotations

import asyncio
import enum
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from bridge.media.format import FRAME_MS
from bridge.simulators.twilio_cloud_media import FRAME_BYTES, QUIET, SILENT_FRAME, Media, key_tones
from bridge.simulators.twilio_line import HangUp, LoseAudio, PressKey
from bridge.simulators.twilio_person import PersonScript, PhonePerson
from bridge.simulators.twilio_playout import SILENCE
from bridge.simulators.twilio_protocol import TwilioStream, Violation

MAX_TIMELINE = 5000
"""Entries kept in a timeline."""

MAX_AUDIO_BYTES: Final = 8000 * 3600
"""Audio kept of each side of a leg (one hour)."""

API_VERSION = "2010-04-01"


class CallStatus(enum.Enum):
    """Twilio's words for the state of a call."""

    QUEUED = "queued"
    INITIATED = "initiated"
    """In callbacks only; the resource says ``queued``."""
    RINGING = "ringing"
    IN_PROGRESS = "in-progress"
    COMPLETED = "completed"
    BUSY = "busy"
    FAILED = "failed"
    NO_ANSWER = "no-answer"
    CANCELED = "canceled"


FINAL: Final = frozenset(
    {CallStatus.COMPLETED, CallStatus.BUSY, CallStatus.FAILED, CallStatus.NO_ANSWER, CallStatus.CANCELED}
)


def new_sid(prefix: str) -> str:
    """A fresh id as Twilio makes them."""
    return prefix + secrets.token_hex(16)


@dataclass(slots=True)
class Gathering:
    """A <Gather> that listens."""

    digits: list[str] = field(default_factory=list)
    pressed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class LegFacts:
    """What never changes about a leg."""

    account_sid: str
    caller: str
    called: str
    direction: str
    """``inbound``, ``outbound-api`` or ``outbound-dial``."""
    parent_sid: str = ""
    fallback_url: str = ""
    fallback_method: str = "POST"
    extra: tuple[tuple[str, str], ...] = ()
    """Fields that its webhooks have besides, e.g. ``ForwardedFrom``."""


class Leg:
    """One leg. Public fields are for tests to look at."""

    def __init__(self, facts: LegFacts, script: PersonScript, note: Callable[[str], None]) -> None:
        self.sid = new_sid("CA")
        self.facts = facts
        self.script = script
        self.status = CallStatus.QUEUED
        self.answered_by = ""
        self.tells_answered_by = False
        """Whether webhooks have the verdict: only where the call has waited for it."""
        self.machine_detection_ms = 0
        self.sip_code = 200
        self.created_unix_s = self.answered_unix_s = self.ended_unix_s = 0.0
        self.ended_by = ""
        """``person``, ``rest``, ``twiml``, ``dial``, ``conference``, ``limit``, ``cloud``; empty while it goes on."""
        self.said, self.heard = bytearray(), bytearray()
        self.timeline: list[tuple[int, str]] = []
        self.violations: list[Violation] = []
        self.verbs: list[str] = []
        """TwiML verbs that were carried out."""
        self.words: list[str] = []
        """What <Say> said to it."""
        self.streams: list[TwilioStream] = []
        self.out = SILENT_FRAME
        self.media: Media = QUIET
        self.gathering: Gathering | None = None
        self.ended, self.answered = asyncio.Event(), asyncio.Event()
        self.taken = asyncio.Event()
        """It was redirected: no longer the business of the <Dial> that called it."""
        self.star = asyncio.Event()
        """The person pressed ``*``."""
        self.task: asyncio.Task[None] | None = None
        """What carries out its TwiML."""
        self.hang_up: Callable[[], None] = lambda: None
        """Called when the person hangs up."""
        self._note = note
        self._person: PhonePerson | None = None
        self._ticks = 0
        self._tones = b""
        self._whispered = b""

    @property
    def over(self) -> bool:
        """Whether the call has ended."""
        return self.status in FINAL

    @property
    def live(self) -> bool:
        """Whether both ends are connected."""
        return self.status is CallStatus.IN_PROGRESS

    @property
    def is_sip(self) -> bool:
        """Whether this is a SIP call leg: only these can be referred."""
        far_end = self.facts.caller if self.facts.direction == "inbound" else self.facts.called
        return far_end.lower().startswith(("sip:", "sips:"))

    @property
    def duration_s(self) -> int:
        """From the answer to the end, in whole seconds, started ones counted."""
        if not self.answered_unix_s:
            return 0
        return max(1, round(self.ended_unix_s - self.answered_unix_s))

    @property
    def lost_audio(self) -> bool:
        """Whether what the person says gets lost on its way just now."""
        return self._person is not None and isinstance(self._person.lasting, LoseAudio)

    def pick_up(self) -> None:
        """The person has answered; they live from here on."""
        self._person = PhonePerson(self.script, lambda _, what: self._note(what))

    def whisper(self, audio: bytes) -> None:
        """Play something into the leg's ear over whatever it is connected to."""
        self._whispered += audio

    def press(self, digit: str) -> None:
        """The person presses a key."""
        if digit == "*":
            self.star.set()
        if self.gathering is not None:
            self.gathering.digits.append(digit)
            self.gathering.pressed.set()
        elif not self.media.key(digit):
            self._tones += key_tones(digit)

    def speak(self) -> None:
        """First half of a frame: the person says something."""
        if self._person is None:
            return
        last = bytes(self.heard[-FRAME_BYTES:]) if self.heard else SILENT_FRAME
        asked, joined = self.gathering is not None, self.media.joined
        self.out = self._person.live(self._ticks * float(FRAME_MS), last, asked=asked, joined=joined)
        if self._tones:
            self.out = self._tones[:FRAME_BYTES].ljust(FRAME_BYTES, SILENCE)
            self._tones = self._tones[FRAME_BYTES:]
        wishes, self._person.wishes = self._person.wishes, []
        for wish in wishes:
            if isinstance(wish, PressKey):
                self.press(wish.digit)
            elif isinstance(wish, HangUp):
                self.hang_up()

    def listen(self, now: float) -> None:
        """Second half of a frame: the person hears what the leg is connected to."""
        frame = self.media.hear(now)
        if self._whispered:
            frame = self._whispered[:FRAME_BYTES].ljust(FRAME_BYTES, SILENCE)
            self._whispered = self._whispered[FRAME_BYTES:]
        self._ticks += 1
        if len(self.heard) < MAX_AUDIO_BYTES:
            self.heard += frame
            self.said += self.out

    def fields(self) -> dict[str, str]:
        """What every webhook about this leg says of it."""
        facts = self.facts
        fields = {
            "CallSid": self.sid,
            "AccountSid": facts.account_sid,
            "ApiVersion": API_VERSION,
            "Direction": facts.direction,
            "CallStatus": self.status.value,
            "From": facts.caller,
            "Caller": facts.caller,
            "To": facts.called,
            "Called": facts.called,
        }
        for who in ("From", "To", "Caller", "Called"):  # blank ones are sent and signed too
            fields |= {f"{who}City": "", f"{who}State": "", f"{who}Zip": "", f"{who}Country": ""}
        if facts.parent_sid:
            fields["ParentCallSid"] = facts.parent_sid
        if self.tells_answered_by:
            fields["AnsweredBy"] = self.answered_by
            fields["MachineDetectionDuration"] = str(self.machine_detection_ms)
        return fields | dict(facts.extra)
