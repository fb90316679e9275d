"""The engine on sockets of this machine. Its clock is moved by hand, but for the last test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import pytest

from bridge.errors import LocalError
from bridge.server.sip import media_engine
from bridge.server.sip.media_engine import EngineOptions, MediaEngine, MediaHandle
from bridge.server.sip.media_ports import NoPorts, PortOptions, RtpPorts
from bridge.sip.media import CallMedia
from bridge.sip.media_events import FirstMedia, MarkReached, MediaBroken, MediaEvent, MediaLost
from bridge.sip.media_options import MediaOptions
from bridge.sip.offer_answer import AudioOptions, AudioSession
from bridge.sip.rtcp import Bye, SenderReport, parse_rtcp
from bridge.sip.rtp import RtpPacket, RtpSender, parse_rtp
from bridge.sip.rtp_source import Address
from tests.kit.logs import captured
from tests.kit.rtp import QUICK
from tests.kit.rtp_ports import free_ports

HOST = "127.0.0.1"
SILENCE = b"\xff" * 160
UNIX_S = 1_700_000_000.0
PATIENCE_S = 10.0
ONE_GROUP = EngineOptions(groups=1)


class Clock:
    """Monotonic time by hand; the wall clock is the machine's, because the kernel looks at it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Phone:
    """A peer: a pair of sockets that packets are sent from, and come to."""

    def __init__(self, is_muxed: bool = False) -> None:
        first = free_ports(1)
        self.rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.rtp.bind((HOST, first))
        self.rtcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.rtcp.bind((HOST, first + 1))
        self.sender = RtpSender(7, 1, 1)
        self.session = AudioSession(AudioOptions(has_rtcp_mux=is_muxed), (HOST, first), 1)

    def speak(self, to: Address, frame: bytes) -> None:
        self.rtp.sendto(self.sender.audio(0, frame, 160), to)

    def heard(self) -> list[RtpPacket]:
        return [parse_rtp(datagram) for datagram in waiting(self.rtp)]

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()


def waiting(port: socket.socket) -> list[bytes]:
    """What has come to a socket."""
    port.setblocking(False)
    datagrams = []
    with contextlib.suppress(BlockingIOError):
        while True:
            datagrams.append(port.recv(2048))
    return datagrams


@dataclass
class Line:
    """Whoever listens to the call."""

    frames: list[bytes] = field(default_factory=list)
    events: list[MediaEvent] = field(default_factory=list)
    do: Callable[[], None] = lambda: None

    def on_frame(self, frame: bytes) -> None:
        self.frames.append(frame)
        self.do()

    def on_media_event(self, event: MediaEvent) -> None:
        self.events.append(event)
        self.do()


@dataclass
class OpenCall:
    phone: Phone
    line: Line
    handle: MediaHandle

    @property
    def media(self) -> CallMedia:
        return self.handle.media

    @property
    def address(self) -> Address:
        return HOST, self.handle.pair.port


class Stage:
    """An engine with phones."""

    def __init__(self, engine: MediaEngine, clock: Clock) -> None:
        self.engine = engine
        self.clock = clock
        self.phones: list[Phone] = []

    def call(self, options: MediaOptions = QUICK, *, is_muxed: bool = False, is_answered: bool = True) -> OpenCall:
        phone = Phone(is_muxed)
        self.phones.append(phone)
        pair = self.engine.allocate()
        session = AudioSession(AudioOptions(), pair.announced, 2)
        session.answer(phone.session.offer().encode())
        assert session.agreement is not None
        now = self.clock()
        media = CallMedia(options, self.engine.new_seeds(), session.agreement, now, peer_host=HOST, stale=pair.stale)
        if is_answered:
            media.answer(now)
        line = Line()
        return OpenCall(phone, line, self.engine.open(pair, media, line))

    def pass_s(self, seconds: float) -> None:
        """Let time pass; the engine has its turn every 2 ms, as its timer would have it."""
        for _ in range(round(seconds / 0.002)):
            self.clock.now += 0.002
            self.engine._turn()


