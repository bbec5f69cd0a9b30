"""Commands take effect once: their outcomes are stored by message_id, and replies go to whoever asked.

States: done, unchanged and rejected are final; a repeated message_id is answered with the stored outcome. failed means
that the command was dead-lettered after its retries; if it is delivered again, it runs again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sqlalchemy import Row

from taskbell.database import Database, Transaction
from taskbell.errors import BrokerUnavailable, Retry, Unroutable
from taskbell.logs import logger
from taskbell.messaging.consuming.delivery import Body, Envelope, Received
from taskbell.messaging.consuming.replies import reply_to
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.publishing.publisher import Publisher
from taskbell.outcomes import Outcome

__all__ = ["CommandLog", "Outcome", "Replies"]

MAX_REPLIES = 1000
"""Replies under way at once. Further ones are dropped with a log line: no command depends on its reply."""


# Two deliveries of one message_id wait for each other here; the second then finds the first one's row.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(id, 0)) FROM unnest(CAST(:ids AS text[])) AS id ORDER BY id"

_STORED = """
    SELECT message_id, state, result, reason FROM taskbell.command
    WHERE message_id = ANY(:ids) AND state <> 'failed'
"""

_STORE = """
    INSERT INTO taskbell.command AS c
        (message_id, routing_key, body, state, result, reason, attempts, correlation_id)
    SELECT * FROM unnest(
        CAST(:ids AS text[]), CAST(:keys AS text[]), CAST(:bodies AS jsonb[]), CAST(:states AS text[]),
        CAST(:results AS jsonb[]), CAST(:reasons AS text[]), CAST(:attempts AS bigint[]),
        CAST(:correlations AS text[]))
    ON CONFLICT (message_id) DO UPDATE
    SET state = excluded.state, result = excluded.result, reason = excluded.reason, body = excluded.body,
        attempts = c.attempts + 1, finished_at = now()
    WHERE c.state = 'failed'
"""

_REFUSE = f"""
    WITH written AS (
        {_STORE.strip()}
        RETURNING c.message_id, c.state, c.result, c.reason
    )
    SELECT message_id, state, result, reason FROM written
    UNION ALL
    SELECT message_id, state, result, reason FROM taskbell.command AS c
    WHERE message_id = ANY(CAST(:ids AS text[])) AND state <> 'failed'
        AND message_id NOT IN (SELECT message_id FROM written)
