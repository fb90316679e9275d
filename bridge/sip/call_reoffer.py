"""A re-INVITE of ours: a new offer in a call that goes on, tried again after glare.

Sources: RFC 3261 section 14.1 (491, and how long to wait), RFC 3264 section 8 (a refused offer changes nothing).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.errors import LocalError
from bridge.sip.bodies import find_sdp
from bridge.sip.call_offers import accept_answer
from bridge.sip.call_sender import Exchange
from bridge.sip.dialog import Dialog
from bridge.sip.envelope import Envelope
from bridge.sip.ids import new_fraction
from bridge.sip.message import Response
from bridge.sip.outline import SDP_TYPE
from bridge.sip.sdp import Direction
from bridge.sip.ua_core import Alarm
from bridge.sip.ua_events import SipEnd

if TYPE_CHECKING:
    from bridge.sip.call import SipCall

MAX_GLARES = 5
"""Re-INVITEs that are tried again because of 491, before the offer is given up."""


class Reoffer:
    """The re-INVITEs of one call, one at a time."""

    def __init__(self, call: SipCall) -> None:
        self._call = call
        self._dialog: Dialog | None = None
        self._direction = Direction.SENDRECV
        self._glares = 0
        self._again: Alarm | None = None

    @property
    def is_open(self) -> bool:
        """Whether one waits for its final response."""
        return self._dialog is not None

    @property
    def is_planned(self) -> bool:
        """Whether one is open, or waits to be tried again."""
        return self.is_open or self._again is not None

    def is_barred(self, dialog: Dialog) -> bool:
        """Whether none may go now: an offer is open, or an INVITE of the peer waits for its ACK (section 14.1)."""
        return self.is_open or bool(self._call.answers) or dialog.session is None or dialog.session.has_offered

    def start(self, dialog: Dialog, direction: Direction, now: float) -> None:
        """Send one. Raises ``LocalError`` while one is open or planned, and before the ACK of the peer's INVITE."""
        if self.is_planned or self.is_barred(dialog):
            raise LocalError("an offer is open already, or the ACK of the peer's INVITE is still to come")
        self._direction = direction
        self._glares = 0
        self._send(dialog, now)

    def stop(self) -> None:
        """The call is over: try nothing again."""
        if self._again is not None:
            self._again.call_off()
            self._again = None

    def _send(self, dialog: Dialog, now: float) -> None:
        call, session = self._call, dialog.session
        assert session is not None  # checked at the start
        self._dialog = dialog
        body = session.offer(self._direction).encode()
        abilities = call.core.identity.abilities
        fields = (abilities.allow, abilities.supported, *call.timer.request_fields())
        exchange = Exchange(
            call, dialog, "INVITE", fields=fields, body=body, content_type=SDP_TYPE, on_final=self._answered
        )
        exchange.start(now)

    def _answered(self, response: Response | None, envelope: Envelope | None, now: float) -> None:
        dialog, self._dialog = self._dialog, None
        if dialog is None or dialog.session is None or self._call.is_over:
            return
        session = dialog.session
        before = session.agreement
        if response is None or envelope is None or response.status >= 300:
            session.withdraw()
            if response is not None:
                self._call.timer.was_too_small(response)
                if response.status == 491 and self._glares < MAX_GLARES:
                    self._glares += 1
                    self._plan(dialog, now)
            return
        self._call.timer.answered(response, now)
        body = find_sdp(response, envelope)
        if body is None or accept_answer(session, body) is None:
            session.withdraw()
            self._call.hang_up_for(SipEnd.NOT_ACCEPTABLE, 0, "No usable answer", now)
        else:
            self._call.media_changed(before)

    def _plan(self, dialog: Dialog, now: float) -> None:
        """Whoever made up the Call-ID waits for longer, so that both never meet for ever (RFC 3261 section 14.1)."""
        fraction = new_fraction(self._call.core.new_id)
        delay_s = 2.1 + 1.9 * fraction if self._call.is_outbound else 2.0 * fraction

        def again(at: float) -> None:
            self._again = None
            if self.is_barred(dialog):
                self._plan(dialog, at)  # the ACK comes, or the call ends
            else:
                self._send(dialog, at)

        self._again = self._call.core.set_alarm(now + delay_s, again)
