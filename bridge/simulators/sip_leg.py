"""One INVITE dialog of a simulated SIP end, from the moment that both tags are known: its requests, both ways.

Shared by the phone that calls and the trunk that is called. On purpose not ``bridge.sip.call``. What the person on the
line wants (keys, hold, hang up) becomes messages here. Sources: RFC 3261 sections 12 to 15, RFC 3264 section 8,
RFC 3311, RFC 3515, RFC 6086.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Coroutine
from typing import Any

from bridge.auth.sip_digest_client import ChallengeKind, DigestClient
from bridge.errors import RemoteError
from bridge.media.format import FRAME_MS, ULAW_8K
from bridge.simulators.genesys_person import Hold, Person, Wish
from bridge.simulators.sip_leg_options import AGENT, ALLOW, Dialog, HoldBy, Keys, LegOptions
from bridge.simulators.sip_party import SipParty
from bridge.simulators.sip_referral import notify
from bridge.simulators.sip_result import SipResult
from bridge.simulators.sip_rtp import SipMedia
from bridge.simulators.sip_rules import dialog_breaches
from bridge.simulators.sip_terms import NO_ADDRESS, Negotiator, NoTerms
from bridge.simulators.speech import tone
from bridge.simulators.twilio_line import HangUp, LoseAudio, PressKey
from bridge.sip.dtmf_info import RELAY, build_relay, parse_info
from bridge.sip.envelope import Envelope
from bridge.sip.flow import Flow
from bridge.sip.headers import Headers
from bridge.sip.message import Request, Response, make_response
from bridge.sip.rtp import RtpSender
from bridge.sip.sdp import Direction
from bridge.sip.telephone_event import Digit

INFO_TONE_MS = 160
RINGBACK_HZ = 440.0
GLARE_S = 2.5
"""Wait after 491 (RFC 3261 section 14.1, owner of the Call-ID: 2.1 to 4 s)."""


class SipLeg:
    """One call. ``over`` is set when it has ended; ``result`` tells all from the beginning on."""

    def __init__(self, party: SipParty, options: LegOptions, result: SipResult, digest: DigestClient | None) -> None:
        self.party, self.options, self.result = party, options, result
        self.dialog = Dialog("", "", "", "", "")
        self.over = asyncio.Event()
        self.confirmed = asyncio.Event()
        """The ACK of the first 2xx went out, or came in."""
        self.started_s = time.monotonic()
        self.answered_s: float | None = None
        self.person = Person(options.actions, result.note)
        self.media = SipMedia(
            options.ways,
            party.notes,
            result.rtp,
            RtpSender(secrets.randbits(32), secrets.randbits(16), secrets.randbits(32)),
            self._speak,
        )
        self.terms: Negotiator
        self._digest = digest
        self._awaits_answer = False
        self._is_asking = False
        self._early_ms: float | None = None  # how long the media ran before the answer
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- life --------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Bind the media ports. Raises ``OSError`` if they are taken."""
        self.media.open()
        self.terms = Negotiator(self.options.wanted, self.options.ways.host, self.media.port, secrets.randbits(31))

    def talk(self) -> None:
        """The call is answered and its terms are known."""
        if self.answered_s is None:
            self.answered_s = time.monotonic()
            self.result.answered_ms = self._since_invite()
            self.media.begin()
        self.agree()

    def agree(self) -> None:
        """Whatever was negotiated last holds from now on."""
        if self.terms.terms is not None:
            self.result.encoding = self.terms.terms.encoding.value
            self.media.agree(self.terms.terms)

    def end(self, by: str) -> None:
        """The call is over; only the first reason counts."""
        if not self.over.is_set():
            self.result.ended_by = by
            self.note(f"ended by {by}")
            if self.answered_s is not None:
                self.result.duration_ms = round((time.monotonic() - self.answered_s) * 1000, 1)
            self.over.set()

    async def close(self) -> None:
        """Let go of everything, and sum up in ``result``."""
        for task in tuple(self._tasks):
            if task is not asyncio.current_task():
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.media.close()
        result, media = self.result, self.media
        result.digits += media.ear.digits
        media.ear.digits = ""
        result.said, result.heard = media.said, media.heard
        result.utterances_ms, result.response_ms = self.person.utterances_ms, self.person.response_ms
        result.retransmissions = self.party.retransmissions
        result.violations = tuple(self.party.notes.violations)
        result.trace = self.party.notes.trace_text()

    def note(self, what: str) -> None:
        """Add to the timeline."""
        start_s = self.started_s if self.answered_s is None else self.answered_s
        self.result.note((time.monotonic() - start_s) * 1000, what)

    def _since_invite(self) -> float:
        return round((time.monotonic() - self.started_s) * 1000, 1)

    def start(self, work: Coroutine[Any, Any, object]) -> None:
        """Do something besides; it ends with the call."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def violate(self, rule: str, text: str) -> None:
        """The other side broke a rule."""
        self.party.notes.violate(rule, text, time.monotonic())

    # --- requests of ours --------------------------------------------------------------------------------

    def request(self, method: str, *fields: tuple[str, str], body: bytes = b"", sequence: int = 0) -> Request:
        """A request within the dialog; ``sequence`` of 0 = the next."""
        dialog = self.dialog
        if not sequence:
            dialog.sequence += 1
            sequence = dialog.sequence
        head = [("Via", self.party.new_via()), ("Max-Forwards", "70")]
        head += [("From", dialog.local), ("To", dialog.remote), ("Call-ID", dialog.call_id)]
        head += [("CSeq", f"{sequence} {method}"), *(("Route", route) for route in dialog.routes)]
        if method in ("INVITE", "UPDATE", "REFER"):
            head += [("Contact", dialog.contact), ("Allow", ALLOW), ("Supported", "100rel")]
        return Request(method, dialog.target, Headers((*head, ("User-Agent", AGENT), *fields)), body)

    async def ask(self, method: str, *fields: tuple[str, str], body: bytes = b"") -> Response | None:
        """Send a request within the dialog, answer challenges, and wait for the final response."""
        flow = self.dialog.flow
        assert flow is not None
        for attempt in range(4):
            credentials: tuple[tuple[str, str], ...] = ()
            if self._digest is not None:
                credentials = self._digest.fields(method, self.dialog.target, secrets.token_hex(8), body)
            request = self.request(method, *fields, *credentials, body=body)
            response = await self.party.ask(request, flow)
            if response is None or response.status not in (401, 407) or self._digest is None:
                break
            kind = ChallengeKind(response.status)
            if not self._digest.challenged(kind, response.headers.all(kind.challenge_header), attempt):
                break
        if response is not None and method == "INVITE" and response.status < 300:
            self._refresh(response.headers)
            self.party.acknowledge(request, self.request("ACK", sequence=self.dialog.sequence), flow)
        return response

    async def offer(self, direction: Direction, host: str = "", method: str = "INVITE") -> Response | None:
        """Offer other terms: hold, resume. Tried again once after 491."""
        for _ in range(2):
            self._is_asking = True
            body = self.terms.offer(direction, host)
            response = await self.ask(method, ("Content-Type", "application/sdp"), body=body)
            self._is_asking = False
            if response is None or response.status != 491:
                break
            await asyncio.sleep(GLARE_S)
        if response is None or response.status >= 300:
            self.violate(
                "RFC 3264 8", f"{method} with an offer was answered {response.status if response else 'never'}"
            )
        else:
            self.accept(response.body, f"the 200 to {method}")
            self.agree()
        return response

    async def hold(self) -> None:
        """Put the other side on hold."""
        self.result.holds += 1
        self.note("hold")
        by = self.options.hold
        if by is HoldBy.NO_ADDRESS:
            await self.offer(Direction.SENDRECV, NO_ADDRESS)
        else:
            await self.offer(Direction(by.value))

    async def resume(self) -> None:
        """Take it back."""
        self.note("resume")
        await self.offer(Direction.SENDRECV)

    async def reinvite_without_offer(self) -> Response | None:
        """Ask for the other side's offer, and answer it in the ACK (RFC 3261 section 14.1)."""
        flow = self.dialog.flow
        assert flow is not None
        request = self.request("INVITE")
        response = await self.party.ask(request, flow)
        if response is None or response.status >= 300:
            self.violate("RFC 3261 14.2", f"INVITE without an offer was answered {response and response.status}")
            return response
        self._refresh(response.headers)
        self.acknowledge_offer(request, response)
        self.agree()
        return response

    def acknowledge_offer(self, invite: Request, response: Response) -> None:
        """ACK a 2xx that holds the other side's offer, with our answer in it."""
        flow = self.dialog.flow
        assert flow is not None
        sequence = int((invite.headers.get("CSeq") or "").partition(" ")[0])
        for rule, text in self.terms.offer_breaches(response.body):
            self.violate(rule, text)
        try:
            body = self.terms.answer(response.body)
        except NoTerms as error:
            self.violate("RFC 3264 5", f"the offer in a 200 does not work: {error}")
            ack = self.request("ACK", sequence=sequence)
        else:
            ack = self.request("ACK", ("Content-Type", "application/sdp"), body=body, sequence=sequence)
        self.party.acknowledge(invite, ack, flow)

    async def hang_up(self, by: str = "caller") -> None:
        """Send BYE."""
        # Whoever was called may not send BYE before the ACK (RFC 3261 section 15).
        await self.confirmed.wait()
        if self.over.is_set():
            return
        self.end(by)
        response = await self.ask("BYE")  # 481: both hung up at the same time
        if response is None or response.status not in (200, 481):
            self.violate("RFC 3261 15.1.2", f"BYE was answered {'never' if response is None else response.status}")

    async def press(self, digits: str) -> None:
        """Press keys, in the way of the options."""
        if self.options.keys is Keys.TONES:
            self.media.sound(digits)
        elif self.options.keys is Keys.INFO:
            for digit in digits:
                response = await self.ask("INFO", ("Content-Type", RELAY), body=build_relay(Digit(digit, INFO_TONE_MS)))
                if response is None or response.status != 200:
                    self.violate(
                        "RFC 6086 4.2.2", f"INFO was answered {'never' if response is None else response.status}"
                    )
        elif not self.media.press(digits):
            self.violate("RFC 4733 2.4", "telephone-event was not agreed on")

    # --- requests of theirs ------------------------------------------------------------------------------

    def take(self, request: Request, envelope: Envelope, flow: Flow) -> None:
        """Handle a request within the dialog."""
        self._check(request, envelope)
        match request.method:
            case "BYE":
                self.result.bye_reason = request.headers.get("Reason") or ""
                self.respond(request, 200, flow)
                self.end("bridge")
            case "ACK":
                self._take_ack(request)
            case "INVITE" | "UPDATE":
                self._take_offer(request, envelope, flow)
            case "INFO":
                self._take_info(request, flow)
            case "REFER":
                self._take_refer(request, flow)
            case "OPTIONS" | "PRACK":
                self.respond(request, 200, flow)
            case "NOTIFY":
                self.respond(request, 481, flow)
            case _:
                self.respond(request, 405, flow, ("Allow", ALLOW))

    def respond(self, request: Request, status: int, flow: Flow, *fields: tuple[str, str], body: bytes = b"") -> None:
        """Answer within the dialog."""
        more: list[tuple[str, str]] = []
        if request.method in ("INVITE", "UPDATE") and status < 300:
            more = [("Contact", self.dialog.contact), ("Allow", ALLOW), ("Supported", "100rel")]
        if body:
            more.append(("Content-Type", "application/sdp"))
        self.party.respond(request, make_response(request, status, fields=(*more, *fields), body=body), flow)

    def _check(self, request: Request, envelope: Envelope) -> None:
        dialog = self.dialog
        for rule, text in dialog_breaches(dialog, request, envelope):
            self.violate(rule, text)
        if request.method != "ACK":
            dialog.remote_sequence = envelope.cseq.number
        if request.method in ("INVITE", "UPDATE") and envelope.contact is not None:
            dialog.target = str(envelope.contact.uri)

    def _take_ack(self, request: Request) -> None:
        self.confirmed.set()
        if self._awaits_answer:
            self._awaits_answer = False
            self.accept(request.body, "the ACK")
            self.talk()
        elif request.body and self.result.media_changes == 0:
            self.violate("RFC 3261 13.2.1", "an ACK has a body although nothing was offered")

    def _take_offer(self, request: Request, envelope: Envelope, flow: Flow) -> None:
        if self._is_asking:
            self.respond(request, 491, flow)
            return
        self.result.media_changes += 1
        if not request.body:
            if request.method == "INVITE":
                self._awaits_answer = True
                self.respond(request, 200, flow, body=self.terms.offer())
            else:
                self.respond(request, 200, flow)
            return
        for rule, text in self.terms.offer_breaches(request.body):
            self.violate(rule, text)
        try:
            body = self.terms.answer(request.body)
        except NoTerms:
            self.respond(request, 488, flow)
        else:
            self.respond(request, 200, flow, body=body)
            self.agree()

    def _take_info(self, request: Request, flow: Flow) -> None:
        content_type = request.headers.get("Content-Type") or ""
        self.result.infos.append(content_type)
        try:
            digit = parse_info(content_type, request.body)
        except RemoteError as error:
            self.violate("INFO", str(error))
            digit = None
        if digit is not None:
            self.result.digits += digit.key
        self.respond(request, 200, flow)

    def _take_refer(self, request: Request, flow: Flow) -> None:
        self.result.referred_to.append(request.headers.get("Refer-To") or "")
        self.note("referred")
        referral = self.options.referral
        self.respond(request, referral.status, flow, ("Contact", self.dialog.contact))
        if referral.status < 300:
            self.start(notify(self, request))

    def expect_answer(self) -> None:
        """Our offer went out in a 200: the answer comes in the ACK."""
        self._awaits_answer = True

    def accept(self, body: bytes, where: str) -> bool:
        """Take the answer to our offer; False (and a violation) if there is none that works."""
        try:
            _, breaches = self.terms.accept(body)
        except NoTerms as error:
            self.violate("RFC 3264 6", f"{where} has no answer that works: {error}")
            return False
        for rule, text in breaches:
            self.violate(rule, text)
        return True

    def _refresh(self, headers: Headers) -> None:
        """Take the target that a 2xx of the other side names (RFC 3261 section 12.2.1.2)."""
        contact = headers.get("Contact")
        if contact and "<" in contact:
            self.dialog.target = contact.partition("<")[2].partition(">")[0]

    def _speak(self, at_ms: float, heard: bytes) -> bytes | None:
        if self.over.is_set():
            return None
        if self.answered_s is None:  # early media: they hear it ring
            return tone(RINGBACK_HZ, ULAW_8K, FRAME_MS, int(at_ms) * ULAW_8K.rate_hz // 1000)
        if self._early_ms is None:
            self._early_ms = at_ms
        frame = self.person.step(at_ms - self._early_ms, heard)
        wishes, self.person.wishes = self.person.wishes, []
        for wish in wishes:
            self._wish(wish)
        return None if isinstance(self.person.lasting, LoseAudio) else frame

    def _wish(self, wish: Wish) -> None:
        match wish:
            case PressKey():
                self.start(self.press(wish.digit))
            case HangUp():
                self.start(self.hang_up())
            case Hold():
                self.start(self._hold_for(wish.ms))

    async def _hold_for(self, ms: int) -> None:
        await self.hold()
        await asyncio.sleep(ms / 1000)
        if not self.over.is_set():
            await self.resume()
