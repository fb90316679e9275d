"""What comes after a call: its books are closed, its recording too, and results may come when the caller has gone.

The end itself is written down at once; what becomes known later is added to the record.
"""

from __future__ import annotations

import asyncio
import math
import time
from time import monotonic
from typing import TYPE_CHECKING

from bridge.errors import BridgeError
from bridge.outcome import EndReason, Result
from bridge.server.arrival import let_go
from bridge.server.said_posts import end_posts

if TYPE_CHECKING:
    from bridge.server.session import Session

LATE_RESULTS_S = 30.0
"""How long results are looked for when nobody waits on the line any more: an analysis takes a few seconds."""


def close_books(session: Session, reason: EndReason, detail: str) -> None:
    """The call has ended: its slot, record, counters, flight record and log line."""
    bridge, provider, facts, call = session.bridge, session.spec.name, session.facts, session.call
    loop = asyncio.get_running_loop()
    facts.end, facts.end_detail, facts.ended_at = reason, detail, time.time()
    duration_s = 0.0
    if session.admitted_s != math.inf:
        duration_s = monotonic() - session.admitted_s
        bridge.metrics.calls_active.labels(provider).dec()
        bridge.metrics.call_duration.labels(provider).observe(duration_s)
        bridge.chronicle.ended(session)
        bridge.after(loop.create_task(conclude(session)))
        end_posts(session)
    elif call.info is not None:
        bridge.chronicle.refused(session)
        bridge.after(loop.create_task(let_go(session, call.info)))
    bridge.call_over(session, reason)
    bridge.metrics.call_ended(provider, reason, call.stats, facts.caller_to_agent, facts.agent_to_caller)
    bridge.metrics.turns_over(provider, call.turns)
    if session.flight is not None:
        bridge.after(loop.create_task(bridge.keep_flight(session, reason, detail)))
    log = session.log.info if reason.result is Result.SUCCESS else session.log.warning
    log(
        "call_ended",
        result=reason.result.value,
        reason=reason.reason,
        detail=detail,
        advice=reason.advice,
        duration_s=round(duration_s, 3),
        **{name: value for name, value in call.stats.as_dict().items() if value},
    )


async def conclude(session: Session) -> None:
    """After the end: close the recording, fetch results that nobody waited for, and add both to the record."""
    bridge, facts, call = session.bridge, session.facts, session.call
    if facts.tape is not None and bridge.parts.recorder is not None:
        call.listen(None)
        try:
            facts.recording = await bridge.parts.recorder.finish(session.call_id)
        except (BridgeError, OSError) as error:
            session.log.error("recording_failed", detail=type(error).__name__)
        if facts.recording is not None and facts.recording.size_bytes:
            bridge.chronicle.recorded(session)
        else:  # nothing was written, so there is no audio to tell of
            bridge.chronicle.amended(session)
    if session.spec.takes_results and call.conversation_id and not call.has_results:
        outputs = await bridge.parts.results.fetch(call.conversation_id, LATE_RESULTS_S)
        if outputs:
            call.give_results(outputs, monotonic())
            bridge.chronicle.amended(session)
