"""The SIP user agent of a bridge in service: sockets, clock and names on one side, calls of the bridge on the other.

Theory of operation: messages come parsed from the transports and go to the ``UserAgent``; its events go to the line
of their call (``bridge.server.sip.line``), its messages back to the transports, and its next timer to the event loop.
Commands that are given in between (a session's) are followed up in the next turn of the loop (``wake``).

An INVITE that the gate has admitted gets ports, a line and a session of its own; from then on it is a call like all
others. Calls that the bridge places are begun in ``bridge.server.sip.control``.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from bridge.leg import UpgradeRequest
from bridge.media.format import Encoding
from bridge.server.logs import get_logger
from bridge.server.metrics_sip import RtpQuality
from bridge.server.sip.line import SipLine
from bridge.server.sip.media_engine import MediaEngine, MediaHandle
from bridge.server.sip.media_ports import NoPorts, PortPair
from bridge.server.sip.message_trail import MessageTrail
from bridge.server.sip.resolver import Resolver
from bridge.server.sip.transports import Transports
from bridge.sip import leg, line_words
from bridge.sip.call import SipCall
from bridge.sip.call_facts import SipCallFacts
from bridge.sip.flow import Flow
from bridge.sip.media import CallMedia
from bridge.sip.media_options import MediaOptions
from bridge.sip.message import Message, Request
from bridge.sip.message_log import SipTrace
from bridge.sip.offer_answer import Agreement, AudioOptions, AudioSession
from bridge.sip.trunks import AnswerWhen, Trunk
from bridge.sip.ua_events import CallOffered, CallOver, NeedTargets, SipEnd, UaEvent
from bridge.sip.user_agent import UserAgent

if TYPE_CHECKING:
    from bridge.server.service import Bridge

SESSION_ID_BITS = 62
"""Of the number in a description's origin: random, and small enough for peers that read 63 bits."""
HOUSEKEEPING_S = 1.0
"""How often lines and figures are looked through."""
TIMER_GRAIN_S = 0.001
NO_UPGRADE = UpgradeRequest("", {})


@dataclass(frozen=True, slots=True)
class SipParts:
    """What a service is put together from."""

    agent: UserAgent
    media: MediaEngine
    resolver: Resolver
    facts_of: Callable[[SipCall], SipCallFacts]
    """Reads numbers and variables out of an admitted INVITE."""
    media_options: Callable[[Trunk], MediaOptions]
    when_full: Callable[[], str] = lambda: "busy"
    """See ``bridge.sip.leg.WHEN_FULL``."""


