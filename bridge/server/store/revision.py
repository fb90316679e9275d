"""Which shape the tables have, and how they get the one of this version. Alembic without its command line.

The migrations are in ``migrations/versions`` and come with the package.
"""

from __future__ import annotations

import functools
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from bridge.errors import ConfigError

MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade_to_head(connection: Connection) -> None:
    """Run all migrations that are missing, in the connection's transaction.

    Raises ``ConfigError`` for a database that a newer version has changed.
    """
    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError:
        raise ConfigError(
            f"DATABASE_URL: the database has revision {current_revision(connection)}, which this version does not "
            "know: a newer version has changed it. Run that version, or restore a backup."
        ) from None


def current_revision(connection: Connection) -> str | None:
    """The revision of the database; None = it was never migrated."""
    return MigrationContext.configure(connection).get_current_revision()


@functools.cache
def head_revision() -> str:
    """The revision that this version needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
