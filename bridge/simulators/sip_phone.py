"""Calls a bridge over SIP as a trunk does: INVITE over UDP, TCP or TLS, G.711 in real time, keys, hold, BYE.

Strict: every rule that the bridge breaks is in ``SipResult.violations``. The transactions and dialogs are this
simulator's own, not the bridge's. The trunk that takes calls of the bridge is in ``sip_trunk``.

    result = await call_sip(SipPhoneOptions(to="sip:+15550199@127.0.0.1:5060;transport=tcp", actions=DEMO_ACTIONS))

Sources: RFC 3261, RFC 3262 (PRACK), RFC 3264, RFC 3581, RFC 4733, RFC 7616 (digest).
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bridge.auth.sip_digest_client import ChallengeKind, DigestClient, SipAccount
from bridge.simulators.genesys_person import AnyAction
from bridge.simulators.sip_leg import SipLeg
from bridge.simulators.sip_leg_options import AGENT, ALLOW, HoldBy, Keys, LegOptions, Referral, flow_for
from bridge.simulators.sip_party import SipParty
from bridge.simulators.sip_result import Notes, SipResult
from bridge.simulators.sip_rtp import MediaWays
from bridge.simulators.sip_terms import Wanted
from bridge.simulators.sip_wire import SipWire
from bridge.simulators.speech import write_stereo_wav
from bridge.simulators.twilio_line import DEMO_ACTIONS
from bridge.sip.envelope import Envelope
from bridge.sip.errors import HeaderError
from bridge.sip.flow import Flow, Transport
from bridge.sip.grammar import tokens
from bridge.sip.headers import Headers
from bridge.sip.message import Request, Response, make_response
from bridge.sip.telephone_event import SenderOptions
from bridge.sip.uri import SipUri, parse_uri
from bridge.sip.values import parse_address, parse_addresses

LINGER_S = 0.1
"""After the end: what comes late or twice is still seen."""
SLOW_TRYING_MS = 500.0
"""A first response later than this made us repeat the INVITE; it must come within 200 ms (RFC 3261 section 17.2.1),
the rest is what a busy machine blurs."""
MAX_CHALLENGES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SipPhoneOptions:
    """One simulated call."""

    to: str
    """Whom to call, e.g. ``sip:+15550199@127.0.0.1:5060``; ``;transport=tcp`` or ``tls`` as wanted, else UDP."""
    caller: str = "+15550100"
    display_name: str = ""
    username: str = ""
    """For digest; empty = a challenge ends the call."""
    password: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the INVITE, besides, e.g. ``X-CALL-ID``."""
    local_host: str = "127.0.0.1"
    local_port: int = 0
    ca_file: Path | None = None
    """For TLS: who signed the bridge's certificate; None = the system's authorities."""
    actions: tuple[AnyAction, ...] = DEMO_ACTIONS
    wanted: Wanted = Wanted()
    keys: Keys = Keys.EVENTS
    key_timing: SenderOptions = SenderOptions(tone_ms=100, gap_ms=80)
    hold: HoldBy = HoldBy.SENDONLY
    is_delayed_offer: bool = False
    """INVITE without SDP: the bridge offers in its 200, we answer in the ACK."""
    requires_100rel: bool = False
    cancel_after_ms: float | None = None
    """CANCEL that long after INVITE, unless it is answered by then; 0 = at once."""
    record_routes: tuple[str, ...] = ()
    """Record-Route values, topmost first, as proxies on the way would have put in."""
    is_mute: bool = False
    """Send no RTP at all."""
    acks: bool = True
    """False: never acknowledge the 2xx; the bridge has to give up by itself."""
    referral: Referral = Referral()
    ring_s: float = 60.0
    """How long to wait for an answer before CANCEL."""
    max_duration_s: float = 120.0
    """The caller hangs up after that long in any case."""
    t1_s: float = 0.5
    recording: Path | None = None
    """Where to write a stereo WAV: caller left, agent as heard right."""
    keeps_audio: bool = True


