"""A leg of the simulated Twilio cloud on a bridge's media socket: <Connect><Stream>.

The wire is ``twilio_protocol``; here are the socket, the leg's ear and mouth, and the stream's status callbacks.
Sources: Twilio docs "TwiML: <Stream>" (statusCallback), errors 31901, 31903, 31920, 31921, read 2026-11-21.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from bridge.simulators.twilio_cloud_media import FRAME_BYTES, QUIET
from bridge.simulators.twilio_exchange import Exchange
from bridge.simulators.twilio_leg import Leg, new_sid
from bridge.simulators.twilio_playout import SILENCE
from bridge.simulators.twilio_protocol import TwilioStream
from bridge.simulators.twiml import HANDSHAKE, StreamNoun

HANDSHAKE_S = 10.0
"""How long the media socket may take to open; Twilio's limit is not documented."""

CLOSE_S = 1.0
"""How long the other side may take for its close frame."""

MAX_WAITING = 500
"""Messages that wait for a bridge which does not read (10 s); then the caller's audio is dropped (31930)."""

NO_CONNECTION, BROKEN_PIPE, OVERFLOW = 31901, 31903, 31930


class LegStream:
    """One stream of one leg; ``hold`` keeps the leg on it until one side ends it."""

    joined = False

    def __init__(self, exchange: Exchange, leg: Leg, noun: StreamNoun, connection: ClientConnection) -> None:
        self._exchange, self._leg, self._noun, self._connection = exchange, leg, noun, connection
        now = time.monotonic()
        account_sid = leg.facts.account_sid
        self.stream = TwilioStream(leg.sid, new_sid("MZ"), account_sid, noun.parameters)
        self._wake = asyncio.Event()
        self._waiting: list[str] = []
        self._heard_bytes = 0
        self._stopped = self._gone = self._overflowed = False
        self.stream.send_connected()
        self.stream.send_start(now)
        leg.streams.append(self.stream)

    # --- the leg's side --------------------------------------------------------------------------------------

    def hear(self, now: float) -> bytes:
        """20 ms of what the bridge sent; what the person says in them goes out to it."""
        stream = self.stream
        playout = stream.playout
        assert playout is not None  # started by the constructor
        stream.advance(now)
        if self._leg.lost_audio or self._overflow():
            stream.skip_media(FRAME_BYTES)
        else:
            stream.send_media(self._leg.out)
        self._wake.set()
        frame = bytes(playout.heard[self._heard_bytes : self._heard_bytes + FRAME_BYTES])
        self._heard_bytes += len(frame)
        return frame.ljust(FRAME_BYTES, SILENCE)

    def key(self, digit: str) -> bool:
        """A key goes to the bridge as a message."""
        self.stream.send_dtmf(digit)
        self._wake.set()
        return True

    def _overflow(self) -> bool:
        full = len(self._waiting) > MAX_WAITING
        if full and not self._overflowed:
            self._overflowed = True
            self._exchange.violate(self._leg, OVERFLOW, "the media socket is not read; the caller's audio is dropped")
        return full

    # --- the socket's side -----------------------------------------------------------------------------------

    async def hold(self) -> None:
        """Be on the stream until the bridge closes it; when cancelled, tell the bridge ``stop`` first."""
        leg, exchange = self._leg, self._exchange
        exchange.note(leg, "stream started")
        exchange.spawn(_callback(exchange, leg, self._noun, self.stream.stream_sid, "stream-started"))
        leg.media = self
        pump = asyncio.create_task(self._pump())
        try:
            await asyncio.shield(pump)
        except asyncio.CancelledError:
            self._stop()
            await asyncio.wait({pump}, timeout=2 * CLOSE_S)
            raise
        finally:
            leg.media = QUIET
            self._close_books()

    def _stop(self) -> None:
        if not self._stopped and not self._gone:
            self._leg.media = QUIET  # nothing follows the stop
            self.stream.send_stop()
            self._stopped = True
            self._wake.set()

    async def _pump(self) -> None:
        reader = asyncio.create_task(self._read())
        try:
            while True:
                self._waiting += self.stream.drain()
                while self._waiting:
                    await self._connection.send(self._waiting.pop(0))
                    self._waiting += self.stream.drain()
                if self._stopped or self._gone:
                    break
                await self._wake.wait()
                self._wake.clear()
        except ConnectionClosed:
            pass  # the reader knows
        finally:
            await self._connection.close(1000)
            await reader

    async def _read(self) -> None:
        try:
            async for message in self._connection:
                self.stream.receive(message, time.monotonic())
                self._wake.set()
        except ConnectionClosed:
            pass
        self._gone = True
        self._wake.set()

    def _close_books(self) -> None:
        leg, exchange, stream = self._leg, self._exchange, self.stream
        code = self._connection.close_code
        for violation in stream.violations:
            exchange.violate(leg, violation.code, violation.text)
        how = "stopped" if self._stopped else f"closed by the bridge with {code}"
        if not self._stopped and code in (None, 1006):
            exchange.violate(leg, BROKEN_PIPE, "the media socket broke without a close frame")
            how = "lost"
        exchange.note(leg, f"stream {how}")
        exchange.spawn(_callback(exchange, leg, self._noun, stream.stream_sid, "stream-stopped"))


async def open_stream(exchange: Exchange, leg: Leg, noun: StreamNoun) -> LegStream | None:
    """Open the media socket; None (and a violation, and ``stream-error``) where it does not come about."""
    try:
        connection = await connect(
            exchange.webhooks.reach(noun.url),
            additional_headers=exchange.webhooks.upgrade_headers(noun.url),
            compression=None,
            open_timeout=HANDSHAKE_S,
            close_timeout=CLOSE_S,
            ping_interval=None,  # not known of Twilio, and the bridge must not count on it
            max_queue=None,
            user_agent_header="TwilioMediaStreams/1.0",
            proxy=None,
        )
    except InvalidStatus as error:
        code, text = HANDSHAKE, f"upgrade was answered with {error.response.status_code}"
    except (InvalidHandshake, OSError, TimeoutError) as error:
        code, text = NO_CONNECTION, f"no connection: {type(error).__name__}"
    else:
        return LegStream(exchange, leg, noun, connection)
    exchange.violate(leg, code, text)
    exchange.note(leg, "stream refused")
    exchange.spawn(_callback(exchange, leg, noun, new_sid("MZ"), "stream-error", f"{code}: {text}"))
    return None


async def _callback(
    exchange: Exchange, leg: Leg, noun: StreamNoun, stream_sid: str, event: str, error: str = ""
) -> None:
    if not noun.status_callback:
        return
    fields = {
        "AccountSid": leg.facts.account_sid,
        "CallSid": leg.sid,
        "StreamSid": stream_sid,
        "StreamName": noun.name or stream_sid,
        "StreamEvent": event,
        "Timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    if error:
        fields["StreamError"] = error
    await exchange.post(noun.status_callback_method, noun.status_callback, fields)
