"""Carries out the NCCO of one leg of a simulated Vonage.

Theory of operation: actions one after the other; when there is nothing more to do, the leg ends. ``connect`` makes a
leg in the same conversation and waits for its end; where it is synchronous, ``eventUrl`` is told of each status, and
its answer to a failure (or to ``disconnected``: the application closed its media socket) takes the place of the rest.
``input`` and ``notify`` ask for a document too. A document that is not right ends the leg, and is a violation.

Sources: Vonage "NCCO reference", "Webhook reference", "WebSockets in the Vonage Voice API" (fallback).
"""

from __future__ import annotations

import asyncio
import time
from typing import assert_never

from bridge.media.format import FRAME_MS, ULAW_8K
from bridge.simulators.twilio_cloud_media import SAY_HZ, key_tones, music, ulaw_tone
from bridge.simulators.twilio_person import Answer
from bridge.simulators.vonage_exchange import Exchange, ends_within, timestamp
from bridge.simulators.vonage_leg import Conversation, EventTarget, Gathering, Leg, Status
from bridge.simulators.vonage_ncco import (
    App,
    Connect,
    Detection,
    Endpoint,
    Input,
    Ncco,
    NccoError,
    Notify,
    Phone,
    Record,
    Sip,
    Stream,
    Talk,
    Vbc,
    Wait,
    WebSocket,
    read_ncco,
)
from bridge.simulators.vonage_ncco import Conversation as JoinConversation
from bridge.simulators.vonage_webhooks import WebhookError

STREAM_MS = 1000
"""Length of any recording that is played: what is heard is music."""


class Execution:
    """One leg's document, and those that take its place."""

    def __init__(self, exchange: Exchange, leg: Leg) -> None:
        self._exchange, self._leg = exchange, leg

    async def ask(self, method: str, url: str) -> Ncco | None:
        """Ask the answer webhook for the document; None where there is none."""
        leg, options = self._leg, self._exchange.options
        fields = {
            "from": leg.caller,
            "to": leg.called,
            "uuid": leg.uuid,
            "conversation_uuid": leg.conversation.uuid,
            "endpoint_type": "sip" if isinstance(leg.endpoint, Sip) else "phone",
        }
        if options.region_url:
            fields["region_url"] = options.region_url
        fields |= {f"SipHeader_{name}": value for name, value in leg.script.sip_headers}
        try:
            return self._read(await self._exchange.webhooks.ask(method, url, fields))
        except WebhookError as error:
            self._exchange.violate(f"answer webhook: {error}")
            return None

    async def run(self, ncco: Ncco | None) -> None:
        """Carry a document out, to the leg's end."""
        rest = list(ncco or ())
        while rest and not self._leg.over:
            action = rest.pop(0)
            self._leg.actions.append(type(action).__name__.lower())
            other = await self._carry_out(action)
            if other is not None:
                rest = list(other)
        self._exchange.end(self._leg, Status.COMPLETED if ncco is not None else Status.FAILED, "ncco")

    async def _carry_out(self, action: object) -> Ncco | None:
        match action:
            case Talk():
                await self._talk(action)
            case Stream():
                await self._play(recording() * max(action.loop, 1), can_interrupt=action.bargeIn)
            case Wait():
                await ends_within(self._leg, action.timeout)
            case Record():
                pass  # it goes on beside; nothing is kept
            case JoinConversation():
                await self._converse(action)
            case Input():
                return await self._input(action)
            case Connect():
                return await self._connect(action)
            case Notify():
                return await self._ask_other(action.eventMethod, action.eventUrl[0], {"payload": action.payload})
        return None

    # --- what is played ----------------------------------------------------------------------------------

    async def _talk(self, action: Talk) -> None:
        self._leg.words.append(action.text)
        self._exchange.note(self._leg, f"hears: {action.text[:80]}")
        length_ms = len(action.text) * self._exchange.options.talk_ms_per_char
        await self._play(ulaw_tone((SAY_HZ,), length_ms) * max(action.loop, 1), can_interrupt=action.bargeIn)

    async def _play(self, audio: bytes, *, can_interrupt: bool) -> None:
        leg = self._leg
        leg.early_keys.clear()
        leg.interruptible.clear()
        leg.play(audio)
        seconds = ULAW_8K.duration_ms(len(audio)) / 1000
        if not can_interrupt:
            await ends_within(leg, seconds)
            while leg.is_spoken_to and not leg.over:  # the exchange's clock may be late
                await ends_within(leg, FRAME_MS / 1000)
            leg.early_keys.clear()
            return
        try:
            await asyncio.wait_for(leg.interruptible.wait(), seconds)
        except TimeoutError:
            return
        leg.stop_playing()

    # --- keys --------------------------------------------------------------------------------------------

    async def _input(self, action: Input) -> Ncco | None:
        leg, keys = self._leg, action.dtmf
        gathering = leg.gathering = Gathering(list(leg.early_keys))
        leg.early_keys.clear()
        is_timed_out = False
        try:
            while not _complete(gathering, action) and not leg.over:
                gathering.pressed.clear()
                await asyncio.wait_for(gathering.pressed.wait(), keys.timeOut)
        except TimeoutError:
            is_timed_out = True
        finally:
            leg.gathering = None
        digits = "".join(gathering.digits)
        if keys.submitOnHash:
            digits = digits.partition("#")[0]
        self._exchange.note(leg, "keys are told")
        assert action.eventUrl is not None  # checked when it was read
        told = {"dtmf": {"digits": digits, "timed_out": is_timed_out}, "speech": {"results": []}}
        return await self._ask_other(action.eventMethod, action.eventUrl[0], told)

    async def _ask_other(self, method: str, url: str, told: dict[str, object]) -> Ncco | None:
        """Ask for another document; None where there is none: then the rest of this one goes on."""
        leg = self._leg
        fields = {**leg.fields(), "timestamp": timestamp(time.time()), **told}
        try:
            answer = await self._exchange.webhooks.ask(method, url, fields)
        except WebhookError as error:
            self._exchange.violate(f"webhook: {error}")
            return None
        return self._read(answer) if answer.strip() else None

    # --- others ------------------------------------------------------------------------------------------

    async def _converse(self, action: JoinConversation) -> None:
        exchange, leg = self._exchange, self._leg
        conversation = exchange.conversations.setdefault(action.name, Conversation(action.name))
        exchange.join(leg, conversation)
        conversation.has_started = conversation.has_started or action.startOnEnter
        leg.is_muted, leg.ends_conversation = action.mute, action.endOnExit
        await leg.left.wait()

    async def _connect(self, action: Connect) -> Ncco | None:
        exchange, leg = self._exchange, self._leg
        [endpoint] = action.endpoint
        reachable = reachable_endpoint(endpoint)
        if reachable is None:
            exchange.violate("connect: nobody is at such an endpoint here")
            return None
        events = EventTarget(action.eventUrl[0], action.eventMethod) if action.eventUrl else EventTarget()
        caller = action.from_ or leg.caller
        child = exchange.new_leg(
            reachable, caller=caller, called=address_of(reachable), direction="outbound", events=events
        )
        child.parent = leg
        child.conversation = leg.conversation
        if await exchange.ring(child, action.timeout):
            child.conversation.members.append(child)
            detection = action.advancedMachineDetection or basic_detection(action.machineDetection)
            await after_answer(exchange, child, detection)
            if not await ends_within(child, action.limit):
                exchange.end(child, Status.COMPLETED, "limit")
        if child.status is Status.COMPLETED or action.eventType is None:
            return None
        answer = await exchange.last_event(child)
        return self._read(answer) if answer.strip() else None

    def _read(self, body: bytes) -> Ncco:
        try:
            return read_ncco(body)
        except NccoError as error:
            self._exchange.violate(f"NCCO: {error}")
            return ()


