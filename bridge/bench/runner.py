"""Runs the bench: each target in turn on its own core, the same load against each.

Everything goes over the public wire and ``/proc``; no code of the servers under test runs here.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvloop

import bridge
from bridge.bench.agent import ConvaiWire, Wire
from bridge.bench.call import SignalKit
from bridge.bench.carriers import CARRIERS, SIP, Mode
from bridge.bench.figures import NS_PER_MS, spread
from bridge.bench.floor import find_haproxy, haproxy_command, write_config
from bridge.bench.load import BenchError, Load, LoadResult, Progress, RoundPlan
from bridge.bench.options import BenchOptions
from bridge.bench.process import (
    CorePlan,
    ServerProcess,
    free_port,
    pinned,
    plan_cores,
    raise_open_files,
    wait_for_port,
)
from bridge.bench.report import BenchReport, RoundFigures, TargetReport
from bridge.config import Settings

READY_TIMEOUT_S = 30.0
SETTLE_S = 0.5
"""Pause before memory is read and after calls are gone, so that a server can tidy up."""
IDLE_S = 2.0
"""How long the server's CPU is watched after its calls are gone."""

FIRST_RTP_PORT, LAST_RTP_PORT = 10_000, 32_766
"""Of the bridge in a SIP round: below the ports that the kernel gives to the load's own sockets."""

READY_REQUEST = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Target:
    """A server to measure."""

    name: str
    what: str
    calls: int
    new_wire: Callable[[], Wire]
    """How the far end behind it speaks."""
    converting: bool
    command: Callable[[int, int, Path], list[str]]
    """Command line, from its port, the far end's port and a directory for its files."""
    env: Callable[[int, int, Path], dict[str, str]]
    """Environment beyond the inherited one, from the same."""
    ready_request: bytes = READY_REQUEST
    raw_speech: bool = False
    """Whether the far end speaks in bytes, not in base64."""
    has_limits: bool = True
    """Whether it is held to the carrier's rate limits."""


