"""What can be done with calls in the simulated Twilio cloud: they come in, are placed, redirected, put in conferences.

No HTTP here: ``twilio_rest`` and tests call these.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass

from bridge.simulators.twilio_cloud_media import key_tones
from bridge.simulators.twilio_cloud_options import CloudOptions
from bridge.simulators.twilio_conference import Conference, Conferences, Member, MemberOptions, take_part
from bridge.simulators.twilio_exchange import Exchange, MachineDetection
from bridge.simulators.twilio_execution import Execution
from bridge.simulators.twilio_leg import CallStatus, Leg, LegFacts
from bridge.simulators.twilio_person import PersonScript
from bridge.simulators.twilio_status import CallbackTarget
from bridge.simulators.twilio_step import Source
from bridge.simulators.twilio_webhooks import WebhookError
from bridge.simulators.twiml import TwimlError, read_twiml

INTERNAL_FAILURE = 12400


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOrder:
    """A call that is to be placed."""

    caller: str
    called: str
    source: Source = Source()
    """What runs once they answered; of no use for participants of a conference."""
    timeout_s: float = 60.0
    time_limit_s: float | None = None
    """Longest duration once answered; None = Twilio's own, four hours."""
    callbacks: CallbackTarget | None = None
    send_digits: str = ""
    detection: MachineDetection | None = None
    fallback_url: str = ""
    fallback_method: str = "POST"


class CloudCalls:
    """Calls and conferences of one account."""

    def __init__(self, options: CloudOptions) -> None:
        self.options = options
        self.exchange = Exchange(options)
        self.conferences = Conferences(self.exchange)

    def incoming(
        self,
        caller: str,
        called: str,
        voice_url: str,
        script: PersonScript | None = None,
        *,
        method: str = "POST",
        status_url: str = "",
        fallback_url: str = "",
        fields: tuple[tuple[str, str], ...] = (),
    ) -> Leg:
        """Somebody calls a number of the account (or a SIP URI of it).

        ``status_url`` is the number's status callback, ``fields`` are sent besides, e.g. ``ForwardedFrom``. Needs a
        running loop. The script's ``sip_headers`` come as ``SipHeader_...``.
        """
        script = script or self.exchange.people.get(caller) or PersonScript()
        headers = tuple((f"SipHeader_{name}", value) for name, value in script.sip_headers)
        facts = LegFacts(
            account_sid=self.options.account_sid,
            caller=caller,
            called=called,
            direction="inbound",
            fallback_url=fallback_url,
            extra=(*fields, *_sip_fields(called), *headers),
        )
        callbacks = CallbackTarget(url=status_url) if status_url else None
        leg = self.exchange.new_leg(facts, script, callbacks)
        leg.status = CallStatus.RINGING
        self.exchange.note(leg, "calls")
        self._start(leg, self._execute(leg, Source(voice_url, method)))
        return leg

    def place(self, order: CallOrder) -> Leg:
        """Call somebody; returns at once."""
        leg = self._new_leg(order)
        self._start(leg, self._placed(leg, order))
        return leg

    def invite(self, conference: Conference, order: CallOrder, options: MemberOptions) -> Member:
        """Call somebody into a conference; returns at once."""
        leg = self._new_leg(order)
        member = conference.member(leg, options)
        conference.expected[leg.sid] = member
        self._start(leg, self._invited(member, order))
        return member

    def redirect(self, leg: Leg, source: Source) -> None:
        """Have another document take over a call that goes on: it replaces whatever runs."""
        self.exchange.note(leg, "is redirected")
        before = leg.task
        leg.taken.set()
        self._start(leg, self._take_over(leg, before, source))

    def hang_up(self, leg: Leg, by: str = "rest") -> None:
        """End a call."""
        self.exchange.end(leg, CallStatus.COMPLETED, by)

    def announce(self, member: Member, source: Source) -> None:
        """Play a document's <Say> and <Play> to one participant only."""
        self.exchange.spawn(self._announce(member, source))

    # --- how -------------------------------------------------------------------------------------------------

    def _new_leg(self, order: CallOrder) -> Leg:
        facts = LegFacts(
            account_sid=self.options.account_sid,
            caller=order.caller,
            called=order.called,
            direction="outbound-api",
            fallback_url=order.fallback_url,
            fallback_method=order.fallback_method,
        )
        return self.exchange.new_leg(facts, self.exchange.script(order.called), order.callbacks)

    def _start(self, leg: Leg, work: Coroutine[object, object, None]) -> None:
        """Have something carry out what the leg's TwiML says; a mistake of this simulator ends the call, visibly."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                self.exchange.violate(leg, INTERNAL_FAILURE, f"the simulator failed: {type(error).__name__}: {error}")
                self.exchange.end(leg, CallStatus.FAILED, "cloud")
                raise

        leg.task = asyncio.create_task(guarded())

    async def _execute(self, leg: Leg, source: Source) -> None:
        await Execution(self.exchange, self.conferences, leg).run(source)

    async def _answered(self, leg: Leg, order: CallOrder) -> bool:
        """Ring; afterwards keys, or machine detection, which never go together. False where nobody is there."""
        if not await self.exchange.ring(leg, order.timeout_s):
            return False
        if order.time_limit_s is not None:
            self.exchange.spawn(self._limit(leg, order.time_limit_s))
        if order.send_digits:
            tones = key_tones(order.send_digits)
            leg.whisper(tones)
            await self.exchange.ends_within(leg, len(tones) / 8000)
        elif order.detection is not None:
            if order.detection.beside:
                self.exchange.spawn(self.exchange.detect_machine(leg, order.detection))
            else:
                await self.exchange.detect_machine(leg, order.detection)
        return not leg.over

    async def _limit(self, leg: Leg, seconds: float) -> None:
        if not await self.exchange.ends_within(leg, seconds):
            self.exchange.end(leg, CallStatus.COMPLETED, "limit")

    async def _placed(self, leg: Leg, order: CallOrder) -> None:
        if await self._answered(leg, order):
            await self._execute(leg, order.source)

    async def _invited(self, member: Member, order: CallOrder) -> None:
        try:
            answered = await self._answered(member.leg, order)
        finally:
            member.conference.expected.pop(member.leg.sid, None)
        if answered and member.conference.status != "completed":
            await take_part(member)
        self.exchange.end(member.leg, CallStatus.COMPLETED, "conference")

    async def _take_over(self, leg: Leg, before: asyncio.Task[None] | None, source: Source) -> None:
        if before is not None:
            before.cancel()
            await asyncio.wait({before})
            # An aborted <Dial> asks for its action first; see twilio_dial.
            await asyncio.sleep(self.options.redirect_gap_ms / 1000)
        await self._execute(leg, source)

    async def _announce(self, member: Member, source: Source) -> None:
        leg, exchange = member.leg, self.exchange
        run = Execution(exchange, self.conferences, leg)
        try:
            text = await exchange.webhooks.document(source.method, source.url, leg.fields())
            verbs, problems = read_twiml(text, source.url)
        except (WebhookError, TwimlError) as error:
            exchange.violate(leg, error.code, error.text)
            return
        for problem in problems:
            exchange.violate(leg, problem.code, problem.text)
        for verb in verbs:
            if verb.name in ("Say", "Play"):
                leg.whisper(await run.audio(verb))


def _sip_fields(called: str) -> tuple[tuple[str, str], ...]:
    """What the webhook of a SIP call tells besides."""
    if not called.startswith("sip:"):
        return ()
    domain = called.partition("@")[2].partition(";")[0].partition(":")[0]
    return (("SipDomain", domain), ("SipCallId", f"{domain}-simulated"))
