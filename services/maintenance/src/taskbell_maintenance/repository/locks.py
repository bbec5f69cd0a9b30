"""Locks rows of the app's tasks, also if they are a view."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import CursorResult, Row
from sqlalchemy.exc import DBAPIError

from taskbell.database import Parameters, Transaction, sqlstate
from taskbell_maintenance.repository.names import of_app

_FEATURE_NOT_SUPPORTED = "0A000"


class TaskLocks:
    """Locks rows of the app's tasks, so that nobody changes them between our reading and our writing.

    Rows of some views cannot be locked (outer joins, DISTINCT, GROUP BY). For those, the tables below the view are
    locked against writers until the transaction ends: that slows others down, but no update is lost.
    """

    def __init__(self, app: str) -> None:
        self.app = app
        """The quoted schema of the web app's tables."""
        self._by_row: bool | None = None

    async def row(self, transaction: Transaction, statement: str, parameters: Parameters, *, skip: bool = False) -> Any:
        """The one row of a SELECT, in whose text `{app}` and `{lock}` stand for the schema and the locking clause.

        Args:
            skip: leave out rows that others have locked, instead of waiting for them.
        """
        return (await self._execute(transaction, statement, parameters, skip)).one()

    async def rows(self, transaction: Transaction, statement: str, parameters: Parameters) -> Sequence[Row[Any]]:
        """The rows of such a SELECT; waits for rows that others have locked."""
        return (await self._execute(transaction, statement, parameters, skip=False)).all()

    async def _execute(
        self, transaction: Transaction, statement: str, parameters: Parameters, skip: bool
    ) -> CursorResult[Any]:
        if self._by_row is None:
            self._by_row = await self._can_lock_rows(transaction)
        lock = ("FOR UPDATE SKIP LOCKED" if skip else "FOR UPDATE") if self._by_row else ""
        if not self._by_row:
            await transaction.execute(f"LOCK TABLE {self.app}.tasks IN SHARE ROW EXCLUSIVE MODE")
        try:
            return await transaction.execute(of_app(statement, self.app).replace("{lock}", lock), parameters)
        except DBAPIError as error:
            if sqlstate(error) == _FEATURE_NOT_SUPPORTED:
                self._by_row = None  # somebody replaced the view meanwhile: the next try checks again
            raise

    async def _can_lock_rows(self, transaction: Transaction) -> bool:
        try:
            async with transaction.connection.begin_nested():
                await transaction.execute(f"SELECT t.id FROM {self.app}.tasks AS t LIMIT 0 FOR UPDATE")
        except DBAPIError as error:
            if sqlstate(error) != _FEATURE_NOT_SUPPORTED:
                raise
            return False
        return True
