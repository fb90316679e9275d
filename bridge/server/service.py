"""The bridge as a whole: what all calls share, and the decisions that need it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import Protocol

import msgspec

from bridge import outcome
from bridge.auth.tokens import CallClaims
from bridge.calls.admission import CallKind, SlotRequest, Verdict
from bridge.calls.flight import FlightOptions
from bridge.calls.http_tools import HttpTool
from bridge.calls.journal import Journal
from bridge.calls.options import CallOptions
from bridge.calls.outbound import OutboundCall
from bridge.calls.personalization import PersonalizationRequest, initiation_for
from bridge.calls.resume import RESUMED, TRANSCRIPT, transcript
from bridge.calls.routing import Resolved, RoutingTable
from bridge.calls.rules import Overflow
from bridge.config import Configuration, Settings
from bridge.convai.messages import InitiationData
from bridge.convai.protocol import ConversationOptions
from bridge.events import CallInfo
from bridge.leg import AuthContext, CarrierSpec, UpgradeRequest
from bridge.outcome import EndReason, Result
from bridge.server import said_posts
from bridge.server.answer import CALL_ID_BYTES
from bridge.server.arrival import DIVERTED_ENDS
from bridge.server.call_options import abilities_of, common_options, route_options
from bridge.server.carrier_control import CarrierControl
from bridge.server.chronicle import Chronicle
from bridge.server.digits_out import TypedDigits
from bridge.server.flight_desk import FlightDesk
from bridge.server.hold_audio import load_hold_audio
from bridge.server.logs import get_logger
from bridge.server.metrics import HOP_BUCKETS_S, HopHistogram, Metrics
from bridge.server.outbound import Outbound
from bridge.server.outbound_parts import OutboundParts
from bridge.server.parts import Events, Parts, event_options, outbound_options
from bridge.server.personalizer import Failed
from bridge.server.session import Session
from bridge.server.session_lines import SessionLines
from bridge.server.transfers import Transfers
from bridge.sip.trunks import Trunk

DIVERT_TO, LANGUAGE, CONVERSATION_ID, APOLOGISED = "divert_to", "language", "conversation_id", "apologised"
"""What is remembered of a call's end besides the reason, for the carrier's fallback: where it sends the caller, the
language of the call, its latest conversation, and whether the caller was told of the failure already."""

TRANSCRIPT_KEY = "transcript:{call_sid}"
TRANSCRIPT_TTL_S = 60.0
"""A carrier asks what to do with a broken call within seconds."""

BROKEN_LINE = (outcome.CARRIER_LOST, outcome.CARRIER_SILENT, outcome.BUG, outcome.INSTANCE_LOST)
"""Ends that are the line's or ours, and not the agent's: another media stream may well work."""


PARTING_POLL_S = 0.05

OUTBOUND = CallKind.OUTBOUND.value


def our_number(direction: str, caller: str, called: str) -> str:
    """The operator's number among the two: that is what routes know."""
    return caller if direction == OUTBOUND else called


class Observer(Protocol):
    """Somebody who watches calls from inside the process."""

    def noted(self, session: Session, event: str, detail: str) -> None:
        """A step of a call, as in its log."""

    def call_over(self, session: Session, reason: EndReason) -> None:
        """The end of a call; its counters are final."""


