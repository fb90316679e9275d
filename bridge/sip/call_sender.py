"""Requests of ours within a dialog, from the way there to the final response: digest, other ways, ACK to 2xx.

Sources: RFC 3261 sections 12.2.1 (requests in dialogs, 408 and 481 end them), 13.2.2.4 (ACK) and 22 (digest; an ACK
repeats its INVITE's credentials), RFC 3263 section 4.3 (another way when one fails).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bridge.auth.sip_digest_client import ChallengeKind
from bridge.sip.dialog import Dialog
from bridge.sip.envelope import Envelope
from bridge.sip.flow import Flow
from bridge.sip.hops import named_transport
from bridge.sip.ids import new_branch
from bridge.sip.message import Request, Response
from bridge.sip.outline import Fields, Outline
from bridge.sip.ua_core import Alarm

if TYPE_CHECKING:
    from bridge.sip.call import SipCall

OnFinal = Callable[[Response | None, Envelope | None, float], None]
"""Told the final response, or None (both) where none came."""

_CREDENTIALS = ("Authorization", "Proxy-Authorization")


class Ack:
    """The ACK of one 2xx: sent, and sent again for each repeat of that, by each way in turn: nobody tells of an ACK
    that does not arrive but the 2xx that comes again."""

    def __init__(self, call: SipCall, dialog: Dialog, invite: Request, cseq: int) -> None:
        self._call = call
        self._dialog = dialog
        self._cseq = cseq
        self._more = tuple((name, value) for name in _CREDENTIALS for value in invite.headers.all(name))
        self._copies: list[tuple[Request, Flow]] = []  # one for each way, the next to be sent first
        self._is_waiting = False  # for the way to be found

    def send(self, now: float) -> None:
        """Send it, as soon as the way is known."""
        if self._copies:
            copy = self._copies.pop(0)
            self._copies.append(copy)
            self._call.core.layer.send(*copy)
        elif not self._is_waiting:
            self._is_waiting = True
            self._call.find_way(self._dialog, self._send_by, now)

    def _send_by(self, flows: tuple[Flow, ...], now: float) -> None:
        core = self._call.core
        fields = self._dialog.request_fields(self._cseq, "ACK")
        outline = Outline("ACK", self._dialog.request_uri(), fields, self._more, may_grow=False)
        # There is one at least: that of the peer's own messages, if no other.
        for way in core.identity.ways(outline, flows):
            self._copies.append((core.identity.build(outline, way, new_branch(core.new_id)), way))
        self.send(now)


class Exchange:
    """One request of ours in a dialog, with all that it takes to get a final response."""

    def __init__(
        self,
        call: SipCall,
        dialog: Dialog,
        method: str,
        *,
        fields: Fields = (),
        body: bytes = b"",
        content_type: str = "",
        on_final: OnFinal | None = None,
        ends_call: bool = True,
    ) -> None:
        """``ends_call``: whether 408, 481 or no response at all say that the dialog is gone."""
        self._call = call
        self._dialog = dialog
        self._method = method
        self._fields = fields
        self._body = body
        self._content_type = content_type
        self._on_final = on_final
        self._ends_call = ends_call
        self._attempt = 0  # challenges answered
        self._ways: list[Flow] = []
        self._flow: Flow | None = None
        self._key = ""
        self._limit: Alarm | None = None
        self._ack: Ack | None = None
        self._outline = self._outlined()
        self.request: Request | None = None
        """As it was last sent."""

    @property
    def cseq(self) -> int:
        """The number of the request as it was last sent."""
        return self._cseq

    def start(self, now: float) -> None:
        """Send it, as soon as the way is known."""
        self._call.hold(self)
        self._call.find_way(self._dialog, self._try, now)

    def on_response(self, response: Response, envelope: Envelope, flow: Flow, now: float) -> None:
        """See ``ResponseUser``."""
        if response.status < 200:
            if self._method == "INVITE" and self._limit is None:
                # Nobody has to be asked about a new offer; without a limit the transaction would wait for ever.
                core = self._call.core
                self._limit = core.set_alarm(now + core.options.timers.give_up_s, self._cancel)
            return
        if self._ack is not None:  # the 2xx again
            self._ack.send(now)
            return
        if response.status in (401, 407) and self._is_worth_another(response):
            self._attempt += 1
            if self._limit is not None:
                self._limit.call_off()
                self._limit = None
            self._outline = self._outlined()
            self._send(self._flow or flow, now)
            return
        if self._method == "INVITE" and response.status < 300 and self.request is not None:
            self._dialog.refresh_target(envelope.contact)
            self._ack = Ack(self._call, self._dialog, self.request, self._cseq)
            self._ack.send(now)
        self._finish(response, envelope, now)

    def on_no_response(self, *, is_timeout: bool, now: float) -> None:
        """See ``ResponseUser``."""
        if is_timeout:
            self._finish(None, None, now, is_timeout=True)
        else:
            self._try_next(now)

    def _outlined(self) -> Outline:
        self._cseq = self._dialog.next_cseq()
        uri = self._dialog.request_uri()
        fields = self._dialog.request_fields(self._cseq, self._method)
        digest, core = self._call.digest, self._call.core
        credentials = digest.fields(self._method, uri, core.new_id(), self._body) if digest else ()
        return Outline(
            self._method,
            uri,
            fields,
            (*self._fields, *credentials),
            self._body,
            self._content_type,
            is_secure=self._dialog.is_secure,
            may_grow=named_transport(self._dialog.next_hop) is None,
        )

    def _try(self, flows: tuple[Flow, ...], now: float) -> None:
        self._ways = self._call.core.identity.ways(self._outline, flows)
        self._try_next(now)

    def _try_next(self, now: float) -> None:
        if self._ways:
            self._send(self._ways.pop(0), now)
        else:
            self._finish(None, None, now, is_timeout=False)

    def _send(self, flow: Flow, now: float) -> None:
        self._flow = flow
        self._key, self.request = self._call.core.request(self._outline, flow, self, now)

    def _cancel(self, now: float) -> None:
        self._call.core.layer.cancel(self._key, now)

    def _is_worth_another(self, response: Response) -> bool:
        kind = ChallengeKind(response.status)
        digest = self._call.digest
        return digest is not None and digest.challenged(
            kind, response.headers.all(kind.challenge_header), self._attempt
        )

    def _finish(
        self, response: Response | None, envelope: Envelope | None, now: float, *, is_timeout: bool = True
    ) -> None:
        if self._limit is not None:
            self._limit.call_off()
        if self._on_final is not None:
            self._on_final(response, envelope, now)
        if self._ends_call and (response is None or response.status in (408, 481)):
            self._call.lose_peer(response, now, is_timeout=is_timeout)
        self._call.release(self)
