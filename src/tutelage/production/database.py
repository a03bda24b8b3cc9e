"""One database, SQLite's file or PostgreSQL by a URL, in which what was written stays written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError

PATIENCE = 30.0
"""Seconds for which a database that does not answer, or is locked, is asked again."""
_MIGRATIONS = 8_117_004_201  # the key of PostgreSQL's lock under which its tables are changed

Result = TypeVar("Result")


class Database:
    """Transactions that are on the disk when they return, and are tried again where the database was away.

    SQLite keeps a write-ahead log that is flushed at every commit; its transactions take the writer's lock at once, so that
    none fails half-way. Opening brings the tables to the newest form (Alembic), which several processes may do at once.

    Args:
        place: path of SQLite's file, made where it does not exist, or a URL: ``postgresql://user:password@host/name``.
        patience: seconds for which a database that does not answer is asked again.

    Raises:
        ValueError: a URL that is none, or of another kind of database.
        ConnectionError: the database cannot be reached.
    """

    def __init__(self, place: str | Path, patience: float = PATIENCE) -> None:
        self.url = _url(str(place))
        self.patience = patience
        self.engine = _sqlite(self.url) if self.is_sqlite else create_engine(self.url, pool_pre_ping=True)
        self.write(_migrate)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of SQLite's."""
        return self.url.get_backend_name() == "sqlite"

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Return ``work(connection)`` after its transaction was committed.

        The work is repeated where the database went away, even after it had committed: it must be harmless to repeat.

        Raises:
            ConnectionError: the database did not answer for as long as its patience lasts.
        """
        deadline, pause = time.monotonic() + self.patience, 0.02
        while True:
            try:
                with self.engine.begin() as connection:
                    return work(connection)
            except DBAPIError as error:
                away = isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated
                if not away:
                    raise
                if time.monotonic() + pause > deadline:
                    raise ConnectionError(f"database {self.url.render_as_string()}: {error.orig}") from error
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the database and holds up no writer."""
        with self.engine.connect() as connection:
            level: dict[str, Any] = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
            yield connection.execution_options(reads_only=True, **level)

    def close(self) -> None:
        """Give back the connections."""
        self.engine.dispose()


def _url(place: str) -> URL:
    if "://" not in place:
        return URL.create("sqlite", database=str(Path(place).resolve()))
    try:
        url = make_url(place)
    except (ArgumentError, ValueError) as error:
        raise ValueError(f"database={place.partition('://')[0] + '://...'!r} is no URL: {error}") from error
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg") or (url.drivername == "sqlite" and not url.database):
        raise ValueError(
            f"database={url.render_as_string()}: give the path of a file, for SQLite, or postgresql://user@host/name"
        )
    return url


def _sqlite(url: URL) -> Engine:
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": 5.0})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin where we say so
        for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {setting}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reads_only = connection.get_execution_options().get("reads_only")
        connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")

    return engine


def _migrate(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATIONS})
    with as_file(files("tutelage.production") / "migrations") as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
