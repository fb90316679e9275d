"""The life of a call: every state against every input, and the picture of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bridge.calls.state import TABLE, Input, State, advance, mermaid
from bridge.errors import LocalError

README = Path(__file__).parents[2] / "README.md"

W, A, Q, C, L, R, D, E = State  # waiting, admitting, queued, connecting, active (live), reconnecting, draining, ended
EXPECTED: dict[State, tuple[State | None, ...]] = {
    #  offered queued admitted refused ready broke done gave-up played failed leg-ended
    W: (A, None, None, None, None, None, None, None, None, E, E),
    A: (None, Q, C, E, None, None, None, None, None, E, E),
    Q: (None, Q, C, E, None, None, None, None, None, E, E),
    C: (None, None, None, None, L, None, None, D, None, E, E),
    L: (None, None, None, None, None, R, D, D, None, E, E),
    R: (None, None, None, None, L, None, None, D, None, E, E),
    D: (None, None, None, None, None, None, None, None, E, E, E),
    E: (E, E, E, E, E, E, E, E, E, E, E),
}


@pytest.mark.parametrize("step", Input)
@pytest.mark.parametrize("state", State)
def test_every_state_against_every_input(state: State, step: Input) -> None:
    target = EXPECTED[state][list(Input).index(step)]
    if target is not None:
        assert advance(state, step) is target
        return
    with pytest.raises(LocalError) as caught:
        advance(state, step)
    assert str(caught.value) == f"a call that is {state.value} does not take {step.value!r}"
    assert caught.value.__suppress_context__


def test_the_table_knows_every_state_and_all_can_be_reached() -> None:
    assert set(TABLE) == set(State)
    reached, grown = {State.WAITING}, True
    while grown:
        targets = {target for state in reached for target in TABLE[state].values()}
        grown = not targets <= reached
        reached |= targets
    assert reached == set(State)


def test_every_state_can_end_from_both_sides() -> None:
    assert all(steps[Input.FAILED] is steps[Input.LEG_ENDED] is State.ENDED for steps in TABLE.values())


def test_the_picture() -> None:
    assert mermaid() == (
        "stateDiagram-v2\n"
        "    [*] --> waiting\n"
        "    waiting --> admitting: offered\n"
        "    waiting --> ended: failed | leg ended\n"
        "    admitting --> connecting: admitted\n"
        "    admitting --> queued: queued\n"
        "    admitting --> ended: refused | failed | leg ended\n"
        "    queued --> queued: queued\n"
        "    queued --> connecting: admitted\n"
        "    queued --> ended: refused | failed | leg ended\n"
        "    connecting --> active: agent ready\n"
        "    connecting --> draining: gave up\n"
        "    connecting --> ended: failed | leg ended\n"
        "    active --> draining: agent done | gave up\n"
        "    active --> reconnecting: agent broke\n"
        "    active --> ended: failed | leg ended\n"
        "    reconnecting --> active: agent ready\n"
        "    reconnecting --> draining: gave up\n"
        "    reconnecting --> ended: failed | leg ended\n"
        "    draining --> ended: played out | failed | leg ended\n"
        "    ended --> [*]"
    )


def test_the_picture_in_the_readme_is_the_tables() -> None:
    blocks = re.findall(r"```mermaid\n(.*?)\n```", README.read_text("utf-8"), re.DOTALL)
    assert mermaid() in blocks
