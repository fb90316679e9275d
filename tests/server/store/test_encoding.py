from __future__ import annotations

import pytest

from bridge.calls.journal import Journal
from bridge.server.store.encoding import ENTRY_BYTES, decode_call, encode_call
from bridge.server.store.retention import KEEP_ALL, Retention
from tests.kit.records import (
    call_record,
    ended_record,
    finished_recording,
    journal_of_everything,
    outbox_event,
)


def test_a_record_comes_back_as_it_was() -> None:
    record = ended_record(
        conversation_ids=["conv_1", "conv_2"],
        variables={"name": "Ann"},
        initiation={"user_id": "u", "extra": {"n": 1}},
        journal=journal_of_everything(),
        recording=finished_recording(),
        events_sent=3,
    )
    row = encode_call(record, (), KEEP_ALL).row
    assert decode_call(row["document"], row["recording"], row["journal"]) == record


def test_the_columns_are_those_of_the_record() -> None:
    row = encode_call(ended_record(conversation_ids=["conv_1", "conv_2"], is_burst=True), (), KEEP_ALL).row
    document, journal = row.pop("document"), row.pop("journal")
    assert row == {
        "id": "call1",
        "instance_id": "instance1",
        "provider": "twilio",
        "direction": "inbound",
        "caller": "+15550001",
        "called": "+15550002",
        "agent_id": "agent_1",
        "call_sid": "CAcall1",
        "conversation_id": "conv_2",
        "state": "ended",
        "result": "success",
        "reason": "caller_hangup",
        "is_burst": True,
        "created_at": 1_700_000_000.25,
        "answered_at": None,
        "ended_at": 1_700_000_030.25,
        "recording": "",
        "has_transcript": False,
    }
    assert journal == b'{"turns":[],"tools":[],"digits":[],"steps":[],"lost":0}'
    assert b'"conversation_ids":["conv_1","conv_2"]' in document


def test_the_document_is_without_journal_and_recording() -> None:
    record = ended_record(journal=journal_of_everything(), recording=finished_recording())
    row = encode_call(record, (), KEEP_ALL).row
    assert b"Ann" not in row["document"]
    assert b"wav" not in row["document"]
    assert row["has_transcript"] is True
    listed = decode_call(row["document"], row["recording"])
    assert listed.journal == Journal()
    assert listed.recording == finished_recording()


def test_what_happens_to_the_record_later_is_not_written() -> None:
    record = call_record(journal=journal_of_everything())
    call = encode_call(record, (), KEEP_ALL)
    record.journal.said("user", "later words", 9.0)
    record.state = "ended"
    record.variables["later"] = 1
    assert b"later" not in call.row["journal"] + call.row["document"]
    assert call.row["state"] == "active"
    assert not call.is_end


def test_with_no_days_for_transcripts_nothing_that_was_said_is_encoded_even_while_the_call_is_on() -> None:
    record = call_record(journal=journal_of_everything())
    for retention in (Retention(transcripts_days=0), Retention(records_days=0)):
        row = encode_call(record, (), retention).row
        assert row["has_transcript"] is False
        for words in (b"Ann", b"customer 17", b'"digit":"7"'):
            assert words not in row["journal"]
        assert b"find_customer" in row["journal"]
    assert record.journal == journal_of_everything()  # the call's own is untouched


def test_with_no_days_for_records_an_end_keeps_no_row_unless_audio_is_to_be_deleted() -> None:
    nothing = Retention(records_days=0)
    assert encode_call(call_record(), (), nothing).keep
    assert not encode_call(ended_record(), (), nothing).keep
    assert encode_call(ended_record(recording=finished_recording()), (), nothing).keep
    assert encode_call(ended_record(), (), Retention(records_days=1)).keep


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a\0b", "a\N{REPLACEMENT CHARACTER}b"),
        ("a\nb", "a\nb"),
        ("+49 30 \N{LATIN SMALL LETTER U WITH DIAERESIS}", "+49 30 \N{LATIN SMALL LETTER U WITH DIAERESIS}"),
        ("x" * 300, "x" * 255),
    ],
)
def test_texts_are_made_to_fit_their_columns(text: str, wanted: str) -> None:
    record = call_record(call_sid=text, conversation_ids=[text])
    call = encode_call(record, (), KEEP_ALL)
    assert call.row["call_sid"] == call.row["conversation_id"] == wanted
    assert call.conversation_ids == (wanted,)
    assert decode_call(call.row["document"], "").call_sid == text


def test_what_json_cannot_hold_is_replaced() -> None:
    record = ended_record(
        call_sid="CA\ud800",
        initiation={"x": object(), "y": 1},
        variables={"name": "\udfff"},
        journal=journal_of_everything(),
    )
    record.journal.said("user", "\ud800!", 9.0)
    call = encode_call(record, (), KEEP_ALL)
    stored = decode_call(call.row["document"], "", call.row["journal"])
    assert (stored.call_sid, call.row["call_sid"]) == ("CA?", "CA?")
    assert stored.initiation == {"x": None, "y": 1}
    assert stored.variables == {"name": "?"}
    assert stored.journal.turns[-1].text == "?!"
    assert stored.journal.tools == record.journal.tools


def test_events_become_rows_that_are_due_at_once() -> None:
    (row,) = encode_call(call_record(), [outbox_event(audio="a.mp3", audio_format="mp3")], KEEP_ALL).events
    assert row == {
        "id": "evt_call1_call.ended",
        "call_id": "call1",
        "sequence": 1,
        "type": "call.ended",
        "created_at": 1_700_000_000.25,
        "body": b'{"type":"call.ended"}',
        "audio": "a.mp3",
        "audio_format": "mp3",
        "state": "pending",
        "attempts": 0,
        "next_attempt_at": 0.0,
        "claimed_by": "",
        "claimed_until": 0.0,
        "delivered_at": None,
        "last_error": "",
    }


def test_a_newer_version_takes_over_earlier_events_in_order_and_once() -> None:
    old = encode_call(call_record(), [outbox_event(kind="a"), outbox_event(kind="b", sequence=2)], KEEP_ALL)
    new = encode_call(
        ended_record(), [outbox_event(kind="b", sequence=2), outbox_event(kind="c", sequence=3)], KEEP_ALL
    )
    both = new.with_events(old.events)
    assert [event["type"] for event in both.events] == ["a", "b", "c"]
    assert both.row is new.row
    assert both.size_bytes == new.size_bytes + ENTRY_BYTES + len(b'{"type":"a"}')


def test_the_size_grows_with_what_is_held() -> None:
    small = encode_call(call_record(), (), KEEP_ALL).size_bytes
    record = call_record()
    record.journal.said("user", "x" * 10_000, 1.0)
    assert encode_call(record, (), KEEP_ALL).size_bytes > small + 10_000
    assert encode_call(call_record(), [outbox_event(body=b"x" * 10_000)], KEEP_ALL).size_bytes > small + 10_000
