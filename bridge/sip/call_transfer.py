"""A blind transfer: our REFER in a call, and what the peer's NOTIFYs say of it.

Theory of operation. IDLE --start--> ASKED --2xx--> FOLLOWED --final sipfrag, end of subscription, or no news for
``refer_timeout_s``--> IDLE. NOTIFYs may overtake the 2xx. Some trunks send none at all (they have ``refer_silent_s``
for the first), or say so with Refer-Sub: false (RFC 4488): then 202 is the last that is known.

What it is not: the end of the call. Whoever asked hangs up after success, or goes on after failure. Sources: RFC 3515
section 2.4, RFC 3420 (message/sipfrag), RFC 3892 (Referred-By), RFC 6665 section 4.1.3 (Subscription-State).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bridge.errors import LocalError
from bridge.sip.call_sender import Exchange
from bridge.sip.dialog import Dialog
from bridge.sip.envelope import Envelope
from bridge.sip.errors import HeaderError
from bridge.sip.grammar import parse_params, readable
from bridge.sip.message import REASONS, Request, Response
from bridge.sip.ua_core import Alarm
from bridge.sip.ua_events import MAX_REASON_CHARS, TransferProgress
from bridge.sip.uri import parse_uri

if TYPE_CHECKING:
    from bridge.sip.call import SipCall

ACCEPTED = 202
NO_RESPONSE = 408
MAX_FRAGMENT_BYTES = 4096
"""Of a NOTIFY's body: only its first line is looked at."""

_STATUS_LINE = re.compile(rb"\s*SIP/2\.0[ \t]+([1-6][0-9]{2})(?:[ \t]+([^\r\n]*))?", re.IGNORECASE)


class Transfer:
    """The transfers of one call, one at a time."""

    def __init__(self, call: SipCall) -> None:
        self._call = call
        self._exchange: Exchange | None = None
        self._last_status = 0
        self._has_news = False  # any NOTIFY
        self._alarm: Alarm | None = None

    @property
    def is_open(self) -> bool:
        """Whether one is under way."""
        return self._exchange is not None

    def start(self, dialog: Dialog, target_uri: str, referred_by: str, now: float) -> None:
        """Send the REFER. Raises ``LocalError``, see ``SipCall.refer``."""
        if self.is_open:
            raise LocalError("a transfer is under way already")
        for text in (target_uri, *([referred_by] if referred_by else [])):
            try:
                parse_uri(text)
            except HeaderError:
                raise LocalError("a transfer needs URIs") from None
        fields = (("Refer-To", f"<{target_uri}>"), *((("Referred-By", f"<{referred_by}>"),) if referred_by else ()))
        self._last_status = 0
        self._has_news = False
        self._exchange = Exchange(self._call, dialog, "REFER", fields=fields, on_final=self._answered)
        self._exchange.start(now)

    def stop(self) -> None:
        """The call is over: tell nothing more."""
        self._exchange = None
        if self._alarm is not None:
            self._alarm.call_off()

    def expects(self, params: str) -> bool:
        """Whether a NOTIFY of event ``refer`` with these parameters belongs to the transfer under way."""
        if self._exchange is None:
            return False
        try:
            number = parse_params(f";{params}" if params else "").get("id")
        except HeaderError:
            return False
        return number is None or number == str(self._exchange.cseq)

    def notified(self, notify: Request, now: float) -> None:
        """Take a NOTIFY that ``expects`` found to belong here."""
        state = (notify.headers.get("Subscription-State") or "").partition(";")[0].strip().lower()
        match = _STATUS_LINE.match(notify.body[:MAX_FRAGMENT_BYTES])
        is_terminated = state == "terminated"
        self._has_news = True
        if match is not None:
            status = self._last_status = int(match[1])
            reason = readable((match[2] or b"").decode("utf-8", "replace"))[:MAX_REASON_CHARS]
            self._tell(status, reason or REASONS.get(status, ""), is_final=status >= 200 or is_terminated)
        elif is_terminated:
            self._tell(self._last_status or ACCEPTED, "Subscription terminated", is_final=True)
        self._wait(now)

    def _answered(self, response: Response | None, _: Envelope | None, now: float) -> None:
        if self._exchange is None:
            return  # a NOTIFY that overtook this said it all, or the call is over
        if response is None:
            self._tell(NO_RESPONSE, REASONS[NO_RESPONSE], is_final=True)
        elif response.status >= 300:
            self._tell(response.status, readable(response.reason)[:MAX_REASON_CHARS], is_final=True)
        else:
            follows = (response.headers.get("Refer-Sub") or "true").partition(";")[0].strip().lower() != "false"
            self._tell(ACCEPTED, REASONS[ACCEPTED], is_final=not follows)
            self._wait(now)

    def _wait(self, now: float) -> None:
        if self._alarm is not None:
            self._alarm.call_off()
        if self._exchange is not None:
            options = self._call.core.options
            wait_s = options.refer_timeout_s if self._has_news else options.refer_silent_s
            self._alarm = self._call.core.set_alarm(now + wait_s, self._no_news)

    def _no_news(self, _: float) -> None:
        self._tell(self._last_status or ACCEPTED, "No news of the transfer", is_final=True)

    def _tell(self, status: int, reason: str, *, is_final: bool) -> None:
        if is_final:
            self.stop()
        self._call.core.emit(TransferProgress(self._call, status, reason, is_final))
