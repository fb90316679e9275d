"""A request of ours before it is known which way it goes, and how this user agent names itself on each way.

Via and Contact differ between transports, and a branch is used once; so a request that is tried on several ways, or
waits for the look-up of a name, is kept as an ``Outline``. Sources: RFC 3261 sections 8.1.1 and 18.1.1, RFC 3581.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.sip.abilities import Abilities
from bridge.sip.errors import Rejection
from bridge.sip.flow import Flow, Transport
from bridge.sip.headers import Headers
from bridge.sip.message import Request, Response, make_response
from bridge.sip.ua_options import AgentOptions
from bridge.sip.uri import SipUri

Fields = tuple[tuple[str, str], ...]

MAX_FORWARDS = ("Max-Forwards", "70")
SDP_TYPE = "application/sdp"

ABILITIES = Abilities(
    methods=("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "INFO", "UPDATE", "PRACK", "NOTIFY"),
    extensions=("100rel", "timer"),
    content_types=(SDP_TYPE, "multipart/mixed"),
)
"""What is understood. ``100rel`` is never asked for in an INVITE of ours: it brings trunks nothing but round trips."""

INVITE_SUPPORTED = ("Supported", "timer")

_WITH_CONTACT = frozenset({"INVITE", "UPDATE", "REFER"})
"""Requests that need a Contact of ours (RFC 3261 section 8.1.1.8, RFC 3311 section 5.1, RFC 3515 section 2.2)."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A request without Via and Contact."""

    method: str
    uri: str
    fields: Fields
    """Route, From, To, Call-ID and CSeq."""
    more: Fields = ()
    body: bytes = b""
    content_type: str = ""
    is_secure: bool = False
    """Whether Contact must be ``sips``."""
    may_grow: bool = True
    """Whether it may go by TCP where it is too long for UDP."""


class Identity:
    """How this user agent writes its own name and abilities."""

    def __init__(self, options: AgentOptions) -> None:
        self._options = options
        self.server = ("Server", options.user_agent)
        self.user_agent = ("User-Agent", options.user_agent)
        self.abilities = ABILITIES
        self._contacts = {
            (transport, is_secure): self._contact(transport, is_secure)
            for transport in options.announced
            for is_secure in (False, True)
        }

    def serves(self, transport: Transport) -> bool:
        """Whether this transport is used at all."""
        return transport in self._options.announced

    def contact(self, transport: Transport, is_secure: bool) -> tuple[str, str]:
        """Our Contact on a transport that is served."""
        return "Contact", self._contacts[transport, is_secure]

    def build(self, outline: Outline, flow: Flow, branch: str) -> Request:
        """The request for one way, whose transport is served."""
        announced = self._options.announced[flow.transport]
        via = f"SIP/2.0/{flow.transport.value} {announced.host}:{announced.port};branch={branch};rport"
        fields = [("Via", via), MAX_FORWARDS, *outline.fields]
        if outline.method in _WITH_CONTACT:
            fields.append(self.contact(flow.transport, outline.is_secure))
        fields += outline.more
        fields.append(self.user_agent)
        if outline.content_type:
            fields.append(("Content-Type", outline.content_type))
        return Request(outline.method, outline.uri, Headers(fields), outline.body)

    def ways(self, outline: Outline, flows: tuple[Flow, ...]) -> list[Flow]:
        """Those of ``flows`` that are served, in order, and TCP before UDP for what is too long for a datagram."""
        ways: list[Flow] = []
        for flow in flows:
            if not self.serves(flow.transport):
                continue
            if flow.transport is Transport.UDP and outline.may_grow and self._is_too_long(outline, flow):
                ways.append(Flow(Transport.TCP, flow.host, flow.port, server_name=flow.server_name))
            ways.append(flow)
        return ways

    def respond(
        self, request: Request, status: int, to_tag: str, *, reason: str = "", fields: Fields = (), body: bytes = b""
    ) -> Response:
        """A response with our Server header, and SDP if there is a body."""
        more = (*fields, self.server, ("Content-Type", SDP_TYPE)) if body else (*fields, self.server)
        return make_response(request, status, reason, to_tag=to_tag, fields=more, body=body)

    def reject(self, request: Request, rejection: Rejection, to_tag: str) -> Response:
        """The response that says what is wrong with a request."""
        return self.respond(request, rejection.status, to_tag, reason=rejection.reason, fields=rejection.fields)

    def _is_too_long(self, outline: Outline, flow: Flow) -> bool:
        if not self.serves(Transport.TCP):
            return False
        texts = sum(len(name) + len(value) for name, value in (*outline.fields, *outline.more))
        if 2 * (texts + len(outline.uri) + len(outline.body)) < self._options.max_udp_bytes:
            return False  # far below, so that most requests need not be built twice
        branch = "z9hG4bK" + "0" * 32  # stands for one that is not chosen yet
        return len(self.build(outline, flow, branch).encode()) > self._options.max_udp_bytes

    def _contact(self, transport: Transport, is_secure: bool) -> str:
        announced = self._options.announced[transport]
        params = "" if is_secure or transport is Transport.UDP else f";transport={transport.value.lower()}"
        uri = SipUri.of(self._options.user, announced.host, announced.port, params)
        text = str(uri)
        return f"<sips:{text.removeprefix('sip:')}>" if is_secure else f"<{text}>"
