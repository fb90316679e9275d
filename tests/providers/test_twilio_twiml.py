"""The TwiML of the webhooks, character by character."""

from __future__ import annotations

from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import LocalError
from bridge.providers import twilio_twiml as twiml

HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
URL = "wss://bridge.example.com/twilio/media"
FALLBACK = "https://bridge.example.com/twilio/fallback"


def test_connect_stream() -> None:
    assert twiml.connect_stream(URL, {"token": "t1", "caller": "+15550100", "called": ""}, FALLBACK) == (
        HEAD + "<Response><Connect>"
        '<Stream url="wss://bridge.example.com/twilio/media">'
        '<Parameter name="token" value="t1" /><Parameter name="caller" value="+15550100" />'
        "</Stream></Connect>"
        '<Redirect method="POST">https://bridge.example.com/twilio/fallback</Redirect></Response>'
    )


def test_connect_stream_without_parameters() -> None:
    assert '<Stream url="wss://bridge.example.com/twilio/media" />' in twiml.connect_stream(URL, {}, FALLBACK)


def test_what_means_something_in_xml_is_escaped() -> None:
    text = twiml.connect_stream(URL, {"caller": """<"&'>"""}, FALLBACK + "?a=1&b=2")
    assert """<Parameter name="caller" value="&lt;&quot;&amp;'&gt;" />""" in text
    assert "fallback?a=1&amp;b=2</Redirect>" in text


def test_what_xml_cannot_carry_is_left_out() -> None:
    value = "a\x00\x1b\n\tb\ud800\udfff\ufffe\uffff\ud7ff\ue000\ufffd\U0001f600"
    text = twiml.connect_stream(URL, {"caller": value}, FALLBACK)
    assert 'value="ab\ud7ff\ue000\ufffd\U0001f600"' in text
    assert "Parameter" not in twiml.connect_stream(URL, {"caller": "\x00"}, FALLBACK)


def test_name_and_value_of_a_parameter_stay_under_500_characters() -> None:
    assert twiml.PARAMETER_MAX_CHARS == 500
    text = twiml.connect_stream(URL, {"caller": "x" * 493}, FALLBACK)
    assert f'name="caller" value="{"x" * 493}"' in text
    text = twiml.connect_stream(URL, {"caller": "x" * 494}, FALLBACK)
    assert f'name="caller" value="{"x" * 493}"' in text


def test_a_parameter_without_room_for_a_value_is_left_out() -> None:
    for length in (499, 500, 600):
        assert "Parameter" not in twiml.connect_stream(URL, {"n" * length: "value"}, FALLBACK)


def test_a_stream_url_cannot_carry_a_query() -> None:
    with pytest.raises(LocalError, match="^a stream URL cannot carry a query; use parameters$"):
        twiml.connect_stream(URL + "?token=t1", {}, FALLBACK)


def test_reject_busy() -> None:
    assert twiml.reject_busy() == HEAD + '<Response><Reject reason="busy" /></Response>'


def test_dial() -> None:
    assert twiml.dial("+4930123456") == HEAD + "<Response><Dial><Number>+4930123456</Number></Dial></Response>"
    assert (
        twiml.dial("sip:a&b@example.com")
        == HEAD + "<Response><Dial><Sip>sip:a&amp;b@example.com</Sip></Dial></Response>"
    )


def test_hang_up() -> None:
    assert twiml.hang_up() == HEAD + "<Response><Hangup /></Response>"


def test_say_and_hang_up() -> None:
    assert twiml.say_and_hang_up("Sorry, <no> luck & \x07bye.") == (
        HEAD + "<Response><Say>Sorry, &lt;no&gt; luck &amp; bye.</Say><Hangup /></Response>"
    )


@given(st.text(st.characters(), max_size=700))
@settings(max_examples=100, deadline=None)
def test_whatever_a_callers_name_holds_the_answer_is_xml(name: str) -> None:
    document = fromstring(twiml.connect_stream(URL, {"caller": name}, FALLBACK).encode())
    for parameter in document.iter("Parameter"):
        assert len(parameter.attrib["name"] + parameter.attrib["value"]) < 500
    fromstring(twiml.say_and_hang_up(name).encode())
