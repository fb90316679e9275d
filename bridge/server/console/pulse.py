"""What a call looks like at this moment: who speaks, how loud, how soon the agent answered. Nothing per frame.

The caller's level comes from the latest frame that the leg has kept, and whether the caller speaks from the detector
that times turns anyway. Agent audio is kept by nobody once it is out: a glance (``Glance``) is put on its way once a
second, takes the next piece that passes, and steps aside.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.media.format import Encoding, MediaFormat
from bridge.media.g711 import alaw_to_pcm, ulaw_to_pcm
from bridge.server.listening import caller_spoke_since

with warnings.catch_warnings():
    # As in ``bridge.media.g711``: 3.11 and 3.12 announce that 3.13 drops the module, which is provided for.
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

if TYPE_CHECKING:
    from bridge.calls.downlink import Downlink
    from bridge.server.session import Session

MAX_LEVEL = 8
QUIETEST_DBFS, STEP_DB = -54.0, 6.0
"""Level 1 begins here, and each further one 6 dB above; speech on a phone line reaches 3 to 6."""

SAMPLE_BYTES = 320
"""Looked at of one piece: 20 to 40 ms tell how loud it is."""

LOOK_BACK_S = 0.9
"""Who has spoken since the last look, speaks: else a word between two looks would never be seen."""

NOBODY, CALLER, AGENT, BOTH = 0, 1, 2, 3
"""Who speaks."""

_FULL_SCALE = 32768


def level_of(payload: bytes, media: MediaFormat) -> int:
    """Loudness of some audio, from 0 to ``MAX_LEVEL``."""
    payload = payload[:SAMPLE_BYTES]
    if media.encoding is Encoding.ULAW:
        payload = ulaw_to_pcm(payload)
    elif media.encoding is Encoding.ALAW:
        payload = alaw_to_pcm(payload)
    elif len(payload) % 2:
        payload = payload[:-1]
    rms = audioop.rms(payload, 2)
    if rms == 0:
        return 0
    level = (20 * math.log10(rms / _FULL_SCALE) - QUIETEST_DBFS) / STEP_DB
    return min(MAX_LEVEL, max(0, math.floor(level) + 1))


class Glance:
    """Takes the next piece of agent audio of one call; a ``Tap`` that stands in front of the one that is there."""

    __slots__ = ("_behind", "_downlink", "payload")

    def __init__(self, downlink: Downlink) -> None:
        self._downlink = downlink
        self._behind = downlink.tap
        self.payload = b""
        downlink.tap = self

    def caller(self, payload: bytes, now: float) -> None:
        """See ``Tap``; a way that this one does not stand in."""

    def agent(self, payload: bytes, now: float) -> None:
        """See ``Tap``."""
        self.payload = payload
        self.step_aside()
        if self._behind is not None:
            self._behind.agent(payload, now)

    def flush(self, now: float) -> None:
        """See ``Tap``."""
        if self._behind is not None:
            self._behind.flush(now)

    def step_aside(self) -> None:
        """Put back what was there, unless it has been replaced meanwhile."""
        if self._downlink.tap is self:
            self._downlink.tap = self._behind


@dataclass(frozen=True, slots=True)
class Pulse:
    """One call at one moment."""

    state: str
    speaks: int = NOBODY
    caller_level: int = 0
    agent_level: int = 0
    response_ms: int = -1
    """How long the caller waited for the latest answer; -1 = there was none yet."""


class Glances:
    """The glances at one process's calls, by session."""

    def __init__(self) -> None:
        self._glances: dict[Session, Glance] = {}

    def pulse(self, session: Session, now: float) -> Pulse:
        """The call as it is; the level of the agent is that of the piece which passed after the last look."""
        call = session.call
        downlink, state = call.downlink, call.state.value
        turn = call.turns.turns[-1] if call.turns.turns else None
        response_ms = -1 if turn is None or turn.response_ms is None else int(turn.response_ms)
        if downlink is None:
            return Pulse(state, response_ms=response_ms)
        media = downlink.media
        caller = caller_spoke_since(session, now - LOOK_BACK_S)
        agent = not downlink.holding and downlink.playout.unheard_s(now) > 0.0
        glance = self._glances.get(session)
        piece = glance.payload if glance is not None else b""
        if agent and (glance is None or piece):
            self._glances[session] = Glance(downlink)
        return Pulse(
            state,
            (CALLER if caller else NOBODY) | (AGENT if agent else NOBODY),
            level_of(call.leg.last_payload, media) if caller else 0,
            level_of(piece, media) if agent and piece else 0,
            response_ms,
        )

    def forget(self, session: Session) -> None:
        """The call is over."""
        self._glances.pop(session, None)

    def close(self) -> None:
        """Nobody looks any more: out of every way."""
        for glance in self._glances.values():
            glance.step_aside()
        self._glances.clear()
