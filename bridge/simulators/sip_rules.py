"""The rules that a simulated SIP end holds its peer to: what every response and every request must look like.

Strict where the RFCs say MUST, and for the SHOULDs that carriers count on. Each function returns what is wrong, as
pairs of rule and text. Written anew from the RFCs, not from the bridge's transactions and dialogs, so that a mistake
there does not cancel out here. Sources: RFC 3261 sections 8, 12, 13, 18 and 20, RFC 3581, RFC 3262.
"""

from __future__ import annotations

from collections.abc import Iterator

from bridge.simulators.sip_leg_options import Dialog
from bridge.sip.envelope import Dropped, Envelope, read_request, read_response
from bridge.sip.errors import HeaderError, Rejection
from bridge.sip.flow import Flow, Transport
from bridge.sip.grammar import tokens
from bridge.sip.message import Request, Response
from bridge.sip.uri import SipUri
from bridge.sip.values import parse_address

LARGEST_UDP_REQUEST_BYTES = 1300
"""RFC 3261 section 18.1.1, for a path of unknown MTU."""

Breach = tuple[str, str]

_NEEDS_CONTACT = ("INVITE", "UPDATE", "REFER", "SUBSCRIBE", "NOTIFY")
"""Requests that (re)target a dialog (RFC 3261 section 12.2.1.1, RFC 3311 section 5.1, RFC 3515 section 2.2)."""

_NEEDED_FIELDS = {401: "WWW-Authenticate", 407: "Proxy-Authenticate", 405: "Allow", 420: "Unsupported", 422: "Min-SE"}
"""Headers that a final response makes no sense without (RFC 3261 section 21.4, RFC 4028 section 6)."""


def response_breaches(request: Request, response: Response) -> Iterator[Breach]:
    """What is wrong with a response to this request of ours, which went out with one Via and ``rport``."""
    envelope = read_response(response)
    if isinstance(envelope, Dropped):
        yield "RFC 3261 8.2.6.2", f"a response cannot be read: {envelope.reason}"
        return
    sent = read_request(request)
    assert isinstance(sent, Envelope)  # we made it
    yield from _copied(sent, envelope, response)
    name = f"{response.status} to {request.method}"
    if response.status > 100 and not envelope.to.tag:
        yield "RFC 3261 8.2.6.2", f"{name} has no To tag"
    if sent.via.transport == "UDP" and (envelope.via.rport is None or not envelope.via.received):
        yield "RFC 3581 4", f"{name} does not fill in rport and received"
    yield from _founding(request, response, envelope, name)
    needed = _NEEDED_FIELDS.get(response.status)
    if needed is not None and needed not in response.headers:
        yield "RFC 3261 21.4", f"{name} has no {needed}"
    yield from _body_breaches(response, name)


def _copied(sent: Envelope, envelope: Envelope, response: Response) -> Iterator[Breach]:
    rule, status = "RFC 3261 8.2.6.2", response.status
    if envelope.via.branch != sent.via.branch or (envelope.via.host, envelope.via.port) != (
        sent.via.host,
        sent.via.port,
    ):
        yield rule, f"{status} changes Via"
    if str(envelope.from_) != str(sent.from_):
        yield rule, f"{status} changes From"
    if str(envelope.to.uri) != str(sent.to.uri) or (sent.to.tag and envelope.to.tag != sent.to.tag):
        yield rule, f"{status} changes To"
    if envelope.call_id != sent.call_id or envelope.cseq != sent.cseq:
        yield rule, f"{status} changes Call-ID or CSeq"


def _founding(request: Request, response: Response, envelope: Envelope, name: str) -> Iterator[Breach]:
    """Of responses that found or refresh a dialog."""
    if request.method not in ("INVITE", "UPDATE") or not 100 < response.status < 300:
        return
    if request.method == "INVITE" and response.headers.all("Record-Route") != request.headers.all("Record-Route"):
        yield "RFC 3261 12.1.1", f"{name} does not copy Record-Route"
    if envelope.contact is None and (response.status >= 200 or "RSeq" in response.headers):
        yield "RFC 3261 12.1.1", f"{name} has no Contact"
    if response.status >= 200:
        for field in ("Allow", "Supported"):
            if field not in response.headers:
                yield "RFC 3261 13.3.1.4", f"{name} has no {field}"
    elif "100rel" in tokens(response.headers.all("Require")):
        supported = (*tokens(request.headers.all("Supported")), *tokens(request.headers.all("Require")))
        if "100rel" not in supported:
            yield "RFC 3262 3", f"{name} requires 100rel, which was not offered"
        if "RSeq" not in response.headers:
            yield "RFC 3262 3", f"{name} requires 100rel and has no RSeq"


