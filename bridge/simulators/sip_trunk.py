"""A simulated SIP carrier that takes the bridge's calls: people who answer, are busy, or never pick up.

Strict as ``sip_phone``, whose dialogs it shares: what the bridge does wrong is in ``SipTrunk.violations``. Who is
called (the user of the Request-URI) decides what happens, by ``people`` and ``default``.

    async with SipTrunk(SipTrunkOptions(people={"+15550123": TrunkScript(status=486)})) as trunk: ...

Sources: RFC 3261, RFC 3262, RFC 3264, RFC 3515, RFC 7616.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from bridge.auth.sip_digest import DigestOptions, DigestOutcome, DigestServer
from bridge.simulators.genesys_person import AnyAction
from bridge.simulators.sip_leg import SipLeg
from bridge.simulators.sip_leg_options import ALLOW, HoldBy, Keys, LegOptions, Referral, flow_for
from bridge.simulators.sip_party import OnRequest, SipParty
from bridge.simulators.sip_result import Notes, SipResult, Violation
from bridge.simulators.sip_rtp import MediaWays
from bridge.simulators.sip_terms import NoTerms, Wanted
from bridge.simulators.sip_wire import SipWire
from bridge.simulators.twilio_line import WaitForClose
from bridge.sip.envelope import Envelope
from bridge.sip.flow import Flow, Transport
from bridge.sip.grammar import tokens
from bridge.sip.message import Request, make_response
from bridge.sip.uri import SipUri

REALM = "trunk.example.com"
FIRST_RSEQ = 7
SAME_PORT_TRIES = 20
"""How often a port is looked for that is free for every transport."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkScript:
    """What happens when somebody is called."""

    status: int = 200
    """The final response: 200 = answered; 300 and more = refused; 0 = there is none, it rings for ever."""
    reason: str = ""
    provisional: tuple[int, ...] = (180,)
    """Responses before it, at once and in order; 183 carries SDP, and ring-back tone follows it."""
    is_reliable: bool = False
    """Whether they require PRACK, where the bridge says that it can."""
    ring_ms: float = 100.0
    """From the provisional responses to the final one."""
    fields: tuple[tuple[str, str], ...] = ()
    """Headers of the final response, e.g. Contact of a 302 or Retry-After of a 503."""
    is_silent: bool = False
    """Answers nothing at all, not even with 100."""
    username: str = ""
    """Asks for these credentials first."""
    password: str = field(default="", repr=False)
    challenge: int = 401
    """401 or 407."""
    actions: tuple[AnyAction, ...] = (WaitForClose(),)
    wanted: Wanted = Wanted()
    keys: Keys = Keys.EVENTS
    hold: HoldBy = HoldBy.SENDONLY
    referral: Referral = Referral()
    record_routes: tuple[str, ...] = ()
    """Record-Route values that proxies of the carrier would have put in, topmost first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SipTrunkOptions:
    """One simulated carrier."""

    host: str = "127.0.0.1"
    port: int = 0
    """The same for all transports; 0 = any."""
    transports: tuple[Transport, ...] = (Transport.UDP, Transport.TCP)
    cert_file: Path | None = None
    """For TLS."""
    key_file: Path | None = None
    people: Mapping[str, TrunkScript] = field(default_factory=dict)
    """By number, as it stands in the Request-URI."""
    default: TrunkScript = TrunkScript()
    t1_s: float = 0.5
    keeps_audio: bool = True


class TrunkCall:
    """One call that the bridge placed."""

    def __init__(self, party: SipParty, script: TrunkScript, options: SipTrunkOptions, envelope: Envelope) -> None:
        uri = envelope.uri
        number = uri.user if isinstance(uri, SipUri) else str(uri)
        self.script = script
        self.party = party
        self.result = SipResult(call_id=envelope.call_id, number=number)
        ways = MediaWays(options.host, ptime_ms=script.wanted.ptime_ms, keeps_audio=options.keeps_audio)
        self.leg = SipLeg(
            party,
            LegOptions(
                actions=script.actions,
                wanted=script.wanted,
                ways=ways,
                keys=script.keys,
                hold=script.hold,
                referral=script.referral,
            ),
            self.result,
            None,
        )
        self.tag = secrets.token_hex(6)
        self.is_final = False
        self.invite: Request | None = None
        self.flow: Flow | None = None
        self.pracked = asyncio.Event()
        self._body = b""

    async def ring(self, request: Request, envelope: Envelope, flow: Flow) -> None:
        """Carry the script out on an INVITE."""
        self.invite, self.flow, script = request, flow, self.script
        leg, result = self.leg, self.result
        leg.open()
        result.invite, result.offer = dict(request.headers), request.body.decode("utf-8", "replace")
        self._found_dialog(request, envelope, flow)
        if not self._negotiate(request):
            return
        for place, status in enumerate(script.provisional):
            await self._provisional(status, FIRST_RSEQ + place)
        await asyncio.sleep(script.ring_ms / 1000)
        if script.status and not self.is_final:
            self._final(script.status, script.reason, *script.fields)

    def cancelled(self, reason: str) -> None:
        """A CANCEL came."""
        if not self.is_final:
            self.result.bye_reason = reason
            self._final(487)

    def _found_dialog(self, request: Request, envelope: Envelope, flow: Flow) -> None:
        dialog = self.leg.dialog
        assert envelope.contact is not None
        dialog.call_id = envelope.call_id
        dialog.local = str(envelope.to.tagged(self.tag))
        dialog.remote = request.headers.get("From") or ""
        dialog.target = str(envelope.contact.uri)
        dialog.contact = self.party.contact(self.result.number or "trunk")
        dialog.routes = tuple(self.script.record_routes)
        dialog.flow = flow if dialog.routes else flow_for(envelope.contact.uri, flow)
        dialog.remote_sequence = envelope.cseq.number

    def _negotiate(self, request: Request) -> bool:
        """Make our description; False (after 488) if the bridge's offer does not work."""
        terms = self.leg.terms
        if not request.body:
            self._body = terms.offer()
            self.leg.expect_answer()
            return True
        for rule, text in terms.offer_breaches(request.body):
            self.leg.violate(rule, text)
        try:
            self._body = terms.answer(request.body)
        except NoTerms:
            self._final(488)
            return False
        self.result.answer = self._body.decode()
        return True

    async def _provisional(self, status: int, rseq: int) -> None:
        assert self.invite is not None
        with_media = status == 183
        fields: list[tuple[str, str]] = []
        is_reliable = self.script.is_reliable and "100rel" in (
            *tokens(self.invite.headers.all("Supported")),
            *tokens(self.invite.headers.all("Require")),
        )
        if is_reliable:
            fields += [("Require", "100rel"), ("RSeq", str(rseq))]
        self._respond(status, "", *fields, body=self._body if with_media else b"")
        if with_media:
            self.leg.agree()
            self.leg.media.begin(is_answered=False)
        if is_reliable:
            try:
                await asyncio.wait_for(self.pracked.wait(), 32.0)
            except TimeoutError:
                self.leg.violate("RFC 3262 4", f"a reliable {status} was never acknowledged by PRACK")
            self.pracked.clear()

    def _final(self, status: int, reason: str = "", *fields: tuple[str, str]) -> None:
        self.is_final = True
        self.result.status = status
        is_answer = status < 300
        self._respond(status, reason, *fields, body=self._body if is_answer else b"")
        self.result.reason = reason
        if is_answer:
            self.leg.talk()
        else:
            self.leg.end("bridge" if status == 487 else "refused")

    def _respond(self, status: int, reason: str, *fields: tuple[str, str], body: bytes = b"") -> None:
        assert self.invite is not None and self.flow is not None
        more = [("Allow", ALLOW), ("Supported", "100rel")] if status < 300 else []
        more += [("Record-Route", route) for route in self.script.record_routes] if status < 300 else []
        if status < 300:
            more.append(("Contact", self.leg.dialog.contact))
        if body:
            more.append(("Content-Type", "application/sdp"))
        self.result.statuses.append(status)
        self.leg.note(f"we answer {status}")
        response = make_response(self.invite, status, reason, to_tag=self.tag, fields=(*more, *fields), body=body)
        self.party.respond(self.invite, response, self.flow)


