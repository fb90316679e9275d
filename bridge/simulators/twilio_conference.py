"""Conferences of the simulated Twilio cloud: who is in them, who hears whom, when they begin and end, what is told.

Sources: Twilio docs "TwiML: <Conference>", "Conference Resource", "Participant Resource" (read 2026-11-21).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate

from bridge.simulators.twilio_cloud_media import QUIET, SILENT_FRAME, Media, beep, mix, music
from bridge.simulators.twilio_exchange import Exchange
from bridge.simulators.twilio_leg import CallStatus, Leg, new_sid
from bridge.simulators.twilio_webhooks import WebhookError
from bridge.simulators.twiml import TwimlError, read_twiml

_EVENT_OF = {
    "conference-start": "start",
    "conference-end": "end",
    "participant-join": "join",
    "participant-leave": "leave",
    "participant-mute": "mute",
    "participant-unmute": "mute",
    "participant-hold": "hold",
    "participant-unhold": "hold",
}
"""What a callback is called, and the word with which it is asked for."""

WAITING_VERB = 13238
_WAITING_VERBS = frozenset({"Play", "Say", "Pause", "Redirect"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberOptions:
    """How somebody takes part."""

    muted: bool = False
    hold: bool = False
    start_on_enter: bool = True
    end_on_exit: bool = False
    beep: str = "true"
    wait_url: str | None = None
    """None = music; empty = silence; anything else is requested and checked, and heard as music."""
    wait_method: str = "POST"
    label: str = ""
    status_callback: str = ""
    status_callback_method: str = "POST"
    status_callback_events: frozenset[str] = frozenset()


@dataclass(slots=True)
class Member:
    """A leg in a conference; also what the leg hears."""

    leg: Leg
    options: MemberOptions
    conference: Conference
    muted: bool
    hold: bool
    left: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: Media = QUIET
    ended_conference: bool = False
    created_unix_s: float = field(default_factory=time.time)

    @property
    def joined(self) -> bool:
        """Whether the conference has begun with somebody else in it."""
        return self.conference.started and len(self.conference.members) > 1 and not self.hold

    def hear(self, now: float) -> bytes:
        """What the others say, or music."""
        if self.hold or not self.conference.started:
            return self.waiting.hear(now)
        others = self.conference.members.values()
        return mix([member.leg.out for member in others if member is not self and not member.silent])

    def key(self, digit: str) -> bool:
        """Keys are heard by the others."""
        return False

    @property
    def silent(self) -> bool:
        """Whether nobody hears this one."""
        return self.muted or self.hold or self.leg.out == SILENT_FRAME


class Conference:
    """One conference. Members come by ``join`` and go by ``leave``."""

    def __init__(self, exchange: Exchange, name: str, account_sid: str) -> None:
        self.sid, self.name, self.account_sid = new_sid("CF"), name, account_sid
        self.status = "init"
        self.reason_ended = ""
        self.call_sid_ending = ""
        self.created_unix_s = time.time()
        self.members: dict[str, Member] = {}
        self.expected: dict[str, Member] = {}
        """Participants that are being called, by the call."""
        self._exchange = exchange
        self._callback: MemberOptions | None = None
        self._number = 0
        self._last: asyncio.Task[None] | None = None

    @property
    def started(self) -> bool:
        """Whether people hear each other."""
        return self.status == "in-progress"

    def member(self, leg: Leg, options: MemberOptions) -> Member:
        """Somebody who is to join."""
        waiting = QUIET if options.wait_url == "" else music()
        return Member(leg, options, self, options.muted, options.hold, waiting=waiting)

    def join(self, member: Member) -> None:
        """Let somebody in; the conference begins with the second one, if anybody may begin it."""
        leg, options = member.leg, member.options
        self.expected.pop(leg.sid, None)
        if self._callback is None and options.status_callback:
            self._callback = options
        if options.beep in ("true", "onEnter"):
            self._beep()
        self.members[leg.sid] = member
        leg.media = member
        self._exchange.note(leg, f"joins conference {self.name}")
        self._tell("participant-join", member)
        if options.wait_url and not self.started:
            self._exchange.spawn(self._check_waiting(member, options.wait_url))
        may_begin = any(other.options.start_on_enter for other in self.members.values())
        if self.status == "init" and len(self.members) > 1 and may_begin:
            self.status = "in-progress"
            self._tell("conference-start", member)

    def leave(self, member: Member, *, kicked: bool = False) -> None:
        """Let somebody go; the last one, and one who ends it by leaving, end the conference."""
        leg = member.leg
        if self.members.pop(leg.sid, None) is None:
            return
        if leg.media is member:
            leg.media = QUIET
        self._exchange.note(leg, f"leaves conference {self.name}")
        self._tell("participant-leave", member)
        member.left.set()
        how = "kicked" if kicked else "left"
        if member.options.end_on_exit:
            self.end(f"participant-with-end-conference-on-exit-{how}", leg.sid)
        elif not self.members:
            self.end(f"last-participant-{how}", leg.sid)
        elif member.options.beep in ("true", "onExit"):
            self._beep()

    def end(self, reason: str, call_sid: str = "") -> None:
        """End it for all."""
        if self.status == "completed":
            return
        self.status, self.reason_ended, self.call_sid_ending = "completed", reason, call_sid
        for member in list(self.members.values()):
            member.ended_conference = True
            self.leave(member)
        for member in list(self.expected.values()):
            self._exchange.end(member.leg, CallStatus.CANCELED, "conference")
        self._tell("conference-end", None)

    def change(self, member: Member, *, muted: bool | None, hold: bool | None) -> None:
        """Mute or hold somebody."""
        if muted is not None and muted != member.muted:
            member.muted = muted
            self._tell("participant-mute" if muted else "participant-unmute", member)
        if hold is not None and hold != member.hold:
            member.hold = hold
            self._tell("participant-hold" if hold else "participant-unhold", member)

    def _beep(self) -> None:
        for member in self.members.values():
            member.leg.whisper(beep())

    async def _check_waiting(self, member: Member, url: str) -> None:
        """Request what somebody is to hear who waits; it may be audio, or TwiML of a few verbs."""
        exchange, leg = self._exchange, member.leg
        fields = leg.fields() | {"ConferenceSid": self.sid, "FriendlyName": self.name}
        try:
            fetched = await exchange.webhooks.fetch(member.options.wait_method, url, fields)
            verbs, problems = ((), ()) if fetched.kind.startswith("audio/") else read_twiml(fetched.text, url)
        except (WebhookError, TwimlError) as error:
            exchange.violate(leg, error.code, error.text)
            return
        for problem in problems:
            exchange.violate(leg, problem.code, problem.text)
        for verb in verbs:
            if verb.name not in _WAITING_VERBS:
                exchange.violate(leg, WAITING_VERB, f"<{verb.name}> cannot be waited with")

    def _tell(self, event: str, member: Member | None) -> None:
        callback = self._callback
        if callback is None or _EVENT_OF[event] not in callback.status_callback_events:
            return
        fields = {
            "ConferenceSid": self.sid,
            "FriendlyName": self.name,
            "AccountSid": self.account_sid,
            "Timestamp": formatdate(time.time()),
            "StatusCallbackEvent": event,
            "SequenceNumber": str(self._number + 1),
        }
        self._number += 1
        if member is not None:
            fields |= {
                "CallSid": member.leg.sid,
                "Muted": str(member.muted).lower(),
                "Hold": str(member.hold).lower(),
                "Coaching": "false",
                "StartConferenceOnEnter": str(member.options.start_on_enter).lower(),
                "EndConferenceOnExit": str(member.options.end_on_exit).lower(),
            }
            if member.options.label:
                fields["ParticipantLabel"] = member.options.label
        if event == "conference-end":
            fields |= {"ReasonConferenceEnded": self.reason_ended, "CallSidEndingConference": self.call_sid_ending}
        self._last = self._exchange.spawn(self._post(callback, fields, self._last))

    async def _post(
        self, callback: MemberOptions, fields: Mapping[str, str], before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            await asyncio.wait({before})
        await self._exchange.post(callback.status_callback_method, callback.status_callback, fields)


class Conferences:
    """All conferences of an account."""

    def __init__(self, exchange: Exchange) -> None:
        self.all: dict[str, Conference] = {}
        self._exchange = exchange

    def open(self, name: str) -> Conference:
        """The conference of that name which goes on, or a fresh one."""
        for conference in self.all.values():
            if conference.name == name and conference.status != "completed":
                return conference
        conference = Conference(self._exchange, name, self._exchange.options.account_sid)
        self.all[conference.sid] = conference
        return conference

    def find(self, name_or_sid: str) -> Conference | None:
        """By id, or by the name of one that goes on."""
        if name_or_sid in self.all:
            return self.all[name_or_sid]
        going_on = (c for c in self.all.values() if c.name == name_or_sid and c.status != "completed")
        return next(going_on, None)


async def take_part(member: Member) -> None:
    """Be in the conference until one leaves, is kicked, or the call ends."""
    member.conference.join(member)
    try:
        await member.left.wait()
    finally:
        member.conference.leave(member)
