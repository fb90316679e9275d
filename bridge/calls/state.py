"""The life of a call as a table. All transitions live here; ``bridge.calls.call`` only asks.

Theory of operation: a carrier socket opens (WAITING) and offers its call. Admission and the one-time token are
asked (ADMITTING). Where all slots are taken, the caller may be let wait with hold audio (QUEUED). Once let in, the
carrier is accepted at once and the agent is connected beside it while caller audio is held (CONNECTING). With the
agent's formats known, audio flows (ACTIVE). When the connection to the agent breaks, another one is made while the
caller hears a tone (RECONNECTING). When the agent ends the conversation, or is given up, the caller still hears what
is left (DRAINING). Ends come from three sides, in any order and more than once; ENDED swallows all of them, so the
slot is given back exactly once.

That the carrier's stream may be away for a moment, while the carrier plays tones or tries a transfer, is no state: the
agent's side goes on as it is (``bridge.calls.errands``).

The diagram in the README is rendered from this table (``mermaid``), and a test compares them.
"""

from __future__ import annotations

import enum

from bridge.errors import LocalError


class State(enum.Enum):
    """Where a call stands."""

    WAITING = "waiting"
    """The carrier's socket is open; nothing was offered yet."""
    ADMITTING = "admitting"
    """Offered; the slot and the token are being asked for."""
    QUEUED = "queued"
    """Accepted, but all slots are taken: hold audio plays until one is free."""
    CONNECTING = "connecting"
    """Let in; the agent is being connected, caller audio is held."""
    ACTIVE = "active"
    """Audio flows both ways."""
    RECONNECTING = "reconnecting"
    """The connection to the agent broke; another one is being made."""
    DRAINING = "draining"
    """The agent is done; the caller hears the rest."""
    ENDED = "ended"
    """Over; the slot is free."""


class Input(enum.Enum):
    """What can move a call on."""

    OFFERED = "offered"
    """The carrier offered the call."""
    QUEUED = "queued"
    """No slot now, but the caller may wait for one."""
    ADMITTED = "admitted"
    """There is a slot, and the token is genuine."""
    REFUSED = "refused"
    """No slot, or no token."""
    AGENT_READY = "agent ready"
    """The agent's side named its audio formats."""
    AGENT_BROKE = "agent broke"
    """The connection to the agent broke, and another one may be made."""
    AGENT_DONE = "agent done"
    """The agent ended the conversation as agents do."""
    GAVE_UP = "gave up"
    """There is no agent, and none to be had; the caller is told so."""
    PLAYED_OUT = "played out"
    """The caller heard the rest, or had time enough to."""
    FAILED = "failed"
    """The agent's side, the bridge or the operator ended it."""
    LEG_ENDED = "leg ended"
    """The carrier's side ended it."""


_ENDS = {Input.FAILED: State.ENDED, Input.LEG_ENDED: State.ENDED}

TABLE: dict[State, dict[Input, State]] = {
    State.WAITING: {Input.OFFERED: State.ADMITTING, **_ENDS},
    State.ADMITTING: {
        Input.ADMITTED: State.CONNECTING,
        Input.QUEUED: State.QUEUED,
        Input.REFUSED: State.ENDED,
        **_ENDS,
    },
    State.QUEUED: {
        Input.QUEUED: State.QUEUED,
        Input.ADMITTED: State.CONNECTING,
        Input.REFUSED: State.ENDED,
        **_ENDS,
    },
    State.CONNECTING: {Input.AGENT_READY: State.ACTIVE, Input.GAVE_UP: State.DRAINING, **_ENDS},
    State.ACTIVE: {
        Input.AGENT_DONE: State.DRAINING,
        Input.AGENT_BROKE: State.RECONNECTING,
        Input.GAVE_UP: State.DRAINING,
        **_ENDS,
    },
    State.RECONNECTING: {Input.AGENT_READY: State.ACTIVE, Input.GAVE_UP: State.DRAINING, **_ENDS},
    State.DRAINING: {Input.PLAYED_OUT: State.ENDED, **_ENDS},
    State.ENDED: dict.fromkeys(Input, State.ENDED),
}


def advance(state: State, step: Input) -> State:
    """The state after ``step``. Raises ``LocalError`` for a step that this state does not know: a bug of ours."""
    try:
        return TABLE[state][step]
    except KeyError:
        raise LocalError(f"a call that is {state.value} does not take {step.value!r}") from None


def mermaid() -> str:
    """The table as a Mermaid state diagram, for the README."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.WAITING.value}"]
    for state, steps in TABLE.items():
        if state is State.ENDED:
            continue
        by_target: dict[State, list[str]] = {}
        for step, target in steps.items():
            by_target.setdefault(target, []).append(step.value)
        lines += [f"    {state.value} --> {target.value}: {' | '.join(names)}" for target, names in by_target.items()]
    return "\n".join([*lines, f"    {State.ENDED.value} --> [*]"])
