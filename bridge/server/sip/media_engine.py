"""Drives the media of all calls: one clock, and the sockets of every call.

Public: ``MediaEngine``, ``EngineOptions``, ``MediaHandle``, ``MediaLine``, ``new_seeds``.

Theory of operation. Calls are spread over groups, and each group is served every 20 ms (``media_clock``), woken by one
timer of the event loop. A group's turn has two halves. First every call's packet is sent, so that nothing which a
frame may set off delays it. Then the group's sockets are read, all packets that have come since the last turn, and
every call's line gets its frame. Sockets are polled here and not watched by the event loop: audio is played at ticks
only, so a packet that is read at the tick comes as early as it can be used, and 50 wake-ups a second and call are
saved. When a packet came is what the kernel noted, so jitter is the network's and not ours, also after a stall.

Bounds: of one call at most ``reads_per_tick`` datagrams are read at a tick; the kernel drops what exceeds its buffer,
so a flood costs the others little. Nothing here blocks, awaits or logs per packet. A mistake of ours in one call
closes that call's media and is logged; the others go on.
"""

from __future__ import annotations

import asyncio
import secrets
import selectors
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import SystemRandom
from typing import Protocol, cast

from bridge.errors import LocalError
from bridge.server.logs import get_logger
from bridge.server.metrics import HopHistogram
from bridge.server.sip.media_ports import MAX_ANCILLARY_BYTES, PortPair, RtpPorts
from bridge.sip.media import CallMedia
from bridge.sip.media_clock import PERIOD_S, MediaClock, Tick
from bridge.sip.media_events import MediaBroken, MediaEvent
from bridge.sip.media_options import MediaSeeds
from bridge.sip.rtp import MAX_DATAGRAM_BYTES, looks_like_rtcp
from bridge.sip.rtp_source import Address

PACING_BUCKETS_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.04, 0.06, 0.1, 0.2)
"""How late packets go out. 10 ms and 60 ms are the product's promises."""
TIMER_GRAIN_S = 0.001
"""Event loops' timers count milliseconds; a shorter wait would spin."""
EARLY_S = 0.0005
"""A timer may fire this much too early by rounding; the tick is taken as due."""
CHECK_EVERY_TICKS = 50
"""1 s: time-outs and reports are looked for."""
OLDEST_S = 5.0
"""A datagram that says to have waited longer in the kernel has come over a change of the wall clock."""
_KERNEL_TIME = struct.Struct("@ll")


class MediaLine(Protocol):
    """Whoever a call's media reports to; all calls come from the event loop's thread, never from within a call into
    ``CallMedia`` or the engine."""

    def on_frame(self, frame: bytes) -> None:
        """The caller's next 20 ms: 160 bytes in ``CallMedia.encoding``. May close the handle."""

    def on_media_event(self, event: MediaEvent) -> None:
        """Something has happened. May close the handle."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How the clock runs."""

    groups: int = 10
    """Turns in 20 ms: with 10 the calls are served in tenths, every 2 ms."""
    catch_up_s: float = 0.1
    """After a stall, what is made up for; older ticks are left out."""
    reads_per_tick: int = 16
    """Datagrams of one call; two are usual at most, more come after stalls and in floods."""


class MediaHandle:
    """The media of one call, in service. Made by ``MediaEngine.open``."""

    __slots__ = ("_engine", "group", "hear", "is_open", "line", "media", "on_frame", "pair", "sendto", "speak")

    def __init__(self, engine: MediaEngine, pair: PortPair, media: CallMedia, line: MediaLine, group: int) -> None:
        self._engine = engine
        self.pair = pair
        self.media = media
        self.line = line
        self.group = group
        self.is_open = True
        # Bound once: these run fifty times a second.
        self.hear, self.speak, self.on_frame = media.hear, media.speak, line.on_frame
        self.sendto = pair.rtp.sendto

    def close(self) -> None:
        """The call is over: say so by RTCP, and give the ports back. Idempotent; ``media.stats`` stay."""
        self._engine.close_call(self)

    # --- the engine's ---

    def read(self, port: socket.socket, now: float, offset_s: float) -> None:
        """Read one datagram of one of our ports; ``offset_s`` is monotonic time less wall-clock time."""
        try:
            datagram, ancillary, _, source = port.recvmsg(MAX_DATAGRAM_BYTES + 1, MAX_ANCILLARY_BYTES)
        except OSError:
            return
        came_at = _time_of(ancillary, now, offset_s)
        media = self.media
        if port is not self.pair.rtp or (media.is_rtcp_muxed and looks_like_rtcp(datagram)):
            media.receive_rtcp(datagram, source[:2], came_at)
        else:
            media.receive(datagram, source[:2], came_at)

    def send_rtcp(self, datagram: bytes, destination: Address) -> None:
        """Send a report. Raises ``OSError``."""
        (self.pair.rtp if self.media.is_rtcp_muxed else self.pair.rtcp).sendto(datagram, destination)


