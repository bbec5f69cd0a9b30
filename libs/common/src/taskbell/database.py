"""PostgreSQL through SQLAlchemy on asyncpg. Only `Database.transaction()` and `Database.statement()` commit."""

import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, Protocol

from asyncpg.exceptions import InterfaceError, PostgresError
from sqlalchemy import CursorResult, Executable, Row, RowMapping, TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from taskbell.errors import DatabaseUnavailable
from taskbell.models import APP

Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]]

STATEMENT_TIMEOUT = 60.0
"""Seconds after which PostgreSQL gives up a statement: an error like any other, of a server that is there."""

SILENCE = 5.0
"""Seconds after that until we give up a server that does not say so: it is away."""

_UNAVAILABLE_CLASSES = ("08", "53", "57")
# SQLSTATE classes: connection exception, insufficient resources, operator intervention (shutdown, starting up).
# 57014, query_canceled, is in the last one too, but is an answer of a healthy server.
_ANSWERS = frozenset({"57014"})
_PASSING = frozenset({"40001", "40P01", "55P03", "57014"})
# serialization_failure, deadlock_detected, lock_not_available, query_canceled
_READ_ONLY = "25006"
# What a former primary answers after a failover: as good as away.


IDLE_IN_TRANSACTION = 60.0
"""Seconds after which PostgreSQL ends the session of a process that stopped in the middle of a transaction."""


class DatabaseSettings(Protocol):
    """What `Database.connect` reads of a service's settings."""

    @property
    def database_url(self) -> Any: ...
    @property
    def app_schema(self) -> str: ...
    @property
    def database_pool_size(self) -> int: ...
    @property
    def database_prepared_statements(self) -> bool: ...


@lru_cache(maxsize=512)
def _prepared(sql: str) -> TextClause:
    return text(sql)


def quoted(identifier: str) -> str:
    """That name as an SQL identifier, always quoted."""
    return '"' + identifier.replace('"', '""') + '"'


