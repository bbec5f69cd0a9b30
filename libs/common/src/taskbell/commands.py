"""Commands take effect once: their outcomes are stored by message_id, and replies go to whoever asked.

States: done, unchanged and rejected are final; a repeated message_id is answered with the stored outcome. failed means
that the command was dead-lettered after its retries; if it is delivered again, it runs again.

A message_id belongs to the first command under it whose body validates. Another command under it is rejected. That one,
and every body that does not validate, is a row of `refused_command` and takes no message_id.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from taskbell.catalogue import key_of_queue, message_of
from taskbell.database import Database, Transaction
from taskbell.errors import BrokerUnavailable, Overtaken, Unroutable
from taskbell.identity import ANOTHER, Identity, identity_of, is_another
from taskbell.logs import logger
from taskbell.messaging.consuming.delivery import Body, Envelope, Received
from taskbell.messaging.consuming.replies import reply_to
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.publishing.publisher import Publisher
from taskbell.outcomes import Outcome

__all__ = ["CommandLog", "Outcome", "Replies"]

MAX_REPLIES = 1000
"""Replies under way at once. Further ones are dropped with a log line: no command depends on its reply."""

TRIES = 5
"""How often a set is begun again because other deliveries of its commands were committed first."""


# Rows of former versions without a body are of commands that did not validate: their message_ids are nobody's.
_STORED = """
    SELECT message_id, digest, state, result, reason FROM ONLY taskbell.command
    WHERE message_id = ANY(:ids) AND body IS NOT NULL
"""

# Sorted, so that two sets with the same commands wait for each other at the first of them, and not crosswise.
_STORE = """
    INSERT INTO taskbell.command AS c
        (message_id, routing_key, body, digest, state, result, reason, attempts, correlation_id)
    SELECT * FROM unnest(
        CAST(:ids AS text[]), CAST(:keys AS text[]), CAST(:bodies AS jsonb[]), CAST(:digests AS text[]),
        CAST(:states AS text[]), CAST(:results AS jsonb[]), CAST(:reasons AS text[]), CAST(:attempts AS bigint[]),
        CAST(:correlations AS text[])) AS n (message_id)
    ORDER BY n.message_id
    ON CONFLICT (message_id) DO UPDATE
    SET state = excluded.state, result = excluded.result, reason = excluded.reason, body = excluded.body,
        routing_key = excluded.routing_key, digest = excluded.digest, attempts = c.attempts + 1, finished_at = now()
    WHERE c.body IS NULL OR (c.state = 'failed' AND (c.digest IS NULL OR c.digest = excluded.digest))
"""

_REFUSE = """
    INSERT INTO taskbell.refused_command AS r
        (key, message_id, routing_key, body, digest, state, result, reason, attempts, correlation_id)
    SELECT * FROM unnest(
        CAST(:refused AS text[]), CAST(:ids AS text[]), CAST(:keys AS text[]), CAST(:bodies AS jsonb[]),
        CAST(:digests AS text[]), CAST(:states AS text[]), CAST(:results AS jsonb[]), CAST(:reasons AS text[]),
        CAST(:attempts AS bigint[]), CAST(:correlations AS text[])) AS n (key)
    ORDER BY n.key
    ON CONFLICT (key) DO UPDATE SET attempts = r.attempts + 1, finished_at = now()
