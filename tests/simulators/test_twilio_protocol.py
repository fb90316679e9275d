from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.format import PCM_16K
from bridge.simulators.twilio_protocol import MAX_VIOLATIONS, Clear, TwilioStream, Violation

T = 500.0
CA, MZ, AC = "CA" + "1" * 32, "MZ" + "2" * 32, "AC" + "3" * 32
FRAME = b"\x7f" * 160


def stream(*, started: bool = True) -> TwilioStream:
    twilio = TwilioStream(CA, MZ, AC, {"token": "abc"})
    if started:
        twilio.send_connected()
        twilio.send_start(T)
        twilio.drain()
    return twilio


def sent(twilio: TwilioStream) -> list[dict[str, Any]]:
    return [json.loads(text) for text in twilio.drain()]


def media(payload: bytes = FRAME) -> dict[str, Any]:
    return {"event": "media", "streamSid": MZ, "media": {"payload": base64.b64encode(payload).decode()}}


def mark(name: str) -> dict[str, Any]:
    return {"event": "mark", "streamSid": MZ, "mark": {"name": name}}


CLEAR = {"event": "clear", "streamSid": MZ}


# --- what Twilio sends -----------------------------------------------------------------------------------


def test_the_messages_of_a_call_are_as_documented() -> None:
    twilio = stream(started=False)
    twilio.send_connected()
    twilio.send_start(T)
    twilio.send_media(FRAME)
    twilio.send_media(b"\xff" * 80)
    twilio.send_media(b"\xff")
    twilio.send_dtmf("#")
    twilio.receive(json.dumps(mark("m1")), T)
    twilio.send_stop()
    payload = base64.b64encode(FRAME).decode()
    assert sent(twilio) == [
        {"event": "connected", "protocol": "Call", "version": "1.0.0"},
        {
            "event": "start",
            "sequenceNumber": "1",
            "streamSid": MZ,
            "start": {
                "accountSid": AC,
                "streamSid": MZ,
                "callSid": CA,
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": {"token": "abc"},
            },
        },
        {
            "event": "media",
            "sequenceNumber": "2",
            "streamSid": MZ,
            "media": {"track": "inbound", "chunk": "1", "timestamp": "0", "payload": payload},
        },
        {
            "event": "media",
            "sequenceNumber": "3",
            "streamSid": MZ,
            "media": {
                "track": "inbound",
                "chunk": "2",
                "timestamp": "20",
                "payload": base64.b64encode(b"\xff" * 80).decode(),
            },
        },
        {
            "event": "media",
            "sequenceNumber": "4",
            "streamSid": MZ,
            "media": {"track": "inbound", "chunk": "3", "timestamp": "30", "payload": "/w=="},
        },
        {
            "event": "dtmf",
            "sequenceNumber": "5",
            "streamSid": MZ,
            "dtmf": {"track": "inbound_track", "digit": "#"},
        },
        {"event": "mark", "sequenceNumber": "6", "streamSid": MZ, "mark": {"name": "m1"}},
        {
            "event": "stop",
            "sequenceNumber": "7",
            "streamSid": MZ,
            "stop": {"accountSid": AC, "callSid": CA},
        },
    ]


def test_another_media_format_can_be_announced() -> None:
    twilio = TwilioStream(CA, MZ, AC, media_format=PCM_16K)
    twilio.send_start(T)
    [start] = sent(twilio)
    assert start["start"]["mediaFormat"] == {"encoding": "audio/x-l16", "sampleRate": 16000, "channels": 1}
    assert start["start"]["customParameters"] == {}


def test_lost_media_leaves_a_hole_in_all_three_counts() -> None:
    twilio = stream()
    twilio.send_media(FRAME)
    twilio.skip_media(160)
    twilio.send_media(FRAME)
    numbers = [(m["sequenceNumber"], m["media"]["chunk"], m["media"]["timestamp"]) for m in sent(twilio)]
    assert numbers == [("2", "1", "0"), ("4", "3", "40")]


# --- what Twilio receives --------------------------------------------------------------------------------


def test_media_marks_and_clear_drive_the_play_buffer() -> None:
    twilio = stream()
    twilio.receive(json.dumps(media(FRAME * 5)), T)
    twilio.receive(json.dumps(mark("end")), T)
    assert twilio.drain() == []
    assert twilio.next_timer() == pytest.approx(T + 0.1)
    twilio.advance(T + 0.05)
    assert twilio.drain() == []
    twilio.advance(T + 0.1)
    assert sent(twilio) == [{"event": "mark", "sequenceNumber": "2", "streamSid": MZ, "mark": {"name": "end"}}]
    twilio.receive(json.dumps(media(FRAME * 5)), T + 0.2)
    twilio.receive(json.dumps(mark("never")), T + 0.2)
    twilio.receive(json.dumps(CLEAR), T + 0.24)
    assert [m["mark"]["name"] for m in sent(twilio)] == ["never"]
    assert twilio.clears == [Clear(T + 0.24, 60.0, 1)]
    assert (twilio.media_messages, twilio.media_bytes, twilio.marks_received) == (2, 1600, 2)
    assert twilio.marks_echoed == ["end", "never"]
    assert twilio.violations == []
    assert twilio.playout is not None
    assert twilio.playout.heard.count(0x7F) == 800 + 320


