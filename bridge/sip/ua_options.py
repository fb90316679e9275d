"""What a user agent is given: its options, the gate that judges strangers, and the order of an outgoing call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from bridge.auth.sip_digest_client import SipAccount
from bridge.errors import LocalError
from bridge.sip.envelope import Envelope
from bridge.sip.errors import HeaderError, Rejection
from bridge.sip.flow import Announced, Flow, Transport
from bridge.sip.grammar import is_token
from bridge.sip.headers import canonical_name
from bridge.sip.message import Request
from bridge.sip.offer_answer import AudioSession
from bridge.sip.timers import Timers
from bridge.sip.uri import SipUri, Uri, parse_uri

if TYPE_CHECKING:
    from bridge.sip.trunks import Trunk

MAX_ORDER_HEADERS = 32
"""Custom headers of an outgoing call; trunks pass on a handful."""
MAX_ORDER_HEADER_CHARS = 1024
"""Longest value of a custom header: what SBCs commonly take."""

_OWN_HEADERS = frozenset(
    {
        "Accept", "Allow", "Allow-Events", "Authorization", "Call-ID", "Contact", "CSeq", "Event", "Expires", "From",
        "Max-Forwards", "Min-SE", "P-Asserted-Identity", "Proxy-Authorization", "Proxy-Require", "RAck",
        "Record-Route", "Refer-To", "Replaces", "Require", "Route", "RSeq", "Server", "Session-Expires", "Supported",
        "To", "Unsupported", "User-Agent", "Via",
    }
)  # fmt: skip
"""Headers that carry the call: an order cannot set them, and none that begins with ``Content-``."""


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """How this user agent presents itself, and its limits."""

    announced: Mapping[Transport, Announced]
    """For each transport that is served: where peers reach us. No other transport is ever used."""
    user_agent: str = "bridge"
    """Product and version for Server and User-Agent."""
    user: str = "bridge"
    """User part of our Contact."""
    timers: Timers = field(default_factory=Timers)
    retry_after_s: int = 10
    """What a 503 of ours asks for."""
    max_calls: int = 2000
    """Calls at a time, both directions; more are answered 503. A bound on memory, not the operator's limit."""
    max_udp_bytes: int = 1300
    """Longer requests go by TCP where that is served and allowed (RFC 3261 section 18.1.1)."""
    max_setup_s: float = 300.0
    """How long an incoming call may stay unanswered; then 480. Proxies give up after three minutes or more."""
    ring_again_s: float = 60.0
    """A provisional response is repeated so often, lest a proxy gives up (RFC 3261 section 13.3.1.1)."""
    lookup_timeout_s: float = 10.0
    """How long ``NeedTargets`` is waited for."""
    refer_silent_s: float = 10.0
    """How long the first NOTIFY of a transfer is waited for after the 202. It ought to come at once (RFC 3515 section
    2.4.4); some trunks send none at all, and then the transfer counts as taken."""
    refer_timeout_s: float = 60.0
    """How long more news of a transfer are waited for after each NOTIFY."""
    session_expires_s: int = 1800
    """Interval of session timers that we ask for (RFC 4028 section 4)."""
    min_session_expires_s: int = 90
    """Shortest interval that we take; 422 below (RFC 4028 section 5 wants at least 90)."""

    def __post_init__(self) -> None:
        if not self.announced:
            raise LocalError("a user agent needs at least one transport")


@dataclass(frozen=True, slots=True)
class Admit:
    """The request comes from this trunk."""

    trunk: Trunk


@dataclass(frozen=True, slots=True)
class Deny:
    """The request is answered so: 401 with challenges, 403, 404."""

    rejection: Rejection


@dataclass(frozen=True, slots=True)
class Drop:
    """The request is not answered at all."""


Verdict = Admit | Deny | Drop


class Gate(Protocol):
    """Who may begin something here."""

    def judge(self, request: Request, envelope: Envelope, flow: Flow, now: float) -> Verdict:
        """Judge a request outside of dialogs other than ACK and CANCEL, of any method; well-formed and stamped.

        Asked once for each: repeats do not come here, save those of a request that was dropped.
        """
        ...

    def may_answer(self, flow: Flow, now: float) -> bool:
        """Whether this source gets an answer to what cannot be judged: malformed requests (400 and the like) and
        requests of dialogs that are not known here (481). A trunk's must: its calls outlive a restart of ours."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class CallOrder:
    """An outgoing call. Raises ``LocalError``, naming the part, for what would not make a sound INVITE.

    Not shown in logs: it holds numbers, and headers that may be secrets.
    """

    flows: tuple[Flow, ...]
    """Where to try, in order; at least one."""
    request_uri: str
    """SIP URI of the callee at the trunk: ``sip:+15550100@trunk.example;user=phone``."""
    to_uri: str
    from_uri: str
    session: AudioSession
    """Our side of the media, fresh."""
    trunk: Trunk
    from_display: str = ""
    credentials: SipAccount | None = None
    headers: tuple[tuple[str, str], ...] = ()
    """Custom headers."""
    asserted_identity: bool = False
    """Whether ``from_uri`` also stands in P-Asserted-Identity (RFC 3325)."""
    ring_timeout_s: float = 60.0
    """From the first INVITE; then the call is cancelled."""
    max_redirects: int = 2
    """3xx that are followed."""
    follow_any: bool = False
    """Whether a 3xx may lead to hosts other than those of ``flows`` and ``request_uri``."""
    is_transport_fixed: bool = False
    """Whether ``flows`` must be taken as they are: a long INVITE then stays on UDP."""

    def __post_init__(self) -> None:
        if not self.flows:
            raise LocalError("a call order needs at least one flow")
        for name, text in (("request_uri", self.request_uri), ("to_uri", self.to_uri), ("from_uri", self.from_uri)):
            uri = _uri(name, text)
            if name == "request_uri" and not (isinstance(uri, SipUri) and not uri.raw_headers):
                raise LocalError("call order: request_uri is no plain SIP URI")
        if not all(character.isprintable() for character in self.from_display):
            raise LocalError("call order: from_display has a control character")
        if len(self.headers) > MAX_ORDER_HEADERS:
            raise LocalError(f"call order: more than {MAX_ORDER_HEADERS} headers")
        for name, value in self.headers:
            check_custom_header(name, value)


def check_custom_header(name: str, value: str) -> None:
    """Raise ``LocalError`` for a header that an outgoing call may not set, naming it (never its value)."""
    if not is_token(name):
        raise LocalError("a custom header's name is no token")
    canonical = canonical_name(name)
    if canonical in _OWN_HEADERS or canonical.lower().startswith("content-"):
        raise LocalError(f"header {canonical} cannot be set: it carries the call")
    if len(value) > MAX_ORDER_HEADER_CHARS:
        raise LocalError(f"header {canonical}: the value has more than {MAX_ORDER_HEADER_CHARS} characters")
    if any(character < " " or character == "\x7f" or "\ud800" <= character <= "\udfff" for character in value):
        raise LocalError(f"header {canonical}: the value has a line end or another control character")


def _uri(name: str, text: str) -> Uri:
    try:
        return parse_uri(text)
    except HeaderError:
        raise LocalError(f"call order: {name} is no URI") from None
