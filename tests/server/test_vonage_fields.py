"""The fields of Vonage's webhooks, whatever types they have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.events import CallInfo
from bridge.server.vonage_fields import (
    MAX_TEXT_CHARS,
    VonageReport,
    call_info,
    is_id,
    machine_verdict,
    read_report,
    status_report,
)

LEG = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"


def info(**fields: object) -> CallInfo:
    return call_info(read_report({"uuid": LEG, **fields}))


def test_a_call_that_comes_in() -> None:
    told = {
        "from": "447700900000",
        "to": "447700900001",
        "uuid": LEG,
        "conversation_uuid": "CON-1",
        "region_url": "https://api-eu-3.vonage.com",
        "endpoint_type": "phone",
        "SipHeader_X-Contact-ID": "12",
        "SipHeader_X-Auth-Token": "s3cret",
        "custom_data": '{"a":\n1}',
    }
    assert call_info(read_report(told)) == CallInfo(
        provider="vonage",
        call_sid=LEG,
        stream_id="CON-1",
        caller="+447700900000",
        called="+447700900001",
        control_url="https://api-eu-3.vonage.com",
        parameters={"sip_contact_id": "12", "custom_data": '{"a": 1}'},
    )


@pytest.mark.parametrize(
    ("given_as", "caller"),
    [
        ("447700900000", "+447700900000"),
        (447700900000, "+447700900000"),
        ("+447700900000", "+447700900000"),
        ("1001", "1001"),
        ("sip:ann@pbx.example", "sip:ann@pbx.example"),
        ("Anonymous", "anonymous"),
        ("unknown", "anonymous"),
        ("", "ann"),
        (None, "ann"),
    ],
)
def test_callers(given_as: object, caller: str) -> None:
    assert info(**{"from": given_as, "from_user": "ann"}).caller == caller


def test_an_id_goes_into_addresses() -> None:
    for uuid in ("", "..", "a/b", "a b", "x" * 129, None, ["a"]):
        assert read_report({"uuid": uuid}).uuid == ""
    assert read_report({"call_uuid": LEG}).uuid == LEG
    assert is_id(LEG)
    assert not is_id("a?b")


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("started", "initiated"),
        ("ringing", "ringing"),
        ("answered", "in-progress"),
        ("busy", "busy"),
        ("rejected", "busy"),
        ("unanswered", "no-answer"),
        ("timeout", "no-answer"),
        ("cancelled", "canceled"),
        ("failed", "failed"),
        ("COMPLETED", "completed"),
    ],
)
def test_statuses(status: str, told: str) -> None:
    report = status_report(read_report({"uuid": LEG, "status": status, "sip_code": 404, "price": 0.1}))
    assert report is not None
    assert (report.call_sid, report.status, report.sip_code) == (LEG, told, 404)
    assert report.fields == {"uuid": LEG, "status": status, "sip_code": "404", "price": "0.1"}


def test_what_is_no_status() -> None:
    for status in ("disconnected", "human", "machine", "input", "record", "", "x"):
        assert status_report(read_report({"uuid": LEG, "status": status})) is None
    report = status_report(read_report({"uuid": LEG, "status": "failed", "sip_code": "99999"}))
    assert report is not None
    assert report.sip_code == 0


def test_which_statuses_end_a_leg() -> None:
    ends = {"disconnected", "failed", "unanswered", "busy", "rejected", "timeout", "cancelled", "completed"}
    for status in (*ends, "started", "ringing", "answered", "", "machine"):
        assert VonageReport(status=status).is_gone == (status in ends)


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({"status": "human"}, "human"),
        ({"status": "machine"}, "machine_start"),
        ({"status": "machine", "sub_state": "beep_start"}, "machine_end_beep"),
        ({"status": "machine", "sub_state": "beep_timeout"}, "machine_end_other"),
        ({"status": "machine", "sub_state": "new"}, "machine_start"),
    ],
)
def test_who_answered(fields: dict[str, object], verdict: str) -> None:
    assert machine_verdict(read_report(fields)) == verdict


@pytest.mark.parametrize(
    ("dtmf", "keys"),
    [
        ({"digits": "1", "timed_out": True}, "1"),
        ({"digits": "", "timed_out": True}, ""),
        ({"digits": None}, ""),
        ({}, ""),
        ("12", "12"),
        (7, "7"),
        (True, ""),
        ([1], ""),
        (None, ""),
    ],
)
def test_keys(dtmf: object, keys: str) -> None:
    assert read_report({"dtmf": dtmf}).keys == keys


def test_texts_are_bounded() -> None:
    texts = read_report({"a": "x" * 9000, "b": True, "c": False, "d": {}, "e": None, "f": 1.5}).texts
    assert texts == {"a": "x" * MAX_TEXT_CHARS, "b": "true", "c": "false", "f": "1.5"}


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
_names = st.sampled_from(["uuid", "from", "to", "status", "dtmf", "sub_state", "SipHeader_X-A", "sip_code"]) | st.text()


@given(st.dictionaries(_names, _json, max_size=8))
def test_no_field_is_too_strange(fields: dict[str, object]) -> None:
    report = read_report(fields)
    assert call_info(report).provider == "vonage"
    machine_verdict(report)
    status_report(report)