def test_nothing_is_due_before_start_or_after_stop() -> None:
    twilio = stream(started=False)
    twilio.advance(T)
    assert twilio.next_timer() == float("inf")
    twilio = stream()
    twilio.receive(json.dumps(media()), T)
    twilio.receive(json.dumps(mark("m")), T)
    twilio.send_stop()
    twilio.drain()
    assert twilio.next_timer() == float("inf")
    twilio.advance(T + 1)
    twilio.receive("garbage", T + 1)
    assert (twilio.drain(), twilio.violations) == ([], [])


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        (b"\xff" * 160, 31950, "binary message of 160 bytes; Twilio takes JSON text only"),
        ("{", 31951, "not JSON: '{'"),
        ("[]", 31951, "not a JSON object: []"),
        ({"event": "stop", "streamSid": MZ}, 31951, "event is 'stop'; Twilio takes media, mark and clear"),
        ({"streamSid": MZ}, 31951, "event is 'None'; Twilio takes media, mark and clear"),
        ({"event": ["media"]}, 31951, "event is \"['media']\"; Twilio takes media, mark and clear"),
        ({"event": "media", "media": {"payload": ""}}, 31951, "media lacks streamSid"),
        ({"event": "media", "stream_sid": MZ, "media": {}}, 31951, "media lacks streamSid"),
        ({"event": "media", "streamSid": MZ}, 31951, "media lacks media"),
        ({"event": "media", "streamSid": MZ, "media": "/w=="}, 31951, "media.media is str, not an object"),
        ({"event": "media", "streamSid": MZ, "media": {}}, 31951, "media.media lacks payload"),
        (
            {"event": "media", "streamSid": MZ, "media": {"payload": "/w==", "track": "outbound"}},
            31951,
            "media.media has the unexpected field track",
        ),
        (
            {"event": "media", "streamSid": MZ, "sequenceNumber": "1", "media": {"payload": "/w=="}},
            31951,
            "media has the unexpected field sequenceNumber",
        ),
        (
            {"event": "media", "streamSid": MZ, "media": {"payload": None}},
            31951,
            "media.payload is NoneType, not a string",
        ),
        ({"event": "media", "streamSid": MZ, "media": {"payload": "?"}}, 31951, "media.payload is not base64"),
        ({"event": "media", "streamSid": MZ, "media": {"payload": "é"}}, 31951, "media.payload is not base64"),
        (media(b"RIFF\x24\x00\x00\x00WAVEfmt "), 31951, "media.payload starts with a WAV header"),
        ({**CLEAR, "streamSid": "MZ9"}, 31951, "clear.streamSid is 'MZ9', not this stream's"),
        ({**CLEAR, "streamSid": None}, 31951, "clear.streamSid is 'None', not this stream's"),
        ({**CLEAR, "clear": {}}, 31951, "clear has the unexpected field clear"),
        ({"event": "mark", "streamSid": MZ, "mark": {}}, 31951, "mark.mark lacks name"),
        ({"event": "mark", "streamSid": MZ, "mark": {"name": 1}}, 31951, "mark.name is int, not a string"),
    ],
)
def test_wrong_messages_are_noted_with_twilios_code_and_ignored(
    message: dict[str, Any] | str | bytes, code: int, text: str
) -> None:
    twilio = stream()
    twilio.receive(json.dumps(message) if isinstance(message, dict) else message, T + 0.25)
    assert twilio.violations == [Violation(code, text, 250.0)]
    assert (twilio.media_messages, twilio.drain()) == (0, [])


@pytest.mark.parametrize("message", [media(), mark("m"), CLEAR])
def test_nothing_may_be_sent_before_start(message: dict[str, Any]) -> None:
    twilio = stream(started=False)
    twilio.receive(json.dumps(message), T)
    assert twilio.violations == [Violation(31951, f"{message['event']} before start")]


def test_violations_do_not_pile_up() -> None:
    twilio = stream()
    for _ in range(MAX_VIOLATIONS + 5):
        twilio.receive("", T)
    assert len(twilio.violations) == MAX_VIOLATIONS


@given(st.lists(st.text() | st.binary() | st.sampled_from([json.dumps(m) for m in (media(), mark("m"), CLEAR)])))
def test_receive_takes_anything(messages: list[str | bytes]) -> None:
    twilio = stream()
    for message in messages:
        twilio.receive(message, T)
    marks = sum(message == json.dumps(mark("m")) for message in messages)
    twilio.advance(T + 60)
    assert len(twilio.marks_echoed) == marks == len(sent(twilio))
