"""Two transaction layers and a link that loses, doubles and reorders: what must be true in any order of events.

The users are as simple as can be: the callee answers when told and repeats a 2xx until its ACK comes, the caller
acknowledges every 2xx.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.sip.envelope import Envelope
from bridge.sip.flow import Flow, Transport
from bridge.sip.message import Request, Response
from bridge.sip.transactions import (
    Cancelled,
    Gone,
    NewRequest,
    NewResponse,
    SendFailed,
    TimedOut,
    TransactionEvent,
    TransactionLayer,
)
from tests.kit.transaction_parts import answer_to, make_request, outside, read_sent

CALLER, CALLEE = "192.0.2.1", "192.0.2.2"
GIVE_UP_S = 32.0
LONGEST_DELAY_S = 0.4
"""Less than 32 s after the last repeat, lest a request outlive the memory of it; so RFC 3261 supposes too."""


@dataclass
class Incoming:
    """A request as the callee's user knows it."""

    key: str
    request: Request
    final: int = 0
    is_cancelled: bool = False
    ok_at: float = math.inf
    """When the 2xx is to be repeated."""
    ok_interval_s: float = 0.5
    ok_until: float = 0.0
    acks: int = 0


@dataclass
class Placed:
    """A request as the caller's user knows it."""

    request: Request
    finals: list[int] = field(default_factory=list)
    oks: int = 0
    ends: list[str] = field(default_factory=list)
    """Of Gone, TimedOut, SendFailed."""
    is_cancelled: bool = False


