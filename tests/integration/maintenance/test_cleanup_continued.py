"""A cleanup that was killed goes on in its batch, and several deliveries of one command share it."""

import asyncio
from datetime import datetime
from typing import Any

import pytest
from tests.integration.maintenance.use_cases import DAY, Maintenance, open_maintenance
from tests.support.inbox import Inbox
from tests.support.installation import Installation
from tests.support.received import received
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

from taskbell.contracts import CleanupCompletedTasks
from taskbell.database import Transaction
from taskbell.errors import Returned
from taskbell_maintenance import cleanup
from taskbell_maintenance.domain import Progress, Survey
from taskbell_maintenance.repository import archive, batches
from taskbell_maintenance.repository.batches import Batch


class Killed(Exception):
    """The process died."""


def _dies_after(pages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transaction of the page after so many is never committed, as when the process is killed in it."""
    record = batches.record
    seen = 0

    async def dying(transaction: Transaction, batch: Batch, progress: Progress) -> None:
        nonlocal seen
        await record(transaction, batch, progress)
        seen += 1
        if seen > pages:
            raise Killed

    monkeypatch.setattr(batches, "record", dying)


@pytest.mark.parametrize("pages", [0, 1, 4])
async def test_a_killed_cleanup_goes_on_in_its_batch(
    maintenance: Maintenance, monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    await maintenance.many(2_500, "done", days=31)
    await maintenance.execute("CREATE TABLE before AS SELECT * FROM tasks")
    command = received(CleanupCompletedTasks(force=True), "m1")
    with monkeypatch.context() as patch:
        # Pages of one size: a slow machine would make them smaller.
        patch.setattr(cleanup, "next_size", lambda size, _seconds: size)
        _dies_after(pages, patch)
        with pytest.raises(Killed):
            await maintenance.cleanups.clean_up([command])
    committed = await maintenance.value("SELECT tasks FROM taskbell.archive_batch")
    assert len(await maintenance.archived()) == committed == 2_500 - len(await maintenance.ids())
    assert (committed > 0) == (pages > 0)
    assert await maintenance.events("tasks.archived") == []

    await maintenance.cleanups.clean_up([command])
    assert (await maintenance.outcome("m1"))["result"]["tasks"] == 2_500
    assert [event["tasks"] for event in await maintenance.events("tasks.archived")] == [2_500]
    assert len(await maintenance.rows("SELECT * FROM taskbell.archive_batch")) == 1
    assert set(await maintenance.archived()) == {row["id"] for row in await maintenance.rows("SELECT id FROM before")}


async def test_its_cutoff_stays_what_it_was(maintenance: Maintenance, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that have become old since belong to the next cleanup."""
    await maintenance.done(31)
    with monkeypatch.context() as patch:
        _dies_after(0, patch)
        with pytest.raises(Killed):
            await maintenance.clean_up("m1")
    await maintenance.execute("UPDATE taskbell.archive_batch SET cutoff = cutoff - interval '10 days'")
    assert (await maintenance.clean_up("m1"))["result"]["tasks"] == 0


async def test_one_that_came_without_an_id_finds_its_batch_when_it_comes_again(
    maintenance: Maintenance, monkeypatch: pytest.MonkeyPatch
) -> None:
    await maintenance.many(1_500, "done", days=31)
    body = CleanupCompletedTasks(force=True)
    with monkeypatch.context() as patch:
        _dies_after(1, patch)
        with pytest.raises(Killed):
            await maintenance.cleanups.clean_up([received(body, "delivery-1", anonymous=True)])
    begun = len(await maintenance.archived())
    assert 0 < begun < 1_500

    assert (await maintenance.clean_up(force=True, older_than_days=31))["result"]["batch_id"] == 2  # another command
    await maintenance.cleanups.clean_up([received(body, "a new one by hand", anonymous=True)])
    assert (await maintenance.outcome("a new one by hand"))["result"]["batch_id"] == 3
    await maintenance.cleanups.clean_up([received(body, "delivery-2", anonymous=True, redelivered=True)])
    outcome = await maintenance.outcome("delivery-2")
    assert (outcome["result"]["batch_id"], outcome["result"]["tasks"]) == (1, begun)


async def test_two_that_share_a_batch_have_one_outcome_and_one_event(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery that is believed dead, but only slow, meets the one that took over."""
    body = CleanupCompletedTasks(force=True)
    at_its_end, go_on = asyncio.Event(), asyncio.Event()
    async with open_maintenance(database_url) as slow, open_maintenance(database_url) as second:
        finish = slow.cleanups._finish

        async def slowly(command: Any, batch: Batch) -> Any:
            at_its_end.set()
            await go_on.wait()
            return await finish(command, batch)

        monkeypatch.setattr(slow.cleanups, "_finish", slowly)
        await slow.many(300, "done", days=31)
        first = asyncio.create_task(slow.cleanups.clean_up([received(body, "delivery-1", anonymous=True)]))
        await asyncio.wait_for(at_its_end.wait(), 30)
        await second.cleanups.clean_up([received(body, "delivery-2", anonymous=True, redelivered=True)])
        go_on.set()
        await first
        assert await slow.outcome("delivery-1") == await slow.outcome("delivery-2")
        assert [event["tasks"] for event in await slow.events("tasks.archived")] == [300]


async def test_concurrent_deliveries_share_one_batch(database_url: str) -> None:
    async with open_maintenance(database_url) as first, open_maintenance(database_url) as second:
        await first.many(6_000, "done", days=31)
        command = received(CleanupCompletedTasks(force=True), "m1")
        await asyncio.gather(
            *(maintenance.cleanups.clean_up([command]) for maintenance in (first, second, first, second))
        )
        assert (await first.outcome("m1"))["result"]["tasks"] == 6_000
        assert len(await first.archived()) == 6_000
        assert len(await first.rows("SELECT * FROM taskbell.archive_batch")) == 1
        assert len(await first.events("tasks.archived")) == 1


async def test_a_delivery_that_finds_too_many_meanwhile_does_not_reject_what_another_has_begun(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard looks at the whole: what another delivery of the command has let pass goes on."""
    counted, go_on = asyncio.Event(), asyncio.Event()
    async with open_maintenance(database_url) as slow, open_maintenance(database_url) as first:
        await slow.many(40, "done", days=31)
        await slow.many(160)
        survey = archive.survey

        async def slowly(transaction: Transaction, app: str, cutoff: datetime) -> Survey:
            counted.set()
            await go_on.wait()
            await slow.execute("DELETE FROM tasks WHERE status = 'pending' AND id % 2 = 0")
            await slow.many(40, "done", days=31)
            return await survey(transaction, app, cutoff)

        monkeypatch.setattr(archive, "survey", slowly)
        task = asyncio.create_task(slow.clean_up("m1"))
        await asyncio.wait_for(counted.wait(), 30)
        async with first.database.transaction() as transaction:
            await batches.open_batch(transaction, received(CleanupCompletedTasks(), "m1"), first.now - 30 * DAY)
        go_on.set()
        outcome = await task
    assert (outcome["state"], outcome["result"]["tasks"]) == ("done", 80)


async def test_when_the_service_stops_the_command_goes_back(maintenance: Maintenance) -> None:
    await maintenance.many(50, "done", days=31)
    stop = asyncio.Event()
    stop.set()
    await maintenance.cleanups.run(stop)
    with pytest.raises(Returned):
        await maintenance.clean_up("m1")
    assert len(await maintenance.ids()) == 50


async def test_a_process_that_is_killed_in_the_middle_leaves_it_to_the_next(
    database_url: str, vhost: Vhost, inbox: Inbox
) -> None:
    installation = Installation(database_url, vhost, inbox)
    async with open_maintenance(database_url) as maintenance:
        await maintenance.many(30_000, "done", days=31)
        await installation.start("maintenance")
        await _publish(installation, {"force": True}, "m1")

        async def under_way() -> Any:
            return await maintenance.value("SELECT tasks FROM taskbell.archive_batch WHERE tasks > 0")

        begun = await eventually(under_way, what="some pages are done")
        installation.kill("maintenance")
        assert begun < 30_000
        await installation.start("maintenance")
        try:
            await eventually(lambda: maintenance.rows("SELECT * FROM taskbell.command"), limit=60, what="the outcome")
            outcome = await maintenance.outcome("m1")
        finally:
            await installation.stop()
        assert (outcome["state"], outcome["result"]["tasks"]) == ("done", 30_000)
        assert await maintenance.value("SELECT count(*) FROM taskbell.archived_task") == 30_000
        assert len(await maintenance.rows("SELECT * FROM taskbell.archive_batch")) == 1
        assert len(await maintenance.events("tasks.archived")) == 1


async def _publish(installation: Installation, body: dict[str, Any], message_id: str) -> None:
    assert await installation.management.publish(
        "taskbell.commands", "maintenance.cleanup_completed_tasks", body, properties={"message_id": message_id}
    )
