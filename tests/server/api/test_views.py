"""From records to answers: nothing of a record is forgotten by accident."""

from __future__ import annotations

import msgspec

from bridge.calls.record import CallRecord, Recording
from bridge.server.api.schemas import CallDetail, RecordingInfo
from bridge.server.api.views import Views
from tests.server.api.api_fakes import record

PLAIN, MASKED = Views(redact_numbers=False), Views(redact_numbers=True)


def test_every_member_of_a_record_is_in_the_answer_or_left_out_on_purpose() -> None:
    ours = {field.name for field in msgspec.structs.fields(CallDetail)}
    left_out = {name for name in CallRecord.__struct_fields__ if name not in ours}
    assert left_out == {
        "journal",  # as transcript, tools, keys, steps
        "events_sent",  # the webhooks' own book-keeping
    }
    assert set(Recording.__struct_fields__) <= set(RecordingInfo.__struct_fields__)


def test_what_is_copied_is_what_was_there() -> None:
    call = record("a1", environment="production", branch="b", route="+1*", outputs={"a": "b"}, detail="d")
    detail = PLAIN.detail(call)
    for name in set(CallRecord.__struct_fields__) - {"journal", "events_sent", "recording"}:
        assert getattr(detail, name) == getattr(call, name), name
    assert detail.transcript == call.journal.turns
    assert (detail.tools, detail.keys, detail.steps) == (call.journal.tools, call.journal.digits, call.journal.steps)


def test_a_reason_that_this_version_does_not_know_has_no_advice() -> None:
    assert PLAIN.detail(record("a1", reason="of_tomorrow")).advice == ""


def test_masking_leaves_the_record_alone() -> None:
    call = record("a1")
    before = msgspec.json.encode(call)
    MASKED.detail(call)
    MASKED.timeline(call)
    assert msgspec.json.encode(call) == before


def test_a_route_for_every_number_is_not_masked() -> None:
    assert MASKED.detail(record("a1", route="*")).route == "*"
    assert MASKED.detail(record("a1", route="+4930123*")).route == "+***123"