"""  # noqa: S608 - built from our own constants


class CommandLog:
    """The `command` table, and replies."""

    def __init__(self, database: Database, replies: "Replies") -> None:
        self._database = database
        self._replies = replies

    async def begin(
        self, transaction: Transaction, commands: Sequence[Received[Body]]
    ) -> tuple[list[Received[Body]], dict[str, Outcome]]:
        """Locks these commands' ids; returns the commands that must run, and the outcomes of those that already ran.

        The lock lasts as long as the transaction. Of several with one message_id only the first must run.
        """
        ids = sorted({command.message_id for command in commands})
        await transaction.execute(_LOCK, {"ids": ids})
        stored = await self._stored(transaction, ids)
        fresh: dict[str, Received[Body]] = {}
        for command in commands:
            if command.message_id not in stored:
                fresh.setdefault(command.message_id, command)
        return list(fresh.values()), stored

    async def finish(self, transaction: Transaction, outcomes: Sequence[tuple[Received[Body], Outcome]]) -> None:
        """Stores outcomes, in the transaction in which the commands took effect.

        Raises:
            Retry: one of them already has a final outcome; nothing of this transaction may be committed.
        """
        stored = await self._store(
            transaction,
            [(command.envelope, command.body.to_bytes().decode(), outcome) for command, outcome in outcomes],
        )
        if stored != len(outcomes):
            # `begin` keeps others away. If it did not, the table's key still keeps an effect from happening twice.
            msg = "a command was carried out by somebody else at the same time"
            raise Retry(msg)

    async def run(
        self,
        commands: Sequence[Received[Body]],
        apply: Callable[[Transaction, Sequence[Received[Body]]], Awaitable[Sequence[Outcome]]],
    ) -> None:
        """Applies a set of commands in one transaction, each at most once, and replies to all.

        Args:
            apply: the use case; returns one outcome for each command, in their order.
        """
        async with self._database.transaction() as transaction:
            fresh, outcomes = await self.begin(transaction, commands)
            if fresh:
                ended = list(zip(fresh, await apply(transaction, fresh), strict=True))
                await self.finish(transaction, ended)
                outcomes |= {command.message_id: outcome for command, outcome in ended}
        for command in commands:
            self.reply(command.envelope, outcomes[command.message_id])

    async def refuse(self, refused: Sequence[tuple[Envelope, str]]) -> None:
        """Stores and answers `rejected` for commands that did not validate, each with the reason."""
        first: dict[str, tuple[Envelope, None, Outcome]] = {}
        for envelope, reason in sorted(refused, key=lambda it: it[0].message_id):
            first.setdefault(envelope.message_id, (envelope, None, Outcome.rejected(reason)))
        # If a command ended before under one of these message_ids, it keeps its outcome, and that is the answer.
        async with self._database.statement() as transaction:
            rows = await transaction.rows(_REFUSE, _columns(list(first.values())))
            stored = _by_id(rows)
        if len(stored) < len(first):  # one of them ended while the statement was under way
            async with self._database.statement() as transaction:
                stored = await self._stored(transaction, list(first))
        for envelope, _ in refused:
            self.reply(envelope, stored[envelope.message_id])

    async def fail(self, command: Received[Body], reason: str) -> None:
        """Stores and answers `failed` for a command that is about to be dead-lettered."""
        outcome = Outcome("failed", reason=reason)
        async with self._database.transaction() as transaction:
            await self._store(transaction, [(command.envelope, command.body.to_bytes().decode(), outcome)])
        self.reply(command.envelope, outcome)

    def reply(self, envelope: Envelope, outcome: Outcome) -> None:
        """Sends the outcome to the command's reply_to, if it has one. Call it after the commit."""
        self._replies.send(envelope, outcome)

    async def _stored(self, transaction: Transaction, ids: Sequence[str]) -> dict[str, Outcome]:
        """The final outcomes that are stored for these ids."""
        return _by_id(await transaction.rows(_STORED, {"ids": list(ids)}))

    async def _store(self, transaction: Transaction, ended: Sequence[tuple[Envelope, str | None, Outcome]]) -> int:
        """Writes rows, except over those whose outcome is final; returns how many it wrote."""
        result = await transaction.execute(_STORE, _columns(ended))
        return result.rowcount


class Replies:
    """Sends outcomes, best effort: a command's effect and its ack never depend on them.

    Args:
        publisher: used for replies alone, so that a refused reply does not close a channel that others use.
    """

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._sending: set[asyncio.Task[None]] = set()
        self._log = logger("replies")

    def send(self, envelope: Envelope, outcome: Outcome) -> None:
        """Starts sending; returns at once."""
        if envelope.reply_to is None:
            return
        reply = reply_to(envelope, outcome)
        if reply is None or len(self._sending) >= MAX_REPLIES:
            self._log.warning("reply.refused", message_id=envelope.message_id, under_way=len(self._sending))
            return
        task = asyncio.create_task(self._send(reply, envelope.message_id))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def close(self) -> None:
        """Waits up to 5 s for replies under way, and closes the connection."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=5)
        await self._publisher.close()

    async def _send(self, reply: Outgoing, message_id: str) -> None:
        try:
            await self._publisher.publish(reply)
        except (BrokerUnavailable, Unroutable, ValueError) as error:
            self._log.warning("reply.failed", message_id=message_id, reason=str(error))


def _columns(ended: Sequence[tuple[Envelope, str | None, Outcome]]) -> dict[str, Any]:
    return {
        "ids": [envelope.message_id for envelope, _, _ in ended],
        "keys": [envelope.routing_key for envelope, _, _ in ended],
        "bodies": [body for _, body, _ in ended],
        "states": [outcome.state for _, _, outcome in ended],
        "results": [outcome.result_as_json() for _, _, outcome in ended],
        "reasons": [outcome.reason for _, _, outcome in ended],
        "attempts": [envelope.attempt + 1 for envelope, _, _ in ended],
        "correlations": [envelope.correlation_id for envelope, _, _ in ended],
    }


def _by_id(rows: Sequence[Row[Any]]) -> dict[str, Outcome]:
    return {row.message_id: Outcome(row.state, row.result, row.reason) for row in rows}
