"""<Dial> and <Refer> on one leg of the simulated Twilio cloud: calls others, joins them, tells how it came out.

Sources: Twilio docs "TwiML: <Dial>", "<Number>", "<Conference>", "<Refer>" (with its four example outcomes), read
2026-11-21. Observed on the wire and kept: a call that is redirected during a <Dial> makes Twilio request the aborted
<Dial>'s action, with DialCallStatus=completed, and the new document besides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.simulators.twilio_cloud_media import QUIET, Bridged, key_tones, ringback
from bridge.simulators.twilio_conference import MemberOptions, take_part
from bridge.simulators.twilio_exchange import Exchange, MachineDetection, first_of
from bridge.simulators.twilio_leg import CallStatus, Leg, LegFacts
from bridge.simulators.twilio_person import Answer
from bridge.simulators.twilio_status import CallbackTarget
from bridge.simulators.twilio_step import Done, Source, Step
from bridge.simulators.twilio_webhooks import WebhookError
from bridge.simulators.twiml import Noun, Verb

if TYPE_CHECKING:
    from bridge.simulators.twilio_execution import Execution

DEFAULT_TIMEOUT_S, DEFAULT_LIMIT_S = 30.0, 14_400.0
"""Twilio's: how long it rings; the longest dialled call (4 hours)."""

CALLER_ID, NOT_SIP = 13214, 13243
"""The second is what Twilio's list of errors has for SIP targets; a code of its own for <Refer> is not documented."""

REFER_S, BYE_S = 0.1, 0.1
"""Until the phone has placed the call it is referred to, beside ringing; and until it then hangs up here."""

_REFERRED: Mapping[Answer, tuple[str, str]] = {
    Answer.BUSY: ("busy", "486"),
    Answer.NO_ANSWER: ("no-answer", "480"),
    Answer.FAILS: ("failed", "404"),
}
"""How a referred call comes out when nobody takes it: ReferCallStatus and NotifySipResponseCode."""

_FAILURES = (CallStatus.BUSY, CallStatus.NO_ANSWER, CallStatus.CANCELED)


@dataclass(slots=True)
class _Outcome:
    """How a <Dial> came out."""

    status: str
    sid: str = ""
    seconds: int = 0
    bridged: bool = False

    def fields(self) -> dict[str, str]:
        """What the action is told."""
        fields = {"DialCallStatus": self.status, "DialBridged": str(self.bridged).lower()}
        if self.sid:
            fields["DialCallSid"] = self.sid
        if self.seconds:
            fields["DialCallDuration"] = str(self.seconds)
        return fields


async def dial(run: Execution, verb: Verb) -> Step:
    """Carry out a <Dial>."""
    leg, exchange = run.leg, run.exchange
    rooms = [noun for noun in verb.nouns if noun.name == "Conference"]
    current = _Outcome("answered" if rooms else "completed")
    try:
        if rooms:
            member = run.conferences.open(rooms[0].text).member(leg, member_options(rooms[0].attributes))
            await take_part(member)
        else:
            current = await _call_others(run, verb, current)
    except asyncio.CancelledError:
        if aborted := verb.attributes.get("action"):
            current.status = "completed"
            exchange.spawn(_tell_aborted(exchange, leg, verb.attributes.get("method", "POST"), aborted, current))
        raise
    finally:
        leg.media = QUIET
    exchange.note(leg, f"dial comes to {current.status}")
    if leg.over:
        return None
    if action := verb.attributes.get("action"):
        return run.go_to(action, verb.attributes.get("method", "POST"), current.fields())
    return None


async def _tell_aborted(exchange: Exchange, leg: Leg, method: str, action: str, outcome: _Outcome) -> None:
    """Request the action of a <Dial> that is no more; what it answers has no effect."""
    try:
        await exchange.webhooks.fetch(method, action, leg.fields() | outcome.fields())
    except WebhookError as error:
        exchange.violate(leg, error.code, error.text)


# --- people ----------------------------------------------------------------------------------------------


async def _call_others(run: Execution, verb: Verb, current: _Outcome) -> _Outcome:
    """Ring all targets at once, join the caller with the first who answers, and wait for the end of it."""
    leg, exchange, attributes = run.leg, run.exchange, verb.attributes
    caller_id = attributes.get("callerId") or _default_caller_id(leg)
    allowed = caller_id in exchange.options.numbers or caller_id == leg.facts.caller
    if any(noun.name == "Number" for noun in verb.nouns) and not allowed:
        exchange.violate(leg, CALLER_ID, "<Dial> callerId is neither a number of the account nor the caller's")
        return _Outcome("failed")
    others = {_new_callee(exchange, leg, noun, caller_id): noun for noun in verb.nouns}
    if not others:
        return _Outcome("failed")
    if leg.live:
        leg.media = ringback()
    timeout_s = float(attributes.get("timeout", DEFAULT_TIMEOUT_S))
    try:
        winner = await _first_answer(exchange, list(others), timeout_s)
        if winner is None:
            return _nobody(list(others))
        current.sid = winner.sid
        await _prepare(run, winner, others[winner])
        if not winner.over and not winner.taken.is_set():
            current.bridged = True
            await _bridge(exchange, leg, winner, verb)
    finally:
        for other in others:
            other.media = QUIET if isinstance(other.media, Bridged) else other.media
            if not other.taken.is_set():
                exchange.end(other, CallStatus.COMPLETED, "dial")
            current.seconds = max(current.seconds, other.duration_s if other.over else 0)
    return current


def _default_caller_id(leg: Leg) -> str:
    return leg.facts.caller if leg.facts.direction == "inbound" else leg.facts.called


