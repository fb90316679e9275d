"""Running the server: one port for HTTP and media, and a shutdown that lets calls finish.

Drain: the first SIGTERM (or Ctrl-C) makes the bridge not ready. New calls are told busy, calls in progress go
on, up to DRAIN_TIMEOUT_S; then the rest is ended, and the carrier's fallback takes over. A second signal ends
them at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
from collections.abc import Callable, Mapping
from types import FrameType, MappingProxyType
from urllib.parse import urlsplit

import uvicorn
from picows import WSListener, WSUpgradeRequest

from bridge import outcome
from bridge.calls.http_tools import HttpTool
from bridge.calls.routing import RoutingTable
from bridge.config import Settings
from bridge.errors import ConfigError
from bridge.leg import CarrierSpec, UpgradeRequest
from bridge.providers import REGISTRY, find_carrier
from bridge.server.app import create_app
from bridge.server.http_client import new_client
from bridge.server.logs import set_level
from bridge.server.parts import Events, event_options, open_parts
from bridge.server.problems import problems_of
from bridge.server.samples import sampling
from bridge.server.service import Bridge
from bridge.server.sip.wiring import add_control, sip_service
from bridge.server.sockets import MediaSocket, Nobody
from bridge.server.upgrade import Refusal, upgrade_protocol
from bridge.server.watch import ConfigurationSource, watching
from bridge.sip.trunks import Trunk

LAST_WORDS_S = 0.5
"""Between ending the last calls and closing the port: their close frames and fallback requests pass."""

PARTING_TIMEOUT_S = 10.0
"""How long a carrier may take to close its socket after the good-bye, and a recording to be written to its end."""

HURRIED_PARTING_S = 1.0
"""The same when there was no drain, or a second signal cut it short: recordings are entered into their records."""

_REFUSALS = {401: "unauthorized", 403: "forbidden"}
"""What a stranger is told, by ``CarrierSpec.refusal_status``; the reason is for the log."""

OnReady = Callable[[Bridge, "BridgeServer"], None]
"""Called once the port is open."""


def decide_upgrade(bridge: Bridge, request: WSUpgradeRequest) -> WSListener | Refusal:
    """Whether a WebSocket upgrade becomes a call's media socket."""
    raw_path = request.path.decode("latin-1")
    found = find_carrier(raw_path) or find_carrier(_below_prefix(raw_path, bridge.settings.public_base_url))
    if found is None:
        return Refusal(404, "no media socket at this path")
    spec, values = found
    headers = {name.lower(): value for name, value in request.headers.items()}
    arrival = UpgradeRequest(raw_path, headers, values)
    if bridge.settings.bridge_auth == "on":
        problem = spec.authenticate_upgrade(arrival, bridge.auth_context())
        if problem:
            bridge.metrics.refused.labels(f"{spec.name}_media").inc()
            bridge.log.warning("request_refused", entrance=f"{spec.name}_media", detail=problem)
            return Refusal(spec.refusal_status, _REFUSALS[spec.refusal_status])
    if bridge.admission.draining:
        return Refusal(503, "shutting down")
    if bridge.refuses_at_the_door(spec):
        bridge.count_refusal(spec.name, outcome.CAPACITY)
        return Refusal(503, "all lines are busy")
    return MediaSocket(_Arrival(bridge, spec, arrival), spec.max_message_bytes)


def _below_prefix(raw_path: str, public_url: str) -> str:
    """The path below the prefix of PUBLIC_URL, which a proxy may leave on; empty when it does not lie there."""
    prefix = urlsplit(public_url).path
    return raw_path.removeprefix(prefix) if prefix and raw_path.startswith(f"{prefix}/") else ""


class _Arrival(Nobody):
    """Owns a socket until its handshake is done: picows may still refuse it, and then no session may be left."""

    def __init__(self, bridge: Bridge, spec: CarrierSpec, request: UpgradeRequest) -> None:
        self._bridge = bridge
        self._spec = spec
        self._request = request

    def on_open(self, socket: MediaSocket) -> None:
        """See ``SocketOwner``."""
        socket.hand_over(self._bridge.new_session(self._spec, self._request))


