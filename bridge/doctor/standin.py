"""The bridge on this machine: the one that runs, or a stand-in for the minute of the examination.

A stand-in is the bridge's own HTTP side and upgrade decision without anything behind it: no database, no agent, and
no room for a call, so that a real call that comes just then is told busy. It opens BRIDGE_HOST:BRIDGE_PORT and
nothing else, and only when nobody answers there.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import httpx
import msgspec
import uvicorn

from bridge.calls.routing import RoutingTable
from bridge.doctor.findings import Finding, failed, ok, warning
from bridge.doctor.tools import Tools
from bridge.providers import REGISTRY
from bridge.server.admission import Admission
from bridge.server.app import create_app
from bridge.server.nonce import NONCE_PATH, nonce_router
from bridge.server.parts import Events, admission_options, event_options, local_parts
from bridge.server.serve import decide_upgrade
from bridge.server.service import Bridge
from bridge.server.upgrade import upgrade_protocol

NAME = "bridge on this machine"
LOCAL_TIMEOUT_S = 3.0
"""For an answer of this machine."""
MAX_BODY_BYTES = 16 * 1024


class Who(enum.Enum):
    """Who is at BRIDGE_HOST:BRIDGE_PORT."""

    BRIDGE = "bridge"
    STRANGER = "stranger"
    OLD_BRIDGE = "old bridge"
    """A bridge that knows no nonces."""
    NOBODY = "nobody"
    SILENT = "silent"


class Echo(msgspec.Struct, frozen=True):
    """An answer of ``bridge.server.nonce``."""

    nonce: str
    proof: str
    target: str


def read_echo(body: bytes, nonce: str) -> Echo | None:
    """The answer to this nonce; None for anything else."""
    try:
        echo = msgspec.json.decode(body[:MAX_BODY_BYTES], type=Echo)
    except (msgspec.DecodeError, UnicodeError):
        return None
    return echo if echo.nonce == nonce else None


async def look_who(tools: Tools) -> Who:
    """Ask whoever listens there."""
    nonce = tools.new_nonce()
    try:
        async with asyncio.timeout(LOCAL_TIMEOUT_S):
            response = await tools.http.get(f"{tools.local_url}{NONCE_PATH}", params={"nonce": nonce})
            if read_echo(response.content, nonce) is not None:
                return Who.BRIDGE
            health = await tools.http.get(f"{tools.local_url}/healthz")
            return Who.OLD_BRIDGE if health.status_code == 200 and b'"version"' in health.content else Who.STRANGER
    except (httpx.ConnectError, httpx.ConnectTimeout):
        return Who.NOBODY
    except TimeoutError:
        return Who.SILENT
    except httpx.HTTPError:
        return Who.STRANGER


def judge_who(who: Who, where: str) -> Finding:
    """What to make of it, before a stand-in is tried."""
    if who is Who.BRIDGE:
        return ok(NAME, f"runs at {where}")
    if who is Who.OLD_BRIDGE:
        return warning(
            NAME,
            f"runs at {where}, but is of another version than this doctor",
            "Restart it with this version; whether PUBLIC_URL leads to it cannot be seen until then.",
        )
    if who is Who.SILENT:
        return failed(NAME, f"something holds {where} open and does not answer", "Look at that process, restart it.")
    return failed(
        NAME,
        f"another program answers at {where}",
        "End that program, or set BRIDGE_PORT to a free port and point the proxy at it.",
    )


@contextlib.asynccontextmanager
async def present_bridge(tools: Tools) -> AsyncIterator[tuple[Finding, bool]]:
    """The running bridge or a stand-in: the finding, and whether there is one to ask."""
    who = await look_who(tools)
    where = tools.local_url
    if who is not Who.NOBODY:
        yield judge_who(who, where), who is Who.BRIDGE
        return
    if tools.options.at:
        yield failed(NAME, f"nobody answers at {where}", "Start the bridge there, or leave --at away."), False
        return
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(_stand_in(tools))
        except OSError as error:
            words = error.strerror or type(error).__name__
            yield (
                failed(
                    NAME,
                    f"does not run, and {where} cannot be opened: {words}",
                    "Set BRIDGE_HOST and BRIDGE_PORT to a free address of this machine.",
                ),
                False,
            )
            return
        yield ok(NAME, f"does not run; the doctor listened at {where} in its place meanwhile"), True


class _Server(uvicorn.Server):
    """uvicorn that leaves the process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn: none."""
        yield


@contextlib.asynccontextmanager
async def _stand_in(tools: Tools) -> AsyncIterator[None]:
    """Listen in the bridge's place. Raises ``OSError`` when the port cannot be had."""
    # Genesys' door is judged like any: the probe must not be refused for want of room.
    settings = tools.settings.model_copy(update={"genesys_when_full": "retry"})
    parts = local_parts(settings, tools.http, tools.tls)
    parts.admission = Admission(replace(settings.limits, max_calls=0), admission_options(settings))
    bridge = Bridge(settings, RoutingTable(), parts, Events(event_options(settings)))
    app = create_app(bridge)
    app.include_router(nonce_router())
    upgrade = upgrade_protocol(
        lambda request: decide_upgrade(bridge, request), max(spec.max_message_bytes for spec in REGISTRY.values())
    )
    with _listening(settings.bridge_host, settings.bridge_port) as listener:
        config = uvicorn.Config(
            app, ws=upgrade, log_config=None, access_log=False, server_header=False, lifespan="off",
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:  # the port is open already: requests that come before the server is up wait for it
            yield
        finally:
            server.should_exit = True
            await asyncio.gather(task, return_exceptions=True)


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(64)
        yield listener
