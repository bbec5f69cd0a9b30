"""The open transaction in which a package's handler reads, writes and publishes."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskbell.catalogue import row_of
from taskbell.contracts import Contract

if TYPE_CHECKING:  # a web app that only publishes a package's messages has neither PostgreSQL's driver nor SQLAlchemy
    from taskbell.database import Transaction
    from taskbell.messaging.consuming.delivery import Received
    from taskbell.outbox import Outbox

Parameters = Mapping[str, Any]


class HandlerTransaction:
    """The open transaction of a set of messages. It is committed when the handler returns.

    SQL text takes `:name` parameters, and `{app}` stands for the web app's schema, quoted. Statements run as the
    service's role, to which the package's grants are added.
    """

    def __init__(self, transaction: "Transaction", outbox: "Outbox", app: str) -> None:
        self._transaction = transaction
        self._outbox = outbox
        self._app = app

    async def execute(self, sql: str, parameters: Parameters | None = None) -> int:
        """Runs a statement; returns how many rows it changed."""
        return (await self._transaction.execute(self._of_app(sql), parameters)).rowcount

    async def rows(self, sql: str, parameters: Parameters | None = None) -> Sequence[Mapping[str, Any]]:
        """All rows of a bounded query, by column name."""
        return [dict(row) for row in await self._transaction.mappings(self._of_app(sql), parameters)]

    async def value(self, sql: str, parameters: Parameters | None = None) -> Any:
        """The first column of the first row, or None."""
        return await self._transaction.value(self._of_app(sql), parameters)

    async def publish(self, body: Contract, *, cause: "Received[Any] | None" = None) -> None:
        """Publishes a message once the transaction is committed, and never if it is rolled back.

        Args:
            cause: the message that caused this one, and whose correlation_id is sent along.

        Raises:
            TypeError: the body is not a message.
            ValueError: the service may not publish it: its row neither allows anyone nor names it in published_by.
        """
        from taskbell.outbox import OutboxMessage

        try:
            message = row_of(type(body))
        except KeyError:
            msg = f"{type(body).__name__} is not a message; `taskbell messages` lists them"
            raise TypeError(msg) from None
        if not message.by_anyone and self._outbox.owner not in message.published_by:
            msg = f"{message.routing_key} is not published by {self._outbox.owner}: name it in the row's published_by"
            raise ValueError(msg)
        correlation_id = None if cause is None else cause.envelope.correlation_id or cause.message_id
        await self._outbox.add(self._transaction, [OutboxMessage(body, correlation_id=correlation_id)])

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Calls `callback` once the transaction is committed, and never if it is rolled back."""
        self._transaction.after_commit(callback)

    def _of_app(self, sql: str) -> str:
        return sql.replace("{app}", self._app)
