from __future__ import annotations

import asyncio

import pytest

from bridge.server.store.database import Database
from bridge.server.store.routes import RouteStore, RoutesVersion
from bridge.server.store.schema import ROUTES


@pytest.fixture
def routes(database: Database) -> RouteStore:
    return RouteStore(database)


async def test_a_route_comes_back_to_the_letter(routes: RouteStore) -> None:
    await routes.put("+1555*", "twilio", b'{ "agent_id": "a"}')
    found = await routes.get("+1555*", "twilio")
    assert found is not None
    assert (found.number, found.provider, found.document) == ("+1555*", "twilio", b'{ "agent_id": "a"}')
    assert await routes.get("+1555*", "") is None


async def test_a_route_is_replaced_by_number_and_carrier(routes: RouteStore) -> None:
    for number, provider, document in (("+2", "", b"1"), ("+1", "twilio", b"2"), ("+1", "", b"3"), ("+2", "", b"4")):
        await routes.put(number, provider, document)
    assert [(route.number, route.provider, route.document) for route in await routes.all()] == [
        ("+1", "", b"3"),
        ("+1", "twilio", b"2"),
        ("+2", "", b"4"),
    ]


async def test_a_route_is_removed_once(routes: RouteStore) -> None:
    await routes.put("+1", "", b"{}")
    assert await routes.delete("+1", "")
    assert not await routes.delete("+1", "")
    assert await routes.all() == []


async def test_the_version_changes_with_every_change(routes: RouteStore) -> None:
    assert await routes.version() == RoutesVersion(0, 0.0)
    seen = {await routes.version()}
    for _ in range(5):  # within one tick of the clock
        await routes.put("+1", "", b"{}")
        seen.add(await routes.version())
    await routes.put("+2", "", b"{}")
    seen.add(await routes.version())
    await routes.delete("+2", "")
    seen.add(await routes.version())
    assert len(seen) == 7 + 1 - 1  # after the removal the version is that of before the addition: nothing has changed
    assert await routes.version() == await routes.version()


async def test_the_version_moves_on_when_the_clock_was_put_back(routes: RouteStore, database: Database) -> None:
    await routes.put("+1", "", b"{}")
    async with database.write() as connection:
        await connection.execute(ROUTES.update().values(updated_at=4e9))
    before = await routes.version()
    await routes.put("+1", "", b"{}")
    assert (await routes.version()).updated_at > before.updated_at


async def test_changes_at_once_are_all_told_apart(routes: RouteStore) -> None:
    await asyncio.gather(*(routes.put(f"+{number}", "", b"{}") for number in range(10)))
    assert len({route.updated_at for route in await routes.all()}) == 10