def recording() -> bytes:
    """What any recording sounds like."""
    player = music()
    return b"".join(player.hear(0.0) for _ in range(STREAM_MS // FRAME_MS))


def reachable_endpoint(endpoint: Endpoint) -> Phone | Sip | WebSocket | None:
    """The endpoint, unless nobody can be there."""
    match endpoint:
        case Phone() | Sip() | WebSocket():
            return endpoint
        case App() | Vbc():
            return None
        case _:
            assert_never(endpoint)


def address_of(endpoint: Phone | Sip | WebSocket) -> str:
    """How events name who is called."""
    return endpoint.number if isinstance(endpoint, Phone) else endpoint.uri


def basic_detection(behavior: str | None) -> Detection | None:
    """``machineDetection`` as what it has become."""
    if behavior is None:
        return None
    return Detection(behavior="hangup" if behavior == "hangup" else "continue")


async def after_answer(exchange: Exchange, leg: Leg, detection: Detection | None) -> None:
    """Keys that are pressed on answer, and machine detection."""
    if isinstance(leg.endpoint, Phone) and leg.endpoint.dtmfAnswer:
        tones = key_tones(leg.endpoint.dtmfAnswer.replace("p", "w"))
        leg.play(tones)
        await ends_within(leg, ULAW_8K.duration_ms(len(tones)) / 1000)
    if detection is not None and leg.socket is None:
        exchange.spawn(_detect(exchange, leg, detection))


async def _detect(exchange: Exchange, leg: Leg, detection: Detection) -> None:
    is_beep = detection.mode == "detect_beep"
    verdict, after_ms = leg.script.detect(message_end=is_beep)
    if await ends_within(leg, after_ms / 1000):
        return
    is_machine = verdict not in ("human", "unknown")
    exchange.note(leg, f"machine detection says {verdict}")
    fields = {"sub_state": "beep_start"} if is_beep and leg.script.answer is Answer.MACHINE else {}
    exchange.emit(leg, "machine" if is_machine else "human", call_uuid=leg.uuid, **fields)
    if is_machine and detection.behavior == "hangup":
        exchange.end(leg, Status.COMPLETED, "detection")


def _complete(gathering: Gathering, action: Input) -> bool:
    keys = action.dtmf
    return len(gathering.digits) >= keys.maxDigits or (keys.submitOnHash and "#" in gathering.digits)
