"""What a call has done by its carrier's control interface: transfers and keypad tones, one step after the other.

Each is a coroutine beside the call, which goes on meanwhile: the caller may hang up in any step, and then it is
cancelled and cleans up. What it finds out goes back into the call through ``Session.step`` only, and whatever
happens, the agent gets exactly one answer to its tool call.

*Warm transfer*, in the order in which nobody is left alone: the human is called and told first, while the caller stays
with the agent; only when the human has accepted is the caller moved. *Blind transfer and REFER*: the caller is sent on
once they have heard what the agent said; where nobody answers, the carrier's webhook has it connect the media stream
again, and the agent learns why. *Tones* on carriers whose stream cannot carry them take the same way out and back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from bridge.calls import tool_words
from bridge.calls.effects import BeginTransfer, PlayTones, RunTool
from bridge.calls.tool_words import ToolFailure
from bridge.leg import ToneWay, TransferKind
from bridge.server.carrier_control import CarrierControl, ControlError, ControlFault, Line, Whisper
from bridge.server.http_tools import ToolFacts
from bridge.server.transfers import FAILURES, TransferCard, Verdict, come_back

if TYPE_CHECKING:
    from bridge.server.session import Session

WHISPER_S = 45.0
"""Time beyond the ringing for the human to hear what it is about, and to accept: a long message and a key."""

RETURN_S = 10.0
"""How long after its errand the media stream may take to be back; carriers connect within a second or two."""

DOUBT_S = 1.0
"""How long the stream of a caller who is being moved may take to end, once the carrier's answer is known to be lost:
it ends as the request is carried out, and the answer has been waited for long before."""

TONE_S, PAUSE_S = 0.7, 0.5
"""Upper bounds of what a carrier takes for one key, and for ``w``; ``W`` is two of those."""

_FAULTS = {
    ControlFault.GONE: ToolFailure.CALLER_GONE,
    ControlFault.REFUSED: ToolFailure.CARRIER_REFUSED,
    ControlFault.BUSY: ToolFailure.CARRIER_DOWN,
    ControlFault.DOWN: ToolFailure.CARRIER_DOWN,
}


def line_of(session: Session) -> Line:
    """The session's call as control requests name it."""
    info = session.call.info
    assert info is not None
    outbound = info.direction == "outbound"
    return Line(
        call_sid=info.call_sid,
        account_id=info.account_id,
        caller=info.called if outbound else info.caller,
        called=info.caller if outbound else info.called,
        direction=info.direction,
        control_url=info.control_url,
    )


def card_of(session: Session, begin: BeginTransfer | None = None) -> TransferCard:
    """What webhooks must know of the session's call, and of its transfer."""
    info, settings = session.call.info, session.bridge.settings
    assert info is not None
    return TransferCard(
        provider=info.provider,
        call_id=session.call_id,
        call_sid=info.call_sid,
        account_id=info.account_id,
        caller=info.caller,
        called=info.called,
        direction=info.direction,
        control_url=info.control_url,
        is_warm=begin is not None and begin.order.kind is TransferKind.WARM,
        agent_message=begin.order.agent_message if begin is not None else "",
        accept_key=settings.transfer_accept_key or "",
        # Keys that are pressed once the human's side has answered switch detection off, at Twilio for one.
        detects_machine=settings.transfer_machine_detection and begin is not None and not begin.order.post_dial_digits,
        language=session.language,
    )