@asynccontextmanager
async def staged(pairs: int = 4, options: EngineOptions = ONE_GROUP) -> AsyncIterator[Stage]:
    clock = Clock()
    first = free_ports(pairs)
    ports = RtpPorts(PortOptions(HOST, HOST, first, first + 2 * pairs - 1), clock)
    engine = MediaEngine(ports, options, monotonic=clock, draw=lambda: 0.5)
    await engine.start()
    stage = Stage(engine, clock)
    try:
        yield stage
    finally:
        await engine.close()
        for phone in stage.phones:
            phone.close()
        assert ports.in_use == 0


async def test_both_ways() -> None:
    async with staged() as stage:
        call = stage.call()
        call.media.play(b"\x11" * 320)
        call.media.mark("said")
        for _ in range(5):
            call.phone.speak(call.address, b"\x22" * 160)
            stage.pass_s(0.02)
        packets = call.phone.heard()
        assert [packet.payload for packet in packets] == [b"\x11" * 160] * 2 + [SILENCE] * 3
        steps = [later.timestamp - earlier.timestamp for earlier, later in pairwise(packets)]
        assert {step % 2**32 for step in steps} == {160}
        assert len(call.line.frames) == 5
        assert call.line.frames[-1] == b"\x22" * 160
        assert set(call.line.events) == {FirstMedia(), MarkReached("said")}


async def test_packets_go_out_before_anybody_hears_a_frame() -> None:
    async with staged() as stage:
        calls = [stage.call() for _ in range(2)]
        seen = []
        calls[0].line.do = lambda: seen.append([len(call.phone.heard()) for call in calls])
        stage.pass_s(0.02)
        assert seen == [[1, 1]]


async def test_calls_are_spread_over_the_groups() -> None:
    async with staged(pairs=5, options=EngineOptions(groups=2)) as stage:
        calls = [stage.call() for _ in range(4)]
        assert [call.handle.group for call in calls] == [0, 1, 0, 1]
        calls[0].handle.close()
        calls[2].handle.close()
        assert stage.call().handle.group == 0
        stage.pass_s(0.11)  # its turn is 10 ms after the other's
        assert len(calls[1].line.frames) == len(calls[3].line.frames) == 5


