"""Media sockets on picows: the one file that knows which WebSocket library carries the audio.

``MediaSocket`` is a picows listener for either side (server towards the carrier, client towards the agent). It
turns frames into messages and hands them to its owner in the socket's own callback, with no task in between:
that is what makes a call cheap. Messages cut into fragments are put together here, with a bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from bridge.convai.closing import CLOSE_ABNORMAL

if TYPE_CHECKING:
    from picows.picows import WSCloseHandshake, WSCloseInfo

CLOSE_GRACE_S = 2.0
"""How long the peer may take to answer our close frame before its connection is cut: a slow mobile round trip,
not more, because a caller's line stays open meanwhile."""

WRITE_HIGH_BYTES = 32 * 1024
"""Unsent bytes at which a socket counts as stuck: four seconds of a mu-law call on the wire, beyond what the
kernel holds."""

READ_BUFFER_BYTES = 4 * 1024
"""First read buffer of a socket; it grows with need. Ten frames of a call; 16 KiB a socket would cost 32 kB a call."""

CLOSE_NOT_TEXT = 1007
CLOSE_TOO_BIG = 1009

_TEXT, _BINARY, _CLOSE, _CONTINUATION = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CLOSE, WSMsgType.CONTINUATION


def discard(message: str) -> None:
    """Stands in for sending while a socket cannot."""


class SocketOwner(Protocol):
    """Whoever a media socket reports to; all calls come from the event loop's thread, one after the other."""

    def on_open(self, socket: MediaSocket) -> None:
        """The socket may be written to from now on."""

    def on_message(self, message: str | bytes) -> None:
        """A whole message: text as ``str``, binary as ``bytes``."""

    def on_lost(self, code: int, words: str) -> None:
        """The socket is gone; called once. 1006 means without a close frame."""

    def on_writable(self, writable: bool) -> None:
        """The socket is stuck (False) or takes more again (True)."""


class Nobody:
    """An owner who takes no notice: of what comes before a socket has its owner, or after it was refused."""

    def on_open(self, socket: MediaSocket) -> None:
        """See ``SocketOwner``."""

    def on_message(self, message: str | bytes) -> None:
        """See ``SocketOwner``."""

    def on_lost(self, code: int, words: str) -> None:
        """See ``SocketOwner``."""

    def on_writable(self, writable: bool) -> None:
        """See ``SocketOwner``."""


