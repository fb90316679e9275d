"""Whatever comes, in whatever order, lost or doubled: nothing raises, and nothing is left when time has passed.

A storm is drawn from one seed, because steps that make sense together (the right tags, a number that rises) are rare
among arbitrary ones.
"""

from __future__ import annotations

import contextlib
import random
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.auth.sip_digest_client import SipAccount
from bridge.errors import LocalError
from bridge.sip.call import SipCall
from bridge.sip.errors import NotSip
from bridge.sip.flow import Flow
from bridge.sip.framing import parse_datagram
from bridge.sip.sdp import Direction
from bridge.sip.ua_events import CallOffered, CallOver, NeedTargets, UaEvent
from tests.kit.sip_peer import (
    HOLD,
    NO_CODEC,
    OFFER,
    PEER_ANSWER,
    TCP_PEER,
    UDP_PEER,
    Caller,
    Rig,
    audio_session,
    order,
    response_to,
)

BODIES = ("", OFFER, HOLD, NO_CODEC, PEER_ANSWER, "v=nonsense", "SIP/2.0 200 OK", "Signal=5")
TYPES = (
    "application/sdp",
    "application/sdp",
    "message/sipfrag",
    "application/dtmf-relay",
    "multipart/mixed;boundary=x",
)
HEADERS = (
    "Require: 100rel",
    "Require: ,",
    "RSeq: 1",
    "RSeq: 2",
    "RSeq: x",
    "RAck: 1 1 INVITE",
    "Supported: timer",
    "Session-Expires: 90",
    "Session-Expires: 4294967295;refresher=uas",
    "Session-Expires: 90;refresher=uac",
    "Min-SE: 99999",
    "Allow: UPDATE",
    "Event: refer",
    "Event: refer;id=2",
    "Subscription-State: terminated",
    "Refer-Sub: false",
    "Record-Route: <sip:192.0.2.77;lr>",
    "Record-Route: <sip:proxy.example>",
    "Contact: <sip:other.example;transport=tls>",
    "Contact: <tel:+1>",
    'WWW-Authenticate: Digest realm="r", nonce="n"',
    'Proxy-Authenticate: Digest realm="r", nonce="n", stale=true',
    "Reason: Q.850;cause=16",
    "Content-Encoding: gzip",
    "Info-Package: x",
)
METHODS = ("INVITE", "ACK", "BYE", "UPDATE", "INFO", "PRACK", "NOTIFY", "OPTIONS", "REFER", "MESSAGE", "CANCEL")
STATUSES = (100, 180, 183, 199, 200, 200, 200, 202, 300, 302, 401, 407, 408, 422, 481, 486, 487, 491, 500, 503, 603)
FLOWS = ((UDP_PEER, TCP_PEER), (TCP_PEER,), (UDP_PEER,))
CONTACTS = (
    "",
    "<sip:callee@192.0.2.9>",
    "<sip:callee@192.0.2.9>",
    "<sip:x@name.example>",
    "<sip:x@10.0.0.1;transport=tcp>",
)
STEPS = 40
LONGEST_S = 400.0