async def transfer(session: Session, begin: BeginTransfer) -> None:
    """Carry out a transfer from the first request to its outcome."""
    bridge, order = session.bridge, begin.order
    control = bridge.control_of(session.spec.name)
    if control is None:
        _answer(session, begin.tool_call_id, tool_words.transfer_failed(ToolFailure.CARRIER_REFUSED))
        return
    transfer_id = await bridge.transfers.open(card_of(session, begin))
    settings = bridge.settings
    whisper = Whisper(
        transfer_id,
        ring_s=int(settings.transfer_ring_s),
        accept_key=settings.transfer_accept_key or "",
        detect_machine=settings.transfer_machine_detection,
        language=session.language,
    )
    warm = order.kind is TransferKind.WARM
    try:
        failure = await (_warm if warm else _blind)(session, control, begin, whisper)
    except ControlError as error:
        session.log.warning("transfer_failed", kind=order.kind.value, fault=error.fault.value, detail=str(error))
        failure = _FAULTS[error.fault]
    finally:
        bridge.transfers.close(transfer_id)
    bridge.metrics.transfers.labels(order.kind.value, failure.value if failure else "done").inc()
    if failure is not None:
        _answer(session, begin.tool_call_id, tool_words.transfer_failed(failure))
        session.step(session.call.stayed)


async def _warm(
    session: Session, control: CarrierControl, begin: BeginTransfer, whisper: Whisper
) -> ToolFailure | None:
    """The human first. None = the caller is with them."""
    transfers, line = session.bridge.transfers, line_of(session)
    session.note("transfer_ringing")
    human_sid, joined = "", False
    try:
        human_sid = await _ring(session, control, line, begin, whisper)
        verdict = await _verdict(session, whisper)
        if verdict is not Verdict.ACCEPTED:
            return FAILURES[verdict]
        await session.side.heard()
        if await transfers.has_left(whisper.transfer_id):
            return ToolFailure.DECLINED  # they hung up while the agent was finishing its sentence
        await _join(session, control, human_sid, begin, whisper)
        joined = True
    finally:
        if not joined:
            # Too late to accept, also for a human whom the carrier may be ringing although it gave no answer.
            await transfers.report(whisper.transfer_id, Verdict.DECLINED)
            if human_sid:
                await _drop(session, control, line, human_sid)
    _handed_over(session, begin)
    return None


async def _join(
    session: Session, control: CarrierControl, human_sid: str, begin: BeginTransfer, whisper: Whisper
) -> None:
    """Move the caller to the human. Whoever of the two leaves from then on, the other is not left alone."""
    transfers, line = session.bridge.transfers, line_of(session)
    session.step(lambda now: session.call.let_leave(now + RETURN_S))
    words = "" if session.facts.spoke_to_caller else begin.order.client_message
    await _sent(session, control.join(line, human_sid, begin.order, whisper, words))
    await transfers.meets(line.call_sid, human_sid)
    if not await transfers.joins(whisper.transfer_id):
        session.log.info("human_left_before_joining")
        with contextlib.suppress(ControlError):
            await control.hang_up(line)


async def _sent(session: Session, request: Awaitable[None]) -> None:
    """A request that takes the caller away. Where its answer is lost, their going says that it was carried out."""
    try:
        await request
    except ControlError as error:
        if error.fault is not ControlFault.DOWN or not await session.side.stream_gone(DOUBT_S):
            raise
        session.log.warning("carried_out_unanswered", detail=str(error))


async def _ring(session: Session, control: CarrierControl, line: Line, begin: BeginTransfer, whisper: Whisper) -> str:
    """Have the human called. When the caller goes meanwhile, the human is still hung up on."""
    ringing = asyncio.ensure_future(control.ring_human(line, begin.order, whisper))
    try:
        return await asyncio.shield(ringing)
    except asyncio.CancelledError:
        with contextlib.suppress(ControlError):
            await _drop(session, control, line, await ringing)
        raise


async def _verdict(session: Session, whisper: Whisper) -> Verdict:
    """What became of the human; with the end of the time there is no more accepting."""
    transfers = session.bridge.transfers
    verdict = await transfers.wait(whisper.transfer_id, whisper.ring_s + WHISPER_S)
    if verdict is None and not await transfers.report(whisper.transfer_id, Verdict.NO_ANSWER):
        verdict = await transfers.verdict_of(whisper.transfer_id)  # in the very last moment
    return verdict or Verdict.NO_ANSWER


