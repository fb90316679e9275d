"""From the offer to the agent: token, route, slot, queue, personalization, connection. One coroutine a step.

They run beside the call, which goes on meanwhile: the caller may hang up at any moment, and then the step is
cancelled. What they find out goes back into the call through ``Session.step`` only.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from bridge import outcome
from bridge.auth.tokens import CallClaims, TokenProblem
from bridge.calls.admission import CallKind, Granted, Refused, Waiting
from bridge.calls.routing import Resolved
from bridge.calls.state import State
from bridge.convai.messages import InitiationData
from bridge.events import CallInfo
from bridge.outcome import EndReason
from bridge.server.convai_client import AgentConnectError, AgentTarget
from bridge.server.listening import begin_listening, begin_recording
from bridge.server.personalizer import Failed
from bridge.server.said_posts import begin_posts
from bridge.server.sockets import SocketOwner

if TYPE_CHECKING:
    from bridge.server.session import Session

QUEUE_POLL_S = 0.5
"""Between two questions of a waiting call: a free slot is taken so soon, and a thousand callers may wait."""

DIVERTED_ENDS = (outcome.CAPACITY, outcome.AGENT_CAPACITY, outcome.AGENT_DAILY_LIMIT, outcome.QUEUE_TIMEOUT)
"""Ends for want of a slot: these callers go where the route's overflow says."""

QUEUED = "queued"
"""``CallFacts.admission`` of a call that waits or had to."""

OUTBOUND = CallKind.OUTBOUND.value

RECORD_WAIT_S = 0.5
"""How long a conversation waits for its call's first record, beside the connection to the agent. A healthy database
takes a tenth of it, and the connection longer; one in trouble is not waited for."""


async def admit(session: Session, info: CallInfo) -> None:
    """Decide about an offered call: let it in, let it wait, or refuse it."""
    bridge = session.bridge
    session.log = session.log.bind(call_sid=info.call_sid)
    claims = await _redeem(session, info)
    if isinstance(claims, TokenProblem):
        _refuse(session, outcome.BAD_TOKEN, claims.value)
        return
    if claims is not None and claims.comeback:
        _come_back(session, info, claims)
        return
    if claims is not None:
        info = _with_claims(session, info, claims)
    route = bridge.route_for(info, claims)
    session.facts.route = route
    placed = await bridge.outbound.placed(session.call_id) if info.direction == OUTBOUND else None
    session.call.configure(bridge.options_for(session.spec, route, info.caller, placed))
    if not route.agent_id:
        _refuse(session, outcome.AGENT_NOT_FOUND, route.problem)
        return
    verdict = await bridge.take_slot(session.call_id, info.caller, route, info.direction)
    if isinstance(verdict, Waiting):
        verdict = await _wait_in_queue(session, info, route, verdict)
    if isinstance(verdict, Granted):
        session.facts.is_burst = verdict.is_burst
        session.facts.admission = session.facts.admission or ("burst" if verdict.is_burst else "granted")
        let_in(session)
    else:
        _refuse(session, verdict.reason, verdict.detail)


def let_in(session: Session) -> None:
    """The call has its slot."""
    bridge, provider, facts = session.bridge, session.spec.name, session.facts
    session.admitted_s = monotonic()
    bridge.metrics.calls_started.labels(provider, "yes" if facts.is_burst else "no").inc()
    bridge.metrics.calls_active.labels(provider).inc()
    session.log.info(
        "call_started", admission=facts.admission, agent_id=facts.route.agent_id if facts.route is not None else ""
    )
    begin_posts(session)
    session.step(session.call.admit)
    if not session.call.is_over:
        begin_recording(session)
        begin_listening(session)
        bridge.chronicle.began(session)


async def let_go(session: Session, info: CallInfo) -> None:
    """The call is over and was never let in: free the slot that its answer webhook may still hold for it."""
    if session.facts.route is not None or not info.token:
        return  # the token was looked at: the call has its slot's id, and gave it back under it
    claims = await (session.facts.redeeming or session.bridge.tokens.redeem(info.token, info.call_sid))
    if isinstance(claims, CallClaims):
        session.bridge.admission.dismiss(claims.call_id)


async def _redeem(session: Session, info: CallInfo) -> CallClaims | TokenProblem | None:
    """What the answer webhook knew of this call; None = there was no webhook, and none is asked for."""
    needed = session.spec.needs_token and session.bridge.settings.bridge_auth == "on"
    waived_by = session.spec.token_waived_by
    if waived_by and waived_by in info.parameters and not info.token:
        return None
    expected = session.spec.needs_token or info.direction == OUTBOUND  # a placed call is known by its token
    if not needed and not (expected and info.token):
        return None
    # A token can be used up once: when the call ends meanwhile, ``let_go`` still has to know what it stood for.
    redeeming = asyncio.ensure_future(session.bridge.tokens.redeem(info.token, info.call_sid))
    session.facts.redeeming = redeeming
    claims = await asyncio.shield(redeeming)
    return None if isinstance(claims, TokenProblem) and not needed else claims