class Bridge:
    """Shared state of one process. Built inside the event loop, used only from its thread."""

    call_options: CallOptions
    """What calls begin with until their route is known."""
    conversation_options: ConversationOptions
    flight_options: FlightOptions | None
    """None = the flight recorder is off."""

    def __init__(
        self,
        settings: Settings,
        routing: RoutingTable,
        parts: Parts,
        events: Events,
        tools: Mapping[str, HttpTool] = MappingProxyType({}),
        trunks: tuple[Trunk, ...] = (),
    ) -> None:
        self.settings = settings
        self.trunks = trunks
        """SIP trunks."""
        self.routing = routing
        self.defaults = settings.route_defaults
        self.parts = parts
        self.instance_id = parts.instance_id
        self.admission, self.tokens = parts.admission, parts.tokens
        self.shared, self.live = parts.shared, parts.live
        self.log = get_logger()
        self.started_s = monotonic()
        self.sessions: dict[str, Session] = {}
        """Open carrier sockets by call id, from the upgrade to the call's end."""
        self.parting: set[Session] = set()
        """Calls that are over and whose carrier has not closed its socket yet, as its protocol wants it to."""
        self.queued: set[str] = set()
        """Calls of this process that wait for a slot."""
        self.events = events
        self.chronicle = Chronicle(parts.records, parts.live, events, time.time)
        self.chronicle.traces = parts.traces
        self.flight_desk = (
            None
            if parts.flights is None
            else FlightDesk(parts.flights, self.sessions.get, lambda: self.settings.redact_numbers)
        )
        self.metrics = Metrics(self._live_sessions)
        parts.personalizer.on_outcome = lambda outcome, took_s: self.metrics.personalized(outcome.value, took_s)
        self.metrics.max_calls.set(settings.bridge_max_calls)
        self.metrics.ready.set_function(lambda: 0.0 if self.admission.draining else 1.0)
        self.ended_counts: dict[str, int] = {}
        """Calls ended since the start, by ``result/reason``."""
        self.new_hop: Callable[[], HopHistogram] = lambda: HopHistogram(HOP_BUCKETS_S)
        """Makes the histograms of each call; the demo puts exact ones in their place."""
        self.observer: Observer | None = None
        """Told of every call's steps and end; the demo draws its picture from it."""
        self.demo_files: dict[str, Path] = {}
        """Files that the demo shows below ``/demo/``, by name."""
        self.transfers = Transfers(parts.shared, parts.tokens)
        self.posts_room = asyncio.Semaphore(said_posts.PARALLEL)
        """Room for posts of what is said, all calls together."""
        self.outbound = Outbound(outbound_options(settings, self.trunks), self._outbound_parts(events))
        """The calls that this process has placed."""
        self.tools = tools
        """HTTP tools of the operator's own, by name."""
        self._hold_audio = None if settings.hold_audio is None else load_hold_audio(settings.hold_audio)
        self._take_options(settings)
        self._idle = asyncio.Event()
        self._idle.set()
        self.on_apply: list[Callable[[], None]] = []
        """Called when the configuration has changed."""
        self._jobs: set[asyncio.Task[None]] = set()  # what goes on after calls have ended

    def apply(self, configuration: Configuration) -> None:
        """Take over what may change while calls are on; those keep what they began with."""
        settings, tools = configuration.settings, configuration.tools
        self.settings, self.routing, self.tools = settings, configuration.routing, tools
        self.trunks = configuration.trunks
        self.defaults = settings.route_defaults
        self.admission.limits = settings.limits
        self.outbound.options = outbound_options(settings, self.trunks)
        self.metrics.max_calls.set(settings.bridge_max_calls)
        self.events.options = event_options(settings)
        self.parts.apply(settings, tools)
        self._take_options(settings)
        for follow in self.on_apply:
            follow()

    def _outbound_parts(self, events: Events) -> OutboundParts:
        parts = self.parts
        return OutboundParts(
            self.instance_id,
            parts.shared,
            parts.admission,
            parts.tokens,
            parts.records,
            parts.live,
            events,
            SessionLines(self.sessions),
            control=self.control_of,
            route=lambda provider, number, agent: self.routing.resolve(provider, number, agent, self.defaults),
            personalize=self.begin_personalization,
            count=self.count_refusal,
        )

    def _take_options(self, settings: Settings) -> None:
        """What calls begin with."""
        self.call_options = common_options(settings, self._hold_audio)
        self.flight_options = None
        if self.parts.flights is not None and settings.flight_recorder != "off":
            self.flight_options = FlightOptions(settings.flight_recorder_kb * 1024, settings.flight_audio)
        self.conversation_options = ConversationOptions(
            settings.upload_chunk_ms, settings.agent_ready_timeout_s, settings.agent_silence_s
        )

    def options_for(
        self, spec: CarrierSpec, route: Resolved, caller: str, placed: OutboundCall | None = None
    ) -> CallOptions:
        """What a call of this carrier and route begins with; ``placed``: we have called, and know why."""
        return route_options(
            self.call_options,
            route,
            abilities_of(self.control_of(spec.name), spec, caller),
            http_tools=self.tools,
            placed=placed,
        )

    def control_of(self, provider: str) -> CarrierControl | None:
        """The carrier's control client; None where it has none, or no credentials."""
        return self.parts.controls.get(provider)

    def fallback_of(self, session: Session) -> str:
        """Where the caller goes now that the call has ended as it has; empty = nowhere."""
        route, end = session.facts.route, session.call.ended_as
        if route is None or end is None:
            return ""
        if end in DIVERTED_ENDS and (route.overflow.divert_to or end is not outcome.QUEUE_TIMEOUT):
            return route.overflow.divert_to
        return route.fallback_to if end.result in (Result.UPSTREAM_ERROR, Result.SERVER_ERROR) else ""

    def digits_typed(self, session: Session, digits: str) -> None:
        """Keys that nobody but the operator's webhook may know."""
        sender, info, route = self.parts.digits, session.call.info, session.facts.route
        session.facts.entries_typed += 1
        if sender is not None and info is not None and route is not None:
            sender.send(
                TypedDigits(
                    digits,
                    session.call_id,
                    session.facts.entries_typed,
                    provider=info.provider,
                    call_sid=info.call_sid,
                    agent_id=route.agent_id,
                    conversation_id=session.call.conversation_id,
                )
            )

    # --- entrances ---

    def auth_context(self) -> AuthContext:
        """What the carriers' verifiers may know."""
        settings = self.settings
        return AuthContext(settings.public_base_url, settings.carrier_secrets, time.time(), settings.instance_base_url)

    def new_session(self, spec: CarrierSpec, request: UpgradeRequest) -> Session:
        """A session for a carrier socket that was let in."""
        session = Session(self, spec, request, secrets.token_hex(CALL_ID_BYTES))
        self.sessions[session.call_id] = session
        self._idle.clear()
        return session

    def rename(self, session: Session, call_id: str) -> None:
        """The call that came over this socket has an id already: its answer webhook took a slot under it."""
        self.sessions.pop(session.call_id, None)
        session.call_id = call_id
        session.log = session.log.bind(call_id=call_id)
        self.sessions[call_id] = session

    # --- the life of a call ---

    def route_for(self, info: CallInfo, claims: CallClaims | None) -> Resolved:
        """The agent and the rules for this call."""
        hint = info.agent_id or (claims.agent_id if claims is not None else "")
        ours = our_number(claims.direction, claims.caller, claims.called) if claims is not None else ""
        ours = ours or our_number(info.direction, info.caller, info.called)
        return self.routing.resolve(info.provider, ours, hint, self.defaults)

    async def take_slot(
        self, call_id: str, source: str, route: Resolved, direction: str, *, hold: bool = False
    ) -> Verdict:
        """Ask for a slot, or for its confirmation; ``hold`` reserves it until the media socket comes."""
        request = SlotRequest(
            call_id=call_id,
            agent_id=route.agent_id,
            kind=CallKind.OUTBOUND if direction == CallKind.OUTBOUND.value else CallKind.INBOUND,
            source=source,
            agent=route.limits,
            wait=route.overflow.kind is Overflow.QUEUE,
        )
        return await (self.admission.reserve(request) if hold else self.admission.take(request))

    def begin_personalization(self, info: CallInfo, route: Resolved, call_id: str = "") -> None:
        """Ask the operator's webhook as early as the carrier allows; asking again changes nothing."""
        if route.personalization:
            request = PersonalizationRequest(
                caller_id=info.caller, agent_id=route.agent_id, called_number=info.called, call_sid=info.call_sid
            )
            self.parts.personalizer.start(info.call_sid, request, call_id)

    async def personalization(self, call_id: str, info: CallInfo, route: Resolved) -> InitiationData | Failed:
        """What the agent is told of this call before it begins."""
        if info.direction == OUTBOUND:
            given = await self.outbound.initiation(call_id)
            if given is not None:
                return initiation_for(info, given, route.language)
        if RESUMED in info.parameters:
            kept = await self.shared.get(TRANSCRIPT_KEY.format(call_sid=info.call_sid))
            said = kept.decode() if kept is not None else ""
            info = msgspec.structs.replace(info, parameters={**info.parameters, TRANSCRIPT: said})
        if not route.personalization:
            return initiation_for(info, None, route.language)
        self.begin_personalization(info, route, call_id)
        answer = await self.parts.personalizer.result(info.call_sid)
        if isinstance(answer, Failed) and self.settings.personalization_on_failure == "fallback":
            return answer
        return initiation_for(info, None if isinstance(answer, Failed) else answer, route.language)

    def forget(self, session: Session) -> None:
        """This session was one of a socket that belongs to another."""
        if self.sessions.get(session.call_id) is session:
            del self.sessions[session.call_id]
        if not self.sessions:
            self._idle.set()

    def call_over(self, session: Session, reason: EndReason) -> None:
        """Give everything of a call back; harmless when done before."""
        self.admission.give_back(session.call_id)
        self.outbound.left(session.call_id)
        if self.sessions.pop(session.call_id, None) is None:
            return
        if not self.sessions:
            self._idle.set()
        if session.call.leg.lingering():
            self.parting.add(session)
        if self.observer is not None:
            self.observer.call_over(session, reason)
        self._count(reason)
        call, info = session.call, session.call.info
        if info is not None:
            self.parts.personalizer.forget(info.call_sid)
            extra = {
                DIVERT_TO: self.fallback_of(session),
                LANGUAGE: session.language,
                CONVERSATION_ID: call.conversation_id,
                APOLOGISED: "yes" if call.apologised else "",
            }
            self.shared.remember_end(info.call_sid, reason, {name: text for name, text in extra.items() if text})
            if reason in BROKEN_LINE and call.journal.turns:
                self.after(asyncio.get_running_loop().create_task(self._keep_transcript(info.call_sid, call.journal)))

    async def _keep_transcript(self, call_sid: str, journal: Journal) -> None:
        """The line broke: the carrier may connect the call again, and its next conversation should know."""
        said = transcript(journal.turns).encode()
        await self.shared.put(TRANSCRIPT_KEY.format(call_sid=call_sid), said, TRANSCRIPT_TTL_S)

    async def keep_flight(self, session: Session, reason: EndReason, detail: str) -> None:
        """Write the call's flight record, if it is wanted."""
        if self.flight_desk is not None:
            await self.flight_desk.over(session, reason, detail)

    def count_refusal(self, provider: str, reason: EndReason) -> None:
        """A call that was refused or diverted before its media came."""
        self._count(reason)
        self.metrics.calls_ended.labels(provider, reason.result.value, reason.reason).inc()

    def _count(self, reason: EndReason) -> None:
        name = str(reason)
        self.ended_counts[name] = self.ended_counts.get(name, 0) + 1

    def after(self, job: asyncio.Task[None]) -> None:
        """Something that goes on after a call's end; the shutdown waits for it."""
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def wait_idle(self) -> None:
        """Wait until no call is left."""
        await self._idle.wait()

    async def wait_partings(self, timeout_s: float) -> None:
        """Wait for what goes on after calls have ended: the carriers' good-byes, recordings, late results."""
        deadline_s = monotonic() + timeout_s
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=timeout_s)
        while self.parting and monotonic() < deadline_s:  # noqa: ASYNC110 -- once, at the very end
            await asyncio.sleep(PARTING_POLL_S)

    async def give_up_jobs(self) -> None:
        """End what still goes on after calls: nobody waits for late results of a process that stops."""
        jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    def refuses_at_the_door(self, spec: CarrierSpec) -> bool:
        """Whether the operator wants this carrier refused before its call is offered, and there is no slot."""
        if getattr(self.settings, f"{spec.name}_when_full", "") != "refuse":
            return False
        usage = self.admission.usage()
        full = usage.limit is not None and usage.calls >= usage.limit and not self.settings.burst
        return full or self.admission.would_refuse() is not None

    def _live_sessions(self) -> Iterable[Session]:
        return list(self.sessions.values())
