"""What goes on beside a call and after it: its recording, and results that come when the caller has gone.

The end itself is written down at once; what becomes known later is added to the record.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from bridge.errors import BridgeError

if TYPE_CHECKING:
    from bridge.server.session import Session

LATE_RESULTS_S = 30.0
"""How long results are looked for when nobody waits on the line any more: an analysis takes a few seconds."""


def begin_recording(session: Session) -> None:
    """Record the call if its route says so."""
    recorder, route, downlink = session.bridge.parts.recorder, session.facts.route, session.call.downlink
    if recorder is None or route is None or not route.recording or downlink is None:
        return
    if not session.bridge.settings.retention_audio_days:
        return  # nothing is to be kept
    tape = recorder.start(session.call_id, downlink.media, monotonic())
    session.facts.tape = tape
    session.facts.recording = recorder.recording_of(tape)


def pause_recording(session: Session) -> bool:
    """Write silence from now on, for what must not be kept; False = the call is not being recorded."""
    tape = session.facts.tape
    if tape is None:
        return False
    tape.pause(monotonic())
    session.note("recording_paused")
    return True


def resume_recording(session: Session) -> bool:
    """Record again; False = the call is not being recorded."""
    tape = session.facts.tape
    if tape is None:
        return False
    tape.resume(monotonic())
    session.note("recording_resumed")
    return True


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
