"""What happens to SIP messages on their way in and out: they are counted, and kept for the call that they are of.

A call's log (``bridge.sip.message_log``) can be looked at while the call is on, and is written away some seconds after
its end, when the last answers have come.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from bridge.server.metrics_sip import SipMetrics
from bridge.server.sip.line import SipLine
from bridge.sip.flow import Flow, Outgoing
from bridge.sip.message import Message, Request
from bridge.sip.message_log import MessageLogs, SipTrace

SETTLE_S = 6.0
"""After the end: a BYE's answer comes at once or after repeats (0.5, 1, 2 s); whoever looks in earlier sees it live."""
_STATUS_LINE = b"SIP/2.0 "


class TraceSink(Protocol):
    """Where the logs of calls go that are over."""

    def put(self, call_id: str, trace: SipTrace, *, failed: bool) -> None:
        """Keep it under our id of the call, if such calls are kept. Returns at once."""


class MessageTrail:
    """See the module. Used inside the event loop."""

    def __init__(self, metrics: SipMetrics, sink: TraceSink | None, *, unix: Callable[[], float] = time.time) -> None:
        """``sink`` None = messages are counted and not kept."""
        self._metrics = metrics
        self._sink = sink
        self._logs = MessageLogs() if sink is not None else None
        self._unix = unix
        self._settling: dict[str, tuple[asyncio.TimerHandle, Callable[[], None]]] = {}  # by our id
        self._call_ids: dict[str, str] = {}  # of these: Call-IDs

    def received(self, message: Message, flow: Flow) -> None:
        """A message has come."""
        transport = flow.transport.value.lower()
        if isinstance(message, Request):
            self._metrics.request(transport, "in", message.method)
        else:
            self._metrics.response(transport, "in", message.status)
        if self._logs is not None:
            self._logs.note(message, flow, self._unix(), sent=False)

    def sent(self, out: Outgoing) -> None:
        """A message goes out."""
        transport = out.flow.transport.value.lower()
        if out.data.startswith(_STATUS_LINE):
            self._metrics.response(transport, "out", int(out.data[8:11]))
        else:
            self._metrics.request(transport, "out", out.data[: out.data.find(b" ")].decode("ascii", "replace"))
        if self._logs is not None:
            self._logs.note_bytes(out.data, out.flow, self._unix(), sent=True)

    def begin(self, call_id: str) -> None:
        """There is a call with this Call-ID."""
        if self._logs is not None:
            self._logs.claim(call_id)

    def live(self, call_id: str) -> SipTrace | None:
        """The messages so far of a call that is on, by its Call-ID."""
        log = self._logs.find(call_id) if self._logs is not None else None
        return None if log is None else log.trace()

    def settling(self, bridge_call_id: str) -> SipTrace | None:
        """The same of a call that has just ended, by our id."""
        call_id = self._call_ids.get(bridge_call_id)
        return None if call_id is None else self.live(call_id)

    def over(self, line: SipLine, *, failed: bool) -> None:
        """The dialog of this line has ended."""
        if self._logs is None:
            return
        call_id, ours = line.call.call_id, line.bridge_call_id
        if not ours:
            self._logs.take(call_id)
            return

        def keep() -> None:
            self._settling.pop(ours, None)
            self._call_ids.pop(ours, None)
            log = self._logs.take(call_id) if self._logs is not None else None
            if log is not None and self._sink is not None:
                self._sink.put(ours, log.trace(), failed=failed)

        self._call_ids[ours] = call_id
        self._settling[ours] = asyncio.get_running_loop().call_later(SETTLE_S, keep), keep

    async def close(self) -> None:
        """Keep what is still settling."""
        for timer, keep in list(self._settling.values()):
            timer.cancel()
            keep()
