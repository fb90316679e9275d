from __future__ import annotations

import pytest

from bridge.simulators.twiml import StreamNoun, TwimlError, Verb, parse_twiml

URL = "https://pbx.example.com/base/voice"


def test_a_bridges_answer_is_read() -> None:
    document = """<?xml version="1.0" encoding="UTF-8"?>
    <Response>
      <Connect action="after"><Stream url="wss://pbx.example.com/media" name="s1">
        <Parameter name="token" value="a&amp;b"/><Parameter name="empty" value=""/>
      </Stream></Connect>
      <Redirect method="POST">/fallback?x=1</Redirect>
    </Response>"""
    assert parse_twiml(document, URL) == (
        Verb(
            "Connect",
            {"action": "https://pbx.example.com/base/after"},
            "",
            StreamNoun("wss://pbx.example.com/media", "s1", {"token": "a&b", "empty": ""}),
        ),
        Verb("Redirect", {"method": "POST"}, "https://pbx.example.com/fallback?x=1"),
    )


def test_verbs_without_a_stream_are_read_with_what_matters_of_them() -> None:
    document = (
        "<Response><Say voice='alice'>Sorry &amp; bye.</Say><Pause length='1'/><Play digits='ww1'/>"
        "<Dial callerId='+1'><Number>+15550100</Number></Dial><Reject reason='busy'/><Hangup/></Response>"
    )
    verbs = parse_twiml(document, URL)
    assert [str(verb) for verb in verbs] == [
        "Say Sorry & bye.",
        "Pause",
        "Play",
        "Dial +15550100",
        "Reject busy",
        "Hangup",
    ]
    assert parse_twiml("<Response/>", URL) == ()


@pytest.mark.parametrize(
    ("document_url", "url", "expected"),
    [
        (URL, "/media", "wss://pbx.example.com/media"),
        (URL, "media", "wss://pbx.example.com/base/media"),
        ("http://127.0.0.1:8080/twilio/voice", "media", "ws://127.0.0.1:8080/twilio/media"),
        (URL, "ws://127.0.0.1:8080/media", "ws://127.0.0.1:8080/media"),
        (URL, "ws://localhost/media", "ws://localhost/media"),
    ],
)
def test_relative_stream_urls_are_completed_and_this_machine_needs_no_tls(
    document_url: str, url: str, expected: str
) -> None:
    [verb] = parse_twiml(f"<Response><Connect><Stream url='{url}'/></Connect></Response>", document_url)
    assert verb.stream is not None and verb.stream.url == expected


def connect(inner: str) -> str:
    return f"<Response><Connect>{inner}</Connect></Response>"


@pytest.mark.parametrize(
    ("document", "code", "text"),
    [
        ("<Response>", 12100, "not XML: no element found: line 1, column 10"),
        ("", 12100, "not XML: no element found: line 1, column 0"),
        ("<html/>", 12100, "root is <html>, not <Response>"),
        ("<!DOCTYPE x><Response/>", 12100, "document has a document type declaration"),
        ("<Response>" + " " * 65_536 + "</Response>", 12100, "document is larger than 65536 bytes"),
        ("<Response version='1'/>", 12200, "<Response> has the unknown attribute version"),
        ("<Response><Sing/></Response>", 12200, "<Sing> is no verb known here"),
        ("<Response><Hangup now='1'/></Response>", 12200, "<Hangup> has the unknown attribute now"),
        ("<Response><Redirect/></Response>", 12200, "<Redirect> holds no URL"),
        ("<Response><Redirect><b/>x</Redirect></Response>", 12200, "<Redirect> holds <b>"),
        (connect(""), 12200, "<Connect> needs exactly one <Stream>"),
        (connect("<Stream url='/a'/><Stream url='/b'/>"), 12200, "<Connect> needs exactly one <Stream>"),
        (connect("<Room>x</Room>"), 12200, "<Connect> needs exactly one <Stream>"),
        (connect("<Stream/>"), 12200, "<Stream> has no url"),
        (connect("<Stream url='/a' uri='/b'/>"), 12200, "<Stream> has the unknown attribute uri"),
        (
            connect("<Stream url='/a' track='both_tracks'/>"),
            12200,
            "track 'both_tracks' does not go with <Connect>; only inbound_track does",
        ),
        (connect("<Stream url='/a'><Param/></Stream>"), 12200, "<Stream> holds <Param>"),
        (
            connect("<Stream url='/a'><Parameter name='x'/></Stream>"),
            12200,
            "<Parameter> needs name and value",
        ),
        (
            connect("<Stream url='/a'><Parameter value='x'/></Stream>"),
            12200,
            "<Parameter> needs name and value",
        ),
        (
            connect(f"<Stream url='/a'><Parameter name='x' value='{'y' * 499}'/></Stream>"),
            12200,
            "<Parameter> x and its value have 500 characters or more",
        ),
        (
            connect("<Stream url='https://a.example/m'/>"),
            31922,
            "<Stream> url has the scheme 'https'; only wss is supported",
        ),
        (
            connect("<Stream url='ws://a.example/m'/>"),
            31922,
            "<Stream> url has the scheme 'ws'; only wss is supported",
        ),
        (
            connect("<Stream url='/m?token=1'/>"),
            31920,
            "<Stream> url has a query; query parameters are not supported",
        ),
    ],
)
def test_what_twilio_would_not_carry_out_is_told(document: str, code: int, text: str) -> None:
    with pytest.raises(TwimlError) as caught:
        parse_twiml(document, URL)
    assert (caught.value.code, caught.value.text, str(caught.value)) == (code, text, f"{code}: {text}")
