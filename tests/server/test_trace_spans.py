"""What a call's trace consists of: ids that every process derives, times, and nothing that was said."""

from __future__ import annotations

import re

from bridge.calls.journal import Journal
from bridge.calls.turns import TurnTiming
from bridge.server.trace_spans import MAX_EVENTS, MAX_SPANS, SpanPlan, span_id, spans_of, trace_id, traceparent
from tests.kit.records import CREATED_AT, ended_record


def journal() -> Journal:
    out = Journal()
    out.step("admitting", "", 0.0)
    out.step("connecting", "", 0.25)
    out.step("agent_ready", "agent_1 of +4930123456", 0.75)
    out.step("active", "", 0.75)
    out.said("user", "My name is Ann.", 2.0)
    out.tool_called("transfer_to_number", "t1", {"number": "+4930123456"}, 2.5)
    out.tool_answered("t1", "nobody there", 3.5, is_error=True)
    out.tool_called("slow", "t2", {}, 4.0)
    out.step("ended", "", 30.0)
    return out


def test_ids_are_derived_and_distinct() -> None:
    assert trace_id("call1") == trace_id("call1") != trace_id("call2")
    ids = {span_id("call1"), span_id("call2"), span_id("call1", "turn", "1"), span_id("call1", "turn", "2")}
    assert len(ids) == 4
    assert span_id("call1", "a", "bc") != span_id("call1", "ab", "c")


def test_the_header_is_that_of_w3c() -> None:
    header = traceparent("call1", "personalization", "")
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", header)
    assert header == f"00-{trace_id('call1'):032x}-{span_id('call1', 'personalization', ''):016x}-01"
    assert traceparent("call1", sampled=False).endswith("-00")


def test_the_spans_of_a_call() -> None:
    turns = [
        TurnTiming(at_s=2.0, response_ms=800.0, silence_ms=800.0, owners={"agent": 790.0}),
        TurnTiming(at_s=9.0, silence_ms=3000.0, barged_in=True),
    ]
    call, children = spans_of(ended_record(journal=journal(), turns=turns, stats={"gaps": 2}))
    assert (call.name, call.start_s, call.end_s, call.error) == ("call", CREATED_AT, CREATED_AT + 30, "")
    assert call.attributes["bridge.gaps"] == 2
    assert call.attributes["bridge.reason"] == "caller_hangup"
    assert call.events == ((CREATED_AT + 0.75, "agent_ready"),)
    assert [(s.name, round(s.start_s - CREATED_AT, 3), round(s.end_s - CREATED_AT, 3)) for s in children] == [
        ("admission", 0.0, 0.25),
        ("agent connect", 0.25, 0.75),
        ("conversation", 0.75, 30.0),
        ("turn", 2.0, 2.8),
        ("turn", 9.0, 12.0),
        ("tool", 2.5, 3.5),
        ("tool", 4.0, 30.0),
    ]
    assert children[3].attributes == {
        "bridge.answered": True, "bridge.barged_in": False, "bridge.owner.agent_ms": 790.0
    }  # fmt: skip
    assert [s.error for s in children if s.name == "tool"] == ["it failed", ""]
    assert len({s.span_id for s in children}) == 7


def test_nothing_that_was_said_or_dialled_is_in_it() -> None:
    call, children = spans_of(ended_record(journal=journal(), caller="+4930123456", called="+15550002"))
    text = repr((call, children))
    assert not any(secret in text for secret in ("4930123456", "15550002", "Ann", "nobody there"))


def test_our_faults_and_the_agents_are_errors() -> None:
    def error_of(result: str) -> str:
        return spans_of(ended_record(result=result, reason="agent_lost"))[0].error

    assert [error_of(each) for each in ("server_error", "upstream_error", "client_error")] == [
        "agent_lost", "agent_lost", ""
    ]  # fmt: skip


def test_a_call_that_never_ended_properly_has_no_length() -> None:
    call, _ = spans_of(ended_record(ended_at=None))
    assert call.start_s == call.end_s


def test_a_trace_is_bounded() -> None:
    turns = [TurnTiming(at_s=float(number)) for number in range(MAX_SPANS + 7)]
    long = Journal()
    for number in range(MAX_EVENTS + 1):
        long.step("hold", "", float(number))
    call, children = spans_of(ended_record(turns=turns, journal=long))
    assert len(children) == MAX_SPANS
    assert call.attributes["bridge.spans_left_out"] == 7
    assert len(call.events) <= MAX_EVENTS
    assert isinstance(children[0], SpanPlan)
