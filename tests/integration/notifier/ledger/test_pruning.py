"""The ledger does not grow for ever, and loses nothing that is not over."""

import asyncio

from tests.integration.notifier.ledger.notifier_parts import NotifierParts
from tests.integration.notifier.ledger.support import NotifierTables

from taskbell.contracts import OverdueDue, WeeklyDue
from taskbell.pruning import Pruner
from taskbell_notifier.app import ended_rows

LONG_AGO = "now() - interval '91 days'"


async def ended(tables: NotifierTables, parts: NotifierParts) -> None:
    """Two mailings that were over long ago, and one with an open row."""
    await tables.late_people(1, 2, 3)
    await parts.plan(OverdueDue(), "m1")
    await parts.plan(WeeklyDue(), "m2")
    await tables.execute(f"UPDATE taskbell.delivery SET state = 'sent', ended_at = {LONG_AGO}")
    while await parts.completion.complete():
        pass
    await tables.execute(f"UPDATE taskbell.mailing SET completed_at = {LONG_AGO}")
    await parts.plan(OverdueDue(user_ids=(1,), force=True), "m3")


async def prune(parts: NotifierParts) -> None:
    await Pruner(parts.database, parts.gate, ended_rows()).prune(asyncio.Event())


async def test_what_was_over_90_days_ago_goes_and_nothing_else(tables: NotifierTables, parts: NotifierParts) -> None:
    await ended(tables, parts)
    await prune(parts)
    assert [row["message_id"] for row in await tables.rows("SELECT message_id FROM taskbell.mailing")] == ["m3"]
    assert [row["run"] for row in await tables.rows("SELECT run FROM taskbell.delivery")] == [1]


async def test_rows_of_a_mailing_that_is_not_over_stay_with_it(tables: NotifierTables, parts: NotifierParts) -> None:
    await ended(tables, parts)
    await tables.execute("UPDATE taskbell.mailing SET completed_at = NULL WHERE message_id = 'm1'")
    await prune(parts)
    assert [row["message_id"] for row in await tables.rows("SELECT message_id FROM taskbell.mailing ORDER BY 1")] == [
        "m1",
        "m3",
    ]
    assert await tables.value("SELECT count(*) FROM taskbell.delivery WHERE run = 0") == 3


async def test_a_mailing_stays_as_long_as_it_has_deliveries(tables: NotifierTables, parts: NotifierParts) -> None:
    await ended(tables, parts)
    await tables.execute(
        "UPDATE taskbell.delivery SET ended_at = now() WHERE id = (SELECT min(id) FROM taskbell.delivery)"
    )
    await prune(parts)
    assert [row["message_id"] for row in await tables.rows("SELECT message_id FROM taskbell.mailing ORDER BY 1")] == [
        "m1",
        "m3",
    ]
