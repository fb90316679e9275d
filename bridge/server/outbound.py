"""Outbound calls until their media comes or they fail. From then on they are calls like all others.

Theory of operation: ``place`` takes a slot, leaves the call in the shared book, and asks the carrier. While it rings,
the process that placed it holds slot and record, and looks every second at what others have learnt. The carrier's
webhooks come to any process: ``answered`` gives the token for the media socket, whose session takes over id, slot and
record; ``status`` and ``machine`` carry reports, in any order and more than once.

A call that was given up here, and that the carrier reports all the same, is hung up on. What a carrier never reports
ends by our own clock.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from bridge import outcome
from bridge.auth.tokens import CallClaims
from bridge.calls.outbound import Failure, OutboundCall, OutboundRequest, StatusReport, action_for, failure_of
from bridge.calls.outbound_request import RequestError, parse_request
from bridge.convai.messages import InitiationData
from bridge.events import CallInfo
from bridge.outcome import CATALOGUE
from bridge.server.answer import CALL_ID_BYTES, Answer, Busy, Connect
from bridge.server.api.ports import PlacedCall, PlacementRefused
from bridge.server.beat import Beat
from bridge.server.idempotency import IdempotencyKeys
from bridge.server.logs import get_logger
from bridge.server.outbound_book import OutboundBook, Over
from bridge.server.outbound_parts import OutboundOptions, OutboundParts, bad_request
from bridge.server.outbound_ringing import Ringing, RingingCalls
from bridge.server.placing import Placing

LOOK_EVERY_S = 1.0
"""How often the calls that ring are looked at: a slot is free again so soon after another process saw a call fail."""
VERDICT_POLL_S = 0.5
"""How often a call with its media looks for a verdict that came to another process."""


class Outbound:
    """The outbound calls of this process. Used inside the event loop; ``start`` it, ``drain`` and ``close`` it."""

    def __init__(
        self,
        options: OutboundOptions,
        parts: OutboundParts,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        unix: Callable[[], float] = time.time,
        keys: IdempotencyKeys | None = None,
    ) -> None:
        self._options = options
        self._parts = parts
        self._monotonic = monotonic
        self._unix = unix
        self._book = OutboundBook(parts.shared)
        self._ringing = RingingCalls(parts, self._book, unix)
        self._placing = Placing(
            options,
            parts,
            self._book,
            self._ringing,
            keys or IdempotencyKeys(parts.shared),
            monotonic=monotonic,
            unix=unix,
        )
        self._talking: dict[str, asyncio.Task[None]] = {}  # calls whose media is here, with the watch for a verdict
        self._told: dict[str, int] = {}  # of these: verdicts on who answered that they were told
        self._jobs: set[asyncio.Task[Any]] = set()
        self._orders: set[asyncio.Task[Any]] = set()  # of these: requests that a carrier may have heard
        self._beat = Beat("outbound", LOOK_EVERY_S, self._look, monotonic)
        self._log = get_logger()

    def __len__(self) -> int:
        """Calls of this process that ring."""
        return len(self._ringing.here)

    @property
    def options(self) -> OutboundOptions:
        """May be replaced at any time; calls on their way keep what they began with."""
        return self._options

    @options.setter
    def options(self, options: OutboundOptions) -> None:
        self._options = self._placing.options = options

    # --- orders ---

    async def place(self, body: bytes, key: str) -> PlacedCall:
        """See ``OutboundPort``. Whoever asks may go away; a call that is being placed is placed to its end."""
        try:
            request = parse_request(body, self._options.rules)
        except RequestError as error:
            raise PlacementRefused(bad_request(error)) from None
        return await self.place_request(request, key)

    async def place_request(self, request: OutboundRequest, key: str = "") -> PlacedCall:
        """``place`` for a request that was read already."""
        call_id = secrets.token_hex(CALL_ID_BYTES)
        job = self._begin(self._placing.place(request, key, call_id))
        self._orders.add(job)
        done, _ = await asyncio.wait({job}, timeout=self._options.answer_within_s)
        if not done:  # it waits for its turn at the carrier; what comes of it is told by webhooks and the record
            return PlacedCall(call_id=call_id, call_sid="", status="queued")
        placed: PlacedCall = job.result()
        return placed

    async def hang_up(self, call_id: str) -> bool:
        """Take back a call that still rings; False = no placed call of this id does."""
        call = await self._book.call(call_id)
        if call is None or await self._book.has_joined(call_id) or await self._book.over(call_id) is not None:
            return False
        failure = Failure(outcome.OPERATOR_HANGUP, "unknown")
        return await self._ringing.give_up(call, failure, "canceled", "taken back through the API")

    # --- the carrier's webhooks ---

    async def answered(self, call_id: str, info: CallInfo) -> Answer:
        """The other side has answered, and the carrier asks what to do. May be asked again."""
        call = await self._known(call_id, info.call_sid)
        if call is None:
            self._log.warning("outbound_call_unknown", webhook="answer", call_sid=info.call_sid)
            return Busy(outcome.LINE_FAILED)
        over = await self._book.over(call_id)
        if over is not None:
            return _busy(over)
        known = msgspec.structs.replace(
            info, caller=call.from_number, called=call.to_number, direction="outbound", agent_id=call.agent_id
        )
        claims = CallClaims(
            caller=known.caller,
            called=known.called,
            direction=known.direction,
            call_id=call_id,
            agent_id=call.agent_id,
            control_url=info.control_url,
            parameters=info.parameters,
        )
        issued = await self._parts.tokens.issue(info.call_sid, claims)
        await self._book.answer(call_id, issued.token)
        over = await self._book.over(call_id)  # again, now that whoever sees the end will find the token
        if over is not None:
            return _busy(over)
        entry = self._ringing.here.get(call_id)
        if entry is not None:
            entry.call_sid, entry.account_id = info.call_sid, info.account_id
            entry.note_answer(self._monotonic() + self._options.media_wait_s)
        if call.initiation is None:
            route = self._parts.route(call.provider, call.from_number, call.agent_id)
            self._parts.personalize(known, route, call_id)
        return Connect(issued.token)

    async def status(self, call_id: str, report: StatusReport) -> bool:
        """A status report of a placed call, in whatever order, however often; False = of a call that is not known."""
        call = await self._known(call_id, report.call_sid)
        if call is None:
            return False
        entry = self._ringing.here.get(call_id)
        if entry is not None:
            entry.note_report(report, self._unix() - call.created_at)
        over = await self._book.over(call_id)
        if over is None and report.is_final:
            code = f"{report.status} {report.sip_code or ''}".strip()
            body, failure = dict(report.fields), failure_of(report)
            if not await self._ringing.finish(call, failure, body, code, call_sid=report.call_sid):
                self._parts.lines.line_over(report.call_sid)
        elif over is not None and over.ours and not report.is_final and await self._book.first(call_id, "hang_up"):
            self._begin(self._ringing.hang_up(call, report.call_sid))
        return True

    async def machine(self, call_id: str, call_sid: str, verdict: str) -> bool:
        """The carrier says who answered; each verdict is passed on once. False = of a call that is not known."""
        call = await self._known(call_id, call_sid)
        if call is None:
            return False
        if await self._book.detect(call_id, verdict):
            self._log.info("machine_detection", call_id=call_id, verdict=verdict)
            await self._tell_verdicts(call)
        return True

    def line_over(self, call_sid: str) -> bool:
        """The carrier says that a line is over, whosever call it was: end the session that has it, if it is here."""
        return self._parts.lines.line_over(call_sid)

    def remark(self, call_sid: str, event: str) -> bool:
        """Write what the carrier reports into the call, if it is here."""
        return self._parts.lines.remark(call_sid, event)

    # --- the call with its media ---

    def joined(self, call_id: str) -> None:
        """The media of a placed call came to this process; id, slot and record are its session's from now on."""
        self._ringing.here.pop(call_id, None)
        if call_id not in self._talking:
            self._talking[call_id] = self._begin(self._watch(call_id))

    def left(self, call_id: str) -> None:
        """The session of a call is over; harmless for a call that was not placed."""
        watch = self._talking.pop(call_id, None)
        self._told.pop(call_id, None)
        if watch is not None:
            watch.cancel()

    async def placed(self, call_id: str) -> OutboundCall | None:
        """What was ordered of this call; None = we have not placed it, or long ago."""
        return await self._book.call(call_id)

    async def initiation(self, call_id: str) -> InitiationData | None:
        """What the request for this call gave for the agent; None = nothing, or we have not placed this call."""
        call = await self._book.call(call_id)
        return None if call is None else call.initiation

    async def _watch(self, call_id: str) -> None:
        """Say that the media is here, and look for verdicts that came before it or to another process."""
        await self._book.join(call_id)
        call = await self._book.call(call_id)
        if call is None or call.detection == "off":
            return
        ends_s = self._monotonic() + self._options.verdict_wait_s
        while self._monotonic() < ends_s:
            await self._tell_verdicts(call)
            if self._parts.shared.state == "memory":  # without other processes every later verdict comes here
                return
            await asyncio.sleep(VERDICT_POLL_S)

    async def _tell_verdicts(self, call: OutboundCall) -> None:
        """Tell the session what it was not told yet, if it is here; if not, it finds the verdicts in the book."""
        call_id = call.call_id
        verdicts = await self._book.verdicts(call_id)
        for verdict in verdicts[self._told.get(call_id, 0) :]:
            if not self._parts.lines.machine_detected(call_id, verdict, action_for(call, verdict), call.message):
                return
            self._told[call_id] = self._told.get(call_id, 0) + 1

    # --- life ---

    async def start(self) -> None:
        """Begin to look after calls that ring."""
        await self._beat.start()

    async def drain(self) -> None:
        """The bridge shuts down: take back what still rings. Records must still be taken, and the carrier asked.

        Waits for carriers that are being asked right now, within the time that they have.
        """
        failure = Failure(outcome.DRAINING, "unknown")
        calls = [entry.call for entry in self._ringing.here.values()]
        await asyncio.gather(*(self._ringing.give_up(call, failure, "canceled", "shutting down") for call in calls))
        if self._orders:
            await asyncio.wait(self._orders, timeout=self._options.answer_within_s)

    async def close(self) -> None:
        """Stop."""
        await self._beat.stop()
        jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    async def look(self) -> None:
        """Look after the calls that ring: what did others learn, and whose time is over?"""
        for call_id, entry in list(self._ringing.here.items()):
            if self._ringing.here.get(call_id) is entry:
                await self._look_after(entry)

    async def _look(self, _is_due: bool) -> None:
        await self.look()

    async def _look_after(self, entry: Ringing) -> None:
        call, book = entry.call, self._book
        call_id = call.call_id
        if await book.over(call_id) is not None or await book.has_joined(call_id):
            self._ringing.let_go(call_id)
            return
        if await book.token(call_id):
            entry.note_answer(self._monotonic() + self._options.media_wait_s)
        if self._monotonic() < entry.gives_up_s:
            return
        if entry.was_answered:
            failure, status, words = Failure(outcome.NO_MEDIA, "unknown"), "completed", "answered, but no media came"
        elif entry.was_reported:
            failure, status, words = Failure(outcome.NO_ANSWER, "no-answer"), "no-answer", "it rang for too long"
        else:
            failure, status, words = Failure(outcome.LINE_FAILED, "unknown"), "failed", "the carrier reported nothing"
        if not await self._ringing.give_up(call, failure, status, words):
            await book.join(call_id)
            self._ringing.let_go(call_id)

    # --- inside ---

    async def _known(self, call_id: str, call_sid: str) -> OutboundCall | None:
        """The call that a webhook is about, if it is of the carrier's line that we know for it."""
        call = await self._book.call(call_id)
        return call if call is not None and await self._book.is_line(call_id, call_sid) else None

    def _begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Do something that goes on when nobody waits for it."""
        job = asyncio.get_running_loop().create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._ended)
        return job

    def _ended(self, job: asyncio.Task[Any]) -> None:
        self._jobs.discard(job)
        self._orders.discard(job)
        error = None if job.cancelled() else job.exception()
        if error is not None and not isinstance(error, PlacementRefused):
            self._log.error("bug", exc_info=error)


def _busy(over: Over) -> Busy:
    return Busy(CATALOGUE.get(over.reason, outcome.LINE_FAILED))
