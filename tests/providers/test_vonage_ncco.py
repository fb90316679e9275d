"""Vonage's call control documents, to the letter, and by the vendor's own models where they are installed."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import pytest

from bridge.errors import LocalError
from bridge.providers import vonage_ncco as ncco
from bridge.providers.vonage_ncco import MediaConnect, Ncco, connect_media, render

MEDIA = MediaConnect(
    url="wss://bridge.example/vonage/media",
    uuid="aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
    token="t1",
    event_url="https://bridge.example/vonage/events",
    from_number="447700900001",
    region_url="https://api-eu-3.vonage.com",
)
ACTION = "https://bridge.example/vonage/transfer/action?id=x"


def document(made: Ncco) -> Any:
    """What Vonage reads; checked with the vendor's models as well, where they are installed."""
    actions = json.loads(render(made))
    try:
        theirs = import_module("vonage_voice.models.ncco")
        connect_endpoints = import_module("vonage_voice.models.connect_endpoints")
    except ImportError:
        return actions
    kinds = {"talk": theirs.Talk, "input": theirs.Input, "conversation": theirs.Conversation, "connect": theirs.Connect}
    ends = {
        "phone": connect_endpoints.PhoneEndpoint,
        "sip": connect_endpoints.SipEndpoint,
        "websocket": connect_endpoints.WebsocketEndpoint,
    }
    for action in actions:
        fields = dict(action)
        fields["from_"] = fields.pop("from", None)
        if "endpoint" in fields:
            fields["endpoint"] = [
                ends[end["type"]](
                    **{"contentType" if name == "content-type" else name: value for name, value in end.items()}
                )
                for end in fields["endpoint"]
            ]
        assert kinds[action["action"]](**fields).model_dump(by_alias=True, exclude_none=True, mode="json") == action
    return actions


def changed(**fields: Any) -> MediaConnect:
    return MediaConnect(**{**{name: getattr(MEDIA, name) for name in MEDIA.__slots__}, **fields})


# --- our media socket --------------------------------------------------------------------------------------


def test_the_call_to_our_socket_to_the_letter() -> None:
    assert render(connect_media(MEDIA)) == (
        b'[{"action":"connect","endpoint":[{"type":"websocket","uri":"wss://bridge.example/vonage/media",'
        b'"content-type":"audio/l16;rate=16000","headers":{"token":"t1",'
        b'"uuid":"aaaaaaaa-bbbb-cccc-dddd-0123456789ab","region_url":"https://api-eu-3.vonage.com"},'
        b'"authorization":{"type":"vonage"}}],"from":"447700900001","eventType":"synchronous",'
        b'"eventUrl":["https://bridge.example/vonage/events"],"eventMethod":"POST"}]'
    )
    assert document(connect_media(MEDIA))


def test_our_socket_is_the_last_action() -> None:
    assert len(document(connect_media(MEDIA))) == 1


@pytest.mark.parametrize("rate_hz", [8000, 16000, 24000])
def test_every_rate(rate_hz: int) -> None:
    (action,) = document(connect_media(changed(rate_hz=rate_hz)))
    assert action["endpoint"][0]["content-type"] == f"audio/l16;rate={rate_hz}"


def test_a_rate_that_vonage_does_not_have() -> None:
    with pytest.raises(LocalError, match=r"^Vonage has no audio of 44100 Hz$"):
        connect_media(changed(rate_hz=44100))


@pytest.mark.parametrize(
    ("token_chars", "headers", "query"),
    [
        (390, ["token", "uuid", "region_url"], ""),
        (455, ["token"], "?region_url=https%3A%2F%2Fapi-eu-3.vonage.com&uuid=aaaaaaaa-bbbb-cccc-dddd-0123456789ab"),
        (454, ["token", "uuid"], "?region_url=https%3A%2F%2Fapi-eu-3.vonage.com"),
        (500, ["token"], "?region_url=https%3A%2F%2Fapi-eu-3.vonage.com&uuid=aaaaaaaa-bbbb-cccc-dddd-0123456789ab"),
    ],
)
def test_what_finds_no_room_in_the_headers_goes_into_the_address(
    token_chars: int, headers: list[str], query: str
) -> None:
    (action,) = document(connect_media(changed(token="t" * token_chars)))
    endpoint = action["endpoint"][0]
    assert list(endpoint["headers"]) == headers
    assert endpoint["uri"] == "wss://bridge.example/vonage/media" + query
    assert len(json.dumps(endpoint["headers"], separators=(",", ":"))) <= 512


def test_the_token_never_goes_into_the_address() -> None:
    with pytest.raises(LocalError, match=r"^the token does not fit into the 512 bytes of a socket's headers$"):
        connect_media(changed(token="t" * 501))
    assert "t1" not in repr(MEDIA)


def test_an_address_with_a_query_cannot_take_ours() -> None:
    with pytest.raises(LocalError, match=r"^the media socket's address has a query already$"):
        connect_media(changed(url="wss://bridge.example/vonage/media?x=1"))


def test_what_is_not_known_is_left_out() -> None:
    (action,) = document(connect_media(changed(region_url="", from_number="anonymous")))
    assert action["endpoint"][0]["headers"] == {"token": "t1", "uuid": "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"}
    assert action["randomFromNumber"] is True
    assert "from" not in action