async def _drop(session: Session, control: CarrierControl, line: Line, human_sid: str) -> None:
    """Hang up on a human whom the caller will not meet."""
    try:
        await control.drop_human(line, human_sid)
    except ControlError as error:
        session.log.error("human_not_dropped", fault=error.fault.value, detail=str(error))


async def _blind(
    session: Session, control: CarrierControl, begin: BeginTransfer, whisper: Whisper
) -> ToolFailure | None:
    """Send the caller on. None = somebody has answered."""
    bridge, order = session.bridge, begin.order
    await session.side.heard()
    back_by_s = whisper.ring_s + WHISPER_S
    session.step(lambda now: session.call.let_leave(now + back_by_s + RETURN_S))
    await _sent(session, control.transfer(line_of(session), order, whisper))
    session.note("transfer_sent")
    verdict = await bridge.transfers.wait(whisper.transfer_id, back_by_s)
    if verdict is not None and verdict is not Verdict.ACCEPTED:
        if not control.transfers_keep_stream:
            await _until_back(session)
        return FAILURES[verdict]
    _handed_over(session, begin)  # a carrier that says nothing has connected them: of failures it tells
    return None


async def _until_back(session: Session) -> None:
    """The carrier connects the stream again; what the agent then says should reach the caller."""
    if session.call.is_waited_for:  # else it was back before the news came, from another process
        session.step(lambda now: session.call.let_leave(now + RETURN_S))
        await session.side.stream_back(RETURN_S)


def _handed_over(session: Session, begin: BeginTransfer) -> None:
    _answer(session, begin.tool_call_id, tool_words.TRANSFERRED, is_error=False)
    session.bridge.chronicle.transferred(session, begin.order.target)
    session.step(lambda now: session.call.handed_over(begin.order.kind.value, now))


async def press(session: Session, tones: PlayTones) -> None:
    """Have the carrier press keys."""
    bridge = session.bridge
    control = bridge.control_of(session.spec.name)
    if control is None:
        _answer(session, tones.tool_call_id, tool_words.tool_failed(ToolFailure.CARRIER_REFUSED))
        return
    await session.side.heard()
    leaves = control.tones is ToneWay.EXCURSION
    try:
        back = None
        if leaves:
            away_s = duration_s(tones.digits) + RETURN_S
            back = await come_back(bridge.tokens, card_of(session))
            session.step(lambda now: session.call.let_leave(now + away_s))
        request = control.play_tones(line_of(session), tones.digits, back)
        await (_sent(session, request) if leaves else request)
    except ControlError as error:
        session.log.warning("tones_failed", fault=error.fault.value, detail=str(error))
        _answer(session, tones.tool_call_id, tool_words.tool_failed(_FAULTS[error.fault]))
        session.step(session.call.stayed)
        return
    if leaves:
        await session.side.stream_back(duration_s(tones.digits) + RETURN_S)
    bridge.metrics.dtmf.labels("out").inc(sum(digit not in "wW" for digit in tones.digits))
    _answer(session, tones.tool_call_id, tool_words.KEYS_PRESSED, is_error=False)


def duration_s(digits: str) -> float:
    """How long a carrier takes at most to press these keys."""
    pauses = digits.count("w") + 2 * digits.count("W")
    return pauses * PAUSE_S + sum(digit not in "wW" for digit in digits) * TONE_S


async def run_tool(session: Session, run: RunTool) -> None:
    """Call the operator's HTTP tool."""
    tools = session.bridge.parts.http_tools
    if tools is None:
        _answer(session, run.tool_call_id, tool_words.tool_failed(ToolFailure.NOT_NOW))
        return
    facts = ToolFacts(call_id=session.call_id, conversation_id=session.call.conversation_id)
    words, is_error = await tools.run(run.order, facts)
    _answer(session, run.tool_call_id, words, is_error=is_error)


def _answer(session: Session, tool_call_id: str, words: str, *, is_error: bool = True) -> None:
    session.step(lambda now: session.call.answer_tool(tool_call_id, words, now, is_error=is_error))
