"""Where the database is: DATABASE_URL in the forms that people write, read into one of two addresses. Pure.

Sources: the URI form of PostgreSQL's manual (34.1.1 Connection Strings), SQLAlchemy's ``dialect+driver://`` form and
its ``sqlite:///relative`` and ``sqlite:////absolute`` paths. No message quotes the URL: it holds a password.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from bridge.errors import ConfigError

DEFAULT_FILE = "bridge.sqlite3"
"""The database in DATA_DIR when DATABASE_URL is not set."""

_SQLITE_SCHEMES = frozenset({"sqlite", "sqlite+aiosqlite"})
_POSTGRES_SCHEMES = frozenset({"postgres", "postgresql", "postgresql+asyncpg"})
_IDLE_PARAMETERS = frozenset(
    {
        "connect_timeout",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "tcp_user_timeout",
    }
)
"""Of libpq alone; the driver would pass them to the server, which refuses them. Time-outs are set by this package."""


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """A database in a file of this machine."""

    path: Path


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A database on a PostgreSQL server."""

    dsn: str = field(repr=False)
    """For asyncpg, ``postgresql://...``; holds the password."""
    names_application: bool
    """Whether the operator chose ``application_name``."""


Address = SqliteFile | PostgresServer


def parse_address(url: str | None, data_dir: Path) -> Address:
    """The address that DATABASE_URL names; None or empty = the file in ``data_dir``.

    Raises ``ConfigError`` for what is no such URL.
    """
    if not url:
        return SqliteFile(data_dir / DEFAULT_FILE)
    scheme, separator, _ = url.partition("://")
    scheme = scheme.lower()
    if separator and scheme in _SQLITE_SCHEMES:
        return _sqlite(url)
    if separator and scheme in _POSTGRES_SCHEMES:
        return _postgres(url)
    raise ConfigError(
        "DATABASE_URL: this kind of database is not known. Write postgresql://user:password@host:5432/name or "
        "sqlite:///path/to/file, or leave it empty for a file in DATA_DIR."
    )


def _sqlite(url: str) -> SqliteFile:
    rest = url.partition("://")[2]
    path, question, _ = rest.partition("?")
    if question:
        raise ConfigError("DATABASE_URL: a SQLite path takes no parameters; remove what follows the question mark.")
    if not path.startswith("/") or path in ("/", "/:memory:"):
        raise ConfigError(
            "DATABASE_URL: SQLite needs a file that outlives the process. Write sqlite:///folder/file.sqlite3 for a "
            "path from the working directory, or sqlite:////folder/file.sqlite3 for one from the root."
        )
    return SqliteFile(Path(unquote(path[1:])))


def _postgres(url: str) -> PostgresServer:
    try:
        parts = urlsplit(url)
        _ = parts.port  # read for its check
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ConfigError(_UNREADABLE) from None
    if parts.fragment:
        raise ConfigError(_UNREADABLE)
    query: dict[str, str] = {}
    for name, value in pairs:
        if name == "channel_binding" and value == "require":
            raise ConfigError(
                "DATABASE_URL: the driver cannot do channel_binding=require; remove it, and use sslmode=verify-full "
                "to be sure of the server."
            )
        if name in _IDLE_PARAMETERS or name == "channel_binding":
            continue
        query["sslmode" if name == "ssl" else name] = value  # "ssl" is SQLAlchemy's word for asyncpg
    if not parts.path.strip("/") and "dbname" not in query and "database" not in query:
        raise ConfigError("DATABASE_URL: the name of the database is missing: postgresql://user:password@host/name.")
    question = "?" if query else ""
    dsn = f"postgresql://{parts.netloc}{parts.path}{question}{urlencode(query)}"
    return PostgresServer(dsn, "application_name" in query)


_UNREADABLE = (
    "DATABASE_URL: this is no readable PostgreSQL address. Write postgresql://user:password@host:5432/name, with "
    "special characters of the password percent-encoded (@ as %40, / as %2F, # as %23)."
)
