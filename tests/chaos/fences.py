"""The six fences of docs/guarantee.md, and for each a way to take it out: in tests only, to show what it holds.

Constraints are dropped from a test's own database; statements are patched where they lie. Nothing but the fence goes.
"""

import asyncio
from collections.abc import Sequence

import pytest

from taskbell import commands
from taskbell.database import Database
from taskbell.messaging.publisher import Outgoing, Publisher
from taskbell_notifier.repository import deliveries
from taskbell_notifier.repository.planning import Planning
from taskbell_scheduler.repository import scheduling


async def without_unique_key(database: Database, planning: Planning, patch: pytest.MonkeyPatch) -> None:
    """The ledger takes any number of rows for a recipient and a period."""
    await _execute(database, "ALTER TABLE taskbell.delivery DROP CONSTRAINT delivery_once_key")
    pages = {key: _without(sql, _ONCE) for key, sql in planning._pages.items()}
    patch.setattr(planning, "_pages", pages)


def without_data_marker(patch: pytest.MonkeyPatch) -> None:
    """The row does not say that the first byte of its message may have gone."""
    patch.setattr(deliveries, "MARK", _without(deliveries.MARK, "phase = 'data', "))


def without_claim_token(patch: pytest.MonkeyPatch) -> None:
    """Whoever once had a row may send it, whoever has it now."""
    patch.setattr(deliveries, "MARK", _without(deliveries.MARK, "d.claim = m.claim AND "))


async def without_command_key(database: Database, patch: pytest.MonkeyPatch) -> None:
    """A message_id may have any number of rows, and nobody waits for who has it under way."""
    await _execute(database, "ALTER TABLE taskbell.command DROP CONSTRAINT command_pkey")
    patch.setattr(commands, "_LOCK", "SELECT CAST(:ids AS text[])")
    patch.setattr(commands, "_STORE", commands._STORE[: commands._STORE.index("ON CONFLICT")])


async def without_occurrence_key(database: Database, patch: pytest.MonkeyPatch) -> None:
    """An occurrence may be recorded, and so published, any number of times."""
    await _execute(database, "ALTER TABLE taskbell.occurrence DROP CONSTRAINT occurrence_pkey")
    patch.setattr(scheduling, "_RECORD", _without(scheduling._RECORD, "ON CONFLICT (schedule, zone, key) DO NOTHING"))


class Unconfirmed(Publisher):
    """Takes what it has sent for published, without waiting for the broker's confirm."""

    async def publish_all(self, messages: Sequence[Outgoing]) -> list[Exception | None]:
        sending = [asyncio.ensure_future(self.publish(message)) for message in messages]
        for one in sending:
            one.add_done_callback(lambda it: it.cancelled() or it.exception())
        await asyncio.sleep(0)
        return [None] * len(messages)


_ONCE = "ON CONFLICT ON CONSTRAINT delivery_once_key DO NOTHING"


def _without(statement: str, part: str) -> str:
    assert statement.count(part) == 1, f"the statement has no single {part!r}"
    return statement.replace(part, "")


async def _execute(database: Database, statement: str) -> None:
    async with database.transaction() as tx:
        await tx.execute(statement)
