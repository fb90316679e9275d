"""The two ends on the wire: ``bench/caller.py`` and ``bench/agent.py``, each with a socket that records."""

from __future__ import annotations

import base64
import json
from typing import Any, cast

import pytest
from picows import WSFrame, WSMsgType, WSTransport

from bridge.bench.agent import Agent, ConvaiWire, TwilioWire
from bridge.bench.call import Call, Logs, SignalKit
from bridge.bench.caller import Caller
from bridge.bench.numbering import build_record

MS = 1_000_000
SID = "MZ" + "0" * 31 + "3"


class _Socket:
    """Stands in for a picows transport."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def send(self, kind: WSMsgType, message: bytes) -> None:
        assert kind is WSMsgType.TEXT
        self.sent.append(message)

    def send_close(self) -> None:
        self.closed = True

    def disconnect(self) -> None:
        self.closed = True

    def take(self) -> list[Any]:
        messages = [json.loads(message) for message in self.sent]
        self.sent.clear()
        return messages


class _Frame:
    """Stands in for a picows frame."""

    def __init__(self, text: str, kind: WSMsgType = WSMsgType.TEXT) -> None:
        self.msg_type = kind
        self._data = text.encode()

    def get_payload_as_memoryview(self) -> memoryview:
        return memoryview(self._data)


def _feed(end: Caller | Agent, socket: _Socket, message: object, kind: WSMsgType = WSMsgType.TEXT) -> None:
    text = message if isinstance(message, str) else json.dumps(message)
    end.on_ws_frame(cast(WSTransport, socket), cast(WSFrame, _Frame(text, kind)))


@pytest.fixture
def logs() -> Logs:
    logs = Logs()
    logs.window.open(0)
    return logs


@pytest.fixture
def call(logs: Logs) -> Call:
    return SignalKit(converting=False).new_call(3, logs)


@pytest.fixture
def socket() -> _Socket:
    return _Socket()


@pytest.fixture
def caller(call: Call, socket: _Socket) -> Caller:
    caller = Caller(call)
    caller.on_ws_connected(cast(WSTransport, socket))
    return caller


def _agent(call: Call | None, socket: _Socket, wire: ConvaiWire | TwilioWire) -> Agent:
    agent = Agent(wire, lambda agent: call)
    agent.on_ws_connected(cast(WSTransport, socket))
    return agent


def test_caller_begins_as_twilio_does(caller: Caller, socket: _Socket) -> None:
    assert caller.talking
    assert socket.take() == [
        {"event": "connected", "protocol": "Call", "version": "1.0.0"},
        {
            "event": "start",
            "sequenceNumber": "1",
            "start": {
                "accountSid": "AC" + "0" * 32,
                "streamSid": SID,
                "callSid": "CA" + "0" * 31 + "3",
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": {},
            },
            "streamSid": SID,
        },
    ]


def test_caller_counts_messages_chunks_and_time_as_twilio_does(caller: Caller, socket: _Socket) -> None:
    socket.take()
    for number in range(2):
        caller.tick(number)
    first, second = socket.take()
    assert base64.b64decode(first["media"].pop("payload")) == build_record(3, 0, 0, 0, 0)
    assert first == {
        "event": "media",
        "sequenceNumber": "2",
        "media": {"track": "inbound", "chunk": "1", "timestamp": "0"},
        "streamSid": SID,
    }
    assert (second["sequenceNumber"], second["media"]["chunk"], second["media"]["timestamp"]) == ("3", "2", "20")


def test_caller_plays_media_and_echoes_a_mark_when_it_was_played(caller: Caller, call: Call, socket: _Socket) -> None:
    payload = base64.b64encode(build_record(3, 0, 0, 0, 0)).decode()
    _feed(caller, socket, {"event": "media", "streamSid": SID, "media": {"payload": payload}})
    _feed(caller, socket, {"event": "mark", "streamSid": SID, "mark": {"name": "m1"}})
    socket.take()
    caller.tick(call.clock.ends_ns - 1)
    assert [message["event"] for message in socket.take()] == ["media"]
    caller.tick(call.clock.ends_ns)
    mark, media = socket.take()
    assert mark == {"event": "mark", "sequenceNumber": "3", "streamSid": SID, "mark": {"name": "m1"}}
    assert media["sequenceNumber"] == "4"


def test_caller_echoes_all_marks_after_a_clear(caller: Caller, call: Call, socket: _Socket) -> None:
    payload = base64.b64encode(build_record(3, 0, 0, 0, 0) * 50).decode()
    _feed(caller, socket, {"event": "media", "streamSid": SID, "media": {"payload": payload}})
    for name in ("a", "b"):
        _feed(caller, socket, {"event": "mark", "streamSid": SID, "mark": {"name": name}})
    call.interrupt(1)
    _feed(caller, socket, {"event": "clear", "streamSid": SID})
    socket.take()
    caller.tick(1)
    assert [message["event"] for message in socket.take()] == ["mark", "mark", "media"]
    assert len(call.logs.barge_in.values_ms) == 1


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ({"event": "clear", "streamSid": "MZ0"}, "streamSid of another call"),
        ({"event": "stop", "streamSid": SID}, "to the carrier: event 'stop'"),
        ({"event": "media", "streamSid": SID}, "to the carrier: event 'media'"),
        ("{", "to the carrier: Input data was truncated"),
    ],
)
def test_caller_complains_of_what_twilio_would_not_take(
    caller: Caller, socket: _Socket, logs: Logs, message: object, complaint: str
) -> None:
    _feed(caller, socket, message)
    assert logs.complaints == [complaint]


def test_caller_complains_of_a_binary_message(caller: Caller, socket: _Socket, logs: Logs) -> None:
    _feed(caller, socket, "x", WSMsgType.BINARY)
    assert logs.complaints == ["binary message to the carrier"]


def test_caller_hangs_up_with_stop(caller: Caller, socket: _Socket, logs: Logs) -> None:
    socket.take()
    caller.hang_up()
    (stop,) = socket.take()
    assert (stop["event"], stop["sequenceNumber"], stop["streamSid"]) == ("stop", "2", SID)
    assert socket.closed
    caller.on_ws_disconnected(cast(WSTransport, socket))
    caller.tick(0)
    caller.hang_up()
    assert socket.sent == []
    assert logs.bad_messages == 0


def test_server_that_ends_a_call_is_complained_of(caller: Caller, socket: _Socket, logs: Logs) -> None:
    _feed(caller, socket, "", WSMsgType.CLOSE)
    caller.on_ws_disconnected(cast(WSTransport, socket))
    assert logs.complaints == ["the server closed call 3"]


def test_agent_answers_with_its_formats_and_waits_for_the_client(call: Call, socket: _Socket) -> None:
    agent = _agent(call, socket, ConvaiWire("ulaw_8000"))
    (hello,) = socket.take()
    assert hello["type"] == "conversation_initiation_metadata"
    formats = hello["conversation_initiation_metadata_event"]
    assert (formats["agent_output_audio_format"], formats["user_input_audio_format"]) == ("ulaw_8000",) * 2
    assert not agent.tick(0)
    _feed(agent, socket, {"type": "conversation_initiation_client_data"})
    assert agent.tick(0)
    (audio,) = socket.take()
    assert audio["type"] == "audio"
    assert audio["audio_event"]["event_id"] == 1
    assert len(base64.b64decode(audio["audio_event"]["audio_base_64"])) == 800


def test_agent_hears_the_caller(call: Call, socket: _Socket) -> None:
    agent = _agent(call, socket, ConvaiWire("ulaw_8000"))
    chunk = call.frames.message(0).decode()
    _feed(agent, socket, {"user_audio_chunk": chunk})
    up, _ = call.tallies()
    assert (up.received_ms, up.lost_ms) == (20, 0)


def test_audio_after_an_interruption_has_a_higher_event_id(call: Call, socket: _Socket) -> None:
    agent = _agent(call, socket, ConvaiWire("ulaw_8000"))
    _feed(agent, socket, {"type": "pong"})
    agent.tick(0)
    socket.take()
    agent.interrupt(1)
    agent.tick(2)
    interruption, audio = socket.take()
    assert interruption == {"type": "interruption", "interruption_event": {"event_id": 1}}
    assert audio["audio_event"]["event_id"] == 2


def test_agent_pings_every_five_seconds(call: Call, socket: _Socket) -> None:
    agent = _agent(call, socket, ConvaiWire("ulaw_8000"))
    _feed(agent, socket, {"type": "pong"})
    for number in range(100):
        agent.tick(number)
    pings = [message for message in socket.take() if message["type"] == "ping"]
    assert len(pings) == 2
    assert pings[0]["ping_event"] == {"event_id": 47, "ping_ms": None}


def test_agent_complains_of_what_is_no_message(call: Call, socket: _Socket, logs: Logs) -> None:
    agent = _agent(call, socket, ConvaiWire("ulaw_8000"))
    _feed(agent, socket, {"user_audio_chunk": "not base64!"})
    assert logs.complaints == ["to the agent: Invalid base64 encoded string - at `$.user_audio_chunk`"]


def test_agent_without_a_call_stays_silent(socket: _Socket) -> None:
    agent = _agent(None, socket, ConvaiWire("ulaw_8000"))
    _feed(agent, socket, {"type": "pong"})
    assert not agent.tick(0)
    assert not agent.wants_interruption(1)


def test_agent_closes_when_the_client_does(call: Call, socket: _Socket) -> None:
    agent = _agent(call, socket, ConvaiWire("ulaw_8000"))
    _feed(agent, socket, "", WSMsgType.CLOSE)
    assert socket.closed
    agent.on_ws_disconnected(cast(WSTransport, socket))
    assert not agent.connected


def test_far_end_of_the_floor_speaks_twilio(call: Call, socket: _Socket) -> None:
    agent = _agent(call, socket, TwilioWire())
    _feed(agent, socket, {"event": "connected", "protocol": "Call", "version": "1.0.0"})
    assert not agent.tick(0)
    assert socket.take() == []
    _feed(agent, socket, {"event": "start", "streamSid": SID})
    frame = call.frames.message(0).decode()
    _feed(agent, socket, {"event": "media", "streamSid": SID, "media": {"payload": frame}})
    agent.tick(0)
    agent.interrupt(1)
    media, clear = socket.take()
    assert (media["event"], media["streamSid"]) == ("media", SID)
    assert len(base64.b64decode(media["media"]["payload"])) == 800
    assert clear == {"event": "clear", "streamSid": SID}
    assert call.tallies()[0].received_ms == 20
