"""Vonage's text messages: to the letter one way, tolerant the other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import RemoteError
from bridge.providers import vonage_messages as wire
from bridge.providers.vonage_messages import Cleared, Connected, Dtmf, Gone, Malformed, Notified, Unknown, decode


def test_headers_stand_beside_the_events_own_fields() -> None:
    message = (
        '{"event":"websocket:connected","content-type":"audio/l16;rate=16000","uuid":"u1","customer_id":"ABC123",'
        '"count":3,"vip":true,"nested":{"a":[1,"\\u00e4"]},"nothing":null}'
    )
    assert decode(message) == Connected(
        "audio/l16;rate=16000",
        {"uuid": "u1", "customer_id": "ABC123", "count": "3", "vip": "true", "nested": '{"a":[1,"ä"]}'},
    )


def test_a_connected_without_anything_is_read() -> None:
    assert decode('{"event":"websocket:connected"}') == Connected("", {})


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ('{"event":"websocket:connected","content-type":8000}', "websocket:connected: content-type is no text"),
        (
            json.dumps({"event": "websocket:connected", **{str(n): 1 for n in range(65)}}),
            "websocket:connected: more than 64 headers",
        ),
    ],
)
def test_a_connected_that_cannot_be_read(message: str, problem: str) -> None:
    with pytest.raises(RemoteError) as caught:
        decode(message)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("fields", "dtmf"),
    [
        ({"digit": "5", "duration": 260}, Dtmf("5", 260)),
        ({"dtmf": {"digit": "5", "duration": 260}}, Dtmf("5", 260)),
        ({"dtmf": {"digit": "#"}, "duration": "90"}, Dtmf("#", 90)),
        ({"digit": "*"}, Dtmf("*", 0)),
        ({"digit": 7, "duration": "260.5"}, Dtmf("7", 260)),
        ({"digit": "d", "duration": None}, Dtmf("D", 0)),
        ({"digit": "0", "duration": -5}, Dtmf("0", 0)),
        ({"digit": "0", "duration": 1e9}, Dtmf("0", 60_000)),
        ({"digit": "0", "duration": [1]}, Dtmf("0", 0)),
        ({"digit": "0", "duration": "long"}, Dtmf("0", 0)),
        ({"digit": "0", "duration": "inf"}, Dtmf("0", 0)),
        ({"digit": "1", "dtmf": "5"}, Dtmf("1", 0)),
    ],
)
def test_keys_flat_and_nested(fields: dict[str, Any], dtmf: Dtmf) -> None:
    assert decode(json.dumps({"event": "websocket:dtmf", **fields})) == dtmf


@pytest.mark.parametrize("fields", [{}, {"digit": ""}, {"digit": "12"}, {"digit": "x"}, {"dtmf": {}}, {"digit": []}])
def test_a_key_that_is_none(fields: dict[str, Any]) -> None:
    with pytest.raises(Malformed, match=r"^websocket:dtmf: digit is not one of 0-9 \* # A-D$"):
        decode(json.dumps({"event": "websocket:dtmf", **fields}))


@pytest.mark.parametrize(
    ("message", "read"),
    [
        ('{"event":"websocket:cleared"}', Cleared()),
        ('{"event":"websocket:notify","payload":{"mark":"g0:1","x":1}}', Notified("g0:1")),
        ('{"event":"websocket:notify","payload":{"mark":1}}', Notified("")),
        ('{"event":"websocket:notify","payload":{}}', Notified("")),
        ('{"event":"websocket:notify","payload":"g0:1"}', Notified("")),
        ('{"event":"websocket:notify"}', Notified("")),
        ('{"event":"websocket:disconnected","method":"delete"}', Gone("websocket:disconnected")),
        ('{"event":"websocket:hangup"}', Gone("websocket:hangup")),
        ('{"event":"websocket:media:update","active":false}', Unknown("websocket:media:update")),
        ('{"event":7}', Unknown("")),
        ('{"action":"clear"}', Unknown("")),
        ("{}", Unknown("")),
        (json.dumps({"event": "x" * 100}), Unknown("x" * 64)),
    ],
)
def test_the_other_messages(message: str, read: object) -> None:
    assert decode(message) == read


@pytest.mark.parametrize("message", ["", "{", "[]", "null", "1", '"a"', "hello", '{"a":1}{', "[" * 100_000, "\ud800"])
def test_what_is_no_object_is_refused(message: str) -> None:
    with pytest.raises(RemoteError, match="^text that is no JSON object: "):
        decode(message)


def test_what_we_say() -> None:
    assert wire.CLEAR == '{"action":"clear"}'
    assert wire.notify("g0:1") == '{"action":"notify","payload":{"mark":"g0:1"}}'
    assert json.loads(wire.notify('"\\\n')) == {"action": "notify", "payload": {"mark": '"\\\n'}}


@pytest.mark.parametrize(
    ("content_type", "rate_hz"),
    [
        ("audio/l16;rate=8000", 8000),
        ("audio/l16;rate=16000", 16000),
        ("audio/l16;rate=24000", 24000),
        ("Audio/L16 ; Rate = 8000; channels=1", 8000),
    ],
)
def test_a_rate(content_type: str, rate_hz: int) -> None:
    assert wire.rate_of(content_type) == rate_hz


@pytest.mark.parametrize(
    ("content_type", "problem"),
    [
        ("", "'' is not audio/l16"),
        ("audio/pcmu;rate=8000", "'audio/pcmu' is not audio/l16"),
        ("audio/l16", "rate '' with '1' channels is not 8000, 16000 or 24000, mono"),
        ("audio/l16;rate=44100", "rate '44100' with '1' channels is not 8000, 16000 or 24000, mono"),
        ("audio/l16;rate=16000;channels=2", "rate '16000' with '2' channels is not 8000, 16000 or 24000, mono"),
        ("\u00e4" * 100, "'" + "\\xe4" * 40 + "' is not audio/l16"),
    ],
)
def test_a_rate_that_there_is_not(content_type: str, problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        wire.rate_of(content_type)
    assert str(caught.value) == problem


@given(
    st.dictionaries(
        st.sampled_from(["digit", "dtmf", "duration", "payload", "content-type", "x"]),
        st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5), st.lists),
    ),
    st.sampled_from(["connected", "dtmf", "cleared", "notify", "hangup", "news"]),
)
def test_whatever_an_event_holds_is_read_or_refused(fields: dict[str, Any], event: str) -> None:
    try:
        decode(json.dumps({**fields, "event": f"websocket:{event}"}))
    except (RemoteError, Malformed) as error:
        assert str(error)