class SipService:
    """See the module. A ``Desk`` for its lines; used inside the event loop."""

    def __init__(
        self, bridge: Bridge, parts: SipParts, transports: Callable[[SipService], Transports], trail: MessageTrail
    ) -> None:
        self.bridge = bridge
        self.agent = parts.agent
        self.media = parts.media
        self.resolver = parts.resolver
        self.trail = trail
        self.transports = transports(self)
        self.lines: dict[str, SipLine] = {}
        """By ``SipCall.id``, from the offer to the dialog's end."""
        self.on_placed: dict[str, Callable[[UaEvent], None]] = {}
        """Who follows a call that we place until its session has it, by ``SipCall.id``."""
        self._parts = parts
        self._log = get_logger()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = float("inf")
        self._is_awake = False
        self._closed = False
        self._lookups: set[asyncio.Task[None]] = set()

    # --- life ---

    async def start(self) -> None:
        """Open the sockets. Raises ``ConfigError`` where one cannot be had."""
        await self.media.start()
        await self.transports.start()

    async def close(self) -> None:
        """End what is left, and close the sockets."""
        self.agent.draining = True
        for line in list(self.lines.values()):
            line.hang_up()
        self._pump()
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._lookups):
            task.cancel()
        await asyncio.gather(*self._lookups, return_exceptions=True)
        await self.resolver.close()
        await self.transports.close()
        await self.media.close()
        await self.trail.close()

    # --- the network's side ---

    def on_message(self, message: Message, flow: Flow) -> None:
        """A message has come."""
        self.trail.received(message, flow)
        agent, now = self.agent, monotonic()
        if isinstance(message, Request) and message.method in ("INVITE", "OPTIONS"):
            agent.draining = self.bridge.admission.draining
            agent.full = self.bridge.admission.would_refuse() is not None
        try:
            events = agent.receive(message, flow, now)
        except Exception:  # the boundary where a bug of ours must not take other calls along
            self._log.exception("bug", where="sip")
            events = []
        self._dispatch(events)
        self._pump()

    def needs_connection(self, number: int) -> bool:
        """Whether a call counts on the stream connection of this number."""
        return any(line.call.peer.connection == number for line in self.lines.values())

    def on_send_failed(self, key: str) -> None:
        """A request could not be sent."""
        self._dispatch(self.agent.send_failed(key, monotonic()))
        self._pump()

    # --- lines' side: ``Desk`` ---

    def wake(self) -> None:
        """See ``Desk``."""
        if not self._is_awake and not self._closed:
            self._is_awake = True
            self._loop.call_soon(self._pump)

    def open_media(self, line: SipLine, pair: PortPair, agreement: Agreement) -> MediaHandle:
        """See ``Desk``."""
        call = line.call
        media = CallMedia(
            self._parts.media_options(call.trunk),
            self.media.new_seeds(),
            agreement,
            monotonic(),
            encoding=line.encoding,
            peer_host=call.peer.host,
            stale=pair.stale,
        )
        return self.media.open(pair, media, line)

    def free(self, pair: PortPair) -> None:
        """See ``Desk``."""
        self.media.release(pair)

    def line_over(self, line: SipLine, over: CallOver) -> None:
        """See ``Desk``."""
        self.lines.pop(line.call.id, None)
        self._count(line)
        self.trail.over(line, failed=over.how not in (SipEnd.BYE, SipEnd.LOCAL, SipEnd.CANCELLED))

    def _count(self, line: SipLine) -> None:
        """The call's figures into the metrics."""
        stats, sip = line.stats, self.bridge.metrics.sip
        if stats is None:
            return
        heard = stats.packets_expected > 0
        lost = (stats.packets_lost + stats.packets_late) / max(stats.packets_expected, 1)
        sip.call_over(line, RtpQuality(stats.jitter_ms / 1000, lost, stats.mos or 1.0) if heard else None)
        for why, packets in (
            ("stranger", stats.packets_refused),
            ("type", stats.packets_unexpected),
            ("malformed", stats.packets_malformed),
        ):
            if packets:
                sip.rejected_packets.labels(why).inc(packets)

    # --- placing ---

    def audio_session(self, pair: PortPair, options: AudioOptions) -> AudioSession:
        """Our side of a call's description."""
        return AudioSession(options, pair.announced, secrets.randbits(SESSION_ID_BITS))

    def add_line(self, call: SipCall, pair: PortPair, preferred: Encoding) -> SipLine:
        """A line for a call; ``preferred`` is its audio's encoding where none is agreed yet."""
        encoding = preferred if call.agreement is None else call.agreement.encoding
        line = self.lines[call.id] = SipLine(self, call, pair, encoding)
        self.trail.begin(call.call_id)
        return line

    def give_session(self, line: SipLine, invite: line_words.Invite) -> None:
        """The call is one of the bridge's from now on."""
        session = self.bridge.new_session(leg.SPEC, NO_UPGRADE)
        session.facts.media_of = line.figures
        line.session = session
        line.hand_over(session)
        session.on_message(line_words.encode(invite))

    def trace(self, bridge_call_id: str) -> SipTrace | None:
        """The SIP messages of a call that is on, or was a moment ago, by our id."""
        for line in self.lines.values():
            if line.bridge_call_id == bridge_call_id:
                return self.trail.live(line.call.call_id)
        return self.trail.settling(bridge_call_id)

    def calls_of(self, trunk: Trunk) -> int:
        """Calls over this trunk, both directions."""
        return sum(line.call.trunk.name == trunk.name for line in self.lines.values())

    # --- inside: one turn ---

    def _pump(self) -> None:
        """Follow up on commands, write, and set the timer."""
        self._is_awake = False
        agent = self.agent
        self._dispatch(agent.drain_events())
        for out in agent.drain():
            self.trail.sent(out)
            self.transports.send(out)
        next_s = agent.next_timer()
        if next_s < self._timer_at_s and not self._closed:
            self._arm(next_s)

    def _arm(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at_s = at_s
        wait_s = max(at_s - monotonic(), TIMER_GRAIN_S)
        self._timer = self._loop.call_later(wait_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_at_s = None, float("inf")
        self._dispatch(self.agent.handle_timer(monotonic()))
        self._pump()

    def _dispatch(self, events: list[UaEvent]) -> None:
        for event in events:
            try:
                self._on_event(event)
            except Exception:  # as above
                self._log.exception("bug", where="sip")
                event.call.hang_up(monotonic())
                self.wake()

    def _on_event(self, event: UaEvent) -> None:
        if isinstance(event, NeedTargets):
            task = self._loop.create_task(self._look_up(event))
            self._lookups.add(task)
            task.add_done_callback(self._lookups.discard)
            return
        if isinstance(event, CallOffered):
            self._offered(event.call)
            return
        line = self.lines.get(event.call.id)
        if line is not None:
            line.on_dialog(event)
        follower = self.on_placed.get(event.call.id)
        if follower is not None:
            follower(event)

    async def _look_up(self, need: NeedTargets) -> None:
        flows = await self.resolver.find(need.host, need.port, need.transport, need.is_secure)
        self._dispatch(self.agent.targets_found(need.lookup_id, flows, monotonic()))
        self._pump()

    def _offered(self, call: SipCall) -> None:
        """Somebody calls."""
        trunk, now = call.trunk, monotonic()
        if trunk.max_calls is not None and self.calls_of(trunk) >= trunk.max_calls:
            status = 486 if self._parts.when_full() == "busy" else 503
            call.reject(status, now, retry_after_s=leg.RETRY_AFTER_S if status == 503 else None)
            self._log.warning("call_refused", provider=leg.NAME, trunk=trunk.name, reason="trunk_max_calls")
            return
        try:
            pair = self.media.allocate()
        except NoPorts as error:
            call.reject(503, now, retry_after_s=leg.RETRY_AFTER_S)
            self._log.error("no_rtp_ports", detail=str(error), advice="Widen SIP_RTP_PORT_MIN to SIP_RTP_PORT_MAX.")
            return
        call.use_media(self.audio_session(pair, AudioOptions(codecs=trunk.codecs)), now)
        if call.is_over:
            self.media.release(pair)
            return
        call.trying(now)
        line = self.add_line(call, pair, trunk.codecs[0])
        facts = self._parts.facts_of(call)
        line.call_sid = facts.call_sid
        invite = line_words.Invite(
            call_sid=facts.call_sid,
            trunk=trunk.name,
            caller=facts.caller,
            called=facts.called,
            encoding=line.encoding,
            answers_at_once=trunk.answer_when is AnswerWhen.AT_ONCE,
            parameters=dict(facts.variables),
        )
        self.give_session(line, invite)


def new_id() -> str:
    """For Call-IDs, tags and branches: 120 bits, letters and digits only."""
    return secrets.token_hex(15)


def unix_now() -> float:
    """Wall-clock time."""
    return time.time()
