"""``bridge.simulators.vonage_ncco``: it takes what the bridge writes, and refuses what Vonage would not take."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.providers import vonage_ncco as ours
from bridge.simulators.vonage_ncco import Connect, NccoError, Talk, WebSocket, read_ncco

PHONE = {"type": "phone", "number": "15550123"}
SOCKET = {"type": "websocket", "uri": "wss://b.example.com/vonage/media", "content-type": "audio/l16;rate=16000"}


def connect(endpoint: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"action": "connect", "endpoint": [endpoint or PHONE], "from": "15550199", **fields}


def test_the_documents_of_the_bridge() -> None:
    media = ours.MediaConnect("wss://b.example.com/vonage/media", "u1", "t1", "https://b.example.com/e", "+15550199")
    [action] = read_ncco(ours.render(ours.connect_media(media)))
    assert isinstance(action, Connect)
    [endpoint] = action.endpoint
    assert isinstance(endpoint, WebSocket)
    assert (endpoint.rate_hz, endpoint.headers) == (16000, {"token": "t1", "uuid": "u1"})
    human = ours.connect_human("sip:a@b.example.com", from_number="", action_url="https://e", ring_s=30, words="Wait.")
    assert [type(action) for action in read_ncco(ours.render(human))] == [Talk, Connect]
    assert read_ncco(b"[]") == ()


@pytest.mark.parametrize(
    ("ncco", "why"),
    [
        ({}, "Expected `array`, got `object`"),
        ([{"action": "hangup"}], "Invalid value 'hangup' - at `$[0].action`"),
        ([{"text": "x"}], "Object missing required field `action` - at `$[0]`"),
        ([{"action": "talk", "text": "x" * 1501}], "Expected `str` of length <= 1500 - at `$[0].text`"),
        ([{"action": "talk", "text": "x", "voice": 1}], "Object contains unknown field `voice` - at `$[0]`"),
        ([{"action": "talk", "text": "x", "level": 2}], "Expected `float` <= 1.0 - at `$[0].level`"),
        (
            [{"action": "conversation", "name": "c", "mute": True, "canSpeak": ["u"]}],
            "conversation has both mute and canSpeak",
        ),
        ([{"action": "input", "type": ["dtmf"]}], "input without eventUrl: nobody would get the keys"),
        (
            [{"action": "input", "type": [], "eventUrl": ["https://e"]}],
            "Expected `array` of length >= 1 - at `$[0].type`",
        ),
        (
            [{"action": "input", "type": ["dtmf"], "dtmf": {"timeOut": 11}, "eventUrl": ["https://e"]}],
            "Expected `int` <= 10 - at `$[0].dtmf.timeOut`",
        ),
        ([connect(randomFromNumber=True)], "connect needs from or randomFromNumber, one of them"),
        ([{"action": "connect", "endpoint": [PHONE]}], "connect needs from or randomFromNumber, one of them"),
        ([connect() | {"from": "+15550199"}], "a number that is not in E.164 without plus"),
        ([connect(eventType="synchronous")], "connect is synchronous, but has no eventUrl"),
        ([connect(limit=7201)], "Expected `int` <= 7200 - at `$[0].limit`"),
        ([connect({"type": "phone", "number": "+15550123"})], "a number that is not in E.164 without plus"),
        ([connect({**PHONE, "dtmfAnswer": "1w"})], "dtmfAnswer has other signs than 0-9 * # p"),
        ([connect({"type": "sip", "uri": "a@b"})], "a SIP endpoint whose uri is none"),
        ([connect({"type": "fax"})], "Invalid value 'fax' - at `$[0].endpoint[0].type`"),
        ([connect({**SOCKET, "uri": "https://x"})], "a websocket endpoint whose uri is not ws:// or wss://"),
        (
            [connect({**SOCKET, "content-type": "audio/l16"})],
            "Invalid enum value 'audio/l16' - at `$[0].endpoint[0].content-type`",
        ),
        ([connect({**SOCKET, "headers": {"a": "x" * 505}})], "headers of 513 bytes; Vonage takes 512"),
        (
            [connect({**SOCKET, "authorization": {"type": "vonage", "value": "x"}})],
            "authorization has a value if, and only if, its type is custom",
        ),
        (
            [connect(SOCKET), {"action": "talk", "text": "x"}],
            "connect to a websocket is not the last action: what follows runs at once",
        ),
        ([connect({**SOCKET}) | {"endpoint": [SOCKET, PHONE]}], "Expected `array` of length <= 1 - at `$[0].endpoint`"),
        ([{"action": "wait"}] * 101, "more than 100 actions"),
    ],
)
def test_what_vonage_would_not_take(ncco: object, why: str) -> None:
    with pytest.raises(NccoError) as caught:
        read_ncco(json.dumps(ncco).encode())
    assert str(caught.value) == why


@pytest.mark.parametrize("body", [b"", b"nope", b"\xff", b"[" * 100_000, b" " * 300_000])
def test_what_is_no_document(body: bytes) -> None:
    with pytest.raises(NccoError):
        read_ncco(body)


def test_headers_of_512_bytes() -> None:
    assert read_ncco(json.dumps([connect({**SOCKET, "headers": {"a": "x" * 504}})]).encode())
