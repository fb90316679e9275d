"""Alembic's environment: runs the migrations on the connection, and in the transaction, that it is handed.

``bridge.server.store.database`` calls it; there is no way to run it without a connection, so it reads no settings.
"""

from __future__ import annotations

from alembic import context

from bridge.server.store.schema import METADATA


def run() -> None:
    """Bring the database of the given connection to the wanted revision."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=METADATA,
        transactional_ddl=True,  # SQLite too: the connection begins its transactions explicitly
        render_as_batch=True,  # SQLite cannot alter most things of a column
    )
    with context.begin_transaction():
        context.run_migrations()


run()
