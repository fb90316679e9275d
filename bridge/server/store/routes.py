"""Routes that were added at run time. What a route means, and whether it makes sense, is not decided here."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, func, select

from bridge.server.store.database import Database
from bridge.server.store.schema import ROUTES

_TICK_S = 0.001
"""The least step between two changes; every double of today can tell them apart."""
_LOCK = 0x726F_7574_6573
"""The advisory lock on PostgreSQL under which one change is made at a time ("routes")."""


@dataclass(frozen=True, slots=True)
class StoredRoute:
    """One route."""

    number: str
    """Number pattern, at most 255 characters."""
    provider: str
    """Carrier; empty = any."""
    document: bytes
    """The route as JSON, as it was given."""
    updated_at: float


@dataclass(frozen=True, slots=True)
class RoutesVersion:
    """Differs whenever the routes do."""

    count: int
    updated_at: float
    """Of the latest change that is still there; 0 = there are no routes."""


class RouteStore:
    """Routes in the database. Every method may raise what the database raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, number: str, provider: str, document: bytes) -> None:
        """Add a route, or replace the one of this number and carrier."""
        insert = self._database.insert(ROUTES)
        update = {"document": insert.excluded.document, "updated_at": insert.excluded.updated_at}
        upsert = insert.on_conflict_do_update(index_elements=[ROUTES.c.number, ROUTES.c.provider], set_=update)
        async with self._database.write() as connection:
            if not self._database.is_sqlite:
                await connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            now, latest = (await connection.execute(select(self._database.now(), func.max(ROUTES.c.updated_at)))).one()
            # Later than all others even within one tick of the clock, or when the clock was put back.
            changed_at = max(now, (latest or 0.0) + _TICK_S)
            row = {"number": number, "provider": provider, "document": document, "updated_at": changed_at}
            await connection.execute(upsert, row)

    async def get(self, number: str, provider: str) -> StoredRoute | None:
        """The route of exactly this pattern and carrier; None = there is none."""
        where = (ROUTES.c.number == number, ROUTES.c.provider == provider)
        async with self._database.read() as connection:
            row = (await connection.execute(select(ROUTES).where(*where))).first()
        return None if row is None else StoredRoute(row.number, row.provider, row.document, row.updated_at)

    async def all(self) -> list[StoredRoute]:
        """All routes, by number and carrier."""
        async with self._database.read() as connection:
            rows = (await connection.execute(select(ROUTES).order_by(ROUTES.c.number, ROUTES.c.provider))).all()
        return [StoredRoute(row.number, row.provider, row.document, row.updated_at) for row in rows]

    async def delete(self, number: str, provider: str) -> bool:
        """Remove a route; False = there was none."""
        where = (ROUTES.c.number == number, ROUTES.c.provider == provider)
        async with self._database.write() as connection:
            return bool((await connection.execute(delete(ROUTES).where(*where))).rowcount)

    async def version(self) -> RoutesVersion:
        """A cheap question whether anything changed; ask every few seconds."""
        async with self._database.read() as connection:
            statement = select(func.count(), func.max(ROUTES.c.updated_at)).select_from(ROUTES)
            count, latest = (await connection.execute(statement)).one()
        return RoutesVersion(count, latest or 0.0)
