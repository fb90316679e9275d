"""A caller who is handed on by the operator: by the rules of agents' transfers, and the agent is asked nothing."""

from __future__ import annotations

from bridge.calls.state import State
from bridge.calls.tool_words import NOT_ALLOWED, ToolFailure, tool_failed, transfer_failed
from bridge.leg import TransferKind
from bridge.server.api.ports import ControlResult, TransferWish
from bridge.server.control import CallControl
from bridge.server.transfers import Verdict
from tests.kit.controls import HUMAN, FakeControl, controlled, results, tool_call
from tests.kit.server import until
from tests.kit.sessions import Table

WARM = TransferWish(to=HUMAN, kind="conference", caller_message="One moment.", human_message="A caller.")


async def talking() -> tuple[Table, FakeControl]:
    bridge, control = controlled()
    return await Table(bridge).activate(), control


async def ordered(table: Table, wish: TransferWish) -> ControlResult | str:
    return await CallControl(table.bridge).transfer(table.session.call_id, wish)


def steps_of(table: Table) -> list[str]:
    return [step.event for step in table.session.call.journal.steps if step.event.startswith("operator")]


async def test_a_human_who_accepts_gets_the_caller() -> None:
    table, control = await talking()
    assert await ordered(table, WARM) is ControlResult.DONE
    await until(lambda: "ring" in control.log)
    await table.bridge.transfers.report(control.whisper.transfer_id, Verdict.ACCEPTED)
    await until(lambda: table.session.call.is_over)
    assert table.ends == {"success/transferred": 1}
    assert steps_of(table) == ["operator_transfer", "operator_transfer_done"]
    assert results(table) == [], "the agent has asked for nothing, so it is answered nothing"
    await table.settled()


async def test_when_nobody_takes_the_caller_the_agent_still_has_them() -> None:
    table, control = await talking()
    await ordered(table, WARM)
    await until(lambda: "ring" in control.log)
    await table.bridge.transfers.report(control.whisper.transfer_id, Verdict.BUSY)
    await until(lambda: len(steps_of(table)) == 2)
    assert steps_of(table) == ["operator_transfer", "operator_transfer_failed"]
    assert (table.session.call.state, results(table)) == (State.ACTIVE, [])
    control.log.clear()
    assert await ordered(table, WARM) is ControlResult.DONE, "the line is free again"
    await until(lambda: "ring" in control.log)
    table.hang_up()
    await table.settled()


async def test_the_agent_and_the_operator_do_not_transfer_at_once() -> None:
    table, control = await talking()
    table.session.from_agent(tool_call("transfer_to_number", transfer_number=HUMAN))
    await until(lambda: "ring" in control.log)
    assert await ordered(table, WARM) == tool_failed(ToolFailure.IN_PROGRESS)
    table.hang_up()
    await table.settled()


async def test_only_where_the_list_allows_it_and_a_caller_is_there() -> None:
    table, control = await talking()
    assert await ordered(table, TransferWish(to="+33145678900")) == NOT_ALLOWED
    call_id, control.log[:] = table.session.call_id, []
    table.hang_up()
    await table.settled()
    assert await CallControl(table.bridge).transfer(call_id, WARM) is ControlResult.NOT_LIVE
    assert control.log == []
    assert table.session.call.hand_on({}, 0.0) == transfer_failed(ToolFailure.NOT_NOW)


async def test_it_works_where_agents_may_not_transfer() -> None:
    bridge, control = controlled({"TOOL_NAMES": '{"transfer_to_number": ""}'})
    table = await Table(bridge).activate()
    assert await ordered(table, TransferWish(to=HUMAN, kind=TransferKind.BLIND.value)) is ControlResult.DONE
    await until(lambda: "transfer" in control.log)
    table.hang_up()
    await table.settled()
