"""Reliable provisional responses to one INVITE of a peer that requires them: one at a time, repeated until its PRACK.

Source: RFC 3262 section 3. Decision: the final response waits for the PRACK, as it must where the provisional one had
a description and may where it had none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bridge.sip.errors import HeaderError
from bridge.sip.headers import Headers
from bridge.sip.ids import new_rseq
from bridge.sip.message import Request, Response
from bridge.sip.timers import NEVER
from bridge.sip.values import MAX_CSEQ, parse_number

if TYPE_CHECKING:
    from bridge.sip.call import SipCall


class ReliableRings:
    """Sends them for one INVITE."""

    def __init__(self, call: SipCall, key: str, cseq: int, *, on_no_prack: Callable[[float], None]) -> None:
        self._call = call
        self._key = key
        self._cseq = cseq
        self._on_no_prack = on_no_prack
        self._rseq = new_rseq(call.core.new_id)
        self._pending: Response | None = None
        self._interval_s = 0.0
        self._ends_at = 0.0
        self._alarm = call.core.set_alarm(NEVER, self._repeat)
        self.has_description = False
        """Whether the one that is pending carries a description."""

    @property
    def is_pending(self) -> bool:
        """Whether a PRACK is awaited."""
        return self._pending is not None

    def send(self, response: Response, now: float) -> None:
        """Send a provisional response reliably, while none is pending."""
        core = self._call.core
        fields = (*response.headers, ("Require", "100rel"), ("RSeq", str(self._rseq)))
        self._pending = Response(response.status, response.reason, Headers(fields), response.body)
        self.has_description = bool(response.body)
        core.layer.respond(self._key, self._pending, now)
        self._interval_s = core.options.timers.t1_s
        self._ends_at = now + core.options.timers.give_up_s
        self._alarm = core.set_alarm(now + self._interval_s, self._repeat)

    def acknowledge(self, prack: Request) -> bool:
        """Whether this PRACK is for the pending one, which is done with then."""
        if self._pending is None or _parse_rack(prack) != (self._rseq, self._cseq, "INVITE"):
            return False
        self.stop()
        self._rseq += 1
        return True

    def stop(self) -> None:
        """Repeat nothing any more."""
        self._pending = None
        self._alarm.call_off()

    def _repeat(self, now: float) -> None:
        assert self._pending is not None  # else the alarm was called off
        if now >= self._ends_at:
            self.stop()
            self._on_no_prack(now)
            return
        core = self._call.core
        core.layer.respond(self._key, self._pending, now)
        self._interval_s *= 2
        self._alarm = core.set_alarm(min(now + self._interval_s, self._ends_at), self._repeat)


def _parse_rack(prack: Request) -> tuple[int, int, str] | None:
    """RSeq, CSeq number and method that a PRACK names; None = it names none that could be ours."""
    items = (prack.headers.get("RAck") or "").split()
    if len(items) != 3:
        return None
    try:
        return parse_number(items[0], MAX_CSEQ), parse_number(items[1], MAX_CSEQ), items[2]
    except HeaderError:
        return None
