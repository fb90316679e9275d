"""Facts fit for JSON: valid texts, bounded documents, masked when that is set."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.webhook_facts import (
    MAX_DEPTH,
    Redaction,
    TransferFacts,
    bridge_facts,
    call_data,
    clean,
    transfer_data,
    utf8,
)
from tests.kit.records import call_record, ended_record, finished_recording, journal_of_everything


def test_facts_of_a_call_with_everything() -> None:
    record = ended_record(
        conversation_ids=["conv_1", "conv_2"],
        recording=finished_recording(),
        journal=journal_of_everything(),
        stats={"interruptions": 2},
    )
    facts = bridge_facts(record, Redaction(record, on=False), 3)
    assert (facts.call_id, facts.conversation_id, facts.transcript_cut) == ("call1", "conv_2", 3)
    assert (facts.turns, facts.interruptions, facts.duration_s) == (2, 2, 30.0)
    assert facts.recording is not None
    assert (facts.recording.format, facts.recording.duration_ms, facts.recording.complete) == ("wav", 30_000, True)


@pytest.mark.parametrize("number", ["sip:alice@example.com", "anonymous", "", "+15550001"])
def test_without_masking_numbers_are_as_the_carrier_wrote_them(number: str) -> None:
    record = call_record(caller=number)
    assert call_data(record, Redaction(record, on=False)).caller == number


def test_with_masking_they_are_not() -> None:
    record = call_record(caller="sip:alice@example.com", detail="alice@example.com is busy: +15550002")
    data = call_data(record, Redaction(record, on=True))
    assert (data.caller, data.called) == ("sip:***ce@example.com", "+***002")
    assert "+15550002" not in data.detail


def test_long_texts_are_cut() -> None:
    record = call_record(detail="x" * 10_000)
    told = TransferFacts(target="y" * 10_000, succeeded=True, detail="z" * 10_000)
    data = transfer_data(record, Redaction(record, on=False), told)
    assert (len(data.detail), len(data.transfer.target), len(data.transfer.detail)) == (500, 500, 500)


def test_lone_surrogates_become_replacement_characters() -> None:
    assert utf8("a\ud800b") == "a?b"
    assert utf8("Zoë") == "Zoë"


def test_what_json_cannot_hold_becomes_null() -> None:
    assert clean({"a": object(), 1: (True, 2.5, "\udfff"), "b": None}) == {"a": None, "1": [True, 2.5, "?"], "b": None}


@pytest.mark.parametrize("make", [lambda inner: [inner], lambda inner: {"a": inner}])
def test_depth_is_bounded(make: Any) -> None:
    deep: Any = "x"
    for _ in range(5_000):
        deep = make(deep)
    assert msgspec.json.encode(clean(deep)).count(b"null") == 1
    assert len(msgspec.json.encode(clean(deep))) < MAX_DEPTH * 10


@given(
    st.recursive(st.text(st.characters(exclude_categories=[])) | st.floats() | st.integers(), st.lists, max_leaves=20)
)
def test_every_document_ends_up_as_json(document: Any) -> None:
    msgspec.json.encode(clean(document)).decode()