def request_breaches(request: Request, flow: Flow, data_bytes: int) -> Iterator[Breach]:
    """What is wrong with any request of the other side."""
    envelope = read_request(request)
    if isinstance(envelope, Rejection):
        yield "RFC 3261 8.1.1", f"{request.method} cannot be read: {envelope.reason}"
        return
    name, via = request.method, envelope.via
    if envelope.vias != 1 or not via.branch_is_unique:
        yield "RFC 3261 8.1.1.7", f"{name} needs one Via with a branch of z9hG4bK..."
    if via.transport != flow.transport.value:
        yield "RFC 3261 18.1.1", f"{name} came by {flow.transport.value} and its Via says {via.transport}"
    if flow.transport is Transport.UDP and not via.wants_rport:
        yield "RFC 3581 3", f"{name} has no rport"
    if "Max-Forwards" not in request.headers:
        yield "RFC 3261 8.1.1.6", f"{name} has no Max-Forwards"
    if not envelope.from_.tag:
        yield "RFC 3261 8.1.1.3", f"{name} has no From tag"
    if name in _NEEDS_CONTACT and (envelope.contact is None or not isinstance(envelope.contact.uri, SipUri)):
        yield "RFC 3261 8.1.1.8", f"{name} has no Contact with a SIP URI"
    if flow.transport is Transport.UDP and data_bytes > LARGEST_UDP_REQUEST_BYTES:
        yield "RFC 3261 18.1.1", f"{name} has {data_bytes} bytes, too many for UDP"
    if name in ("CANCEL", "ACK") and ("Require" in request.headers or "Proxy-Require" in request.headers):
        yield "RFC 3261 8.2.2.3", f"{name} has Require"
    if name == "CANCEL" and ("Authorization" in request.headers or "Proxy-Authorization" in request.headers):
        yield "RFC 3261 22.1", "CANCEL has credentials"
    yield from _body_breaches(request, name)
    if name == "REFER":
        yield from _refer_breaches(request)


def dialog_breaches(dialog: Dialog, request: Request, envelope: Envelope) -> Iterator[Breach]:
    """What is wrong with a request of the other side within a dialog (RFC 3261 section 12.2.1.1)."""
    known, number = dialog.remote_sequence, envelope.cseq.number
    if request.method == "ACK":
        if known is not None and number > known:
            yield "RFC 3261 12.2.1.1", "ACK has a CSeq number of its own"
    elif known is not None and number != known + 1:
        yield "RFC 3261 12.2.1.1", f"CSeq goes from {known} to {number} with {request.method}"
    if request.uri != dialog.contact.strip("<>"):
        yield "RFC 3261 12.2.1.1", f"{request.method} goes to {request.uri}, not to our Contact {dialog.contact}"
    if tuple(str(route) for route in envelope.routes) != tuple(reversed(dialog.routes)):
        yield "RFC 3261 12.2.1.1", f"{request.method} does not follow the route set"


def _refer_breaches(request: Request) -> Iterator[Breach]:
    values = request.headers.all("Refer-To")
    if len(values) != 1:
        yield "RFC 3515 2.4.1", "REFER needs exactly one Refer-To"
        return
    try:
        parse_address(values[0])
    except HeaderError as error:
        yield "RFC 3515 2.1", f"Refer-To cannot be read: {error}"


def _body_breaches(message: Request | Response, name: str) -> Iterator[Breach]:
    if message.body and "Content-Type" not in message.headers:
        yield "RFC 3261 20.15", f"{name} has a body without Content-Type"
    if not message.body and "Content-Type" in message.headers:
        yield "RFC 3261 20.15", f"{name} has Content-Type without a body"


def cancel_breaches(cancel: Request, invite: Request) -> Iterator[Breach]:
    """What is wrong with a CANCEL of this INVITE (RFC 3261 section 9.1)."""
    for field in ("Call-ID", "To", "From", "Route"):
        if cancel.headers.all(field) != invite.headers.all(field):
            yield "RFC 3261 9.1", f"CANCEL changes {field}"
    if cancel.uri != invite.uri:
        yield "RFC 3261 9.1", "CANCEL changes the Request-URI"
    if cancel.headers.get("Via") != invite.headers.get("Via"):
        yield "RFC 3261 9.1", "CANCEL changes Via"
