"""Fields of Twilio's webhooks: who calls, which of the caller's own words reach the agent, and status reports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.outbound import StatusReport
from bridge.events import CallInfo
from bridge.server.twilio_fields import call_info, status_report

FORM = {"CallSid": "CA1", "AccountSid": "AC1", "From": "+15557654321", "To": "+15551234567", "Direction": "inbound"}


def variables(**fields: str) -> dict[str, str]:
    return call_info({**FORM, **fields}).parameters


def test_a_plain_call() -> None:
    assert call_info({**FORM, "CallerCity": "BERLIN", "ForwardedFrom": ""}) == CallInfo(
        provider="twilio", call_sid="CA1", account_id="AC1", caller="+15557654321", called="+15551234567"
    )
    assert call_info({}) == CallInfo(provider="twilio", call_sid="")


@pytest.mark.parametrize(
    ("direction", "told"),
    [("inbound", "inbound"), ("outbound-api", "outbound"), ("outbound-dial", "outbound"), ("", "inbound")],
)
def test_directions(direction: str, told: str) -> None:
    assert call_info({**FORM, "Direction": direction}).direction == told


@pytest.mark.parametrize(
    "number", ["anonymous", "Anonymous", "+266696687", "+7378742833", "+2562533", "+8656696", "+86282452253", "unknown"]
)
def test_a_number_that_was_withheld(number: str) -> None:
    assert call_info({**FORM, "From": number}).caller == "anonymous"


@pytest.mark.parametrize("number", ["", "sip:ann@example.sip.twilio.com", "client:ann", "+12345", "911"])
def test_callers_that_are_no_numbers_stay_as_they_are(number: str) -> None:
    assert call_info({**FORM, "From": number}).caller == number


def test_what_twilio_says_besides() -> None:
    said = {
        "ForwardedFrom": "+15550001111",
        "CallerName": "ANN SMITH",
        "StirVerstat": "TN-Validation-Passed-A",
        "SipDomain": "example.sip.twilio.com",
    }
    assert variables(**said) == {
        "forwarded_from": "+15550001111",
        "caller_name": "ANN SMITH",
        "stir_verstat": "TN-Validation-Passed-A",
        "sip_domain": "example.sip.twilio.com",
    }


def test_sip_headers_become_the_vendors_variables() -> None:
    headers = {
        "SipHeader_X-Contact-ID": "12345",
        "SipHeader_x-campaign-id": " spring\r\nsale ",
        "SipHeader_X-Under_Score": "1",
        "SipHeader_User-to-User": "00FA;encoding=hex",
        "SipHeader_X-Empty": "",
        "SipHeader_X-Blank": "  ",
        "SipHeader_X-": "nothing",
        "SipHeader_Via": "SIP/2.0/UDP",
        "SipHeader_X-Bad Name": "1",
        "X-Contact-ID": "no header",
    }
    assert variables(**headers) == {
        "sip_contact_id": "12345",
        "sip_campaign_id": "spring  sale",
        "sip_under_score": "1",
        "sip_user_to_user": "00FA;encoding=hex",
    }


@pytest.mark.parametrize(
    "name",
    [
        "Authorization", "X-Authorization", "X-Auth-Token", "X-API-Key", "X-ApiKey", "X-Secret", "X-Access-Token",
        "X-Password", "X-Passwd", "X-Pwd", "X-Cookie", "X-Credential-Id", "X-Signature", "X-Session-Key", "X-PRIVATE",
    ],
)  # fmt: skip
def test_credentials_do_not_reach_the_agent(name: str) -> None:
    assert variables(**{f"SipHeader_{name}": "s3cret"}) == {}


def test_of_two_headers_with_one_name_the_first_counts() -> None:
    assert variables(**{"SipHeader_X-A-B": "1", "SipHeader_X-a_b": "2"}) == {"sip_a_b": "1"}


def test_headers_are_bounded() -> None:
    many = variables(**{f"SipHeader_X-H{number}": "v" for number in range(100)})
    assert len(many) == 30
    assert variables(**{"SipHeader_X-Long": "v" * 1000}) == {"sip_long": "v" * 500}
    assert variables(**{f"SipHeader_X-{'n' * 62}": "v"}) == {"sip_" + "n" * 62: "v"}
    assert variables(**{f"SipHeader_X-{'n' * 63}": "v"}) == {}


def test_a_header_cannot_pass_for_what_twilio_says() -> None:
    assert variables(**{"SipHeader_X-Domain": "evil.example", "SipDomain": "ours.example"}) == {
        "sip_domain": "ours.example"
    }


@given(st.dictionaries(st.text(max_size=80) | st.text(max_size=30).map("SipHeader_X-".__add__), st.text(max_size=600)))
def test_arbitrary_forms_give_bounded_variables(form: dict[str, str]) -> None:
    info = call_info(form)
    assert len(info.parameters) <= 34
    for name, value in info.parameters.items():
        assert name.isprintable() and len(name) <= 70
        assert value.isprintable() and 0 < len(value) <= 500
    status_report(form)


# --- reports ---------------------------------------------------------------------------------------------


def test_a_report() -> None:
    form = {**FORM, "CallStatus": "busy", "SequenceNumber": "2", "SipResponseCode": "487", "CallerCity": ""}
    assert status_report(form) == StatusReport(
        call_sid="CA1", status="busy", sequence=2, sip_code=487, account_id="AC1", fields=form
    )


@pytest.mark.parametrize("number", ["", "-1", "x", "1.5", "٣", "1" * 10])
def test_numbers_that_are_none(number: str) -> None:
    report = status_report({"SequenceNumber": number, "SipResponseCode": number})
    assert (report.sequence, report.sip_code) == (-1, 0)