@pytest.mark.parametrize(("limit_s", "limit"), [(None, None), (0, 1), (600, 600), (9999, 7200)])
def test_the_longest_duration(limit_s: int | None, limit: int | None) -> None:
    (action,) = document(connect_media(changed(limit_s=limit_s)))
    assert action.get("limit") == limit


# --- somebody else -----------------------------------------------------------------------------------------


def test_a_caller_is_diverted() -> None:
    made = ncco.divert("+4930123456", from_number="+447700900001", event_url="https://bridge.example/vonage/events")
    assert document(made) == [
        {
            "action": "connect",
            "endpoint": [{"type": "phone", "number": "4930123456"}],
            "from": "447700900001",
            "eventType": "synchronous",
            "eventUrl": ["https://bridge.example/vonage/events"],
            "eventMethod": "POST",
        }
    ]


def test_a_caller_is_sent_on() -> None:
    made = ncco.connect_human(
        "+4930123456",
        from_number="447700900001",
        action_url=ACTION,
        ring_s=25,
        words=" Einen  Moment\nbitte. ",
        language="de",
        post_dial_digits="1w2W3#*",
    )
    assert document(made) == [
        {"action": "talk", "text": "Einen Moment bitte.", "language": "de-DE"},
        {
            "action": "connect",
            "endpoint": [{"type": "phone", "number": "4930123456", "dtmfAnswer": "1p2pp3#*"}],
            "from": "447700900001",
            "eventType": "synchronous",
            "eventUrl": [ACTION],
            "eventMethod": "POST",
            "timeout": 25,
        },
    ]


def test_a_caller_is_sent_on_to_a_sip_address() -> None:
    (action,) = document(
        ncco.connect_human("sips:sales@pbx.example;transport=tls", from_number="", action_url=ACTION, ring_s=500)
    )
    assert action["endpoint"] == [{"type": "sip", "uri": "sips:sales@pbx.example;transport=tls"}]
    assert action["timeout"] == 120
    assert action["randomFromNumber"] is True


def test_nobody_rings_for_no_time() -> None:
    assert ncco.ring_seconds(0) == 1


@pytest.mark.parametrize("number", ["", "030123456", "+0301234567", "4930", "sales", "+49 30 123456", "4" * 16])
def test_a_number_that_is_none_is_not_quoted(number: str) -> None:
    with pytest.raises(LocalError, match=r"^not a number in international format$"):
        ncco.bare_number(number)


def test_keys_are_for_numbers() -> None:
    with pytest.raises(LocalError, match=r"^keys can be pressed for numbers only$"):
        ncco.endpoint_for("sip:a@b.example", "1")
    with pytest.raises(LocalError, match=r"^keys are 0-9 \* #, pauses w and W$"):
        ncco.endpoint_for("+4930123456", "1p2")


# --- words -------------------------------------------------------------------------------------------------


def test_a_last_sentence() -> None:
    assert render(ncco.say_and_hang_up('All lines are "busy".', "en-GB")) == (
        b'[{"action":"talk","text":"All lines are \\"busy\\".","language":"en-GB"}]'
    )
    assert render(ncco.say_and_hang_up("Hej.", "")) == b'[{"action":"talk","text":"Hej."}]'
    assert render(ncco.say_and_hang_up(" \n", "en")) == b"[]"
    assert render(ncco.HANG_UP) == b"[]"


def test_a_long_text_is_cut_at_a_word() -> None:
    (action,) = document(ncco.talk("word " * 400))
    assert action["text"] == ("word " * 300).strip()
    (action,) = document(ncco.talk("字" * 2000))
    assert action["text"] == "字" * 1500


WHISPER: dict[str, Any] = {
    "accept_url": "https://bridge.example/vonage/transfer/accept?id=x",
    "words": "A caller about an invoice.",
    "prompt": "To take the call, press 1.",
    "language": "en",
    "prompt_language": "en-GB",
    "wait_s": 5,
}


def test_the_human_is_asked_for_a_key() -> None:
    assert document(ncco.whisper(accept_key="1", **WHISPER)) == [
        {"action": "talk", "text": "A caller about an invoice.", "language": "en-US"},
        {"action": "talk", "text": "To take the call, press 1.", "language": "en-GB", "bargeIn": True},
        {
            "action": "input",
            "type": ["dtmf"],
            "dtmf": {"timeOut": 10, "maxDigits": 1},
            "eventUrl": ["https://bridge.example/vonage/transfer/accept?id=x"],
            "eventMethod": "POST",
        },
    ]


def test_without_a_key_whoever_answers_is_asked_for_nothing() -> None:
    assert document(ncco.whisper(accept_key="", **WHISPER)) == [
        {"action": "talk", "text": "A caller about an invoice.", "language": "en-US"},
        {
            "action": "input",
            "type": ["dtmf"],
            "dtmf": {"timeOut": 5, "maxDigits": 1},
            "eventUrl": ["https://bridge.example/vonage/transfer/accept?id=x"],
            "eventMethod": "POST",
        },
    ]


def test_the_caller_joins() -> None:
    assert document(ncco.join_conversation("transfer-x", "One moment.", "en")) == [
        {"action": "talk", "text": "One moment.", "language": "en-US"},
        {"action": "conversation", "name": "transfer-x", "endOnExit": True},
    ]
    assert document(ncco.join_conversation("c")) == [{"action": "conversation", "name": "c", "endOnExit": True}]
    assert document(ncco.join_conversation("c", ends=False)) == [{"action": "conversation", "name": "c"}]