class Link:
    """Both ends, and what is under way between them."""

    def __init__(self, transport: Transport, random: Random, loss: float, doubling: float) -> None:
        self.transport = transport
        self.random = random
        self.loss, self.doubling = loss, doubling
        self.now = 0.0
        self.caller, self.callee = TransactionLayer(), TransactionLayer()
        self.placed: dict[str, Placed] = {}
        self.incoming: dict[str, Incoming] = {}
        self._under_way: list[tuple[float, int, bool, Request | Response]] = []
        self._order = itertools.count()
        self._is_draining = False

    # What the users do

    def place(self, method: str, number: int) -> None:
        request = make_request(
            method, branch=f"z9hG4bK{number}", call_id=str(number), sent_by=f"{CALLER}:5060", via_params=";rport",
            transport=self.transport.value,
        )  # fmt: skip
        key = self.caller.request(request, Flow(self.transport, CALLEE, 5060), self.now)
        self.placed[key] = Placed(request)
        self.flush()

    def answer(self, key: str, status: int) -> None:
        incoming = self.incoming[key]
        if incoming.final:
            return
        self.callee.respond(key, answer_to(incoming.request, status), self.now)
        if status >= 200:
            incoming.final = status
            if status < 300 and incoming.request.method == "INVITE":
                incoming.ok_at, incoming.ok_until = self.now + 0.5, self.now + GIVE_UP_S
        self.flush()

    def cancel(self, key: str) -> None:
        self.placed[key].is_cancelled = True
        self.caller.cancel(key, self.now)
        self.flush()

    # Time and network

    def next_event(self) -> float:
        arrival = self._under_way[0][0] if self._under_way else math.inf
        oks = min((incoming.ok_at for incoming in self.incoming.values()), default=math.inf)
        return min(arrival, oks, self.caller.next_timer(), self.callee.next_timer())

    def pass_until(self, until: float) -> None:
        while (at := self.next_event()) <= until:
            self.now = max(self.now, at)
            self.step()
        if until != math.inf:
            self.now = until

    def step(self) -> None:
        while self._under_way and self._under_way[0][0] <= self.now:
            _, _, to_callee, message = heapq.heappop(self._under_way)
            self.deliver(message, to_callee=to_callee)
        self.hear_caller(self.caller.handle_timer(self.now))
        self.hear_callee(self.callee.handle_timer(self.now))
        for incoming in self.incoming.values():
            self.repeat_ok(incoming)
        self.flush()

    def repeat_ok(self, incoming: Incoming) -> None:
        if self.now < incoming.ok_at:
            return
        if incoming.acks or self.now >= incoming.ok_until:
            incoming.ok_at = math.inf
            return
        self.callee.send(answer_to(incoming.request, incoming.final), Flow(self.transport, CALLER, 5060))
        incoming.ok_interval_s = min(2 * incoming.ok_interval_s, 4.0)
        incoming.ok_at = self.now + incoming.ok_interval_s

    def deliver(self, message: Request | Response, *, to_callee: bool) -> None:
        envelope = outside(message)
        flow = Flow(self.transport, CALLER if to_callee else CALLEE, 5060)
        if isinstance(message, Request):
            assert to_callee
            self.hear_callee(self.callee.receive_request(message.stamped(CALLER, 5060), envelope, flow, self.now))
        else:
            assert not to_callee
            self.hear_caller(self.caller.receive_response(message, envelope, flow, self.now))

    def flush(self) -> None:
        for layer in (self.caller, self.callee):
            for outgoing in layer.drain():
                to_callee = layer is self.caller
                assert outgoing.flow.host == (CALLEE if to_callee else CALLER)
                copies = 1
                if not self.transport.is_reliable and not self._is_draining:
                    copies = 0 if self.random.random() < self.loss else 1 + (self.random.random() < self.doubling)
                for _ in range(copies):
                    delay_s = 0.01 if self.transport.is_reliable else self.random.uniform(0, LONGEST_DELAY_S)
                    entry = (self.now + delay_s, next(self._order), to_callee, read_sent(outgoing))
                    heapq.heappush(self._under_way, entry)

    # What the users hear

    def hear_callee(self, events: list[TransactionEvent]) -> None:
        for event in events:
            match event:
                case NewRequest("", ack, envelope):
                    self.hear_ack(ack, envelope)
                case NewRequest(key, request):
                    assert key not in self.incoming, "a repeat got through"
                    self.incoming[key] = Incoming(key, request)
                case Cancelled(key):
                    incoming = self.incoming[key]
                    assert not incoming.final, "cancelled after a final response"
                    assert not incoming.is_cancelled, "cancelled twice"
                    incoming.is_cancelled = True
                case TimedOut(key):
                    assert self.incoming[key].final >= 300
                    call_id = self.incoming[key].request.headers.get("Call-ID")
                    (placed,) = [
                        each for each in self.placed.values() if each.request.headers.get("Call-ID") == call_id
                    ]
                    assert self.loss or placed.is_cancelled, "the ACK is missing though nothing was lost or given up"
                case _:
                    raise AssertionError(event)

    def hear_ack(self, ack: Request, envelope: Envelope) -> None:
        assert ack.method == "ACK"
        (incoming,) = [
            each for each in self.incoming.values() if each.request.headers.get("Call-ID") == envelope.call_id
        ]
        assert 200 <= incoming.final < 300, "an ACK of a rejection got through"
        incoming.acks += 1

    def hear_caller(self, events: list[TransactionEvent]) -> None:
        for event in events:
            match event:
                case NewResponse("", response, envelope):
                    assert 200 <= response.status < 300
                    assert envelope.cseq.method == "INVITE"
                    self.acknowledge(envelope)
                case NewResponse(key, response, envelope):
                    self.hear_response(self.placed[key], response, envelope)
                case Gone(key) | TimedOut(key) | SendFailed(key):
                    self.placed[key].ends.append(type(event).__name__)
                case _:
                    raise AssertionError(event)

    def hear_response(self, placed: Placed, response: Response, envelope: Envelope) -> None:
        assert not placed.ends, "a response with the key of something that is over"
        is_ok = 200 <= response.status < 300 and envelope.cseq.method == "INVITE"
        if is_ok:
            placed.oks += 1
            self.acknowledge(envelope)
        if response.status >= 200 and not (is_ok and placed.oks > 1):
            placed.finals.append(response.status)

    def acknowledge(self, envelope: Envelope) -> None:
        ack = make_request(
            "ACK", branch=f"z9hG4bKack{next(self._order)}", call_id=envelope.call_id, to_tag="t",
            sent_by=f"{CALLER}:5060", via_params=";rport",
        )  # fmt: skip
        self.caller.send(ack, Flow(self.transport, CALLEE, 5060))

    # The end

    def finish(self) -> None:
        """The link mends, everybody hangs up, and all timers run out."""
        self._is_draining = True
        for key, placed in self.placed.items():
            if placed.request.method == "INVITE":
                self.cancel(key)
        for _ in range(8):  # requests come in for as long as they are repeated
            self.pass_until(self.now + 5)
            for key in self.incoming:
                self.answer(key, 487)
        self.pass_until(self.now + 200)
        assert self.next_event() == math.inf
        for layer in (self.caller, self.callee):
            assert len(layer) == 0
            assert len(layer._timer_list) == 0
            assert not layer._mergeable
        for placed in self.placed.values():
            self.check_end(placed)

    def check_end(self, placed: Placed) -> None:
        assert len(placed.finals) <= 1
        assert placed.ends == (["Gone"] if placed.finals else ["TimedOut"])
        call_id = placed.request.headers.get("Call-ID")
        answered = [each for each in self.incoming.values() if each.request.headers.get("Call-ID") == call_id]
        for final in placed.finals:
            assert [each.final for each in answered] == [final]
        if placed.oks and not self.loss:
            assert answered[0].acks