class MediaSocket(WSListener):
    """One WebSocket with audio on it."""

    __slots__ = (
        "_close_code",
        "_close_words",
        "_closing",
        "_fragments",
        "_fragments_are_text",
        "_fragments_bytes",
        "_lost",
        "_max_message_bytes",
        "_owner",
        "_transport",
        "send_text",
    )

    def __init__(self, owner: SocketOwner, max_message_bytes: int) -> None:
        self._owner = owner
        self.send_text: Callable[[str], None] = discard
        """Write a text message; nothing happens before the socket is open and once it is closing. Bound to picows'
        own function while it is open, because this is called a hundred times a second and call."""
        self._max_message_bytes = max_message_bytes
        self._transport: WSTransport | None = None
        self._fragments: list[bytes] = []
        self._fragments_bytes = 0
        self._fragments_are_text = False
        self._closing = False
        self._lost = False
        self._close_code = CLOSE_ABNORMAL
        self._close_words = ""

    # --- ours to call ---

    def send_binary(self, message: bytes) -> None:
        """Write a binary message; nothing happens once the socket is closing."""
        if self._transport is not None and not self._closing:
            self._transport.send(_BINARY, message)

    def close(self, code: int = 1000, words: str = "") -> None:
        """Send a close frame; the connection is cut when the peer does not answer it in time."""
        transport = self._transport
        if transport is None or self._closing or self._lost:
            return
        self._stop_sending()
        transport.send_close(WSCloseCode(code), words.encode() or None)
        asyncio.get_running_loop().call_later(CLOSE_GRACE_S, transport.disconnect, False)

    def hand_over(self, owner: SocketOwner) -> None:
        """Report to ``owner`` from now on, beginning with ``on_open``."""
        self._owner = owner
        owner.on_open(self)

    def cut(self) -> None:
        """Drop the connection at once, without a close frame."""
        if self._transport is not None:
            self._stop_sending()
            self._transport.disconnect(False)

    # --- picows calls ---

    def on_ws_connected(self, transport: WSTransport) -> None:
        """picows: the handshake is done."""
        self._transport = transport
        self.send_text = partial(transport.send, _TEXT)
        transport.underlying_transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        self._owner.on_open(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """picows: a frame."""
        kind = frame.msg_type
        if kind is _TEXT and frame.fin:
            try:
                message = frame.get_payload_as_utf8_text()
            except UnicodeDecodeError:
                self._refuse(CLOSE_NOT_TEXT, "a text message that is not UTF-8")
                return
            self._owner.on_message(message)
        elif kind is _BINARY and frame.fin:
            self._owner.on_message(frame.get_payload_as_bytes())
        elif kind in (_TEXT, _BINARY, _CONTINUATION):
            self._on_fragment(frame)
        elif kind is _CLOSE:
            self._on_close(transport, frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """picows: the connection is gone."""
        if self._lost:
            return
        self._lost = True
        # The stub of picows does not say so, but this is None when neither side sent a close frame.
        handshake = cast("WSCloseHandshake | None", transport.close_handshake)
        if self._close_code == CLOSE_ABNORMAL and handshake is not None and not self._closing:
            self._explain(handshake.sent)
        self._owner.on_lost(self._close_code, self._close_words)

    def pause_writing(self) -> None:
        """picows: the write buffer is over its limit."""
        self._owner.on_writable(False)

    def resume_writing(self) -> None:
        """picows: the write buffer has drained."""
        self._owner.on_writable(True)

    # --- inside ---

    def _stop_sending(self) -> None:
        self._closing = True
        self.send_text = discard

    def _explain(self, sent: WSCloseInfo | None) -> None:
        """picows closed on its own account: with our word for a frame it refused, or for want of a pong."""
        if sent is None:
            return
        self._close_words = sent.reason or ""
        if sent.code is not WSCloseCode.GOING_AWAY:  # that is picows' word for a dead peer, who said nothing
            self._close_code = sent.code.value

    def _on_fragment(self, frame: WSFrame) -> None:
        if self._lost:  # refused already: what still comes must not pile up
            return
        if frame.msg_type is not _CONTINUATION:
            self._fragments_are_text = frame.msg_type is _TEXT
        self._fragments.append(frame.get_payload_as_bytes())
        self._fragments_bytes += len(self._fragments[-1])
        if self._fragments_bytes > self._max_message_bytes:
            self._refuse(CLOSE_TOO_BIG, f"a message over {self._max_message_bytes} bytes")
            return
        if not frame.fin:
            return
        whole = b"".join(self._fragments)
        self._fragments.clear()
        self._fragments_bytes = 0
        if not self._fragments_are_text:
            self._owner.on_message(whole)
            return
        try:
            message = whole.decode()
        except UnicodeDecodeError:
            self._refuse(CLOSE_NOT_TEXT, "a text message that is not UTF-8")
            return
        self._owner.on_message(message)

    def _on_close(self, transport: WSTransport, payload: bytes) -> None:
        """The peer's close frame: remember its words, answer in kind, and let go."""
        if len(payload) >= 2:
            self._close_code = int.from_bytes(payload[:2], "big")
            self._close_words = payload[2:].decode(errors="replace")
        else:
            self._close_code = 1005  # RFC 6455, 7.1.5: a close frame without a code
        if not self._closing:
            self._stop_sending()
            transport.send_close(WSCloseCode.OK)
        transport.disconnect()

    def _refuse(self, code: int, words: str) -> None:
        """The peer broke the WebSocket protocol: say so and end."""
        self._close_code, self._close_words = code, words
        self._fragments.clear()
        self._fragments_bytes = 0
        self.close(code, words)
        if not self._lost:
            self._lost = True
            owner, self._owner = self._owner, Nobody()
            owner.on_lost(code, words)
