"""Requests, responses and flows for tests of SIP transactions."""

from __future__ import annotations

from bridge.sip.envelope import Envelope, read_request, read_response
from bridge.sip.flow import Flow, Outgoing, Transport
from bridge.sip.framing import parse_datagram
from bridge.sip.headers import Headers
from bridge.sip.message import Request, Response, make_response

PEER = "192.0.2.7"
UDP = Flow(Transport.UDP, PEER, 5062)
TCP = Flow(Transport.TCP, PEER, 40_001, connection=3)
TLS = Flow(Transport.TLS, PEER, 40_002, connection=4)


def make_request(
    method: str = "INVITE",
    *more: tuple[str, str],
    branch: str = "z9hG4bKb1",
    sent_by: str = "192.0.2.7:5060",
    number: int = 1,
    from_tag: str = "f",
    to_tag: str = "",
    call_id: str = "c@x",
    uri: str = "sip:agent@bridge.example",
    transport: str = "UDP",
    via_params: str = "",
) -> Request:
    """A request as a peer or we write it; ``more`` are further headers."""
    fields = [
        ("Via", f"SIP/2.0/{transport} {sent_by}{';branch=' if branch else ''}{branch}{via_params}"),
        ("Max-Forwards", "69"),
        ("From", f"<sip:caller@peer.example>;tag={from_tag}" if from_tag else "<sip:caller@peer.example>"),
        ("To", f"<sip:agent@bridge.example>;tag={to_tag}" if to_tag else "<sip:agent@bridge.example>"),
        ("Call-ID", call_id),
        ("CSeq", f"{number} {method}"),
        *more,
    ]
    return Request(method, uri, Headers(fields))


def answer_to(request: Request, status: int, to_tag: str = "t") -> Response:
    """A response to a request."""
    return make_response(request, status, to_tag="" if status == 100 else to_tag)


def outside(message: Request | Response) -> Envelope:
    """The envelope of a message that has one."""
    envelope = read_request(message) if isinstance(message, Request) else read_response(message)
    assert isinstance(envelope, Envelope)
    return envelope


def read_sent(outgoing: Outgoing) -> Request | Response:
    """What was sent, read back."""
    message = parse_datagram(outgoing.data)
    assert message is not None
    return message


def first_words(sent: list[Outgoing]) -> list[str]:
    """The method or the status of each message."""
    words = []
    for outgoing in sent:
        first, second = outgoing.data.decode().split(" ", 2)[:2]
        words.append(second if first == "SIP/2.0" else first)
    return words
