"""What becomes of a Vonage call whose media socket is over: its caller's next document, by how the call ended.

Vonage asks whenever the socket was closed from our side, has broken, or could not be opened. So it is asked after every
end of ours, and the answer looks at how the call ended, wherever that was written down:

- well, or the caller was told already, or they are with somebody else: nothing;
- the agent failed for good, or there was no slot, and there is another number: connect it;
- the line broke, or nobody knows what became of it: connect the socket again, once, as a new conversation that is told
  what the first one was about;
- otherwise: an apology in the language of the call, by Vonage's own voice.

A socket's leg that went while we have sent the caller on an errand went for that reason, and nothing follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bridge import outcome
from bridge.calls.resume import PREVIOUS_ID, RESUMED
from bridge.events import CallInfo
from bridge.outcome import Result
from bridge.providers import vonage
from bridge.providers.vonage_ncco import HANG_UP, Ncco, divert
from bridge.server.answer import Connect, answer
from bridge.server.carrier_control import Comeback, ControlError
from bridge.server.service import APOLOGISED, CONVERSATION_ID, DIVERT_TO, LANGUAGE
from bridge.server.vonage_control import apology_document
from bridge.server.vonage_media import AnsweredCall, connect_again, control_of, line_of

if TYPE_CHECKING:
    from bridge.server.service import Bridge
    from bridge.server.session import Session
    from bridge.server.shared_state import CallEnd

END_WAIT_S = 1.0
"""How long it is waited to hear how the call ended: another process may have carried it."""

AGAIN_TTL_S = 3600.0
"""A call is connected again once in so long: one that breaks a second time has a cause that a third try meets too."""

BROKEN = (outcome.CARRIER_LOST, outcome.CARRIER_SILENT, outcome.BUG, outcome.INSTANCE_LOST)
"""Ends that are the line's or ours, and not the agent's: another stream may well work."""


async def after_socket(bridge: Bridge, call: AnsweredCall) -> Ncco:
    """The caller's next document; ``HANG_UP`` where nothing is to follow."""
    info = call.info
    live = _session_of(bridge, info.call_sid)
    if live is not None and live.call.is_waited_for:
        return HANG_UP
    end = await bridge.shared.end_of(info.call_sid, END_WAIT_S)
    if end is None and live is not None and not live.call.is_over:
        live.end(outcome.CARRIER_LOST, "the carrier says that the media socket is gone")
        end = await bridge.shared.end_of(info.call_sid)
    if end is not None and end.extra.get(DIVERT_TO):
        return _divert(bridge, info, end.extra[DIVERT_TO])
    if end is not None and (end.reason.result is Result.SUCCESS or APOLOGISED in end.extra):
        return HANG_UP
    if end is None or end.reason in BROKEN:
        again = await _once_more(bridge, info, end)
        if again:
            return again
    return apology_document(end.extra.get(LANGUAGE, "") if end is not None else bridge.route_for(info, None).language)


async def after_leg_apart(bridge: Bridge, call: AnsweredCall) -> None:
    """The same where the socket has a leg of its own: the caller waits in the conversation and is sent on from here."""
    info, control = call.info, control_of(bridge)
    following = await after_socket(bridge, call)
    live = _session_of(bridge, info.call_sid)
    end = await bridge.shared.end_of(info.call_sid)
    if control is None or live is not None or (end is not None and end.reason is outcome.TRANSFERRED):
        return
    try:
        if following:
            await control.move(line_of(info), following)
        else:
            await control.hang_up(line_of(info))
    except ControlError as error:
        bridge.log.warning("caller_not_moved", call_sid=info.call_sid, fault=error.fault.value, detail=str(error))


def _session_of(bridge: Bridge, call_sid: str) -> Session | None:
    for session in bridge.sessions.values():
        info = session.call.info
        if info is not None and info.provider == vonage.NAME and info.call_sid == call_sid:
            return session
    return None


def _divert(bridge: Bridge, info: CallInfo, target: str) -> Ncco:
    ours = info.caller if info.direction == "outbound" else info.called
    return divert(target, from_number=ours, event_url=f"{bridge.settings.public_base_url}/vonage/events")


async def _once_more(bridge: Bridge, info: CallInfo, end: CallEnd | None) -> Ncco:
    """The document that connects the socket again; empty where that was done before, or there is no room."""
    if not await bridge.shared.first_time(f"stream-again:{info.call_sid}", AGAIN_TTL_S):
        return HANG_UP
    previous = end.extra.get(CONVERSATION_ID, "") if end is not None else ""
    resumed = {RESUMED: "true", PREVIOUS_ID: previous} if previous else {RESUMED: "true"}
    known = msgspec.structs.replace(info, parameters={**info.parameters, **resumed})
    decided = await answer(bridge, known)
    bridge.log.warning("stream_again", call_sid=info.call_sid, after="unknown" if end is None else str(end.reason))
    if not isinstance(decided, Connect):
        return HANG_UP
    return await connect_again(bridge, info, Comeback(decided.token, info.caller, info.called))
