"""The TwiML of the webhooks, character by character."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote_plus
from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twilio.twiml.voice_response import Connect, Dial, Gather, Refer, VoiceResponse

from bridge.errors import LocalError
from bridge.providers import twilio_twiml as twiml
from bridge.providers.twilio_words import Phrase

HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
URL = "wss://bridge.example.com/twilio/media"
FALLBACK = "https://bridge.example.com/twilio/fallback"
STATUS = "https://bridge.example.com/twilio/status"
ACTION = "https://bridge.example.com/twilio/transfer/action?id=t1"
HUMAN = "https://bridge.example.com/twilio/transfer/human?id=t1"
ACCEPT = "https://bridge.example.com/twilio/transfer/accept?id=t1"
CONFERENCE = (
    '<Dial><Conference startConferenceOnEnter="true" endConferenceOnExit="true" beep="false" waitUrl="">'
    "transfer-t1</Conference></Dial>"
)


def plain(element: Element) -> Any:
    """A document as data, so that the order of attributes does not count."""
    return element.tag, dict(element.attrib), element.text or "", [plain(child) for child in element]


def same_as_the_vendors(ours: str, theirs: VoiceResponse) -> bool:
    """Whether the vendor's library would have written the same document."""
    return bool(plain(fromstring(ours.encode())) == plain(fromstring(str(theirs).encode())))


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


# --- a stream with more around it ------------------------------------------------------------------------


def test_keys_are_pressed_before_the_stream_comes_back() -> None:
    ours = twiml.connect_stream(URL, {"token": "t1"}, FALLBACK, status_url=STATUS, play_digits="ww12#")
    assert ours == (
        HEAD + '<Response><Play digits="ww12#" /><Connect>'
        '<Stream url="wss://bridge.example.com/twilio/media" statusCallback="https://bridge.example.com/twilio/status">'
        '<Parameter name="token" value="t1" /></Stream></Connect>'
        '<Redirect method="POST">https://bridge.example.com/twilio/fallback</Redirect></Response>'
    )
    theirs = VoiceResponse()
    theirs.play(digits="ww12#")
    connect = Connect()
    connect.stream(url=URL, status_callback=STATUS).parameter(name="token", value="t1")
    theirs.append(connect)
    theirs.redirect(FALLBACK, method="POST")
    assert same_as_the_vendors(ours, theirs)


# --- to somebody else ------------------------------------------------------------------------------------


def test_a_blind_transfer_to_a_number() -> None:
    ours = twiml.dial_blind(
        "+15550111",
        action_url=ACTION,
        status_url=HUMAN,
        ring_s=30,
        caller_id="+15550100",
        words="Einen Moment, ich verbinde Sie.",
        language="de",
        send_digits="ww12#",
    )
    assert ours == (
        HEAD + '<Response><Say language="de-DE">Einen Moment, ich verbinde Sie.</Say>'
        '<Dial action="https://bridge.example.com/twilio/transfer/action?id=t1" method="POST" timeout="30" '
        'answerOnBridge="true" callerId="+15550100">'
        '<Number statusCallback="https://bridge.example.com/twilio/transfer/human?id=t1" '
        'statusCallbackEvent="answered completed" statusCallbackMethod="POST" sendDigits="ww12#">+15550111</Number>'
        "</Dial></Response>"
    )
    theirs = VoiceResponse()
    theirs.say("Einen Moment, ich verbinde Sie.", language="de-DE")
    dial = Dial(action=ACTION, method="POST", timeout=30, answer_on_bridge=True, caller_id="+15550100")
    dial.number(
        "+15550111",
        status_callback=HUMAN,
        status_callback_event="answered completed",
        status_callback_method="POST",
        send_digits="ww12#",
    )
    theirs.append(dial)
    assert same_as_the_vendors(ours, theirs)


def test_a_blind_transfer_to_a_sip_phone() -> None:
    assert twiml.dial_blind("sip:desk@pbx.example", action_url="/a", status_url="/s", ring_s=1) == (
        HEAD + '<Response><Dial action="/a" method="POST" timeout="5" answerOnBridge="true">'
        '<Sip statusCallback="/s" statusCallbackEvent="answered completed" statusCallbackMethod="POST">'
        "sip:desk@pbx.example</Sip></Dial></Response>"
    )
    with pytest.raises(LocalError, match="^digits can be sent to numbers only$"):
        twiml.dial_blind("SIP:desk@pbx.example", action_url="/a", status_url="/s", ring_s=1, send_digits="1")


