"""The demo: bridge, agent and caller in one process, one call with real speech, and what came of it.

Everything passes over real sockets and through every check: the caller signs its webhook, reads the TwiML, brings
the one-time token, and follows the TwiML after the stream. Only the latencies are taken inside the bridge: from
a message in the socket's callback to the last byte handed to the other socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from bridge.config import Settings
from bridge.server.serve import BridgeServer, serve
from bridge.server.service import Bridge
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_server import AgentServer
from bridge.simulators.demo_report import DemoReport, draw
from bridge.simulators.demo_watch import Watch
from bridge.simulators.twilio_caller import TwilioCall, TwilioCallOptions
from bridge.simulators.twilio_line import DEMO_ACTIONS, HangUp, WaitForClose

PROGRESS_EVERY_S = 0.1
STAY_ON_LINE_MS = 20_000
"""How long the caller waits for a good-bye before hanging up: a real agent may not end the call."""

START_TIMEOUT_S = 15.0

Say = Callable[[str], None]


def prepare(settings: Settings, *, port_is_set: bool) -> tuple[Settings, bool]:
    """Fill in what a demo needs; returns the settings and whether a local agent takes the call."""
    changes: dict[str, object] = {}
    local_agent = settings.elevenlabs_api_key is None or settings.elevenlabs_agent_id is None
    if settings.twilio_auth_token is None:
        changes["twilio_auth_token"] = SecretStr(secrets.token_hex(16))  # of nobody's account
        changes["twilio_shared_keys"] = None
    if not port_is_set and _taken(settings.bridge_host, settings.bridge_port):
        changes["bridge_port"] = _free_port(settings.bridge_host)
    settings = settings.model_copy(update=changes)
    if settings.public_url is None:
        settings = settings.model_copy(update={"public_url": settings.public_base_url})
    return settings, local_agent


def _taken(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


async def run_demo(
    settings: Settings, *, local_agent: bool, once: bool, say: Say, show: Callable[[DemoReport], None]
) -> DemoReport:
    """Run one call through the bridge and report it; without ``once`` the server stays until it is told to stop."""
    async with contextlib.AsyncExitStack() as stack:
        if local_agent:
            agent = await stack.enter_async_context(AgentServer(AgentOptions(scenario="demo")))
            update = {"elevenlabs_base_url": agent.base_url, "elevenlabs_agent_id": "demo", "elevenlabs_api_key": None}
            settings = settings.model_copy(update=update)
            say(f"agent     {agent.base_url} (simulated)")
        else:
            say(f"agent     {settings.elevenlabs_agent_id} at {settings.elevenlabs_base_url}")
        ready: asyncio.Future[tuple[Bridge, BridgeServer]] = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(serve(settings, lambda bridge, server: ready.set_result((bridge, server))))
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await asyncio.wait((running, ready), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            bridge, server = ready.result()
            say(f"bridge    http://{settings.bridge_host}:{settings.bridge_port}")
            report = await _one_call(bridge, settings, say)
            bridge.demo_files = {"call.svg": report.picture, "call.wav": report.recording}
            show(report)
            if once:
                server.should_exit = True
            await running
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
    return report


async def _one_call(bridge: Bridge, settings: Settings, say: Say) -> DemoReport:
    """Place the call, telling its steps as they happen."""
    watch = Watch()
    watch.attach(bridge)
    folder = settings.data_dir / "demo"
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    token = settings.twilio_keys.auth_tokens[0]
    here = f"http://{settings.bridge_host}:{settings.bridge_port}"
    call = TwilioCall(
        TwilioCallOptions(
            voice=f"{here}/twilio/voice",
            public_url=settings.public_base_url,
            auth_token=token,
            account_sid=settings.twilio_account_sid or "AC" + 32 * "0",
            actions=(*DEMO_ACTIONS[:-1], WaitForClose(timeout_ms=STAY_ON_LINE_MS), HangUp()),
            recording=folder / "call.wav",
        )
    )
    say("call      caller dials")
    calling = asyncio.create_task(call.run())
    told = 0
    while not calling.done():
        await asyncio.wait((calling,), timeout=PROGRESS_EVERY_S)
        timeline = call.result.timeline
        for at_ms, what in timeline[told:]:
            say(f"{at_ms / 1000:6.2f} s  {what}")
        told = len(timeline)
    result = calling.result()
    await bridge.wait_idle()
    report = DemoReport.build(result, watch, folder)
    await asyncio.to_thread(_save, report, folder)
    return report


def _save(report: DemoReport, folder: Path) -> None:
    report.picture.write_text(draw(report), encoding="utf-8")
    (folder / "call.json").write_text(report.to_json() + "\n", encoding="utf-8")