def _come_back(session: Session, info: CallInfo, claims: CallClaims) -> None:
    """The socket belongs to a call in progress, whose carrier did something else for a moment."""
    call = session.bridge.sessions.get(claims.call_id)
    if call is not None and call.call.is_waited_for:
        call.take_over(session, _known(info, claims))
        return
    # Another instance may carry the call (see INSTANCE_URL), or it has ended meanwhile: then its carrier's fallback
    # decides by the call's end, which this socket must not write over.
    session.log.warning("stream_without_call", call_id=claims.call_id)
    socket = session.dissolve()
    if socket is not None:
        socket.close()


def _with_claims(session: Session, info: CallInfo, claims: CallClaims) -> CallInfo:
    """The call as its webhook knew it, which came from a verified request."""
    if claims.call_id:
        session.bridge.rename(session, claims.call_id)
        if claims.direction == OUTBOUND:
            session.bridge.outbound.joined(claims.call_id)
    session.call.info = known = _known(info, claims)
    return known


def _known(info: CallInfo, claims: CallClaims) -> CallInfo:
    return msgspec.structs.replace(
        info,
        caller=claims.caller,
        called=claims.called,
        direction=claims.direction,
        control_url=claims.control_url,
        parameters={**claims.parameters, **info.parameters},
    )


async def _wait_in_queue(session: Session, info: CallInfo, route: Resolved, verdict: Waiting) -> Granted | Refused:
    """Hold the line until a slot is free, with a bound."""
    bridge, facts, waiting = session.bridge, session.facts, verdict
    began_s = monotonic()
    give_up_s = began_s + route.overflow.queue_s
    facts.admission = QUEUED
    bridge.queued.add(session.call_id)
    try:
        session.step(lambda now: session.call.hold(verdict.position, now))
        bridge.chronicle.moved(session)
        while monotonic() < give_up_s:
            await asyncio.sleep(QUEUE_POLL_S)
            facts.queue_wait_ms = int((monotonic() - began_s) * 1000)
            answer = await bridge.take_slot(session.call_id, info.caller, route, info.direction)
            if not isinstance(answer, Waiting):
                return answer
            waiting = answer
        return Refused(outcome.QUEUE_TIMEOUT, f"still number {waiting.position} after {route.overflow.queue_s:g} s")
    finally:
        bridge.queued.discard(session.call_id)


def _refuse(session: Session, reason: EndReason, detail: str) -> None:
    """Turn the caller away, or send them on: carriers that route by results are told where to."""
    route = session.facts.route
    session.facts.admission = reason.reason
    if session.spec.takes_results and route is not None and route.overflow.divert_to and reason in DIVERTED_ENDS:
        session.call.outputs["transfer_to"] = route.overflow.divert_to
        reason = outcome.DIVERTED
    session.step(lambda now: session.call.refuse(reason, detail, now))


async def connect(session: Session, info: CallInfo, owner: SocketOwner, *, again: bool = False) -> None:
    """Open the agent's socket; beside it, fetch the personalization and have the call written down.

    ``again``: the connection broke in the middle of the call, and what its agent was told is known.

    Then the conversation begins. So whoever was answered has a record, even when the process dies in the next moment.
    """
    bridge, route = session.bridge, session.facts.route
    assert route is not None
    personalized = asyncio.ensure_future(_initiation(session, info, route, again=again))
    kept = asyncio.ensure_future(_kept(session))
    try:
        await bridge.parts.agents.connect(AgentTarget(route.agent_id, route.environment, route.branch), owner)
        data = await personalized
        await kept
    except AgentConnectError as error:
        _no_agent(session, error.reason, error.detail)
        return
    finally:
        personalized.cancel()
        kept.cancel()
    if isinstance(data, Failed):
        _no_agent(session, outcome.PERSONALIZATION_FAILED, data.detail)
        return
    session.facts.initiation = data
    session.step(lambda now: session.call.agent_connected(data, now))


def _no_agent(session: Session, reason: EndReason, detail: str) -> None:
    """There will be no connection. A call that has given up waiting for it is saying so to its caller already."""
    if session.call.state in (State.CONNECTING, State.RECONNECTING):
        session.step(lambda now: session.call.fail(reason, detail, now))


async def _initiation(session: Session, info: CallInfo, route: Resolved, *, again: bool) -> InitiationData | Failed:
    return session.facts.initiation if again else await session.bridge.personalization(session.call_id, info, route)


async def _kept(session: Session) -> None:
    """Wait for the call's record, within reason."""
    storage = session.bridge.parts.storage
    if storage is not None:
        await storage.ledger.kept(session.call_id, RECORD_WAIT_S)


async def fetch_results(session: Session, conversation_id: str) -> None:
    """Fetch what the agent's side made of the conversation, while the caller still waits for it."""
    outputs = await session.bridge.parts.results.fetch(conversation_id, session.bridge.settings.genesys_output_wait_s)
    session.step(lambda now: session.call.give_results(outputs, now))
