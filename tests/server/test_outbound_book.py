"""The shared facts of placed calls: the first of each kind counts, whoever learns it."""

from __future__ import annotations

import pytest

from bridge.calls.outbound import OutboundCall
from bridge.server.outbound_book import FACTS_TTL_S, OutboundBook, Over
from bridge.server.shared_state import SharedState
from tests.kit.clock import FakeClock

ID = "9f86d081884c7d65"
CALL = OutboundCall(
    call_id=ID,
    provider="twilio",
    to_number="+4930123456",
    from_number="+15551234567",
    agent_id="agent_1",
    created_at=1.0,
    ring_s=60,
)


def book(clock: FakeClock | None = None) -> OutboundBook:
    clock = clock or FakeClock()
    return OutboundBook(SharedState(monotonic=lambda: clock.now))


async def test_a_call_is_known_for_its_time() -> None:
    clock = FakeClock()
    facts = book(clock)
    assert await facts.call(ID) is None
    await facts.enter(CALL)
    assert await facts.call(ID) == CALL
    clock.advance(FACTS_TTL_S + 1)
    assert await facts.call(ID) is None


@pytest.mark.parametrize("call_id", ["", "9F86D081884C7D65", "9f86d081884c7d6", "9f86d081884c7d65\n", "x"])
async def test_what_is_no_id_is_nobodys_call(call_id: str) -> None:
    facts = book()
    await facts.enter(
        OutboundCall(**{name: getattr(CALL, name) for name in CALL.__struct_fields__} | {"call_id": call_id})
    )
    assert await facts.call(call_id) is None


async def test_a_call_of_another_version() -> None:
    shared = SharedState()
    await shared.put(f"outbound:{ID}:call", b'{"id":1}', 60.0)
    assert await OutboundBook(shared).call(ID) is None


async def test_the_first_line_is_the_calls() -> None:
    facts = book()
    assert await facts.line(ID) == ""
    assert await facts.is_line(ID, "CA1")
    assert await facts.is_line(ID, "CA1")
    assert not await facts.is_line(ID, "CA2")
    assert await facts.line(ID, 5.0) == "CA1"


async def test_the_first_token_counts() -> None:
    facts = book()
    assert await facts.token(ID) == ""
    await facts.answer(ID, "token1")
    await facts.answer(ID, "token2")
    assert await facts.token(ID) == "token1"


async def test_an_end_is_written_by_one() -> None:
    facts = book()
    assert await facts.over(ID) is None
    assert await facts.end(ID, Over("line_busy", False))
    assert not await facts.end(ID, Over("no_answer", True))
    assert await facts.over(ID) == Over("line_busy", False)


async def test_an_end_that_was_wrong() -> None:
    facts = book()
    await facts.end(ID, Over("line_busy", False))
    assert not await facts.has_joined(ID)
    await facts.reopen(ID)
    assert await facts.over(ID) is None
    assert await facts.has_joined(ID)


async def test_the_media_came() -> None:
    facts = book()
    await facts.join(ID)
    await facts.join(ID)
    assert await facts.has_joined(ID)


async def test_each_verdict_is_kept_once_and_in_order() -> None:
    facts = book()
    assert await facts.verdicts(ID) == ()
    for verdict in ("machine_start", "machine_end_beep"):
        assert await facts.detect(ID, verdict)
        assert not await facts.detect(ID, verdict)
    assert await facts.verdicts(ID) == ("machine_start", "machine_end_beep")


async def test_verdicts_are_bounded() -> None:
    facts = book()
    assert [await facts.detect(ID, f"v{number}") for number in range(6)] == [True] * 4 + [False] * 2
    assert await facts.verdicts(ID) == ("v0", "v1", "v2", "v3")


async def test_things_that_are_done_once() -> None:
    facts = book()
    assert await facts.first(ID, "hang_up")
    assert not await facts.first(ID, "hang_up")
    assert await facts.first(ID, "other")