class Storm:
    """A rig at which anything is thrown."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.rig = Rig()
        self.callers = [Caller(self.rig, call_id="call-1"), Caller(self.rig, TCP_PEER, call_id="call-2")]
        self.calls: list[SipCall] = []
        self.overs: list[SipCall] = []
        self.asked: list[str] = []
        self.requests: list[str] = []
        self.heard: list[bytes] = []

    def run(self) -> None:
        """Throw it."""
        kinds = (self.request, self.request, self.response, self.response, self.command, self.command, self.odd)
        for _ in range(STEPS):
            self.chance.choice(kinds)()
            self.note(self.rig.settle())
            for out in self.rig.take_out():
                self.sent(out.data.decode("utf-8", "surrogateescape"))
                if out.key and self.chance.random() < 0.05:
                    self.note(self.rig.fail(out))

    def sent(self, text: str) -> None:
        """Learn the agent's tags from its responses, and its requests."""
        if not text.startswith("SIP/2.0"):
            self.requests.append(text)
            return
        for caller in self.callers:
            match = re.search(r"\r\nTo: .*;tag=(id\d+)\r\n", text)
            if match and f"\r\nCall-ID: {caller.call_id}\r\n" in text and self.chance.random() < 0.8:
                caller.to_tag = match[1]

    def request(self) -> None:
        """A request of the peer: mostly one that fits."""
        chance = self.chance
        caller = chance.choice(self.callers)
        method = chance.choice(METHODS) if caller.to_tag or chance.random() < 0.3 else "INVITE"
        headers = tuple(chance.sample(HEADERS, chance.choice((0, 0, 1, 2))))
        rseq = [text for text in self.requests if "RSeq" in text]
        if method == "PRACK" and not rseq:
            headers += ("RAck: 1 1 INVITE",)
        if method not in ("ACK", "CANCEL"):
            caller.cseq += chance.choice((0, 1, 1, 1))
        text = caller.request(
            method,
            headers=headers,
            body=chance.choice(BODIES),
            content_type=chance.choice(TYPES),
            branch=getattr(caller, "invite_branch", "") if method == "CANCEL" else "",
        )
        if method == "INVITE":
            caller.invite_branch = caller.branch
        self.hear(text.encode(), caller.flow)

    def response(self) -> None:
        """A response of the peer to one of the latest requests."""
        chance = self.chance
        if not self.requests:
            self.place()
            return
        text = response_to(
            chance.choice(self.requests[-4:]),
            chance.choice(STATUSES),
            tag=chance.choice(("a", "a", "a", "b", "")),
            headers=tuple(chance.sample(HEADERS, chance.choice((0, 0, 1, 2)))),
            body=chance.choice(("", *BODIES, PEER_ANSWER, PEER_ANSWER)),
            contact=chance.choice(CONTACTS),
        )
        self.hear(text.encode())

    def place(self) -> None:
        """A call of ours."""
        credentials = self.chance.choice((None, SipAccount("u", "p")))
        flows = self.chance.choice(FLOWS)
        call = self.rig.agent.place(
            order(flows=flows, credentials=credentials, follow_any=self.chance.random() < 0.5), self.rig.now
        )
        self.calls.append(call)

    def command(self) -> None:
        """A command, right or not."""
        if not self.calls:
            return
        call, now = self.chance.choice(self.calls[-3:]), self.rig.now
        commands = (
            lambda: call.use_media(audio_session(), now),
            lambda: call.use_media(audio_session(), now),
            lambda: call.ring(now, self.chance.choice((180, 183))),
            lambda: call.answer(now),
            lambda: call.answer(now),
            lambda: call.reject(486, now),
            lambda: call.hang_up(now),
            lambda: call.refer("sip:a@b", now),
            lambda: call.send_info("application/dtmf", b"1", now),
            lambda: call.send_offer(Direction.SENDONLY, now),
        )
        with contextlib.suppress(LocalError):  # it was never right
            self.chance.choice(commands)()

    def odd(self) -> None:
        """Time, repeats, broken bytes, look-ups, transports that fail."""
        chance = self.chance
        match chance.randrange(6):
            case 0 | 1:
                self.note(self.rig.advance(chance.choice((0.0, 0.3, 1.0, 5.0, 33.0, 70.0))))
            case 2 if self.heard:
                self.hear(chance.choice(self.heard), chance.choice((UDP_PEER, TCP_PEER)))
            case 3 if self.heard:
                data = bytearray(chance.choice(self.heard))
                for _ in range(chance.randrange(3)):
                    data[chance.randrange(len(data))] = chance.randrange(256)
                self.hear(bytes(data[: chance.choice((len(data), chance.randrange(1, len(data)))) or 1]))
            case 4 if self.asked:
                flows = chance.choice(((), (UDP_PEER,), (TCP_PEER, UDP_PEER)))
                self.note(self.rig.agent.targets_found(chance.choice(self.asked), flows, self.rig.now))
            case _:
                self.place()

    def hear(self, data: bytes, flow: Flow = UDP_PEER) -> None:
        """Have it arrive."""
        self.heard.append(data)
        try:
            message = parse_datagram(data)
        except NotSip:
            return  # the transport drops it
        if message is not None:
            self.note(self.rig.hear(data, flow))

    def note(self, events: list[UaEvent]) -> None:
        """Check the order of events."""
        for event in events:
            assert isinstance(event, NeedTargets) or event.call not in self.overs, "an event after the end"
            match event:
                case CallOffered(call):
                    self.calls.append(call)
                case CallOver(call):
                    assert call.is_over
                    self.overs.append(call)
                case NeedTargets():
                    self.asked.append(event.lookup_id)


@given(st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_nothing_raises_and_nothing_is_left(seed: int) -> None:
    storm = Storm(seed)
    storm.run()
    for call in storm.calls:
        call.hang_up(storm.rig.now)
    storm.note(storm.rig.settle())
    storm.note(storm.rig.advance(LONGEST_S))
    assert {call.id for call in storm.overs} == {call.id for call in storm.calls}
    core = storm.rig.agent._core
    assert storm.rig.is_clean()
    assert not core.invites
    assert not core.placed
    assert not core._lookups
    assert all(not call._holders for call in storm.calls)


@given(st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_calls_that_nobody_cares_for_end_by_themselves_unless_they_were_answered(seed: int) -> None:
    storm = Storm(seed)
    storm.run()
    storm.note(storm.rig.advance(1000))
    assert all(call.is_over or call.is_answered for call in storm.calls)
    assert not storm.rig.agent._core.invites
