"""Takes changes of the configuration into the running bridge: on SIGHUP, when a file changes, when a route in the
database changes. Calls in progress keep what they began with.

Theory of operation: everything is read anew and checked as at the start; only a configuration without a mistake is
taken, whole, through one callback. A bad file changes nothing, and the log names every mistake in it. Settings that
sockets, stores and clients were opened with (``bridge.config.needs_restart``) keep their old value, and a warning says
that they take effect after a restart.

Files are watched by looking at them every two seconds, which works on every file system, through a mounted ConfigMap
(a changed symlink) and after an editor that replaces the file. A file that has changed is left alone for a moment
first: half a TOML file may be a valid one with half the routes.

Routes of the database are read when its version says that they changed. A row that is no route is skipped and named.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from bridge.calls.routing import MAX_ROUTES, RoutingError, decode_route
from bridge.calls.rules import Route
from bridge.config import Configuration, Settings, needs_restart
from bridge.errors import BridgeError, ConfigError
from bridge.server.logs import get_logger

Load = Callable[[], Configuration]
"""Reads everything anew; raises ``ConfigError``. Called outside the event loop's thread."""
Apply = Callable[[Configuration], None]
"""Takes a checked configuration in; quick, and inside the event loop's thread."""
OnResult = Callable[[bool], None]
"""Told of every attempt: whether it was taken."""

MAX_SETTLE_ROUNDS = 10
"""A file that is written to all the time is read all the same."""

_Stamp = tuple[int, int, int] | None
"""Time of change in nanoseconds, size and inode of a file; None = it is not there."""


class RouteSource(Protocol):
    """Routes that are kept elsewhere. Both methods may raise ``BridgeError`` or ``OSError`` when it does not answer."""

    async def version(self) -> object:
        """Something that differs whenever the routes do; cheap, asked every few seconds."""

    async def load(self) -> Sequence[bytes]:
        """All routes as JSON."""


@dataclass(frozen=True, slots=True)
class ReloadOptions:
    """How often to look."""

    poll_s: float = 2.0
    """At files and at the database's version."""
    settle_s: float = 0.2
    """A changed file must stay as it is for so long before it is read."""


