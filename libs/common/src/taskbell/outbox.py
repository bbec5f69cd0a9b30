"""The outbox: messages committed together with the change that they report, and the relay that publishes them.

A row is written in the same transaction as its cause, and marked published only after the broker's confirm. After a
crash in between it is published again, under the same message_id, by which every consumer recognises it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from uuid import uuid4

from sqlalchemy import Row

from taskbell.catalogue import catalogue, message_of
from taskbell.concurrency import first_of
from taskbell.contracts import Contract
from taskbell.database import Database, Transaction
from taskbell.errors import BrokerUnavailable, TopologyMissing, UnknownMessage
from taskbell.gate import Gate
from taskbell.health import Health
from taskbell.logs import logger
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.publishing.publisher import Publisher
from taskbell.metrics import Metrics
from taskbell.outgoing import outgoing

Owner = Literal["scheduler", "notifier", "maintenance", "app"]

BATCH = 200
"""Rows published together: so few that their locks are held no longer than one publish may take."""

POLL = 0.5
"""Seconds between looks at the outbox if nobody wakes the relay: a web app writes rows without waking it."""

SLOWEST = 5.0
"""Seconds between tries while the broker is away, at most; also until a row that it refused is tried again."""


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """A message to be published once the transaction is committed."""

    body: Contract
    message_id: str | None = None
    """None: a new UUID."""
    correlation_id: str | None = None


_ADD = """
    INSERT INTO taskbell.outbox (owner, routing_key, body, message_id, correlation_id)
    SELECT :owner, m.routing_key, m.body, m.message_id, m.correlation_id
    FROM unnest(
        CAST(:keys AS text[]), CAST(:bodies AS jsonb[]), CAST(:ids AS text[]), CAST(:correlations AS text[])
    ) WITH ORDINALITY AS m (routing_key, body, message_id, correlation_id, place)
    ORDER BY m.place
    ON CONFLICT (message_id) DO NOTHING
"""

# Row-level security hides the rows of other owners. So what is not found here, and was not inserted, is in the way of
# another owner's row.
_ADD_BESIDE = """
    INSERT INTO taskbell.outbox (owner, routing_key, body, message_id, wire_id, correlation_id)
    SELECT :owner, m.routing_key, m.body, gen_random_uuid()::text, m.message_id, m.correlation_id
    FROM unnest(
        CAST(:keys AS text[]), CAST(:bodies AS jsonb[]), CAST(:ids AS text[]), CAST(:correlations AS text[])
    ) WITH ORDINALITY AS m (routing_key, body, message_id, correlation_id, place)
    WHERE NOT EXISTS (
            SELECT FROM taskbell.outbox AS o WHERE o.owner = :owner AND o.message_id = m.message_id)
        AND NOT EXISTS (SELECT FROM taskbell.outbox AS o WHERE o.owner = :owner AND o.wire_id = m.message_id)
    ORDER BY m.place
    RETURNING wire_id
"""


class Outbox:
    """Writes rows of one owner, and wakes the relay when they are committed."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.written = asyncio.Event()
        self._log = logger("outbox")

    async def add(self, transaction: Transaction, messages: Sequence[OutboxMessage]) -> None:
        """Adds messages. One whose message_id this owner has in the outbox is the same message, and is left out.

        If another owner's row has it, that row was made by somebody who knew the id beforehand. The message is written
        all the same, and published under its id; an error is logged.
        """
        if not messages:
            return
        rows = {
            "owner": self.owner,
            "keys": [message_of(message.body).routing_key for message in messages],
            "bodies": [message.body.to_bytes().decode() for message in messages],
            "ids": [message.message_id or str(uuid4()) for message in messages],
            "correlations": [message.correlation_id for message in messages],
        }
        if (await transaction.execute(_ADD, rows)).rowcount < len(messages):
            for row in await transaction.rows(_ADD_BESIDE, rows):
                self._log.error("outbox.foreign", message_id=row.wire_id, owner=self.owner)
        self.wake_after(transaction)

    def wake_after(self, transaction: Transaction) -> None:
        """Wakes the relay once that transaction is committed; for callers that write rows with their own SQL."""
        transaction.after_commit(self.written.set)


