"""One leg of a simulated Vonage call, and the conversations that legs meet in; sans-I/O but for asyncio's events.

A leg is a person on a telephone or a media socket; both say 20 ms of mu-law and hear the mix of all others in their
conversation, over which Vonage plays voices, recordings and keys.
"""

from __future__ import annotations

import asyncio
import enum
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from bridge.media.format import FRAME_MS
from bridge.simulators.twilio_cloud_media import FRAME_BYTES, SILENT_FRAME, mix
from bridge.simulators.twilio_line import HangUp, PressKey
from bridge.simulators.twilio_person import PersonScript, PhonePerson
from bridge.simulators.twilio_playout import SILENCE
from bridge.simulators.vonage_ncco import Phone, Sip, WebSocket
from bridge.simulators.vonage_socket import VonageSocket
from bridge.simulators.vonage_voice import Ear, Mouth

MAX_AUDIO_BYTES: Final = 8000 * 3600
"""Audio kept of each side of a leg (one hour)."""

MAX_TIMELINE = 5000


class Status(enum.Enum):
    """Vonage's words for what becomes of a leg."""

    STARTED = "started"
    RINGING = "ringing"
    ANSWERED = "answered"
    COMPLETED = "completed"
    BUSY = "busy"
    CANCELLED = "cancelled"
    UNANSWERED = "unanswered"
    REJECTED = "rejected"
    FAILED = "failed"
    TIMEOUT = "timeout"
    DISCONNECTED = "disconnected"
    """Of a media socket: the application closed it."""


FINAL: Final = frozenset(Status) - {Status.STARTED, Status.RINGING, Status.ANSWERED}


@dataclass(frozen=True, slots=True)
class EventTarget:
    """Where the events of a leg go."""

    url: str = ""
    method: str = "POST"


@dataclass(slots=True)
class Gathering:
    """An ``input`` that listens."""

    digits: list[str] = field(default_factory=list)
    pressed: asyncio.Event = field(default_factory=asyncio.Event)


class Conversation:
    """Legs that hear each other."""

    def __init__(self, name: str = "") -> None:
        self.uuid = f"CON-{uuid.uuid4()}"
        self.name = name
        self.members: list[Leg] = []
        self.has_started = not name
        """Whether they hear each other: not before somebody is there who may start it."""

    def others(self, leg: Leg) -> list[bytes]:
        """What all others say in this frame."""
        if not self.has_started:
            return []
        return [member.out for member in self.members if member is not leg and not member.is_muted]


