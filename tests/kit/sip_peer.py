"""A user agent in a test bench, and a peer whose every message is text: nothing of it knows dialogs or transactions.

Time moves only when told to. What the agent sends is kept in order as text and as parsed messages.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, cast

from bridge.sip.envelope import Envelope
from bridge.sip.flow import Announced, Flow, Outgoing, Transport
from bridge.sip.framing import parse_datagram
from bridge.sip.message import Request
from bridge.sip.offer_answer import AudioOptions, AudioSession
from bridge.sip.trunks import Trunk
from bridge.sip.ua_events import UaEvent
from bridge.sip.ua_options import Admit, AgentOptions, CallOrder, Verdict
from bridge.sip.user_agent import UserAgent

UDP_PEER = Flow(Transport.UDP, "192.0.2.9", 5060)
TCP_PEER = Flow(Transport.TCP, "192.0.2.9", 40001, connection=7)
ANNOUNCED = {
    Transport.UDP: Announced("198.51.100.1", 5060),
    Transport.TCP: Announced("198.51.100.1", 5060),
    Transport.TLS: Announced("198.51.100.1", 5061),
}
OPTIONS = AgentOptions(ANNOUNCED, user_agent="bridge/1.0")
SPIN_LIMIT = 200
TRUNK = cast(Trunk, object())
"""The agent only passes it on."""

OFFER = (
    "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n"
    "m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
    "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n"
)
HOLD = OFFER.replace("o=- 1 1", "o=- 1 2") + "a=sendonly\r\n"
RESUME = OFFER.replace("o=- 1 1", "o=- 1 3")
NO_CODEC = OFFER.replace("RTP/AVP 0 8 101", "RTP/AVP 18").replace(
    "a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n", ""
)
PEER_ANSWER = OFFER.replace("0 8 101", "0 101").replace("a=rtpmap:8 PCMA/8000\r\n", "")

EventT = TypeVar("EventT")


def audio_session(options: AudioOptions | None = None) -> AudioSession:
    """Our side of the media."""
    return AudioSession(options or AudioOptions(), ("198.51.100.1", 20000), 7)


@dataclass
class OpenGate:
    """Lets everybody in, or gives the verdict it is told to; keeps count."""

    verdict: Verdict = field(default_factory=lambda: Admit(TRUNK))
    answers_strangers: bool = True
    judged: list[str] = field(default_factory=list)

    def judge(self, request: Request, envelope: Envelope, flow: Flow, now: float) -> Verdict:
        self.judged.append(request.method)
        return self.verdict

    def may_answer(self, flow: Flow, now: float) -> bool:
        return self.answers_strangers


def counted_ids() -> Callable[[], str]:
    """Ids in a row: id1, id2, ..."""
    numbers = itertools.count(1)
    return lambda: f"id{next(numbers)}"


class Rig:
    """A user agent, its time and what it sent."""

    def __init__(self, options: AgentOptions = OPTIONS, gate: OpenGate | None = None) -> None:
        self.now = 1000.25
        self.gate = gate or OpenGate()
        self.agent = UserAgent(options, self.gate, counted_ids())
        self.sent: list[Outgoing] = []
        self.events: list[UaEvent] = []

    def hear(self, text: str | bytes, flow: Flow = UDP_PEER) -> list[UaEvent]:
        """Have a message arrive."""
        message = parse_datagram(text.encode() if isinstance(text, str) else text)
        assert message is not None
        if isinstance(message, Request):
            message = message.stamped(flow.host, flow.port)
        return self._took(self.agent.receive(message, flow, self.now))

    def advance(self, seconds: float) -> list[UaEvent]:
        """Let time pass as a driver does: every timer is handled when it is due."""
        end = self.now + seconds
        events: list[UaEvent] = []
        spins = 0
        while (at := self.agent.next_timer()) <= end:
            spins = spins + 1 if at <= self.now else 0
            assert spins < SPIN_LIMIT, f"the timer at {at} never comes to an end"
            self.now = max(self.now, at)
            events += self._took(self.agent.handle_timer(self.now))
        self.now = end
        return events

    def fail(self, out: Outgoing) -> list[UaEvent]:
        """Have the transport say that this could not be sent."""
        return self._took(self.agent.send_failed(out.key, self.now))

    def settle(self) -> list[UaEvent]:
        """What commands have led to."""
        return self._took(self.agent.drain_events())

    def take(self) -> list[str]:
        """What was sent since the last time, as text."""
        self._drain()
        texts = [out.data.decode() for out in self.sent]
        self.sent.clear()
        return texts

    def take_out(self) -> list[Outgoing]:
        """What was sent since the last time, with its way."""
        self._drain()
        sent, self.sent = self.sent, []
        return sent

    def starts(self) -> list[str]:
        """The first lines of what was sent since the last time."""
        return [start_of(text) for text in self.take()]

    def last(self, event: type[EventT]) -> EventT:
        """The latest event of a kind."""
        return next(one for one in reversed(self.events) if isinstance(one, event))

    def is_clean(self) -> bool:
        """Whether nothing is left of any call."""
        agent = self.agent
        return not agent.calls and not agent.open_dialogs and not agent.open_transactions and not agent._core.clients

    def _took(self, events: list[UaEvent]) -> list[UaEvent]:
        self._drain()
        self.events += events
        return events

    def _drain(self) -> None:
        self.sent += self.agent.drain()


class Caller:
    """A peer that calls us; builds its requests as text."""

    def __init__(self, rig: Rig, flow: Flow = UDP_PEER, *, call_id: str = "call-1", tag: str = "ft") -> None:
        self.rig = rig
        self.flow = flow
        self.call_id = call_id
        self.tag = tag
        self.to_tag = ""
        self.cseq = 1
        self.branches = itertools.count(1)
        self.branch = ""

    def request(
        self,
        method: str,
        *,
        headers: tuple[str, ...] = (),
        body: str = "",
        content_type: str = "application/sdp",
        cseq: int | None = None,
        branch: str = "",
        uri: str = "sip:+15550100@198.51.100.1",
        contact: str | None = "<sip:peer@192.0.2.9:5060>",
    ) -> str:
        """A request in the dialog, or to begin one."""
        number = self.cseq if cseq is None else cseq
        self.branch = branch or f"z9hG4bK{self.call_id}{next(self.branches)}"
        to_tag = f";tag={self.to_tag}" if self.to_tag else ""
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/{self.flow.transport.value} 192.0.2.9:5060;branch={self.branch};rport",
            "Max-Forwards: 70",
            f"From: <sip:+15550199@192.0.2.9>;tag={self.tag}",
            f"To: <sip:+15550100@198.51.100.1>{to_tag}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {number} {method}",
            *([f"Contact: {contact}"] if contact and method in ("INVITE", "UPDATE") else []),
            *headers,
            *([f"Content-Type: {content_type}"] if body else []),
            f"Content-Length: {len(body.encode())}",
        ]
        return "\r\n".join(lines) + "\r\n\r\n" + body

    def send(self, method: str, **parts: object) -> list[UaEvent]:
        """Send a request with the next number."""
        if method not in ("ACK", "CANCEL") and "cseq" not in parts and (method != "INVITE" or self.to_tag):
            self.cseq += 1
        return self.rig.hear(self.request(method, **parts), self.flow)  # type: ignore[arg-type]

    def invite(self, body: str = OFFER, **parts: object) -> list[UaEvent]:
        """The first INVITE."""
        events = self.send("INVITE", body=body, **parts)
        self.invite_branch = self.branch
        return events

    def cancel(self) -> list[UaEvent]:
        """Cancel the first INVITE."""
        to_tag, self.to_tag = self.to_tag, ""
        events = self.rig.hear(self.request("CANCEL", branch=self.invite_branch, cseq=1), self.flow)
        self.to_tag = to_tag
        return events

    def ack(self, body: str = "", **parts: object) -> list[UaEvent]:
        """Acknowledge the 2xx to the latest INVITE."""
        return self.send("ACK", body=body, **parts)

    def learn_tag(self, responses: list[str]) -> None:
        """Take our tag from a response."""
        for text in responses:
            if text.startswith("SIP/2.0") and not text.startswith("SIP/2.0 100"):
                self.to_tag = header_of(text, "To").partition(";tag=")[2]


def answered_call(rig: Rig, caller: Caller, **parts: object) -> None:
    """Bring an incoming call to where media flow; the rig's messages and events are used up."""
    from bridge.sip.ua_events import CallOffered

    caller.invite(**parts)  # type: ignore[arg-type]
    call = rig.last(CallOffered).call
    call.use_media(audio_session(), rig.now)
    call.answer(rig.now)
    caller.learn_tag(rig.take())
    caller.ack()
    rig.settle()
    rig.take()