@pytest.mark.parametrize(("wanted", "given"), [(-1, 5), (5, 5), (30, 30), (600, 600), (601, 600)])
def test_ringing_times_that_twilio_takes(wanted: int, given: int) -> None:
    assert twiml.ring_seconds(wanted) == given


def test_a_refer() -> None:
    ours = twiml.refer("sip:desk@pbx.example?X-Why=a&b", action_url=ACTION, words="One moment.", language="en")
    assert ours == (
        HEAD + '<Response><Say language="en-US">One moment.</Say>'
        '<Refer action="https://bridge.example.com/twilio/transfer/action?id=t1" method="POST">'
        "<Sip>sip:desk@pbx.example?X-Why=a&amp;b</Sip></Refer></Response>"
    )
    theirs = VoiceResponse()
    theirs.say("One moment.", language="en-US")
    refer = Refer(action=ACTION, method="POST")
    refer.sip("sip:desk@pbx.example?X-Why=a&b")
    theirs.append(refer)
    assert same_as_the_vendors(ours, theirs)


@pytest.mark.parametrize(
    ("target", "sip"), [("sip:a@b", True), ("SIPS:a@b", True), ("+15550100", False), ("sip", False), ("", False)]
)
def test_what_is_a_sip_phone(target: str, sip: bool) -> None:
    assert twiml.is_sip(target) is sip


# --- a human who is told first -----------------------------------------------------------------------------


def test_a_human_without_a_key_to_press_takes_the_caller_by_answering() -> None:
    assert twiml.whisper("Ms Smith wants to cancel.", accept_url=ACCEPT) == (
        HEAD + "<Response><Say>Ms Smith wants to cancel.</Say>"
        '<Redirect method="POST">https://bridge.example.com/twilio/transfer/accept?id=t1</Redirect></Response>'
    )
    assert twiml.whisper("", accept_url="/a") == HEAD + '<Response><Redirect method="POST">/a</Redirect></Response>'


def test_a_human_who_must_press_a_key() -> None:
    ours = twiml.whisper("Frau Schmidt möchte kündigen.", accept_url=ACCEPT, language="de", accept_key="#")
    assert ours == (
        HEAD + '<Response><Gather numDigits="1" timeout="10" finishOnKey="" '
        'action="https://bridge.example.com/twilio/transfer/accept?id=t1" method="POST">'
        '<Say language="de-DE">Frau Schmidt möchte kündigen.</Say>'
        '<Say language="de-DE">Um den Anruf anzunehmen, drücken Sie Raute.</Say></Gather><Hangup /></Response>'
    )
    theirs = VoiceResponse()
    gather = Gather(num_digits=1, timeout=10, finish_on_key="", action=ACCEPT, method="POST")
    gather.say("Frau Schmidt möchte kündigen.", language="de-DE")
    gather.say("Um den Anruf anzunehmen, drücken Sie Raute.", language="de-DE")
    theirs.append(gather)
    theirs.hangup()
    assert same_as_the_vendors(ours, theirs)


def test_both_meet_in_a_conference() -> None:
    ours = twiml.human_joins("t1")
    assert ours == f"{HEAD}<Response>{CONFERENCE}</Response>"
    assert twiml.caller_joins("t1") == ours
    assert twiml.caller_joins("t1", words="Here they are.", language="en-GB") == (
        f'{HEAD}<Response><Say language="en-GB">Here they are.</Say>{CONFERENCE}</Response>'
    )
    theirs = VoiceResponse()
    dial = Dial()
    dial.conference("transfer-t1", start_conference_on_enter=True, end_conference_on_exit=True, beep=False, wait_url="")
    theirs.append(dial)
    assert same_as_the_vendors(ours, theirs)


# --- the end -----------------------------------------------------------------------------------------------