def run_bench(options: BenchOptions, progress: Callable[[str], None]) -> BenchReport:
    """Measure all targets; takes about (ramp + warm-up + duration + 5 s) per round and target.

    ``progress`` gets a line whenever something takes more than 2 s. Runs in this process, which must be its
    main thread's for SIGTERM to end servers too; whatever happens, no server outlives this call. Raises
    ``BenchError`` when a measurement cannot be made.
    """
    if problem := raise_open_files(options.calls, CARRIERS[options.carrier].files_per_call):
        raise BenchError(problem)
    try:
        cores = plan_cores(os.sched_getaffinity(0), options.server_core)
    except ValueError as error:
        raise BenchError(str(error)) from None
    report = BenchReport(options.mode, options.duration_s, options.warmup_s, _machine(cores), carrier=options.carrier)
    if cores.shared:
        report.notes.append("only one core: server and load share it, so latencies are not to be trusted")
    with (
        _terminate_as_interrupt(),
        tempfile.TemporaryDirectory(prefix="bridge-bench-") as directory,
        pinned(cores.load),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        for target in _targets(options, report.notes):
            measure = _measure(target, options, cores, Path(directory), progress)
            report.targets.append(runner.run(measure))
    return report


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C, so that servers are ended on the way out."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _machine(cores: CorePlan) -> dict[str, str | int]:
    packages = ("picows", "uvloop", "websockets", "fastapi", "uvicorn", "soxr", "numpy")
    return {
        "cores": os.cpu_count() or 1,
        "server core": cores.server,
        "load cores": " ".join(map(str, sorted(cores.load))),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


# --- targets ---------------------------------------------------------------------------------------------


def _targets(options: BenchOptions, notes: list[str]) -> Iterator[Target]:
    for name in options.targets:
        if name == "bridge":
            yield _bridge_target(options)
        elif name == "plain":
            yield _plain_target(options)
        elif options.carrier == SIP.name:
            yield _sip_floor_target(options)
        elif program := find_haproxy():
            yield _floor_target(options, program)
        else:
            notes.append("floor skipped: haproxy is not installed")


def _mode(options: BenchOptions) -> Mode:
    return CARRIERS[options.carrier].modes[options.mode]


def _bridge_target(options: BenchOptions) -> Target:
    def env(port: int, agent_port: int, directory: Path) -> dict[str, str]:
        return {
            "BRIDGE_AUTH": "off",
            "BRIDGE_HOST": "127.0.0.1",
            "BRIDGE_PORT": str(port),
            "BRIDGE_MAX_CALLS": str(options.calls + 10),
            "ELEVENLABS_BASE_URL": f"http://127.0.0.1:{agent_port}",
            "ELEVENLABS_AGENT_ID": "bench",
            "LOG_LEVEL": "warning",
            "DATA_DIR": str(directory / "data"),
            **(_sip_settings(port, options.calls) if options.carrier == SIP.name else {}),
        }

    agent_format = _mode(options).agent
    return Target(
        name="bridge",
        what=f"bridge serve, agent {agent_format}",
        calls=options.calls,
        new_wire=lambda: ConvaiWire(agent_format),
        converting=_mode(options).is_converting,
        command=lambda port, agent_port, directory: [sys.executable, "-m", "bridge", "serve"],
        env=env,
    )


def _sip_settings(port: int, calls: int) -> dict[str, str]:
    """SIP over UDP on the number of the HTTP port, and twice the RTP ports that the calls need."""
    return {
        "SIP_UDP_PORT": str(port),
        "SIP_RTP_PORT_MIN": str(FIRST_RTP_PORT),
        "SIP_RTP_PORT_MAX": str(min(FIRST_RTP_PORT + 4 * calls + 40, LAST_RTP_PORT)),
        "SIP_MESSAGE_LOG": "off",
    }


def _plain_target(options: BenchOptions) -> Target:
    agent_format = _mode(options).agent
    resampling = " and soxr streams" if options.mode == "convert" else ""
    return Target(
        name="plain",
        what=f"FastAPI and websockets, one task per direction{resampling}, agent {agent_format}",
        calls=min(options.calls, options.plain_calls),
        new_wire=lambda: ConvaiWire(agent_format),
        converting=_mode(options).is_converting,
        command=lambda port, agent_port, directory: [
            *(sys.executable, "-m", "bridge.bench.plain"),
            *(str(port), str(agent_port), options.mode),
        ],
        env=lambda port, agent_port, directory: {},
    )


def _floor_target(options: BenchOptions, program: str) -> Target:
    carrier = CARRIERS[options.carrier]

    def command(port: int, agent_port: int, directory: Path) -> list[str]:
        return haproxy_command(program, write_config(directory, port, agent_port, options.calls))

    return Target(
        name="floor",
        what="HAProxy in TCP mode, one thread, carrying the carrier's bytes unread",
        calls=options.calls,
        new_wire=lambda: carrier.new_far_end(_mode(options).carrier),
        raw_speech=carrier.is_raw,
        has_limits=False,  # it gathers nothing: the agent's ten messages a second go through as they are
        converting=False,
        command=command,
        env=lambda port, agent_port, directory: {},
        ready_request=b"",
    )


def _sip_floor_target(options: BenchOptions) -> Target:
    return Target(
        name="floor",
        what="RTP carried unread to a WebSocket and back by one clock, in Python",
        calls=options.calls,
        new_wire=lambda: CARRIERS[options.carrier].new_far_end(_mode(options).carrier),
        raw_speech=True,
        has_limits=False,
        converting=False,
        command=lambda port, agent_port, directory: [
            *(sys.executable, "-m", "bridge.bench.sip_floor"),
            *(str(port), str(agent_port)),
        ],
        env=lambda port, agent_port, directory: {},
        ready_request=b"",
    )


def server_environment(extra: dict[str, str]) -> dict[str, str]:
    """The environment of a server under test: no settings of the operator's but ``extra``."""
    own = {"BRIDGE_CONFIG", *(name.upper() for name in Settings.model_fields)}
    kept = {name: value for name, value in os.environ.items() if name.upper() not in own}
    # The server runs in a directory of its own, where no .env of the operator lies; it must still find us.
    source = str(Path(bridge.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [source, kept.get("PYTHONPATH", "")]))
    return {**kept, "PYTHONPATH": path, **extra}


def flight_setting(options: BenchOptions) -> dict[str, str]:
    """The setting of the flight recorder; the other targets have none, and take no notice."""
    return {"FLIGHT_RECORDER": "errors" if options.flight else "off"}


# --- measuring -------------------------------------------------------------------------------------------


async def _measure(
    target: Target, options: BenchOptions, cores: CorePlan, directory: Path, progress: Progress
) -> TargetReport:
    def say(text: str) -> None:
        progress(f"{target.name}: {text}")

    carrier = CARRIERS[options.carrier]
    kit = SignalKit(
        target.converting,
        frame_ms=carrier.frame_ms,
        raw_frames=carrier.is_raw,
        raw_speech=target.raw_speech,
        media=_mode(options).carrier,
    )
    load = Load(carrier, kit, target.new_wire, say, has_limits=target.has_limits)
    async with load.listen() as agent_port:
        port = free_port()
        server = ServerProcess(
            target.command(port, agent_port, directory),
            server_environment(flight_setting(options) | target.env(port, agent_port, directory)),
            cores.server,
            directory,
        )
        try:
            say("starting")
            server.start()
            ready = await asyncio.to_thread(wait_for_port, server, port, target.ready_request, READY_TIMEOUT_S)
            if not ready:
                raise BenchError(
                    f"it was not ready within {READY_TIMEOUT_S:.0f} s"
                    if server.alive
                    else "it ended before it was ready"
                )
            rounds = await _rounds(target, options, load, server, port, say)
        except BenchError as error:
            raise BenchError(f"{target.name}: {error}\n{server.log_tail()}".rstrip()) from error
        finally:
            server.stop()
    return TargetReport(target.name, target.what, rounds)


async def _rounds(
    target: Target, options: BenchOptions, load: Load, server: ServerProcess, port: int, say: Progress
) -> list[RoundFigures]:
    plan = RoundPlan(
        calls=target.calls,
        ramp_s=options.ramp_s,
        warmup_s=options.warmup_s,
        duration_s=options.duration_s,
        barge_in_every_s=options.barge_in_every_s,
    )
    await asyncio.sleep(SETTLE_S)
    rss_idle = server.rss_bytes()
    rounds: list[RoundFigures] = []
    for number in range(options.rounds):
        if options.rounds > 1:
            say(f"round {number + 1} of {options.rounds}")
        watch = _Watch(server)
        load.unexpected = 0
        result = await load.run_round(f"ws://127.0.0.1:{port}", plan, watch.at_window)
        await asyncio.sleep(SETTLE_S)
        cpu_before_s, began = server.cpu_s(), time.monotonic()
        await asyncio.sleep(IDLE_S)
        idle_percent = 100 * (server.cpu_s() - cpu_before_s) / (time.monotonic() - began)
        if not server.alive:
            raise BenchError("it ended during the measurement")
        rounds.append(_figures(plan, result, watch, load, rss_idle, server.rss_bytes(), idle_percent))
    return rounds


class _Watch:
    """Reads the server's CPU and memory at the edges of the window."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._opened = (0.0, 0.0, 0.0)
        self.cpu_percent = 0.0
        self.other_cpu_percent = 0.0
        self.rss_bytes = 0

    def at_window(self, opens: bool) -> None:
        """The window opens or closes now."""
        now, cpu_s, busy_s = time.monotonic(), self._server.cpu_s(), self._server.core_busy_s()
        if opens:
            self._opened = (now, cpu_s, busy_s)
            return
        seconds, server_s, core_s = now - self._opened[0], cpu_s - self._opened[1], busy_s - self._opened[2]
        self.cpu_percent = 100 * server_s / seconds
        self.other_cpu_percent = 100 * max(0.0, core_s - server_s) / seconds
        self.rss_bytes = self._server.rss_bytes()


def _figures(
    plan: RoundPlan,
    result: LoadResult,
    watch: _Watch,
    load: Load,
    rss_idle_bytes: int,
    rss_after_bytes: int,
    idle_percent: float,
) -> RoundFigures:
    logs = result.logs
    per_call_s = plan.calls * result.seconds
    return RoundFigures(
        calls=plan.calls,
        seconds=result.seconds,
        server_cpu_percent=watch.cpu_percent,
        other_cpu_percent=watch.other_cpu_percent,
        rss_idle_bytes=rss_idle_bytes,
        rss_calls_bytes=watch.rss_bytes,
        rss_after_bytes=rss_after_bytes,
        cpu_after_percent=idle_percent,
        up=result.up,
        down=result.down,
        latency_up_ms=spread(logs.up.values_ms),
        latency_down_ms=spread(logs.down.values_ms),
        barge_in_ms=spread(logs.barge_in.values_ms),
        interruptions=logs.interruptions,
        missed_clears=logs.missed_clears,
        bad_messages=logs.bad_messages,
        complaints=logs.complaints,
        leaked_connections=result.leaked_connections,
        unexpected_connections=load.unexpected,
        gaps=result.gaps,
        long_gaps=result.long_gaps,
        gap_ms=result.gap_ms,
        longest_gap_ms=result.longest_gap_ms,
        frames_per_call_s=result.frames_sent / per_call_s,
        speech_per_call_s=result.speech_sent / per_call_s,
        load_cpu_percent=100 * result.load_cpu_s / result.seconds,
        load_lateness_ms=spread(result.lateness_ms),
        opens_per_s=result.opens_per_s,
        opened_ms=spread(logs.opened_ms),
        first_audio_ms=spread(logs.first.values_ms),
        pong_ms=spread(logs.pongs.values_ms),
        answered_ms=spread(logs.rtp.answered_ms),
        pacing_ms=spread(logs.rtp.errors_ms),
        rtp_packets=logs.rtp.packets,
        rtp_lost=logs.rtp.lost,
        rtp_gaps=logs.rtp.long_gaps,
        rtp_longest_ms=logs.rtp.longest_ns / NS_PER_MS,
    )