def order(**changes: object) -> CallOrder:
    """An outgoing call to the peer."""
    parts: dict[str, object] = {
        "flows": (UDP_PEER,),
        "request_uri": "sip:+15550100@192.0.2.9;user=phone",
        "to_uri": "sip:+15550100@192.0.2.9",
        "from_uri": "sip:+15550123@198.51.100.1",
        "session": audio_session(),
        "trunk": TRUNK,
    }
    return CallOrder(**{**parts, **changes})  # type: ignore[arg-type]


def response_to(
    request: str,
    status: int,
    reason: str = "Whatever",
    *,
    tag: str = "pt",
    headers: tuple[str, ...] = (),
    body: str = "",
    contact: str = "<sip:callee@192.0.2.9:5060>",
) -> str:
    """The peer's response to a request of ours."""
    copied = []
    for line in request.split("\r\n\r\n")[0].split("\r\n")[1:]:
        name = line.partition(":")[0]
        if name in ("Via", "From", "Call-ID", "CSeq"):
            copied.append(line)
        elif name == "To":
            copied.append(line if ";tag=" in line or not tag else f"{line};tag={tag}")
    lines = [
        f"SIP/2.0 {status} {reason}",
        *copied,
        *([f"Contact: {contact}"] if contact and 100 < status < 300 else []),
        *headers,
        *(["Content-Type: application/sdp"] if body else []),
        f"Content-Length: {len(body.encode())}",
    ]
    return "\r\n".join(lines) + "\r\n\r\n" + body


def start_of(text: str) -> str:
    """The first line."""
    return text.partition("\r\n")[0]


def header_of(text: str, name: str) -> str:
    """The value of the first header of this name; fails if there is none."""
    for line in text.partition("\r\n\r\n")[0].split("\r\n")[1:]:
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    raise AssertionError(f"no {name} in {text}")


def headers_of(text: str, name: str) -> list[str]:
    """The values of all headers of this name."""
    lines = text.partition("\r\n\r\n")[0].split("\r\n")[1:]
    return [line.partition(":")[2].strip() for line in lines if line.partition(":")[0] == name]


def body_of(text: str) -> str:
    """What follows the empty line."""
    return text.partition("\r\n\r\n")[2]
