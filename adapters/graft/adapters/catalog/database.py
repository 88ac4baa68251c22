"""The catalog's database: opened, checked, upgraded; transactions, and driver errors as domain errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from graft.adapters.errors import CatalogCorrupt, CatalogUnavailable, Conflict, GraftError, Reason, StoreFull

VERSION_TABLE = "graft_adapters_version"
_MIGRATIONS = "graft.adapters.catalog:migrations"
# A control call must fail within 2 s when the database is locked or gone.
_WAIT_SECONDS = 1.5
# One number for the advisory lock under which PostgreSQL is upgraded.
_UPGRADE_LOCK = 0x67726166
_TRIES = 3
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Database:
    """One engine behind a lock: SQLite gets a single writer, and no thread sees another's transaction."""

    def __init__(self, engine: sa.Engine) -> None:
        """Use `Database.open`."""
        self._engine = engine
        self._lock = threading.RLock()

    @classmethod
    def open(cls, url: str, *, migrations: Sequence[str] = ()) -> Database:
        """Open, check and upgrade the database at a SQLAlchemy `url`.

        `migrations` are the folders (paths, or package:folder) of other rooms that own tables, each an Alembic branch.
        Raises CatalogUnavailable, CatalogCorrupt with advice, or StoreFull.
        """
        database = cls(_engine(url))
        try:
            with database.writing() as connection:
                _check(connection)
                _upgrade(connection, migrations)
        except BaseException:
            database.close()
            raise
        return database

    @classmethod
    def look(cls, path: Path) -> Database:
        """Open a SQLite file to read it as it is: checked, not upgraded. Raises CatalogUnavailable, CatalogCorrupt."""
        arguments = {"check_same_thread": False, "timeout": _WAIT_SECONDS, "uri": True}
        database = cls(sa.create_engine(f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true", connect_args=arguments))
        try:
            with database.reading() as connection:
                _check(connection)
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        """Give every connection back."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that only reads."""
        with self._transaction(writes=False) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that may write; committed durably on leaving, rolled back on an error."""
        with self._transaction(writes=True) as connection:
            yield connection

    def read(self, work: Callable[Concatenate[sa.Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run `work` in a transaction that only reads."""
        with self.reading() as connection:
            return work(connection, *args, **kwargs)

    def write(self, work: Callable[Concatenate[sa.Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run `work` in one transaction; again when another replica wrote the same row first. Raises Conflict."""
        for _ in range(_TRIES):
            try:
                with self.writing() as connection:
                    return work(connection, *args, **kwargs)
            except IntegrityError as error:
                cause = error
        raise Conflict("another writer changed the same rows; try again") from cause

    @contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[sa.Connection]:
        with self._lock, _translated(self._engine.url):
            engine = self._engine.execution_options(graft_writes=writes)
            if not writes and engine.dialect.name != "sqlite":
                # Several SELECTs of one read must see one moment.
                engine = engine.execution_options(isolation_level="REPEATABLE READ")
            with engine.begin() as connection:
                yield connection


def _engine(url: str) -> sa.Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return sa.create_engine(
                parsed, pool_pre_ping=True, pool_timeout=_WAIT_SECONDS, connect_args=_server_arguments(parsed)
            )
        options: dict[str, Any] = {}
        if parsed.database in (None, "", ":memory:"):
            options["poolclass"] = StaticPool
        else:
            Path(str(parsed.database)).absolute().parent.mkdir(parents=True, exist_ok=True)
        arguments = {"check_same_thread": False, "timeout": _WAIT_SECONDS}
        engine = sa.create_engine(parsed, connect_args=arguments, **options)
    except (ArgumentError, NoSuchModuleError, ImportError, OSError) as error:
        remedy = "give a SQLAlchemy URL such as sqlite:////var/lib/graft/catalog.db, and install its driver"
        reason = Reason(field="catalog", problem=str(error), remedy=remedy)
        raise CatalogUnavailable("the catalog cannot be opened", [reason]) from error
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _server_arguments(url: sa.URL) -> dict[str, Any]:
    if not url.get_driver_name().startswith("psycopg"):
        return {}
    milliseconds = int(_WAIT_SECONDS * 1000)
    # libpq waits for ever by default, and takes whole seconds, two at least.
    return {"connect_timeout": 2, "options": f"-c lock_timeout={milliseconds}"}


def _configure_sqlite(connection: Any, record: object) -> None:
    # The driver must not begin transactions by itself: DDL and BEGIN IMMEDIATE need ours.
    connection.isolation_level = None
    # The rollback journal, not WAL: SQLite before 3.51.3 can corrupt a WAL on reset.
    for pragma in ("foreign_keys=ON", "journal_mode=DELETE", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("graft_writes", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _check(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
    if connection.dialect.name != "sqlite":
        return
    found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check(10)")]
    if found != ["ok"]:
        raise _corrupt(found)
    dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if dangling:
        raise _corrupt([f"table {row[0]}: a row refers to a missing row of {row[2]}" for row in dangling[:10]])


def _upgrade(connection: sa.Connection, migrations: Sequence[str]) -> None:
    config = alembic_config(migrations)
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "heads")
    except CommandError as error:
        remedy = "it may have been written by a newer Graft, or by one with more parts: run that one"
        reason = Reason(field="catalog", problem=str(error), remedy=remedy)
        raise CatalogUnavailable("the catalog's schema is not known to this program", [reason]) from error


def alembic_config(migrations: Sequence[str] = ()) -> Config:
    """The configuration of this room's own migrations, branch label `adapters`, and of other rooms' beside them."""
    config = Config()
    config.set_main_option("script_location", _MIGRATIONS)
    config.set_main_option("path_separator", "newline")
    # configparser would read `%` in a path as the beginning of a name.
    locations = "\n".join([f"{_MIGRATIONS}/versions", *migrations]).replace("%", "%%")
    config.set_main_option("version_locations", locations)
    return config


def _corrupt(problems: list[str]) -> CatalogCorrupt:
    remedy = "stop the server, keep the file, restore a backup or run `sqlite3 FILE .recover`"
    reasons = [Reason(field="catalog", problem=problem, remedy=remedy) for problem in problems]
    return CatalogCorrupt("the catalog's database is damaged", reasons)


@contextmanager
def _translated(url: sa.URL) -> Iterator[None]:
    """Driver errors as domain errors; a broken constraint stays as it is, for the caller to explain."""
    try:
        yield
    except (GraftError, IntegrityError):
        raise
    except DBAPIError as error:
        raise _explained(str(error.orig), url) from error
    except (SQLAlchemyError, OSError) as error:
        raise _explained(str(error), url) from error


def _explained(problem: str, url: sa.URL) -> GraftError:
    if any(sign in problem for sign in ("malformed", "not a database", "disk image")):
        return _corrupt([problem])
    reason = Reason(field="catalog", problem=problem)
    if "disk is full" in problem or "No space left" in problem:
        return StoreFull("the disk that holds the catalog is full", [reason])
    return CatalogUnavailable(f"the catalog at {url.render_as_string(hide_password=True)} does not answer", [reason])
