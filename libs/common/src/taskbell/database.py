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
"""Seconds after which PostgreSQL cancels a statement. The server is there, so this is an error of the statement."""

SILENCE = 5.0
"""Further seconds after which a server that has not even reported the timeout counts as unavailable."""

# SQLSTATE classes: connection exception, insufficient resources, operator intervention (shutdown, starting up).
_UNAVAILABLE_CLASSES = ("08", "53", "57")
# query_canceled belongs to class 57 too, but it is an answer of a healthy server.
_ANSWERS = frozenset({"57014"})
# serialization_failure, deadlock_detected, lock_not_available, query_canceled
_PASSING = frozenset({"40001", "40P01", "55P03", "57014"})
READ_ONLY = "25006"
"""SQLSTATE read_only_sql_transaction: what a former primary answers after a failover. For us it is unavailable."""

SEARCH_PATH = "pg_catalog, pg_temp"
"""Where names without a schema are looked up. In another schema, such as the web app's, somebody could make a function
whose arguments fit ours better than PostgreSQL's own, and which then runs with our rights (CVE-2018-1058)."""

INSUFFICIENT_PRIVILEGE = "42501"
"""SQLSTATE: the role may not do that."""

IDLE_IN_TRANSACTION = 60.0
"""Seconds after which PostgreSQL ends the session of a process that stands still in the middle of a transaction."""


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
    """The name as an SQL identifier, always quoted."""
    return '"' + identifier.replace('"', '""') + '"'


class Transaction:
    """An open transaction, in which statements are executed. `Database.transaction` commits it when its block ends."""

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
        """The one row, or None. Raises sqlalchemy's MultipleResultsFound if there are several."""
        return (await self.execute(statement, parameters)).one_or_none()

    async def value(self, statement: str | Executable, parameters: Parameters | None = None) -> Any:
        """The first column of the first row, or None."""
        return (await self.execute(statement, parameters)).scalar()

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Calls `callback` once this transaction is committed, and never if it is rolled back."""
        self.callbacks.append(callback)


class _Statement(Transaction):
    """A transaction of one statement, which commits itself."""

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

    def __init__(self, engine: AsyncEngine, app_schema: str, *, pooled: bool = False) -> None:
        """Makes it; `pooled`: behind PgBouncer, which passes no setting of a session on."""
        self.engine = engine
        self._pooled = pooled
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
            statement_timeout: seconds that a statement may take; None: no limit, for migrations.
        """
        arguments: dict[str, Any] = {
            "timeout": 5.0,
            "command_timeout": statement_timeout and statement_timeout + SILENCE,
            "server_settings": {
                "application_name": name,
                "timezone": "UTC",
                "search_path": SEARCH_PATH,
                "jit": "off",  # it costs more than it saves for statements that take milliseconds
                "statement_timeout": str(round((statement_timeout or 0) * 1000)),
                # A process that is frozen between two statements must not hold its locks for ever.
                "idle_in_transaction_session_timeout": str(round(IDLE_IN_TRANSACTION * 1000)),
            },
        }
        if not settings.database_prepared_statements:
            arguments["statement_cache_size"] = 0
            arguments["prepared_statement_cache_size"] = 0
            # Unnamed statements: asyncpg sends those again together with their arguments. PgBouncer may give each
            # statement outside a transaction another server connection, on which a named one was never prepared. A
            # named one that was prepared in a transaction would be closed in the next one, on another connection, and
            # so would stay.
            arguments["prepared_statement_name_func"] = str
            arguments["server_settings"] = {"application_name": name}  # PgBouncer refuses the others
        engine = create_async_engine(
            settings.database_url.get_secret_value(),
            pool_size=settings.database_pool_size,
            max_overflow=0,
            pool_timeout=30,
            pool_recycle=1800,
            connect_args=arguments,
            hide_parameters=True,  # errors go into logs and dead letters, and must hold no address and no title
            execution_options={"schema_translate_map": {APP: settings.app_schema}},
        )
        return cls(engine, settings.app_schema, pooled=not settings.database_prepared_statements)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises:
            DatabaseUnavailable: PostgreSQL does not answer or refuses us. Nothing of the block has taken effect, unless
                the commit was already under way.
        """
        async with self._on(self.engine, Transaction) as transaction:
            if self._pooled:
                await transaction.execute(f"SET LOCAL search_path = {SEARCH_PATH}")
            yield transaction
            async with _answered(transaction.connection):
                await transaction.connection.commit()

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[Transaction]:
        """A transaction of one statement, which PostgreSQL commits with it: one round trip instead of three.

        Behind PgBouncer it is a transaction like any other.

        An error that the block raises after its statement does not roll the statement back.

        Raises:
            DatabaseUnavailable: PostgreSQL does not answer or refuses us. The statement has not taken effect, unless it
                was already under way.
            RuntimeError: the block executes a second statement, which would be a transaction of its own.
        """
        if self._pooled:
            async with self.transaction() as transaction:
                yield transaction
            return
        async with self._on(self._committing, _Statement) as statement:
            yield statement

    @asynccontextmanager
    async def _on(self, engine: AsyncEngine, kind: type[Transaction]) -> AsyncIterator[Transaction]:
        """Opens a connection for one transaction; calls the transaction's callbacks if the block does not raise."""
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
            # Whatever the error, nothing can be done without a connection. An operator has to fix a wrong password, too
            # many clients or a missing database; until then we wait and report it.
            words = _words(error)
            if isinstance(error, socket.gaierror):
                # Most often a password with a character that ends it, so that its rest is taken for the host.
                words = f"PostgreSQL: the host {self.engine.url.host!r} of DATABASE_URL is not found: {error.strerror}"
            raise DatabaseUnavailable(words) from error

    async def close(self) -> None:
        """Closes all connections."""
        await self.engine.dispose()


async def check_writable(transaction: Transaction) -> None:
    """Raises DatabaseUnavailable if the server takes no changes: it is a standby, or a former primary."""
    if await transaction.value("SELECT current_setting('transaction_read_only')") == "on":
        msg = "PostgreSQL takes no changes: it is read-only"
        raise DatabaseUnavailable(msg)


@asynccontextmanager
async def _answered(connection: AsyncConnection) -> AsyncIterator[None]:
    """Raises DatabaseUnavailable if the server does not answer in time."""
    try:
        yield
    except TimeoutError as error:
        await connection.invalidate()  # closing it properly would wait for the silent server again
        msg = "PostgreSQL does not answer"
        raise DatabaseUnavailable(msg) from error


class _translated:
    """Raises DatabaseUnavailable for the driver's errors that mean so."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, DBAPIError) and _is_unavailable(error):
            raise DatabaseUnavailable(_words(error)) from error


def _is_unavailable(error: DBAPIError) -> bool:
    # InterfaceError alone does not count: asyncpg also raises it for an argument that does not fit its column.
    if error.connection_invalidated:
        return True
    state = sqlstate(error)
    if state is None:
        return isinstance(error.orig, (OSError, TimeoutError))
    return state == READ_ONLY or (state.startswith(_UNAVAILABLE_CLASSES) and state not in _ANSWERS)


def is_passing(error: DBAPIError) -> bool:
    """Whether the same statement may succeed on another try: it conflicted with others, or took too long."""
    return sqlstate(error) in _PASSING


def sqlstate(error: DBAPIError) -> str | None:
    """PostgreSQL's five-character code of the error; None: PostgreSQL did not answer."""
    return getattr(error.orig, "sqlstate", None)


def _words(error: BaseException) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return f"PostgreSQL: {str(cause).strip() or type(cause).__name__}".splitlines()[0][:300]
