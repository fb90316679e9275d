"""A simulated Genesys call's carrier side: a fast WebSocket client that speaks the Audio Connector's protocol.

It sends ``open`` and waits for ``opened``, sends 200 ms of audio in a binary message when it is told to, pings (a
second after ``opened``, then every five), reports what its player does, and parts with ``close`` and ``closed``. It
counts messages against Genesys' rate limits and looks at sequence numbers, because breaking either ends real
sessions; it does not check every rule of the wire, that is what the strict simulator is for.

Sources: Genesys Cloud Developer Center, "AudioHook protocol reference" and "Session walkthrough"; call logs of the
Audio Connector for the size of its messages.
"""

from __future__ import annotations

import time
from typing import Final

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from bridge.bench.call import Call
from bridge.bench.figures import NS_PER_MS
from bridge.simulators.genesys_limits import Limits, TokenBucket

FRAME_MS: Final = 200
"""Audio in one message: 1600 bytes of mu-law."""

FIRST_PING_TICKS, PING_EVERY_TICKS = 1000 // FRAME_MS, 5000 // FRAME_MS

ORGANIZATION_ID = "d7934305-0972-4844-938e-9060eef73d05"

_TEXT, _BINARY, _CLOSE = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CLOSE
_LIMITS = Limits()
_NS_PER_S = 1000 * NS_PER_MS


class _FromServer(msgspec.Struct, gc=False):
    version: str
    id: str
    type: str
    seq: int
    clientseq: int
    parameters: msgspec.Raw


class _Entity(msgspec.Struct, gc=False):
    type: str


class _Event(msgspec.Struct, gc=False):
    entities: list[_Entity]


_decoder = msgspec.json.Decoder(_FromServer)
_event_decoder = msgspec.json.Decoder(_Event)


def session_id(index: int) -> str:
    """Genesys-shaped session id of a call: a UUID."""
    return f"30b0e395-84d3-4570-ac13-{index:012x}"


def headers(index: int) -> dict[str, str]:
    """Headers of the upgrade request of a call."""
    return {
        "Audiohook-Organization-Id": ORGANIZATION_ID,
        "Audiohook-Session-Id": session_id(index),
        "Audiohook-Correlation-Id": session_id(index),
        "X-API-KEY": "bench",
    }


def open_parameters(index: int) -> dict[str, object]:
    """Parameters of the ``open`` of a call, as the Audio Connector sends them."""
    conversation_id = f"090eaa2f-72fa-480a-83e0-{index:012x}"
    return {
        "organizationId": ORGANIZATION_ID,
        "conversationId": conversation_id,
        "participant": {
            "id": f"883efee8-3d6c-4537-b500-{index:012x}",
            "ani": "tel:+15550100",
            "aniName": "",
            "dnis": "tel:+15550199",
        },
        "media": [{"type": "audio", "format": "PCMU", "channels": ["external"], "rate": 8000}],
        "language": "en-US",
        "inputVariables": {"tier": "gold"},
    }


