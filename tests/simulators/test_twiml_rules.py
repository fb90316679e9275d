"""What Twilio says to the nouns of <Dial>, to <Gather>, <Refer> and to attribute values, read leniently."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.simulators.twiml import Noun, Problem, TwimlError, Verb, read_twiml

URL = "https://pbx.example.com/base/voice"


def read(inner: str) -> tuple[tuple[Verb, ...], tuple[Problem, ...]]:
    return read_twiml(f"<Response>{inner}</Response>", URL)


def test_the_nouns_of_dial_have_their_urls_completed() -> None:
    inner = (
        "<Dial action='after' timeout='20'><Number url='/w?id=1' statusCallback='s' sendDigits='ww1'>+15550123</Number>"
        "<Sip>sip:a@b.example</Sip><Client>ann</Client></Dial>"
    )
    [dial], problems = read(inner)
    assert problems == ()
    assert dial.attributes == {"action": "https://pbx.example.com/base/after", "timeout": "20"}
    assert dial.nouns == (
        Noun(
            "Number",
            {
                "url": "https://pbx.example.com/w?id=1",
                "statusCallback": "https://pbx.example.com/base/s",
                "sendDigits": "ww1",
            },
            "+15550123",
        ),
        Noun("Sip", {}, "sip:a@b.example"),
        Noun("Client", {}, "ann"),
    )


def test_a_number_that_stands_in_dial_itself_is_a_number() -> None:
    [dial], _ = read("<Dial>+15550123</Dial>")
    assert dial.nouns == (Noun("Number", {}, "+15550123"),)


def test_gather_holds_what_is_said_meanwhile() -> None:
    [gather], problems = read(
        "<Gather numDigits='1'><Say>Press 1.</Say><Play>a.wav</Play><Pause/><Dial>1</Dial></Gather>"
    )
    assert [str(verb) for verb in gather.inner] == ["Say Press 1.", "Play https://pbx.example.com/base/a.wav", "Pause"]
    assert problems == (Problem(13320, "<Gather> holds <Dial>"),)


@pytest.mark.parametrize(
    ("inner", "code", "text"),
    [
        ("<Dial timeout='4'>+15550123</Dial>", 13212, "<Dial> timeout is '4'"),
        ("<Dial method='PUT'>+15550123</Dial>", 13210, "<Dial> method is 'PUT'"),
        ("<Dial hangupOnStar='yes'>+15550123</Dial>", 13213, "<Dial> hangupOnStar is 'yes'"),
        ("<Dial timeLimit='0'>+15550123</Dial>", 13216, "<Dial> timeLimit is '0'"),
        ("<Dial><Number sendDigits='x'>+15550123</Number></Dial>", 13222, "<Number> sendDigits is 'x'"),
        ("<Dial><Number method='x'>+15550123</Number></Dial>", 13221, "<Number> method is 'x'"),
        (
            "<Dial><Number statusCallbackEvent='rung'>+15550123</Number></Dial>",
            12200,
            "<Number> statusCallbackEvent is 'rung'",
        ),
        ("<Dial>abc</Dial>", 13223, "<Dial> has a phone number of invalid format"),
        ("<Dial><Sip>desk</Sip></Dial>", 13243, "<Sip> has an invalid SIP URI"),
        ("<Dial><Sip method='x'>sip:a@b</Sip></Dial>", 13241, "<Sip> method is 'x'"),
        ("<Dial><Conference/></Dial>", 13237, "<Conference> has no name, or one of more than 128 characters"),
        ("<Dial><Conference muted='1'>r</Conference></Dial>", 13230, "<Conference> muted is '1'"),
        (
            "<Dial><Conference endConferenceOnExit='1'>r</Conference></Dial>",
            13231,
            "<Conference> endConferenceOnExit is '1'",
        ),
        (
            "<Dial><Conference startConferenceOnEnter='1'>r</Conference></Dial>",
            13232,
            "<Conference> startConferenceOnEnter is '1'",
        ),
        ("<Dial><Conference waitMethod='1'>r</Conference></Dial>", 13234, "<Conference> waitMethod is '1'"),
        ("<Dial><Conference beep='1'>r</Conference></Dial>", 13235, "<Conference> beep is '1'"),
        ("<Dial><Queue>q</Queue><Number>+15550123</Number></Dial>", 13215, "<Dial> holds <Queue>"),
        ("<Dial/>", 13215, "<Dial> has 0 targets"),
        (
            "<Dial><Conference>r</Conference><Number>+15550123</Number></Dial>",
            13215,
            "<Dial> has a <Conference> beside other targets",
        ),
        ("<Gather finishOnKey='12'/>", 13310, "<Gather> finishOnKey is '12'"),
        ("<Gather timeout='x'/>", 13313, "<Gather> timeout is 'x'"),
        ("<Gather numDigits='0'/>", 13314, "<Gather> numDigits is '0'"),
        ("<Gather method='x'/>", 13312, "<Gather> method is 'x'"),
        ("<Gather input='mind'/>", 12200, "<Gather> input is 'mind'"),
        ("<Play digits='12x'/>", 12200, "<Play> digits is '12x'"),
        ("<Play/>", 12200, "<Play> has neither a URL nor digits"),
        ("<Play loop='-1'>a</Play>", 13410, "<Play> loop is '-1'"),
        ("<Say loop='x'>a</Say>", 13510, "<Say> loop is 'x'"),
        ("<Say/>", 13520, "<Say> has no words"),
        ("<Pause length='x'/>", 13910, "<Pause> length is 'x'"),
        ("<Redirect method='x'>/a</Redirect>", 13710, "<Redirect> method is 'x'"),
        ("<Reject reason='tired'/>", 12200, "<Reject> reason is 'tired'"),
        ("<Refer/>", 12200, "<Refer> has 0 targets"),
        ("<Refer><Number>1</Number><Sip>sip:a@b</Sip></Refer>", 12200, "<Refer> holds <Number>"),
        ("<Connect/>", 12200, "<Connect> needs exactly one <Stream>"),
    ],
)
def test_wrong_values_have_twilios_codes(inner: str, code: int, text: str) -> None:
    _, problems = read(inner)
    assert problems == (Problem(code, text),)


def test_what_is_only_warned_of_is_left_out_and_the_rest_read() -> None:
    verbs, problems = read("<Sing/><Redirect/><Say>a<b/></Say><Connect><Stream url='https://a/b'/></Connect>")
    assert [str(verb) for verb in verbs] == ["Say a", "Connect"] and verbs[1].stream is None
    assert [problem.code for problem in problems] == [12200, 12200, 12200, 31922]


def test_eleven_targets_are_too_many() -> None:
    _, problems = read(f"<Dial>{11 * '<Number>+15550123</Number>'}</Dial>")
    assert problems == (Problem(13215, "<Dial> has 11 targets"),)


def test_a_streams_status_callback_is_absolute() -> None:
    [connect], problems = read("<Connect><Stream url='/m' statusCallback='/s' statusCallbackMethod='GET'/></Connect>")
    assert problems == () and connect.stream is not None
    assert (connect.stream.status_callback, connect.stream.status_callback_method) == (
        "https://pbx.example.com/s",
        "GET",
    )


@pytest.mark.parametrize(
    "inner",
    ["<Redirect>http://[</Redirect>", "<Connect><Stream url='wss://[/m'/></Connect>", "<Dial action='//['>1234</Dial>"],
)
def test_what_is_no_url_is_told(inner: str) -> None:
    _, problems = read(inner)
    assert [problem.code for problem in problems] == [11100]


NAMES = ["Connect", "Dial", "Gather", "Stream", "Number", "Sip", "Conference", "Play", "Say", "Redirect", "Refer", "X"]
ATTRIBUTES = ["url", "action", "timeout", "loop", "digits", "name", "value", "statusCallback", "finishOnKey", "x"]


@given(
    st.recursive(
        st.sampled_from(["", "text", "http://[", "//", "+15550123", "sip:a@b"]),
        lambda inner: st.builds(
            lambda name, attribute, value, text: f"<{name} {attribute}='{value}'>{text}</{name}>",
            st.sampled_from(NAMES),
            st.sampled_from(ATTRIBUTES),
            st.sampled_from(["", "1", "-1", "wss://a/b", "http://[", "99999999999", "#"]),
            inner,
        ),
        max_leaves=4,
    ),
    st.text(max_size=20),
)
def test_reading_anything_gives_verbs_or_twilios_error(inner: str, junk: str) -> None:
    read(inner)
    with contextlib.suppress(TwimlError):
        read_twiml(junk, URL)
    with contextlib.suppress(TwimlError):
        read_twiml(f"<Response>{junk}</Response>", "")
