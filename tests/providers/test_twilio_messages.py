"""Twilio's messages: literal JSON in, structs out, and the exact text of ours."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import RemoteError
from bridge.providers.twilio_messages import (
    Connected,
    Dtmf,
    DtmfBody,
    Encoder,
    FromTwilio,
    Mark,
    MarkBody,
    Media,
    MediaBody,
    Start,
    StartBody,
    Stop,
    TwilioMediaFormat,
    UnknownEvent,
    decode,
)

MULAW = TwilioMediaFormat("audio/x-mulaw", 8000, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"event":"connected","protocol":"Call","version":"1.0.0"}', Connected()),
        (
            '{"event":"start","sequenceNumber":"1","start":{"accountSid":"AC1","streamSid":"MZ1","callSid":"CA1",'
            '"tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},'
            '"customParameters":{"token":"t"}},"streamSid":"MZ1"}',
            Start(StartBody("MZ1", "CA1", MULAW, "AC1", {"token": "t"})),
        ),
        (
            '{"event":"media","sequenceNumber":"3","media":{"track":"inbound","chunk":"1","timestamp":"5",'
            '"payload":"f/8A"},"streamSid":"MZ1"}',
            Media("MZ1", MediaBody(b"\x7f\xff\x00", track="inbound", timestamp="5")),
        ),
        (
            '{"event":"dtmf","streamSid":"MZ1","sequenceNumber":"5","dtmf":{"track":"inbound_track","digit":"#"}}',
            Dtmf("MZ1", DtmfBody("#")),
        ),
        (
            '{"event":"mark","sequenceNumber":"4","streamSid":"MZ1","mark":{"name":"g0:1"}}',
            Mark("MZ1", MarkBody("g0:1")),
        ),
        (
            '{"event":"stop","sequenceNumber":"5","streamSid":"MZ1","stop":{"accountSid":"AC1","callSid":"CA1"}}',
            Stop("MZ1"),
        ),
    ],
)
def test_a_message_as_twilio_writes_it(text: str, message: FromTwilio) -> None:
    assert decode(text) == message
    assert decode(json.dumps(dict(reversed(json.loads(text).items())), indent=2)) == message
    assert decode(text[:-1] + ',"newField":{"a":[1]}}') == message


def test_what_may_be_missing_has_a_default_and_numbers_may_be_either() -> None:
    assert decode('{"event":"media","streamSid":"MZ1","media":{"payload":""}}') == Media(
        "MZ1", MediaBody(b"", track="inbound", timestamp=0)
    )
    assert decode('{"event":"media","streamSid":"MZ1","media":{"payload":"","timestamp":20}}') == Media(
        "MZ1", MediaBody(b"", track="inbound", timestamp=20)
    )
    text = (
        '{"event":"start","start":{"streamSid":"MZ1","callSid":"CA1",'
        '"mediaFormat":{"encoding":"e","sampleRate":"8000"}}}'
    )
    assert decode(text) == Start(StartBody("MZ1", "CA1", TwilioMediaFormat("e", "8000", 1), "", {}))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"event":"start"}', "start: Object missing required field `start`"),
        ('{"event":"start","start":{}}', "start: Object missing required field `streamSid` - at `$.start`"),
        (
            '{"event":"start","start":{"streamSid":1}}',
            "start: Expected `str`, got `int` - at `$.start.streamSid`",
        ),
        (
            '{"event":"start","start":{"streamSid":"MZ1","callSid":"CA1","mediaFormat":{"encoding":"e","sampleRate":'
            "8e3}}}",
            "start: Expected `int | str`, got `float` - at `$.start.mediaFormat.sampleRate`",
        ),
        (
            '{"event":"start","start":{"streamSid":"MZ1","callSid":"CA1","mediaFormat":{"encoding":"e","sampleRate":'
            '8000},"customParameters":{"a":1}}}',
            "start: Expected `str`, got `int` - at `$.start.customParameters[...]`",
        ),
        ('{"event":"media","streamSid":"MZ1"}', "media: Object missing required field `media`"),
        ('{"event":"media","media":{"payload":""}}', "media: Object missing required field `streamSid`"),
        (
            '{"event":"media","streamSid":"MZ1","media":{"payload":"!!!!"}}',
            "media: Invalid base64 encoded string - at `$.media.payload`",
        ),
        (
            '{"event":"media","streamSid":"MZ1","media":{"payload":"AAA"}}',
            "media: Invalid base64 encoded string - at `$.media.payload`",
        ),
        (
            '{"event":"media","streamSid":"MZ1","media":{"payload":null}}',
            "media: Expected `bytes`, got `null` - at `$.media.payload`",
        ),
        ('{"event":"dtmf","streamSid":"MZ1","dtmf":"1"}', "dtmf: Expected `object`, got `str` - at `$.dtmf`"),
        ('{"event":"mark","streamSid":"MZ1","mark":{}}', "mark: Object missing required field `name` - at `$.mark`"),
        ('{"event":"stop"}', "stop: Object missing required field `streamSid`"),
        ("", "not a Media Streams message: Input data was truncated"),
        ("x", "not a Media Streams message: JSON is malformed: invalid character (byte 0)"),
        ("[]", "not a Media Streams message: Expected `object`, got `array`"),
        ("{}", "not a Media Streams message: Object missing required field `event`"),
        ('{"event":null}', "not a Media Streams message: Expected `str` - at `$.event`"),
        (
            "\ud800",
            "not a Media Streams message: 'utf-8' codec can't encode character '\\ud800' in position 0: surrogates "
            "not allowed",
        ),
    ],
)
def test_a_broken_message_names_its_field(text: str, problem: str) -> None:
    with pytest.raises(RemoteError) as caught:
        decode(text)
    assert str(caught.value) == problem


def test_too_deep_a_message_is_refused() -> None:
    with pytest.raises(RemoteError, match="^not a Media Streams message: maximum recursion depth exceeded"):
        decode('{"event":"stop","x":' + "[" * 20_000)


def test_an_unknown_event_is_named_and_cut() -> None:
    with pytest.raises(UnknownEvent) as caught:
        decode('{"event":"hologram","streamSid":"MZ1"}')
    assert caught.value.args == ("hologram",)
    with pytest.raises(UnknownEvent) as caught:
        decode(f'{{"event":"{"x" * 500}"}}')
    assert caught.value.args == ("x" * 64,)


@given(st.text(st.characters()))
@settings(max_examples=150, deadline=None)
def test_decode_raises_nothing_but_its_own(message: str) -> None:
    with pytest.raises((UnknownEvent, RemoteError)):
        decode(message)


# --- ours: a field too many is an error of Twilio's (31951), so these are exact ---


def test_media_is_exact() -> None:
    assert Encoder("MZ1").media(b"\x7f\xff\x00") == '{"event":"media","streamSid":"MZ1","media":{"payload":"f/8A"}}'


def test_mark_is_exact() -> None:
    assert Encoder("MZ1").mark("g0:1") == '{"event":"mark","streamSid":"MZ1","mark":{"name":"g0:1"}}'


def test_clear_is_exact() -> None:
    assert Encoder("MZ1").clear == '{"event":"clear","streamSid":"MZ1"}'


@given(st.text(st.characters()), st.text(st.characters()), st.binary(max_size=400))
@settings(max_examples=50, deadline=None)
def test_no_name_breaks_out_of_its_message(sid: str, name: str, payload: bytes) -> None:
    encoder = Encoder(sid)
    assert json.loads(encoder.mark(name)) == {"event": "mark", "streamSid": sid, "mark": {"name": name}}
    assert json.loads(encoder.clear) == {"event": "clear", "streamSid": sid}
    assert json.loads(encoder.media(payload))["streamSid"] == sid
    assert encoder.media(payload).isascii()
