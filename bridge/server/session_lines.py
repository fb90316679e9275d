"""The calls of this process as their carriers' reports find them: by the carrier's id, beside the media stream."""

from __future__ import annotations

from collections.abc import Mapping

from bridge import outcome
from bridge.calls.machine import MachineAction
from bridge.server.session import Session


class SessionLines:
    """See ``bridge.server.outbound_parts.Lines``."""

    def __init__(self, sessions: Mapping[str, Session]) -> None:
        self._sessions = sessions

    def line_over(self, call_sid: str) -> bool:
        """See ``Lines``."""
        session = self._with_line(call_sid)
        if session is not None:
            session.step(
                lambda now: session.call.line_over(outcome.CALLER_HANGUP, "the carrier reports the line's end", now)
            )
        return session is not None

    def machine_detected(self, call_id: str, verdict: str, action: MachineAction, message: str) -> bool:
        """See ``Lines``. Action and message are those with which the call was let in (``bridge.calls.machine``)."""
        session = self._sessions.get(call_id)
        if session is not None:
            session.step(lambda now: session.call.machine_verdict(verdict, now))
        return session is not None

    def remark(self, call_sid: str, event: str) -> bool:
        """See ``Lines``."""
        session = self._with_line(call_sid)
        if session is not None:
            session.note(event)
        return session is not None

    def _with_line(self, call_sid: str) -> Session | None:
        for session in self._sessions.values():
            info = session.call.info
            if info is not None and info.call_sid == call_sid:
                return session
        return None