class BridgeServer(uvicorn.Server):
    """uvicorn with a drain in front of its shutdown."""

    def __init__(self, bridge: Bridge, config: uvicorn.Config, on_ready: OnReady | None) -> None:
        super().__init__(config)
        self._bridge = bridge
        self._on_ready = on_ready
        self._draining: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: the first begins the drain, the second cuts it short."""
        if self._bridge.admission.draining:
            self.should_exit = True
        self._bridge.admission.draining = True  # a signal handler only sets flags; the tick below acts on them

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn: open the port; then say so, and what is still to be set."""
        settings = self._bridge.settings
        try:
            await super().startup(sockets)
        except SystemExit:  # uvicorn has logged the cause and gives up
            raise ConfigError(
                f"cannot listen on {settings.bridge_host}:{settings.bridge_port}: is another program using it? "
                "Set BRIDGE_HOST and BRIDGE_PORT to a free address of this machine."
            ) from None
        bridge = self._bridge
        bridge.log.info("listening", host=settings.bridge_host, port=settings.bridge_port)
        for problem in problems_of(settings):
            bridge.log.warning("not_configured", advice=problem)
        if settings.bridge_auth == "off":
            bridge.log.warning("auth_off", advice="Everybody on this machine is let in; never use it for real calls.")
        gc.collect()
        gc.freeze()  # what was imported stays: the collector need not walk it again while calls are on
        if self._on_ready is not None:
            self._on_ready(bridge, self)

    async def on_tick(self, counter: int) -> bool:
        """uvicorn: ten times a second."""
        if self._bridge.admission.draining and self._draining is None:
            self._draining = asyncio.create_task(self.drain())
        return await super().on_tick(counter)

    async def drain(self) -> None:
        """Wait for the calls, end the rest, let the server stop."""
        bridge = self._bridge
        deadline_s = bridge.settings.drain_timeout_s
        bridge.admission.draining = True
        await bridge.outbound.drain()
        bridge.log.info("draining", active_calls=bridge.admission.active, timeout_s=deadline_s)
        try:
            async with asyncio.timeout(deadline_s):
                await bridge.wait_idle()
        except TimeoutError:
            bridge.log.warning("drain_timeout", active_calls=bridge.admission.active)
        self.end_calls()
        await asyncio.sleep(LAST_WORDS_S)
        await bridge.wait_partings(PARTING_TIMEOUT_S)
        self.should_exit = True

    def end_calls(self) -> None:
        """End whatever is left."""
        for session in list(self._bridge.sessions.values()):
            session.end(outcome.DRAINING, "the drain's time was up")


def default_trunks(settings: Settings) -> tuple[Trunk, ...]:
    """The trunk of the settings, where they make one."""
    return () if settings.default_trunk is None else (settings.default_trunk,)


async def serve(
    settings: Settings,
    on_ready: OnReady | None = None,
    *,
    routing: RoutingTable | None = None,
    tools: Mapping[str, HttpTool] = MappingProxyType({}),
    trunks: tuple[Trunk, ...] | None = None,
    source: ConfigurationSource | None = None,
) -> None:
    """Run the bridge until it is told to stop. ``on_ready`` is called once the port is open.

    ``trunks`` None = the one that the settings make.

    With a ``source`` the configuration is read again on SIGHUP and when its files change.
    """
    events = Events(event_options(settings))
    trunks = default_trunks(settings) if trunks is None else trunks
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(new_client())
        parts = await stack.enter_async_context(open_parts(settings, http, ssl.create_default_context(), events, tools))
        bridge = Bridge(settings, routing or RoutingTable(), parts, events, tools, trunks)
        add_control(bridge)
        await bridge.outbound.start()
        stack.push_async_callback(bridge.outbound.close)
        stack.push_async_callback(bridge.outbound.drain)
        reloader = await stack.enter_async_context(watching(bridge, source))
        if source is not None:
            bridge.on_apply.append(lambda: set_level(bridge.settings.log_level))
        await stack.enter_async_context(sampling(bridge))
        await stack.enter_async_context(sip_service(bridge))
        upgrade = upgrade_protocol(
            lambda request: decide_upgrade(bridge, request), max(spec.max_message_bytes for spec in REGISTRY.values())
        )
        config = uvicorn.Config(
            create_app(bridge, reloader),
            host=settings.bridge_host,
            port=settings.bridge_port,
            ws=upgrade,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=5,
        )
        server = BridgeServer(bridge, config, on_ready)
        try:
            await server.serve()
        finally:
            server.end_calls()
            await bridge.wait_partings(HURRIED_PARTING_S)
            await bridge.give_up_jobs()