"""


class CommandLog:
    """The `command` table, and replies."""

    def __init__(self, database: Database, replies: "Replies") -> None:
        self._database = database
        self._replies = replies

    async def begin(self, transaction: Transaction, command: Received[Body]) -> Outcome | None:
        """The outcome of a command that already ran, or whose message_id is another's; None: it must run."""
        begun = await self._begin(transaction, [command])
        await self._refuse(transaction, begun.others)
        return begun.outcome_of(command)

    async def reject_another(self, transaction: Transaction, command: Received[Body]) -> Outcome:
        """Stores and returns `rejected` for a command whose message_id is another's."""
        outcome = Outcome.rejected(ANOTHER)
        await self._refuse(transaction, [_of(command, outcome)])
        return outcome

    async def end(self, transaction: Transaction, command: Received[Body], outcome: Outcome) -> Outcome:
        """Stores the outcome of a command that took effect in earlier transactions.

        If another command was carried out under its message_id meanwhile, its row takes no message_id.

        Returns:
            that outcome; or the one that another delivery of the command has stored.
        """
        begun = await self._begin(transaction, [command])
        if begun.others:
            await self._refuse(transaction, [_of(command, outcome)])
            return outcome
        known = begun.outcome_of(command)
        if known is None:
            await self.finish(transaction, [(command, outcome)])
        return known or outcome

    async def finish(self, transaction: Transaction, outcomes: Sequence[tuple[Received[Body], Outcome]]) -> None:
        """Stores outcomes, in the transaction in which the commands took effect.

        Raises:
            Overtaken: one of them already has a final outcome; nothing of this transaction may be committed.
        """
        await self._finish(transaction, [_of(command, outcome) for command, outcome in outcomes])

    async def run(
        self,
        commands: Sequence[Received[Body]],
        apply: Callable[[Transaction, Sequence[Received[Body]]], Awaitable[Sequence[Outcome]]],
    ) -> None:
        """Applies a set of commands in one transaction, each at most once, and replies to all.

        If a command is delivered twice at once, both deliveries may be applied. The one that ends later finds the
        other's row, is rolled back and begins again, now knowing the outcome.

        Args:
            apply: the use case; returns one outcome for each command, in their order.

        Raises:
            Overtaken: that happened TRIES times.
        """
        for _ in range(TRIES - 1):
            try:
                outcomes = await self._run(commands, apply)
            except Overtaken:
                continue
            break
        else:
            outcomes = await self._run(commands, apply)
        for command, outcome in zip(commands, outcomes, strict=True):
            assert outcome is not None  # a set that is committed has ended
            self.reply(command.envelope, outcome)

    async def refuse(self, refused: Sequence[tuple[Envelope, str]]) -> None:
        """Stores and answers `rejected` for commands that did not validate, each with the reason."""
        ended = [_Ended(envelope, None, None, Outcome.rejected(reason)) for envelope, reason in refused]
        async with self._database.statement() as transaction:
            await self._refuse(transaction, ended)
        for envelope, reason in refused:
            self.reply(envelope, Outcome.rejected(reason))

    async def fail(self, command: Received[Body], reason: str) -> None:
        """Stores and answers `failed` for a command that is about to be dead-lettered."""
        outcome = Outcome("failed", reason=reason)
        async with self._database.statement() as transaction:
            await self._store(transaction, [_of(command, outcome)])
        self.reply(command.envelope, outcome)

    def reply(self, envelope: Envelope, outcome: Outcome) -> None:
        """Sends the outcome to the command's reply_to, if it has one. Call it after the commit."""
        self._replies.send(envelope, outcome)

    async def _run(
        self,
        commands: Sequence[Received[Body]],
        apply: Callable[[Transaction, Sequence[Received[Body]]], Awaitable[Sequence[Outcome]]],
    ) -> Sequence[Outcome | None]:
        async with self._database.transaction() as transaction:
            begun = await self._begin(transaction, commands)
            if begun.fresh:
                outcomes = await apply(transaction, begun.fresh)
                ended = [
                    _of(command, outcome, begun.identities[command.message_id])
                    for command, outcome in zip(begun.fresh, outcomes, strict=True)
                ]
                await self._finish(transaction, ended)
                begun.outcomes |= {it.envelope.message_id: it.outcome for it in ended}
            await self._refuse(transaction, begun.others)
        return [begun.outcome_of(command) for command in commands]

    async def _begin(self, transaction: Transaction, commands: Sequence[Received[Body]]) -> "_Begun[Body]":
        """Sorts commands by what is known of their message_ids; of several equal ones only the first must run."""
        rows = await transaction.rows(_STORED, {"ids": list({command.message_id for command in commands})})
        begun = _Begun[Body]({row.message_id: row.digest for row in rows})
        begun.outcomes |= {
            row.message_id: Outcome(row.state, row.result, row.reason) for row in rows if row.state != "failed"
        }
        for command in commands:
            begun.add(command)
        return begun

    async def _finish(self, transaction: Transaction, ended: Sequence["_Ended"]) -> None:
        if await self._store(transaction, ended) != len(ended):
            msg = "another delivery of this command was committed first"
            raise Overtaken(msg)

    async def _store(self, transaction: Transaction, ended: Sequence["_Ended"]) -> int:
        """Writes rows, except over those whose outcome is final; returns how many it wrote."""
        return (await transaction.execute(_STORE, _columns(ended))).rowcount

    async def _refuse(self, transaction: Transaction, refused: Sequence["_Ended"]) -> None:
        """Writes rows that take no message_id; a message that comes again keeps its row."""
        if by_key := {it.key: it for it in reversed(refused)}:
            await transaction.execute(_REFUSE, _columns(list(by_key.values())) | {"refused": list(by_key)})


