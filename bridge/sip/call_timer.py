"""Session timers: calls whose peer is gone end, and calls that go on say so in time.

Theory of operation. Every 2xx to an INVITE or UPDATE may agree on an interval and on who refreshes. We refresh after
half of it, by UPDATE where the peer allows that, else by a re-INVITE that changes nothing. Whoever refreshes, a call
that was not refreshed ends with a BYE shortly before the interval does. We leave refreshing to the peer where it is
open, ask for it in calls of our own, and want nothing in calls whose caller does not.

Source: RFC 4028 sections 5 (Min-SE), 7 (UAC), 8 and 9 (UAS), 10 (who sends BYE when).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.sip.call_reoffer import Reoffer
from bridge.sip.call_sender import Exchange
from bridge.sip.dialog import Dialog
from bridge.sip.envelope import Envelope
from bridge.sip.errors import HeaderError, Rejection
from bridge.sip.grammar import parse_params
from bridge.sip.headers import Headers
from bridge.sip.message import Request, Response
from bridge.sip.option_tags import listed, supports
from bridge.sip.outline import Fields
from bridge.sip.sdp import Direction
from bridge.sip.ua_core import Alarm
from bridge.sip.ua_events import SipEnd
from bridge.sip.values import parse_seconds

if TYPE_CHECKING:
    from bridge.sip.call import SipCall

MARGIN_S = 32.0
"""The BYE goes this long before the end, or a third of the interval where that is less (section 10)."""


AGAIN_S = 10.0
"""A refresh that failed or could not be is tried again after this long."""


class SessionTimer:
    """The session timer of one call, and its refreshes."""

    def __init__(self, call: SipCall) -> None:
        self._call = call
        self._interval_s = 0  # 0 = none agreed
        self._we_refresh = False
        self._minimum_s = 0  # what the peer wants at least (its 422)
        self._peer_allows_update = False
        self._refresh: Alarm | None = None
        self._expiry: Alarm | None = None
        self._is_refreshing = False
        self.reoffer = Reoffer(call)

    # As the one who is asked

    def judge(self, request: Request) -> Rejection | None:
        """422 for an interval that is too short, where the peer understands that (section 9)."""
        minimum = self._call.core.options.min_session_expires_s
        interval = _seconds(request.headers, "Session-Expires")
        if interval is None or interval >= minimum or not supports(request.headers, "timer"):
            return None
        return Rejection(422, "Session Interval Too Small", (("Min-SE", str(minimum)),))

    def answer(self, request: Request, now: float) -> Fields:
        """What our 2xx says, after ``judge``; the interval runs from now on."""
        self._note_allow(request.headers)
        interval = _seconds(request.headers, "Session-Expires")
        if interval is None:
            self._end()  # a 2xx without Session-Expires ends what was agreed on (sections 7.2 and 9)
            return ()
        interval = max(interval, self._call.core.options.min_session_expires_s)
        can_refresh = supports(request.headers, "timer")
        wanted = _refresher(request.headers)
        self._run(interval, now, we_refresh=not can_refresh or wanted == "uas")
        if self._we_refresh:
            return (("Session-Expires", f"{interval};refresher=uas"),)
        return ("Session-Expires", f"{interval};refresher=uac"), ("Require", "timer")

    # As the one who asks

    def request_fields(self) -> Fields:
        """What an INVITE or UPDATE of ours says; a refresh keeps the interval and who refreshes."""
        options = self._call.core.options
        interval = max(self._interval_s or options.session_expires_s, self._minimum_s)
        role = ""
        if self._interval_s:
            role = ";refresher=uac" if self._we_refresh else ";refresher=uas"
        minimum = max(self._minimum_s, options.min_session_expires_s)
        return ("Session-Expires", f"{interval}{role}"), ("Min-SE", str(minimum))

    def was_too_small(self, response: Response) -> bool:
        """Take a 422 (or whatever has no Min-SE); whether the INVITE is worth sending again with a longer interval."""
        minimum = _seconds(response.headers, "Min-SE")
        if minimum is None or minimum <= max(self._minimum_s, self._call.core.options.min_session_expires_s):
            return False
        self._minimum_s = minimum
        return True

    def answered(self, response: Response, now: float) -> None:
        """Take the 2xx to an INVITE or UPDATE of ours."""
        self._note_allow(response.headers)
        interval = _seconds(response.headers, "Session-Expires")
        if interval is None:
            self._end()
            return
        interval = max(interval, self._call.core.options.min_session_expires_s)
        self._run(interval, now, we_refresh=_refresher(response.headers) != "uas")

    def stop(self) -> None:
        """The call is over."""
        self._call_off()
        self.reoffer.stop()

    # Inside

    def _run(self, interval_s: int, now: float, *, we_refresh: bool) -> None:
        self._call_off()
        self._interval_s, self._we_refresh = interval_s, we_refresh
        core = self._call.core
        if we_refresh:
            self._refresh_at(now + interval_s / 2)
        self._expiry = core.set_alarm(now + interval_s - min(MARGIN_S, interval_s / 3), self._expired)

    def _end(self) -> None:
        self._call_off()
        self._interval_s = 0

    def _call_off(self) -> None:
        for alarm in (self._refresh, self._expiry):
            if alarm is not None:
                alarm.call_off()

    def _refresh_at(self, at: float) -> None:
        if self._refresh is not None:
            self._refresh.call_off()
        self._refresh = self._call.core.set_alarm(at, self._refresh_now)

    def _refresh_now(self, now: float) -> None:
        dialog = self._call.dialog
        assert dialog is not None  # no timer runs without an answer
        # Once more if this fails or cannot be now; success sets another time.
        self._refresh_at(now + AGAIN_S)
        if self.reoffer.is_planned or self._is_refreshing:
            return
        if self._peer_allows_update:
            self._update(dialog, now)
        elif dialog.session is not None and not self.reoffer.is_barred(dialog):
            agreement = dialog.session.agreement
            self.reoffer.start(dialog, Direction.SENDRECV if agreement is None else agreement.direction, now)

    def _update(self, dialog: Dialog, now: float) -> None:
        self._is_refreshing = True
        fields = (self._call.core.identity.abilities.supported, *self.request_fields())

        def done(response: Response | None, envelope: Envelope | None, at: float) -> None:
            self._is_refreshing = False
            if response is not None and response.status < 300 and envelope is not None and not self._call.is_over:
                dialog.refresh_target(envelope.contact)
                self.answered(response, at)
            elif response is not None and not self._call.is_over:
                self.was_too_small(response)
                if response.status in (405, 501):
                    self._peer_allows_update = False
                    self._refresh_now(at)

        Exchange(self._call, dialog, "UPDATE", fields=fields, on_final=done).start(now)

    def _expired(self, now: float) -> None:
        self._call.hang_up_for(SipEnd.TIMEOUT, 408, "Session expired", now)

    def _note_allow(self, headers: Headers) -> None:
        if "Allow" in headers:
            self._peer_allows_update = "UPDATE" in listed(headers, "Allow")


def _seconds(headers: Headers, name: str) -> int | None:
    try:
        return parse_seconds(headers.get(name) or "")
    except HeaderError:
        return None


def _refresher(headers: Headers) -> str:
    _, semicolon, params = (headers.get("Session-Expires") or "").partition(";")
    try:
        return (parse_params(semicolon + params).get("refresher") or "").lower()
    except HeaderError:
        return ""