class Reloader:
    """Watches and reloads. Make it inside the event loop; ``run`` is a task, to be cancelled at the end."""

    def __init__(
        self,
        current: Configuration,
        load: Load,
        files: Sequence[Path],
        apply: Apply,
        source: RouteSource | None = None,
        options: ReloadOptions | None = None,
        on_result: OnResult | None = None,
    ) -> None:
        """``current`` is what the bridge was started with, ``files`` are those that ``load`` reads."""
        self.current = current
        """What is in force, the database's routes included."""
        self._load = load
        self._files = tuple(files)
        self._apply = apply
        self._source = source
        self._options = options or ReloadOptions()
        self._on_result = on_result
        self._log = get_logger()
        self._stamps = self._look()
        self._routes_version: object = None
        self._routes_failed = False
        self._wanted = asyncio.Event()
        self._lock = asyncio.Lock()

    # --- when ---

    def request(self) -> None:
        """Reload soon: what SIGHUP calls."""
        self._wanted.set()

    @contextlib.contextmanager
    def on_hangup(self) -> Iterator[None]:
        """Have SIGHUP reload while this context is open, where the system has such a signal."""
        loop = asyncio.get_running_loop()
        hangup = getattr(signal, "SIGHUP", None)
        if hangup is not None:
            loop.add_signal_handler(hangup, self.request)
        try:
            yield
        finally:
            if hangup is not None:
                loop.remove_signal_handler(hangup)

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.poll_s):
                    await self._wanted.wait()
            try:
                await self.poll(forced=self._wanted.is_set())
            except Exception:  # a bug of ours must not end the watch: keys could not be rotated any more
                self._log.exception("bug")

    async def poll(self, *, forced: bool = False) -> None:
        """Look once: read the files if they changed (or ``forced``), and the database's routes if those did."""
        self._wanted.clear()
        stamps = await asyncio.to_thread(self._look)
        if forced or stamps != self._stamps:
            if not forced:
                stamps = await self._settled(stamps)
            self._stamps = stamps
            await self.reload()
        await self.refresh_routes(forced=forced)

    async def _settled(self, stamps: tuple[_Stamp, ...]) -> tuple[_Stamp, ...]:
        """The files' stamps once nobody writes to them any more."""
        for _ in range(MAX_SETTLE_ROUNDS):
            await asyncio.sleep(self._options.settle_s)
            before, stamps = stamps, await asyncio.to_thread(self._look)
            if before == stamps:
                break
        return stamps

    def _look(self) -> tuple[_Stamp, ...]:
        return tuple(_stamp(path) for path in self._files)

    # --- what ---

    async def reload(self) -> bool:
        """Read everything anew and take it in; False = it has mistakes, and nothing changed."""
        async with self._lock:
            try:
                fresh = await asyncio.to_thread(self._load)
            except ConfigError as error:
                self._log.error("configuration_rejected", detail=str(error), advice="The old one stays in force.")
                self._report(False)
                return False
            old = self.current
            changed, waiting = _compare(old.settings, fresh.settings)
            if waiting:
                self._log.warning("restart_needed", settings=waiting, advice="They take effect after a restart.")
            settings = fresh.settings.model_copy(update={name: getattr(old.settings, name) for name in waiting})
            routing = fresh.routing.with_database(old.routing.database)
            routes_changed = routing != old.routing
            tools_changed = fresh.tools != old.tools
            trunks_changed = fresh.trunks != old.trunks
            if changed or routes_changed or tools_changed or trunks_changed:
                self._take(Configuration(settings, routing, fresh.tools, fresh.trunks))
            self._log.info(
                "configuration_reloaded",
                settings=changed,
                routes_changed=routes_changed,
                tools_changed=tools_changed,
                trunks_changed=trunks_changed,
            )
            self._report(True)
            return True

    async def refresh_routes(self, *, forced: bool = False) -> bool:
        """Read the database's routes if they changed; False = it does not answer, and the old ones stay in force."""
        if self._source is None:
            return True
        async with self._lock:
            try:
                version = await self._source.version()
                if not forced and version == self._routes_version:
                    self._routes_failed = False
                    return True
                rows = await self._source.load()
            except (BridgeError, OSError) as error:
                if not self._routes_failed:  # once, not every two seconds
                    self._log.error("routes_unknown", detail=type(error).__name__, advice="The old ones stay in force.")
                self._routes_failed = True
                return False
            self._routes_failed, self._routes_version = False, version
            routing = self.current.routing.with_database(self._decode(rows))
            if routing != self.current.routing:
                self._take(replace(self.current, routing=routing))
                self._log.info("routes_reloaded", routes=len(routing.database))
            return True

    def _decode(self, rows: Sequence[bytes]) -> list[Route]:
        routes = []
        if len(rows) > MAX_ROUTES:
            self._log.error("too_many_routes", detail=f"{len(rows)} in the database, {MAX_ROUTES} are used")
        for place, row in enumerate(rows[:MAX_ROUTES], 1):
            try:
                routes.append(decode_route(row))
            except RoutingError as error:
                self._log.error("route_skipped", detail=f"row {place} of the database: {'; '.join(error.mistakes)}")
        return routes

    def _take(self, configuration: Configuration) -> None:
        self._apply(configuration)
        self.current = configuration

    def _report(self, taken: bool) -> None:
        if self._on_result is not None:
            self._on_result(taken)


def _compare(old: Settings, fresh: Settings) -> tuple[list[str], list[str]]:
    """Names of the settings that changed: those that can be taken in, and those that wait for a restart."""
    changed: list[str] = []
    waiting: list[str] = []
    for name in Settings.model_fields:
        if getattr(old, name) != getattr(fresh, name):
            (waiting if needs_restart(name) else changed).append(name)
    return changed, waiting


def _stamp(path: Path) -> _Stamp:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
