"""Sockets bound to their port, or words that help."""

from __future__ import annotations

import socket

import pytest

from bridge.errors import ConfigError
from bridge.server.sip.binding import open_socket
from bridge.server.sip.options import Listen
from bridge.sip.flow import Transport


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP])
def test_a_port_that_is_taken(transport: Transport) -> None:
    with open_socket(Listen(transport, "127.0.0.1", 0, "X")) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            open_socket(Listen(transport, "127.0.0.1", port, "SIP_PORT"))
    assert str(caught.value) == (
        f"SIP_PORT: cannot listen on 127.0.0.1 port {port} ({transport.value}): another program has it; stop that or "
        "set another port"
    )


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1 port 5060 \(UDP\): this machine does not have that address"):
        open_socket(Listen(Transport.UDP, "192.0.2.1", 5060, "SIP_PORT"))


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (PermissionError(13, "Permission denied"), "ports below 1024 need a privilege; set a higher one"),
        (OSError(105, "No buffer space available"), "No buffer space available"),
    ],
)
def test_other_problems(monkeypatch: pytest.MonkeyPatch, problem: OSError, words: str) -> None:
    def refuse(*_: object) -> None:
        raise problem

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(ConfigError, match=words):
        open_socket(Listen(Transport.TCP, "127.0.0.1", 80, "SIP_PORT"))


def test_no_sockets_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(ConfigError, match="Too many open files"):
        open_socket(Listen(Transport.TCP, "127.0.0.1", 80, "SIP_PORT"))


def test_both_families_on_one_port() -> None:
    with open_socket(Listen(Transport.TCP, "::", 0, "X")) as six:
        port = six.getsockname()[1]
        with open_socket(Listen(Transport.TCP, "0.0.0.0", port, "X")) as four:
            assert four.getsockname() == ("0.0.0.0", port)
            assert not four.getblocking()
