"""Routes as the API changes them, on a real database."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.calls import routing
from bridge.calls.routing import Defaults, RoutingError, RoutingTable, decode_route
from bridge.calls.rules import Overflow, Route
from bridge.server.api import stored_routes
from bridge.server.api.stored_routes import StoredRoutes
from bridge.server.store.database import Database, open_database
from bridge.server.store.routes import RouteStore


class Book:
    """The table in force, read again when told to."""

    def __init__(self, database: Database) -> None:
        self.store = RouteStore(database)
        self.table = RoutingTable((Route(number="+1555*"),))
        self.defaults = Defaults()
        self.routes = StoredRoutes(self.store, lambda: self.table, lambda: self.defaults, self.reload)

    async def reload(self) -> None:
        self.table = self.table.with_database([decode_route(row.document) for row in await self.store.all()])


@pytest.mark.e2e
async def test_a_route_is_in_force_at_once_and_until_it_is_removed(tmp_path: Path) -> None:
    database = open_database(None, tmp_path)
    await database.upgrade()
    try:
        book = Book(database)
        route = await book.routes.put(b'{"number": "+49 30*", "overflow": "queue"}')
        assert route == Route(number="+4930*", overflow=Overflow.QUEUE)
        assert [(entry.route.number, entry.source) for entry in book.routes.listed()] == [
            ("+4930*", "database"),
            ("+1555*", "file"),
        ]
        with pytest.raises(RoutingError, match="overflow is divert; give overflow_divert_to"):
            await book.routes.put(b'{"number": "+49*", "overflow": "divert"}')
        assert await book.routes.delete("+4930*", "") is True
        assert await book.routes.delete("+4930*", "") is False
        assert len(book.routes.listed()) == 1
    finally:
        await database.close()


@pytest.mark.e2e
async def test_the_database_takes_so_many_routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_routes, "MAX_ROUTES", 1)
    assert routing.MAX_ROUTES == 10_000
    database = open_database(None, tmp_path)
    await database.upgrade()
    try:
        book = Book(database)
        await book.routes.put(b'{"number": "+49*"}')
        await book.routes.put(b'{"number": "+49*", "agent": "another"}')
        with pytest.raises(RoutingError, match="the database has 1 routes already; remove some first"):
            await book.routes.put(b'{"number": "+48*"}')
    finally:
        await database.close()
