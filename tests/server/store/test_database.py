from __future__ import annotations

import asyncio
import sqlite3
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import IntegrityError

from bridge.bench.process import free_port
from bridge.errors import ConfigError
from bridge.server.store.database import Database, open_database
from bridge.server.store.revision import MIGRATIONS, head_revision
from bridge.server.store.schema import CONVERSATIONS, METADATA, ROUTES
from tests.kit.database import PostgresServer

ROW = {"number": "+1", "provider": "", "document": b"{}", "updated_at": 1.0}


async def count_routes(database: Database) -> int:
    async with database.read() as connection:
        return len((await connection.execute(select(ROUTES))).all())


# --- migrations ---


async def test_the_migrations_give_the_shape_of_the_schema(database: Database) -> None:
    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return list(compare_metadata(context, METADATA))

    async with database.read() as connection:
        assert await connection.run_sync(differences) == []


async def test_the_comparison_would_notice(fresh_database: Database) -> None:
    def differences(connection: Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(connection), METADATA))

    async with fresh_database.write() as connection:
        await connection.execute(text("DROP INDEX ix_calls_ended_at"))
    async with fresh_database.read() as connection:
        (difference,) = await connection.run_sync(differences)
    assert difference[0] == "add_index"


async def test_upgrading_again_changes_nothing(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(ROUTES.insert(), ROW)
    await database.upgrade()
    assert await count_routes(database) == 1
    assert await database.check() == ""


async def test_instances_that_start_at_once_upgrade_once(empty_database_url: str, tmp_path: Path) -> None:
    instances = [open_database(empty_database_url, tmp_path) for _ in range(5)]
    await asyncio.gather(*(instance.upgrade() for instance in instances))
    assert [await instance.check() for instance in instances] == [""] * 5
    for instance in instances:
        await instance.close()


async def test_two_databases_of_one_process_upgrade_at_once(tmp_path: Path) -> None:
    databases = [open_database(None, tmp_path / name) for name in ("a", "b", "c")]
    await asyncio.gather(*(database.upgrade() for database in databases))
    assert [await database.check() for database in databases] == [""] * 3
    for database in databases:
        await database.close()


async def test_a_database_of_a_newer_version_is_left_alone(fresh_database: Database) -> None:
    async with fresh_database.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError) as caught:
        await fresh_database.upgrade()
    assert str(caught.value) == (
        "DATABASE_URL: the database has revision 9999, which this version does not know: a newer version has changed "
        "it. Run that version, or restore a backup."
    )
    assert await fresh_database.check() == f"The database has revision 9999, this version needs {head_revision()}."


def test_the_migrations_are_part_of_the_package() -> None:
    import bridge

    assert MIGRATIONS.is_relative_to(Path(bridge.__file__).parent)
    assert (MIGRATIONS / "env.py").is_file()


# --- transactions ---


async def test_a_transaction_is_kept_whole_or_not_at_all(database: Database) -> None:
    with pytest.raises(RuntimeError, match="halfway"):
        async with database.write() as connection:
            await connection.execute(ROUTES.insert(), ROW)
            raise RuntimeError("halfway")
    assert await count_routes(database) == 0