@dataclass(frozen=True, slots=True)
class _Ended:
    """A command that has ended; one that did not validate has neither body nor digest."""

    envelope: Envelope
    body: str | None
    digest: str | None
    outcome: Outcome
    routing_key: str | None = None

    @property
    def key(self) -> str:
        """The key of its row in `refused_command`."""
        said = (self.envelope.message_id, self.envelope.queue, self.outcome.reason or "", self.digest or "")
        return hashlib.sha256("\0".join(said).encode()).hexdigest()


class _Begun(Generic[Body]):
    """A set of commands, sorted by what is to be done with them.

    Args:
        digests: by message_id, of the commands to which these belong.
    """

    def __init__(self, digests: dict[str, str | None]) -> None:
        self.digests = digests
        self.outcomes: dict[str, Outcome] = {}
        """By message_id, of the commands to which these belong."""
        self.fresh: list[Received[Body]] = []
        """Those that must run."""
        self.others: list[_Ended] = []
        """Those whose message_ids are others'."""
        self.identities: dict[str, Identity] = {}
        """By message_id, of those that must run."""
        self._others: set[int] = set()

    def add(self, command: Received[Body]) -> None:
        """Sorts a command in."""
        identity, known = identity_of(command.body), command.message_id
        if known in self.digests and is_another(self.digests[known], identity.digest):
            self.others.append(_of(command, Outcome.rejected(ANOTHER), identity))
            self._others.add(id(command))
        elif known not in self.outcomes and known not in self.identities:
            self.digests[known] = identity.digest
            self.identities[known] = identity
            self.fresh.append(command)

    def outcome_of(self, command: Received[Body]) -> Outcome | None:
        """The outcome of a command that was sorted in; None: it must run."""
        return Outcome.rejected(ANOTHER) if id(command) in self._others else self.outcomes.get(command.message_id)


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


def _of(command: Received[Any], outcome: Outcome, identity: Identity | None = None) -> _Ended:
    fields, digest = identity or identity_of(command.body)
    return _Ended(command.envelope, fields, digest, outcome, message_of(command.body).routing_key)


def _columns(ended: Sequence[_Ended]) -> dict[str, Any]:
    return {
        "ids": [it.envelope.message_id for it in ended],
        # A message may say anything about the key under which it was published; its queue is for one message.
        "keys": [it.routing_key or key_of_queue(it.envelope.queue) or it.envelope.routing_key for it in ended],
        "bodies": [it.body for it in ended],
        "digests": [it.digest for it in ended],
        "states": [it.outcome.state for it in ended],
        "results": [it.outcome.result_as_json() for it in ended],
        "reasons": [it.outcome.reason for it in ended],
        "attempts": [it.envelope.attempt + 1 for it in ended],
        "correlations": [it.envelope.correlation_id for it in ended],
    }
