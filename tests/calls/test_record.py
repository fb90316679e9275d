"""The record of a call as JSON."""

from __future__ import annotations

import msgspec
import pytest

from bridge.calls.record import CallRecord, Recording, decode, encode
from bridge.calls.turns import TurnMeter


def a_record() -> CallRecord:
    return CallRecord(id="c1", instance_id="i1", provider="twilio", state="active", created_at=100.0)


def test_it_comes_back_whole() -> None:
    record = a_record()
    record.conversation_ids = ["a", "b"]
    record.journal.said("agent", "Hello", 0.1)
    record.recording = Recording(location="c1.wav", format="wav", pauses=[(1.0, 2.0)])
    assert decode(encode(record)) == record


def test_its_turns_come_back() -> None:
    record, meter = a_record(), TurnMeter()
    meter.caller_said(1.0)
    meter.agent_audio(1.5)
    meter.sent(1.6)
    meter.end(3.0)
    record.turns, record.turn_summary = meter.turns, meter.summary()
    assert decode(encode(record)) == record


def test_a_record_of_an_older_version() -> None:
    text = b'{"id":"c1","instance_id":"i1","provider":"twilio","state":"active","created_at":100.0}'
    assert decode(text) == a_record()
    assert (decode(text).turns, decode(text).turn_summary) == ([], None)


def test_what_is_derived() -> None:
    record = a_record()
    assert (record.conversation_id, record.duration_s) == ("", 0.0)
    record.conversation_ids, record.ended_at = ["a", "b"], 99.0
    assert (record.conversation_id, record.duration_s) == ("b", 0.0)
    record.ended_at = 102.5
    assert record.duration_s == 2.5


def test_two_records_share_no_journal() -> None:
    first, second = a_record(), a_record()
    first.journal.said("user", "x", 0.0)
    assert second.journal.turns == []


def test_what_is_no_record() -> None:
    with pytest.raises(msgspec.ValidationError, match="missing required field"):
        decode(b"{}")