async def test_foreign_keys_hold(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.write() as connection:
            await connection.execute(CONVERSATIONS.insert(), {"conversation_id": "c", "call_id": "nobody"})


async def test_exceptions_do_not_quote_parameters(database: Database) -> None:
    with pytest.raises(IntegrityError) as caught:
        async with database.write() as connection:
            await connection.execute(ROUTES.insert(), {**ROW, "number": "+15550001", "document": None})
    assert "parameters hidden" in str(caught.value).lower()


async def test_many_writers_at_once_all_get_through(database: Database) -> None:
    async def add(number: int) -> None:
        async with database.write() as connection:
            await connection.execute(select(ROUTES))
            await connection.execute(ROUTES.insert(), {**ROW, "number": str(number)})

    await asyncio.gather(*(add(number) for number in range(40)))
    assert await count_routes(database) == 40


async def test_the_clock_is_unix_time(database: Database) -> None:
    async with database.read() as connection:
        now = (await connection.execute(select(database.now()))).scalar_one()
    assert abs(now - time.time()) < 1.0


async def test_the_clock_moves_within_a_transaction(database: Database) -> None:
    async with database.read() as connection:
        first = (await connection.execute(select(database.now()))).scalar_one()
        await asyncio.sleep(0.01)
        assert (await connection.execute(select(database.now()))).scalar_one() > first


# --- SQLite ---


async def test_sqlite_is_set_up_to_keep_what_it_commits(sqlite_database: Database) -> None:
    async def pragma(name: str) -> Any:
        async with sqlite_database.read() as connection:
            return (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()

    assert await pragma("journal_mode") == "wal"
    assert await pragma("synchronous") == 2  # FULL
    assert await pragma("foreign_keys") == 1
    assert await pragma("busy_timeout") == 10_000
    assert await pragma("secure_delete") == 1


async def test_the_default_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    database = open_database(None, tmp_path / "deep" / "data")
    await database.upgrade()
    path = tmp_path / "deep" / "data" / "bridge.sqlite3"
    async with database.write() as connection:
        await connection.execute(ROUTES.insert(), ROW)
        for file in (path, path.with_name("bridge.sqlite3-wal")):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    await database.close()


async def test_a_file_that_cannot_be_there_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    database = open_database(None, tmp_path / "file")
    with pytest.raises(ConfigError, match="DATABASE_URL: the database does not work: FileExistsError"):
        await database.upgrade()
    await database.close()


async def test_a_file_that_is_no_database_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "bridge.sqlite3").write_text("no database at all, but long enough to have a header " * 20)
    database = open_database(None, tmp_path)
    with pytest.raises(ConfigError, match="DATABASE_URL: the database does not work: DatabaseError"):
        await database.upgrade()
    assert await database.check() == "The database does not work: DatabaseError"
    await database.close()


async def test_upgrade_waits_for_a_lock(tmp_path: Path) -> None:
    database = open_database(None, tmp_path)
    other = sqlite3.connect(tmp_path / "bridge.sqlite3", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    upgrade = asyncio.create_task(database.upgrade())
    await asyncio.sleep(0.1)
    assert not upgrade.done()
    other.execute("ROLLBACK")
    await upgrade
    other.close()
    assert await database.check() == ""
    await database.close()


async def test_a_database_without_tables_is_not_ready(empty_database_url: str, tmp_path: Path) -> None:
    database = open_database(empty_database_url, tmp_path)
    assert await database.check() == f"The database has revision none, this version needs {head_revision()}."
    await database.close()


# --- PostgreSQL ---


async def test_nobody_there_is_said_without_the_password(tmp_path: Path) -> None:
    database = open_database(f"postgres://bridge:hunter2@127.0.0.1:{free_port()}/x", tmp_path)
    with pytest.raises(ConfigError) as caught:
        await database.upgrade(patience_s=0.0)
    assert "DATABASE_URL: the database does not work: ConnectionRefusedError" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "ConnectionRefusedError" in await database.check()
    await database.close()


@pytest.mark.e2e
async def test_a_missing_database_is_said_at_once(shared_postgres: PostgresServer, tmp_path: Path) -> None:
    database = open_database(shared_postgres.url("nowhere"), tmp_path)
    with pytest.raises(ConfigError, match='database "nowhere" does not exist'):
        await database.upgrade()
    await database.close()


@pytest.mark.e2e
async def test_a_read_only_server_is_not_ready(
    shared_postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    database = open_database(postgres_url, tmp_path)
    await database.upgrade()
    name = postgres_url.rpartition("/")[2]
    shared_postgres.sql("postgres", f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await database.close()
    assert await database.check() == "The database takes no writes: it is a standby or set to read-only."
    await database.close()


@pytest.mark.e2e
async def test_the_form_of_other_tools_connects_too(postgres_url: str, tmp_path: Path) -> None:
    url = postgres_url.replace("postgresql://", "postgresql+asyncpg://") + "?ssl=prefer&connect_timeout=3"
    database = open_database(url, tmp_path)
    await database.upgrade()
    async with database.read() as connection:
        assert await connection.scalar(text("SHOW application_name")) == "telephony-bridge"
    await database.close()


@pytest.mark.e2e
async def test_the_operators_own_application_name_is_kept(postgres_url: str, tmp_path: Path) -> None:
    database = open_database(postgres_url + "?application_name=mine", tmp_path)
    async with database.read() as connection:
        assert await connection.scalar(text("SHOW application_name")) == "mine"
    await database.close()


@pytest.mark.e2e
async def test_upgrade_waits_for_a_server_that_starts_later(own_postgres: PostgresServer, tmp_path: Path) -> None:
    url = own_postgres.new_database()
    own_postgres.kill()
    database = open_database(url, tmp_path)
    upgrade = asyncio.create_task(database.upgrade())
    await asyncio.sleep(0.3)
    assert not upgrade.done()
    await asyncio.to_thread(own_postgres.start)
    await upgrade
    assert await database.check() == ""
    await database.close()


@pytest.mark.e2e
async def test_the_first_request_after_a_restart_of_the_server_works(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    database = open_database(own_postgres.new_database(), tmp_path)
    await database.upgrade()
    assert await count_routes(database) == 0
    await asyncio.to_thread(own_postgres.kill)
    assert "does not work" in await database.check()
    await asyncio.to_thread(own_postgres.start)
    assert await count_routes(database) == 0
    await database.close()
