"""Who has answered: verdicts of carrier and agent in any order come to one decision."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.machine import (
    END_WAIT_S,
    MAX_VERDICTS,
    MAX_WORD_CHARS,
    Decision,
    MachineAction,
    MachineJudge,
    MachineKind,
    MachineOptions,
    MachineSource,
    Verdict,
)

CONTINUE, HANG_UP, LEAVE = MachineAction.CONTINUE, MachineAction.HANG_UP, MachineAction.LEAVE_MESSAGE
HUMAN, MACHINE, FAX, UNKNOWN = MachineKind.HUMAN, MachineKind.MACHINE, MachineKind.FAX, MachineKind.UNKNOWN
CARRIER, AGENT = MachineSource.CARRIER, MachineSource.AGENT


def judge(action: MachineAction = HANG_UP, *, awaits_end: bool = False) -> MachineJudge:
    return MachineJudge(MachineOptions(action, "Please call back.", awaits_end))


# --- one verdict ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", MachineAction)
@pytest.mark.parametrize(
    ("word", "ready"),
    [
        ("machine", False),
        ("machine_start", False),
        ("machine_end_beep", True),
        ("machine_end_silence", True),
        ("machine_end_other", True),
        ("beep_start", True),
    ],
)
def test_the_carrier_says_machine(action: MachineAction, word: str, ready: bool) -> None:
    assert judge(action).carrier(word, 1.0) == Decision(action, MACHINE, (CARRIER,), ready)


@pytest.mark.parametrize("action", MachineAction)
def test_the_agent_says_machine(action: MachineAction) -> None:
    assert judge(action).agent("It asked me to leave a message.", 1.0) == Decision(action, MACHINE, (AGENT,))


@pytest.mark.parametrize(("action", "done"), [(CONTINUE, CONTINUE), (HANG_UP, HANG_UP), (LEAVE, HANG_UP)])
def test_nobody_leaves_a_message_with_a_fax(action: MachineAction, done: MachineAction) -> None:
    assert judge(action, awaits_end=True).carrier("fax", 1.0) == Decision(done, FAX, (CARRIER,))


def test_a_human_is_said_once() -> None:
    who = judge()
    assert who.carrier("human", 1.0) == Decision(CONTINUE, HUMAN, (CARRIER,))
    assert who.carrier("human", 2.0) is None


@pytest.mark.parametrize("word", ["unknown", "", "MACHINE", "human ", "x" * 1000])
def test_what_nobody_knows_is_kept_and_changes_nothing(word: str) -> None:
    who = judge()
    assert who.carrier(word, 1.0) is None
    assert who.verdicts == [Verdict(CARRIER, UNKNOWN, word[:MAX_WORD_CHARS])]
    assert who.next_timer() == math.inf


# --- both ----------------------------------------------------------------------------------------------------


def test_the_first_decides_and_the_second_is_kept() -> None:
    who = judge()
    assert who.agent("a mailbox", 1.0) == Decision(HANG_UP, MACHINE, (AGENT,))
    assert who.carrier("machine_start", 2.0) is None
    assert who.carrier("human", 3.0) is None
    assert who.agent("again", 4.0) is None
    assert who.verdicts == [
        Verdict(AGENT, MACHINE, "a mailbox"),
        Verdict(CARRIER, MACHINE, "machine_start"),
        Verdict(CARRIER, HUMAN, "human"),
        Verdict(AGENT, MACHINE, "again"),
    ]


@pytest.mark.parametrize("word", ["human", "unknown"])
def test_the_agent_may_know_better(word: str) -> None:
    who = judge(LEAVE, awaits_end=True)
    who.carrier(word, 1.0)
    assert who.agent("a mailbox after all", 5.0) == Decision(LEAVE, MACHINE, (AGENT,))


def test_the_carrier_may_correct_itself() -> None:
    who = judge()
    who.carrier("human", 1.0)
    assert who.carrier("machine_start", 2.0) == Decision(HANG_UP, MACHINE, (CARRIER,))


def test_verdicts_have_a_bound() -> None:
    who = judge(CONTINUE)
    for number in range(100):
        who.carrier(f"word {number}", 1.0)
    assert len(who.verdicts) == MAX_VERDICTS
    assert who.agent("a machine", 2.0) == Decision(CONTINUE, MACHINE, (AGENT,))


# --- the beep ------------------------------------------------------------------------------------------------


def test_a_message_waits_for_the_end_of_the_greeting() -> None:
    who = judge(LEAVE, awaits_end=True)
    assert who.carrier("machine_start", 10.0) is None
    assert who.next_timer() == 10.0 + END_WAIT_S
    assert who.agent("a mailbox", 12.0) is None
    assert who.carrier("machine", 13.0) is None
    assert who.carrier("machine_end_beep", 15.0) == Decision(LEAVE, MACHINE, (CARRIER, AGENT), ready=True)
    assert (who.next_timer(), who.handle_timer(99.0)) == (math.inf, None)


def test_it_waits_after_the_agents_word_too() -> None:
    who = judge(LEAVE, awaits_end=True)
    assert who.agent("a mailbox", 10.0) is None
    assert who.carrier("machine_end_silence", 11.0) == Decision(LEAVE, MACHINE, (AGENT, CARRIER), ready=True)


@pytest.mark.parametrize("word", ["unknown", "human", "fax"])
def test_it_waits_no_longer_when_the_carrier_will_not_say(word: str) -> None:
    who = judge(LEAVE, awaits_end=True)
    who.agent("a mailbox", 10.0)
    assert who.carrier(word, 11.0) == Decision(LEAVE, MACHINE, (AGENT,))


def test_it_does_not_wait_for_ever() -> None:
    who = judge(LEAVE, awaits_end=True)
    who.carrier("machine_start", 10.0)
    assert who.handle_timer(10.0 + END_WAIT_S - 0.1) is None
    assert who.handle_timer(10.0 + END_WAIT_S) == Decision(LEAVE, MACHINE, (CARRIER,))
    assert who.carrier("machine_end_beep", 60.0) is None


@pytest.mark.parametrize("action", [CONTINUE, HANG_UP])
def test_only_a_message_waits(action: MachineAction) -> None:
    assert judge(action, awaits_end=True).carrier("machine_start", 1.0) == Decision(action, MACHINE, (CARRIER,))


WORDS = st.sampled_from(["human", "machine", "machine_start", "machine_end_beep", "fax", "unknown", "?"])
STEPS = st.lists(st.tuples(st.sampled_from(["carrier", "agent", "time"]), WORDS, st.floats(0, 20)), max_size=40)


@given(STEPS, st.sampled_from(MachineAction), st.booleans())
def test_whatever_is_said_there_is_one_decision_at_most(
    steps: list[tuple[str, str, float]], action: MachineAction, awaits_end: bool
) -> None:
    who = judge(action, awaits_end=awaits_end)
    decisions: list[Decision] = []
    now = 0.0
    for kind, word, step_s in steps:
        now += step_s
        decision = (
            who.carrier(word, now)
            if kind == "carrier"
            else who.agent(word, now) if kind == "agent" else who.handle_timer(now)
        )  # fmt: skip
        decisions += [decision] if decision else []
    if who.next_timer() < math.inf:
        last = who.handle_timer(who.next_timer())
        assert last is not None
        decisions.append(last)
    final = [decision for decision in decisions if decision.kind is not HUMAN]
    assert len(final) <= 1
    assert len(decisions) - len(final) <= 1
    says_machine = any(
        kind == "agent" or (kind == "carrier" and word not in ("human", "unknown", "?")) for kind, word, _ in steps
    )
    assert bool(final) == says_machine
