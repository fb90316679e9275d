"""Somebody for a media socket to report to."""

from __future__ import annotations

from bridge.server.sockets import MediaSocket


class Owner:
    """Writes down everything that a socket reports."""

    def __init__(self) -> None:
        self.socket: MediaSocket | None = None
        self.opened = 0
        self.messages: list[str | bytes] = []
        self.lost: list[tuple[int, str]] = []
        self.writable: list[bool] = []

    def on_open(self, socket: MediaSocket) -> None:
        self.socket = socket
        self.opened += 1

    def on_message(self, message: str | bytes) -> None:
        self.messages.append(message)

    def on_lost(self, code: int, words: str) -> None:
        self.lost.append((code, words))

    def on_writable(self, writable: bool) -> None:
        self.writable.append(writable)

    @property
    def open_socket(self) -> MediaSocket:
        """The socket, which must be open."""
        assert self.socket is not None
        return self.socket
