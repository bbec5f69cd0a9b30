"""The ledger does not grow for ever, and loses nothing that is not over."""

import pytest
from tests.integration.notifier.ledger.notifier_parts import NotifierParts
from tests.integration.notifier.ledger.support import NotifierTables

from taskbell.contracts import OverdueDue, WeeklyDue
from taskbell_notifier import pruner as pruner_module
from taskbell_notifier.pruner import Pruner

LONG_AGO = "now() - interval '91 days'"


async def ended(tables: NotifierTables, parts: NotifierParts) -> None:
    """Two mailings that were over long ago, and one with an open row."""
    await tables.late_people(1, 2, 3)
    await parts.plan(OverdueDue(), "m1")
    await parts.plan(WeeklyDue(), "m2")
    await tables.execute(f"UPDATE taskbell.delivery SET state = 'sent', ended_at = {LONG_AGO}")
    while await parts.completion.complete_one():
        pass
    await tables.execute(f"UPDATE taskbell.mailing SET completed_at = {LONG_AGO}")
    await parts.plan(OverdueDue(user_ids=(1,), force=True), "m3")


async def test_what_was_over_90_days_ago_goes_and_nothing_else(tables: NotifierTables, parts: NotifierParts) -> None:
    await ended(tables, parts)
    await tables.execute(f"UPDATE taskbell.outbox SET published_at = {LONG_AGO} WHERE id = 1")
    await tables.execute(f"UPDATE taskbell.outbox SET created_at = {LONG_AGO}")
    waiting = await tables.value("SELECT count(*) FROM taskbell.outbox WHERE published_at IS NULL")
    for key, message_id in (("notifier.send_test_mail", "c1"), ("maintenance.update_task_status", "c2")):
        await tables.execute(
            "INSERT INTO taskbell.command (message_id, routing_key, state, finished_at)"
            f" VALUES (:message_id, :key, 'done', {LONG_AGO})",
            message_id=message_id,
            key=key,
        )
    pruner = Pruner(parts.database, gate=parts.gate)
    while await pruner.prune():
        pass
    await pruner.prune()
    assert [row["message_id"] for row in await tables.rows("SELECT message_id FROM taskbell.mailing")] == ["m3"]
    assert [row["run"] for row in await tables.rows("SELECT run FROM taskbell.delivery")] == [1]
    assert await tables.value("SELECT count(*) FROM taskbell.outbox") == waiting
    assert [row["message_id"] for row in await tables.rows("SELECT message_id FROM taskbell.command")] == ["c2"]


async def test_it_is_done_in_bounded_batches(
    tables: NotifierTables, parts: NotifierParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruner_module, "BATCH", 2)
    await ended(tables, parts)
    pruner = Pruner(parts.database, gate=parts.gate)
    assert await pruner.prune()
    assert await tables.value("SELECT count(*) FROM taskbell.delivery WHERE run = 0") == 4
    while await pruner.prune():
        pass
    assert await tables.value("SELECT count(*) FROM taskbell.delivery WHERE run = 0") == 0
