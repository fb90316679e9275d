"""One media socket of a simulated Vonage, sans-I/O: the wire and nothing but the wire, as strict as the real one.

Stricter where the real one keeps quiet: texts that it does not know are noted. What ends the socket is a frame that is
not 20 ms long (the vendor's own log says "unexpected frame size 160, when required 320" and "stop listening"; the
server sees 1006) and more messages than the buffer holds.

Sources: Vonage "WebSockets in the Vonage Voice API" and "Play audio into a WebSocket", read 2026-11-21; the support log
quoted in vocodedev/vocode-core issue 727 for wrong sizes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.simulators import vonage_wire as wire
from bridge.simulators.vonage_playout import BUFFER_MESSAGES, Payload, Playout
from bridge.simulators.vonage_wire import MAX_VIOLATIONS, Violation


@dataclass(frozen=True, slots=True)
class CloseSocket:
    """For the driver: close the socket with a close frame after all that was drained before."""


@dataclass(frozen=True, slots=True)
class AbortSocket:
    """For the driver: drop the connection; the server sees 1006."""


Outgoing = str | bytes | CloseSocket | AbortSocket


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketSetup:
    """How one socket is."""

    rate_hz: int = 16000
    headers: Mapping[str, Any] = field(default_factory=dict)
    """Of the endpoint in the NCCO; they come flattened in the first message."""
    echo_cleared: bool = False
    """Whether notifies that ``clear`` removes come back."""
    nested_dtmf: bool = False
    say_connected: bool = True
    """False = a Vonage that forgets its first message."""

    def __post_init__(self) -> None:
        if self.rate_hz not in wire.RATES_HZ:
            raise ValueError(f"rate_hz must be one of {', '.join(map(str, wire.RATES_HZ))}")


@dataclass(frozen=True, slots=True)
class ClearRecord:
    """One ``clear``."""

    at_s: float
    dropped_ms: float


class VonageSocket:
    """One media socket. The driver feeds ``receive`` and takes ``drain``."""

    def __init__(self, setup: SocketSetup, now: float) -> None:
        """Says ``websocket:connected``."""
        self.setup = setup
        self.started_s = now
        self.frame_bytes = wire.frame_bytes(setup.rate_hz)
        self.playout = Playout(setup.rate_hz, now, echo_cleared=setup.echo_cleared)
        self.violations: list[Violation] = []
        self.clears: list[ClearRecord] = []
        self.notifies_received = 0
        self.notified: list[Payload] = []
        """Payloads that were sent back."""
        self.frames_sent = self.frames_received = self.bytes_received = 0
        self.over = False
        """Whether the socket is closed, or about to be."""
        self._out: list[Outgoing] = []
        if setup.say_connected:
            self._out.append(wire.connected(setup.rate_hz, setup.headers))

    def elapsed_ms(self, now: float) -> float:
        """Since the socket was opened."""
        return (now - self.started_s) * 1000

    # --- to the server -----------------------------------------------------------------------------------

    def send_audio(self, frame: bytes) -> None:
        """Send 20 ms of the other legs' audio, L16 little-endian."""
        assert len(frame) == self.frame_bytes
        if not self.over:
            self.frames_sent += 1
            self._out.append(frame)

    def send_dtmf(self, digit: str) -> None:
        """Tell of a key that somebody pressed."""
        self.inject(wire.dtmf(digit, nested=self.setup.nested_dtmf))

    def inject(self, message: str | bytes) -> None:
        """Send anything, right or wrong."""
        if not self.over:
            self._out.append(message)

    def close(self) -> None:
        """End it as Vonage does: there is no word of parting."""
        self._end(CloseSocket())

    def abort(self) -> None:
        """Lose the connection."""
        self._end(AbortSocket())

    def drain(self) -> list[Outgoing]:
        """Take what must go out."""
        out, self._out = self._out, []
        return out

    # --- from the server ---------------------------------------------------------------------------------

    def receive(self, message: str | bytes, now: float) -> None:
        """Feed one message of the server."""
        if self.over:
            return
        if isinstance(message, bytes):
            self._hear(message, now)
            return
        try:
            command = wire.read_command(message)
        except wire.WireError as error:
            self.violate(str(error), now)
            return
        if isinstance(command, wire.Clear):
            dropped_ms, reached = self.playout.clear(now)
            self.clears.append(ClearRecord(now, dropped_ms))
            self._echo(reached)
            self._out.append(wire.cleared())
        else:
            self.notifies_received += 1
            self._echo(self.playout.notify(command.payload, now))

    def advance(self, now: float) -> None:
        """Let time pass: notifies go out when they are due."""
        self._echo(self.playout.advance(now))

    def next_timer(self) -> float:
        """When ``advance`` has something to do next."""
        return math.inf if self.over else self.playout.next_notify_s()

    def connection_lost(self) -> None:
        """The socket is gone."""
        self.over = True

    def violate(self, text: str, now: float, *, fatal: bool = False) -> None:
        """Note something against the protocol; a fatal one ends the socket."""
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations.append(Violation(text, round(self.elapsed_ms(now), 1), fatal))
        if fatal:
            self.abort()

    # --- inside ------------------------------------------------------------------------------------------

    def _hear(self, frame: bytes, now: float) -> None:
        self.bytes_received += len(frame)
        if len(frame) != self.frame_bytes:
            text = f"unexpected frame size {len(frame)}, when required {self.frame_bytes}"
            self.violate(text, now, fatal=True)
            return
        self.frames_received += 1
        has_room, reached = self.playout.push(frame, now)
        self._echo(reached)
        if not has_room:
            self.violate(f"more than {BUFFER_MESSAGES} messages waiting", now, fatal=True)

    def _echo(self, payloads: list[Payload]) -> None:
        for payload in payloads:
            self.notified.append(payload)
            self.inject(wire.notified(payload))

    def _end(self, how: CloseSocket | AbortSocket) -> None:
        if not self.over:
            self.over = True
            self._out.append(how)