class SipTrunk:
    """The carrier; an async context manager. ``calls`` are all calls so far, in order."""

    def __init__(self, options: SipTrunkOptions | None = None) -> None:
        self.options = options or SipTrunkOptions()
        self.notes = Notes(time.monotonic())
        self.calls: list[TrunkCall] = []
        self.pings = 0
        """OPTIONS outside of any call."""
        self.port = 0
        self.parties: dict[Transport, SipParty] = {}
        self._digest = DigestServer(DigestOptions(REALM), secrets.token_bytes(16))
        self._came = asyncio.Condition()
        self._challenged: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """``host:port``, for ``SIP_OUTBOUND_ADDRESS``."""
        return f"{self.options.host}:{self.port}"

    @property
    def violations(self) -> tuple[Violation, ...]:
        """What the bridge did wrong so far, in all calls."""
        return tuple(self.notes.violations)

    async def __aenter__(self) -> Self:
        """Listen. Raises ``OSError`` if the port is taken."""
        for left in reversed(range(SAME_PORT_TRIES)):
            try:
                await self._open()
            except OSError:
                await self._close_parties()
                if self.options.port or not left:
                    raise
            else:
                break
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let go of everything; results are complete then."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for call in self.calls:
            await call.leg.close()
        await self._close_parties()

    async def next_call(self, count: int = 1, timeout_s: float = 10.0) -> TrunkCall:
        """Wait until so many calls have come; returns the last of them. Raises ``TimeoutError``."""
        async with asyncio.timeout(timeout_s), self._came:
            await self._came.wait_for(lambda: len(self.calls) >= count)
        return self.calls[count - 1]

    async def ended(self, call: TrunkCall, timeout_s: float = 30.0) -> SipResult:
        """Wait until a call is over. Raises ``TimeoutError``."""
        async with asyncio.timeout(timeout_s):
            await call.leg.over.wait()
        await asyncio.sleep(0.05)  # the responses to its last requests
        await call.leg.close()
        return call.result

    # --- private -----------------------------------------------------------------------------------------

    async def _open(self) -> None:
        options = self.options
        port = options.port
        for transport in options.transports:
            server_tls = _server_tls(options) if transport is Transport.TLS else None
            wire = SipWire(transport, self.notes, lambda message, flow: None, server_tls=server_tls)
            party = SipParty(wire, self.notes, self._handler(transport), t1_s=options.t1_s)
            self.parties[transport] = party
            await wire.open(options.host, port)
            port = port or wire.address[1]
        self.port = port

    async def _close_parties(self) -> None:
        for party in self.parties.values():
            await party.close()
        self.parties.clear()

    def _handler(self, transport: Transport) -> OnRequest:
        def handle(request: Request, envelope: Envelope, flow: Flow) -> None:
            self._on_request(self.parties[transport], request, envelope, flow)

        return handle

    def _on_request(self, party: SipParty, request: Request, envelope: Envelope, flow: Flow) -> None:
        if request.method == "CANCEL":
            self._cancel(party, request, envelope, flow)
        elif envelope.to.tag:
            self._within(party, request, envelope, flow)
        elif request.method == "INVITE":
            self._invited(party, request, envelope, flow)
        elif request.method == "OPTIONS":
            self.pings += 1
            party.respond(
                request,
                make_response(request, 200, to_tag="ping", fields=(("Allow", ALLOW), ("Accept", "application/sdp"))),
                flow,
            )
        else:
            party.respond(
                request,
                make_response(request, 405, to_tag="no", fields=(("Allow", ALLOW), ("Accept", "application/sdp"))),
                flow,
            )

    def _invited(self, party: SipParty, request: Request, envelope: Envelope, flow: Flow) -> None:
        number = envelope.uri.user if isinstance(envelope.uri, SipUri) else ""
        script = self.options.people.get(number, self.options.default)
        if script.is_silent:
            return
        last = self._challenged.get(envelope.call_id)
        if last is not None and envelope.cseq.number != last + 1:
            self.notes.violate("RFC 3261 22.2", "INVITE with credentials needs the next CSeq", time.monotonic())
        if script.username and not self._is_known(request, script):
            self._challenge(party, request, envelope, flow, script)
            return
        party.respond(request, make_response(request, 100), flow)
        call = TrunkCall(party, script, self.options, envelope)
        call.result.challenges = 0 if last is None else 1
        self.calls.append(call)
        task = asyncio.get_running_loop().create_task(self._ring(call, request, envelope, flow))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ring(self, call: TrunkCall, request: Request, envelope: Envelope, flow: Flow) -> None:
        async with self._came:
            self._came.notify_all()
        await call.ring(request, envelope, flow)

    def _is_known(self, request: Request, script: TrunkScript) -> bool:
        name = "Authorization" if script.challenge == 401 else "Proxy-Authorization"
        verdict = self._digest.check(
            request.headers.all(name),
            request.method,
            lambda user: script.password if user == script.username else None,
            time.time(),
        )
        if verdict.outcome is DigestOutcome.REFUSED:
            self.notes.violate("RFC 7616 3.4.1", "the digest is wrong", time.monotonic())
        return verdict.outcome is DigestOutcome.GRANTED

    def _challenge(
        self, party: SipParty, request: Request, envelope: Envelope, flow: Flow, script: TrunkScript
    ) -> None:
        self._challenged[envelope.call_id] = envelope.cseq.number
        name = "WWW-Authenticate" if script.challenge == 401 else "Proxy-Authenticate"
        values = self._digest.challenges(time.time(), secrets.token_bytes(8))
        fields = tuple((name, value) for value in values)
        response = make_response(request, script.challenge, to_tag=secrets.token_hex(6), fields=fields)
        party.respond(request, response, flow)

    def _cancel(self, party: SipParty, request: Request, envelope: Envelope, flow: Flow) -> None:
        call = next((one for one in reversed(self.calls) if one.result.call_id == envelope.call_id), None)
        status = 481 if call is None else 200
        tag = "none" if call is None else call.tag
        party.respond(request, make_response(request, status, to_tag=tag), flow)
        if call is not None:
            call.cancelled(request.headers.get("Reason") or "")

    def _within(self, party: SipParty, request: Request, envelope: Envelope, flow: Flow) -> None:
        for call in self.calls:
            if call.result.call_id == envelope.call_id and call.tag == envelope.to.tag:
                if request.method == "PRACK":
                    call.pracked.set()
                call.leg.take(request, envelope, flow)
                return
        self.notes.violate("RFC 3261 12.2", f"{request.method} belongs to no call of ours", time.monotonic())
        if request.method != "ACK":
            party.respond(request, make_response(request, 481), flow)


def _server_tls(options: SipTrunkOptions) -> ssl.SSLContext:
    if options.cert_file is None:
        raise ValueError("TLS needs cert_file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.cert_file, options.key_file)
    return context
