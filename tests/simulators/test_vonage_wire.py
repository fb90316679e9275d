"""``bridge.simulators.vonage_wire``: literal texts both ways."""

from __future__ import annotations

import pytest

from bridge.simulators import vonage_wire as wire


def test_the_texts_of_vonage() -> None:
    assert wire.connected(16000, {"uuid": "u1", "n": 1}) == (
        '{"event":"websocket:connected","content-type":"audio/l16;rate=16000","uuid":"u1","n":1}'
    )
    assert wire.dtmf("5") == '{"event":"websocket:dtmf","digit":"5","duration":260}'
    assert wire.dtmf("#", nested=True) == '{"event":"websocket:dtmf","dtmf":{"digit":"#","duration":260}}'
    assert wire.cleared() == '{"event":"websocket:cleared"}'
    assert wire.notified({"mark": "m"}) == '{"event":"websocket:notify","payload":{"mark":"m"}}'


def test_the_size_of_a_frame() -> None:
    assert [wire.frame_bytes(rate_hz) for rate_hz in wire.RATES_HZ] == [320, 640, 960]


def test_the_texts_of_a_server() -> None:
    assert wire.read_command('{"action":"clear"}') == wire.Clear()
    assert wire.read_command('{"action":"notify","payload":{"a":[1]}}') == wire.Notify({"a": [1]})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hello", "a text that is no JSON object"),
        ("[]", "a text that is no JSON object"),
        ("{}", "action is None; a server sends clear and notify"),
        ('{"action":"mark"}', "action is 'mark'; a server sends clear and notify"),
        ('{"event":"websocket:clear"}', "action is None; a server sends clear and notify"),
        ('{"action":"clear","x":1}', "clear has the unexpected field x"),
        ('{"action":"notify"}', "notify without an object as its payload"),
        ('{"action":"notify","payload":"m"}', "notify without an object as its payload"),
        ('{"action":"notify","payload":{},"mark":1}', "notify has the unexpected field mark"),
        (" " * 65_537, "a text of more than 65536 characters"),
    ],
)
def test_what_a_server_may_not_say(text: str, why: str) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.read_command(text)
    assert str(caught.value) == why
