"""Both ends of the Vonage mode on the wire: ``vonage_caller.py`` and ``vonage_far_end.py``."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from picows import WSFrame, WSMsgType, WSTransport

from bridge.bench.agent import Agent
from bridge.bench.call import Call, Logs, SignalKit
from bridge.bench.numbering import build_record
from bridge.bench.vonage_caller import VonageCaller, call_uuid
from bridge.bench.vonage_far_end import VonageWire
from bridge.media.format import Encoding, MediaFormat

MS = 1_000_000
L16 = {rate_hz: MediaFormat(Encoding.L16, rate_hz) for rate_hz in (8000, 16000, 24000)}


class Socket:
    """Stands in for a picows transport."""

    def __init__(self) -> None:
        self.sent: list[tuple[WSMsgType, bytes]] = []
        self.endings: list[str] = []

    def send(self, kind: WSMsgType, message: bytes) -> None:
        self.sent.append((kind, message))

    def send_close(self) -> None:
        self.endings.append("close frame")

    def disconnect(self) -> None:
        self.endings.append("gone")

    def take(self) -> list[Any]:
        """Texts as objects, audio as bytes."""
        taken = [json.loads(text) if kind is WSMsgType.TEXT else text for kind, text in self.sent]
        self.sent.clear()
        return taken


class Frame:
    """Stands in for a picows frame."""

    def __init__(self, payload: bytes, kind: WSMsgType) -> None:
        self.msg_type = kind
        self._payload = payload

    def get_payload_as_memoryview(self) -> memoryview:
        return memoryview(self._payload)


def feed(end: VonageCaller | Agent, socket: Socket, message: object) -> None:
    kind = WSMsgType.BINARY if isinstance(message, bytes) else WSMsgType.TEXT
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    end.on_ws_frame(cast(WSTransport, socket), cast(WSFrame, Frame(payload, kind)))


@pytest.fixture
def logs() -> Logs:
    logs = Logs()
    logs.window.open(0)
    return logs


@pytest.fixture
def call(logs: Logs) -> Call:
    return SignalKit(converting=False, raw_frames=True, media=L16[16000]).new_call(3, logs)


@pytest.fixture
def socket() -> Socket:
    return Socket()


@pytest.fixture
def caller(call: Call, socket: Socket) -> VonageCaller:
    caller = VonageCaller(call)
    caller.on_ws_connected(cast(WSTransport, socket))
    return caller


def record(number: int, sent_ns: int = 0, size: int = 640) -> bytes:
    return build_record(3, 0, number, 0, sent_ns, size)


@pytest.mark.parametrize("rate_hz", [8000, 16000, 24000])
def test_a_caller_begins_with_its_rate_and_sends_frames_of_20_ms(logs: Logs, socket: Socket, rate_hz: int) -> None:
    call = SignalKit(converting=False, raw_frames=True, media=L16[rate_hz]).new_call(3, logs)
    caller = VonageCaller(call)
    caller.on_ws_connected(cast(WSTransport, socket))
    caller.tick(7)
    assert socket.take() == [
        {"event": "websocket:connected", "content-type": f"audio/l16;rate={rate_hz}", "uuid": call_uuid(3)},
        record(0, 7, rate_hz // 25),
    ]


def test_frames_are_played_and_of_no_other_size(caller: VonageCaller, call: Call, socket: Socket, logs: Logs) -> None:
    feed(caller, socket, record(0))
    assert call.clock.ends_ns > 0
    feed(caller, socket, record(1) + record(2))
    assert logs.complaints == ["unexpected frame size 1280, when required 640"]


def test_clear_and_notify(caller: VonageCaller, call: Call, socket: Socket, logs: Logs) -> None:
    socket.take()
    feed(caller, socket, record(0))
    feed(caller, socket, {"action": "notify", "payload": {"mark": "a"}})
    caller.tick(call.clock.ends_ns - 1)
    caller.tick(call.clock.ends_ns)
    assert [item for item in socket.take() if isinstance(item, dict)] == [
        {"event": "websocket:notify", "payload": {"mark": "a"}}
    ]
    feed(caller, socket, {"action": "notify", "payload": {"mark": "b"}})
    call.interrupt(1)
    feed(caller, socket, {"action": "clear"})
    assert socket.take() == [{"event": "websocket:cleared"}]
    assert (call.clock.ends_ns, len(logs.barge_in.values_ms)) == (0, 1)
    caller.tick(10**18)
    assert len(socket.take()) == 1, "no notify after a clear"
    feed(caller, socket, record(1))
    assert call.tallies()[1].stale_bytes == 640


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ({"action": "stop"}, "to the carrier: action 'stop'"),
        ({"event": "x"}, "to the carrier: Object missing required field `action`"),
    ],
)
def test_what_vonage_would_not_take(
    caller: VonageCaller, socket: Socket, logs: Logs, message: object, complaint: str
) -> None:
    feed(caller, socket, message)
    assert logs.complaints == [complaint]


def test_hanging_up_is_closing(caller: VonageCaller, socket: Socket, logs: Logs) -> None:
    assert caller.talking
    caller.hang_up()
    assert socket.endings == ["close frame", "gone"]
    caller.on_ws_disconnected(cast(WSTransport, socket))
    socket.take()
    caller.tick(0)
    caller.attend(0)
    caller.hang_up()
    caller.drop()
    assert (socket.sent, logs.complaints, caller.talking) == ([], [], False)


def test_a_server_that_closes_is_complained_of(caller: VonageCaller, socket: Socket, logs: Logs) -> None:
    caller.on_ws_frame(cast(WSTransport, socket), cast(WSFrame, Frame(b"", WSMsgType.CLOSE)))
    assert socket.endings == ["gone"]
    caller.on_ws_disconnected(cast(WSTransport, socket))
    assert logs.complaints == ["the server closed call 3"]


def test_the_far_end_of_the_floor_speaks_in_frames_of_20_ms(logs: Logs, socket: Socket) -> None:
    call = SignalKit(converting=False, raw_frames=True, raw_speech=True, media=L16[16000]).new_call(3, logs)
    agent = Agent(VonageWire(L16[16000]), lambda agent: call)
    agent.on_ws_connected(cast(WSTransport, socket))
    assert not agent.tick(0)
    caller, up = VonageCaller(call), Socket()
    caller.on_ws_connected(cast(WSTransport, up))
    caller.tick(0)
    for message in up.take():
        feed(agent, socket, message)
    assert agent.tick(0)
    pieces = socket.take()
    assert pieces == [record(number) for number in range(5)]
    for piece in pieces:
        feed(caller, up, piece)
    agent.interrupt(2)
    assert socket.take() == [{"action": "clear"}]
    up_tally, down_tally = call.tallies()
    assert (up_tally.received_ms, down_tally.received_ms) == (20, 100)
    assert logs.complaints == []