# Never "id > last seen": sequences commit out of order, so such a reader would lose rows. One owner at a time, so that
# the index gives the order, however many rows wait.
_TAKE = """
    SELECT id, routing_key, body::text AS body, coalesce(wire_id, message_id) AS message_id, correlation_id,
        traceparent, created_at
    FROM taskbell.outbox
    WHERE owner = :owner AND published_at IS NULL AND (not_before IS NULL OR not_before <= now())
    ORDER BY id
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
"""

_PUBLISHED = """
    UPDATE taskbell.outbox SET published_at = now(), attempts = attempts + 1, last_error = NULL, not_before = NULL
    WHERE id = ANY(:ids)
"""

# Each row gets its own time for the next try. If this user may not publish one of the messages, RabbitMQ closes the
# channel, and all messages that were sent with it fail: tried together again, they would fail together for ever.
_FAILED = """
    UPDATE taskbell.outbox AS o
    SET attempts = attempts + 1, last_error = f.error,
        not_before = now() + make_interval(secs => f.pause * (0.5 + random()))
    FROM unnest(CAST(:ids AS bigint[]), CAST(:errors AS text[]), CAST(:pauses AS float8[])) AS f (id, error, pause)
    WHERE o.id = f.id
"""

_WAITING = """
    SELECT count(*) AS rows,
        max(last_error) FILTER (WHERE routing_key = ANY(:known)) AS stuck,
        count(*) FILTER (WHERE routing_key <> ALL(:known)) AS unknown,
        min(routing_key) FILTER (WHERE routing_key <> ALL(:known)) AS unknown_key
    FROM (
        SELECT routing_key, last_error FROM taskbell.outbox
        WHERE owner = :owner AND published_at IS NULL
        LIMIT 100000
    ) AS waiting
"""

COUNT_EVERY = 5.0
"""Seconds between counts of the rows that wait."""

UNKNOWN_PAUSE = 60.0
"""Seconds until a message that is not in the catalogue is tried again, by a process that may have its package."""


