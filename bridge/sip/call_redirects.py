"""Where a 3xx leads an outgoing call: only a few times, never twice to one place, and only where the order permits.

Of several Contacts the one with the highest q is called first, the next one when it fails. 305 and 380 are not
followed: a proxy of somebody else's choice, and another service. Source: RFC 3261 sections 8.1.3.4 and 21.3.
"""

from __future__ import annotations

from dataclasses import replace

from bridge.sip.envelope import Envelope
from bridge.sip.flow import Flow
from bridge.sip.hops import literal_host, named_transport
from bridge.sip.message import Response
from bridge.sip.ua_options import CallOrder
from bridge.sip.uri import SipUri
from bridge.sip.values import Address

FOLLOWED = frozenset({300, 301, 302})
MAX_CONTACTS = 4
"""Of one 3xx that are called; people have a desk, a mobile and a voice mail."""


class Redirects:
    """The redirections of one call."""

    def __init__(self, order: CallOrder, uri: SipUri) -> None:
        self._order = order
        self._home = uri.bare_host
        self._home_port = uri.port
        self._visited = {str(uri)}
        self._left = order.max_redirects
        self._pending: list[SipUri] = []

    def note(self, response: Response, envelope: Envelope) -> None:
        """Take a final response: the Contacts of a 3xx go before what is left of an earlier one's."""
        if response.status not in FOLLOWED or self._left <= 0:
            return
        found: dict[str, SipUri] = {}
        for contact in sorted(envelope.contacts, key=_preference, reverse=True):
            if isinstance(contact.uri, SipUri):
                plain = replace(contact.uri, raw_headers="")
                if str(plain) not in self._visited and (self._order.follow_any or self.is_of_order(plain)):
                    found.setdefault(str(plain), plain)
        if found:
            self._left -= 1
            taken = dict(list(found.items())[:MAX_CONTACTS])
            self._visited.update(taken)
            self._pending[:0] = taken.values()

    def next(self) -> SipUri | None:
        """The Request-URI to call instead, each given once; None = the last response stands."""
        return self._pending.pop(0) if self._pending else None

    def flows(self, uri: SipUri) -> tuple[Flow, ...]:
        """The ways there as far as they are known; none = the name must be looked up."""
        first = self._order.flows[0]
        transport = named_transport(uri) or first.transport
        if (uri.bare_host, uri.port) == (self._home, self._home_port):
            same = tuple(flow for flow in self._order.flows if flow.transport is transport)
            if same:
                return same
        host = literal_host(uri)
        return (Flow(transport, host, uri.port or transport.default_port),) if host else ()

    def is_of_order(self, uri: SipUri) -> bool:
        """Whether a URI is at a host that the order names, and not one of the callee's choice."""
        if uri.bare_host == self._home:
            return True
        host = literal_host(uri) or uri.bare_host
        return any(host in (flow.host, flow.server_name.lower()) for flow in self._order.flows)


def _preference(contact: Address) -> float:
    """The q of a Contact: 0 to 1, and 1 if it has none that can be read."""
    text = contact.params.get("q") or ""
    try:
        return min(1.0, max(0.0, float(text))) if text.isascii() and len(text) <= 5 else 1.0
    except ValueError:
        return 1.0