class GenesysCaller(WSListener):
    """The carrier's end of one call."""

    __slots__ = (
        "_audio_budget",
        "_call",
        "_closed",
        "_has_limits",
        "_id",
        "_is_open",
        "_opened_ns",
        "_ping",
        "_playing",
        "_samples",
        "_seq",
        "_server_seq",
        "_text_budget",
        "_ticks",
        "_transport",
        "hung_up",
    )

    def __init__(self, call: Call, *, has_limits: bool = True) -> None:
        """``has_limits``: whether the server's messages are counted against Genesys' rates."""
        self._call = call
        self._has_limits = has_limits
        self._transport: WSTransport | None = None
        self._id = session_id(call.index)
        self._seq = self._server_seq = self._samples = self._ticks = 0
        self._opened_ns = 0  # when ``open`` went out
        self._is_open = self._closed = self._playing = False
        self._ping = (0, 0)  # sequence number and time in ns of the ping that waits for its pong
        self._audio_budget = TokenBucket(_LIMITS.binary, 0.0)
        self._text_budget = TokenBucket(_LIMITS.text, 0.0)
        self.hung_up = False
        """Whether this side ended the call; a disconnect before that is the server's doing."""

    @property
    def talking(self) -> bool:
        """Whether the session is open."""
        return self._is_open

    # --- picows ------------------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Open the session."""
        self._transport = transport
        self._opened_ns = time.perf_counter_ns()
        self._send("open", msgspec.json.encode(open_parameters(self._call.index)))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a message of the server."""
        now_ns = time.perf_counter_ns()
        if frame.msg_type is _BINARY:
            self._hear(bytes(frame.get_payload_as_memoryview()), now_ns)
        elif frame.msg_type is _TEXT:
            try:
                self._take(_decoder.decode(frame.get_payload_as_memoryview()), now_ns)
            except msgspec.DecodeError as error:
                self._call.logs.complain(f"to the carrier: {error}")
        elif frame.msg_type is _CLOSE:
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The socket is gone; Genesys closes it itself, after ``closed``."""
        if not self._closed:
            self._call.logs.complain(f"the server closed the socket of call {self._call.index}")
        self._transport = None
        self._is_open = False

    async def wait_closed(self) -> None:
        """Wait until the session is closed and its socket gone."""
        if self._transport is not None:
            await self._transport.wait_disconnected()

    # --- the load's clock --------------------------------------------------------------------------------

    def tick(self, now_ns: int) -> None:
        """Send the next 200 ms, and a ping when one is due."""
        transport = self._transport
        if transport is None or not self._is_open:
            return
        audio = self._call.frames.message(now_ns)
        self._samples += len(audio)
        transport.send(_BINARY, audio)
        self._ticks += 1
        if self._ticks % PING_EVERY_TICKS == FIRST_PING_TICKS:
            if self._ping[0]:
                self._call.logs.complain(f"no pong in call {self._call.index}")
            self._send("ping", b"{}")
            self._ping = self._seq, now_ns

    def attend(self, now_ns: int) -> None:
        """Look at the player: report when it has played everything."""
        if self._playing and now_ns >= self._call.clock.ends_ns:
            self._playing = False
            self._send("playback_completed", b"{}")

    def hang_up(self) -> None:
        """The caller is gone: ``close``; the socket follows once ``closed`` is there."""
        self.hung_up = True
        if self._transport is not None:
            self._is_open = self._playing = False
            self._send("close", b'{"reason":"end"}')

    def drop(self) -> None:
        """Let go of a session that its server does not close."""
        if self._transport is not None:
            self._transport.disconnect()

    # --- inside ------------------------------------------------------------------------------------------

    def _send(self, kind: str, parameters: bytes) -> None:
        if self._transport is None:
            return
        self._seq += 1
        self._transport.send(
            _TEXT,
            b'{"version":"2","id":"%b","type":"%b","seq":%d,"serverseq":%d,"position":"PT%b","parameters":%b}'
            % (
                self._id.encode(),
                kind.encode(),
                self._seq,
                self._server_seq,
                b"%gS" % (self._samples / 8000),
                parameters,
            ),
        )

    def _spend(self, budget: TokenBucket, kind: str, now_ns: int) -> None:
        if self._has_limits and budget.take(now_ns / _NS_PER_S):
            self._call.logs.complain(f"rate limit of {kind} messages exceeded")

    def _hear(self, audio: bytes, now_ns: int) -> None:
        call = self._call
        self._spend(self._audio_budget, "binary", now_ns)
        if not self._is_open:
            if not self.hung_up:  # what crosses ``close`` is let pass
                call.logs.complain("audio before opened")
            return
        call.clock.arrived(now_ns, len(audio))
        call.played.receive(audio, now_ns)
        if not self._playing:
            self._playing = True
            self._send("playback_started", b"{}")

    def _take(self, message: _FromServer, now_ns: int) -> None:
        logs = self._call.logs
        self._spend(self._text_budget, "text", now_ns)
        self._server_seq += 1
        if message.id != self._id or message.version != "2":
            logs.complain("a message of another session")
        elif message.seq != self._server_seq or message.clientseq > self._seq:
            logs.complain(f"to the carrier: seq {message.seq} and clientseq {message.clientseq}")
        elif message.type == "opened" and not self._is_open:
            logs.opened_ms.append((now_ns - self._opened_ns) / NS_PER_MS)
            self._is_open = True
        elif message.type == "pong" and message.clientseq >= self._ping[0]:
            logs.pongs.note(self._ping[1], now_ns)
            self._ping = 0, 0
        elif message.type == "event":
            self._on_event(_event_decoder.decode(message.parameters), now_ns)
        elif message.type == "closed" and self.hung_up:
            self._part()
        else:
            logs.complain(f"to the carrier: {message.type[:20]!r}")

    def _on_event(self, event: _Event, now_ns: int) -> None:
        if not any(entity.type == "barge_in" for entity in event.entities):
            return
        self._call.cleared(now_ns)
        if self._playing:
            self._playing = False
            self._send("playback_completed", b"{}")

    def _part(self) -> None:
        self._closed = True
        if self._transport is not None:
            self._transport.send_close()
            self._transport.disconnect()
