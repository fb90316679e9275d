"""Both ends of the Genesys mode on the wire: ``genesys_caller.py`` and ``genesys_far_end.py``."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from picows import WSFrame, WSMsgType, WSTransport

from bridge.bench.agent import Agent
from bridge.bench.call import Call, Logs, SignalKit
from bridge.bench.genesys_caller import GenesysCaller, headers
from bridge.bench.genesys_far_end import GenesysWire
from bridge.bench.numbering import build_record

MS = 1_000_000
SESSION = "30b0e395-84d3-4570-ac13-000000000003"
MONO = {"type": "audio", "format": "PCMU", "channels": ["external"], "rate": 8000}


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


def feed(end: GenesysCaller | Agent, socket: Socket, message: object) -> None:
    kind = WSMsgType.BINARY if isinstance(message, bytes) else WSMsgType.TEXT
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    end.on_ws_frame(cast(WSTransport, socket), cast(WSFrame, Frame(payload, kind)))


def server(kind: str, seq: int, clientseq: int, parameters: object = None, **envelope: object) -> dict[str, object]:
    """A message of the server."""
    body = {"version": "2", "id": SESSION, "type": kind, "seq": seq, "clientseq": clientseq}
    return {**body, "parameters": parameters or {}, **envelope}


@pytest.fixture
def logs() -> Logs:
    logs = Logs()
    logs.window.open(0)
    return logs


@pytest.fixture
def call(logs: Logs) -> Call:
    return SignalKit(converting=False, frame_ms=200, raw_frames=True).new_call(3, logs)


@pytest.fixture
def socket() -> Socket:
    return Socket()


@pytest.fixture
def caller(call: Call, socket: Socket) -> GenesysCaller:
    caller = GenesysCaller(call)
    caller.on_ws_connected(cast(WSTransport, socket))
    return caller


@pytest.fixture
def live(caller: GenesysCaller, socket: Socket) -> GenesysCaller:
    feed(caller, socket, server("opened", 1, 1, {"media": [MONO]}))
    socket.take()
    return caller


def test_the_upgrade_has_the_headers_that_name_a_session() -> None:
    assert headers(3) == {
        "Audiohook-Organization-Id": "d7934305-0972-4844-938e-9060eef73d05",
        "Audiohook-Session-Id": SESSION,
        "Audiohook-Correlation-Id": SESSION,
        "X-API-KEY": "bench",
    }


def test_a_caller_begins_with_open_and_waits(caller: GenesysCaller, socket: Socket) -> None:
    [opening] = socket.take()
    parameters = opening.pop("parameters")
    assert opening == {
        "version": "2",
        "id": SESSION,
        "type": "open",
        "seq": 1,
        "serverseq": 0,
        "position": "PT0S",
    }
    assert parameters["media"] == [MONO]
    assert parameters["conversationId"] == "090eaa2f-72fa-480a-83e0-000000000003"
    assert parameters["participant"]["ani"] == "tel:+15550100"
    caller.tick(0)
    assert socket.take() == [], "no audio before opened"
    assert not caller.talking


def test_opened_is_timed_and_lets_audio_go(caller: GenesysCaller, socket: Socket, logs: Logs) -> None:
    feed(caller, socket, server("opened", 1, 1, {"media": [MONO]}))
    assert caller.talking
    [took_ms] = logs.opened_ms
    assert took_ms > 0
    socket.take()
    caller.tick(5)
    [audio] = socket.take()
    assert audio == b"".join(build_record(3, 0, number, 0, 5) for number in range(10))


def test_a_ping_after_a_second_and_then_every_five(live: GenesysCaller, socket: Socket, logs: Logs) -> None:
    pings = []
    for number in range(60):
        live.tick(number * 200 * MS)
        texts = [message for message in socket.take() if isinstance(message, dict)]
        for text in texts:
            pings.append((number + 1, text["type"], text["seq"], text["position"]))
            feed(live, socket, server("pong", 1 + len(pings), text["seq"]))
    assert pings == [(5, "ping", 2, "PT1S"), (30, "ping", 3, "PT6S"), (55, "ping", 4, "PT11S")]
    assert len(logs.pongs.values_ms) == 3
    assert logs.complaints == []


def test_a_ping_without_its_pong_is_complained_of(live: GenesysCaller, logs: Logs) -> None:
    for number in range(30):
        live.tick(number * 200 * MS)
    assert logs.complaints == ["no pong in call 3"]


def test_playback_is_reported_when_it_begins_and_when_all_was_played(
    live: GenesysCaller, call: Call, socket: Socket
) -> None:
    feed(live, socket, build_record(3, 0, 0, 0, 0) * 5)
    feed(live, socket, build_record(3, 0, 1, 0, 0) * 5)
    [started] = socket.take()
    assert (started["type"], started["seq"], started["serverseq"]) == ("playback_started", 2, 1)
    live.attend(call.clock.ends_ns - 1)
    assert socket.take() == []
    live.attend(call.clock.ends_ns)
    live.attend(call.clock.ends_ns + 1)
    [completed] = socket.take()
    assert (completed["type"], completed["parameters"]) == ("playback_completed", {})


def test_barge_in_empties_the_player_and_is_timed(live: GenesysCaller, call: Call, socket: Socket, logs: Logs) -> None:
    feed(live, socket, build_record(3, 0, 0, 0, 0) * 5)
    call.interrupt(1)
    socket.take()
    feed(live, socket, server("event", 2, 2, {"entities": [{"type": "barge_in", "data": {}}]}))
    assert [message["type"] for message in socket.take()] == ["playback_completed"]
    assert (call.clock.ends_ns, len(logs.barge_in.values_ms)) == (0, 1)
    feed(live, socket, build_record(3, 0, 1, 0, 0))
    assert call.tallies()[1].stale_bytes == 160
    feed(live, socket, server("event", 3, 2, {"entities": [{"type": "bot_turn_response", "data": {}}]}))
    assert len(logs.barge_in.values_ms) == 1


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (server("pong", 3, 1), "to the carrier: seq 3 and clientseq 1"),
        (server("pong", 2, 9), "to the carrier: seq 2 and clientseq 9"),
        (server("pong", 2, 1, id="30b0e395-84d3-4570-ac13-000000000004"), "a message of another session"),
        (server("pong", 2, 1, version="1"), "a message of another session"),
        (server("opened", 2, 1), "to the carrier: 'opened'"),
        (server("closed", 2, 1), "to the carrier: 'closed'"),
        (server("disconnect", 2, 1, {"reason": "error"}), "to the carrier: 'disconnect'"),
        ({"version": "2"}, "to the carrier: Object missing required field `id`"),
    ],
)
def test_what_genesys_would_not_take(
    live: GenesysCaller, socket: Socket, logs: Logs, message: object, complaint: str
) -> None:
    feed(live, socket, message)
    assert logs.complaints == [complaint]


def test_audio_before_opened(caller: GenesysCaller, socket: Socket, logs: Logs) -> None:
    feed(caller, socket, b"\xff" * 160)
    assert logs.complaints == ["audio before opened"]


@pytest.mark.parametrize(("has_limits", "complaints"), [(True, 1), (False, 0)])
def test_too_many_messages_at_once(call: Call, socket: Socket, logs: Logs, has_limits: bool, complaints: int) -> None:
    caller = GenesysCaller(call, has_limits=has_limits)
    caller.on_ws_connected(cast(WSTransport, socket))
    feed(caller, socket, server("opened", 1, 1, {"media": [MONO]}))
    for number in range(26):
        feed(caller, socket, build_record(3, 0, number, 0, 0))
    assert logs.complaints == ["rate limit of binary messages exceeded"] * complaints


def test_the_parting_is_close_closed_and_then_the_socket(live: GenesysCaller, socket: Socket, logs: Logs) -> None:
    live.hang_up()
    live.tick(0)
    [close] = socket.take()
    assert (close["type"], close["parameters"]) == ("close", {"reason": "end"})
    assert socket.endings == []
    feed(live, socket, b"\xff" * 160)  # crossed our close
    feed(live, socket, server("closed", 2, 2))
    assert socket.endings == ["close frame", "gone"]
    live.on_ws_disconnected(cast(WSTransport, socket))
    live.hang_up()
    live.drop()
    assert (socket.sent, logs.complaints) == ([], [])


def test_a_server_that_closes_the_socket_itself_is_complained_of(
    live: GenesysCaller, socket: Socket, logs: Logs
) -> None:
    live.hang_up()
    live.on_ws_frame(cast(WSTransport, socket), cast(WSFrame, Frame(b"", WSMsgType.CLOSE)))
    live.on_ws_disconnected(cast(WSTransport, socket))
    assert logs.complaints == ["the server closed the socket of call 3"]


def test_a_session_that_is_never_closed_is_let_go(live: GenesysCaller, socket: Socket, logs: Logs) -> None:
    live.hang_up()
    live.drop()
    assert socket.endings == ["gone"]
    live.on_ws_disconnected(cast(WSTransport, socket))
    assert logs.complaints == ["the server closed the socket of call 3"]


def test_the_far_end_of_the_floor_speaks_audiohook(logs: Logs, socket: Socket) -> None:
    kit = SignalKit(converting=False, frame_ms=200, raw_frames=True, raw_speech=True)
    call = kit.new_call(3, logs)
    agent = Agent(GenesysWire(), lambda agent: call, head_start=2)
    agent.on_ws_connected(cast(WSTransport, socket))
    assert not agent.tick(0)
    caller, up = GenesysCaller(call), Socket()
    caller.on_ws_connected(cast(WSTransport, up))
    [opening] = up.take()
    feed(agent, socket, opening)
    [opened] = socket.take()
    assert opened == server("opened", 1, 1, {"media": [MONO]})
    feed(caller, up, opened)
    caller.tick(0)
    feed(agent, socket, up.take()[0])
    assert agent.tick(0)
    assert [len(audio) for audio in socket.take()] == [800, 800, 800], "the head start, once a turn"
    assert agent.tick(1)
    agent.interrupt(2)
    assert agent.tick(3)
    audio, barge_in, *turn = socket.take()
    assert (len(audio), len(turn)) == (800, 3)
    assert barge_in == server("event", 2, 1, {"entities": [{"type": "barge_in", "data": {}}]})
    feed(agent, socket, {"type": "ping", "id": SESSION, "seq": 2})
    feed(agent, socket, {"type": "close", "id": SESSION, "seq": 3})
    assert socket.take() == [server("pong", 3, 2), server("closed", 4, 3)]
    assert not agent.tick(4)
    assert call.tallies()[0].received_ms == 200
    assert logs.complaints == []