@dataclass(slots=True, eq=False)
class _Group:
    """The calls of one turn."""

    calls: tuple[MediaHandle, ...] = ()
    """Replaced, never changed: calls end while it is walked through."""
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)


class MediaEngine:
    """The media of all calls of this process. Everything in the event loop's thread."""

    def __init__(
        self,
        ports: RtpPorts,
        options: EngineOptions | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        unix: Callable[[], float] = time.time,
        draw: Callable[[], float] | None = None,
    ) -> None:
        self.ports = ports
        self.pacing = HopHistogram(PACING_BUCKETS_S)
        """How late each group's last packet of a tick went out."""
        self.latest_s = 0.0
        """The greatest of these."""
        self.unsent = 0
        """Packets that the kernel did not take: its buffer was full, or there is no way to the destination."""
        self.bugs = 0
        """Calls whose media was closed for a mistake of ours."""
        self._options = options or EngineOptions()
        self._monotonic, self._unix = monotonic, unix
        self._draw = draw or SystemRandom().random
        self._groups: tuple[_Group, ...] = ()
        self._clock: MediaClock | None = None
        self._next_group = 0
        self._skipped_before = 0  # by the clocks before
        self._timer: asyncio.Handle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- for the server ---

    async def start(self) -> None:
        """Be ready for calls. Nothing runs while there are none."""
        self._loop = asyncio.get_running_loop()
        self._groups = tuple(_Group() for _ in range(self._options.groups))

    async def close(self) -> None:
        """Close the media of all calls, and stop."""
        for group in self._groups:
            for call in group.calls:
                call.close()
            group.selector.close()
        self._groups = ()
        self._loop = None

    @property
    def calls(self) -> int:
        """How many are in service."""
        return sum(len(group.calls) for group in self._groups)

    @property
    def skipped(self) -> int:
        """Ticks (of one group each) that were left out after stalls."""
        return self._skipped_before + (self._clock.skipped if self._clock is not None else 0)

    # --- for a call ---

    def allocate(self) -> PortPair:
        """Ports for a call; ``announced`` of it is for the description. Raises ``NoPorts``: answer 503.

        Give them to ``open``, or back with ``release``.
        """
        return self.ports.take()

    def release(self, pair: PortPair) -> None:
        """Give ports back that were not opened."""
        self.ports.give_back(pair, pair.stale)

    def new_seeds(self) -> MediaSeeds:
        """The random numbers of a call."""
        return MediaSeeds(
            ssrc=secrets.randbits(32),
            sequence=secrets.randbits(16),
            timestamp=secrets.randbits(32),
            cname=secrets.token_urlsafe(12),
            draw=self._draw(),
            unix_offset_s=self._unix() - self._monotonic(),
            noise_start=secrets.randbits(16),
        )

    def open(self, pair: PortPair, media: CallMedia, line: MediaLine) -> MediaHandle:
        """Put a call's media into service: its sockets are read, its clock runs. The ports are the engine's now."""
        if not self._groups:
            raise LocalError("media engine: it has not been started, or is closed")
        number = min(range(len(self._groups)), key=lambda one: len(self._groups[one].calls))
        group = self._groups[number]
        call = MediaHandle(self, pair, media, line, number)
        for port in (pair.rtp, pair.rtcp):
            group.selector.register(port, selectors.EVENT_READ, call)
        group.calls = (*group.calls, call)
        if self._clock is None:
            start_s = self._monotonic() + PERIOD_S
            self._clock = MediaClock(start_s, self._options.groups, self._options.catch_up_s)
            self._next_group = 0
        self._arm()
        return call

    def close_call(self, call: MediaHandle) -> None:
        """See ``MediaHandle.close``."""
        if not call.is_open:
            return
        call.is_open = False
        group = self._groups[call.group]
        group.calls = tuple(one for one in group.calls if one is not call)
        group.selector.unregister(call.pair.rtp)
        group.selector.unregister(call.pair.rtcp)
        destination = call.media.rtcp_destination
        if destination is not None:
            self._send_rtcp(call, call.media.bye(self._monotonic()), destination)
        self.ports.give_back(call.pair, call.media.last_heard)
        if not self.calls:
            self._rest()

    # --- private: the clock ---

    def _arm(self) -> None:
        """Have the next group that has calls served in its turn."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        groups, first = self._groups, self._next_group
        slots = next((slot for slot in range(len(groups)) if groups[(first + slot) % len(groups)].calls), None)
        if self._clock is None or self._loop is None or slots is None:
            return
        wait_s = self._clock.next_due_s + slots * PERIOD_S / len(groups) - self._monotonic()
        if wait_s <= EARLY_S:
            self._timer = self._loop.call_soon(self._turn)
        else:
            self._timer = self._loop.call_later(max(wait_s, TIMER_GRAIN_S), self._turn)

    def _rest(self) -> None:
        """There are no calls: stop the clock."""
        if self._timer is not None:
            self._timer.cancel()
        assert self._clock is not None  # there has just been a call
        self._skipped_before += self._clock.skipped
        self._timer = self._clock = None

    def _turn(self) -> None:
        self._timer = None
        clock = self._clock
        if clock is None:
            return
        ticks = clock.due(self._monotonic() + EARLY_S)
        if ticks:
            self._next_group = (ticks[-1].group + 1) % len(self._groups)
        try:
            for tick in ticks:
                self._send(tick)
            for tick in ticks:
                if self._clock is clock:  # otherwise the last call has ended meanwhile
                    self._hear(tick)
        finally:
            self._arm()

    # --- private: a tick of a group ---

    def _send(self, tick: Tick) -> None:
        """First half of a turn: what every call has to say."""
        calls = self._groups[tick.group].calls
        if not calls:
            return
        for call in calls:
            try:
                packet, destination = call.speak(tick), call.media.destination
                if packet is not None and destination is not None:
                    call.sendto(packet, destination)
            except OSError:
                self.unsent += 1
            except Exception:  # a mistake of ours: this call's, not the others'
                self._failed(call)
        late_s = max(0.0, self._monotonic() - tick.due_s)
        self.pacing.observe(late_s)
        if late_s > self.latest_s:
            self.latest_s = late_s

    def _hear(self, tick: Tick) -> None:
        """Second half of a turn: what every call has heard."""
        group = self._groups[tick.group]
        if not group.calls:
            return
        now = self._monotonic()
        self._read(group.selector, now)
        is_check = tick.number % CHECK_EVERY_TICKS == 0
        for call in group.calls:
            if not call.is_open:
                continue
            try:
                frame = call.hear(tick)
                if frame is not None:
                    call.on_frame(frame)
                if is_check and call.is_open:
                    self._check(call, now)
                if call.media.events:
                    self._tell(call)
            except Exception:  # as above
                self._failed(call)

    def _read(self, selector: selectors.BaseSelector, now: float) -> None:
        """Read what has come, one datagram of every socket at a time."""
        offset_s = now - self._unix()
        for _ in range(self._options.reads_per_tick):
            ready = selector.select(0)
            if not ready:
                return
            for key, _events in ready:
                call: MediaHandle = key.data
                try:
                    call.read(cast("socket.socket", key.fileobj), now, offset_s)
                except Exception:  # as above
                    self._failed(call)

    def _tell(self, call: MediaHandle) -> None:
        for event in call.media.drain_events():
            if call.is_open:
                call.line.on_media_event(event)

    def _check(self, call: MediaHandle, now: float) -> None:
        """Once a second: time-outs and reports."""
        media = call.media
        media.check(now)
        if now >= media.next_report_s:
            destination = media.rtcp_destination
            if destination is not None:
                self._send_rtcp(call, media.report(now, self._draw()), destination)

    def _send_rtcp(self, call: MediaHandle, datagram: bytes, destination: Address) -> None:
        try:
            call.send_rtcp(datagram, destination)
        except OSError:
            self.unsent += 1

    def _failed(self, call: MediaHandle) -> None:
        get_logger().exception("bug", where="media")
        self.bugs += 1
        try:
            call.close()
            call.line.on_media_event(MediaBroken())
        except Exception:
            get_logger().exception("bug", where="media")


def _time_of(ancillary: list[tuple[int, int, bytes]], now: float, offset_s: float) -> float:
    """When a datagram came, on the monotonic clock: by the kernel if it says so, otherwise now."""
    if len(ancillary) != 1 or len(ancillary[0][2]) != _KERNEL_TIME.size:
        return now
    seconds, nanoseconds = _KERNEL_TIME.unpack(ancillary[0][2])
    came_at: float = seconds + nanoseconds * 1e-9 + offset_s
    return came_at if now - OLDEST_S <= came_at <= now else now
