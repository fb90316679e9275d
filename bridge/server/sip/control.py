"""The control client of SIP: places calls over trunks, hangs up, and sends callers on (REFER).

It keeps the contract of REST clients (``bridge.server.carrier_control``), although nothing leaves the process for it:
so outbound calls and transfers over SIP are those of every other carrier, with their books, slots and webhooks.

What it is not: warm transfers, which need two calls mixed into one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from bridge.calls.orders import TransferOrder
from bridge.calls.outbound import StatusReport
from bridge.calls.webhook_vendor import sip_failure_body, sip_failure_reason
from bridge.errors import LocalError
from bridge.events import CallInfo
from bridge.leg import ToneWay, TransferKind
from bridge.server.answer import Connect
from bridge.server.carrier_control import Comeback, ControlError, ControlFault, Line, OutboundOrder, Whisper
from bridge.server.logs import get_logger
from bridge.server.sip.line import SipLine
from bridge.server.sip.media_ports import NoPorts
from bridge.server.transfers import Verdict
from bridge.sip import leg, line_words
from bridge.sip.flow import Flow
from bridge.sip.offer_answer import AudioOptions
from bridge.sip.trunks import Outbound, Trunk, Trunks
from bridge.sip.ua_events import CallAnswered, CallOver, CallRinging, EarlyMedia, SipEnd, TransferProgress, UaEvent
from bridge.sip.ua_options import CallOrder
from bridge.sip.uri import SipUri

if TYPE_CHECKING:
    from bridge.server.sip.service import SipService

REFER_TIMEOUT_S = 10.0
"""How long a peer may take to say whether it takes a REFER: a request's own time-out is 32 s, and a caller waits."""

USER_PHONE = ";user=phone"
"""RFC 3261 section 19.1.1: the user part is a telephone number."""

_NO_MIXING = "SIP legs cannot be mixed with another call: transfer by REFER"
_STATUSES = {"busy": "busy", "no-answer": "no-answer", "unknown": "failed"}
_VERDICTS = {486: Verdict.BUSY, 600: Verdict.BUSY, 603: Verdict.DECLINED}
_NO_ANSWER = (408, 480, 487)


