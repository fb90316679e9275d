"""A 2xx of ours to an INVITE, repeated until its ACK comes: on every transport, because a proxy may lose it on the
next hop. Source: RFC 3261 section 13.3.1.4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bridge.sip.envelope import Envelope
from bridge.sip.flow import Flow
from bridge.sip.message import Request, Response

if TYPE_CHECKING:
    from bridge.sip.call import SipCall


class Answer:
    """One 2xx that waits for its ACK."""

    def __init__(
        self,
        call: SipCall,
        response: Response,
        flow: Flow,
        *,
        on_ack: Callable[[Request, Envelope, float], None],
        on_no_ack: Callable[[float], None],
        now: float,
    ) -> None:
        """The response has just been sent for the first time."""
        timers = call.core.options.timers
        self._call = call
        self._response = response
        self._flow = flow
        self._on_ack = on_ack
        self._on_no_ack = on_no_ack
        self._interval_s = timers.t1_s
        self._ends_at = now + timers.give_up_s
        self._alarm = call.core.set_alarm(now + self._interval_s, self._repeat)
        call.hold(self)

    def acknowledge(self, request: Request, envelope: Envelope, now: float) -> None:
        """The ACK has come."""
        self.stop()
        self._on_ack(request, envelope, now)
        self._call.release(self)

    def stop(self) -> None:
        """Repeat it no more; ``release`` is left to whoever stops it."""
        self._alarm.call_off()

    def _repeat(self, now: float) -> None:
        if now >= self._ends_at:
            self._on_no_ack(now)
            self._call.release(self)
            return
        core = self._call.core
        core.layer.send(self._response, self._flow)
        self._interval_s = core.options.timers.next_repeat_s(self._interval_s)
        self._alarm = core.set_alarm(min(now + self._interval_s, self._ends_at), self._repeat)
