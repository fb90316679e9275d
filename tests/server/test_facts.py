"""The record of a call at every stage: what is in it, and what is empty as long as nobody knows."""

from __future__ import annotations

import math

import pytest

from bridge import outcome
from bridge.calls.record import CallRecord, LatencySummary, Recording, decode, encode
from bridge.calls.routing import Resolved
from bridge.convai.messages import InitiationData
from bridge.server.facts import CallFacts, record_of
from bridge.server.metrics import HopHistogram
from tests.kit import convai, twilio
from tests.kit.calls import Line

BOUNDS_S = (0.001, 0.002, 0.005)
ROUTE = Resolved("agent_7", environment="staging", branch="b1", route="+4930*")


def new_facts() -> CallFacts:
    return CallFacts("instance_1", "twilio", 1_700_000_000.5, HopHistogram(BOUNDS_S), HopHistogram(BOUNDS_S))


def test_before_the_offer_there_is_little_to_say() -> None:
    record = record_of("call_1", Line().call, new_facts())
    assert (record.id, record.instance_id, record.provider) == ("call_1", "instance_1", "twilio")
    assert (record.state, record.created_at) == ("waiting", 1_700_000_000.5)
    assert (record.caller, record.agent_id, record.carrier_format, record.latency) == ("", "", "", {})
    assert (record.answered_at, record.ended_at, record.result, record.recording) == (None, None, "", None)
    assert decode(encode(record)) == record


def test_what_the_carrier_said() -> None:
    line = Line()
    line.carrier(twilio.CONNECTED, twilio.start({"token": "t1", "caller": "+15550100", "called": "+15550199"}))
    record = record_of("call_1", line.call, new_facts())
    assert (record.call_sid, record.stream_id) == (twilio.CALL_SID, twilio.STREAM_SID)
    assert (record.account_id, record.direction) == (twilio.ACCOUNT_SID, "inbound")
    assert (record.caller, record.called) == ("+15550100", "+15550199")
    assert record.state == "admitting"
    assert b"t1" not in encode(record), "a token is nobody's business"


def test_what_was_decided() -> None:
    facts = new_facts()
    facts.route, facts.admission, facts.is_burst, facts.queue_wait_ms = ROUTE, "queued", True, 1500
    record = record_of("call_1", Line().offer().call, facts)
    assert (record.agent_id, record.route, record.environment, record.branch) == (
        "agent_7",
        "+4930*",
        "staging",
        "b1",
    )
    assert (record.admission, record.is_burst, record.queue_wait_ms) == ("queued", True, 1500)


def test_what_the_agent_was_told() -> None:
    facts = new_facts()
    facts.initiation = InitiationData(dynamic_variables={"name": "Ann", "age": 7}, user_id="u1")
    record = record_of("call_1", Line().connect().call, facts)
    assert record.variables == {"name": "Ann", "age": 7}
    assert record.initiation == {"user_id": "u1"}, "only what was given"
    override = {"agent": {"language": "de"}}
    facts.initiation = InitiationData(conversation_config_override=override, custom_llm_extra_body={"x": 1})
    record = record_of("call_1", Line().connect().call, facts)
    assert record.initiation == {"conversation_config_override": override, "custom_llm_extra_body": {"x": 1}}


def test_formats_conversation_and_counters_of_a_call_in_progress() -> None:
    line = Line().activate(output_format="pcm_16000")
    line.carrier(twilio.media(b"\x01" * 160))
    line.agent(convai.user_transcript("hello"))
    record = record_of("call_1", line.call, new_facts())
    assert (record.state, record.conversation_ids) == ("active", [convai.CONVERSATION_ID])
    assert record.carrier_format == "ulaw_8000"
    assert (record.agent_input_format, record.agent_output_format) == ("ulaw_8000", "pcm_16000")
    assert record.stats["caller_frames"] == 1
    assert [turn.text for turn in record.journal.turns] == ["hello"]
    assert record.journal is line.call.journal


def test_lists_of_the_record_are_its_own() -> None:
    line = Line().activate()
    record = record_of("call_1", line.call, new_facts())
    line.call.conversation_ids.append("later")
    line.call.outputs["later"] = "x"
    assert (record.conversation_ids, record.outputs) == ([convai.CONVERSATION_ID], {})


def test_the_end() -> None:
    line = Line().activate()
    line.carrier(twilio.STOP)
    facts = new_facts()
    facts.answered_at, facts.ended_at = 1_700_000_001.0, 1_700_000_031.5
    facts.end, facts.end_detail = outcome.CALLER_HANGUP, "stop"
    facts.recording = Recording(location="a.wav", format="wav")
    facts.events_sent = 3
    record = record_of("call_1", line.call, facts)
    assert (record.state, record.result, record.reason, record.detail) == ("ended", "success", "caller_hangup", "stop")
    assert (record.answered_at, record.ended_at, record.duration_s) == (1_700_000_001.0, 1_700_000_031.5, 31.0)
    assert (record.recording, record.events_sent) == (facts.recording, 3)
    assert record.outputs == {"conversation_id": convai.CONVERSATION_ID}


def test_an_end_is_an_end_although_the_call_could_not_be_moved_there() -> None:
    """After a bug in ending."""
    facts = new_facts()
    facts.end, facts.ended_at = outcome.BUG, 1_700_000_001.0
    assert record_of("call_1", Line().activate().call, facts).state == "ended"


@pytest.mark.parametrize("hop", ["caller_to_agent", "agent_to_caller"])
def test_latencies_are_summed_up(hop: str) -> None:
    facts = new_facts()
    histogram: HopHistogram = getattr(facts, hop)
    for seconds in (0.0005, 0.0005, 0.0015, 0.004):
        histogram.observe(seconds)
    record = record_of("call_1", Line().call, facts)
    assert record.latency == {hop: LatencySummary(count=4, mean_ms=1.625, p50_ms=1.0, p99_ms=5.0)}


def test_every_number_of_a_record_is_fit_for_json() -> None:
    facts = new_facts()
    facts.caller_to_agent.observe(99.0)
    record = record_of("call_1", Line().begin_draining().call, facts)
    assert isinstance(decode(encode(record)), CallRecord)
    assert all(value is None or math.isfinite(value) for value in record.stats.values())