def _new_callee(exchange: Exchange, leg: Leg, noun: Noun, caller_id: str) -> Leg:
    attributes = noun.attributes
    callbacks = None
    if url := attributes.get("statusCallback"):
        events = frozenset(attributes.get("statusCallbackEvent", "completed").split())
        callbacks = CallbackTarget(url=url, method=attributes.get("statusCallbackMethod", "POST"), events=events)
    called = f"client:{noun.text}" if noun.name == "Client" else noun.text
    facts = LegFacts(
        account_sid=leg.facts.account_sid,
        caller=caller_id,
        called=called,
        direction="outbound-dial",
        parent_sid=leg.sid,
    )
    return exchange.new_leg(facts, exchange.script(called), callbacks)


async def _first_answer(exchange: Exchange, others: list[Leg], timeout_s: float) -> Leg | None:
    """Ring them all; the one who answers first stays, the rest are hung up."""
    ringing = {asyncio.create_task(exchange.ring(other, timeout_s)): other for other in others}
    pending = set(ringing)
    try:
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for winner in (ringing[task] for task in done if task.result()):
                for other in others:
                    if other is not winner:
                        exchange.end(other, CallStatus.COMPLETED, "dial")
                return winner
        return None
    finally:
        for task in ringing:
            task.cancel()
        await asyncio.wait(set(ringing))


def _nobody(others: list[Leg]) -> _Outcome:
    statuses = {other.status for other in others}
    found = next((status for status in _FAILURES if status in statuses), CallStatus.FAILED)
    return _Outcome(found.value, others[0].sid)


async def _prepare(run: Execution, callee: Leg, noun: Noun) -> None:
    """What happens on the called leg before it is joined: keys, machine detection, the whisper."""
    exchange, attributes = run.exchange, noun.attributes
    if digits := attributes.get("sendDigits"):
        callee.whisper(key_tones(digits))
        await exchange.ends_within(callee, len(key_tones(digits)) / 8000)
    elif mode := attributes.get("machineDetection"):
        detection = MachineDetection(
            message_end=mode == "DetectMessageEnd",
            beside=True,
            timeout_s=float(attributes.get("machineDetectionTimeout", "30")),
            callback_url=attributes.get("amdStatusCallback", ""),
            callback_method=attributes.get("amdStatusCallbackMethod", "POST"),
        )
        exchange.spawn(exchange.detect_machine(callee, detection))
    if url := attributes.get("url"):
        source = Source(url, attributes.get("method", "POST"))
        callee.task = whisper = asyncio.create_task(run.for_callee(callee).run(source))
        try:
            await asyncio.wait({whisper})
        finally:
            if not callee.taken.is_set():
                callee.task = None
                whisper.cancel()


async def _bridge(exchange: Exchange, leg: Leg, callee: Leg, verb: Verb) -> None:
    """Join both, until one hangs up, the time is up, or somebody is taken away."""
    exchange.answer(leg)
    leg.media, callee.media = Bridged(callee), Bridged(leg)
    exchange.note(leg, "is joined")
    exchange.note(callee, "is joined")
    events = [leg.ended, callee.ended, callee.taken]
    leg.star.clear()
    if verb.attributes.get("hangupOnStar") == "true":
        events.append(leg.star)
    await first_of(tuple(events), float(verb.attributes.get("timeLimit", DEFAULT_LIMIT_S)))


def member_options(attributes: Mapping[str, str]) -> MemberOptions:
    """How the attributes of <Conference> want somebody to take part."""
    return MemberOptions(
        muted=attributes.get("muted") == "true",
        start_on_enter=attributes.get("startConferenceOnEnter", "true") == "true",
        end_on_exit=attributes.get("endConferenceOnExit") == "true",
        beep=attributes.get("beep", "true"),
        wait_url=attributes.get("waitUrl"),
        wait_method=attributes.get("waitMethod", "POST"),
        label=attributes.get("participantLabel", ""),
        status_callback=attributes.get("statusCallback", ""),
        status_callback_method=attributes.get("statusCallbackMethod", "POST"),
        status_callback_events=frozenset(attributes.get("statusCallbackEvent", "").split()),
    )


# --- SIP REFER -------------------------------------------------------------------------------------------


async def refer(run: Execution, verb: Verb) -> Step:
    """Carry out a <Refer>: only on SIP legs, whose phone then calls the target itself."""
    leg, exchange = run.leg, run.exchange
    if not leg.is_sip:
        exchange.violate(leg, NOT_SIP, "<Refer> on a leg that is no SIP call")
        exchange.note(leg, "hears that an application error has occurred")
        return Done.HANG_UP
    if not verb.nouns:
        return None
    fields, taken = await _referred(exchange, leg, verb.nouns[0].text)
    exchange.note(leg, f"refer comes to {fields.get('ReferCallStatus', 'nothing')}")
    if taken:
        exchange.spawn(_bye(exchange, leg))
    if action := verb.attributes.get("action"):
        return run.go_to(action, verb.attributes.get("method", "POST"), fields)
    return None


async def _referred(exchange: Exchange, leg: Leg, target: str) -> tuple[dict[str, str], bool]:
    code = leg.script.refer_code
    if code != 202:
        return {"ReferCallStatus": "failed", "ReferSipResponseCode": str(code)}, False
    script = exchange.script(target)
    await exchange.ends_within(leg, REFER_S + script.answer_after_ms / 1000)
    status, notify = _REFERRED.get(script.answer, ("in-progress", "200"))
    fields = {"ReferCallStatus": status, "ReferSipResponseCode": "202", "NotifySipResponseCode": notify}
    return fields, notify == "200"


async def _bye(exchange: Exchange, leg: Leg) -> None:
    """The phone that talks to somebody else now hangs up here."""
    await exchange.ends_within(leg, BYE_S)
    exchange.end(leg, CallStatus.COMPLETED, "person")