class Relay:
    """Publishes the outbox of some owners. Any number of relays may run: a row is locked by one at a time."""

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        outbox: Outbox,
        *,
        gate: Gate,
        health: Health,
        metrics: Metrics,
        also: Sequence[Owner] = (),
    ) -> None:
        self.name = "outbox"
        self._database = database
        self._publisher = publisher
        self._wake = outbox.written
        self._owners: list[Owner] = [outbox.owner, *also]
        self._gate = gate
        self._health = health
        self._metrics = metrics
        self._logged_unknown: set[str] = set()
        self._pause, self._limit, self._count_at = POLL, BATCH, 0.0
        self._log = logger("relay")
        health.expect(self.name)

    async def run(self, stop: asyncio.Event) -> None:
        """Publishes until `stop`; rows that are left stay in the table for the next process."""
        await self._gate.rounds(
            f"{self.name} table", partial(self._round, stop), stop, wake=self._wake, refused="waiting"
        )

    async def _round(self, stop: asyncio.Event) -> float:
        """Publishes one batch of each owner; there may be more if one was full."""
        loop = asyncio.get_running_loop()
        limit = self._limit
        try:
            taken = [await self._publish_some(owner, limit) for owner in self._owners]
            if loop.time() >= self._count_at:
                self._count_at = loop.time() + COUNT_EVERY
                await self._count_waiting()
        except BrokerUnavailable as error:
            self._health.set(self.name, "waiting", str(error))
            # Waited here, so that rows written meanwhile do not wake the relay.
            await first_of(stop.wait(), timeout=self._pause)
            # Then try with one message: a blocked broker must not get a whole batch every few seconds.
            self._pause, self._limit, self._count_at = min(self._pause * 2, SLOWEST), 1, 0.0
            return 0.0
        self._pause, self._limit = POLL, BATCH
        return 0.0 if limit in taken else POLL

    async def _publish_some(self, owner: Owner, limit: int) -> int:
        """Takes and publishes at most `limit` rows; returns how many it took.

        Raises:
            BrokerUnavailable: the broker is away; rows that it did not confirm are unchanged.
        """
        failure: BrokerUnavailable | None = None
        confirmed: list[int] = []
        stuck: dict[int, str] = {}
        unknown: dict[int, str] = {}
        async with self._database.transaction() as transaction:
            rows = await transaction.rows(_TAKE, {"owner": owner, "limit": limit})
            if not rows:
                return 0
            for row, error in zip(rows, await self._publish(rows), strict=True):
                if error is None:
                    confirmed.append(row.id)
                    self._metrics.published.labels(row.routing_key).inc()
                    continue
                if isinstance(error, UnknownMessage):
                    unknown[row.id] = str(error)
                    self._log_unknown(row.routing_key, error)
                    continue
                self._metrics.publish_failures.labels(type(error).__name__).inc()
                if isinstance(error, BrokerUnavailable) and not isinstance(error, TopologyMissing):
                    failure = error
                else:
                    stuck[row.id] = str(error)
            if confirmed:
                await transaction.execute(_PUBLISHED, {"ids": confirmed})
            if failed := stuck | unknown:
                pauses = [SLOWEST] * len(stuck) + [UNKNOWN_PAUSE] * len(unknown)
                await transaction.execute(
                    _FAILED, {"ids": list(failed), "errors": list(failed.values()), "pauses": pauses}
                )
        if failure is not None:
            raise failure
        if stuck:
            reason = next(iter(stuck.values()))
            self._log.error("outbox.stuck", rows=len(stuck), reason=reason)
            self._health.set(self.name, "waiting", reason)
        return len(rows)

    async def _publish(self, rows: Sequence[Row[Any]]) -> list[Exception | None]:
        """Publishes rows; returns for each None, or the error. A row that can never be published delays no other."""
        errors: dict[int, Exception | None] = {}
        messages: dict[int, Outgoing] = {}
        for row in rows:
            if row.routing_key in catalogue():
                messages[row.id] = _outgoing(row)
            else:
                errors[row.id] = UnknownMessage(
                    f"{row.routing_key!r} is not a message of this version or of an installed package: install its "
                    "package, or delete the row"
                )
        errors |= zip(messages, await self._publisher.publish_all(list(messages.values())), strict=True)
        return [errors[row.id] for row in rows]

    async def _count_waiting(self) -> None:
        """Counts the rows that wait, and connects, because nothing else shows whether the broker answers."""
        stuck: str | None = None
        unknown, key = 0, ""
        async with self._database.transaction() as transaction:
            for owner in self._owners:
                found = await transaction.row(_WAITING, {"owner": owner, "known": list(catalogue())})
                assert found is not None  # an aggregate always has its row
                self._metrics.outbox_waiting.labels(owner).set(found.rows)
                stuck = stuck or found.stuck
                unknown, key = unknown + found.unknown, key or found.unknown_key
        await self._publisher.connect()
        if stuck is not None:
            self._health.set(self.name, "waiting", stuck)
        elif unknown:
            self._health.set(self.name, "degraded", _unknown_sentence(unknown, key))
        else:
            self._health.set(self.name, "ready")

    def _log_unknown(self, routing_key: str, error: Exception) -> None:
        """Logs a message that is not in the catalogue, once for each key, because this process's catalogue is fixed."""
        if routing_key not in self._logged_unknown:
            self._logged_unknown.add(routing_key)
            self._log.error("outbox.unknown", routing_key=routing_key, reason=str(error))


def _unknown_sentence(unknown: int, key: str) -> str:
    rows = "1 message" if unknown == 1 else f"{unknown} messages"
    return (
        f"{rows} in the outbox, such as {key}, cannot be published: the package is not installed here. Install it, or "
        "delete the rows"
    )


def _outgoing(row: Row[Any]) -> Outgoing:
    return outgoing(
        catalogue()[row.routing_key],
        row.body.encode(),
        message_id=row.message_id,
        timestamp=row.created_at,
        correlation_id=row.correlation_id,
        traceparent=row.traceparent,
    )
