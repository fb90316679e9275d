"""What is counted of one call."""

from __future__ import annotations

from bridge.calls.stats import CallStats


def test_a_new_call_has_counted_nothing() -> None:
    counters = CallStats().as_dict()
    assert counters.pop("agent_round_trip_ms") is None
    assert set(counters.values()) == {0}


def test_every_counter_is_there_by_its_name() -> None:
    stats = CallStats(caller_frames=3, heard_ms=20.0, agent_round_trip_ms=61.0)
    stats.marks += 1
    counters = stats.as_dict()
    assert list(counters) == [
        "caller_frames",
        "agent_messages",
        "agent_frames",
        "caller_dropped_ms",
        "upload_dropped_bytes",
        "agent_dropped_ms",
        "agent_flushed_ms",
        "stale_audio_bytes",
        "heard_ms",
        "gaps",
        "interruptions",
        "clears",
        "marks",
        "dtmf",
        "caller_turns",
        "agent_turns",
        "tool_calls",
        "unknown_messages",
        "malformed_messages",
        "agent_pings",
        "agent_round_trip_ms",
    ]
    assert {name: value for name, value in counters.items() if value} == {
        "caller_frames": 3,
        "heard_ms": 20.0,
        "marks": 1,
        "agent_round_trip_ms": 61.0,
    }