class SipPhone:
    """One call. ``run`` makes it; ``result`` and ``leg`` may be looked at while it goes on."""

    def __init__(self, options: SipPhoneOptions) -> None:
        """Raises ``ValueError`` that names the option that does not work."""
        try:
            uri = parse_uri(options.to)
        except HeaderError as error:
            raise ValueError(f"to is no SIP URI: {error}") from None
        if not isinstance(uri, SipUri):
            raise ValueError("to must begin with sip:")
        self.options = options
        self._uri = uri
        transport = _transport_of(uri)
        self.notes = Notes(time.monotonic())
        wire = SipWire(transport, self.notes, lambda message, flow: None, client_tls=_client_tls(transport, options))
        self.party = SipParty(wire, self.notes, self._on_request, t1_s=options.t1_s)
        self.result = SipResult(call_id=f"{secrets.token_hex(12)}@{options.local_host}", number=uri.user)
        digest = DigestClient(SipAccount(options.username, options.password)) if options.username else None
        self._digest = digest
        ways = MediaWays(
            options.local_host,
            ptime_ms=options.wanted.ptime_ms,
            keeps_audio=options.keeps_audio or options.recording is not None,
            keys=options.key_timing,
            is_mute=options.is_mute,
        )
        self.leg = SipLeg(
            self.party,
            LegOptions(
                actions=options.actions,
                wanted=options.wanted,
                ways=ways,
                keys=options.keys,
                hold=options.hold,
                referral=options.referral,
            ),
            self.result,
            digest,
        )
        self.flow = Flow(transport, uri.bare_host, uri.port or transport.default_port, server_name=uri.bare_host)
        self._invite: Request | None = None
        self._is_cancelled = False
        self._proceeding = asyncio.Event()
        self._to_tags: set[str] = set()
        self._reliable_heard: set[str] = set()

    async def run(self) -> SipResult:
        """Make the call, to its end. Never raises on what the bridge does: that is in the result."""
        options = self.options
        await self.open()
        try:
            response = await self._call()
            if response is not None and response.status < 300:
                await self._until_over()
        finally:
            await self.close()
        if options.recording is not None:
            await asyncio.to_thread(write_stereo_wav, options.recording, self.result.said, self.result.heard)
        return self.result

    async def open(self) -> None:
        """Bind the ports. Raises ``OSError``."""
        await self.party.wire.open(self.options.local_host, self.options.local_port)
        self.leg.open()

    async def close(self) -> None:
        """Let go of the ports; the result is complete then."""
        await asyncio.sleep(LINGER_S)
        await self.leg.close()
        await self.party.close()

    async def ping(self) -> Response | None:
        """OPTIONS outside of any call, as trunks send to see whether somebody is there. Needs ``open`` before."""
        return await self.party.ask(self._request("OPTIONS", 1, ()), self.flow)

    # --- setting up --------------------------------------------------------------------------------------

    async def _call(self) -> Response | None:
        """INVITE, through all challenges; the call is up afterwards, or over."""
        self.leg.started_s = time.monotonic()
        sequence = 1
        for attempt in range(MAX_CHALLENGES + 1):
            self.leg.dialog.sequence = sequence
            response = await self._ask_invite(sequence)
            if response is None or response.status not in (401, 407):
                break
            kind = ChallengeKind(response.status)
            self.result.challenges += 1
            values = response.headers.all(kind.challenge_header)
            if self._digest is None or not self._digest.challenged(kind, values, attempt):
                break
            sequence += 1
        self._conclude(response)
        return response

    async def _ask_invite(self, sequence: int) -> Response | None:
        fields: list[tuple[str, str]] = [("Contact", self.party.contact(self.options.caller)), ("Allow", ALLOW)]
        fields.append(("Require" if self.options.requires_100rel else "Supported", "100rel"))
        fields += [("Record-Route", route) for route in self.options.record_routes]
        body = b"" if self.options.is_delayed_offer else self.leg.terms.offer()
        if body:
            fields.append(("Content-Type", "application/sdp"))
        self.result.offer = body.decode()
        self._invite = request = self._request("INVITE", sequence, (*fields, *self.options.headers.items()), body)
        canceller = asyncio.get_running_loop().create_task(self._cancel_in_time(request))
        try:
            return await self.party.ask(request, self.flow, self._provisional)
        finally:
            canceller.cancel()

    def _request(self, method: str, sequence: int, fields: tuple[tuple[str, str], ...], body: bytes = b"") -> Request:
        options, dialog = self.options, self.leg.dialog
        host, port = self.party.wire.address
        if not dialog.local:
            display = f'"{options.display_name}" ' if options.display_name else ""
            dialog.local = f"{display}<sip:{options.caller}@{host}:{port}>;tag={secrets.token_hex(6)}"
            dialog.call_id = self.result.call_id
            dialog.contact = self.party.contact(options.caller)
            dialog.flow = self.flow
        head = [("Via", self.party.new_via()), ("Max-Forwards", "70"), ("From", dialog.local)]
        head += [("To", f"<{replace(self._uri, raw_params='')}>"), ("Call-ID", dialog.call_id)]
        head += [("CSeq", f"{sequence} {method}"), ("User-Agent", AGENT)]
        credentials: tuple[tuple[str, str], ...] = ()
        if self._digest is not None:
            credentials = self._digest.fields(method, str(self._uri), secrets.token_hex(8), body)
        return Request(method, str(self._uri), Headers((*head, *fields, *credentials)), body)

    async def _cancel_in_time(self, request: Request) -> None:
        after_ms = self.options.cancel_after_ms
        await asyncio.sleep(self.options.ring_s if after_ms is None else after_ms / 1000)
        await self._proceeding.wait()  # RFC 3261 section 9.1: not before a provisional response
        self._is_cancelled = True
        self.leg.note("caller cancels")
        kept = [(n, v) for n, v in request.headers if n in ("Via", "Max-Forwards", "From", "To", "Call-ID", "Route")]
        number = (request.headers.get("CSeq") or "").partition(" ")[0]
        cancel = Request("CANCEL", request.uri, Headers((*kept, ("CSeq", f"{number} CANCEL"))))
        self.leg.start(self._send_cancel(cancel))

    async def _send_cancel(self, cancel: Request) -> None:
        response = await self.party.ask(cancel, self.flow)
        if response is None or response.status not in (200, 481):
            self.leg.violate("RFC 3261 9.2", f"CANCEL was answered {'never' if response is None else response.status}")

    async def _provisional(self, response: Response) -> None:
        result, status = self.result, response.status
        at_ms = round((time.monotonic() - self.leg.started_s) * 1000, 1)
        self._first(at_ms)
        self._proceeding.set()
        if status not in result.statuses:
            result.statuses.append(status)
            self.leg.note(f"{status} {response.reason}")
        if status == 180 and result.ringing_ms is None:
            result.ringing_ms = at_ms
        if status > 100:
            self._to_tags.add(parse_address(response.headers.get("To") or "").tag)
        if response.body and self.leg.terms.terms is None and not self.options.is_delayed_offer:
            self.leg.accept(response.body, f"the {status}")  # early media: heard before the answer
            self.leg.agree()
        if "100rel" in tokens(response.headers.all("Require")):
            await self._prack(response)

    async def _prack(self, response: Response) -> None:
        rseq = response.headers.get("RSeq") or ""
        if rseq in self._reliable_heard:
            return
        self._reliable_heard.add(rseq)
        self._found_dialog(response)
        sequence = (response.headers.get("CSeq") or "").partition(" ")[0]
        answer = await self.leg.ask("PRACK", ("RAck", f"{rseq} {sequence} INVITE"))
        if answer is None or answer.status != 200:
            self.leg.violate("RFC 3262 3", f"PRACK was answered {'never' if answer is None else answer.status}")

    def _first(self, at_ms: float) -> None:
        if self.result.trying_ms is None:
            self.result.trying_ms = at_ms
            if at_ms > SLOW_TRYING_MS:
                self.leg.violate("RFC 3261 17.2.1", f"the first response to INVITE came after {at_ms:.0f} ms")

    def _found_dialog(self, response: Response) -> None:
        """Take tag, target and route set of a response (RFC 3261 section 12.1.2)."""
        dialog = self.leg.dialog
        dialog.remote = response.headers.get("To") or ""
        contacts = response.headers.all("Contact")
        target = parse_address(contacts[0]).uri if contacts else self._uri
        dialog.target = str(target)
        routes = parse_addresses(response.headers.all("Record-Route"))
        dialog.routes = tuple(str(route) for route in reversed(routes))
        dialog.flow = self.flow if routes else flow_for(target, self.flow)

    def _conclude(self, response: Response | None) -> None:
        result, leg = self.result, self.leg
        if response is None:
            leg.end("lost")
            return
        self._first(round((time.monotonic() - leg.started_s) * 1000, 1))
        result.status, result.reason = response.status, response.reason
        result.statuses.append(response.status)
        leg.note(f"{response.status} {response.reason}")
        if response.status >= 300:
            leg.end("caller" if self._is_cancelled and response.status == 487 else "refused")
            return
        tag = parse_address(response.headers.get("To") or "").tag
        if self._to_tags - {tag}:
            leg.violate("RFC 3261 12.1.1", "the 200 has another To tag than the responses before")
        self._found_dialog(response)
        result.invite = dict(response.headers)
        result.answer = response.body.decode("utf-8", "replace")
        self._acknowledge(response)

    def _acknowledge(self, response: Response) -> None:
        leg, invite, options = self.leg, self._invite, self.options
        assert invite is not None and leg.dialog.flow is not None
        sequence = int((invite.headers.get("CSeq") or "").partition(" ")[0])
        if options.is_delayed_offer:
            leg.acknowledge_offer(invite, response)
        else:
            if response.body or leg.terms.terms is None:
                leg.accept(response.body, "the 200")
            if options.acks:
                self.party.acknowledge(invite, leg.request("ACK", sequence=sequence), leg.dialog.flow)
        leg.confirmed.set()
        if leg.terms.terms is None or self._is_cancelled:
            leg.start(leg.hang_up())
        leg.talk()

    # --- going on ----------------------------------------------------------------------------------------

    async def _until_over(self) -> None:
        try:
            await asyncio.wait_for(self.leg.over.wait(), self.options.max_duration_s)
        except TimeoutError:
            await self.leg.hang_up("time")

    def _on_request(self, request: Request, envelope: Envelope, flow: Flow) -> None:
        leg = self.leg
        ours = parse_address(leg.dialog.local).tag if leg.dialog.local else ""
        if envelope.call_id != self.result.call_id or envelope.to.tag != ours:
            leg.violate("RFC 3261 12.2", f"{request.method} belongs to no call of ours")
            self.party.respond(request, make_response(request, 481, to_tag=secrets.token_hex(6)), flow)
            return
        leg.take(request, envelope, flow)


def _transport_of(uri: SipUri) -> Transport:
    name = (uri.param("transport") or ("tls" if uri.scheme == "sips" else "udp")).upper()
    try:
        return Transport(name)
    except ValueError:
        raise ValueError("to: the transport is udp, tcp or tls") from None


def _client_tls(transport: Transport, options: SipPhoneOptions) -> ssl.SSLContext | None:
    if transport is not Transport.TLS:
        return None
    return ssl.create_default_context(cafile=None if options.ca_file is None else str(options.ca_file))


async def call_sip(options: SipPhoneOptions) -> SipResult:
    """Make one call and return what came of it."""
    return await SipPhone(options).run()
