"""What a call asks of its driver besides writing to its sockets: each effect, and who carries it out.

What takes a while becomes a task beside the call and reports back through ``Session.step``.
"""

from __future__ import annotations

import time
from time import monotonic
from typing import TYPE_CHECKING, assert_never

from bridge import outcome
from bridge.calls.effects import (
    AskAdmission,
    BeginTransfer,
    ConnectAgent,
    DigitsTyped,
    Effect,
    FetchResults,
    Finished,
    Heard,
    Note,
    PlayTones,
    RunTool,
    Speak,
    TransferPlanned,
    Words,
)
from bridge.server import handing
from bridge.server.arrival import admit, connect, fetch_results
from bridge.server.carrier_control import ControlError

if TYPE_CHECKING:
    from bridge.leg import CloseSocket
    from bridge.server.session import Session

HANG_UP_WAIT_S = 1.0
"""How long the media socket of an ended call waits for its carrier to have been told; then it is closed, which ends
the call as well, by way of the carrier's fallback."""

ENDS_TO_TELL = (
    outcome.AGENT_HANGUP,
    outcome.MAX_DURATION,
    outcome.OPERATOR_HANGUP,
    outcome.VOICEMAIL,
    outcome.FAX,
)
"""Ends after which the line is hung up. After the others its carrier is to go on: to an apology, to another number."""


def carry_out(session: Session, effect: Effect) -> None:
    """Do what the call asks for."""
    match effect:
        case Note(event, detail):
            _on_note(session, event, detail)
        case Heard(ticket):
            session.side.heard_now(ticket)
        case AskAdmission(info):
            session.side.begin(lambda: admit(session, info))
        case ConnectAgent(info, again):
            owner = session.new_agent_end()
            session.side.begin(lambda: connect(session, info, owner, again=again))
        case FetchResults(conversation_id):
            session.side.begin(lambda: fetch_results(session, conversation_id))
        case Speak():
            session.side.begin(lambda: speak(session, effect))
        case BeginTransfer():
            session.side.begin(lambda: handing.transfer(session, effect))
        case PlayTones():
            session.side.begin(lambda: handing.press(session, effect))
        case RunTool():
            session.side.begin(lambda: handing.run_tool(session, effect))
        case DigitsTyped(digits):
            session.bridge.digits_typed(session, digits)
        case TransferPlanned(target):
            session.bridge.chronicle.transferred(session, target)
        case Finished(reason, detail):
            session.finish(reason, detail)
        case _:
            assert_never(effect)


def _on_note(session: Session, event: str, detail: str) -> None:
    bridge = session.bridge
    if event == "agent_ready":
        session.facts.answered_at = time.time()
        bridge.metrics.agent_connect.observe(monotonic() - session.admitted_s)
        bridge.chronicle.answered(session)
    elif event in ("agent_back", "agent_broke", "agent_given_up", "stream_away", "stream_back"):
        bridge.chronicle.moved(session)
    if event in ("agent_ready", "agent_back"):
        session.log = session.log.bind(conversation_id=session.call.conversation_id)
    if event in RECONNECT_OUTCOMES:
        bridge.metrics.agent_reconnects.labels(RECONNECT_OUTCOMES[event]).inc()
    session.log.info(event, detail=detail)
    if bridge.observer is not None:
        bridge.observer.noted(session, event, detail)


RECONNECT_OUTCOMES = {"agent_broke": "tried", "agent_back": "succeeded"}


async def speak(session: Session, effect: Speak) -> None:
    """Have something said to the caller."""
    downlink, route, speaker = session.call.downlink, session.facts.route, session.bridge.parts.speaker
    speech = None
    if downlink is not None and speaker is not None:
        agent_id = route.agent_id if route is not None else ""
        speech = await speaker.speech(effect.words, effect.text, session.language, agent_id, downlink.media)
    if effect.words is Words.GIVEN and speech:
        session.facts.spoke_to_caller = True
    session.step(lambda now: session.call.give_speech(speech, now))


def wants_hang_up(session: Session) -> bool:
    """Whether the carrier is to be told that the call is over, rather than to go on with it."""
    end = session.call.ended_as
    if end is None or not session.call.ended_by_us or session.call.info is None:
        return False
    told = session.call.apologised and not session.bridge.fallback_of(session)
    return (end in ENDS_TO_TELL or told) and session.bridge.control_of(session.spec.name) is not None


async def hang_up_and_close(session: Session, closing: CloseSocket) -> None:
    """Tell the carrier that the call is over, and close the media socket."""
    control = session.bridge.control_of(session.spec.name)
    assert control is not None
    try:
        await control.hang_up(handing.line_of(session))
    except ControlError as error:
        session.log.warning("hang_up_failed", fault=error.fault.value, detail=str(error))
    finally:
        session.close_carrier(closing)
