"""Who an agent's socket reports to: its session, until another connection takes its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.server.sockets import MediaSocket

if TYPE_CHECKING:
    from bridge.server.session import Session


class AgentEnd:
    """An agent's socket, reporting to its session; once ``dismissed`` it reports no more."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session: Session | None = session

    def dismiss(self) -> None:
        """Another connection takes this one's place."""
        self._session = None

    def on_open(self, socket: MediaSocket) -> None:
        """See ``SocketOwner``."""
        if self._session is not None:
            self._session.agent_open(socket)
        else:
            socket.close()

    def on_message(self, message: str | bytes) -> None:
        """See ``SocketOwner``."""
        if self._session is not None:
            self._session.from_agent(message)

    def on_lost(self, code: int, words: str) -> None:
        """See ``SocketOwner``."""
        if self._session is not None:
            self._session.agent_lost(code, words)

    def on_writable(self, writable: bool) -> None:
        """See ``SocketOwner``."""
        if self._session is not None:
            self._session.agent_writable(writable)
