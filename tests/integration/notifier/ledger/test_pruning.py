"""The ledger does not grow for ever, and loses nothing that is not over."""

import pytest
from tests.integration.notifier.ledger.house import Town
from tests.integration.notifier.ledger.rooms import Rooms

from taskbell.contracts import OverdueDue, WeeklyDue
from taskbell_notifier import pruner as pruner_module
from taskbell_notifier.pruner import Pruner

LONG_AGO = "now() - interval '91 days'"


async def ended(town: Town, rooms: Rooms) -> None:
    """Two mailings that were over long ago, and one with an open row."""
    await town.late_people(1, 2, 3)
    await rooms.plan(OverdueDue(), "m1")
    await rooms.plan(WeeklyDue(), "m2")
    await town.execute(f"UPDATE taskbell.delivery SET state = 'sent', ended_at = {LONG_AGO}")
    while await rooms.completion.complete_one():
        pass
    await town.execute(f"UPDATE taskbell.mailing SET completed_at = {LONG_AGO}")
    await rooms.plan(OverdueDue(user_ids=(1,), force=True), "m3")


async def test_what_was_over_90_days_ago_goes_and_nothing_else(town: Town, rooms: Rooms) -> None:
    await ended(town, rooms)
    await town.execute(f"UPDATE taskbell.outbox SET published_at = {LONG_AGO} WHERE id = 1")
    await town.execute(f"UPDATE taskbell.outbox SET created_at = {LONG_AGO}")
    waiting = await town.value("SELECT count(*) FROM taskbell.outbox WHERE published_at IS NULL")
    for key, message_id in (("notifier.send_test_mail", "c1"), ("maintenance.update_task_status", "c2")):
        await town.execute(
            "INSERT INTO taskbell.command (message_id, routing_key, state, finished_at)"
            f" VALUES (:message_id, :key, 'done', {LONG_AGO})",
            message_id=message_id,
            key=key,
        )
    pruner = Pruner(rooms.database, gate=rooms.gate)
    while await pruner.prune():
        pass
    await pruner.prune()
    assert [row["message_id"] for row in await town.rows("SELECT message_id FROM taskbell.mailing")] == ["m3"]
    assert [row["run"] for row in await town.rows("SELECT run FROM taskbell.delivery")] == [1]
    assert await town.value("SELECT count(*) FROM taskbell.outbox") == waiting
    assert [row["message_id"] for row in await town.rows("SELECT message_id FROM taskbell.command")] == ["c2"]


async def test_it_is_done_in_bounded_batches(town: Town, rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruner_module, "BATCH", 2)
    await ended(town, rooms)
    pruner = Pruner(rooms.database, gate=rooms.gate)
    assert await pruner.prune()
    assert await town.value("SELECT count(*) FROM taskbell.delivery WHERE run = 0") == 4
    while await pruner.prune():
        pass
    assert await town.value("SELECT count(*) FROM taskbell.delivery WHERE run = 0") == 0