def test_our_sentences_come_in_the_agents_language() -> None:
    assert twiml.phrase_and_hang_up(Phrase.APOLOGY, "nl") == (
        HEAD + '<Response><Say language="nl-NL">Het spijt ons, er is een technisch probleem opgetreden. '
        "Bel later alstublieft nog eens.</Say><Hangup /></Response>"
    )
    assert twiml.phrase_and_hang_up(Phrase.CALLER_GONE) == (
        HEAD
        + '<Response><Say language="en-US">The caller is no longer on the line. Goodbye.</Say><Hangup /></Response>'
    )


# --- lengths and hostile texts -------------------------------------------------------------------------------


def said(document: str) -> str:
    return "".join(element.text or "" for element in fromstring(document.encode()).iter("Say"))


def test_words_are_cut_at_a_word_where_the_document_would_be_too_long() -> None:
    document = twiml.caller_joins("t1", words="good " * 1000)
    assert len(document) <= 3000 + 300
    assert said(document) == ("good " * 600)[:-1]  # 3000 bytes are what a voice takes
    document = twiml.refer("sip:" + "x" * 2000, action_url="/a", words="good " * 1000)
    assert 3990 < len(document) <= 4000
    assert said(document).endswith(" good")


def test_what_must_be_escaped_counts_as_long_as_it_becomes() -> None:
    document = twiml.say_and_hang_up("&" * 1400)
    assert len(document) <= 4000
    assert len(said(document)) == (4000 - len(twiml.say_and_hang_up("x")) + 1) // 5


def test_a_voice_takes_only_so_much_of_any_script() -> None:
    words = said(twiml.whisper("あ" * 2000, accept_url="/a"))
    assert words == "あ" * 500
    assert len(quote_plus(words)) == 4500
    assert said(twiml.whisper("x" * 4000, accept_url="/a")) == "x" * 3000
    assert said(twiml.whisper("é " * 2000, accept_url="/a")) == ("é " * 643)[:-1]


def test_line_ends_are_spaces_in_what_is_said() -> None:
    assert said(twiml.say_and_hang_up("\tOne\r\n  two\x0bthree\n")) == "One two three"


def test_nothing_is_said_where_there_is_nothing_to_say() -> None:
    assert twiml.caller_joins("t1", words=" \n\x00 ", language="de") == twiml.caller_joins("t1")


def test_without_any_room_for_words_the_document_comes_without_them() -> None:
    document = twiml.refer("sip:" + "x" * 5000, action_url="/a", words="good day")
    assert said(document) == ""
    assert len(document) > 5000  # whoever sends it says no


def assert_whole_and_short_enough(words: str, language: str) -> None:
    for document in (
        twiml.dial_blind("+15550111", action_url=ACTION, status_url=HUMAN, ring_s=30, words=words, language=language),
        twiml.refer("sip:a@b", action_url=ACTION, words=words, language=language),
        twiml.caller_joins("t1", words=words, language=language),
        twiml.say_and_hang_up(words, language),
    ):
        fromstring(document.encode())
        assert len(document) <= twiml.MAX_TWIML_CHARS
    fromstring(twiml.whisper(words, accept_url=ACCEPT, language=language, accept_key="1").encode())


def test_hostile_words_leave_documents_whole_and_short_enough() -> None:
    assert_whole_and_short_enough("\x00<&\"'>]]>\ud800\uffff\r\n\t" * 400, "de")


@given(st.text(st.characters(), max_size=40), st.sampled_from([1, 200]), st.sampled_from(["", "de", "xx"]))
@settings(max_examples=40)
def test_whatever_is_said_documents_stay_whole_and_short_enough(words: str, times: int, language: str) -> None:
    assert_whole_and_short_enough(words * times, language)


@pytest.mark.parametrize("text", ["<&\"'>", "\x00\x1f", "\ud800", "]]>"])
def test_whatever_stands_in_targets_and_digits_documents_stay_whole(text: str) -> None:
    for document in (
        twiml.dial(text),
        twiml.dial_blind(text, action_url=ACTION, status_url=HUMAN, ring_s=30, caller_id=text, send_digits=text),
        twiml.refer(text, action_url=ACTION),
        twiml.connect_stream(URL, {"token": text}, FALLBACK, status_url=STATUS, play_digits=text),
    ):
        fromstring(document.encode())
