"""The bridge as a whole: what all calls share, and the decisions that need it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic
from typing import Protocol

from bridge.auth.tokens import CallClaims
from bridge.calls.admission import CallKind, SlotRequest, Verdict
from bridge.calls.keypad import KeypadMode
from bridge.calls.options import CallOptions
from bridge.calls.personalization import PersonalizationRequest, initiation_for
from bridge.calls.routing import Resolved, RoutingTable
from bridge.calls.rules import Overflow
from bridge.calls.tools import allowed_patterns
from bridge.config import Settings
from bridge.convai.messages import InitiationData
from bridge.convai.protocol import ConversationOptions
from bridge.events import CallInfo
from bridge.leg import AuthContext, CarrierSpec, UpgradeRequest
from bridge.outcome import EndReason
from bridge.server.answer import CALL_ID_BYTES
from bridge.server.arrival import DIVERTED_ENDS
from bridge.server.chronicle import Chronicle
from bridge.server.hold_audio import load_hold_audio
from bridge.server.logs import get_logger
from bridge.server.metrics import HOP_BUCKETS_S, HopHistogram, Metrics
from bridge.server.parts import Events, Parts, event_options
from bridge.server.personalizer import Failed
from bridge.server.session import Session

DIVERT_TO = "divert_to"
"""In what is remembered of a call's end: where the carrier's fallback sends the caller."""


PARTING_POLL_S = 0.05


class Observer(Protocol):
    """Somebody who watches calls from inside the process."""

    def noted(self, session: Session, event: str, detail: str) -> None:
        """A step of a call, as in its log."""

    def call_over(self, session: Session, reason: EndReason) -> None:
        """The end of a call; its counters are final."""


class Bridge:
    """Shared state of one process. Built inside the event loop, used only from its thread."""

    def __init__(self, settings: Settings, routing: RoutingTable, parts: Parts, events: Events) -> None:
        self.settings = settings
        self.routing = routing
        self.defaults = settings.route_defaults
        self.parts = parts
        self.instance_id = parts.instance_id
        self.agents, self.results = parts.agents, parts.results
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
        self.metrics = Metrics(self._live_sessions)
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
        self._hold_audio = None if settings.hold_audio is None else load_hold_audio(settings.hold_audio)
        self._take_options(settings)
        self._idle = asyncio.Event()
        self._idle.set()
        self.on_apply: list[Callable[[], None]] = []
        """Called when the configuration has changed."""
        self._jobs: set[asyncio.Task[None]] = set()  # what goes on after calls have ended

    def apply(self, settings: Settings, routing: RoutingTable) -> None:
        """Take over what may change while calls are on; those keep what they began with."""
        self.settings, self.routing = settings, routing
        self.defaults = settings.route_defaults
        self.admission.limits = settings.limits
        self.metrics.max_calls.set(settings.bridge_max_calls)
        self.events.options = event_options(settings)
        self.parts.apply(settings)
        self.agents, self.results = self.parts.agents, self.parts.results
        self._take_options(settings)
        for follow in self.on_apply:
            follow()

    def _take_options(self, settings: Settings) -> None:
        """What calls begin with."""
        self.call_options = CallOptions(
            settings.caller_buffer_ms,
            int(settings.playout_queue_s * 1000),
            redact_digits=settings.redact_dtmf,
            results_wait_s=settings.genesys_output_wait_s,
            keypad=KeypadMode(settings.dtmf_to_agent),
            keypad_pause_s=settings.dtmf_pause_s,
            transfer_allow=allowed_patterns(settings.transfer_allow),
            hold_audio=self._hold_audio,
        )
        self.conversation_options = ConversationOptions(
            settings.upload_chunk_ms, settings.agent_ready_timeout_s, settings.agent_silence_s
        )

    # --- entrances ---

    def auth_context(self) -> AuthContext:
        """What the carriers' verifiers may know."""
        settings = self.settings
        return AuthContext(settings.public_base_url, settings.carrier_secrets, time.time())

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
        called = (claims.called if claims is not None else "") or info.called
        return self.routing.resolve(info.provider, called, hint, self.defaults)

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

    def begin_personalization(self, info: CallInfo, route: Resolved) -> None:
        """Ask the operator's webhook as early as the carrier allows; asking again changes nothing."""
        if route.personalization:
            request = PersonalizationRequest(
                caller_id=info.caller, agent_id=route.agent_id, called_number=info.called, call_sid=info.call_sid
            )
            self.parts.personalizer.start(info.call_sid, request)

    async def personalization(self, info: CallInfo, route: Resolved) -> InitiationData | Failed:
        """What the agent is told of this call before it begins."""
        if not route.personalization:
            return initiation_for(info, None, route.language)
        self.begin_personalization(info, route)
        answer = await self.parts.personalizer.result(info.call_sid)
        if isinstance(answer, Failed) and self.settings.personalization_on_failure == "fallback":
            return answer
        return initiation_for(info, None if isinstance(answer, Failed) else answer, route.language)

    def call_over(self, session: Session, reason: EndReason) -> None:
        """Give everything of a call back; harmless when done before."""
        self.admission.give_back(session.call_id)
        if self.sessions.pop(session.call_id, None) is None:
            return
        if not self.sessions:
            self._idle.set()
        if session.call.leg.lingering():
            self.parting.add(session)
        if self.observer is not None:
            self.observer.call_over(session, reason)
        self._count(reason)
        info, route = session.call.info, session.facts.route
        if info is not None:
            self.parts.personalizer.forget(info.call_sid)
            divert = route.overflow.divert_to if route is not None and reason in DIVERTED_ENDS else ""
            self.shared.remember_end(info.call_sid, reason, {DIVERT_TO: divert} if divert else {})

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

    def refuses_at_the_door(self, spec: CarrierSpec) -> bool:
        """Whether the operator wants this carrier refused before its call is offered, and there is no slot."""
        if getattr(self.settings, f"{spec.name}_when_full", "") != "refuse":
            return False
        usage = self.admission.usage()
        full = usage.limit is not None and usage.calls >= usage.limit and not self.settings.burst
        return full or self.admission.would_refuse() is not None

    def _live_sessions(self) -> Iterable[Session]:
        return list(self.sessions.values())
