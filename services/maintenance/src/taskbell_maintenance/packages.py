"""Handlers of installed packages: commands take effect once, as ours do; events have a transaction for each set."""

from collections.abc import Sequence
from typing import Any

from taskbell.catalogue import row_of
from taskbell.commands import CommandLog, Outcome
from taskbell.contracts import Message
from taskbell.database import Database, Transaction
from taskbell.extensions import Handler
from taskbell.handling import HandlerTransaction
from taskbell.messaging.consuming.delivery import Received
from taskbell.outbox import Outbox

Messages = Sequence[Received[Any]]


class PackageHandler:
    """One of a package's handlers, as a use case of this service."""

    def __init__(self, handler: Handler, database: Database, log: CommandLog, outbox: Outbox) -> None:
        self.message: Message = row_of(handler.contract)
        self.batch = handler.batch
        self._handler = handler
        self._database = database
        self._log = log
        self._outbox = outbox

    async def handle(self, messages: Messages) -> None:
        """Handles a set, all of it in one transaction."""
        if self.message.kind == "command":
            await self._log.run(messages, self._carry_out)
            return
        async with self._database.transaction() as transaction:
            await self._handler.handle(self._opened(transaction), list(messages))

    async def _carry_out(self, transaction: Transaction, commands: Messages) -> Sequence[Outcome]:
        outcomes = await self._handler.handle(self._opened(transaction), list(commands))
        right = isinstance(outcomes, Sequence) and all(isinstance(it, Outcome) for it in outcomes)
        if not right or len(outcomes) != len(commands):
            msg = f"the handler of {self.message.routing_key} must return a list with an Outcome for each command"
            raise TypeError(msg)
        return list(outcomes)

    def _opened(self, transaction: Transaction) -> HandlerTransaction:
        return HandlerTransaction(transaction, self._outbox, self._database.app)
