"""The routes as the API changes them: checked, written to the database, and put in force at once in this process.

Other processes look at the database every few seconds. What a route means is decided in ``bridge.calls.routing``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from bridge.calls.routing import MAX_ROUTES, Defaults, Listed, RoutingError, RoutingTable, decode_route, encode_route
from bridge.calls.rules import Route
from bridge.server.store.routes import RouteStore


class StoredRoutes:
    """A ``RoutesPort`` on the database."""

    def __init__(
        self,
        store: RouteStore,
        table: Callable[[], RoutingTable],
        defaults: Callable[[], Defaults],
        reload: Callable[[], Awaitable[None]],
    ) -> None:
        """``table``: the one in force; ``defaults``: the settings; ``reload`` reads the database's routes again."""
        self._store = store
        self._table = table
        self._defaults = defaults
        self._reload = reload

    def listed(self) -> Sequence[Listed]:
        """See ``RoutesPort``."""
        return self._table().listed()

    async def put(self, document: bytes) -> Route:
        """See ``RoutesPort``."""
        route = decode_route(document, self._defaults())
        kept = self._table().database
        if len(kept) >= MAX_ROUTES and all(route.key != other.key for other in kept):
            raise RoutingError([f"the database has {len(kept)} routes already; remove some first"])
        await self._store.put(route.number, route.provider, encode_route(route))
        await self._reload()
        return route

    async def delete(self, number: str, provider: str) -> bool:
        """See ``RoutesPort``."""
        known = await self._store.delete(number, provider)
        if known:
            await self._reload()
        return known