class LossyCalls(RuleBasedStateMachine):
    """Anything may happen in any order."""

    link: Link

    @initialize(
        random=st.randoms(use_true_random=False),
        transport=st.sampled_from([Transport.UDP, Transport.UDP, Transport.TCP]),
        loss=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
        doubling=st.sampled_from([0.0, 0.3]),
    )
    def connect(self, random: Random, transport: Transport, loss: float, doubling: float) -> None:
        self.link = Link(transport, random, loss, doubling)

    @rule(method=st.sampled_from(["INVITE", "INVITE", "BYE", "OPTIONS"]))
    def place(self, method: str) -> None:
        self.link.place(method, len(self.link.placed))

    @precondition(lambda self: self.link.incoming)
    @rule(data=st.data(), status=st.sampled_from([100, 180, 183, 200, 200, 202, 302, 486, 487, 603]))
    def answer(self, data: st.DataObject, status: int) -> None:
        self.link.answer(data.draw(st.sampled_from(sorted(self.link.incoming))), status)

    @precondition(lambda self: self.link.placed)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        invites = [key for key, placed in self.link.placed.items() if placed.request.method == "INVITE"]
        if invites:
            self.link.cancel(data.draw(st.sampled_from(invites)))

    @rule(seconds=st.sampled_from([0.05, 0.2, 0.5, 1.0, 4.0, 31.9, 32.0, 40.0]) | st.floats(0, 5))
    def wait(self, seconds: float) -> None:
        self.link.pass_until(self.link.now + seconds)

    @invariant()
    def timers_lie_ahead(self) -> None:
        assert self.link.caller.next_timer() > self.link.now - 1e-9 or self.link.next_event() <= self.link.now

    def teardown(self) -> None:
        if hasattr(self, "link"):
            self.link.finish()


LossyCalls.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestLossyCalls = LossyCalls.TestCase


@pytest.mark.parametrize("transport", list(Transport))
def test_calls_over_a_link_that_loses_nothing(transport: Transport) -> None:
    link = Link(transport, Random(1), loss=0.0, doubling=0.2)
    for number in range(200):
        link.place("INVITE", number)
        link.pass_until(link.now + 0.1)
        if number >= 20:
            keys = list(link.incoming)
            link.answer(keys[number - 20], (200, 486)[number % 2])
            link.answer(keys[number - 20], 100)
    link.finish()
    assert len(link.incoming) == 200
    ends = Counter(tuple(placed.finals) for placed in link.placed.values())
    assert ends == {(200,): 90, (486,): 90, (487,): 20}


def test_most_calls_come_about_where_half_is_lost() -> None:
    link = Link(Transport.UDP, Random(2), loss=0.5, doubling=0.1)
    for number in range(200):
        link.place(("INVITE", "BYE")[number % 2], number)
    for _ in range(400):
        link.pass_until(link.now + 0.1)
        for key in list(link.incoming):
            link.answer(key, 200)
    link.finish()
    ends = Counter(tuple(placed.finals) for placed in link.placed.values())
    assert ends[(200,)] >= 195
