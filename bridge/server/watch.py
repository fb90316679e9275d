"""Keeps the configuration of a running bridge up to date: files, SIGHUP, and the database's routes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from bridge.config import Configuration
from bridge.errors import BridgeError
from bridge.server.reload import Reloader
from bridge.server.service import Bridge
from bridge.server.store.routes import RouteStore


@dataclass(frozen=True, slots=True)
class ConfigurationSource:
    """Where the configuration came from, to be read again."""

    load: Callable[[], Configuration]
    """Raises ``ConfigError``."""
    files: Sequence[Path] = ()


class _RoutesUnknown(BridgeError):
    """The database does not answer."""


class _StoredRoutes:
    """The database's routes as the reloader reads them."""

    def __init__(self, store: RouteStore) -> None:
        self._store = store

    async def version(self) -> object:
        """See ``RouteSource``."""
        try:
            return await self._store.version()
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise _RoutesUnknown(type(error).__name__) from None

    async def load(self) -> Sequence[bytes]:
        """See ``RouteSource``."""
        try:
            return [row.document for row in await self._store.all()]
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise _RoutesUnknown(type(error).__name__) from None


@contextlib.asynccontextmanager
async def watching(bridge: Bridge, source: ConfigurationSource | None) -> AsyncIterator[Reloader]:
    """Keep ``bridge`` up to date while this context is open. Without a source only the database's routes change."""
    current = Configuration(bridge.settings, bridge.routing, bridge.tools, bridge.trunks)
    storage = bridge.parts.storage
    reloader = Reloader(
        current,
        source.load if source is not None else lambda: current,
        source.files if source is not None else (),
        bridge.apply,
        None if storage is None else _StoredRoutes(storage.routes),
    )
    await reloader.refresh_routes()
    with contextlib.ExitStack() as stack:
        if source is not None:
            stack.enter_context(reloader.on_hangup())
        task = asyncio.create_task(reloader.run())
        try:
            yield reloader
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