class Leg:
    """One leg. Public fields are for tests to look at."""

    def __init__(
        self,
        endpoint: Phone | Sip | WebSocket,
        caller: str,
        called: str,
        direction: str,
        events: EventTarget,
        script: PersonScript,
        note: Callable[[str], None],
    ) -> None:
        self.uuid = str(uuid.uuid4())
        self.endpoint, self.caller, self.called, self.direction = endpoint, caller, called, direction
        self.events, self.script = events, script
        self.status = Status.STARTED
        self.ended_by = ""
        """``person``, ``rest``, ``ncco``, ``connect``, ``bridge``, ``violation``, ``cloud``; empty while it goes on."""
        self.answered_unix_s = self.ended_unix_s = 0.0
        self.conversation = Conversation()
        self.parent: Leg | None = None
        """The leg whose ``connect`` made this one."""
        self.is_muted = self.is_earmuffed = False
        self.ends_conversation = False
        self.out = SILENT_FRAME
        self.said, self.heard = bytearray(), bytearray()
        self.timeline: list[tuple[int, str]] = []
        self.actions: list[str] = []
        """NCCO actions that were carried out."""
        self.words: list[str] = []
        """What a voice said to it."""
        self.gathering: Gathering | None = None
        self.early_keys: list[str] = []
        """Keys pressed into a voice that may be interrupted."""
        self.interruptible = asyncio.Event()
        """Set by a key pressed into such a voice."""
        self.socket: VonageSocket | None = None
        self.answered, self.ended, self.left = asyncio.Event(), asyncio.Event(), asyncio.Event()
        """Answered; over; taken out of its conversation."""
        self.task: asyncio.Task[None] | None = None
        self.on_hang_up: Callable[[], None] = lambda: None
        self.on_key: Callable[[str], None] = lambda digit: None
        self.flush: Callable[[], None] = lambda: None
        """Sends what the socket has to say."""
        self.music = b""
        """Played for ever, e.g. by ``PUT .../stream`` with loop 0."""
        self._note = note
        self._person: PhonePerson | None = None
        self._mouth: Mouth | None = None
        self._ear: Ear | None = None
        self._ticks = 0
        self._played = b""

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status in FINAL

    @property
    def live(self) -> bool:
        """Whether somebody is there."""
        return self.status is Status.ANSWERED

    def pick_up(self) -> None:
        """The person has answered; they live from here on."""
        self._person = PhonePerson(self.script, lambda _, what: self._note(what))

    def attach(self, socket: VonageSocket) -> None:
        """The media socket is open."""
        self.socket = socket
        self._mouth, self._ear = Mouth(socket.setup.rate_hz), Ear(socket.setup.rate_hz)

    def play(self, audio: bytes) -> None:
        """Play mu-law into the leg's ear, after what plays already."""
        self._played += audio

    def stop_playing(self) -> None:
        """Play nothing more."""
        self._played = self.music = b""

    @property
    def is_playing(self) -> bool:
        """Whether something plays."""
        return bool(self._played or self.music)

    @property
    def is_spoken_to(self) -> bool:
        """Whether something plays that comes to an end."""
        return bool(self._played)

    def press(self, digit: str) -> None:
        """The person presses a key."""
        if self.gathering is not None:
            self.gathering.digits.append(digit)
            self.gathering.pressed.set()
        else:
            self.early_keys.append(digit)
            self.interruptible.set()
            self.on_key(digit)

    def speak(self, now: float) -> None:
        """First half of a frame: whoever is there says something."""
        if self.socket is not None and self._ear is not None:
            self.socket.advance(now)
            self._ear.feed(self.socket.playout.take_heard())
            self.out = self._ear.frame()
        elif self._person is not None:
            heard = bytes(self.heard[-FRAME_BYTES:]) if self.heard else SILENT_FRAME
            joined = self.conversation.has_started and len(self.conversation.members) > 1
            asked = self.gathering is not None
            self.out = self._person.live(self._ticks * float(FRAME_MS), heard, asked=asked, joined=joined)
            self._carry_out()

    def listen(self) -> None:
        """Second half of a frame: whoever is there hears the others."""
        frame = SILENT_FRAME if self.is_earmuffed else mix(self.conversation.others(self))
        if self.is_playing:
            frame = self._next_played()
        self._ticks += 1
        if self.socket is not None and self._mouth is not None:
            self.socket.send_audio(self._mouth.frame(frame))
            self.flush()
        if len(self.heard) < MAX_AUDIO_BYTES:
            self.heard += frame
            self.said += self.out

    def _next_played(self) -> bytes:
        if self._played:
            frame, self._played = self._played[:FRAME_BYTES], self._played[FRAME_BYTES:]
        else:
            frame = self.music[:FRAME_BYTES]
            self.music = self.music[FRAME_BYTES:] + frame
        return frame.ljust(FRAME_BYTES, SILENCE)

    def fields(self) -> dict[str, Any]:
        """What every event about this leg says of it."""
        fields: dict[str, Any] = {
            "uuid": self.uuid,
            "conversation_uuid": self.conversation.uuid,
            "from": self.caller,
            "to": self.called,
            "direction": self.direction,
        }
        if isinstance(self.endpoint, WebSocket):
            fields["headers"] = self.endpoint.headers
        return fields

    def _carry_out(self) -> None:
        assert self._person is not None
        wishes, self._person.wishes = self._person.wishes, []
        for wish in wishes:
            if isinstance(wish, PressKey):
                self.press(wish.digit)
            elif isinstance(wish, HangUp):
                self.on_hang_up()