class SipControl:
    """See ``CarrierControl``. ``service`` is set once the user agent runs."""

    def __init__(self, trunks: Trunks) -> None:
        self.trunks = trunks
        """May be replaced at any time."""
        self.service: SipService | None = None
        self._log = get_logger()

    @property
    def transfers(self) -> frozenset[TransferKind]:
        """See ``CarrierControl``."""
        return leg.SPEC.transfers

    @property
    def tones(self) -> ToneWay:
        """See ``CarrierControl``."""
        return ToneWay.LEG

    @property
    def transfers_keep_stream(self) -> bool:
        """See ``CarrierControl``: the caller stays here until the peer has them elsewhere."""
        return True

    async def hang_up(self, line: Line) -> None:
        """See ``CarrierControl``."""
        found = self._line(line.call_sid)
        if found is not None:
            found.hang_up()

    async def play_tones(self, line: Line, digits: str, comeback: Comeback | None) -> None:
        """See ``CarrierControl``; the leg does this itself."""
        found = self._line(line.call_sid)
        if found is None:
            raise ControlError(ControlFault.GONE, "the call is over")
        found.send_text(line_words.encode(line_words.Press(digits)))

    async def ring_human(self, line: Line, order: TransferOrder, whisper: Whisper) -> str:
        """See ``CarrierControl``."""
        raise ControlError(ControlFault.REFUSED, _NO_MIXING)

    async def join(self, line: Line, human_sid: str, order: TransferOrder, whisper: Whisper, words: str) -> None:
        """See ``CarrierControl``."""
        raise ControlError(ControlFault.REFUSED, _NO_MIXING)

    async def drop_human(self, line: Line, human_sid: str) -> None:
        """See ``CarrierControl``."""

    async def aclose(self) -> None:
        """See ``CarrierControl``; the service closes itself."""

    # --- sending a caller on ---

    async def transfer(self, line: Line, order: TransferOrder, whisper: Whisper) -> None:
        """See ``CarrierControl``: REFER for both kinds. Returns when the peer has taken it."""
        found, service = self._line(line.call_sid), self.service
        if found is None or service is None:
            raise ControlError(ControlFault.GONE, "the call is over")
        following = Following(service, found, whisper.transfer_id)
        found.transfer_over = following.progress
        try:
            found.call.refer(refer_to(order.target, found), monotonic(), referred_by=str(_our_side(found)))
        except LocalError as error:
            found.transfer_over = None
            raise ControlError(ControlFault.REFUSED, str(error)) from None
        service.wake()
        try:
            async with asyncio.timeout(REFER_TIMEOUT_S):
                status = await following.taken
        except TimeoutError:
            found.transfer_over = None
            raise ControlError(ControlFault.DOWN, "no answer to REFER") from None
        if status >= 300:
            raise ControlError(ControlFault.REFUSED, f"REFER was answered {status}", code=status)

    # --- placing calls ---

    async def place(self, order: OutboundOrder) -> str:
        """See ``CarrierControl``: the INVITE is on its way; what comes of it is reported to ``Bridge.outbound``."""
        service = self.service
        if service is None:
            raise ControlError(ControlFault.DOWN, "SIP is not started")
        trunk, outbound = self._trunk_for(order)
        flows = await _ways(service, trunk, outbound)
        try:
            pair = service.media.allocate()
        except NoPorts as error:
            raise ControlError(ControlFault.BUSY, str(error)) from None
        now = monotonic()
        try:
            host = bracketed(outbound.host)
            target = str(SipUri.of(order.to_number, host, outbound.port, USER_PHONE))
            call = service.agent.place(
                CallOrder(
                    flows,
                    target,
                    target,
                    str(SipUri.of(order.from_number or outbound.caller_id, host, None, USER_PHONE)),
                    service.audio_session(pair, AudioOptions(codecs=trunk.outbound_codecs)),
                    trunk,
                    credentials=outbound.account,
                    headers=outbound.headers,
                    asserted_identity=outbound.asserts_identity,
                    ring_timeout_s=order.ring_s,
                    is_transport_fixed=outbound.transport is not None,
                ),
                now,
            )
        except LocalError as error:
            service.media.release(pair)
            raise ControlError(ControlFault.REFUSED, str(error)) from None
        line = service.add_line(call, pair, trunk.outbound_codecs[0])
        line.placed_as = order.call_id
        service.on_placed[call.id] = _Placed(service, order, line).on_event
        service.wake()
        return call.call_id

    def _trunk_for(self, order: OutboundOrder) -> tuple[Trunk, Outbound]:
        """The trunk whose caller id the call comes from; the first one that places calls, where none names it."""
        able = [(trunk, trunk.outbound) for trunk in self.trunks.callable() if trunk.outbound is not None]
        if not able:
            raise ControlError(ControlFault.REFUSED, "no trunk places calls: set SIP_OUTBOUND_ADDRESS")
        own = [pair for pair in able if pair[1].caller_id and pair[1].caller_id == order.from_number]
        trunk, outbound = (own or able)[0]
        service = self.service
        if service is not None and trunk.max_calls is not None and service.calls_of(trunk) >= trunk.max_calls:
            raise ControlError(ControlFault.BUSY, f"trunk {trunk.name} has all the calls it may have")
        return trunk, outbound

    def _line(self, call_sid: str) -> SipLine | None:
        service = self.service
        if service is None:
            return None
        return next((line for line in service.lines.values() if line.call_sid == call_sid), None)


class _Placed:
    """Follows a placed call until its session has it."""

    def __init__(self, service: SipService, order: OutboundOrder, line: SipLine) -> None:
        self._service = service
        self._order = order
        self._line = line
        self._sequence = 0
        self._is_ringing = False

    def on_event(self, event: UaEvent) -> None:
        """An event of the call."""
        if isinstance(event, CallRinging | EarlyMedia) and not self._is_ringing:
            self._is_ringing = True
            self._later(lambda: self._report("ringing", 0, {}))
        elif isinstance(event, CallAnswered):
            self._later(self._answered)
        elif isinstance(event, CallOver):
            del self._service.on_placed[event.call.id]
            if self._line.session is None:
                self._later(lambda: self._failed(event))

    def _later(self, job: Callable[[], object]) -> None:
        async def run() -> None:
            result = job()
            if asyncio.iscoroutine(result):
                await result

        self._service.bridge.after(asyncio.get_running_loop().create_task(run()))

    async def _report(self, status: str, sip_code: int, body: dict[str, object]) -> None:
        call, self._sequence = self._line.call, self._sequence + 1
        report = StatusReport(
            call_sid=call.call_id,
            status=status,
            sequence=self._sequence,
            sip_code=sip_code,
            account_id=call.trunk.name,
            fields=body,
        )
        await self._service.bridge.outbound.status(self._order.call_id, report)

    async def _answered(self) -> None:
        call, order = self._line.call, self._order
        info = CallInfo(
            provider=leg.NAME,
            call_sid=call.call_id,
            account_id=call.trunk.name,
            caller=order.from_number,
            called=order.to_number,
            direction="outbound",
        )
        answer = await self._service.bridge.outbound.answered(order.call_id, info)
        if not isinstance(answer, Connect) or self._line.is_over:
            self._line.hang_up()
            return
        invite = line_words.Invite(
            call_sid=call.call_id,
            trunk=call.trunk.name,
            caller=order.from_number,
            called=order.to_number,
            direction="outbound",
            token=answer.token,
            encoding=self._line.encoding,
            answers_at_once=True,
        )
        self._service.give_session(self._line, invite)
        if order.send_digits:
            self._line.send_text(line_words.encode(line_words.Press(order.send_digits)))

    async def _failed(self, over: CallOver) -> None:
        status, code, reason = final_status(over)
        await self._report(status, code, dict(sip_failure_body(code, reason, over.call.call_id)))