class Transaction:
    """An open transaction: statements in, rows out. It is committed by whoever opened it, when its block ends."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        self.callbacks: list[Callable[[], None]] = []

    async def execute(self, statement: str | Executable, parameters: Parameters | None = None) -> CursorResult[Any]:
        """Runs a statement; SQL text takes `:name` parameters."""
        if isinstance(statement, str):
            statement = _prepared(statement)
        async with _answered(self.connection):
            return await self.connection.execute(statement, parameters)

    async def rows(self, statement: str | Executable, parameters: Parameters | None = None) -> Sequence[Row[Any]]:
        """All rows of a bounded query."""
        return (await self.execute(statement, parameters)).all()

    async def mappings(self, statement: str | Executable, parameters: Parameters | None = None) -> Sequence[RowMapping]:
        """All rows of a bounded query, by column name."""
        return (await self.execute(statement, parameters)).mappings().all()

    async def row(self, statement: str | Executable, parameters: Parameters | None = None) -> Row[Any] | None:
        """The one row, or None. Raises sqlalchemy's MultipleResultsFound where there are more."""
        return (await self.execute(statement, parameters)).one_or_none()

    async def value(self, statement: str | Executable, parameters: Parameters | None = None) -> Any:
        """The first column of the first row, or None."""
        return (await self.execute(statement, parameters)).scalar()

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Calls back once this transaction is committed; never where it is rolled back."""
        self.callbacks.append(callback)


class _Statement(Transaction):
    """One whose only statement commits itself."""

    def __init__(self, connection: AsyncConnection) -> None:
        super().__init__(connection)
        self._done = False

    async def execute(self, statement: str | Executable, parameters: Parameters | None = None) -> CursorResult[Any]:
        if self._done:
            msg = "a second statement would not be in the transaction of the first"
            raise RuntimeError(msg)
        self._done = True
        return await super().execute(statement, parameters)


class Database:
    """A pool of connections."""

    def __init__(self, engine: AsyncEngine, app_schema: str) -> None:
        self.engine = engine
        self._committing = engine.execution_options(isolation_level="AUTOCOMMIT")
        self.app = quoted(app_schema)
        """The quoted schema of the web app's tables, for SQL text."""

    @classmethod
    def connect(
        cls, settings: DatabaseSettings, *, name: str, statement_timeout: float | None = STATEMENT_TIMEOUT
    ) -> "Database":
        """Makes the pool; no connection is opened before the first transaction.

        Args:
            name: application_name, as pg_stat_activity shows it.
            statement_timeout: seconds that a statement may take; None: as long as it needs, for migrations.
        """
        arguments: dict[str, Any] = {
            "timeout": 5.0,
            "command_timeout": statement_timeout and statement_timeout + SILENCE,
            "server_settings": {
                "application_name": name,
                "timezone": "UTC",
                "jit": "off",  # it costs more than it brings to statements of milliseconds
                "statement_timeout": str(round((statement_timeout or 0) * 1000)),
                # A process that is frozen between two statements must not keep its locks from the others.
                "idle_in_transaction_session_timeout": str(round(IDLE_IN_TRANSACTION * 1000)),
            },
        }
        if not settings.database_prepared_statements:
            arguments["statement_cache_size"] = 0
            arguments["prepared_statement_cache_size"] = 0
            # asyncpg sends a statement without a name once more with its arguments: PgBouncer gives each statement that
            # stands alone another connection, where one with a name was never prepared. One in a transaction would be
            # closed in the next, again elsewhere, and stay.
            arguments["prepared_statement_name_func"] = str
            arguments["server_settings"] = {"application_name": name}  # PgBouncer refuses the others
        engine = create_async_engine(
            settings.database_url.get_secret_value(),
            pool_size=settings.database_pool_size,
            max_overflow=0,
            pool_timeout=30,
            pool_recycle=1800,
            connect_args=arguments,
            hide_parameters=True,  # errors go into logs and dead letters; addresses and titles do not
            execution_options={"schema_translate_map": {APP: settings.app_schema}},
        )
        return cls(engine, settings.app_schema)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises:
            DatabaseUnavailable: PostgreSQL does not answer or refuses; nothing of the block has taken effect, unless
                the commit itself was under way.
        """
        async with self._on(self.engine, Transaction) as transaction:
            yield transaction
            async with _answered(transaction.connection):
                await transaction.connection.commit()

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[Transaction]:
        """A transaction of one statement, which PostgreSQL commits with it: one round trip instead of three.

        What the block raises after its statement takes nothing back.

        Raises:
            DatabaseUnavailable: PostgreSQL does not answer or refuses; unless the statement was under way, it has not
                taken effect.
            RuntimeError: a second statement, which would be a transaction of its own.
        """
        async with self._on(self._committing, _Statement) as transaction:
            yield transaction

    @asynccontextmanager
    async def _on(self, engine: AsyncEngine, kind: type[Transaction]) -> AsyncIterator[Transaction]:
        """A connection for one transaction; its callbacks are called where the block does not raise."""
        connection = await self._open(engine)
        transaction = kind(connection)
        try:
            with _translated():
                yield transaction
        finally:
            await connection.close()
        for callback in transaction.callbacks:
            callback()

    async def _open(self, engine: AsyncEngine) -> AsyncConnection:
        try:
            return await engine.connect()
        except (OSError, TimeoutError, PoolTimeoutError, PostgresError, InterfaceError, DBAPIError) as error:
            # Whatever it says: without a connection there is nothing to be done. A wrong password, too many clients, a
            # database that is not there yet are mended from outside, while we wait and say so.
            words = _words(error)
            if isinstance(error, socket.gaierror):
                # Most often a password with a character that ends it, so that its rest is taken for the host.
                words = f"PostgreSQL: the host {self.engine.url.host!r} of DATABASE_URL is not found: {error.strerror}"
            raise DatabaseUnavailable(words) from error

    async def ping(self) -> None:
        """Raises DatabaseUnavailable where PostgreSQL does not answer, refuses us, or takes no changes."""
        async with self.transaction() as transaction:
            await check_writable(transaction)

    async def close(self) -> None:
        """Closes all connections."""
        await self.engine.dispose()


async def check_writable(transaction: Transaction) -> None:
    """Raises DatabaseUnavailable where the server takes no changes: a standby, or a former primary."""
    if await transaction.value("SELECT current_setting('transaction_read_only')") == "on":
        msg = "PostgreSQL takes no changes: it is read-only"
        raise DatabaseUnavailable(msg)


@asynccontextmanager
async def _answered(connection: AsyncConnection) -> AsyncIterator[None]:
    """Turns a silent server into DatabaseUnavailable."""
    try:
        yield
    except TimeoutError as error:
        await connection.invalidate()  # its farewell would wait for an answer as long again
        msg = "PostgreSQL does not answer"
        raise DatabaseUnavailable(msg) from error


class _translated:
    """Turns the driver's words for "away" into DatabaseUnavailable."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, DBAPIError) and _is_unavailable(error):
            raise DatabaseUnavailable(_words(error)) from error


def _is_unavailable(error: DBAPIError) -> bool:
    # Not InterfaceError as such: that is also what asyncpg calls an argument that does not fit its column.
    if error.connection_invalidated:
        return True
    state = sqlstate(error)
    if state is None:
        return isinstance(error.orig, (OSError, TimeoutError))
    return state == _READ_ONLY or (state.startswith(_UNAVAILABLE_CLASSES) and state not in _ANSWERS)


def is_passing(error: DBAPIError) -> bool:
    """Is it no fault of the statement, which will do once others have let go of their locks?"""
    return sqlstate(error) in _PASSING


def sqlstate(error: DBAPIError) -> str | None:
    """The five characters with which PostgreSQL names an error, where it answered at all."""
    return getattr(error.orig, "sqlstate", None)


def _words(error: BaseException) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return f"PostgreSQL: {str(cause).strip() or type(cause).__name__}".splitlines()[0][:300]
