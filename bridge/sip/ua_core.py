"""What all calls of a user agent share: the transactions, events, alarms, look-ups and the books of who is whose.

What it is not: a judge of messages. Everything is kept under a key that some timer or transaction takes away again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from bridge.sip.dialog import Dialog, DialogId
from bridge.sip.envelope import Envelope
from bridge.sip.flow import Flow
from bridge.sip.hops import literal_host, named_transport
from bridge.sip.ids import NewId, new_branch
from bridge.sip.message import Request, Response
from bridge.sip.outline import Identity, Outline
from bridge.sip.timers import NEVER, TimerList
from bridge.sip.transactions import TransactionLayer
from bridge.sip.ua_events import NeedTargets, UaEvent
from bridge.sip.ua_options import AgentOptions
from bridge.sip.uri import SipUri

if TYPE_CHECKING:
    from bridge.sip.call import SipCall
    from bridge.sip.call_incoming import IncomingSetup
    from bridge.sip.call_outgoing import OutgoingSetup

FoundFlows = Callable[[tuple[Flow, ...], float], None]
"""What goes on once the ways to a hop are known; none = there are none."""


class ResponseUser(Protocol):
    """Whoever sent a request."""

    def on_response(self, response: Response, envelope: Envelope, flow: Flow, now: float) -> None:
        """A response came: any number of provisional ones, one final one, and more of 2xx to INVITE."""
        ...

    def on_no_response(self, *, is_timeout: bool, now: float) -> None:
        """No final response will come: nobody answered in time, or it could not be sent."""
        ...


class Alarm:
    """Something to be done at a time."""

    __slots__ = ("action", "listed_at", "wakes_at")

    def __init__(self, at: float, action: Callable[[float], None]) -> None:
        self.wakes_at = at
        self.listed_at = NEVER
        self.action = action

    def call_off(self) -> None:
        """Not any more. An alarm that has gone off is called off already."""
        self.wakes_at = NEVER
        self.action = _nothing


def _nothing(_: float) -> None:
    """What an alarm does that was called off."""


class AgentCore:
    """Shared by the parts of one user agent; nobody else uses it."""

    def __init__(self, options: AgentOptions, new_id: NewId, layer: TransactionLayer) -> None:
        self.options = options
        self.identity = Identity(options)
        self.new_id = new_id
        self.layer = layer
        self.calls: dict[str, SipCall] = {}
        """By their id, those that are not over."""
        self.dialogs: dict[DialogId, tuple[SipCall, Dialog]] = {}
        """Early and confirmed, and those whose last requests are under way."""
        self.clients: dict[str, ResponseUser] = {}
        """By the key of their transaction."""
        self.invites: dict[str, IncomingSetup] = {}
        """INVITEs of peers without a final response, by the key of their transaction."""
        self.placed: dict[tuple[str, str], OutgoingSetup] = {}
        """Our INVITEs that responses may come to, by Call-ID and our tag."""
        self._alarms: TimerList[Alarm] = TimerList()
        self._events: list[UaEvent] = []
        self._lookups: dict[str, tuple[FoundFlows, Alarm]] = {}

    def emit(self, event: UaEvent) -> None:
        """Have the server told."""
        self._events.append(event)

    def take_events(self) -> list[UaEvent]:
        """What is to be told, in order; each once."""
        events, self._events = self._events, []
        return events

    def set_alarm(self, at: float, action: Callable[[float], None]) -> Alarm:
        """Have something done at a time."""
        alarm = Alarm(at, action)
        self._alarms.note(alarm)
        return alarm

    def next_alarm(self) -> float:
        """When ``run_alarms`` is due; ``NEVER`` = not at all."""
        return self._alarms.next()

    def run_alarms(self, now: float) -> None:
        """Do what is due."""
        for alarm in self._alarms.take_due(now):
            action = alarm.action
            alarm.call_off()
            action(now)

    def request(self, outline: Outline, flow: Flow, user: ResponseUser, now: float) -> tuple[str, Request]:
        """Send a request in a new transaction; gives its key and the request as it went."""
        request = self.identity.build(outline, flow, new_branch(self.new_id))
        key = self.layer.request(request, flow, now)
        self.clients[key] = user
        return key, request

    def look_up(self, call: SipCall, hop: SipUri, then: FoundFlows, now: float) -> None:
        """Ask the server for the ways to a hop that is a name; no answer counts as none."""
        lookup_id = self.new_id()
        alarm = self.set_alarm(now + self.options.lookup_timeout_s, lambda at: self.targets_found(lookup_id, (), at))
        self._lookups[lookup_id] = (then, alarm)
        host = literal_host(hop) or hop.bare_host
        self.emit(NeedTargets(call, lookup_id, host, hop.port, named_transport(hop), hop.scheme == "sips"))

    def targets_found(self, lookup_id: str, flows: tuple[Flow, ...], now: float) -> None:
        """The answer to a look-up; one that nobody waits for any more is ignored."""
        found = self._lookups.pop(lookup_id, None)
        if found is not None:
            then, alarm = found
            alarm.call_off()
            then(flows, now)
