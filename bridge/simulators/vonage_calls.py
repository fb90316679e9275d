"""What can be done with calls at a simulated Vonage: they come in, are placed, moved, muted, ended, played to.

No HTTP here: ``vonage_rest`` and tests call these.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from bridge.simulators.twilio_cloud_media import SAY_HZ, key_tones, ulaw_tone
from bridge.simulators.twilio_person import PersonScript
from bridge.simulators.vonage_cloud_options import VonageOptions
from bridge.simulators.vonage_exchange import Exchange
from bridge.simulators.vonage_execution import Execution, address_of, after_answer, recording
from bridge.simulators.vonage_leg import Conversation, EventTarget, Leg, Status
from bridge.simulators.vonage_ncco import Detection, Ncco, Phone, Sip, WebSocket


@dataclass(frozen=True, slots=True)
class Source:
    """Where a document comes from: it is there, or a URL is asked."""

    ncco: Ncco | None = None
    url: str = ""
    method: str = "GET"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOrder:
    """A call that is to be placed."""

    endpoint: Phone | Sip | WebSocket
    caller: str
    source: Source
    events: EventTarget = EventTarget()
    ringing_timer_s: int = 60
    length_timer_s: int = 7200
    detection: Detection | None = None


class VonageCalls:
    """Calls of one application."""

    def __init__(self, options: VonageOptions) -> None:
        self.options = options
        self.exchange = Exchange(options)

    def incoming(
        self,
        caller: str,
        called: str,
        answer_url: str,
        script: PersonScript | None = None,
        *,
        method: str = "GET",
        event_url: str = "",
        is_sip: bool = False,
    ) -> Leg:
        """Somebody calls a number of the application (no plus). Needs a running loop."""
        endpoint = Sip(uri=caller) if is_sip else Phone(number=caller)
        script = script or self.exchange.people.get(caller) or PersonScript()
        leg = self.exchange.new_leg(
            endpoint, caller=caller, called=called, direction="inbound", events=EventTarget(event_url), script=script
        )
        leg.task = asyncio.create_task(self._come_in(leg, Source(url=answer_url, method=method)))
        return leg

    def place(self, order: CallOrder) -> Leg:
        """Call somebody; returns at once."""
        leg = self.exchange.new_leg(
            order.endpoint,
            caller=order.caller,
            called=address_of(order.endpoint),
            direction="outbound",
            events=order.events,
        )
        leg.task = asyncio.create_task(self._placed(leg, order))
        return leg

    def move(self, leg: Leg, source: Source) -> None:
        """Have another document take over a leg: it leaves its conversation, and whom it had connected goes."""
        self.exchange.note(leg, "is transferred")
        before = leg.task
        leg.task = asyncio.create_task(self._moved(leg, before, source))

    def hang_up(self, leg: Leg, by: str = "rest") -> None:
        """End a leg."""
        self.exchange.end(leg, Status.COMPLETED, by)

    def press(self, leg: Leg, digits: str) -> None:
        """Play keys to a leg; ``p`` is a pause of half a second."""
        leg.play(key_tones(digits.replace("p", "w")))

    def talk(self, leg: Leg, text: str, *, forever: bool = False) -> None:
        """A voice says something to a leg."""
        leg.words.append(text)
        self._start(leg, ulaw_tone((SAY_HZ,), len(text) * self.options.talk_ms_per_char), forever=forever)

    def stream(self, leg: Leg, *, forever: bool = False) -> None:
        """A recording is played to a leg: music, whatever it is."""
        self._start(leg, recording(), forever=forever)

    def stop(self, leg: Leg) -> None:
        """End what ``talk`` or ``stream`` play."""
        leg.stop_playing()

    # --- how -------------------------------------------------------------------------------------------------

    def _start(self, leg: Leg, audio: bytes, *, forever: bool) -> None:
        if forever:
            leg.music = audio
        else:
            leg.play(audio)

    async def _come_in(self, leg: Leg, source: Source) -> None:
        self.exchange.note(leg, "calls")
        self.exchange.emit(leg, "started")
        leg.status = Status.RINGING
        self.exchange.emit(leg, "ringing")
        ncco = await self._document(leg, source)
        if ncco is not None:
            self.exchange.answer(leg)
            leg.conversation.members.append(leg)
        await Execution(self.exchange, leg).run(ncco)

    async def _placed(self, leg: Leg, order: CallOrder) -> None:
        exchange = self.exchange
        if not await exchange.ring(leg, order.ringing_timer_s):
            return
        leg.conversation.members.append(leg)
        limit = asyncio.get_running_loop().call_later(order.length_timer_s, self.hang_up, leg, "limit")
        try:
            await after_answer(exchange, leg, order.detection)
            await Execution(exchange, leg).run(await self._document(leg, order.source))
        finally:
            limit.cancel()

    async def _moved(self, leg: Leg, before: asyncio.Task[None] | None, source: Source) -> None:
        if before is not None:
            before.cancel()
            await asyncio.wait({before})
        leg.gathering = None
        leg.stop_playing()
        leg.is_muted = leg.ends_conversation = False
        ncco = await self._document(leg, source)
        if not leg.over:
            self.exchange.join(leg, Conversation())
            await Execution(self.exchange, leg).run(ncco)

    async def _document(self, leg: Leg, source: Source) -> Ncco | None:
        if source.ncco is not None:
            return source.ncco
        return await Execution(self.exchange, leg).ask(source.method, source.url)