async def test_the_event_loop_is_woken_for_groups_with_calls_only(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    loop = asyncio.get_running_loop()

    def call_later(wait_s: float, act: Callable[[], None]) -> asyncio.TimerHandle:
        waits.append(wait_s)
        return loop.call_at(loop.time() + 3600, act)

    async with staged(options=EngineOptions(groups=10)) as stage:
        monkeypatch.setattr(loop, "call_later", call_later)
        call = stage.call()
        stage.clock.now += 0.0205
        stage.engine._turn()
        stage.call()
        stage.pass_s(0.04)
        monkeypatch.undo()
        assert waits[:3] == [pytest.approx(0.02), pytest.approx(0.0195), pytest.approx(0.0015)]
        assert len(call.line.frames) == 3


async def test_a_timer_that_is_a_little_early_has_its_tick() -> None:
    async with staged() as stage:
        call = stage.call()
        stage.clock.now += 0.0194
        stage.engine._turn()
        assert call.line.frames == []
        stage.clock.now += 0.0002
        stage.engine._turn()
        assert len(call.line.frames) == 1
        assert stage.engine.latest_s == 0.0


async def test_without_an_address_there_are_no_reports() -> None:
    async with staged() as stage:
        call = stage.call()
        call.media.destination = None
        stage.pass_s(4.2)
        assert waiting(call.phone.rtcp) == []


@pytest.mark.parametrize("ancillary", [[], [(1, 35, b"short")], [(1, 35, bytes(16)), (1, 2, b"")]])
def test_without_the_kernels_time_packets_come_now(ancillary: list[tuple[int, int, bytes]]) -> None:
    assert media_engine._time_of(ancillary, 5.0, -1000.0) == 5.0


async def test_a_call_that_is_not_answered_is_quiet() -> None:
    async with staged() as stage:
        call = stage.call(is_answered=False)
        stage.pass_s(3.0)
        assert call.line.frames == []
        call.handle.close()
        assert (call.phone.heard(), waiting(call.phone.rtcp)) == ([], [])


async def test_the_end_of_a_call() -> None:
    async with staged() as stage:
        call, other = stage.call(), stage.call()
        call.phone.speak(call.address, SILENCE)
        stage.pass_s(0.04)
        assert stage.engine.calls == 2
        call.handle.close()
        call.handle.close()
        ssrc = call.phone.heard()[0].ssrc
        assert parse_rtcp(waiting(call.phone.rtcp)[0])[-1] == Bye((ssrc,))
        assert (stage.engine.calls, stage.engine.ports.in_use) == (1, 1)
        frames = len(call.line.frames)
        stage.pass_s(0.04)
        assert len(call.line.frames) == frames
        assert len(other.line.frames) == 4
        other.handle.close()
        stage.pass_s(0.04)  # no calls: nothing runs
        assert len(other.line.frames) == 4
        again = stage.call()
        stage.pass_s(0.04)
        assert len(again.line.frames) == 2


async def test_the_next_call_on_a_port_is_deaf_to_the_one_before() -> None:
    async with staged(pairs=1) as stage:
        call = stage.call()
        call.phone.speak(call.address, SILENCE)
        stage.pass_s(0.02)
        call.handle.close()
        stage.clock.now += 30
        following = stage.call()
        call.phone.speak(following.address, b"\x33" * 160)
        stage.pass_s(0.02)
        assert following.media.stats().packets_refused == 1
        assert following.line.events == []


async def test_without_ports_there_is_no_call() -> None:
    async with staged(pairs=1) as stage:
        pair = stage.engine.allocate()
        with pytest.raises(NoPorts):
            stage.engine.allocate()
        stage.engine.release(pair)
        stage.clock.now += 30
        stage.engine.release(stage.engine.allocate())


async def test_an_engine_that_is_closed_takes_no_calls() -> None:
    async with staged() as stage:
        call = stage.call()
        await stage.engine.close()
        assert not call.handle.is_open
        pair = stage.engine.allocate()
        with pytest.raises(LocalError, match="^media engine: it has not been started, or is closed$"):
            stage.engine.open(pair, call.media, call.line)
        stage.engine.release(pair)


def close_after(call: OpenCall, count: int) -> None:
    if len(call.line.frames) + len(call.line.events) == count:
        call.handle.close()


async def test_a_line_may_close_its_call_at_any_time() -> None:
    async with staged() as stage:
        for count in (1, 2):  # with a frame, and with an event after it
            call = stage.call()
            call.media.events += [MarkReached("one"), MarkReached("two")]
            call.line.do = partial(close_after, call, count)
            stage.pass_s(0.06)
            assert not call.handle.is_open
            assert (len(call.line.frames), len(call.line.events)) == (1, count - 1)


async def test_a_line_may_close_another_call() -> None:
    async with staged() as stage:
        one, other = stage.call(), stage.call()
        one.line.do = other.handle.close
        stage.pass_s(0.04)
        assert (len(one.line.frames), len(other.line.frames)) == (2, 0)


async def test_a_call_that_is_closed_when_a_report_is_due_sends_its_last_one_only() -> None:
    async with staged() as stage:
        call = stage.call()
        call.line.do = partial(close_after, call, 151)  # the first second's mark after the report fell due
        stage.pass_s(3.1)
        assert not call.handle.is_open
        assert len(waiting(call.phone.rtcp)) == 1
        assert (stage.engine.unsent, stage.engine.bugs) == (0, 0)


async def test_a_call_that_takes_the_place_of_the_last_one_has_a_clock_of_its_own() -> None:
    async with staged() as stage:
        last = stage.call()
        following: list[OpenCall] = []

        def replace() -> None:
            last.handle.close()
            following.append(stage.call())

        last.line.do = replace
        stage.clock.now += 0.065  # three ticks are due
        stage.engine._turn()
        assert following[0].line.frames == []
        stage.pass_s(0.02)
        assert len(following[0].line.frames) == 1


async def test_a_turn_that_is_overdue_comes_at_once() -> None:
    async with staged() as stage:
        call = stage.call()
        timers = [type(stage.engine._timer)]
        stage.clock.now += 0.05
        stage.call()
        timers.append(type(stage.engine._timer))
        assert timers == [asyncio.TimerHandle, asyncio.Handle]
        await asyncio.sleep(0)
        assert len(call.line.frames) == 2


async def test_a_mistake_in_one_call_ends_that_one_only() -> None:
    async with staged() as stage:
        broken, sound = stage.call(), stage.call()

        def fail() -> None:
            raise ZeroDivisionError

        broken.line.do = fail
        with captured() as lines:
            stage.pass_s(0.06)
        assert not broken.handle.is_open
        assert broken.line.events == [MediaBroken()]
        assert len(sound.line.frames) == 3
        assert stage.engine.bugs == 1
        assert [line["event"] for line in lines] == ["bug", "bug"]  # its line fails at being told, too


@pytest.mark.parametrize("part", ["speak", "receive"])
async def test_mistakes_of_the_media_are_no_harm_either(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with staged() as stage:

        def fail(*_: object) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr(CallMedia, part, fail)
            broken = stage.call()
            with captured():
                broken.phone.speak(broken.address, SILENCE)
                broken.phone.rtcp.sendto(
                    b"x", (HOST, broken.address[1] + 1)
                )  # stays unread: the port is closed by then
                stage.pass_s(0.04)
        sound = stage.call()
        stage.pass_s(0.04)
        assert broken.line.events == [MediaBroken()]
        assert len(sound.line.frames) == 2


async def test_a_packet_that_cannot_be_sent_is_counted() -> None:
    async with staged() as stage:
        call = stage.call()
        call.media.destination = ("::1", 9)  # no address for this socket
        stage.pass_s(0.04)
        assert stage.engine.unsent == 2
        call.handle.close()
        assert stage.engine.unsent == 3
        assert len(call.line.frames) == 2


async def test_a_flood_is_read_with_a_bound_and_harms_no_other_call() -> None:
    async with staged(options=EngineOptions(groups=1, reads_per_tick=16)) as stage:
        flooded, other = stage.call(), stage.call()
        for _ in range(100):
            flooded.phone.rtp.sendto(b"junk", flooded.address)
        other.phone.speak(other.address, SILENCE)
        stage.pass_s(0.02)
        assert flooded.media.stats().packets_malformed == 16
        assert other.media.stats().packets_received == 1
        stage.pass_s(0.02)
        assert flooded.media.stats().packets_malformed == 32


async def test_a_datagram_that_is_too_long_is_dropped() -> None:
    async with staged() as stage:
        call = stage.call()
        call.phone.rtp.sendto(b"\x80\x00" + bytes(3000), call.address)
        stage.pass_s(0.02)
        assert call.media.stats().packets_malformed == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says when a datagram came")
async def test_packets_have_the_time_at_which_they_came_however_late_we_read(monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[float] = []
    monkeypatch.setattr(CallMedia, "receive", lambda _self, _datagram, _source, now: times.append(now))
    async with staged() as stage:
        call = stage.call()
        for _ in range(5):
            call.phone.speak(call.address, SILENCE)
            time.sleep(0.004)  # noqa: ASYNC251 (nothing of ours may run meanwhile)
        stage.clock.now += 0.05
        stage.engine._turn()
        assert all(later - earlier >= 0.0039 for earlier, later in pairwise(times))
        assert len(times) == 5
        assert times[-1] <= stage.clock.now


async def test_after_a_change_of_the_wall_clock_packets_come_now(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    first = free_ports(1)
    ports = RtpPorts(PortOptions(HOST, HOST, first, first + 1), clock)
    engine = MediaEngine(ports, monotonic=clock, unix=lambda: UNIX_S)
    await engine.start()
    stage = Stage(engine, clock)
    call = stage.call()
    times: list[float] = []
    monkeypatch.setattr(CallMedia, "receive", lambda _self, _datagram, _source, now: times.append(now))
    call.phone.speak(call.address, SILENCE)
    stage.pass_s(0.02)
    await engine.close()
    call.phone.close()
    assert len(times) == 1
    assert 1000.0 <= times[0] <= clock.now


async def test_a_stall_is_made_up_for_within_bounds() -> None:
    async with staged(options=EngineOptions(groups=1, catch_up_s=0.1)) as stage:
        call = stage.call()
        stage.pass_s(0.02)
        first = call.phone.heard()[0]
        stage.clock.now += 0.1
        stage.engine._turn()
        assert len(call.phone.heard()) == 5
        assert stage.engine.skipped == 0
        assert stage.engine.latest_s == pytest.approx(0.1, abs=0.021)
        stage.clock.now += 1.0
        stage.engine._turn()
        packets = call.phone.heard()
        assert len(packets) == 5
        assert stage.engine.skipped == 45
        assert (packets[-1].timestamp - first.timestamp) % 2**32 == 55 * 160
        assert (packets[-1].sequence - first.sequence) % 2**16 == 10
        call.handle.close()
        assert stage.engine.skipped == 45


async def test_pacing_is_measured() -> None:
    async with staged() as stage:
        stage.call()
        stage.pass_s(0.1)
        assert stage.engine.pacing.count == 5
        assert stage.engine.pacing.quantile_s(1.0) == 0.0005


@pytest.mark.parametrize("is_muxed", [False, True])
async def test_reports_go_both_ways(is_muxed: bool) -> None:
    async with staged() as stage:
        call = stage.call(is_muxed=is_muxed)
        call.phone.speak(call.address, SILENCE)
        stage.pass_s(4.2)
        port = call.phone.rtp if is_muxed else call.phone.rtcp
        reports = [datagram for datagram in waiting(port) if datagram[1] == 200]
        report = parse_rtcp(reports[0])[0]
        assert len(reports) == 1
        assert isinstance(report, SenderReport)
        assert report.reports[0].ssrc == 7
        assert call.media.next_report_s > stage.clock.now
        # The peer's report on that report, as RFC 3550 has it.
        answer = bytes.fromhex("81c90007 00000001") + report.ssrc.to_bytes(4, "big") + bytes(4 * 3)
        answer += (report.ntp >> 16 & 0xFFFFFFFF).to_bytes(4, "big") + bytes(4)
        port.sendto(answer, (HOST, call.address[1] + (0 if is_muxed else 1)))
        stage.pass_s(0.02)
        assert call.media.stats().peer_loss == 0.0


async def test_a_silent_peer_is_reported() -> None:
    async with staged() as stage:
        call = stage.call(MediaOptions(first_media_timeout_s=2.0))
        stage.pass_s(4.2)
        lost = [event for event in call.line.events if isinstance(event, MediaLost)]
        assert len(lost) == 1
        assert not lost[0].has_begun
        assert 2.0 <= lost[0].silent_s <= 3.1


async def test_the_numbers_of_a_call_are_random() -> None:
    async with staged() as stage:
        one, other = stage.engine.new_seeds(), stage.engine.new_seeds()
        assert one.ssrc != other.ssrc
        assert one.cname != other.cname
        assert len(one.cname) == 16
        assert one.unix_offset_s == pytest.approx(time.time() - stage.clock.now, abs=1)


async def test_by_the_machines_own_clock() -> None:
    first = free_ports(3)
    engine = MediaEngine(RtpPorts(PortOptions(HOST, HOST, first, first + 5)))
    await engine.start()
    stage = Stage(engine, Clock())
    stage.clock.now = time.monotonic()
    calls = [stage.call() for _ in range(3)]
    async with asyncio.timeout(PATIENCE_S):
        while min(len(call.line.frames) for call in calls) < 10:  # noqa: ASYNC110 (frames set no event)
            await asyncio.sleep(0.01)
    sent = [len(call.phone.heard()) for call in calls]
    await engine.close()
    for call in calls:
        call.phone.close()
    assert min(sent) >= 10
    assert engine.calls == 0