async def _ways(service: SipService, trunk: Trunk, outbound: Outbound) -> tuple[Flow, ...]:
    """Where a trunk takes calls, the best first. Raises ``ControlError`` where there is no way, and logs why."""
    found = await service.resolver.find(outbound.host, outbound.port, outbound.transport, is_secure=False)
    flows = tuple(flow for flow in found if service.agent.serves(flow.transport))
    if flows:
        return flows
    problem, advice = "the trunk's name has no address", "Check outbound_address, and what DNS says of it."
    if found:
        name = found[0].transport.value
        problem, advice = f"{name} is off", f"Set SIP_{name}_PORT: the trunk has to reach the bridge that way too."
    get_logger().warning("sip_call_not_placed", trunk=trunk.name, problem=problem, advice=advice)
    raise ControlError(ControlFault.DOWN, problem)


def final_status(over: CallOver) -> tuple[str, int, str]:
    """A carrier's word for how a placed call ended before its media came, the SIP status and its phrase.

    Sources: ElevenLabs docs, "Call initiation failure webhooks": ``busy``, ``no-answer`` or ``unknown``.
    """
    if over.how is SipEnd.NO_ANSWER:
        return "no-answer", over.status or 487, over.reason or "Request Terminated"
    if over.how is SipEnd.LOCAL:
        return "canceled", over.status or 487, over.reason or "Request Terminated"
    if over.how is SipEnd.BYE:
        return "completed", 200, "OK"
    if over.status:
        return _STATUSES[sip_failure_reason(over.status)], over.status, over.reason
    if over.how is SipEnd.TIMEOUT:
        return "no-answer", 408, "Request Timeout"
    return "failed", 503, over.reason or "Service Unavailable"


class Following:
    """Follows a REFER to its end."""

    def __init__(self, service: SipService, line: SipLine, transfer_id: str) -> None:
        self.taken: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """The peer's answer to REFER."""
        self._service = service
        self._line = line
        self._transfer_id = transfer_id

    def progress(self, event: TransferProgress | CallOver) -> None:
        """News of it. If the peer hangs up after it has taken the REFER, the caller is elsewhere."""
        if isinstance(event, CallOver):
            self._line.transfer_over = None
            if not self.taken.done():
                self.taken.set_result(481)
            elif event.how is SipEnd.BYE:
                self._report(Verdict.ACCEPTED)
            elif event.how is not SipEnd.LOCAL:  # that we hung up says nothing of the human
                self._report(Verdict.FAILED)
            return
        if not self.taken.done():
            self.taken.set_result(event.status)
        if event.is_final:
            self._line.transfer_over = None
            if event.status < 300 or self.taken.result() < 300:
                self._report(verdict_of(event.status))

    def _report(self, verdict: Verdict) -> None:
        async def report() -> None:
            await self._service.bridge.transfers.report(self._transfer_id, verdict)

        self._service.bridge.after(asyncio.get_running_loop().create_task(report()))


def verdict_of(status: int) -> Verdict:
    """What the status of a transferred call says of whoever was called."""
    if status < 300:
        return Verdict.ACCEPTED
    return Verdict.NO_ANSWER if status in _NO_ANSWER else _VERDICTS.get(status, Verdict.FAILED)


def refer_to(target: str, line: SipLine) -> str:
    """The URI for Refer-To: a SIP URI as it is, a number at the trunk (or at the host that the caller comes from)."""
    if target.startswith(("sip:", "sips:", "tel:")):
        return target
    outbound = line.call.trunk.outbound
    host = outbound.host if outbound is not None else _their_host(line)
    return str(SipUri.of(target, bracketed(host), None, USER_PHONE))


def bracketed(host: str) -> str:
    """A host as URIs have it: IPv6 in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _their_host(line: SipLine) -> str:
    uri = (line.call.to if line.call.is_outbound else line.call.from_).uri
    return uri.host if isinstance(uri, SipUri) else line.call.peer.host


def _our_side(line: SipLine) -> object:
    return (line.call.from_ if line.call.is_outbound else line.call.to).uri
