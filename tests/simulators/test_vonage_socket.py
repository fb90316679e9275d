"""``bridge.simulators.vonage_socket``: what ends a socket, and what is only noted."""

from __future__ import annotations

import json

import pytest

from bridge.simulators.vonage_socket import AbortSocket, CloseSocket, SocketSetup, VonageSocket

FRAME = b"\x01\x00" * 320


@pytest.fixture
def socket() -> VonageSocket:
    socket = VonageSocket(SocketSetup(headers={"uuid": "u1"}), 100.0)
    assert socket.drain() == ['{"event":"websocket:connected","content-type":"audio/l16;rate=16000","uuid":"u1"}']
    return socket


@pytest.mark.parametrize("size", [0, 1, 160, 320, 639, 641, 960, 1280, 3200])
def test_a_frame_of_another_size_ends_it_without_a_close_frame(socket: VonageSocket, size: int) -> None:
    socket.receive(bytes(size), 100.5)
    [violation] = socket.violations
    assert violation.text == f"unexpected frame size {size}, when required 640"
    assert (violation.at_ms, violation.fatal, socket.over) == (500.0, True, True)
    assert socket.drain() == [AbortSocket()]
    socket.receive(FRAME, 100.6)
    socket.send_audio(FRAME)
    socket.close()
    assert (socket.drain(), socket.frames_received, socket.frames_sent) == ([], 0, 0)


def test_more_than_the_buffer_holds_ends_it(socket: VonageSocket) -> None:
    for _ in range(3073):
        socket.receive(FRAME, 100.0)
    assert [violation.text for violation in socket.violations] == ["more than 3072 messages waiting"]
    assert socket.drain() == [AbortSocket()]


def test_texts_that_it_does_not_know_are_noted(socket: VonageSocket) -> None:
    socket.receive("{", 100.0)
    socket.receive('{"action":"stop"}', 100.0)
    assert [violation.fatal for violation in socket.violations] == [False, False]
    assert not socket.over


def test_clear_and_notify(socket: VonageSocket) -> None:
    socket.receive(FRAME, 100.0)
    socket.receive('{"action":"notify","payload":{"mark":"a"}}', 100.0)
    assert socket.next_timer() == pytest.approx(100.02)
    socket.advance(100.02)
    socket.receive(FRAME, 100.1)
    socket.receive('{"action":"notify","payload":{"mark":"b"}}', 100.1)
    socket.receive('{"action":"clear"}', 100.1)
    assert [json.loads(str(item)) for item in socket.drain()] == [
        {"event": "websocket:notify", "payload": {"mark": "a"}},
        {"event": "websocket:cleared"},
    ]
    assert [(clear.at_s, clear.dropped_ms) for clear in socket.clears] == [(100.1, 20)]
    assert (socket.notifies_received, socket.notified) == (2, [{"mark": "a"}])


def test_its_own_side(socket: VonageSocket) -> None:
    socket.send_audio(FRAME)
    socket.send_dtmf("1")
    socket.inject(b"x")
    socket.close()
    assert socket.drain() == [FRAME, '{"event":"websocket:dtmf","digit":"1","duration":260}', b"x", CloseSocket()]


def test_a_rate_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="rate_hz must be one of 8000, 16000, 24000"):
        SocketSetup(rate_hz=48000)


def test_a_vonage_that_forgets_its_first_message() -> None:
    assert VonageSocket(SocketSetup(say_connected=False), 0.0).drain() == []
