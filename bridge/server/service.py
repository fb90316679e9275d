"""The bridge as a whole: what all calls share, and the decisions that need it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from pathlib import Path
from time import monotonic
from typing import Protocol

from bridge import outcome
from bridge.auth.tokens import CallClaims, TokenBook, TokenProblem
from bridge.calls.admission import Limits
from bridge.config import Settings
from bridge.events import CallInfo
from bridge.leg import AuthContext, CarrierSpec, UpgradeRequest
from bridge.outcome import EndReason
from bridge.server.admission_memory import MemoryAdmission
from bridge.server.convai_client import AgentClient
from bridge.server.logs import get_logger
from bridge.server.metrics import Metrics
from bridge.server.session import Session

TOKEN_BYTES = 24
"""192 bits of chance: nobody guesses a token within its minute."""

TOKENS_PER_CALL = 4
"""Room in the token book per call that may run: a minute of answered calls that never came, many times over."""

REMEMBERED_ENDS = 10_000
"""Ends of calls kept for the carrier's fallback request, which comes within seconds of the end."""


class Observer(Protocol):
    """Somebody who watches calls from inside the process."""

    def noted(self, session: Session, event: str, detail: str) -> None:
        """A step of a call, as in its log."""

    def call_over(self, session: Session, reason: EndReason) -> None:
        """The end of a call; its counters are final."""


class Bridge:
    """Shared state of one process. Built inside the event loop, used only from its thread."""

    def __init__(self, settings: Settings, agents: AgentClient) -> None:
        self.settings = settings
        self.agents = agents
        self.log = get_logger()
        self.started_s = monotonic()
        self.sessions: dict[str, Session] = {}
        """Open carrier sockets by call id, from the upgrade to the call's end."""
        self.admission = MemoryAdmission(Limits(settings.bridge_max_calls, settings.workspace_concurrency))
        self.tokens = TokenBook(settings.call_token_ttl_s, capacity=TOKENS_PER_CALL * settings.bridge_max_calls)
        self.metrics = Metrics(lambda: [session.call.current_stats() for session in self.sessions.values()])
        self.metrics.max_calls.set(settings.bridge_max_calls)
        self.metrics.ready.set_function(lambda: 0.0 if self.admission.draining else 1.0)
        self.ended_counts: dict[str, int] = {}
        """Calls ended since the start, by ``result/reason``."""
        self.observer: Observer | None = None
        """Told of every call's steps and end; the demo draws its picture from it."""
        self.demo_files: dict[str, Path] = {}
        """Files that the demo shows below ``/demo/``, by name."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._ends: OrderedDict[str, EndReason] = OrderedDict()

    # --- entrances ---

    def auth_context(self) -> AuthContext:
        """What the carriers' verifiers may know."""
        settings = self.settings
        return AuthContext(settings.public_base_url, settings.carrier_secrets, time.time())

    def new_session(self, spec: CarrierSpec, request: UpgradeRequest) -> Session:
        """A session for a carrier socket that was let in."""
        session = Session(self, spec, request, secrets.token_hex(8))
        self.sessions[session.call_id] = session
        self._idle.clear()
        return session

    def call_token(self, call_sid: str, claims: CallClaims) -> str:
        """The one-time token of an answered call; the same again while it is unused, for repeated webhooks."""
        now = monotonic()
        token = self.tokens.current(call_sid, now)
        if token is None:
            token = secrets.token_urlsafe(TOKEN_BYTES)
            self.tokens.issue(token, call_sid, now, claims)
        return token

    # --- the life of a call ---

    def admit(self, session: Session, info: CallInfo, spec: CarrierSpec) -> tuple[EndReason, str] | None:
        """Token and slot for an offered call: None = let in, otherwise why not."""
        if spec.needs_token and self.settings.bridge_auth == "on":
            claims = self.tokens.redeem(info.token, info.call_sid, monotonic())
            if isinstance(claims, TokenProblem):
                return outcome.BAD_TOKEN, claims.value
        refusal = self.admission.take(session.call_id)
        return None if refusal is None else (refusal, f"{self.admission.active} calls in progress")

    def agent_for(self, info: CallInfo) -> str:
        """The agent that takes this call."""
        return self.settings.elevenlabs_agent_id or ""

    def call_over(self, session: Session, reason: EndReason) -> None:
        """Give everything of a call back; harmless when done before."""
        self.admission.give_back(session.call_id)
        if self.sessions.pop(session.call_id, None) is None:
            return
        if not self.sessions:
            self._idle.set()
        if self.observer is not None:
            self.observer.call_over(session, reason)
        name = str(reason)
        self.ended_counts[name] = self.ended_counts.get(name, 0) + 1
        info = session.call.info
        if info is not None:
            self._ends[info.call_sid] = reason
            self._ends.move_to_end(info.call_sid)
            if len(self._ends) > REMEMBERED_ENDS:
                self._ends.popitem(last=False)

    def end_of(self, call_sid: str) -> EndReason | None:
        """How the carrier's call ended, if it did lately."""
        return self._ends.get(call_sid)

    async def wait_idle(self) -> None:
        """Wait until no call is left."""
        await self._idle.wait()

    # --- the operator ---

    def problems(self) -> tuple[str, ...]:
        """What is still to be set before calls can work, one sentence each."""
        settings = self.settings
        missing = []
        if not settings.elevenlabs_agent_id:
            missing.append("Set ELEVENLABS_AGENT_ID: no agent is there to take calls.")
        if (
            settings.bridge_auth == "on"
            and not settings.twilio_keys.auth_tokens
            and not settings.twilio_keys.shared_keys
        ):
            missing.append("Set TWILIO_AUTH_TOKEN: Twilio's requests cannot be verified and are refused.")
        if settings.public_url is None:
            missing.append("Set PUBLIC_URL: carriers cannot reach this machine by its loopback address.")
        elif settings.public_url.startswith("http:") and settings.bridge_auth == "on":
            missing.append("Set PUBLIC_URL to an https address: Twilio connects to media sockets by wss only.")
        return tuple(missing)
