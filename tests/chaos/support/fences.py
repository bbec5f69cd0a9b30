"""Takes out each fence of docs/guarantee.md, so that a test can show what it prevents.

A fence is in place unless a function of this module was called. Each function takes one out for the calling test only:
constraints are dropped in the test's own database, statements and methods are patched until its monkeypatch ends.
"""

from collections.abc import Mapping

import pytest
from aiormq.abc import ChannelFrame
from aiormq.channel import Channel
from aiormq.connection import Connection

from taskbell import commands
from taskbell.database import Database
from taskbell.messaging.publishing import publisher
from taskbell_notifier.delivery.ledger import Ledger
from taskbell_notifier.lifecycle import Claimed
from taskbell_notifier.repository import deliveries, planning
from taskbell_scheduler.repository import scheduling

Patch = pytest.MonkeyPatch


async def take_out_unique_key(database: Database, patch: Patch) -> None:
    """Drops `delivery_once_key`, and takes ON CONFLICT out of the planner's statement.

    Call it before the planner is made: the planner keeps its statements.
    """
    await _execute(database, "ALTER TABLE taskbell.delivery DROP CONSTRAINT delivery_once_key")
    page = planning._page

    def without(app: str, due: str, run: str) -> str:
        return _without(page(app, due, run), "ON CONFLICT ON CONSTRAINT delivery_once_key DO NOTHING")

    patch.setattr(planning, "_page", without)
    patch.setattr(planning, "page_statement", planning.page_statement.__wrapped__)


def take_out_data_marker(patch: Patch) -> None:
    """`Ledger.mark_data` returns True and writes nothing: the message is sent while the row still says `envelope`."""

    async def marks_nothing(_: Ledger, row: Claimed) -> bool:
        return row.id > 0

    patch.setattr(Ledger, "mark_data", marks_nothing)


def take_out_claim_of_marker(patch: Patch) -> None:
    """The marker's statement no longer compares the row's claim."""
    patch.setattr(deliveries, "MARK", _without(deliveries.MARK, "AND d.claim = m.claim"))


def take_out_claim_of_outcome(patch: Patch) -> None:
    """The outcome's statement no longer compares the row's claim."""
    patch.setattr(deliveries, "CHANGE", _without(deliveries.CHANGE, "AND d.claim IS NOT DISTINCT FROM w.claim"))


def take_out_lease(patch: Patch) -> None:
    """The sweeper's statement returns no lease, so that it judges rows whose sender is still at work."""
    shown = _replaced(deliveries.SWEEP, "claim, lease_until,", "claim, NULL::timestamptz AS lease_until,")
    patch.setattr(deliveries, "SWEEP", shown)


def take_out_confirm(patch: Patch) -> None:
    """Opens channels without publisher confirms: a publish is over once its bytes are in the client's buffer."""
    channel = Connection.channel

    async def unconfirmed(self: Connection, *_: object, **__: object) -> object:
        return await channel(self, publisher_confirms=False)

    async def written(channel: Channel, messages: Mapping[str, bytes], _: float) -> Mapping[str, None]:
        await channel.write_queue.put(ChannelFrame(b"".join(messages.values()), should_close=False))
        return dict.fromkeys(messages)

    patch.setattr(Connection, "channel", unconfirmed)
    patch.setattr(publisher, "confirmed", written)


async def take_out_command_key(database: Database, patch: Patch) -> None:
    """Drops the primary key of `taskbell.command`; the statement that stores outcomes then adds another row."""
    await _execute(database, "ALTER TABLE taskbell.command DROP CONSTRAINT command_pkey")
    patch.setattr(commands, "_STORE", commands._STORE.partition("ON CONFLICT")[0])


async def take_out_occurrence_key(database: Database, patch: Patch) -> None:
    """Drops the primary key of `taskbell.occurrence`; the statement that records then adds another row."""
    await _execute(database, "ALTER TABLE taskbell.occurrence DROP CONSTRAINT occurrence_pkey")
    record = _without(scheduling._RECORD, "ON CONFLICT (schedule, zone, key) DO NOTHING")
    patch.setattr(scheduling, "_RECORD", record)


async def _execute(database: Database, statement: str) -> None:
    async with database.transaction() as transaction:
        await transaction.execute(statement)


def _without(statement: str, part: str) -> str:
    return _replaced(statement, part, "")


def _replaced(statement: str, part: str, by: str) -> str:
    """Fails if the statement has changed, so that no fence stays in place unnoticed."""
    assert statement.count(part) == 1, f"{part!r} is not there once in {statement}"
    return statement.replace(part, by)
